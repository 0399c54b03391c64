//! Two places for a facility key on disk, so that a new key can wait beside the one in use and a power cut never loses
//! either. It keeps key blobs only: certificates and the state of an enrolment belong to provisioning.
//!
//! ```text
//! <dir>/slot-a.pem  <dir>/slot-b.pem   TSS2 PRIVATE KEY files, 0600
//! <dir>/active                         which slot is in use and which is pending; the only truth
//! ```
//!
//! The pointer file is replaced whole (write, fsync, rename, fsync of the directory), after the slot file it names is
//! durable. A slot file that the pointer does not name is rubbish, whatever it contains: it is what a power cut leaves, and
//! the next [`KeySlots::write_pending`] overwrites it.
//!
//! The order of an enrolment or renewal:
//!
//! 1. `write_pending(&vault.generate()?)`: durable *before* the certification request is sent;
//! 2. enrol, check the certificate, try one connection with it, store it under the name of [`KeySlots::pending_slot`];
//! 3. `activate_pending()`: one atomic switch; the old key is deleted after it.
//!
//! After a power cut at any point: `pending()` is the key to go on with, if there is one.

use crate::{KeyBlob, VaultError};
use std::{
    fmt, fs, io,
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// One of the two places.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Slot {
    /// `slot-a.pem`
    A,
    /// `slot-b.pem`
    B,
}

impl Slot {
    /// `a` or `b`, for the names of files that belong to the key, such as its certificate.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::B => "b",
        }
    }

    fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::A, Self::B]
            .into_iter()
            .find(|slot| slot.as_str() == text)
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A failed step on the slots.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SlotError {
    /// The disk refused.
    #[error("cannot {action} {}", path.display())]
    Disk {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// The pointer file is not one this program wrote.
    #[error("{} is damaged", path.display())]
    DamagedPointer {
        /// The pointer file.
        path: PathBuf,
    },
    /// A slot that the pointer names holds no readable key.
    #[error("the key in slot {slot} is damaged")]
    DamagedKey {
        /// Which slot.
        slot: Slot,
        /// What is wrong with it.
        #[source]
        source: VaultError,
    },
    /// There is no pending key to activate.
    #[error("no key is pending")]
    NothingPending,
}

/// What the pointer file says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Pointer {
    active: Option<Slot>,
    pending: Option<Slot>,
}

impl Pointer {
    fn to_text(self) -> String {
        let line = |word: &str, slot: Option<Slot>| {
            slot.map(|slot| format!("{word} {slot}\n"))
                .unwrap_or_default()
        };
        line("active", self.active) + &line("pending", self.pending)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut pointer = Self::default();
        for line in text.lines() {
            let (place, slot) = match line.split_once(' ')? {
                ("active", slot) => (&mut pointer.active, slot),
                ("pending", slot) => (&mut pointer.pending, slot),
                _ => return None,
            };
            if place.replace(Slot::parse(slot)?).is_some() {
                return None;
            }
        }
        // Two roles for one file would make activation delete the key it has just activated.
        (pointer.active.is_none() || pointer.active != pointer.pending).then_some(pointer)
    }
}

/// The two slots of one certificate. One process at a time: the box's state directory is locked by its user.
#[derive(Debug)]
pub struct KeySlots {
    dir: PathBuf,
    disk: Disk,
}

