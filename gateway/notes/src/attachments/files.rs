//! The directory of sealed files: made, written to, read from, swept.
//!
//! A file is made before the row that names it and removed after that row is gone, so a crash leaves at most a file that
//! no row names; such files are removed when the store opens. It knows no rows.

use std::collections::HashSet;
use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use aws_lc_rs::rand;
use zeroize::Zeroizing;

use super::chunks::{CHUNK, ChunkCipher, Layout, SEALED};
use crate::Error;

/// A file's name: random, so that it tells nothing.
pub(crate) type FileName = [u8; 16];

fn failed(action: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::AttachmentFile { action, source }
}

/// The directory, which holds nothing but sealed files.
#[derive(Clone, Debug)]
pub(crate) struct Directory(PathBuf);

impl Directory {
    /// In the store's own directory; not made yet.
    pub(crate) fn of(store: &Path) -> Self {
        Self(store.join("attachments"))
    }

    fn make(&self) -> Result<(), Error> {
        if self.0.is_dir() {
            return Ok(());
        }
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.0)
            .map_err(failed("make its directory"))?;
        let store = self.0.parent().unwrap_or(&self.0);
        sync(store).map_err(failed("make its directory"))
    }

    pub(crate) fn path(&self, name: &FileName) -> PathBuf {
        self.0.join(hex(name))
    }

    /// A new empty file that is there also after a power cut.
    pub(crate) fn create(&self) -> Result<FileName, Error> {
        self.make()?;
        let mut name = FileName::default();
        rand::fill(&mut name).map_err(|_| Error::Cryptography)?;
        File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(self.path(&name))
            .map_err(failed("make its file"))?;
        sync(&self.0).map_err(failed("make its file"))?;
        Ok(name)
    }

    /// Has these files of another directory under the same names here too.
    pub(crate) fn link(&self, from: &Self, names: &[FileName]) -> Result<(), Error> {
        if names.is_empty() {
            return Ok(());
        }
        self.make()?;
        for name in names {
            match std::fs::hard_link(from.path(name), self.path(name)) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(failed("take its file over")(error));
                }
                _ => {}
            }
        }
        sync(&self.0).map_err(failed("take its file over"))
    }

    /// Removes files; one that is not there has been removed already.
    pub(crate) fn remove(&self, names: &[FileName]) -> Result<(), Error> {
        let mut removed = false;
        for name in names {
            match std::fs::remove_file(self.path(name)) {
                Ok(()) => removed = true,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(failed("remove its file")(error)),
            }
        }
        if removed {
            sync(&self.0).map_err(failed("remove its file"))?;
        }
        Ok(())
    }

    /// Removes everything that is not among `known`.
    pub(crate) fn sweep(&self, known: &HashSet<FileName>) -> Result<usize, Error> {
        let entries = match std::fs::read_dir(&self.0) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            Err(error) => return Err(failed("list its files")(error)),
        };
        let known: HashSet<String> = known.iter().map(hex).collect();
        let mut removed = 0;
        for entry in entries {
            let entry = entry.map_err(failed("list its files"))?;
            if !entry
                .file_name()
                .to_str()
                .is_some_and(|name| known.contains(name))
            {
                std::fs::remove_file(entry.path())
                    .map_err(failed("remove a file without a row"))?;
                removed += 1;
            }
        }
        if removed > 0 {
            sync(&self.0).map_err(failed("remove a file without a row"))?;
        }
        Ok(removed)
    }
}

/// Removes all sealed files of a store that is erased.
pub(crate) fn erase_all(store: &Path) -> Result<(), Error> {
    Directory::of(store).sweep(&HashSet::new()).map(drop)
}

fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

