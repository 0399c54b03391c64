//! The end of this box's service, from the console's word to the record.
//!
//! On the image `/var` is made anew at the next start, and that is noted in the firmware first: after the TPM has been cleared nothing
//! opens `/var` any more, and a box that could not start again would keep what it was told to erase. What is revoked, cleared and
//! proven is provisioning's.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use gateway_console::{Leaving, LeavingDesk, LeavingReason, Message};
use gateway_provisioning::{DecommissionRecord, Failure, Provisioner, ProvisioningError, Reason};

use crate::certificates::{Certificates, chain};
use crate::posture::Posture;
use crate::stored_notes::StoredNotes;

/// What the unit `gateway-factory-reset.path` waits for.
const WORD: &str = "/run/renraku-gateway/factory-reset";

/// The firmware's note that `/var` is made anew (systemd-repart(8)).
const NOTE: &str = "sys/firmware/efi/efivars/FactoryReset-8cf2644b-4b0b-428f-9387-6d876050dc67";

/// How long the firmware may take to note it, and how often it is looked at.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(250);

/// See the module.
#[derive(Debug)]
pub(crate) struct LeavingPages {
    provisioner: Arc<Provisioner>,
    certificates: Arc<Certificates>,
    notes: Arc<StoredNotes>,
    posture: Arc<Posture>,
    /// `/`, or where a test keeps `sys`.
    system: PathBuf,
    word: PathBuf,
    run: Arc<Mutex<Run>>,
}

#[derive(Debug, Default)]
enum Run {
    #[default]
    Idle,
    Running,
    Failed(Message),
    Left(Box<DecommissionRecord>),
}

/// Why it was not done.
#[derive(Debug, thiserror::Error)]
enum NotLeft {
    /// The firmware has not noted that `/var` is to be made anew. Nothing was done.
    #[error("the firmware has not noted that /var is to be made anew")]
    NotNoted,
    /// Provisioning could not go on.
    #[error("provisioning")]
    Provisioning(#[from] ProvisioningError),
}

impl LeavingPages {
    /// `system` is `/`, or the directory below which a test keeps its `sys`.
    pub(crate) fn new(
        provisioner: Arc<Provisioner>,
        certificates: Arc<Certificates>,
        notes: Arc<StoredNotes>,
        posture: Arc<Posture>,
        system: &Path,
    ) -> Self {
        Self {
            provisioner,
            certificates,
            notes,
            posture,
            system: system.to_owned(),
            word: WORD.into(),
            run: Arc::default(),
        }
    }

    fn is_in_service(&self) -> bool {
        self.certificates.city_tls().borrow().is_some()
    }

    /// Shows the record of before, when this box was taken out of service and has not been set up since.
    pub(crate) async fn look_back(self: Arc<Self>) {
        match self.provisioner.left_record().await {
            Ok(Some(record)) => {
                let mut run = locked(&self.run);
                if matches!(*run, Run::Idle) {
                    *run = Run::Left(Box::new(record));
                }
            }
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(event = "factory-reset", error = %chain(&error), "the record of the end of service cannot be read");
            }
        }
    }
}

impl LeavingDesk for LeavingPages {
    fn state(&self) -> Leaving {
        match &*locked(&self.run) {
            Run::Idle => Leaving::InService,
            // Set up again since, without a new start.
            Run::Left(_) if self.is_in_service() => Leaving::InService,
            Run::Running => Leaving::Running,
            Run::Failed(message) => Leaving::Failed(message.clone()),
            Run::Left(record) => Leaving::Left {
                record: record.text_ja(),
            },
        }
    }

    fn makes_disk_anew(&self) -> bool {
        self.posture.image().is_some()
    }

    fn leave(&self, reason: LeavingReason) -> Result<(), Message> {
        {
            let mut run = locked(&self.run);
            let left = matches!(*run, Run::Left(_)) && !self.is_in_service();
            if left || matches!(*run, Run::Running) {
                return Ok(());
            }
            *run = Run::Running;
        }
        let work = Work {
            provisioner: Arc::clone(&self.provisioner),
            certificates: Arc::clone(&self.certificates),
            notes: Arc::clone(&self.notes),
            firmware: Firmware {
                is_image: self.makes_disk_anew(),
                note: self.system.join(NOTE),
            },
            word: self.word.clone(),
        };
        let end = EndOfRun(Arc::clone(&self.run));
        tokio::spawn(async move {
            let ended = work.take_out_of_service(reason_of(reason)).await;
            *locked(&end.0) = match ended {
                Ok(record) => Run::Left(Box::new(record)),
                Err(error) => {
                    tracing::error!(event = "factory-reset", error = %chain(&error), "the box could not be taken out of service");
                    Run::Failed(work.firmware.in_words(&error))
                }
            };
        });
        Ok(())
    }
}