impl KeySlots {
    /// Opens the slots in `dir`, making it (0700) when missing. Changes nothing else.
    ///
    /// # Errors
    ///
    /// [`SlotError::Disk`] or [`SlotError::DamagedPointer`].
    pub fn open(dir: impl Into<PathBuf>) -> Result<Self, SlotError> {
        let slots = Self {
            dir: dir.into(),
            disk: Disk::default(),
        };
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&slots.dir)
            .map_err(|source| SlotError::Disk {
                action: "make",
                path: slots.dir.clone(),
                source,
            })?;
        slots.pointer()?;
        Ok(slots)
    }

    /// The key in use.
    ///
    /// # Errors
    ///
    /// [`SlotError`], among others [`SlotError::DamagedKey`] when the file is there but unreadable.
    pub fn active(&self) -> Result<Option<KeyBlob>, SlotError> {
        self.active_slot()?.map(|slot| self.read(slot)).transpose()
    }

    /// The key that waits for its certificate.
    ///
    /// # Errors
    ///
    /// As [`KeySlots::active`].
    pub fn pending(&self) -> Result<Option<KeyBlob>, SlotError> {
        self.pending_slot()?.map(|slot| self.read(slot)).transpose()
    }

    /// The slot of the key in use.
    ///
    /// # Errors
    ///
    /// [`SlotError::Disk`] or [`SlotError::DamagedPointer`].
    pub fn active_slot(&self) -> Result<Option<Slot>, SlotError> {
        Ok(self.pointer()?.active)
    }

    /// The slot of the pending key.
    ///
    /// # Errors
    ///
    /// [`SlotError::Disk`] or [`SlotError::DamagedPointer`].
    pub fn pending_slot(&self) -> Result<Option<Slot>, SlotError> {
        Ok(self.pointer()?.pending)
    }

    /// Stores a new key beside the one in use, replacing a key that was pending. When this returns, the key is durable.
    ///
    /// # Errors
    ///
    /// [`SlotError`]; the key in use is untouched.
    pub fn write_pending(&self, key: &KeyBlob) -> Result<Slot, SlotError> {
        let pointer = self.pointer()?;
        let slot = pointer.active.map_or(Slot::A, Slot::other);
        self.replace(&self.slot_path(slot), key.to_pem().as_bytes())?;
        self.point(Pointer {
            pending: Some(slot),
            ..pointer
        })?;
        Ok(slot)
    }

    /// Makes the pending key the one in use, then deletes the key that was.
    ///
    /// # Errors
    ///
    /// [`SlotError::NothingPending`], [`SlotError::DamagedKey`] when the pending key cannot be read (nothing is switched
    /// then), or [`SlotError::Disk`].
    pub fn activate_pending(&self) -> Result<Slot, SlotError> {
        let pointer = self.pointer()?;
        let pending = pointer.pending.ok_or(SlotError::NothingPending)?;
        self.read(pending)?;
        self.point(Pointer {
            active: Some(pending),
            pending: None,
        })?;
        // The wrapped key would load in this TPM as long as its blob exists.
        self.remove(&self.slot_path(pending.other()))?;
        Ok(pending)
    }

    /// Gives the pending key up and deletes it. Succeeds when there is none.
    ///
    /// # Errors
    ///
    /// [`SlotError::Disk`] or [`SlotError::DamagedPointer`].
    pub fn discard_pending(&self) -> Result<(), SlotError> {
        let pointer = self.pointer()?;
        let Some(slot) = pointer.pending else {
            return Ok(());
        };
        self.point(Pointer {
            pending: None,
            ..pointer
        })?;
        self.remove(&self.slot_path(slot))
    }

    /// Deletes both keys, for decommissioning; works on damaged slots too. A copy kept elsewhere still loads until the TPM
    /// is cleared ([`crate::KeyVault::clear`]).
    ///
    /// # Errors
    ///
    /// [`SlotError::Disk`]; calling again continues.
    pub fn erase_all(&self) -> Result<(), SlotError> {
        self.remove(&self.pointer_path())?;
        for slot in [Slot::A, Slot::B] {
            self.remove(&self.slot_path(slot))?;
            self.remove(&fresh(&self.slot_path(slot)))?;
        }
        self.remove(&fresh(&self.pointer_path()))
    }

    fn slot_path(&self, slot: Slot) -> PathBuf {
        self.dir.join(format!("slot-{slot}.pem"))
    }

    fn pointer_path(&self) -> PathBuf {
        self.dir.join("active")
    }

    fn pointer(&self) -> Result<Pointer, SlotError> {
        let path = self.pointer_path();
        match fs::read_to_string(&path) {
            Ok(text) => Pointer::parse(&text).ok_or(SlotError::DamagedPointer { path }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Pointer::default()),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                Err(SlotError::DamagedPointer { path })
            }
            Err(source) => Err(SlotError::Disk {
                action: "read",
                path,
                source,
            }),
        }
    }

    fn point(&self, pointer: Pointer) -> Result<(), SlotError> {
        self.replace(&self.pointer_path(), pointer.to_text().as_bytes())
    }

    fn read(&self, slot: Slot) -> Result<KeyBlob, SlotError> {
        let path = self.slot_path(slot);
        let pem = fs::read_to_string(&path).map_err(|source| SlotError::Disk {
            action: "read",
            path: path.clone(),
            source,
        })?;
        KeyBlob::from_pem(&pem).map_err(|source| SlotError::DamagedKey { slot, source })
    }

    fn replace(&self, path: &Path, contents: &[u8]) -> Result<(), SlotError> {
        self.disk
            .replace(&self.dir, path, contents)
            .map_err(|source| SlotError::Disk {
                action: "write",
                path: path.to_owned(),
                source,
            })
    }

    fn remove(&self, path: &Path) -> Result<(), SlotError> {
        self.disk
            .remove(&self.dir, path)
            .map_err(|source| SlotError::Disk {
                action: "delete",
                path: path.to_owned(),
                source,
            })
    }
}