fn hex(name: &FileName) -> String {
    name.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A file that is being fetched. It takes readable bytes, and only sealed ones reach the disk.
pub struct Incoming {
    file: File,
    cipher: ChunkCipher,
    layout: Layout,
    size: u64,
    /// The chunk that is being filled; of its full size from the start.
    pending: Zeroizing<Vec<u8>>,
    next: u32,
}

impl std::fmt::Debug for Incoming {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Incoming")
            .field("have", &self.have())
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

impl Incoming {
    /// Goes on where the file ends.
    pub(crate) fn open(path: &Path, cipher: ChunkCipher, size: u64) -> Result<Self, Error> {
        let layout = Layout::of(size).ok_or(Error::Damaged)?;
        let file = File::options()
            .write(true)
            .open(path)
            .map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => Error::AttachmentLost,
                _ => failed("go on with its file")(error),
            })?;
        let length = file
            .metadata()
            .map_err(failed("go on with its file"))?
            .len();
        let next = layout.whole_chunks(length);
        // What a cut left behind of the next chunk is written anew.
        file.set_len(u64::from(next) * SEALED as u64)
            .map_err(failed("go on with its file"))?;
        Ok(Self {
            file,
            cipher,
            layout,
            size,
            pending: Zeroizing::new(Vec::with_capacity(CHUNK)),
            next,
        })
    }

    /// The readable bytes that need not be fetched again.
    #[must_use]
    pub fn have(&self) -> u64 {
        u64::from(self.next) * CHUNK as u64 + self.pending.len() as u64
    }

    /// Takes more. Blocks on the disk.
    ///
    /// # Errors
    /// [`Error::AttachmentTooLong`] when more comes than was announced; [`Error::AttachmentFile`] when the disk refuses.
    pub fn write(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        if self.have().saturating_add(bytes.len() as u64) > self.size {
            return Err(Error::AttachmentTooLong);
        }
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(CHUNK - self.pending.len()));
            self.pending.extend_from_slice(now);
            bytes = later;
            if self.pending.len() == CHUNK && !self.layout.is_last(self.next) {
                self.put(false)?;
            }
        }
        Ok(())
    }

    fn put(&mut self, last: bool) -> Result<(), Error> {
        let sealed = self.cipher.seal(self.next, last, &self.pending)?;
        let (at, _) = self.layout.sealed(self.next);
        self.file
            .write_all_at(&sealed, at)
            .map_err(failed("write its file"))?;
        self.pending = Zeroizing::new(Vec::with_capacity(CHUNK));
        self.next += 1;
        Ok(())
    }

    /// Seals the end and waits for the disk. `false` when bytes are still missing.
    ///
    /// # Errors
    /// [`Error::AttachmentFile`] when the disk refuses.
    pub fn finish(mut self) -> Result<bool, Error> {
        if self.have() != self.size {
            return Ok(false);
        }
        self.put(true)?;
        self.file.sync_all().map_err(failed("write its file"))?;
        Ok(true)
    }
}

/// A file that is complete, opened for reading at any place.
pub(crate) struct Content {
    file: File,
    cipher: ChunkCipher,
    layout: Layout,
}

impl Content {
    pub(crate) fn open(path: &Path, cipher: ChunkCipher, size: u64) -> Result<Self, Error> {
        let file = File::open(path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Error::AttachmentLost,
            _ => failed("read its file")(error),
        })?;
        Ok(Self {
            file,
            cipher,
            layout: Layout::of(size).ok_or(Error::Damaged)?,
        })
    }

    pub(crate) fn chunks(&self) -> u32 {
        self.layout.chunks()
    }

    /// One chunk, readable. Blocks on the disk.
    ///
    /// # Errors
    /// [`Error::AttachmentLost`] when what is on the disk is not what was sealed.
    pub(crate) fn chunk(&self, number: u32) -> Result<Zeroizing<Vec<u8>>, Error> {
        let (at, length) = self.layout.sealed(number);
        let mut sealed = vec![0; length];
        self.file
            .read_exact_at(&mut sealed, at)
            .map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => Error::AttachmentLost,
                _ => failed("read its file")(error),
            })?;
        self.cipher
            .open(number, self.layout.is_last(number), sealed)
            .filter(|plain| plain.len() == self.layout.length(number))
            .ok_or(Error::AttachmentLost)
    }
}

#[cfg(test)]
mod tests {
    use super::super::chunks::FileKey;
    use super::*;

