//! Incidents that the city does not have yet, on the disk, so that one found just before the power went is told after it.
//!
//! Each has a key of its own, made once: told twice, it is one incident at the city. Holds no name, no file name, no address.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use gateway_audit::{Digest, Direction, Incident, Signature};
use gateway_policy::Timestamp;
use gateway_provisioning::durable;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::certificates::chain;

/// The file below the box's state.
const FILE: &str = "incidents.json";
/// Incidents that wait. Beyond, the city sees them in the log only; the first ones say what began.
const MOST: usize = 256;

/// Something that the city is told of at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Told {
    pub(crate) what: Incident,
    pub(crate) at: Timestamp,
    /// Digest of what it is about.
    pub(crate) digest: Option<[u8; 32]>,
    /// What the antivirus calls what it found.
    pub(crate) signature: Option<Signature>,
    /// Which way it was going.
    pub(crate) direction: Option<Direction>,
}

/// One that waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Waiting {
    /// The idempotency key, 32 hexadecimal digits.
    pub(crate) key: String,
    /// The word in the interface.
    pub(crate) kind: String,
    /// When, Unix seconds.
    pub(crate) at: i64,
    /// SHA-256 of what it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) evidence: Option<String>,
    /// What the antivirus calls what it found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) signature: Option<String>,
    /// `upload` or `download`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) direction: Option<String>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Incidents {
    path: PathBuf,
    waiting: Mutex<Vec<Waiting>>,
    news: Notify,
}

impl Incidents {
    /// Those that an earlier run has left. A file that cannot be read is put aside: what is in it stands in the log too.
    pub(crate) fn open(state_dir: &Path) -> Self {
        let path = state_dir.join(FILE);
        let waiting = match durable::read(&path) {
            Ok(None) => Vec::new(),
            Ok(Some(bytes)) => serde_json::from_slice(&bytes).unwrap_or_else(|_| {
                tracing::error!(event = "status-report", file = %path.display(), "incidents that waited for the city cannot be read; they are in the log");
                let _ = std::fs::rename(&path, path.with_extension("unreadable"));
                Vec::new()
            }),
            Err(error) => {
                tracing::error!(event = "status-report", file = %path.display(), error = %chain(&error), "incidents that waited for the city cannot be read; they are in the log");
                Vec::new()
            }
        };
        Self {
            path,
            waiting: Mutex::new(waiting),
            news: Notify::new(),
        }
    }

    /// Takes one in and keeps it. Blocks on the disk; one that cannot be kept there is told all the same, while this runs.
    pub(crate) fn add(&self, told: &Told) {
        let mut waiting = self.lock();
        if waiting.len() >= MOST {
            tracing::error!(
                event = "status-report",
                what = ?told.what,
                "too many incidents wait for the city; it sees this one in the log only"
            );
            return;
        }
        waiting.push(Waiting {
            key: key(),
            kind: word(told.what).to_owned(),
            at: told.at.0,
            evidence: told.digest.map(|digest| Digest(digest).to_string()),
            signature: told.signature.map(|name| name.as_str().to_owned()),
            direction: told.direction.map(|direction| {
                match direction {
                    Direction::Upload => "upload",
                    Direction::Download => "download",
                }
                .to_owned()
            }),
        });
        self.keep(&waiting);
        drop(waiting);
        self.news.notify_one();
    }

    /// The one that has waited longest; waits until there is one. It stays until [`Incidents::has_arrived`].
    pub(crate) async fn next(&self) -> Waiting {
        loop {
            if let Some(first) = self.lock().first().cloned() {
                return first;
            }
            self.news.notified().await;
        }
    }

    /// The city has it. Blocks on the disk.
    pub(crate) fn has_arrived(&self, key: &str) {
        let mut waiting = self.lock();
        waiting.retain(|one| one.key != key);
        self.keep(&waiting);
    }

    fn keep(&self, waiting: &[Waiting]) {
        let written = serde_json::to_vec(waiting)
            .map_err(std::io::Error::other)
            .and_then(|bytes| durable::write(&self.path, &bytes));
        if let Err(error) = written {
            tracing::error!(event = "status-report", error = %chain(&error), "incidents that wait for the city cannot be kept; a restart forgets them here, not in the log");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Random; without randomness one that is made of the moment, which tells two incidents apart just as well.
fn key() -> String {
    let mut bytes = [0; 16];
    if aws_lc_rs::rand::fill(&mut bytes).is_err() {
        let nanos = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default();
        bytes = nanos.as_nanos().to_be_bytes();
    }
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

const fn word(what: Incident) -> &'static str {
    match what {
        Incident::Malware => "malware",
        Incident::Tampering => "tampering",
        Incident::LostDevice => "lost-device",
        Incident::Misuse => "misuse",
        Incident::Other => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn malware() -> Told {
        Told {
            what: Incident::Malware,
            at: Timestamp(1_795_000_000),
            digest: Some([0xab; 32]),
            signature: Signature::of("Eicar-Test-Signature"),
            direction: Some(Direction::Upload),
        }
    }

    #[tokio::test]
    async fn an_incident_outlives_a_restart_with_the_same_key_and_goes_when_the_city_has_it() {
        let home = tempfile::tempdir().unwrap();
        let incidents = Incidents::open(home.path());
        incidents.add(&malware());
        incidents.add(&malware());
        let first = incidents.next().await;
        drop(incidents);
        let incidents = Incidents::open(home.path());
        assert_eq!(incidents.next().await, first);
        incidents.has_arrived(&first.key);
        let second = incidents.next().await;
        assert_ne!(second.key, first.key, "two incidents are not one");
        assert_eq!(second.signature.as_deref(), Some("Eicar-Test-Signature"));
        incidents.has_arrived(&second.key);
        drop(incidents);
        assert!(Incidents::open(home.path()).lock().is_empty());
    }

    #[tokio::test]
    async fn a_disk_that_refuses_does_not_keep_an_incident_from_being_told() {
        let home = tempfile::tempdir().unwrap();
        let incidents = Incidents::open(&home.path().join("nowhere"));
        incidents.add(&malware());
        assert_eq!(incidents.next().await.kind, "malware");
    }

    #[test]
    fn a_damaged_file_is_put_aside_and_a_flood_is_bounded() {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join(FILE), "[{").unwrap();
        let incidents = Incidents::open(home.path());
        assert!(home.path().join("incidents.unreadable").exists());
        let mut waiting = incidents.lock();
        let one = Waiting {
            key: String::new(),
            kind: "malware".to_owned(),
            at: 0,
            evidence: None,
            signature: None,
            direction: None,
        };
        waiting.resize(MOST, one);
        drop(waiting);
        incidents.add(&malware());
        assert_eq!(incidents.lock().len(), MOST);
    }
}