/// The name a file has until it is complete.
fn fresh(path: &Path) -> PathBuf {
    path.with_extension("new")
}

/// The few durable steps; tests cut the power before any of them.
#[derive(Debug, Default)]
struct Disk {
    #[cfg(test)]
    steps_until_cut: std::sync::Mutex<Option<usize>>,
}

impl Disk {
    fn replace(&self, dir: &Path, path: &Path, contents: &[u8]) -> io::Result<()> {
        let fresh = fresh(path);
        self.step()?;
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&fresh)?;
        let (first, rest) = contents.split_at(contents.len() / 2);
        file.write_all(first)?;
        self.step()?;
        file.write_all(rest)?;
        self.step()?;
        file.sync_all()?;
        self.step()?;
        fs::rename(&fresh, path)?;
        self.sync(dir)
    }

    fn remove(&self, dir: &Path, path: &Path) -> io::Result<()> {
        self.step()?;
        match fs::remove_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
            Ok(()) => self.sync(dir),
        }
    }

    fn sync(&self, dir: &Path) -> io::Result<()> {
        self.step()?;
        fs::File::open(dir)?.sync_all()
    }

    #[cfg(not(test))]
    #[allow(
        clippy::unused_self,
        clippy::unnecessary_wraps,
        reason = "the test build counts steps here"
    )]
    fn step(&self) -> io::Result<()> {
        Ok(())
    }

    #[cfg(test)]
    fn step(&self) -> io::Result<()> {
        match self.steps_until_cut.lock().expect("one thread").as_mut() {
            Some(0) => Err(io::Error::other("the power is cut")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key_file::tests::key_with;

    /// Runs `operation` on a copy of the slots with the power cut before each of its steps in turn, until it completes;
    /// `check` sees the slots as the next start finds them, and whether the operation had returned.
    fn cut_everywhere(
        prepare: impl Fn(&KeySlots),
        operation: impl Fn(&KeySlots) -> Result<(), SlotError>,
        check: impl Fn(&KeySlots, bool),
    ) {
        for steps in 0.. {
            let dir = tempfile::tempdir().expect("dir");
            let slots = KeySlots::open(dir.path()).expect("open");
            prepare(&slots);
            *slots.disk.steps_until_cut.lock().expect("one thread") = Some(steps);
            let done = operation(&slots).is_ok();
            check(&KeySlots::open(dir.path()).expect("reopen"), done);
            if done {
                assert!(steps > 4, "the operation has steps to cut");
                return;
            }
        }
    }

    #[test]
    fn a_power_cut_while_writing_a_pending_key_leaves_the_active_key_and_all_or_nothing_of_the_new_one()
     {
        cut_everywhere(
            |slots| {
                slots.write_pending(&key_with(1)).expect("write");
                slots.activate_pending().expect("activate");
            },
            |slots| slots.write_pending(&key_with(2)).map(drop),
            |slots, done| {
                assert_eq!(slots.active().expect("active"), Some(key_with(1)));
                let pending = slots.pending().expect("pending");
                assert!(pending.is_none() && !done || pending == Some(key_with(2)));
            },
        );
    }

    #[test]
    fn a_power_cut_while_replacing_a_pending_key_leaves_the_old_or_the_new_one() {
        cut_everywhere(
            |slots| {
                slots.write_pending(&key_with(1)).expect("write");
            },
            |slots| slots.write_pending(&key_with(2)).map(drop),
            |slots, done| {
                let pending = slots.pending().expect("pending").expect("one of them");
                assert!(pending == key_with(2) || !done && pending == key_with(1));
                assert_eq!(slots.active().expect("active"), None);
            },
        );
    }

    #[test]
    fn a_power_cut_while_activating_leaves_exactly_one_key_active_and_the_new_one_never_lost() {
        cut_everywhere(
            |slots| {
                slots.write_pending(&key_with(1)).expect("write");
                slots.activate_pending().expect("activate");
                slots.write_pending(&key_with(2)).expect("write");
            },
            |slots| slots.activate_pending().map(drop),
            |slots, done| {
                let (active, pending) = (
                    slots.active().expect("active"),
                    slots.pending().expect("pending"),
                );
                let switched = active == Some(key_with(2)) && pending.is_none();
                assert!(
                    switched
                        || !done && active == Some(key_with(1)) && pending == Some(key_with(2))
                );
                // And the next renewal works from either state.
                slots.write_pending(&key_with(3)).expect("write");
                slots.activate_pending().expect("activate");
                assert_eq!(slots.active().expect("active"), Some(key_with(3)));
            },
        );
    }

    #[test]
    fn a_power_cut_while_discarding_leaves_the_active_key() {
        cut_everywhere(
            |slots| {
                slots.write_pending(&key_with(1)).expect("write");
                slots.activate_pending().expect("activate");
                slots.write_pending(&key_with(2)).expect("write");
            },
            KeySlots::discard_pending,
            |slots, done| {
                assert_eq!(slots.active().expect("active"), Some(key_with(1)));
                let pending = slots.pending().expect("pending");
                assert!(pending.is_none() || !done && pending == Some(key_with(2)));
            },
        );
    }

    #[test]
    fn erasing_cut_anywhere_can_be_finished_and_leaves_no_file() {
        cut_everywhere(
            |slots| {
                slots.write_pending(&key_with(1)).expect("write");
                slots.activate_pending().expect("activate");
                slots.write_pending(&key_with(2)).expect("write");
            },
            KeySlots::erase_all,
            |slots, _| {
                slots.erase_all().expect("finish");
                assert_eq!(fs::read_dir(&slots.dir).expect("dir").count(), 0);
                assert_eq!(slots.active().expect("active"), None);
            },
        );
    }

    #[test]
    fn activation_deletes_the_key_that_was_in_use_and_refuses_a_damaged_one() {
        let dir = tempfile::tempdir().expect("dir");
        let slots = KeySlots::open(dir.path()).expect("open");
        assert!(matches!(
            slots.activate_pending(),
            Err(SlotError::NothingPending)
        ));
        assert_eq!(slots.write_pending(&key_with(1)).expect("write"), Slot::A);
        slots.activate_pending().expect("activate");
        assert_eq!(slots.write_pending(&key_with(2)).expect("write"), Slot::B);
        fs::write(slots.slot_path(Slot::B), "damaged").expect("damage");
        assert!(matches!(
            slots.activate_pending(),
            Err(SlotError::DamagedKey { slot: Slot::B, .. })
        ));
        assert_eq!(slots.active().expect("active"), Some(key_with(1)));
        slots.write_pending(&key_with(2)).expect("write again");
        slots.activate_pending().expect("activate");
        assert!(!slots.slot_path(Slot::A).exists());
    }

    #[test]
    fn a_damaged_pointer_is_refused_and_can_be_erased() {
        for damage in [
            "active c\n",
            "active a\nactive b\n",
            "active a\npending a\n",
            "nonsense\n",
            "active  a\n",
        ] {
            let dir = tempfile::tempdir().expect("dir");
            let slots = KeySlots::open(dir.path()).expect("open");
            fs::write(slots.pointer_path(), damage).expect("damage");
            assert!(
                matches!(
                    KeySlots::open(dir.path()),
                    Err(SlotError::DamagedPointer { .. })
                ),
                "{damage:?}"
            );
            slots.erase_all().expect("erase");
            KeySlots::open(dir.path()).expect("open again");
        }
    }
}
