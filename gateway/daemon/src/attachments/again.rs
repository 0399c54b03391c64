//! Looks at readable attachments again once the scanner has another database, and withdraws those in which it finds something.
//!
//! One at a time and slowly, when nothing is to be fetched and also without the city; which are due, and that this survives
//! a restart, is the store's.

use std::time::Duration;

use gateway_audit::Content;
use gateway_notes::{Error, Judgement, Refusal, Store};
use tokio::time::Instant;

use super::{Attachments, Found, IDLE, LOOK};
use crate::certificates::chain;

/// Bytes in a second, on the average: the scanner is there for those who work in the notebook.
const RATE: u64 = 1 << 20;
/// However small a file is.
const PAUSE: Duration = Duration::from_millis(250);

/// When the next one may be looked at.
pub(super) struct Again(Instant);

impl Again {
    pub(super) fn new() -> Self {
        Self(Instant::now())
    }
}

impl Attachments {
    /// Tells the store which database the scanner has.
    pub(super) async fn name_database(&self, store: &Store) -> Result<(), Error> {
        let name = self.loaded.borrow().clone();
        match name {
            Some(name) => store.scanner_has(&name).await,
            None => Ok(()),
        }
    }

    /// Looks at one, if one is due. Answers how long nothing is to be done.
    pub(super) async fn look_again(&self, store: &Store, again: &mut Again) -> Duration {
        let wait = again.0.saturating_duration_since(Instant::now());
        if !wait.is_zero() {
            return wait;
        }
        if !self.scanner_is_fine() {
            return LOOK;
        }
        let pause = match self.look_at_one(store).await {
            Ok(Some(pause)) => pause,
            // Not waited for: a database may come at any moment.
            Ok(None) => return IDLE,
            Err(error) => {
                self.notes.saw(&error);
                tracing::warn!(event = "attachments", error = %chain(&error), "a stored attachment could not be looked at again; trying on");
                LOOK
            }
        };
        again.0 = Instant::now() + pause;
        pause
    }

    async fn look_at_one(&self, store: &Store) -> Result<Option<Duration>, Error> {
        self.name_database(store).await?;
        let Some(unjudged) = store.attachments_to_look_at_again(1).await?.pop() else {
            return Ok(None);
        };
        let (attempt, size) = (unjudged.attempt, unjudged.size);
        let Some((judgement, found)) = self.judge(unjudged).await else {
            self.trouble.notify_one();
            return Ok(Some(LOOK));
        };
        if let (Judgement::Refused(Refusal::Infected), Some(found)) = (judgement, found) {
            // First, or a power cut in between would leave a withdrawn file and no word of it. Cut before the file has gone,
            // it is found and said once more.
            let Found { digest, signature } = found;
            self.audit
                .erases(Content::Withdrawn, digest, &signature)
                .await;
        }
        store.judge_attachment(attempt, judgement).await?;
        let pause = Duration::from_secs_f64(size as f64 / RATE as f64);
        Ok(Some(pause.max(PAUSE)))
    }
}
