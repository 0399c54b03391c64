//! The registers as the daemon keeps them: opened once, called off the runtime's threads, looked at for evidence.
//!
//! A file that cannot be opened is not replaced. It is tried again every minute, and until then MEDIA, DECL and TRAINING are
//! unknown.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use gateway_audit::{Event, RegisterChange};
use gateway_policy::{Check, Missing, Observation, Observed, Source, Timestamp};
use gateway_registers::{Error, Loosening, Registers};

use crate::audit::loosening;
use crate::certificates::chain;
use crate::posture::{self, Posture};

/// The directory below the box's state.
const DIRECTORY: &str = "registers";
/// How often a file that could not be opened is tried again.
const RETRY: Duration = Duration::from_secs(60);
/// What is over for long enough is dropped once a day.
const TIDY: i64 = 86_400;

/// See the module.
#[derive(Debug)]
pub(crate) struct KeptRegisters {
    directory: PathBuf,
    opened: Mutex<Option<Arc<Registers>>>,
    posture: Arc<Posture>,
    changed: tokio::sync::Notify,
}

/// The registers cannot be used now.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unusable {
    /// They were not opened.
    #[error("the registers are not open")]
    NotOpen,
    /// They refused, or the disk did.
    #[error(transparent)]
    Registers(#[from] Error),
}

impl KeptRegisters {
    /// Registers below the box's state directory, not opened yet.
    #[must_use]
    pub(crate) fn new(state_dir: &std::path::Path, posture: Arc<Posture>) -> Self {
        Self {
            directory: state_dir.join(DIRECTORY),
            opened: Mutex::default(),
            posture,
            changed: tokio::sync::Notify::new(),
        }
    }

    fn registers(&self) -> Option<Arc<Registers>> {
        self.opened
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Does something with the registers on a thread that may wait for the disk.
    ///
    /// # Errors
    /// [`Unusable`].
    pub(crate) async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Registers) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Unusable> {
        let registers = self.registers().ok_or(Unusable::NotOpen)?;
        let done = tokio::task::spawn_blocking(move || work(&registers)).await;
        Ok(done.map_err(|_| Unusable::NotOpen)??)
    }

    /// Tells whoever watches that there may be new evidence.
    pub(crate) fn changed(&self) {
        self.changed.notify_one();
    }

    /// What the registers prove now.
    fn observed(&self, now: Timestamp) -> [Observed; 3] {
        self.registers().map_or_else(
            || {
                [Check::Media, Check::Training, Check::Decl].map(|check| Observed {
                    check,
                    observation: Observation::Unknown(Missing::Error),
                    at: now,
                    source: Source::Declared,
                    digest: [0; 32],
                })
            },
            |registers| registers.observed(now),
        )
    }

    fn open(&self) -> Result<(), Error> {
        if self.registers().is_some() {
            return Ok(());
        }
        let posture = Arc::clone(&self.posture);
        let registers = Registers::open(&self.directory)?.written_down_by(Box::new(move |what| {
            let event = Event::Register {
                what: audited(what),
            };
            loosening::before_blocking(&posture, event).is_ok()
        }));
        let registers = Arc::new(registers);
        *self.opened.lock().unwrap_or_else(PoisonError::into_inner) = Some(registers);
        Ok(())
    }

    /// Opens the registers, says what they prove at once, after each change and every `pause`, and drops what is over. Never ends.
    pub(crate) async fn keep(
        self: Arc<Self>,
        pause: Duration,
        mut tell: impl FnMut(Observed) + Send,
    ) {
        let mut told = false;
        let mut tidied = Timestamp(i64::MIN);
        loop {
            let this = Arc::clone(&self);
            match tokio::task::spawn_blocking(move || this.open()).await {
                Ok(Err(error)) if !told => {
                    tracing::error!(event = "registers", error = %chain(&error), "the registers cannot be opened; they are left as they are");
                    told = true;
                }
                _ => {}
            }
            let now = posture::now();
            if tidied.0.saturating_add(TIDY) <= now.0 && self.registers().is_some() {
                tidied = now;
                match self
                    .with(move |registers| registers.drop_expired(now))
                    .await
                {
                    Ok(0) => {}
                    Ok(entries) => {
                        tracing::info!(
                            event = "registers",
                            entries,
                            "entries were dropped after their time"
                        );
                    }
                    Err(error) => {
                        tracing::warn!(event = "registers", error = %chain(&error), "old entries cannot be dropped");
                    }
                }
            }
            self.observed(now).into_iter().for_each(&mut tell);
            let pause = if self.registers().is_some() {
                pause
            } else {
                RETRY
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.changed.notified() => {}
            }
        }
    }
}

/// What loosens, in the words of the audit log.
const fn audited(what: Loosening) -> RegisterChange {
    match what {
        Loosening::MediumEntered => RegisterChange::MediumEntered,
        Loosening::MediumFound => RegisterChange::MediumFound,
        Loosening::MediaReviewed => RegisterChange::MediaReviewed,
        Loosening::TrainingHeld => RegisterChange::TrainingHeld,
        Loosening::Declared => RegisterChange::Declared,
    }
}
