//! The rest of the box as the console's pages see it.
//!
//! It decides nothing: it starts ceremonies, remembers how the last one ended, and passes on what others know. A number
//! and a code pass through it once and are kept nowhere.

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use gateway_city::feed::FeedState;
use gateway_console::{
    Answer, BoxStatus, Desk, Entry, Link, Message, Provenance, SessionId, SetupStatus, ViewId,
    Visit,
};
use gateway_notes::Store;
use gateway_policy::{Gate, Timestamp};
use gateway_provisioning::{
    AccessCode, CertificateNumber, CertificateStatus, Failure, ImportPassword, Label, Outcome,
    Provisioner, ProvisioningError, Step,
};
use tokio::sync::watch;
use zeroize::Zeroizing;

use crate::accesses::Accesses;
use crate::certificates::{Certificates, chain};
use crate::late_vault::LateVault;
use crate::offline::Offline;
use crate::posture::{self, Posture};
use crate::progress::Progress;
use crate::stored_notes::StoredNotes;

/// See the module.
#[derive(Debug)]
pub(crate) struct BoxDesk {
    /// Evidence and what the gate makes of it.
    pub(crate) posture: Arc<Posture>,
    /// The gate.
    pub(crate) gate: Gate,
    /// Ceremonies.
    pub(crate) provisioner: Arc<Provisioner>,
    /// Puts their results to work.
    pub(crate) certificates: Arc<Certificates>,
    /// The TPM.
    pub(crate) vault: Arc<LateVault>,
    /// The log of accesses.
    pub(crate) accesses: Arc<Accesses>,
    /// Time that nobody turns back.
    pub(crate) offline: Arc<Offline>,
    /// The store of notes.
    pub(crate) notes: Arc<StoredNotes>,
    /// Where the feed stands.
    pub(crate) feed: watch::Receiver<FeedState>,
    /// The ceremony running or ended last.
    pub(crate) run: Arc<Run>,
    /// How far storing has got.
    pub(crate) progress: Arc<Progress>,
}

/// A ceremony started from the setup page.
#[derive(Debug, Default)]
pub(crate) struct Run(Mutex<RunState>);

#[derive(Debug, Default)]
struct RunState {
    running: Option<&'static str>,
    outcome: Option<Message>,
}

const STARTING: &str = "市のサーバーに接続しています。";

impl Run {
    fn lock(&self) -> std::sync::MutexGuard<'_, RunState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the right to run; `None` while another ceremony runs.
    fn start(&self) -> Option<()> {
        let mut state = self.lock();
        if state.running.is_some() {
            return None;
        }
        *state = RunState {
            running: Some(STARTING),
            outcome: None,
        };
        Some(())
    }

    fn step(&self, step: Step) {
        self.lock().running = Some(step.sentence_ja());
    }

    fn end(&self, outcome: Option<Message>) {
        *self.lock() = RunState {
            running: None,
            outcome,
        };
    }
}

/// Ends a run even when its task is cut short, so that a page never shows a ceremony that is not there.
struct EndOfRun(Arc<Run>);

impl Drop for EndOfRun {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        if state.running.take().is_some() {
            state.outcome = Some(message(&Failure::Interrupted.into()));
        }
    }
}

/// What a manager asked for.
enum Asked {
    Enrol(CertificateNumber, AccessCode),
    Import(Zeroizing<Vec<u8>>, ImportPassword),
}

