//! Feeds the audit log, has its checkpoints signed by the TPM, verifies its files now and then, and puts the check LOG on the
//! evidence board.
//!
//! The log itself is the audit crate's, the signature the TPM's; [`crate::reporting`] carries checkpoints to the city.

mod incidents;
mod key;
pub(crate) mod loosening;
mod witness;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use gateway_audit::{
    AuditSink, Checkpoint, Content, Digest, Direction, Event, Finding, Id, Incident, Settings,
    Signature, SignedCheckpoint, Status, Version,
};
use gateway_policy::{Check, Missing, Observation, Observed, Source, Subject, Timestamp};
use gateway_proxy::{StopReason, StoppedBody};
use gateway_tpm::{CheckpointVault, VaultError};
use tokio::sync::{mpsc, watch};

use crate::certificates::{Certificates, chain};
use crate::late_vault::LateVault;
use crate::posture::{self, Posture};
pub(crate) use incidents::{Incidents, Told, Waiting};
use key::KeyFile;
pub(crate) use witness::witness;

/// Checkpoints follow critical entries at this distance at the least, so that a burst costs one signature.
const TOGETHER: Duration = Duration::from_secs(1);
/// And this one at the most, when nothing critical happens.
const HOURLY: Duration = Duration::from_secs(3600);
/// How often a TPM that does not sign is asked again.
const RETRY: Duration = Duration::from_secs(15);
/// How often LOG is put on the board without a change.
const OBSERVED: Duration = Duration::from_secs(60);
/// How long the last checkpoint may take when the box stops.
const LAST: Duration = Duration::from_secs(3);

/// How long an infected file may stay so that it is written down first.
const WRITTEN: Duration = Duration::from_secs(5);

/// Incidents on their way to the disk.
const INCIDENTS: usize = 64;

/// A checkpoint that the city may be shown, with the key it is checked with.
#[derive(Clone, Debug)]
pub(crate) struct Newest {
    pub(crate) signed: SignedCheckpoint,
    pub(crate) sequence: u64,
    pub(crate) facility: String,
    pub(crate) key: Vec<u8>,
    /// How many critical entries since the start it covers: the city hears soon of one that covers more than the last it was
    /// told.
    pub(crate) critical: u64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Audit {
    /// The handle for everybody who has something to log.
    pub(crate) sink: AuditSink,
    pub(crate) status: watch::Receiver<Option<Status>>,
    /// Since when the city refuses the checkpoints.
    refused: watch::Sender<Option<Timestamp>>,
    newest: watch::Sender<Option<Newest>>,
    incidents: mpsc::Sender<Told>,
    boot: Id,
    key: Mutex<KeyFile>,
    verify: Duration,
}

impl Audit {
    /// Opens the log below `state_dir`; a disk that refuses is tried again, and said. Also returns the incidents to be kept.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(crate) fn open(
        state_dir: &Path,
        settings: Settings,
        verify: Duration,
    ) -> std::io::Result<(Arc<Self>, mpsc::Receiver<Told>)> {
        let (sink, status) =
            gateway_audit::start(state_dir.join("audit"), settings, Arc::new(posture::now))?;
        let (incidents, told) = mpsc::channel(INCIDENTS);
        let boot = boot_id();
        sink.record(Event::Started {
            version: Version::parse(env!("CARGO_PKG_VERSION")).unwrap_or(Version(0, 0, 0)),
            boot,
        });
        let audit = Self {
            sink,
            status,
            refused: watch::Sender::new(None),
            newest: watch::Sender::new(None),
            incidents,
            boot,
            key: Mutex::new(KeyFile::new(state_dir)),
            verify,
        };
        Ok((Arc::new(audit), told))
    }

    /// The newest checkpoint, as it changes.
    pub(crate) fn newest(&self) -> watch::Receiver<Option<Newest>> {
        self.newest.subscribe()
    }

    /// The city did not accept a checkpoint, or has accepted one again.
    pub(crate) fn refused(&self, refused: bool, sequence: u64, reason: &str) {
        let changed = self.refused.send_if_modified(|since| {
            let changed = since.is_some() != refused;
            if changed {
                *since = refused.then(posture::now);
            }
            changed
        });
        if changed && refused {
            tracing::error!(
                event = "audit-refused",
                check = "LOG",
                sequence,
                reason,
                "the city does not accept the audit log: it knows another"
            );
            self.sink.record(Event::Refused { sequence });
        }
    }

    /// Logs an incident and has the city told.
    pub(crate) fn incident(&self, what: Incident, digest: Option<[u8; 32]>) {
        self.tell(Told {
            what,
            at: posture::now(),
            digest,
            signature: None,
            direction: None,
        });
    }

    fn tell(&self, told: Told) {
        let what = told.what;
        self.sink.record(Event::Incident {
            what,
            entry: 0,
            digest: told.digest.map(Digest),
            signature: told.signature,
            direction: told.direction,
        });
        if self.incidents.try_send(told).is_err() {
            tracing::error!(
                event = "status-report",
                ?what,
                "too many incidents wait for the city; it sees this one in the log only"
            );
        }
    }

