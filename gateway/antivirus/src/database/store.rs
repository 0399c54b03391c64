//! The directory of databases: generations, which one is in use, which one was before, how far back nobody may go.
//!
//! ```text
//! generations/<id>/generation.json    what it is
//! generations/<id>/db/…               what clamd loads
//! current -> generations/<id>         clamd's DatabaseDirectory is current/db
//! previous -> generations/<id>
//! unproven                            there while current has not been found through clamd's socket
//! floor.json                          the highest serial of each origin that was ever proven
//! staging/                            work; emptied at start
//! ```
//!
//! It does not load or prove anything. Only what was loaded once beside the running engine is given to [`Store::keep`].

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use nix::sys::statvfs::statvfs;

use super::durable;
use super::generation::{Generation, MARKER_FILE, Origin};
use super::manifest::FileEntry;
use super::release::{Content, Part};
use super::{Refused, Release};
use crate::{Kind, kind};

/// Room left for everything else on the disk, in bytes.
const RESERVE: u64 = 16 * 1024 * 1024;

/// What failed on the box's own disk.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file or directory; which, and why.
    #[error("{} cannot be used", .0.display())]
    Path(PathBuf, #[source] io::Error),
    /// A record that is none.
    #[error("{} is damaged", .0.display())]
    Record(PathBuf, #[source] serde_json::Error),
}

/// The box's databases.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
}

/// A generation that is written, and not yet kept.
#[derive(Debug)]
pub(super) struct Staged {
    pub(super) generation: Generation,
    pub(super) directory: PathBuf,
}

impl Staged {
    /// The files, as clamd would load them.
    pub(super) fn files(&self) -> PathBuf {
        self.directory.join("db")
    }
}

impl Store {
    /// Opens the directory, makes what is missing, and throws away what a power cut left unfinished.
    ///
    /// # Errors
    /// [`StoreError::Path`].
    pub fn open(root: impl Into<PathBuf>) -> Result<Self, StoreError> {
        let store = Self { root: root.into() };
        let staging = store.staging();
        durable::remove_directory(&staging).map_err(at(&staging))?;
        for directory in [store.root.clone(), store.root.join("generations"), staging] {
            make_directory(&directory)?;
        }
        durable::sync(&store.root).map_err(at(&store.root))?;
        Ok(store)
    }

    /// Where clamd looks: its `DatabaseDirectory`.
    #[must_use]
    pub fn database_directory(&self) -> PathBuf {
        self.root.join("current/db")
    }

    /// The generation in use; none before the first, or when its record is damaged.
    #[must_use]
    pub fn current(&self) -> Option<Generation> {
        self.pointed_at("current")
            .and_then(|id| self.read(&id).ok())
    }

    /// The one in use before.
    #[must_use]
    pub fn previous(&self) -> Option<Generation> {
        self.pointed_at("previous")
            .and_then(|id| self.read(&id).ok())
    }

    /// Whether the switch to the one in use was never finished.
    #[must_use]
    pub fn is_unproven(&self) -> bool {
        self.root.join("unproven").exists()
    }

    /// The highest serial of an origin that was ever in use.
    ///
    /// # Errors
    /// [`StoreError`] when the record is there and cannot be read: then nothing older may be taken for new.
    pub fn floor(&self, origin: Origin) -> Result<u64, StoreError> {
        let recorded = self.floors()?.get(origin.id()).copied().unwrap_or(0);
        let in_use = self
            .current()
            .filter(|generation| generation.origin == origin && !self.is_unproven())
            .map_or(0, |generation| generation.serial);
        Ok(recorded.max(in_use))
    }

    fn floors(&self) -> Result<BTreeMap<String, u64>, StoreError> {
        let path = self.root.join("floor.json");
        match fs::read(&path) {
            Ok(json) => {
                serde_json::from_slice(&json).map_err(|error| StoreError::Record(path, error))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeMap::new()),
            Err(error) => Err(StoreError::Path(path, error)),
        }
    }

    /// Whether every file of a generation is on the disk as it was written.
    #[must_use]
    pub fn is_intact(&self, generation: &Generation) -> bool {
        let files = self.files(generation);
        !generation.files.is_empty()
            && generation.files.iter().all(|file| {
                durable::measure(&files.join(&file.name))
                    .is_ok_and(|(size, sha256)| size == file.size && sha256 == file.sha256)
            })
    }

