//! Loads a database beside the running engine and has it look at samples, before it is used for anything.
//!
//! `clamscan` is the same engine as clamd in a process that ends by itself: one load, one verdict for each sample, and
//! nothing of it reaches the running scanner. It does not decide what becomes of the database.

use std::fs;
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

use super::generation::Generation;
use super::store::{Staged, StoreError};
use super::{Refused, durable};
use crate::Kind;
use crate::samples::{clean, eicar, program};

/// How a database is tried.
#[derive(Clone, Debug)]
pub struct TestLoad {
    /// The program.
    pub clamscan: PathBuf,
    /// Debian's `clamav-testfiles`: every file in there must be found. Absent: only where there are none, in tests.
    pub test_files: Option<PathBuf>,
    /// The most memory it may ask for, in bytes. A whole official database takes about 1.2 GiB.
    pub memory: u64,
    /// The longest it may take. Measured: half a minute for a whole official database on a slow box.
    pub time: Duration,
}

impl Default for TestLoad {
    fn default() -> Self {
        Self {
            clamscan: PathBuf::from("/usr/bin/clamscan"),
            test_files: Some(PathBuf::from("/usr/share/clamav-testfiles")),
            memory: 3 << 30,
            time: Duration::from_secs(300),
        }
    }
}

/// How much of the engine's words is kept for the journal, in characters.
const SHOWN: usize = 300;

impl TestLoad {
    /// Loads a staged generation and compares what it says of each sample with what it must say.
    pub(super) async fn run(&self, staged: &Staged, work: &Path) -> Result<(), Refused> {
        let samples = work.join("samples");
        let temporary = work.join("tmp");
        lay_out(&staged.generation, &samples, &temporary)?;
        let said = self.scan(&staged.files(), &samples, &temporary).await;
        for directory in [&samples, &temporary] {
            durable::remove_directory(directory).map_err(at(directory))?;
        }
        let said = said?;
        judge_samples(&staged.generation, &said)?;
        match &self.test_files {
            Some(directory) => judge_test_files(directory, &said),
            None => Ok(()),
        }
    }

    async fn scan(
        &self,
        files: &Path,
        samples: &Path,
        temporary: &Path,
    ) -> Result<Verdicts, Refused> {
        let seconds = self.time.as_secs().max(1);
        let child = Command::new("prlimit")
            .arg(format!("--as={}", self.memory))
            .arg(format!("--cpu={seconds}"))
            .args(["--core=0", "--", "nice", "-n", "19"])
            .arg(&self.clamscan)
            .arg(format!("--database={}", files.display()))
            .arg(format!("--tempdir={}", temporary.display()))
            .args(["--stdout", "--no-summary", "--recursive"])
            .arg("--heuristic-scan-precedence=no")
            .arg(samples)
            .args(&self.test_files)
            // Nothing of this process's surroundings concerns it.
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("LC_ALL", "C.UTF-8")
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(Refused::TestLoad)?;
        let output = timeout(self.time, child.wait_with_output())
            .await
            .map_err(|_| Refused::TooSlow)?
            .map_err(Refused::TestLoad)?;
        ended(&output)?;
        Ok(Verdicts(
            String::from_utf8_lossy(&output.stdout).into_owned(),
        ))
    }
}

/// clamscan(1): 0 nothing found, 1 something found, 2 errors.
fn ended(output: &Output) -> Result<(), Refused> {
    if matches!(output.status.code(), Some(0 | 1)) {
        return Ok(());
    }
    if output.status.signal() == Some(nix::libc::SIGXCPU) {
        return Err(Refused::TooSlow);
    }
    let words = String::from_utf8_lossy(&output.stderr);
    let telling = words
        .lines()
        .chain(
            std::str::from_utf8(&output.stdout)
                .unwrap_or_default()
                .lines(),
        )
        .find(|line| line.contains("ERROR") || line.contains("Error"))
        .map_or_else(|| output.status.to_string(), str::to_owned);
    let shown = telling.chars().take(SHOWN).collect();
    let short = ["memory", "allocate", "malloc", "calloc"]
        .iter()
        .any(|word| words.to_lowercase().contains(word));
    // A program whose allocation fails may well fall over it.
    if short || output.status.signal().is_some() {
        return Err(Refused::NoMemory(shown));
    }
    Err(Refused::DoesNotLoad(shown))
}