    /// Logs a body that was stopped; the city is told of what was infected (第24条). Never waits.
    pub(crate) fn stopped(&self, stopped: &StoppedBody) {
        let what = match stopped.why {
            StopReason::Infected => Content::Infected,
            StopReason::Program => Content::Executable,
            StopReason::Script => Content::Script,
            StopReason::Macro => Content::Macro,
            StopReason::Encrypted => Content::Encrypted,
            StopReason::Opaque => Content::Opaque,
            StopReason::TooLarge => Content::TooLarge,
            StopReason::NotScanned => Content::NotScanned,
        };
        let direction = match stopped.direction {
            gateway_policy::content::Direction::Upload => Direction::Upload,
            gateway_policy::content::Direction::Download => Direction::Download,
        };
        let signature = stopped.signature.as_deref().and_then(Signature::of);
        self.sink.record(Event::Content {
            what,
            direction,
            device: stopped.device,
            digest: stopped.digest.map(Digest),
            signature,
        });
        if what == Content::Infected {
            self.tell(Told {
                what: Incident::Malware,
                at: posture::now(),
                digest: stopped.digest,
                signature,
                direction: Some(direction),
            });
        }
    }

    /// A file of the store is found to be infected, `what` when it could be read or when it never was: logged, on the disk if there is
    /// room, before it is erased; and the city is told (第24条).
    pub(crate) async fn erases(&self, what: Content, digest: [u8; 32], signature: &str) {
        let signature = Signature::of(signature);
        let direction = Direction::Download;
        let entry = self.sink.durably(Event::Content {
            what,
            direction,
            device: None,
            digest: Some(Digest(digest)),
            signature,
        });
        // It goes whether or not that could be written down.
        let _ = tokio::time::timeout(WRITTEN, entry).await;
        self.tell(Told {
            what: Incident::Malware,
            at: posture::now(),
            digest: Some(digest),
            signature,
            direction: Some(direction),
        });
    }

    /// Keeps incidents until the city has them, as they come. Never ends.
    pub(crate) async fn keep_incidents(kept: Arc<Incidents>, mut told: mpsc::Receiver<Told>) {
        while let Some(told) = told.recv().await {
            let kept = Arc::clone(&kept);
            let _ = tokio::task::spawn_blocking(move || kept.add(&told)).await;
        }
        std::future::pending().await
    }

    /// Signs checkpoints: after critical entries, every hour, and when the facility gets its certificate.
    pub(crate) async fn sign(
        self: Arc<Self>,
        vault: Arc<LateVault>,
        certificates: Arc<Certificates>,
    ) {
        let mut status = self.status.clone();
        let mut identity = certificates.city_tls();
        let mut told = String::new();
        loop {
            let Some(critical) = status
                .borrow_and_update()
                .as_ref()
                .map(|status| status.critical)
            else {
                if status.changed().await.is_err() {
                    return std::future::pending().await;
                }
                continue;
            };
            let facility = certificates
                .identity()
                .await
                .map(|identity| identity.facility_id);
            match self
                .checkpoint(&vault, facility.unwrap_or_default(), critical)
                .await
            {
                Ok(()) => told.clear(),
                Err(error) => {
                    let error = chain(&error);
                    if told != error {
                        tracing::warn!(event = "audit-unsigned", %error, "no checkpoint of the audit log was signed; trying on");
                        told = error;
                    }
                    tokio::time::sleep(RETRY).await;
                    continue;
                }
            }
            tokio::time::sleep(TOGETHER).await;
            let more = async {
                while status
                    .borrow_and_update()
                    .as_ref()
                    .is_none_or(|status| status.critical <= critical)
                {
                    if status.changed().await.is_err() {
                        std::future::pending::<()>().await;
                    }
                }
            };
            tokio::select! {
                () = more => {}
                () = tokio::time::sleep(HOURLY) => {}
                _ = identity.changed() => {}
            }
        }
    }

