//! What an antivirus database and a software release say of themselves, and the files they consist of.
//!
//! It tries neither out: that is the box's part, each time.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::ReleaseError;
use crate::key::{hex, sha256};

/// A file of a release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// Its name in the release's folder.
    pub name: String,
    /// SHA-256, hexadecimal.
    pub sha256: String,
    /// Bytes.
    pub size: u64,
}

/// `antivirus/current.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AntivirusRelease {
    /// Grows with each release; its files are below `antivirus/<serial>/`.
    pub serial: u64,
    /// When the database was built, RFC 3339; its age is counted from here.
    pub built_at: String,
    /// Until when it may be loaded, RFC 3339.
    pub expires: String,
    /// The database's files.
    pub files: Vec<Listed>,
    /// Proves that this release, and no other, is loaded.
    pub canary: Canary,
}

/// A harmless text and the signature, one of the release's own, that finds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Canary {
    /// The signature's name.
    pub signature: String,
    /// What it finds: 16 to 1024 printable ASCII characters.
    pub content: String,
}

/// `releases/current.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SoftwareRelease {
    /// The version; its files are below `releases/<version>/`.
    pub version: String,
    /// When it was published, RFC 3339.
    pub published_at: String,
    /// The hardware it is for.
    pub hardware: String,
    /// The root hash of its image, lower-case hexadecimal; without one there is no image in it, and no box installs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_hash: Option<String>,
    /// Which boxes take it when; empty for all at once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub schedule: Vec<Wave>,
    /// From when on boxes do not wait for their facility's window, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<String>,
    /// The release's files.
    pub files: Vec<Listed>,
}

impl SoftwareRelease {
    /// A release without an image, for all boxes at once; what is published fills in the rest.
    #[must_use]
    pub fn new(version: &str, hardware: &str) -> Self {
        Self {
            version: version.to_owned(),
            published_at: String::new(),
            hardware: hardware.to_owned(),
            root_hash: None,
            schedule: Vec::new(),
            deadline: None,
            files: Vec::new(),
        }
    }
}

/// A wave of a release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wave {
    /// When it begins, RFC 3339.
    pub not_before: String,
    /// Of a thousand boxes, how many have taken part when it has begun.
    pub per_mille: u16,
}

/// The plain files of a folder, by name, with their digests.
pub(crate) fn list(folder: &Path) -> Result<Vec<(PathBuf, Listed)>, ReleaseError> {
    let failed = |error| ReleaseError::File(folder.to_owned(), error);
    let mut out = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if !entry.file_type().map_err(failed)?.is_file() {
            return Err(ReleaseError::TargetName(
                entry.file_name().to_string_lossy().into_owned(),
            ));
        }
        let path = entry.path();
        let name = entry
            .file_name()
            .into_string()
            .map_err(|name| ReleaseError::TargetName(name.to_string_lossy().into_owned()))?;
        let (sha256, size) = digest(&path)?;
        out.push((path, Listed { name, sha256, size }));
    }
    out.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(out)
}

/// SHA-256 and length of a file, read in pieces: images are large.
pub(crate) fn digest(path: &Path) -> Result<(String, u64), ReleaseError> {
    use std::io::Read as _;
    let failed = |error| ReleaseError::File(path.to_owned(), error);
    let mut file = std::fs::File::open(path).map_err(failed)?;
    let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    let mut buffer = vec![0; 256 * 1024];
    let mut size = 0;
    loop {
        let count = file.read(&mut buffer).map_err(failed)?;
        if count == 0 {
            return Ok((hex(context.finish().as_ref()), size));
        }
        context.update(&buffer[..count]);
        size += count as u64;
    }
}

pub(crate) fn digest_of(bytes: &[u8]) -> (String, u64) {
    (sha256(bytes), bytes.len() as u64)
}
