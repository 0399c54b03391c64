//! Exceptions from single checks of single devices, as the pages show and make them. For how long and from which checks is the
//! policy's; the daemon's [`WaiversDesk`] asks it.

use gateway_policy::{Check, DeviceId, Timestamp};

use crate::{Answer, Message, Staff};

/// What the pages about exceptions ask for and set in motion.
pub trait WaiversDesk: Send + Sync + 'static {
    /// Exceptions that run or have ended, the newest end first, and what the manager may make.
    fn waivers(&self) -> Answer<'_, Result<Waivers, Message>>;

    /// Makes an exception.
    fn make(&self, wish: NewWaiver, by: Staff) -> Answer<'_, Result<(), Message>>;

    /// Ends an exception of the manager's before its time.
    fn withdraw(
        &self,
        device: DeviceId,
        check: Check,
        by: Staff,
    ) -> Answer<'_, Result<(), Message>>;
}

/// All exceptions.
#[derive(Clone, Debug, Default)]
pub struct Waivers {
    /// Those that run, and those that have ended.
    pub made: Vec<Waiver>,
    /// What the manager may except now.
    pub possible: Vec<Possible>,
}

/// One exception.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiver {
    /// From whose check; `None`: the box's or the facility's own, which only the city may except.
    pub device: Option<DeviceId>,
    /// What that is called.
    pub name: String,
    /// Which check.
    pub check: Check,
    /// Made by the city's signed policy.
    pub by_city: bool,
    /// Why.
    pub reason: String,
    /// Until when it runs, or ran.
    pub until: Timestamp,
    /// It runs.
    pub runs: bool,
    /// What it was for is in order now.
    pub in_order: bool,
}

/// A check that the manager may except.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Possible {
    /// Of which device.
    pub device: DeviceId,
    /// What the manager calls it.
    pub name: String,
    /// Which check.
    pub check: Check,
    /// The longest it may last, in seconds.
    pub longest: i64,
}

/// An exception to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewWaiver {
    /// Of which device.
    pub device: DeviceId,
    /// Which check.
    pub check: Check,
    /// Until when.
    pub until: Timestamp,
    /// Why; names no person.
    pub reason: String,
}