    async fn checkpoint(
        self: &Arc<Self>,
        vault: &Arc<LateVault>,
        facility: String,
        critical: u64,
    ) -> Result<(), CheckpointError> {
        let (this, with) = (Arc::clone(self), Arc::clone(vault));
        let key = tokio::task::spawn_blocking(move || this.lock().get(&*with))
            .await
            .map_err(|_| CheckpointError::Interrupted)??;
        let spki = key.spki_der();
        self.sink.register_key(spki.clone()).await??;
        let head = self.sink.head().await??;
        let checkpoint = Checkpoint {
            sequence: head.sequence,
            count: head.count,
            head: head.head,
            log: head.log,
            boot: self.boot,
            at: posture::now(),
            key: gateway_audit::spki_id(&spki),
            facility: facility.clone(),
        }
        .to_bytes();
        let (this, with, bytes) = (Arc::clone(self), Arc::clone(vault), checkpoint.clone());
        let signature = tokio::task::spawn_blocking(move || {
            let signed = with.sign_checkpoint(&key, &bytes);
            if matches!(signed, Err(VaultError::KeyLost)) {
                // The TPM was cleared: the next attempt makes another key, which the city takes after a new number.
                this.lock().forget();
            }
            signed
        })
        .await
        .map_err(|_| CheckpointError::Interrupted)??;
        let signed = SignedCheckpoint {
            checkpoint,
            signature,
        };
        self.sink.store_checkpoint(signed.clone()).await??;
        self.newest.send_replace(Some(Newest {
            signed,
            sequence: head.sequence,
            facility,
            key: spki,
            critical,
        }));
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, KeyFile> {
        self.key.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Verifies the files at intervals and removes old ones. What does not verify has been put aside when this hears of it.
    pub(crate) async fn check(self: Arc<Self>) {
        let mut status = self.status.clone();
        let opened = status.wait_for(Option::is_some).await;
        // Found when the log was opened, and the city has not agreed to the one begun after it.
        let broken = opened.is_ok_and(|status| {
            status
                .as_ref()
                .is_some_and(|status| status.broken.is_some())
        });
        if broken {
            self.incident(Incident::Tampering, None);
        }
        loop {
            tokio::time::sleep(self.verify).await;
            match self.sink.check().await {
                Ok(Ok(findings)) if findings.is_empty() => {}
                Ok(Ok(findings)) => self.incident(Incident::Tampering, Some(digest_of(&findings))),
                Ok(Err(error)) => {
                    tracing::warn!(event = "audit-unwritable", error = %chain(&error), "the audit log could not be verified");
                }
                Err(_) => {}
            }
            if let Ok(Err(error)) = self.sink.remove_old().await {
                tracing::warn!(event = "audit-unwritable", error = %chain(&error), "old entries could not be removed");
            }
        }
    }

    /// Puts LOG on the board at every change and now and then.
    pub(crate) async fn observe(self: Arc<Self>, posture: Arc<Posture>) {
        let mut status = self.status.clone();
        let mut refused = self.refused.subscribe();
        let mut alive = true;
        let mut before = None;
        loop {
            let now = posture::now();
            let observed = match status.borrow_and_update().as_ref() {
                Some(status) if alive => {
                    gateway_audit::observe(status, *refused.borrow_and_update(), now)
                }
                _ => Observed {
                    check: Check::Log,
                    observation: Observation::Unknown(if alive {
                        Missing::Never
                    } else {
                        Missing::Error
                    }),
                    at: now,
                    source: Source::Measured,
                    digest: [0; 32],
                },
            };
            // Each entry changes the status; the board hears of it when it says something else.
            if before.replace(observed.observation) != Some(observed.observation) {
                posture.observe(Subject::Box, observed);
            }
            let changed = tokio::time::timeout(OBSERVED, async {
                tokio::select! {
                    ended = status.changed(), if alive => ended.is_ok(),
                    _ = refused.changed() => true,
                }
            });
            match changed.await {
                Ok(still) => alive &= still,
                Err(_) => before = None,
            }
        }
    }

    /// The last entry and, if the TPM is quick, the last checkpoint. For when the box stops.
    pub(crate) async fn close(self: &Arc<Self>, vault: &Arc<LateVault>, facility: Option<String>) {
        let _ = self.sink.durably(Event::Stopped).await;
        // Nobody reports any more: how much it covers is of no use.
        let last = self.checkpoint(vault, facility.unwrap_or_default(), 0);
        let _ = tokio::time::timeout(LAST, last).await;
        self.sink.stop().await;
    }
}

/// Why there is no checkpoint now.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CheckpointError {
    /// The TPM.
    #[error("the TPM does not sign")]
    Vault(#[from] VaultError),
    /// The file of the key.
    #[error("the audit key's file {}", .0.display())]
    File(PathBuf, #[source] std::io::Error),
    /// The log.
    #[error("the audit log")]
    Log(#[from] gateway_audit::LogError),
    /// The log's thread.
    #[error("the audit log")]
    Ended(#[from] gateway_audit::Ended),
    /// The process ends.
    #[error("cut short")]
    Interrupted,
}

fn digest_of(findings: &[Finding]) -> [u8; 32] {
    let text: String = findings
        .iter()
        .map(|finding| format!("{finding}\n"))
        .collect();
    Digest::of(&[text.as_bytes()]).0
}

/// random(4): a name for this boot of the kernel; zeros where there is none.
fn boot_id() -> Id {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .ok()
        .and_then(|text| Id::parse(text.trim()))
        .unwrap_or(Id([0; 16]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tpm_takes_what_the_log_calls_a_checkpoint() {
        let checkpoint = Checkpoint {
            sequence: 1,
            count: 2,
            head: Digest([3; 32]),
            log: Id([4; 16]),
            boot: Id([5; 16]),
            at: Timestamp(6),
            key: Digest([7; 32]),
            facility: "tkh-1001".to_owned(),
        };
        let bytes = checkpoint.to_bytes();
        assert!(bytes.starts_with(gateway_tpm::CHECKPOINT_PREFIX));
        assert_eq!(Checkpoint::from_bytes(&bytes), Ok(checkpoint));
        assert_ne!(boot_id(), Id([0; 16]));
    }
}