const EICAR: &str = "eicar";
const PROGRAM: &str = "program";

fn lay_out(generation: &Generation, samples: &Path, temporary: &Path) -> Result<(), StoreError> {
    for directory in [samples, temporary] {
        durable::remove_directory(directory)
            .and_then(|()| fs::create_dir(directory))
            .map_err(at(directory))?;
    }
    let mut files = vec![(EICAR.to_owned(), eicar()), (PROGRAM.to_owned(), program())];
    for (number, proof) in generation.proofs().into_iter().enumerate() {
        files.push((proof_file(number), proof.content.into_bytes()));
    }
    files.extend(
        clean()
            .into_iter()
            .map(|(name, content)| (name.to_owned(), content)),
    );
    for (name, content) in files {
        let path = samples.join(name);
        fs::write(&path, content).map_err(at(&path))?;
    }
    Ok(())
}

fn proof_file(number: usize) -> String {
    format!("proof-{number}")
}

fn judge_samples(generation: &Generation, said: &Verdicts) -> Result<(), Refused> {
    let malware = |name: &str| said.of(name).is_some_and(is_strong);
    if !malware(EICAR) {
        return Err(Refused::Misses("the EICAR test file".to_owned()));
    }
    for (number, proof) in generation.proofs().into_iter().enumerate() {
        let found = said
            .of(&proof_file(number))
            .is_some_and(|name| is_named(name, &proof.signature));
        if !found {
            return Err(Refused::Misses(proof.signature));
        }
    }
    let policy = said
        .of(PROGRAM)
        .is_some_and(|name| Kind::of_alert(name).is_some());
    if !policy && !generation.permitted().contains(&Kind::LinuxProgram) {
        return Err(Refused::Misses("a program".to_owned()));
    }
    for (file, _) in clean() {
        if let Some(signature) = said.of(file) {
            return Err(Refused::FalseAlarm {
                file: file.to_owned(),
                signature: signature.to_owned(),
            });
        }
        if !said.mentions(file) {
            return Err(Refused::Misses(file.to_owned()));
        }
    }
    Ok(())
}

fn judge_test_files(directory: &Path, said: &Verdicts) -> Result<(), Refused> {
    let mut any = false;
    for entry in fs::read_dir(directory).map_err(Refused::NoSamples)? {
        let entry = entry.map_err(Refused::NoSamples)?;
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        if !said.of(&name).is_some_and(is_strong) {
            return Err(Refused::Misses(name));
        }
        any = true;
    }
    if any {
        Ok(())
    } else {
        Err(Refused::NoSamples(io::ErrorKind::NotFound.into()))
    }
}

/// A finding that is malware, not one of clamd's suspicions or our policy.
fn is_strong(name: &str) -> bool {
    !name.starts_with("Heuristics.") && !name.starts_with("PUA.")
}

/// clamd adds an ending to what was not signed by ClamAV's authors.
pub(super) fn is_named(found: &str, signature: &str) -> bool {
    found.strip_suffix(".UNOFFICIAL").unwrap_or(found) == signature
}

/// clamscan's lines: `/path/to/file: OK`, `/path/to/file: Name FOUND`.
struct Verdicts(String);

impl Verdicts {
    fn line(&self, file: &str) -> Option<&str> {
        self.0.lines().find_map(|line| {
            let (path, verdict) = line.rsplit_once(": ")?;
            (Path::new(path).file_name()? == file).then_some(verdict)
        })
    }

    fn of(&self, file: &str) -> Option<&str> {
        self.line(file)?.strip_suffix(" FOUND")
    }

    fn mentions(&self, file: &str) -> bool {
        self.line(file) == Some("OK")
    }
}

fn at(path: &Path) -> impl Fn(io::Error) -> StoreError + '_ {
    |error| StoreError::Path(path.to_owned(), error)
}