impl BoxDesk {
    fn start(&self, asked: Asked) -> Result<(), Message> {
        self.run
            .start()
            .ok_or_else(|| message(&Failure::InUse.into()))?;
        let end = EndOfRun(Arc::clone(&self.run));
        let (provisioner, certificates, vault, notes) = (
            Arc::clone(&self.provisioner),
            Arc::clone(&self.certificates),
            Arc::clone(&self.vault),
            Arc::clone(&self.notes),
        );
        tokio::spawn(async move {
            let ended = ceremony(&provisioner, &vault, asked, &end.0).await;
            certificates.apply_or_log().await;
            end.0.end(match ended {
                Ok(Outcome::Provisioned) => None,
                Ok(outcome) => Some(Message {
                    sentence: outcome.sentence_ja(),
                    next_step: outcome.next_step_ja(),
                    code: outcome.code().to_owned(),
                }),
                Err(error) => {
                    tracing::warn!(event = "provisioning", code = error.failure().code(), error = %chain(&error), "the ceremony ended");
                    Some(message(&error))
                }
            });
            // Before the store, which may wait long for the TPM: meanwhile the next ceremony may run, and it is not this one's to end.
            drop(end);
            notes.renew_lost_key().await;
        });
        Ok(())
    }
}

async fn ceremony(
    provisioner: &Provisioner,
    vault: &Arc<LateVault>,
    asked: Asked,
    run: &Arc<Run>,
) -> Result<Outcome, ProvisioningError> {
    // A new number from the city, typed at the box, is the manager's decision to set a cleared or exchanged TPM up anew.
    LateVault::open_for_new_certificate(vault).await?;
    // What the TPM of before held is noted as lost, so that its label is free.
    provisioner.check_keys().await?;
    let progress = |step: Step| {
        run.step(step);
        ControlFlow::Continue(())
    };
    let label = free_label(provisioner).await?;
    match asked {
        Asked::Enrol(number, code) => provisioner.enrol(&label, number, code, &progress).await,
        Asked::Import(file, password) => {
            provisioner
                .import_p12(&label, file, password, &progress)
                .await
        }
    }
}

/// The first label without a usable certificate: `main`, then `additional-2`, … (第6条第4項: side by side, never over one another).
async fn free_label(provisioner: &Provisioner) -> Result<Label, ProvisioningError> {
    let status = provisioner.status().await?;
    let taken = |label: &Label| {
        status
            .certificates
            .iter()
            .any(|line| line.label == *label && line.state.is_usable())
    };
    let more = (2_u32..).filter_map(|number| Label::try_from(format!("additional-{number}")).ok());
    Ok(std::iter::once(Label::main())
        .chain(more)
        .find(|label| !taken(label))
        .unwrap_or_else(Label::main))
}

fn message(error: &ProvisioningError) -> Message {
    let failure = error.failure();
    Message {
        sentence: failure.sentence_ja(),
        next_step: failure.next_step_ja(),
        code: failure.code().to_owned(),
    }
}

impl Desk for BoxDesk {
    fn now(&self) -> Timestamp {
        self.offline.now()
    }

    fn status(&self) -> Answer<'_, BoxStatus> {
        Box::pin(async {
            let snapshot = self.posture.snapshot();
            let verdict = self.gate.box_verdict(&snapshot, posture::now());
            let (line, city) = links(&self.feed.borrow());
            BoxStatus {
                snapshot: (*snapshot).clone(),
                verdict,
                line,
                city,
            }
        })
    }

    fn city(&self) -> Answer<'_, Link> {
        let (_, city) = links(&self.feed.borrow());
        Box::pin(std::future::ready(city))
    }

    fn setup(&self) -> Answer<'_, SetupStatus> {
        Box::pin(async {
            let (running, outcome) = {
                let state = self.run.lock();
                (state.running.map(str::to_owned), state.outcome.clone())
            };
            match self.provisioner.status().await {
                Ok(status) => SetupStatus {
                    ready: status.is_ready(),
                    running,
                    outcome,
                    code_required: false,
                    certificates: status
                        .certificates
                        .into_iter()
                        .filter_map(|line| certificate(line, self.certificates.tpm_is_silent()))
                        .collect(),
                },
                Err(error) => SetupStatus {
                    running,
                    outcome: Some(message(&error)),
                    ..SetupStatus::default()
                },
            }
        })
    }

    fn provision(&self, number: Entry, access_code: Entry) -> Answer<'_, Result<(), Message>> {
        Box::pin(async move {
            let number = CertificateNumber::parse(number.as_str().to_owned())
                .map_err(|error| message(&Failure::NumberMistyped(error).into()))?;
            let code = AccessCode::parse(access_code.as_str().to_owned())
                .map_err(|error| message(&Failure::CodeMistyped(error).into()))?;
            self.start(Asked::Enrol(number, code))
        })
    }

    fn import(&self, file: Bytes, passphrase: Entry) -> Answer<'_, Result<(), Message>> {
        Box::pin(async move {
            let password = ImportPassword::new(passphrase.as_str().to_owned());
            self.start(Asked::Import(Zeroizing::new(file.to_vec()), password))
        })
    }

    fn is_setup_code(&self, _: Entry) -> Answer<'_, bool> {
        // Boxes get a setup code of their own with the factory step of part 5; until then none is asked for.
        Box::pin(async { false })
    }

    fn progress(&self) -> Answer<'_, Option<gateway_console::Progress>> {
        Box::pin(async { Some(self.progress.for_pages().await) })
    }

    fn store(&self) -> Option<Store> {
        self.notes.store()
    }

    fn reading(&self, visit: Visit) -> Option<Store> {
        let witness = self.accesses.witness(visit);
        Some(self.notes.store()?.witnessed(Arc::new(witness)))
    }

    fn moves_on(&self, session: SessionId) {
        self.accesses.moves_on(session);
    }

    fn left(&self, session: SessionId, view: ViewId) {
        self.accesses.left(session, view);
    }
}

