//! Small antivirus databases: as releases of the city, as official containers, and as the box keeps them.
//!
//! It does not sign anything; who needs a signed release signs the directory made here.

use std::fmt::Write as _;
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::time::SystemTime;

use serde_json::{Value, json};

use crate::clamd::eicar;
use crate::{Error, Result};

/// The product's signatures of forbidden kinds.
const POLICY: [(&str, &str); 2] = [
    (
        "renraku-policy.ldb",
        include_str!("../../../gateway/antivirus/signatures/renraku-policy.ldb"),
    ),
    (
        "renraku-policy.cdb",
        include_str!("../../../gateway/antivirus/signatures/renraku-policy.cdb"),
    ),
];

/// ClamAV's test program: every file of Debian's clamav-testfiles is a wrapping of it.
const TEST_PROGRAM: &str = "aa15bcf478d165efd2065190eb473bcb:544:ClamAV-Test-File\n";

/// What a database is made of.
#[derive(Clone, Debug)]
pub struct Signatures {
    /// The release's serial number.
    pub serial: u64,
    /// When it was built, in seconds since 1970.
    pub built_at: i64,
    /// How long it may be taken for, in seconds from then.
    pub valid: i64,
    /// The release's canary, which its signatures find: name and content.
    pub canary: (String, String),
    /// Its files and their content.
    pub files: Vec<(String, Vec<u8>)>,
}

/// The time of day, in seconds since 1970.
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    i64::try_from(since.unwrap_or_default().as_secs()).unwrap_or(i64::MAX)
}

/// A signature that finds `content` in any type of file, at any place.
pub fn finds(name: &str, content: &[u8]) -> String {
    let mut line = format!("{name}:0:*:");
    for byte in content {
        let _ = write!(line, "{byte:02x}");
    }
    line.push('\n');
    line
}

impl Signatures {
    /// The EICAR test file, ClamAV's test program, and a canary; serial 1, valid for thirty days.
    pub fn built(built_at: i64) -> Self {
        Self {
            serial: 1,
            built_at,
            valid: 30 * 86_400,
            canary: Default::default(),
            files: vec![
                (
                    "test.ndb".to_owned(),
                    finds("Eicar-Test-Signature", &eicar()).into_bytes(),
                ),
                ("test.hdb".to_owned(), TEST_PROGRAM.as_bytes().to_vec()),
            ],
        }
        .serial(1)
    }

