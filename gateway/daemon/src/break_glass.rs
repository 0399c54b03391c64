//! Break-glass at the box: the manager's PIN, the code in the office safe, and who may not try any more. What an emergency
//! lowers, how long and how often is the policy's; it is kept with the deadlines of the checks.
//!
//! The file holds no PIN and no code: of the PIN an Argon2id hash, of the code (100 random bits) its SHA-256. Each attempt is
//! counted on the disk before it is looked at, so that cutting the power does not give another one.

mod notice;
mod secret;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use gateway_policy::{DeviceId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::certificates::chain;
pub(crate) use notice::Notices;
pub(crate) use secret::{Code, Pin, PinFault};
use secret::{PinHash, SealedCode};

/// The file below the box's state.
const FILE: &str = "break-glass.json";
/// Wrong attempts after which a pause is due.
const ATTEMPTS: u32 = 5;
/// The first pause, in seconds; each further one is twice as long, up to a day.
const PAUSE: i64 = 15 * 60;
const LONGEST_PAUSE: i64 = 86_400;
/// Remarks that are kept; as many as the policy keeps emergencies.
const REMARKS: usize = 32;

/// See the module.
#[derive(Debug)]
pub(crate) struct BreakGlassFile {
    path: PathBuf,
    kept: Mutex<Kept>,
}

/// What is in the file.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    pin: Option<PinHash>,
    sealed: Option<SealedCode>,
    /// Wrong attempts since the last right one.
    wrong: u32,
    /// No attempt before this moment.
    #[serde(default)]
    locked_until: i64,
    /// What belongs to an emergency beside the policy's record, by its number.
    remarks: BTreeMap<u64, Remark>,
}

/// Who opened an emergency, and what was written about it afterwards.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Remark {
    /// The user id at the city, if somebody was signed in.
    pub(crate) user: Option<String>,
    /// The device's pseudonym, if it is a registered one.
    pub(crate) device: Option<String>,
    /// The review.
    pub(crate) review: Option<String>,
}

/// What opens it.
#[derive(Debug)]
pub(crate) enum Tried {
    /// The manager's PIN.
    Pin(Pin),
    /// The code from the safe.
    Code(Code),
}

/// Why an attempt opens nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    /// It is wrong; so many attempts are left before a pause.
    #[error("the PIN or code is wrong")]
    Wrong {
        /// How many.
        left: u32,
    },
    /// Too many were wrong.
    #[error("no attempt is taken for now")]
    Locked,
    /// There is no PIN, or no code.
    #[error("none is set")]
    NotSet,
    /// The disk refuses, so that attempts could not be counted.
    #[error("the attempt cannot be counted")]
    Disk(#[source] std::io::Error),
    /// No randomness, or no memory for the hash.
    #[error("the PIN cannot be hashed")]
    Hash,
}

/// How it stands, for the pages.
#[derive(Clone, Debug, Default)]
pub(crate) struct Standing {
    /// A PIN is set.
    pub(crate) pin_set: bool,
    /// When the code in the safe was made.
    pub(crate) sealed: Option<Timestamp>,
    /// No attempt before this moment.
    pub(crate) locked_until: Option<Timestamp>,
    /// By the emergency's number.
    pub(crate) remarks: BTreeMap<u64, Remark>,
}