    fn fill(directory: &Directory, key: &FileKey, name: &FileName, plain: &[u8], pieces: usize) {
        let open = || {
            let size = plain.len() as u64;
            Incoming::open(&directory.path(name), key.cipher().unwrap(), size).unwrap()
        };
        let mut incoming = open();
        for piece in plain.chunks(pieces) {
            // A crash after every piece: what was in memory only is fetched again.
            incoming = open();
            let have = usize::try_from(incoming.have()).unwrap();
            let until = have + piece.len().max(CHUNK);
            incoming
                .write(&plain[have..until.min(plain.len())])
                .unwrap();
        }
        let have = usize::try_from(incoming.have()).unwrap();
        incoming.write(&plain[have..]).unwrap();
        assert!(incoming.finish().unwrap());
    }

    #[test]
    fn a_file_fetched_in_pieces_across_crashes_reads_as_it_was_sent() {
        let store = tempfile::tempdir().unwrap();
        let directory = Directory::of(store.path());
        for size in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 3 * CHUNK + 7] {
            let plain: Vec<u8> = (0..size).map(|n| u8::try_from(n % 251).unwrap()).collect();
            let (key, name) = (FileKey::generate().unwrap(), directory.create().unwrap());
            fill(&directory, &key, &name, &plain, 50_000);
            let content = Content::open(
                &directory.path(&name),
                key.cipher().unwrap(),
                plain.len() as u64,
            )
            .unwrap();
            let read: Vec<u8> = (0..content.chunks())
                .flat_map(|number| content.chunk(number).unwrap().to_vec())
                .collect();
            assert!(read == plain, "{size}");
            let on_disk = std::fs::read(directory.path(&name)).unwrap();
            assert!(size < 100 || !on_disk.windows(64).any(|bytes| bytes == &plain[..64]));
        }
    }

    #[test]
    fn more_bytes_than_announced_are_refused_and_fewer_are_not_the_end() {
        let store = tempfile::tempdir().unwrap();
        let directory = Directory::of(store.path());
        let (key, name) = (FileKey::generate().unwrap(), directory.create().unwrap());
        let open = || Incoming::open(&directory.path(&name), key.cipher().unwrap(), 10).unwrap();
        assert!(matches!(
            open().write(&[0; 11]),
            Err(Error::AttachmentTooLong)
        ));
        let mut short = open();
        short.write(&[0; 9]).unwrap();
        assert!(!short.finish().unwrap());
    }

    #[test]
    fn a_file_that_was_shortened_or_changed_on_the_disk_is_lost() {
        let store = tempfile::tempdir().unwrap();
        let directory = Directory::of(store.path());
        let plain = vec![9; 2 * CHUNK];
        let (key, name) = (FileKey::generate().unwrap(), directory.create().unwrap());
        fill(&directory, &key, &name, &plain, plain.len());
        let path = directory.path(&name);
        let last = || {
            Content::open(&path, key.cipher().unwrap(), plain.len() as u64)
                .unwrap()
                .chunk(1)
        };
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..SEALED]).unwrap();
        assert!(matches!(last(), Err(Error::AttachmentLost)));
        let first_twice = [&whole[..SEALED], &whole[..SEALED]].concat();
        std::fs::write(&path, first_twice).unwrap();
        assert!(matches!(last(), Err(Error::AttachmentLost)));
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(
            Content::open(&path, key.cipher().unwrap(), 1),
            Err(Error::AttachmentLost)
        ));
    }

    #[test]
    fn what_no_row_names_is_swept_and_nothing_else() {
        let store = tempfile::tempdir().unwrap();
        let directory = Directory::of(store.path());
        let (kept, orphan) = (directory.create().unwrap(), directory.create().unwrap());
        assert_eq!(directory.sweep(&HashSet::from([kept])).unwrap(), 1);
        assert!(directory.path(&kept).exists() && !directory.path(&orphan).exists());
        directory.remove(&[kept, orphan]).unwrap();
        assert!(!directory.path(&kept).exists());
    }
}