    /// ClamAV's own databases where freshclam keeps them, as they are; serial and time are those of `daily`.
    ///
    /// # Errors
    /// When there is no `daily`, or something cannot be read.
    pub fn official(directory: &Path) -> io::Result<Self> {
        let mut whole = Self::built(0);
        let mut described = None;
        for entry in std::fs::read_dir(directory)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if ![".cvd", ".cld", ".cud"]
                .iter()
                .any(|ending| name.ends_with(ending))
            {
                continue;
            }
            let content = std::fs::read(&path)?;
            if name.starts_with("daily.") {
                // ClamAV-VDB:time in words:version:signatures:level:MD5:signature:builder:time
                let head = String::from_utf8_lossy(content.get(..512).unwrap_or_default());
                let field = |number| head.split(':').nth(number)?.trim().parse::<i64>().ok();
                described = field(2).zip(field(8));
            }
            whole = whole.with(&name, content);
        }
        let (version, built_at) = described.ok_or(io::ErrorKind::NotFound)?;
        whole.built_at = built_at;
        Ok(whole.serial(version.unsigned_abs()))
    }

    /// The same as another release: another serial, another canary.
    #[must_use]
    pub fn serial(mut self, serial: u64) -> Self {
        self.serial = serial;
        self.canary = (
            format!("Renraku.Canary.{serial}"),
            format!("The canary of release {serial}, found by nobody else."),
        );
        let signature = finds(&self.canary.0, self.canary.1.as_bytes()).into_bytes();
        self.with("renraku-canary.ndb", signature)
    }

    /// The same with one more file, or with another in its place.
    #[must_use]
    pub fn with(mut self, name: &str, content: impl Into<Vec<u8>>) -> Self {
        self.files.retain(|(known, _)| known != name);
        self.files.push((name.to_owned(), content.into()));
        self
    }

    /// The same without the signature for the EICAR test file.
    #[must_use]
    pub fn without_eicar(self) -> Self {
        self.with("test.ndb", finds("Some-Other", b"found by nobody, ever"))
    }

    /// Writes it as a release of the city: `manifest.json` and the files it names.
    ///
    /// # Errors
    /// When something cannot be written, or `sha256sum` and `date` are missing.
    pub fn write_release(&self, directory: &Path) -> io::Result<()> {
        std::fs::create_dir_all(directory)?;
        let manifest = json!({
            "serial": self.serial,
            "built_at": rfc3339(self.built_at)?,
            "expires": rfc3339(self.built_at + self.valid)?,
            "files": self.write_files(directory)?,
            "canary": {"signature": self.canary.0, "content": self.canary.1},
        });
        std::fs::write(directory.join("manifest.json"), manifest.to_string())
    }

    /// Writes it into a box's directory of databases as the one in use, the product's policy and a marker included.
    ///
    /// # Errors
    /// As [`Signatures::write_release`].
    pub fn write_generation(&self, databases: &Path) -> io::Result<()> {
        const ID: &str = "harness";
        let place = databases.join("generations").join(ID);
        if place.exists() {
            std::fs::remove_dir_all(&place)?;
        }
        let files = place.join("db");
        std::fs::create_dir_all(&files)?;
        let marker = finds(
            &format!("Renraku.Generation.{ID}"),
            format!("The marker of generation {ID} of this box.").as_bytes(),
        );
        let mut whole = self.clone().with("renraku-generation.ndb", marker);
        for (name, content) in POLICY {
            whole = whole.with(name, content);
        }
        let record = json!({
            "id": ID,
            "origin": "factory",
            "serial": self.serial,
            "built_at": self.built_at,
            "permitted": [],
            "canary": {"signature": self.canary.0, "content": self.canary.1},
            "files": whole.write_files(&files)?,
        });
        std::fs::write(place.join("generation.json"), record.to_string())?;
        let current = databases.join("current");
        let _ = std::fs::remove_file(&current);
        symlink(Path::new("generations").join(ID), current)
    }

    /// Builds `daily.cud` from it, as ClamAV's own are built but for their signature, and puts it where freshclam would.
    ///
    /// # Errors
    /// When sigtool or faketime is missing or objects.
    pub fn write_official(&self, directory: &Path) -> Result<()> {
        let failed = |error: io::Error| Error::new("sigtool cannot be used").because(error);
        let work = directory.join("work");
        std::fs::create_dir_all(&work).map_err(failed)?;
        for (name, content) in &self.files {
            let (_, ending) = name.rsplit_once('.').unwrap_or(("", name));
            // sigtool takes the files of its own name only; several of one ending become one.
            let path = work.join(format!("daily.{ending}"));
            let mut all = std::fs::read(&path).unwrap_or_default();
            all.extend(content);
            std::fs::write(path, all).map_err(failed)?;
        }
        std::fs::write(work.join("COPYING"), "Test signatures.\n").map_err(failed)?;
        crate::wall_clock::clear_left_behind();
        let output = Command::new("faketime")
            .arg("-f")
            .arg(format!("@{}", local_time(self.built_at).map_err(failed)?))
            .args(["sigtool", "--build", "daily.cud", "--unsigned"])
            .arg(format!("--cvd-version={}", self.serial))
            .arg(format!("--datadir={}", work.display()))
            .env("SIGNDUSER", "renraku")
            .current_dir(&work)
            .output()
            .map_err(failed)?;
        let built = work.join("daily.cud");
        if !built.exists() {
            let words = String::from_utf8_lossy(&output.stderr).into_owned();
            let more = String::from_utf8_lossy(&output.stdout).into_owned();
            return Err(Error::new(format!("sigtool built nothing: {words} {more}")));
        }
        // As freshclam does it: nobody finds half a file.
        std::fs::rename(built, directory.join("daily.cud")).map_err(failed)?;
        std::fs::remove_dir_all(work).map_err(failed)
    }

    fn write_files(&self, directory: &Path) -> io::Result<Vec<Value>> {
        let mut entries = Vec::new();
        for (name, content) in &self.files {
            let path = directory.join(name);
            std::fs::write(&path, content)?;
            let sum = said_by(Command::new("sha256sum").arg(&path))?;
            let sha256 = sum.split(' ').next().unwrap_or_default();
            entries.push(json!({"name": name, "sha256": sha256, "size": content.len()}));
        }
        Ok(entries)
    }
}

fn rfc3339(time: i64) -> io::Result<String> {
    said_by(Command::new("date").args(["-u", "-d", &format!("@{time}"), "+%FT%TZ"]))
}

fn local_time(time: i64) -> io::Result<String> {
    said_by(Command::new("date").args(["-d", &format!("@{time}"), "+%F %T"]))
}

fn said_by(command: &mut Command) -> io::Result<String> {
    let output = command.output()?;
    if !output.status.success() {
        return Err(io::Error::other(
            String::from_utf8_lossy(&output.stderr).into_owned(),
        ));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