    /// Where a generation's files are.
    pub(super) fn files(&self, generation: &Generation) -> PathBuf {
        self.root
            .join("generations")
            .join(&generation.id)
            .join("db")
    }

    /// A place for work; emptied at every start.
    pub(super) fn staging(&self) -> PathBuf {
        self.root.join("staging")
    }

    /// Copies a release, comparing digests, and adds the signatures of the policy and the marker.
    pub(super) fn stage(&self, release: &Release, permitted: &[Kind]) -> Result<Staged, Refused> {
        self.check_space(release)?;
        let directory = self.staging().join("next");
        durable::remove_directory(&directory).map_err(at(&directory))?;
        let files = directory.join("db");
        make_directory(&directory)?;
        make_directory(&files)?;
        let mut entries = Vec::new();
        for part in &release.files {
            entries.push(copy(part, &files)?);
        }
        for (name, content) in kind::signatures(permitted) {
            entries.push(write(&files, name, content.as_bytes())?);
        }
        let mut permitted: Vec<String> =
            permitted.iter().map(|kind| kind.id().to_owned()).collect();
        permitted.sort();
        permitted.dedup();
        let mut generation = Generation {
            id: String::new(),
            origin: release.origin,
            serial: release.serial,
            built_at: release.built_at,
            permitted,
            canary: release.canary.clone(),
            files: entries,
        }
        .named();
        let marker = generation.marker_signature();
        let marker = write(&files, MARKER_FILE, marker.as_bytes())?;
        generation.files.push(marker);
        let record = directory.join("generation.json");
        let json = serde_json::to_vec_pretty(&generation)
            .map_err(|error| StoreError::Record(record.clone(), error))?;
        durable::write(&record, &json).map_err(at(&record))?;
        for written in [&files, &directory] {
            durable::sync(written).map_err(at(written))?;
        }
        Ok(Staged {
            generation,
            directory,
        })
    }

    fn check_space(&self, release: &Release) -> Result<(), Refused> {
        let needed = release.size().saturating_add(RESERVE);
        let room = statvfs(&self.root)
            .map_err(|errno| StoreError::Path(self.root.clone(), errno.into()))?;
        let free = room.blocks_available().saturating_mul(room.fragment_size());
        if needed > free {
            return Err(Refused::NoSpace { needed, free });
        }
        Ok(())
    }

    /// Puts a staged generation among those that may be used.
    pub(super) fn keep(&self, staged: Staged) -> Result<Generation, StoreError> {
        let Staged {
            generation,
            directory,
        } = staged;
        let generations = self.root.join("generations");
        let place = generations.join(&generation.id);
        if place.exists() {
            // The same release once more, after a power cut or a failed proof: the name says that it is the same.
            if self.is_intact(&generation) {
                durable::remove_directory(&directory).map_err(at(&directory))?;
                return Ok(generation);
            }
            durable::remove_directory(&place).map_err(at(&place))?;
        }
        fs::rename(&directory, &place).map_err(at(&place))?;
        durable::sync(&generations).map_err(at(&generations))?;
        Ok(generation)
    }

    /// Marks that what comes next is not proven.
    pub(super) fn announce(&self, generation: &Generation) -> Result<(), StoreError> {
        let path = self.root.join("unproven");
        durable::replace(&path, generation.id.as_bytes()).map_err(at(&path))
    }

    /// Makes a generation the one clamd loads next.
    pub(super) fn switch(&self, generation: &Generation) -> Result<(), StoreError> {
        if let Some(old) = self.pointed_at("current")
            && old != generation.id
        {
            self.point("previous", &old)?;
        }
        self.point("current", &generation.id)
    }

    /// Makes the one before the one in use again.
    pub(super) fn back(&self) -> Result<Option<Generation>, StoreError> {
        let Some(previous) = self.previous() else {
            return Ok(None);
        };
        self.point("current", &previous.id)?;
        self.finish()?;
        Ok(Some(previous))
    }

    /// The generation in use was found through clamd's socket: nobody goes back behind it.
    pub(super) fn proven(&self, generation: &Generation) -> Result<(), StoreError> {
        let mut floors = self.floors()?;
        let floor = floors.entry(generation.origin.id().to_owned()).or_default();
        if generation.serial > *floor {
            *floor = generation.serial;
            let path = self.root.join("floor.json");
            let json = serde_json::to_vec(&floors)
                .map_err(|error| StoreError::Record(path.clone(), error))?;
            durable::replace(&path, &json).map_err(at(&path))?;
        }
        self.finish()
    }