/// What a manager reads of a certificate in good standing whose key the TPM does not answer for.
const TPM_SILENT: &str =
    "利用できません（安全チップ（TPM）が応答しません。装置の電源を入れ直してください）";

fn certificate(
    line: CertificateStatus,
    tpm_is_silent: bool,
) -> Option<gateway_console::Certificate> {
    let CertificateStatus {
        label,
        state,
        identity,
        warning,
        fault,
    } = line;
    let identity = identity?;
    let in_words = match fault {
        Some(fault) => fault.sentence_ja(),
        None if tpm_is_silent && state.is_usable() => TPM_SILENT.to_owned(),
        None => state.label_ja().to_owned(),
    };
    Some(gateway_console::Certificate {
        label: label_ja(&label),
        state: in_words,
        usable: state.is_usable() && !tpm_is_silent,
        holder: identity.facility_name,
        facility_id: identity.facility_id,
        serial: identity.serial,
        provenance: match identity.provenance {
            gateway_tpm::Provenance::Generated => Provenance::Generated,
            gateway_tpm::Provenance::Imported => Provenance::Imported,
        },
        not_before: Timestamp(identity.not_before.unix_timestamp()),
        not_after: Timestamp(identity.not_after.unix_timestamp()),
        warning: warning.map(|warning| warning.sentence_ja()),
    })
}

/// A certificate's name on this box, for people.
fn label_ja(label: &Label) -> String {
    match label.as_str().strip_prefix("additional-") {
        Some(number) => format!("追加の証明書（{number}枚目）"),
        None if *label == Label::main() => "1枚目".to_owned(),
        None => label.as_str().to_owned(),
    }
}

/// The line and the city, as far as the feed shows them: an answer of any kind means that the line works.
fn links(feed: &FeedState) -> (Link, Link) {
    use gateway_city::feed::Why;
    let down = |since: time::OffsetDateTime| Link::Down {
        since: Timestamp(since.unix_timestamp()),
    };
    match feed {
        FeedState::Connecting => (Link::Unknown, Link::Unknown),
        FeedState::CatchingUp | FeedState::CaughtUp { .. } => (Link::Up, Link::Up),
        FeedState::Disconnected {
            since,
            why: Why::Network,
        } => (Link::Unknown, down(*since)),
        // What failed is on this side: the city was there.
        FeedState::Disconnected {
            why: Why::OwnKey | Why::Sink,
            ..
        } => (Link::Up, Link::Up),
        FeedState::Disconnected { since, .. } => (Link::Up, down(*since)),
        FeedState::Revoked { .. } | FeedState::Suspended { .. } => (Link::Up, Link::Up),
    }
}