impl BreakGlassFile {
    /// Reads the file. One that cannot be read opens nothing: then there is no PIN and no code until they are set anew.
    #[must_use]
    pub(crate) fn open(state_dir: &std::path::Path) -> Self {
        let path = state_dir.join(FILE);
        let kept = match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|_| {
                tracing::error!(event = "break-glass", file = %path.display(), "the file is damaged; PIN and code must be set anew");
                Kept::default()
            }),
            Err(error) => {
                if error.kind() != std::io::ErrorKind::NotFound {
                    tracing::error!(event = "break-glass", file = %path.display(), %error, "the file cannot be read");
                }
                Kept::default()
            }
        };
        Self {
            path,
            kept: Mutex::new(kept),
        }
    }

    /// How it stands.
    #[must_use]
    pub(crate) fn standing(&self) -> Standing {
        let kept = self.lock();
        Standing {
            pin_set: kept.pin.is_some(),
            sealed: kept.sealed.as_ref().map(SealedCode::made),
            locked_until: (kept.locked_until > 0).then_some(Timestamp(kept.locked_until)),
            remarks: kept.remarks.clone(),
        }
    }

    /// Sets a PIN. The attempts are free again: whoever may set it has signed in at the city.
    ///
    /// # Errors
    /// [`Refused::Disk`] and [`Refused::Hash`]; then the old one stays.
    pub(crate) fn set_pin(&self, pin: &Pin) -> Result<(), Refused> {
        let hash = PinHash::of(pin).ok_or(Refused::Hash)?;
        self.change(|kept| {
            kept.pin = Some(hash);
            kept.wrong = 0;
            kept.locked_until = 0;
        })
    }

    /// Makes a code in place of the old one.
    ///
    /// # Errors
    /// [`Refused::Disk`] and [`Refused::Hash`]; then the old one stays.
    pub(crate) fn make_code(&self, now: Timestamp) -> Result<Code, Refused> {
        let code = Code::random().ok_or(Refused::Hash)?;
        self.change(|kept| kept.sealed = Some(SealedCode::of(&code, now)))?;
        Ok(code)
    }

    /// Whether what was typed is right. Takes a tenth of a second and 64 MiB: not for a thread that others wait for.
    ///
    /// # Errors
    /// [`Refused`] says why it is not taken.
    pub(crate) fn prove(&self, tried: &Tried, now: Timestamp) -> Result<(), Refused> {
        // One at a time: attempts side by side would not be counted against each other.
        let mut kept = self.lock();
        if kept.locked_until > now.0 {
            return Err(Refused::Locked);
        }
        if match tried {
            Tried::Pin(_) => kept.pin.is_none(),
            Tried::Code(_) => kept.sealed.is_none(),
        } {
            return Err(Refused::NotSet);
        }
        let mut counted = kept.clone();
        counted.wrong = counted.wrong.saturating_add(1);
        if counted.wrong.is_multiple_of(ATTEMPTS) {
            counted.locked_until = now.plus(pause(counted.wrong)).0;
        }
        self.write(&counted).map_err(Refused::Disk)?;
        let right = match tried {
            Tried::Pin(pin) => kept.pin.as_ref().is_some_and(|hash| hash.matches(pin)),
            Tried::Code(code) => kept
                .sealed
                .as_ref()
                .is_some_and(|sealed| sealed.matches(code)),
        };
        if !right {
            let left = ATTEMPTS - counted.wrong % ATTEMPTS;
            let locked = counted.locked_until > now.0;
            *kept = counted;
            return Err(if locked {
                Refused::Locked
            } else {
                Refused::Wrong { left }
            });
        }
        counted.wrong = 0;
        counted.locked_until = 0;
        self.write(&counted).map_err(Refused::Disk)?;
        *kept = counted;
        Ok(())
    }

    /// An emergency was declared: who did it is kept, and a code that was used is forgotten.
    pub(crate) fn opened(
        &self,
        number: u64,
        by_code: bool,
        user: Option<String>,
        device: Option<DeviceId>,
    ) {
        let noted = self.change(|kept| {
            if by_code {
                kept.sealed = None;
            }
            let remark = Remark {
                user,
                device: device.map(|id| id.to_string()),
                review: None,
            };
            kept.remarks.insert(number, remark);
            while kept.remarks.len() > REMARKS {
                kept.remarks.pop_first();
            }
        });
        if let Err(error) = noted {
            // The policy's record has it; what is missing is by whom.
            tracing::error!(event = "break-glass", error = %chain(&error), "who declared the emergency could not be kept");
        }
    }

    /// Keeps what was written about an emergency.
    ///
    /// # Errors
    /// [`Refused::Disk`].
    pub(crate) fn reviewed(&self, number: u64, text: String) -> Result<(), Refused> {
        self.change(|kept| kept.remarks.entry(number).or_default().review = Some(text))
    }

    fn change(&self, edit: impl FnOnce(&mut Kept)) -> Result<(), Refused> {
        let mut kept = self.lock();
        let mut next = kept.clone();
        edit(&mut next);
        self.write(&next).map_err(Refused::Disk)?;
        *kept = next;
        Ok(())
    }

    /// Whole or not at all: a new file, on the disk, in the old one's place.
    fn write(&self, kept: &Kept) -> std::io::Result<()> {
        use std::io::Write as _;
        use std::os::unix::fs::OpenOptionsExt as _;
        let bytes = serde_json::to_vec(kept).map_err(std::io::Error::other)?;
        let temporary = self.path.with_extension("new");
        let mut file = std::fs::File::options()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(&temporary)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        std::fs::rename(&temporary, &self.path)?;
        match self.path.parent() {
            Some(directory) => std::fs::File::open(directory)?.sync_all(),
            None => Ok(()),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Kept> {
        // Replaced as a whole after it was written, so a panic elsewhere leaves nothing half done.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long nobody may try after so many wrong attempts, in seconds.
fn pause(wrong: u32) -> i64 {
    let doublings = (wrong / ATTEMPTS).saturating_sub(1).min(8);
    (PAUSE << doublings).min(LONGEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_800_000_000);

    fn pin(text: &str) -> Tried {
        Tried::Pin(Pin::parse(text).unwrap())
    }

    fn opened() -> (tempfile::TempDir, BreakGlassFile) {
        let directory = tempfile::tempdir().unwrap();
        let file = BreakGlassFile::open(directory.path());
        file.set_pin(&Pin::parse("482915").unwrap()).unwrap();
        (directory, file)
    }

    #[test]
    fn the_right_pin_opens_and_is_nowhere_on_the_disk() {
        let (directory, file) = opened();
        assert!(file.prove(&pin("482915"), NOW).is_ok());
        let bytes = std::fs::read(directory.path().join(FILE)).unwrap();
        assert!(!String::from_utf8(bytes).unwrap().contains("482915"));
        // Full-width digits are what a Japanese input method leaves.
        assert!(file.prove(&pin("４８２９１５"), NOW).is_ok());
    }

    #[test]
    fn five_wrong_ones_close_it_for_a_quarter_of_an_hour_and_a_restart_does_not_open_it() {
        let (directory, file) = opened();
        for left in [4, 3, 2, 1] {
            let refused = file.prove(&pin("482916"), NOW);
            assert!(matches!(refused, Err(Refused::Wrong { left: l }) if l == left));
        }
        assert!(matches!(
            file.prove(&pin("482916"), NOW),
            Err(Refused::Locked)
        ));
        let file = BreakGlassFile::open(directory.path());
        let soon = NOW.plus(PAUSE - 1);
        assert!(matches!(
            file.prove(&pin("482915"), soon),
            Err(Refused::Locked)
        ));
        assert!(file.prove(&pin("482915"), NOW.plus(PAUSE)).is_ok());
    }

    #[test]
    fn pauses_grow_up_to_a_day() {
        assert_eq!(pause(5), 900);
        assert_eq!(pause(10), 1800);
        assert_eq!(pause(100), 86_400);
        assert_eq!(pause(u32::MAX), 86_400);
    }

    #[test]
    fn an_attempt_counts_before_it_is_looked_at() {
        let (directory, file) = opened();
        // The power is cut while the PIN is hashed: what is on the disk then has counted it.
        std::fs::remove_dir_all(directory.path()).unwrap();
        assert!(matches!(
            file.prove(&pin("482915"), NOW),
            Err(Refused::Disk(_))
        ));
    }

    #[test]
    fn the_code_from_the_safe_serves_once_and_a_new_one_ends_the_old_one() {
        let (directory, file) = opened();
        let first = file.make_code(NOW).unwrap();
        let second = file.make_code(NOW).unwrap();
        let typed = |code: &Code| Tried::Code(Code::parse(&code.shown().to_lowercase()).unwrap());
        assert!(file.prove(&typed(&first), NOW).is_err());
        assert!(file.prove(&typed(&second), NOW).is_ok());
        file.opened(1, true, None, None);
        assert!(matches!(
            file.prove(&typed(&second), NOW),
            Err(Refused::NotSet)
        ));
        let bytes = std::fs::read(directory.path().join(FILE)).unwrap();
        assert!(!String::from_utf8(bytes).unwrap().contains(&*second.shown()));
    }

    #[test]
    fn a_damaged_file_opens_nothing() {
        let (directory, _) = opened();
        std::fs::write(directory.path().join(FILE), b"{").unwrap();
        let file = BreakGlassFile::open(directory.path());
        assert!(matches!(
            file.prove(&pin("482915"), NOW),
            Err(Refused::NotSet)
        ));
    }
}
