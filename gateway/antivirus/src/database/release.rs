//! A release that lies in a directory, not yet the box's own.
//!
//! It does not copy or judge; it says what there is.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use super::generation::{Generation, Origin};
use super::manifest::{self, Canary, FileEntry, Manifest};
use super::{MANIFEST, Refused, durable, official};
use crate::samples::eicar;

/// A release to be installed.
#[derive(Debug)]
pub struct Release {
    pub(super) origin: Origin,
    pub(super) serial: u64,
    pub(super) built_at: Option<i64>,
    pub(super) expires: Option<i64>,
    pub(super) canary: Option<Canary>,
    pub(super) files: Vec<Part>,
    /// The same release once more, with other signatures of the policy.
    pub(super) again: bool,
}

/// One file of a release.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) name: String,
    pub(super) size: u64,
    /// What it must be; absent where nothing says so but the engine that loads it.
    pub(super) sha256: Option<String>,
    pub(super) content: Content,
}

#[derive(Debug)]
pub(super) enum Content {
    File(PathBuf),
    Bytes(Vec<u8>),
}

impl Release {
    /// The release in `directory`: `manifest.json` and the files it names, verified as signed by the role `antivirus`.
    ///
    /// # Errors
    /// [`Refused::Unreadable`], [`Refused::Manifest`].
    pub fn signed(directory: &Path) -> Result<Self, Refused> {
        Self::listed(directory, Origin::City)
    }

    /// The release that came with the image. It may be long expired; its age speaks for itself.
    ///
    /// # Errors
    /// As [`Release::signed`].
    pub fn factory(directory: &Path) -> Result<Self, Refused> {
        Self::listed(directory, Origin::Factory)
    }

    fn listed(directory: &Path, origin: Origin) -> Result<Self, Refused> {
        let mut json = Vec::new();
        File::open(directory.join(MANIFEST))
            .and_then(|file| file.take(manifest::LONGEST).read_to_end(&mut json))
            .map_err(Refused::Unreadable)?;
        let manifest = Manifest::parse(&json)?;
        let part = |file: FileEntry| Part {
            content: Content::File(directory.join(&file.name)),
            name: file.name,
            size: file.size,
            sha256: Some(file.sha256),
        };
        Ok(Self {
            origin,
            serial: manifest.serial,
            built_at: Some(manifest.built_at.unix_timestamp()),
            expires: (origin == Origin::City).then(|| manifest.expires.unix_timestamp()),
            canary: Some(manifest.canary),
            files: manifest.files.into_iter().map(part).collect(),
            again: false,
        })
    }

    /// The databases that freshclam keeps in `directory`. Serial and age are those of `daily`.
    ///
    /// # Errors
    /// [`Refused::Unreadable`] also when there is no `daily`.
    pub fn official(directory: &Path) -> Result<Self, Refused> {
        Self::of_freshclam(directory).map_err(Refused::Unreadable)
    }

    fn of_freshclam(directory: &Path) -> io::Result<Self> {
        let mut daily = None;
        let mut files = Vec::new();
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            // Anything else there (freshclam's own notes) is not a database.
            if !manifest::is_name(&name) || !entry.file_type()?.is_file() {
                continue;
            }
            if ["daily.cvd", "daily.cld", "daily.cud"].contains(&name.as_str()) {
                daily = Some(official::describe(&entry.path())?);
            }
            files.push(Part {
                name,
                size: entry.metadata()?.len(),
                sha256: None,
                content: Content::File(entry.path()),
            });
        }
        files.sort_by(|one, other| one.name.cmp(&other.name));
        let daily = daily.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        Ok(Self {
            origin: Origin::Official,
            serial: daily.version,
            built_at: Some(daily.built_at),
            expires: None,
            canary: None,
            files,
            again: false,
        })
    }

    /// Two signatures, for test files only: with them clamd starts on a box that has no database yet, and nothing passes
    /// because of it, for nobody says when it was built.
    #[must_use]
    pub fn built_in() -> Self {
        let eicar = durable::hexadecimal(&eicar());
        let part = |name: &str, content: String| Part {
            name: name.to_owned(),
            size: content.len() as u64,
            sha256: None,
            content: Content::Bytes(content.into_bytes()),
        };
        Self {
            origin: Origin::Factory,
            serial: 0,
            built_at: None,
            expires: None,
            canary: None,
            files: vec![
                part(
                    "renraku-built-in.ndb",
                    format!("Eicar-Test-Signature:0:*:{eicar}\n"),
                ),
                // ClamAV's own test program, 544 bytes; Debian's clamav-testfiles are wrappings of it.
                part(
                    "renraku-built-in.hdb",
                    format!("{CLAMAV_TEST_FILE}:ClamAV-Test-File\n"),
                ),
            ],
            again: false,
        }
    }

    /// What a generation was made of, to make another of it.
    pub(super) fn of(generation: &Generation, files: &Path) -> Self {
        let parts = generation
            .files
            .iter()
            .filter(|file| !Generation::is_ours(&file.name))
            .map(|file| Part {
                content: Content::File(files.join(&file.name)),
                name: file.name.clone(),
                size: file.size,
                sha256: Some(file.sha256.clone()),
            });
        Self {
            origin: generation.origin,
            serial: generation.serial,
            built_at: generation.built_at,
            expires: None,
            canary: generation.canary.clone(),
            files: parts.collect(),
            again: true,
        }
    }

    /// Its serial number.
    #[must_use]
    pub const fn serial(&self) -> u64 {
        self.serial
    }

    /// The bytes it takes on the disk.
    pub(super) fn size(&self) -> u64 {
        self.files
            .iter()
            .fold(0, |sum: u64, part| sum.saturating_add(part.size))
    }
}

/// MD5 and length of clam.exe, as a `.hdb` signature begins.
const CLAMAV_TEST_FILE: &str = "aa15bcf478d165efd2065190eb473bcb:544";