/// What it takes.
struct Work {
    provisioner: Arc<Provisioner>,
    certificates: Arc<Certificates>,
    notes: Arc<StoredNotes>,
    firmware: Firmware,
    word: PathBuf,
}

/// What the firmware has been told.
struct Firmware {
    is_image: bool,
    note: PathBuf,
}

impl Firmware {
    /// What the manager hears of a failure. What the firmware has noted stays noted, whatever failed after it.
    fn in_words(&self, error: &NotLeft) -> Message {
        let mut message = message(error);
        if self.is_image && self.note.exists() {
            message.next_step.push_str(
                "次に電源を入れると、装置の中の記録はすべて消えます。必要な記録は先に印刷してください。",
            );
        }
        message
    }
}

impl Work {
    async fn take_out_of_service(&self, reason: Reason) -> Result<DecommissionRecord, NotLeft> {
        if self.firmware.is_image {
            self.have_it_noted().await?;
        }
        self.notes.give_up().await;
        let record = self.provisioner.decommission(reason).await?;
        self.certificates.apply_or_log().await;
        Ok(record)
    }

    /// Leaves word for the unit that may write the firmware's variables, and waits until it has.
    async fn have_it_noted(&self) -> Result<(), NotLeft> {
        let ask = || std::fs::write(&self.word, b"asked\n");
        let asked = tokio::time::timeout(PATIENCE, async {
            loop {
                if self.firmware.note.exists() {
                    return true;
                }
                // Asked again: the unit may not have been watching yet.
                if ask().is_err() {
                    return false;
                }
                for _ in 0..20 {
                    if self.firmware.note.exists() {
                        return true;
                    }
                    tokio::time::sleep(LOOK).await;
                }
            }
        });
        match asked.await {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => Err(NotLeft::NotNoted),
        }
    }
}

/// Ends a run even when its task is cut short.
struct EndOfRun(Arc<Mutex<Run>>);

impl Drop for EndOfRun {
    fn drop(&mut self) {
        let mut run = locked(&self.0);
        if matches!(*run, Run::Running) {
            let cut = ProvisioningError::from(Failure::Interrupted);
            *run = Run::Failed(message(&cut.into()));
        }
    }
}

fn locked(run: &Mutex<Run>) -> std::sync::MutexGuard<'_, Run> {
    run.lock().unwrap_or_else(PoisonError::into_inner)
}

const fn reason_of(reason: LeavingReason) -> Reason {
    match reason {
        LeavingReason::Leaving => Reason::Leaving,
        LeavingReason::Replaced => Reason::Replaced,
        LeavingReason::Disposed => Reason::Disposed,
    }
}

fn message(error: &NotLeft) -> Message {
    match error {
        NotLeft::NotNoted => Message {
            sentence: "装置の初期化を予約できませんでした。何も消していません。".into(),
            next_step: "もう一度お試しください。続くときは下の問い合わせ先に電話し、コード L-NOTED を伝えてください。".into(),
            code: "L-NOTED".into(),
        },
        NotLeft::Provisioning(error) => {
            let failure = error.failure();
            Message {
                sentence: failure.sentence_ja(),
                next_step: failure.next_step_ja(),
                code: failure.code().to_owned(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_told_of_a_failure_hears_what_the_next_start_does() {
        let system = tempfile::tempdir().unwrap();
        let note = system.path().join("note");
        let work = |is_image| Firmware {
            is_image,
            note: note.clone(),
        };
        let erased = "装置の中の記録はすべて消えます";
        let said = |is_image| work(is_image).in_words(&NotLeft::NotNoted).next_step;
        assert!(!said(true).contains(erased));
        std::fs::write(&note, "").unwrap();
        assert!(said(true).contains(erased));
        assert!(!said(false).contains(erased));
    }
}
