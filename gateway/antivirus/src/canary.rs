//! Proof that the scanner is alive: it catches what it must catch, and passes what it must pass.
//!
//! It does not prove that the database is current.

use crate::samples::eicar;
use crate::{BodyError, Outcome, Scanner, SealedBody, Unavailable, Unscannable};

/// The canary was caught and a clean body passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caught {
    /// The signature that caught it.
    pub signature: String,
}

/// Why the scanner does not count as alive.
#[derive(Debug, thiserror::Error)]
pub enum CanaryError {
    /// The canary passed as clean: the scanner answers but catches nothing.
    #[error("the scanner let the test virus pass")]
    Missed,
    /// A clean body was not found clean: the scanner would stop everything.
    #[error("the scanner stopped a clean body: {0:?}")]
    FalseAlarm(Outcome),
    /// The test virus could not be scanned.
    #[error("the scanner could not scan the test virus")]
    Unscannable(#[source] Unscannable),
    /// The scanner could not be asked.
    #[error("the scanner could not be asked")]
    Unavailable(#[source] Unavailable),
    /// The bodies could not be prepared.
    #[error("the test bodies could not be prepared")]
    Prepare(#[source] BodyError),
}

impl Scanner {
    /// Scans the EICAR test file and a clean text, beside the limit on concurrent scans, within the time of two commands.
    ///
    /// # Errors
    /// [`CanaryError`] unless the one is caught and the other clean.
    pub async fn canary(&self) -> Result<Caught, CanaryError> {
        let prepare = |bytes: &[u8]| SealedBody::from_bytes(bytes).map_err(CanaryError::Prepare);
        let limit = self.command_limit();
        let virus = prepare(&eicar())?;
        let mut outcome = self.scan_now(&virus, limit).await;
        // Where a security module withholds descriptors from clamd, it hangs up. Only the canary may draw that
        // conclusion: a hang-up on any other body more likely means that clamd was killed.
        if outcome == Outcome::Unavailable(Unavailable::NoAnswer) && !self.streams() {
            outcome = self.scan_as_stream(&virus, limit).await;
            if matches!(outcome, Outcome::Infected(_)) {
                self.stream_from_now_on();
            }
        }
        let signature = match outcome {
            Outcome::Infected(signature) => signature,
            // Forbidden is said only when no malware was found.
            Outcome::Clean | Outcome::Forbidden(_) => return Err(CanaryError::Missed),
            Outcome::Unscannable(why) => return Err(CanaryError::Unscannable(why)),
            Outcome::Unavailable(why) => return Err(CanaryError::Unavailable(why)),
        };
        match self.scan_now(&prepare(CLEAN)?, limit).await {
            Outcome::Clean => Ok(Caught { signature }),
            Outcome::Unavailable(why) => Err(CanaryError::Unavailable(why)),
            other => Err(CanaryError::FalseAlarm(other)),
        }
    }
}

const CLEAN: &[u8] = b"A clean text, to see that the scanner still tells the difference.\n";
