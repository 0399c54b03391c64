//! Opens the log of accesses under a key that only the TPM opens, has the audit log vouch for it, verifies it now and then, and
//! keeps it for the policy's days.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use gateway_accesslog::{Book, Key, OpenError, Opened, Settings, Standing, open};
use gateway_audit::{Event, Incident};
use gateway_policy::ACCESS_LOG_DAYS;
use gateway_provisioning::durable;
use gateway_tpm::{KeyVault, SealedBlob, Secret, VaultError};
use tokio::sync::watch;
use tokio::time::Instant;

use super::{Accesses, IDLE};
use crate::certificates::chain;
use crate::late_vault::LateVault;
use crate::posture::{self, Posture};

/// Pause between two tries to open the log.
const RETRY: Duration = Duration::from_secs(5);
/// How often pages that nobody leaves are looked for.
const MINUTE: Duration = Duration::from_secs(60);
/// How often the audit log is told how far this one has come, while it grows.
const VOUCHED: Duration = Duration::from_secs(600);
/// How often records whose days are over are looked for.
const TIDIED: Duration = Duration::from_secs(3600);
/// Bytes of all records.
const BYTES: u64 = 256 << 20;

/// Why the log is not open.
#[derive(Debug, thiserror::Error)]
enum KeepError {
    #[error("cannot use {}", .0.display())]
    KeyFile(PathBuf, #[source] std::io::Error),
    #[error("the key of the log of accesses could not be opened by the TPM")]
    Vault(#[from] VaultError),
    #[error("the key of the log of accesses cannot be used")]
    Key(#[from] gateway_accesslog::KeyError),
    #[error("the log of accesses could not be opened")]
    Open(#[from] OpenError),
    #[error("the audit log does not take down how the log of accesses stands")]
    NotVouched,
    #[error("cut short")]
    Interrupted,
}

type Held = (Book, watch::Receiver<Standing>);

impl Accesses {
    /// Opens the log, trying until it is open, and keeps it while the process lives.
    pub(crate) async fn keep(
        self: Arc<Self>,
        state: PathBuf,
        vault: Arc<LateVault>,
        posture: Arc<Posture>,
        verify: Duration,
    ) {
        let mut told = String::new();
        let (book, mut standing) = loop {
            match self.open(&state, &vault, days(&posture)).await {
                Ok(held) => break held,
                Err(error) => {
                    let reason = chain(&error);
                    if told != reason {
                        tracing::error!(event = "accesses-unwritable", error = %reason, "the log of accesses is not open, so stored notes are not shown; trying on");
                        told = reason;
                    }
                    tokio::time::sleep(RETRY).await;
                }
            }
        };
        self.book.send_replace(Some(book.clone()));
        let mut kept = days(&posture);
        book.keep(kept);
        let now = Instant::now();
        let (mut vouch, mut look, mut tidy) = (now + VOUCHED, now + verify, now + TIDIED);
        let mut vouched = standing.borrow_and_update().count;
        loop {
            tokio::time::sleep_until((Instant::now() + MINUTE).min(look)).await;
            let over = self.views().idle(IDLE.as_secs(), self.seconds());
            self.note(&over);
            let now = Instant::now();
            let wanted = days(&posture);
            if wanted != kept || now >= tidy {
                (kept, tidy) = (wanted, now + TIDIED);
                book.keep(kept);
            }
            if now >= look {
                look = now + verify;
                self.verify(&book).await;
            }
            let count = standing.borrow_and_update().count;
            if now >= vouch && count != vouched {
                (vouch, vouched) = (now + VOUCHED, count);
                let _ = self.vouch(&book).await;
            }
        }
    }

    async fn open(
        &self,
        state: &Path,
        vault: &Arc<LateVault>,
        days: u32,
    ) -> Result<Held, KeepError> {
        let mut audit = self.audit.status.clone();
        let vouched = audit
            .wait_for(Option::is_some)
            .await
            .map_err(|_| KeepError::Interrupted)?
            .as_ref()
            .and_then(|status| status.accesses);
        let (state, vault) = (state.to_owned(), Arc::clone(vault));
        let opening = tokio::task::spawn_blocking(move || {
            let key = key(&state, &*vault)?;
            let settings = Settings {
                dir: state.join("accesses"),
                days,
                bytes: BYTES,
                vouched,
            };
            Ok::<_, KeepError>(open(&settings, key, Arc::new(posture::now))?)
        });
        let (book, opened, standing) = opening.await.map_err(|_| KeepError::Interrupted)??;
        if opened == Opened::Changed {
            tracing::error!(
                event = "accesses-broken",
                "the log of accesses was changed, cut or exchanged; it is put aside and another begins"
            );
            self.audit.incident(Incident::Tampering, None);
        }
        // From here on there is somebody else who knows which log it is, and how long.
        if !self.vouch(&book).await {
            book.stop().await;
            return Err(KeepError::NotVouched);
        }
        Ok((book, standing))
    }

    /// Has the audit log take down how far this one has come; its checkpoints are signed by the TPM and countersigned by the
    /// city.
    async fn vouch(&self, book: &Book) -> bool {
        let Some(standing) = book.flush().await else {
            return false;
        };
        let event = Event::Accesses {
            log: standing.log,
            count: standing.count,
            head: standing.head,
        };
        self.audit.sink.durably(event).await.is_ok()
    }

    async fn verify(&self, book: &Book) {
        match book.verify().await {
            Ok(true) => {}
            Ok(false) => {
                self.audit.incident(Incident::Tampering, None);
                let _ = self.vouch(book).await;
            }
            Err(error) => {
                tracing::warn!(event = "accesses-unwritable", %error, "the log of accesses could not be verified");
            }
        }
    }

    /// The last entries, and the audit log's word for them. For when the box stops, before the audit log does.
    pub(crate) async fn close(&self) {
        let Some(book) = self.book.send_replace(None) else {
            return;
        };
        for ending in self.views().stop(self.seconds()) {
            book.ending(&ending);
        }
        let _ = self.vouch(&book).await;
        book.stop().await;
    }
}

fn days(posture: &Posture) -> u32 {
    let snapshot = posture.snapshot();
    snapshot
        .policy()
        .store
        .access_log_days
        .unwrap_or(ACCESS_LOG_DAYS)
}

/// The key, making one where there is none. A key that the TPM no longer opens is no error: the chain goes on under a new one,
/// and what stands in it from before can be verified and not read. Blocks on TPM and disk.
fn key(state: &Path, vault: &dyn KeyVault) -> Result<Key, KeepError> {
    let path = state.join("accesses-key.sealed");
    let failed = |error| KeepError::KeyFile(path.clone(), error);
    if let Some(bytes) = durable::read(&path).map_err(failed)? {
        match SealedBlob::from_bytes(&bytes).and_then(|blob| vault.unseal(&blob)) {
            Ok(secret) => return Ok(Key::from_slice(secret.as_bytes())?),
            Err(error) if error.is_permanent() => {
                tracing::warn!(event = "accesses-key-lost", %error, "the key of the log of accesses is lost; what it sealed stays shut");
            }
            Err(error) => return Err(error.into()),
        }
    }
    let (key, bytes) = Key::generate()?;
    let blob = vault.seal(&Secret::new(bytes.to_vec()))?;
    durable::write(&path, &blob.to_bytes()).map_err(failed)?;
    Ok(key)
}
