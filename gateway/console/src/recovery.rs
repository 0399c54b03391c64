//! The recovery key of the box's encrypted disk, as the pages show it. Where it is kept is behind [`RecoveryDesk`].

use crate::{Answer, Entry, Message};

/// What the page of the recovery key asks for and sets in motion.
pub trait RecoveryDesk: Send + Sync + 'static {
    /// How it stands. Asked for the manager's pages, so it must not wait for long.
    fn state(&self) -> RecoveryKey;

    /// The key, to be shown on one page. That it was shown is on record before.
    fn show(&self) -> Answer<'_, Result<Entry, Message>>;

    /// The manager keeps it on paper: the box forgets it, for good.
    fn hand_over(&self) -> Answer<'_, Result<(), Message>>;
}

/// Where the recovery key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecoveryKey {
    /// There is none: this is not the image, whose disk is made with one.
    None,
    /// On the box, waiting to be put on paper.
    OnTheBox,
    /// With the facility; the box has none any more.
    HandedOver,
}
