//! Notices when a medium with the city's repository has been put in, by looking for its newest file now and then.
//!
//! It mounts nothing and reads nothing but that file's date: what is on the medium is read by `gateway-tuf`.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often it is looked for.
const LOOK: Duration = Duration::from_secs(5);

/// What tells one state of a medium from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark {
    device: u64,
    inode: u64,
    size: u64,
    seconds: i64,
    nanoseconds: i64,
}

/// A place where a medium may appear.
#[derive(Debug)]
pub(super) struct Watched {
    newest: PathBuf,
    seen: Option<Mark>,
}

impl Watched {
    pub(super) fn new(directory: &Path) -> Self {
        Self {
            newest: directory.join("metadata/timestamp.json"),
            seen: None,
        }
    }

    /// True once for each state: when one is there that was not there before.
    fn is_new(&mut self) -> bool {
        let mark = std::fs::symlink_metadata(&self.newest)
            .ok()
            .filter(std::fs::Metadata::is_file)
            .map(|data| Mark {
                device: data.dev(),
                inode: data.ino(),
                size: data.size(),
                seconds: data.mtime(),
                nanoseconds: data.mtime_nsec(),
            });
        let before = std::mem::replace(&mut self.seen, mark);
        mark.is_some() && mark != before
    }
}

/// Waits until a medium appears; for ever where none is looked for.
pub(super) async fn appears(watched: Option<&mut Watched>) {
    let Some(watched) = watched else {
        return std::future::pending().await;
    };
    while !watched.is_new() {
        tokio::time::sleep(LOOK).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_state_of_a_medium_is_noticed_once() {
        let folder = tempfile::tempdir().unwrap();
        let mut watched = Watched::new(folder.path());
        assert!(!watched.is_new());
        let newest = folder.path().join("metadata/timestamp.json");
        std::fs::create_dir(folder.path().join("metadata")).unwrap();
        std::fs::write(&newest, b"one").unwrap();
        assert!(watched.is_new());
        assert!(!watched.is_new());
        std::fs::write(&newest, b"another").unwrap();
        assert!(watched.is_new());
        // Pulled out and put in again.
        std::fs::remove_file(&newest).unwrap();
        assert!(!watched.is_new());
        std::fs::write(&newest, b"another").unwrap();
        assert!(watched.is_new());
    }
}
