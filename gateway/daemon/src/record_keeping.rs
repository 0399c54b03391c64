//! Starts what gives account of the box: the audit log, reports to the city, the control socket. Wiring only.

use std::sync::Arc;
use std::time::Duration;

use gateway_audit::Settings;
use gateway_city::Endpoint;
use gateway_proxy::Witness;
use rustls::pki_types::CertificateDer;
use serde::Deserialize;
use tokio::task::JoinSet;

use crate::accesses::Accesses;
use crate::audit::{Audit, Incidents, witness};
use crate::break_glass::Notices;
use crate::certificates::Certificates;
use crate::control::{self, Answers};
use crate::late_vault::LateVault;
use crate::posture::Posture;
use crate::progress::Progress;
use crate::reporting::Reporting;

/// Table `[audit]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Table {
    /// Days that entries are kept.
    pub(crate) days: u32,
    /// Bytes of all entries together; the oldest go first.
    pub(crate) bytes: u64,
    /// Seconds between two verifications of the files.
    pub(crate) verify_seconds: u64,
}

impl Default for Table {
    fn default() -> Self {
        Self {
            days: 400,
            bytes: 256 << 20,
            verify_seconds: 900,
        }
    }
}

/// The log, open before anything happens that belongs into it.
pub(crate) struct Opened {
    audit: Arc<Audit>,
    incidents: Arc<Incidents>,
    roots: Vec<CertificateDer<'static>>,
}

/// Opens the log and begins to write down what the evidence board does.
///
/// # Errors
/// When the system gives no thread.
pub(crate) fn open(
    table: &Table,
    state_dir: &std::path::Path,
    roots: Vec<CertificateDer<'static>>,
    posture: &Arc<Posture>,
    tasks: &mut JoinSet<()>,
) -> std::io::Result<Opened> {
    let settings = Settings {
        keep_days: table.days,
        keep_bytes: table.bytes,
        roots: roots.clone(),
        ..Settings::default()
    };
    let verify = Duration::from_secs(table.verify_seconds);
    let (audit, told) = Audit::open(state_dir, settings, verify)?;
    let incidents = Arc::new(Incidents::open(state_dir));
    tasks.spawn(Audit::keep_incidents(Arc::clone(&incidents), told));
    posture.set_audit(audit.sink.clone());
    tasks.spawn(witness(Arc::clone(posture), audit.sink.clone()));
    tasks.spawn(Arc::clone(&audit).observe(Arc::clone(posture)));
    tasks.spawn(Arc::clone(&audit).check());
    Ok(Opened {
        audit,
        incidents,
        roots,
    })
}

impl Opened {
    /// How the log stands; the city countersigns it with its time.
    pub(crate) fn status(&self) -> tokio::sync::watch::Receiver<Option<gateway_audit::Status>> {
        self.audit.status.clone()
    }

    /// The audit log.
    pub(crate) fn audit(&self) -> Arc<Audit> {
        Arc::clone(&self.audit)
    }

    /// Who is to be told of bodies that were stopped.
    pub(crate) fn witness_of_content(&self) -> Witness {
        let audit = Arc::clone(&self.audit);
        Arc::new(move |stopped| audit.stopped(stopped))
    }

    /// Starts what needs certificates and the TPM.
    pub(crate) fn start(
        self,
        endpoint: Endpoint,
        state_dir: &std::path::Path,
        (posture, certificates, vault): (&Arc<Posture>, &Arc<Certificates>, &Arc<LateVault>),
        accesses: &Arc<Accesses>,
        progress: &Arc<Progress>,
        tasks: &mut JoinSet<()>,
    ) -> RecordKeeping {
        let audit = self.audit;
        tasks.spawn(Arc::clone(&audit).sign(Arc::clone(vault), Arc::clone(certificates)));
        let reporting = Reporting {
            audit: Arc::clone(&audit),
            posture: Arc::clone(posture),
            certificates: Arc::clone(certificates),
            endpoint,
            notices: Arc::new(Notices::open(state_dir)),
            incidents: self.incidents,
            roots: self.roots,
        };
        tasks.spawn(reporting.run());
        let socket = control::socket(state_dir, "control.sock");
        match control::open(&socket) {
            Ok(listener) => {
                let answers = Answers {
                    posture: Arc::clone(posture),
                    audit: Arc::clone(&audit),
                    accesses: Arc::clone(accesses),
                    certificates: Arc::clone(certificates),
                    progress: Arc::clone(progress),
                };
                tasks.spawn(control::serve(listener, Arc::new(answers)));
            }
            // Nobody at the facility uses it; requests are served without.
            Err(error) => {
                tracing::warn!(event = "control", %error, socket = %socket.display(), "gatewayctl cannot be answered");
            }
        }
        RecordKeeping {
            accesses: Arc::clone(accesses),
            audit,
            certificates: Arc::clone(certificates),
            vault: Arc::clone(vault),
        }
    }
}

/// What is running, for the end.
pub(crate) struct RecordKeeping {
    accesses: Arc<Accesses>,
    audit: Arc<Audit>,
    certificates: Arc<Certificates>,
    vault: Arc<LateVault>,
}

impl RecordKeeping {
    /// The last entry and the last checkpoint.
    pub(crate) async fn close(self) {
        self.accesses.close().await;
        let facility = self.certificates.identity().await;
        let facility = facility.map(|identity| identity.facility_id);
        self.audit.close(&self.vault, facility).await;
    }
}
