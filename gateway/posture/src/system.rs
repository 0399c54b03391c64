//! Where the system's files are, and bounded reading of them. Does not know what they mean, but for the image's name.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest;

use crate::boot::{root_hash, slot};

/// The `IMAGE_ID` of our image (os-release(5)).
const IMAGE_ID: &str = "renraku-gateway";

/// More than any of the small files has; one that is longer is not what it should be.
const SMALL: u64 = 256 * 1024;

/// A bill of materials is larger.
const LARGE: u64 = 64 * 1024 * 1024;

/// The machine as its files show it.
#[derive(Clone, Debug)]
pub struct System {
    root: PathBuf,
}

/// The image this box runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// `IMAGE_VERSION`.
    pub version: String,
    /// The root hash it was started with, lower-case hexadecimal; `None` when the kernel's command line names none.
    pub root_hash: Option<String>,
    /// The slot it was started from, `a` or `b`, as its signed command line says.
    pub slot: Option<String>,
}

impl System {
    /// `root` is `/`, or the directory below which a test keeps its `proc`, `sys`, `etc` and `usr`.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Which image this is; `None` on any other system, about which nothing is promised.
    #[must_use]
    pub fn image(&self) -> Option<Image> {
        let text = self
            .text("etc/os-release")
            .or_else(|_| self.text("usr/lib/os-release"))
            .ok()?;
        if assignment(&text, "IMAGE_ID")? != IMAGE_ID {
            return None;
        }
        let line = self.text("proc/cmdline").unwrap_or_default();
        Some(Image {
            version: assignment(&text, "IMAGE_VERSION")?.to_owned(),
            root_hash: root_hash(&line).map(str::to_ascii_lowercase),
            slot: slot(&line).map(str::to_owned),
        })
    }

    pub(crate) fn path(&self, below: impl AsRef<Path>) -> PathBuf {
        self.root.join(below)
    }

    /// A small text file.
    pub(crate) fn text(&self, below: impl AsRef<Path>) -> io::Result<String> {
        String::from_utf8(self.bytes(below)?)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }

    /// A small file.
    pub(crate) fn bytes(&self, below: impl AsRef<Path>) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(self.path(below))?
            .take(SMALL + 1)
            .read_to_end(&mut bytes)?;
        if bytes.len() as u64 > SMALL {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(bytes)
    }

    /// SHA-256 of a file, in lower-case hexadecimal.
    pub(crate) fn sha256(&self, below: impl AsRef<Path>) -> io::Result<String> {
        let mut file = File::open(self.path(below))?.take(LARGE + 1);
        let mut context = digest::Context::new(&digest::SHA256);
        let mut buffer = vec![0; 64 * 1024];
        let mut total = 0_u64;
        loop {
            let read = file.read(&mut buffer)?;
            if read == 0 {
                break;
            }
            total += read as u64;
            context.update(&buffer[..read]);
        }
        if total > LARGE {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(context
            .finish()
            .as_ref()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect())
    }

    /// The names in a directory, sorted.
    pub(crate) fn names(&self, below: impl AsRef<Path>) -> io::Result<Vec<String>> {
        let mut names = fs::read_dir(self.path(below))?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect::<io::Result<Vec<_>>>()?;
        names.sort();
        Ok(names)
    }
}

/// The value of `NAME=value` or `NAME="value"` (os-release(5); our values need no escapes).
fn assignment<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let value = line.trim().strip_prefix(name)?.strip_prefix('=')?;
        Some(value.trim_matches(['"', '\'']))
    })
}
