//! The end of the data path, in two steps: take nothing new, then cut what is left. Does not count connections.

use tokio::sync::watch;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    Serving,
    /// No new connection; those that exist finish what they are at.
    Draining,
    /// Time is up.
    Cut,
}

/// Tells every connection how far the end has come.
#[derive(Debug)]
pub(crate) struct Drain(watch::Sender<Phase>);

impl Drain {
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(Phase::Serving))
    }

    pub(crate) fn enter(&self, phase: Phase) {
        self.0.send_modify(|now| *now = phase.max(*now));
    }

    pub(crate) fn phase(&self) -> Phase {
        *self.0.borrow()
    }

    /// Resolves when `phase` has been reached.
    pub(crate) async fn reached(&self, phase: Phase) {
        let mut receiver = self.0.subscribe();
        // Fails only when the sender is gone, and that is `self`.
        let _ = receiver.wait_for(|now| *now >= phase).await;
    }
}
