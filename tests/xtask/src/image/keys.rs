//! The keys that the image is signed with: Secure Boot (UEFI 2.10 §32.3: PK, KEK, db) and the policy of PCR 11.
//!
//! Keys for real releases are made elsewhere, once, and given; those made here are for trying and say so in their name.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Site, enrolment, tools};

/// A folder with `PK`, `KEK` and `db` (`.key`, `.crt`), and `pcr.key`, `pcr.pub`.
#[derive(Debug)]
pub(super) struct Keys {
    folder: PathBuf,
}

impl Keys {
    /// Keys that somebody made and guards.
    pub(super) fn given(folder: &Path, site: &Site) -> Result<Self, String> {
        let needed = [
            "PK.key", "PK.crt", "KEK.key", "KEK.crt", "db.key", "db.crt", "pcr.key", "pcr.pub",
        ];
        for name in needed {
            if !folder.join(name).is_file() {
                return Err(format!("{} lacks {name}", folder.display()));
            }
        }
        Self::shown_to_the_tools(folder, site)
    }

    /// Keys for trying, made at the first call.
    pub(super) fn for_trying(home: &Path, site: &Site) -> Result<Self, String> {
        let folder = home.join("keys-for-trying");
        if !folder.join("pcr.pub").is_file() {
            fs::create_dir_all(&folder)
                .map_err(|error| format!("{}: {error}", folder.display()))?;
            let path = |name: String| folder.join(name).to_string_lossy().into_owned();
            for name in ["PK", "KEK", "db"] {
                openssl(&[
                    "req",
                    "-new",
                    "-x509",
                    "-newkey",
                    "rsa:2048",
                    "-nodes",
                    "-sha256",
                    "-days",
                    "3650",
                    "-subj",
                    &format!("/CN=renraku-gateway {name} for trying only/"),
                    "-keyout",
                    &path(format!("{name}.key")),
                    "-out",
                    &path(format!("{name}.crt")),
                ])?;
            }
            openssl(&["genrsa", "-out", &path("pcr.key".to_owned()), "2048"])?;
            openssl(&[
                "rsa",
                "-in",
                &path("pcr.key".to_owned()),
                "-pubout",
                "-out",
                &path("pcr.pub".to_owned()),
            ])?;
        }
        Self::shown_to_the_tools(&folder, site)
    }

    /// The tools see the working directory only.
    fn shown_to_the_tools(folder: &Path, site: &Site) -> Result<Self, String> {
        let shown = site.work.join("keys");
        let _ = fs::remove_dir_all(&shown);
        let failed = |error: std::io::Error| format!("{}: {error}", folder.display());
        fs::create_dir_all(&shown).map_err(failed)?;
        for entry in fs::read_dir(folder).map_err(failed)?.flatten() {
            fs::copy(entry.path(), shown.join(entry.file_name())).map_err(failed)?;
        }
        Ok(Self { folder: shown })
    }

    /// A key file as the tools see it.
    pub(super) fn path(name: &str) -> String {
        format!("/work/keys/{name}")
    }

    /// Writes the signed variables that the boot loader enrols at the first start, below `esp/loader/keys/auto`.
    pub(super) fn enrolment(&self, site: &Site) -> Result<(), String> {
        let auto = site.work.join("build/esp/loader/keys/auto");
        fs::create_dir_all(&auto).map_err(|error| format!("{}: {error}", auto.display()))?;
        for (variable, signer) in [("PK", "PK"), ("KEK", "PK"), ("db", "KEK")] {
            let certificate = self.folder.join(format!("{variable}.crt"));
            let signed = enrolment::signed(
                variable,
                &enrolment::list(&certificate)?,
                site.epoch,
                &self.folder.join(signer),
            )?;
            let path = auto.join(format!("{variable}.auth"));
            fs::write(&path, signed).map_err(|error| format!("{}: {error}", path.display()))?;
        }
        Ok(())
    }

    /// Removes the copies that the tools saw.
    pub(super) fn put_away(&self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn openssl(arguments: &[&str]) -> Result<(), String> {
    tools::run(std::process::Command::new("openssl").args(arguments)).map(drop)
}
