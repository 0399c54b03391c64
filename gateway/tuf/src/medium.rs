//! A medium that was carried in by hand: the same signed repository, as a directory.
//!
//! It mounts nothing. What is on it may have been made by anybody, so that only plain files below the directory are opened:
//! no symbolic link on the way, no device, no pipe.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::{Mode, SFlag, fstat};

use crate::names::{check_metadata_name, check_target_name};
use crate::transport::{Body, Fetching, Pieces, Transport, TransportError};

/// Bytes read at a time.
const PIECE: usize = 256 * 1024;

/// A repository in a directory: `metadata/` and `targets/` as `gateway-release` writes them.
#[derive(Debug)]
pub struct Medium {
    directory: PathBuf,
}

impl Medium {
    /// The repository below `directory`, which is looked at only when something is fetched.
    #[must_use]
    pub fn new(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
        }
    }

    fn body(
        &self,
        kind: &'static str,
        name: &str,
        from: u64,
    ) -> Result<Option<Body>, TransportError> {
        let Some(mut file) = self.open(kind, name)? else {
            return Ok(None);
        };
        file.seek(SeekFrom::Start(from))
            .map_err(TransportError::Medium)?;
        let total = file.metadata().map_err(TransportError::Medium)?.len();
        Ok(Some(Body {
            starts_at: from,
            total: Some(total),
            pieces: Box::new(FilePieces { file: Some(file) }),
        }))
    }

    /// Walks to the file segment by segment, so that no segment can be a symbolic link.
    fn open(&self, kind: &str, name: &str) -> Result<Option<File>, TransportError> {
        let not_plain = || TransportError::Unsafe(format!("{kind}/{name}"));
        let folder = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let mut at: OwnedFd = open(&self.directory, folder, Mode::empty())
            .map_err(|errno| TransportError::Medium(errno.into()))?;
        let path = format!("{kind}/{name}");
        let mut segments = path.split('/').peekable();
        while let Some(segment) = segments.next() {
            let flags = if segments.peek().is_some() {
                folder | OFlag::O_NOFOLLOW
            } else {
                // A pipe must not make the reader wait.
                OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC
            };
            at = match openat(&at, segment, flags, Mode::empty()) {
                Ok(opened) => opened,
                Err(Errno::ENOENT) => return Ok(None),
                Err(Errno::ELOOP | Errno::ENOTDIR | Errno::EMLINK | Errno::ENXIO) => {
                    return Err(not_plain());
                }
                Err(errno) => return Err(TransportError::Medium(errno.into())),
            };
        }
        let kind_of_file = fstat(&at)
            .map_err(|errno| TransportError::Medium(errno.into()))?
            .st_mode;
        if SFlag::from_bits_truncate(kind_of_file) & SFlag::S_IFMT != SFlag::S_IFREG {
            return Err(not_plain());
        }
        Ok(Some(File::from(at)))
    }
}

impl Transport for Medium {
    fn metadata<'a>(&'a self, name: &'a str) -> Fetching<'a, Option<Body>> {
        Box::pin(async move {
            check_metadata_name(name).map_err(|_| TransportError::Unsafe(name.to_owned()))?;
            self.body("metadata", name, 0)
        })
    }

    fn target<'a>(&'a self, path: &'a str, from: u64) -> Fetching<'a, Option<Body>> {
        Box::pin(async move {
            check_target_name(path).map_err(|_| TransportError::Unsafe(path.to_owned()))?;
            self.body("targets", path, from)
        })
    }
}

struct FilePieces {
    /// Away while a thread reads from it.
    file: Option<File>,
}

impl Pieces for FilePieces {
    fn next(&mut self) -> Fetching<'_, Option<Bytes>> {
        let file = self.file.take();
        Box::pin(async move {
            let Some(mut file) = file else {
                return Ok(None);
            };
            // A stick that is being pulled out can make a read hang; not on a thread that serves others.
            let read = tokio::task::spawn_blocking(move || {
                let mut piece = vec![0; PIECE];
                let count = file.read(&mut piece)?;
                piece.truncate(count);
                Ok::<_, io::Error>((file, piece))
            });
            let (file, piece) = read
                .await
                .map_err(io::Error::other)
                .and_then(std::convert::identity)
                .map_err(TransportError::Medium)?;
            if piece.is_empty() {
                return Ok(None);
            }
            self.file = Some(file);
            Ok(Some(Bytes::from(piece)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn opened(medium: &Medium, name: &str) -> Result<Option<Vec<u8>>, TransportError> {
        let Some(mut body) = medium.target(name, 0).await? else {
            return Ok(None);
        };
        let mut out = Vec::new();
        while let Some(piece) = body.pieces.next().await? {
            out.extend_from_slice(&piece);
        }
        Ok(Some(out))
    }

    #[tokio::test]
    async fn only_plain_files_below_the_directory_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let targets = folder.path().join("stick/targets");
        std::fs::create_dir_all(targets.join("policy")).unwrap();
        std::fs::write(targets.join("policy/a.json"), b"inside").unwrap();
        std::fs::write(folder.path().join("secret"), b"outside").unwrap();
        std::os::unix::fs::symlink(folder.path().join("secret"), targets.join("policy/link"))
            .unwrap();
        std::os::unix::fs::symlink(folder.path(), targets.join("up")).unwrap();
        nix::unistd::mkfifo(&targets.join("pipe"), Mode::S_IRWXU).unwrap();
        let medium = Medium::new(&folder.path().join("stick"));

        let inside = opened(&medium, "policy/a.json").await.unwrap();
        assert_eq!(inside.unwrap(), b"inside");
        assert!(opened(&medium, "policy/none").await.unwrap().is_none());
        for name in ["policy/link", "up/secret", "pipe", "policy", "../secret"] {
            let answer = opened(&medium, name).await;
            assert!(matches!(answer, Err(TransportError::Unsafe(_))), "{name}");
        }
    }

    #[tokio::test]
    async fn a_file_is_read_from_where_an_earlier_attempt_ended() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("targets")).unwrap();
        std::fs::write(folder.path().join("targets/a"), b"0123456789").unwrap();
        let medium = Medium::new(folder.path());
        let mut body = medium.target("a", 7).await.unwrap().unwrap();
        assert_eq!(body.starts_at, 7);
        assert_eq!(body.pieces.next().await.unwrap().unwrap().as_ref(), b"789");
    }
}
