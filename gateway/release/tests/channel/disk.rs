//! A disk that forgets what was not synchronised when the power is cut, in every way a file system may.

use std::collections::BTreeMap;
use std::io;
use std::sync::Mutex;

use gateway_tuf::Disk;

/// What becomes of content and names that were written and not synchronised.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Loss {
    /// Names as they were at the last synchronisation, or as they were written.
    pub(crate) names_kept: bool,
    /// Of content: none of it, half of it, all of it.
    pub(crate) content_halves: usize,
}

impl Loss {
    pub(crate) const EVERY: [Self; 6] = [
        Self {
            names_kept: false,
            content_halves: 0,
        },
        Self {
            names_kept: false,
            content_halves: 1,
        },
        Self {
            names_kept: false,
            content_halves: 2,
        },
        Self {
            names_kept: true,
            content_halves: 0,
        },
        Self {
            names_kept: true,
            content_halves: 1,
        },
        Self {
            names_kept: true,
            content_halves: 2,
        },
    ];
}

#[derive(Clone, Debug, Default)]
struct State {
    files: Vec<File>,
    names: BTreeMap<String, usize>,
    names_on_disk: BTreeMap<String, usize>,
    /// Operations until the power is cut.
    left: Option<u64>,
    done: u64,
}

#[derive(Clone, Debug)]
struct File {
    content: Vec<u8>,
    synced: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct FailingDisk {
    state: Mutex<State>,
}

impl FailingDisk {
    /// The power goes before operation `left` + 1.
    pub(crate) fn cut_after(&self, left: u64) {
        let mut state = self.state.lock().unwrap();
        state.left = Some(left);
        state.done = 0;
    }

    /// Operations since [`Self::cut_after`].
    pub(crate) fn done(&self) -> u64 {
        self.state.lock().unwrap().done
    }

    /// The disk as it is found when the power is back.
    pub(crate) fn after(&self, loss: Loss) -> Self {
        let mut state = self.state.lock().unwrap().clone();
        if !loss.names_kept {
            state.names = state.names_on_disk.clone();
        }
        state.names_on_disk = state.names.clone();
        for file in &mut state.files {
            if !file.synced {
                let kept = file.content.len() * loss.content_halves / 2;
                file.content.truncate(kept);
                file.synced = true;
            }
        }
        state.left = None;
        Self {
            state: Mutex::new(state),
        }
    }

    /// Writes whatever is wanted under a name, as a fault of the disk would.
    pub(crate) fn damage(&self, name: &str, content: &[u8]) {
        let mut state = self.state.lock().unwrap();
        let id = state.names[name];
        state.files[id].content = content.to_vec();
    }

    fn step<T>(&self, step: impl FnOnce(&mut State) -> T) -> io::Result<T> {
        let mut state = self.state.lock().unwrap();
        if let Some(left) = &mut state.left {
            *left = left
                .checked_sub(1)
                .ok_or_else(|| io::Error::other("no power"))?;
        }
        state.done += 1;
        Ok(step(&mut state))
    }
}

impl Disk for FailingDisk {
    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let state = self.state.lock().unwrap();
        if state.left == Some(0) {
            return Err(io::Error::other("no power"));
        }
        let id = state.names.get(name);
        Ok(id.map(|id| state.files[*id].content.clone()))
    }

    fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.step(|state| {
            let id = state.names.get(name).copied().unwrap_or_else(|| {
                state.files.push(File {
                    content: Vec::new(),
                    synced: false,
                });
                state.names.insert(name.to_owned(), state.files.len() - 1);
                state.files.len() - 1
            });
            state.files[id].content = bytes.to_vec();
            state.files[id].synced = false;
        })
    }

    fn sync(&self, name: &str) -> io::Result<()> {
        self.step(|state| {
            let id = state.names[name];
            state.files[id].synced = true;
        })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.step(|state| {
            let id = state.names.remove(from).unwrap();
            state.names.insert(to.to_owned(), id);
        })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.step(|state| {
            state.names.remove(name);
        })
    }

    fn sync_names(&self) -> io::Result<()> {
        self.step(|state| state.names_on_disk = state.names.clone())
    }
}