    /// Nothing is unproven any more.
    fn finish(&self) -> Result<(), StoreError> {
        let path = self.root.join("unproven");
        durable::remove(&path).map_err(at(&path))?;
        durable::sync(&self.root).map_err(at(&self.root))
    }

    /// Removes generations that no link points to.
    pub(super) fn tidy(&self) -> Result<(), StoreError> {
        let generations = self.root.join("generations");
        let kept = [self.pointed_at("current"), self.pointed_at("previous")];
        for entry in fs::read_dir(&generations).map_err(at(&generations))? {
            let entry = entry.map_err(at(&generations))?;
            let name = entry.file_name().into_string().ok();
            if name.is_none() || !kept.contains(&name) {
                durable::remove_directory(&entry.path()).map_err(at(&entry.path()))?;
            }
        }
        Ok(())
    }

    /// Looks whether the generation in use is whole, and puts another in its place if it is not: clamd would not start
    /// with it. True when something was changed.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn mend(&self) -> Result<bool, StoreError> {
        if self
            .current()
            .is_some_and(|current| self.is_intact(&current))
        {
            return Ok(false);
        }
        let generations = self.root.join("generations");
        let previous = self.pointed_at("previous");
        let others = fs::read_dir(&generations)
            .map_err(at(&generations))?
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        for id in previous.into_iter().chain(others) {
            if let Ok(generation) = self.read(&id)
                && self.is_intact(&generation)
            {
                self.point("current", &id)?;
                return Ok(true);
            }
        }
        // Left as it is: there is nothing better, and what the link points to may be of use to support.
        Ok(false)
    }

    fn read(&self, id: &str) -> Result<Generation, StoreError> {
        let path = self
            .root
            .join("generations")
            .join(id)
            .join("generation.json");
        let json = fs::read(&path).map_err(at(&path))?;
        let generation: Generation = serde_json::from_slice(&json)
            .map_err(|error| StoreError::Record(path.clone(), error))?;
        if generation.id != id {
            return Err(StoreError::Path(path, io::ErrorKind::InvalidData.into()));
        }
        Ok(generation)
    }

    fn pointed_at(&self, link: &str) -> Option<String> {
        let target = fs::read_link(self.root.join(link)).ok()?;
        target.file_name()?.to_str().map(str::to_owned)
    }

    fn point(&self, link: &str, id: &str) -> Result<(), StoreError> {
        let link = self.root.join(link);
        let target = Path::new("generations").join(id);
        durable::point(&link, &target).map_err(at(&link))
    }
}

fn copy(part: &Part, files: &Path) -> Result<FileEntry, Refused> {
    let path = files.join(&part.name);
    let (size, sha256) = match &part.content {
        Content::File(from) => durable::copy(from, &path).map_err(Refused::Unreadable)?,
        Content::Bytes(bytes) => {
            durable::write(&path, bytes).map_err(at(&path))?;
            (bytes.len() as u64, durable::sha256(bytes))
        }
    };
    let as_listed = part
        .sha256
        .as_ref()
        .is_none_or(|listed| *listed == sha256 && part.size == size);
    if !as_listed {
        return Err(Refused::Digest(part.name.clone()));
    }
    Ok(FileEntry {
        name: part.name.clone(),
        sha256,
        size,
    })
}

fn write(files: &Path, name: &str, content: &[u8]) -> Result<FileEntry, StoreError> {
    let path = files.join(name);
    durable::write(&path, content).map_err(at(&path))?;
    Ok(FileEntry {
        name: name.to_owned(),
        sha256: durable::sha256(content),
        size: content.len() as u64,
    })
}

/// For clamd, another user, to look into, whatever this process's umask.
fn make_directory(path: &Path) -> Result<(), StoreError> {
    fs::create_dir_all(path)
        .and_then(|()| fs::set_permissions(path, Permissions::from_mode(0o755)))
        .map_err(at(path))
}

fn at(path: &Path) -> impl Fn(io::Error) -> StoreError + '_ {
    |error| StoreError::Path(path.to_owned(), error)
}
