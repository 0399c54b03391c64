//! May stored notes be read now, although the city may not be there? How long it has been away, from clocks of which one
//! only goes forward; and what the policy lets staff do meanwhile.
//!
//! It reads no clock and keeps nothing: moments, the TPM's clock and the last contact are arguments. Who may read whose notes
//! is decided by the store, at each read, after this.

mod pin;

pub use pin::{Pin, PinFault};

use crate::{Policy, Timestamp};

/// For how many hours without the city stored notes stay readable where the policy says nothing: a long weekend's outage.
pub const OFFLINE_HOURS: u32 = 72;

/// The longest time for which a TPM that lost power may set its clock back, in milliseconds: the interval at which it must
/// save it (TPM 2.0 Part 1, "Clock": at least every 2²² ms, about 70 minutes).
pub const HIDDEN_BY_RESET: u64 = 1 << 22;

/// How long an offline sign-in lasts, in seconds.
pub const PIN_SESSION: i64 = 2 * 3600;

/// Wrong PINs after which only a sign-in at the city helps.
pub const PIN_FAILURES: u8 = 5;

/// The TPM's own clock (TPMS_CLOCK_INFO, TPM 2.0 Part 2 section 10.11.1). Nobody can set it back; without power it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TpmClock {
    /// Time with power since the TPM was cleared, in milliseconds.
    pub milliseconds: u64,
    /// How often it was reset, plus a number that is the same in all readings by one key.
    pub resets: u32,
}

/// The last moment at which the box was level with the city.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contact {
    /// The moment, by the city's clock.
    pub at: Timestamp,
    /// The TPM's clock at that moment.
    pub tpm: TpmClock,
    /// What the policy in force at that moment permitted. One that ends in the outage, or that is carried in on a medium,
    /// never permits more.
    pub granted: OfflineRules,
}

/// What the clocks say now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clocks {
    /// The box's clock. Whoever holds the box can set it.
    pub wall: Timestamp,
    /// The latest moment that the city is known to have signed.
    pub floor: Timestamp,
    /// The TPM's clock; `None` when the TPM has not told it for a while.
    pub tpm: Option<TpmClock>,
}

impl Contact {
    /// For how many seconds the city has been away, at least as long as it really was while the box had power.
    ///
    /// The longest of what the clocks say: each can be held back by somebody, none but the wall clock can be put forward, and
    /// that only shortens reading. A contact that was kept and put back is an older one, so what comes out is longer.
    /// `None` when the TPM's clock says nothing, or something that cannot be.
    #[must_use]
    pub fn elapsed(&self, now: &Clocks) -> Option<i64> {
        let by_tpm = self.tpm.until(now.tpm?)?;
        let by_wall = self.at.age(now.wall);
        let by_floor = self.at.age(now.floor);
        Some(by_tpm.max(by_wall).max(by_floor))
    }

    /// The earliest that it can be now: the contact, and the time that has passed since for certain.
    #[must_use]
    pub fn earliest_now(&self, now: &Clocks) -> Timestamp {
        let passed = now.tpm.map_or(0, |tpm| self.tpm.at_least_until(tpm));
        now.floor.max(self.at.plus(passed))
    }
}

impl TpmClock {
    /// The most seconds with power that can have passed from `self` to `later`. `None` when the two do not fit.
    fn until(self, later: Self) -> Option<i64> {
        let resets = later.resets.wrapping_sub(self.resets);
        // More than a box sees in its life: another key, or another TPM.
        if resets > u32::from(u16::MAX) {
            return None;
        }
        if resets == 0 && later.milliseconds < self.milliseconds {
            return None;
        }
        // `safe` is not asked: it turns to YES again once the clock has passed what was saved, and the time is hidden still.
        let most = later
            .milliseconds
            .saturating_add(u64::from(resets) * HIDDEN_BY_RESET);
        seconds(most.saturating_sub(self.milliseconds).div_ceil(1000))
    }

    /// The seconds with power that have passed for certain.
    fn at_least_until(self, later: Self) -> i64 {
        let passed = later.milliseconds.saturating_sub(self.milliseconds) / 1000;
        // What was counted before a reset was counted once; a reading that does not fit proves nothing.
        self.until(later).and(seconds(passed)).unwrap_or(0)
    }
}

fn seconds(number: u64) -> Option<i64> {
    i64::try_from(number).ok()
}

/// What the policy says about the time without the city.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OfflineRules {
    /// The store is used at all.
    pub store: bool,
    /// For how many hours stored notes stay readable.
    pub hours: u32,
    /// Sessions that the city opened before go on.
    pub sessions: bool,
    /// Staff may sign in with a PIN.
    pub pin: bool,
}

impl OfflineRules {
    /// What both permit.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        Self {
            store: self.store && other.store,
            hours: self.hours.min(other.hours),
            sessions: self.sessions && other.sessions,
            pin: self.pin && other.pin,
        }
    }
}

impl Policy {
    /// What it says about the time without the city. A PIN is a way in that the city did not open: only where it says so.
    #[must_use]
    pub fn offline(&self) -> OfflineRules {
        OfflineRules {
            store: self.store.days != Some(0),
            hours: self.store.offline_hours.unwrap_or(OFFLINE_HOURS),
            sessions: self.store.offline_sessions.unwrap_or(true),
            pin: self.store.offline_pin.unwrap_or(false),
        }
    }
}

/// Stored notes may be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// The box is level with the city: what it says takes effect at once.
    Linked,
    /// The city is away.
    Offline {
        /// Since when, by the city's clock.
        since: Timestamp,
        /// Until when they may be read, by the box's clock, if the city does not answer before.
        until: Timestamp,
    },
}

/// Stored notes may not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Locked {
    /// The policy has switched the store off.
    #[error("the policy has switched the store off")]
    SwitchedOff,
    /// The city has been away for longer than the policy permits.
    #[error("the city has been away for more than {hours} hours")]
    TooLong {
        /// Since when, by the city's clock.
        since: Timestamp,
        /// How many hours the policy permits.
        hours: u32,
    },
    /// The city was heard, and says that the facility is suspended or its certificate revoked (第31条, 第35条).
    #[error("the city refuses this facility")]
    Refused,
    /// The box does not know that it was ever level with the city.
    #[error("no contact with the city is known")]
    NeverHeard,
    /// The TPM does not say how much time has passed.
    #[error("the TPM does not tell the time that has passed")]
    NoTrustedTime,
}

/// Decides whether stored notes may be read by anybody. `linked`: the box is level with the city at this moment.
///
/// # Errors
/// [`Locked`]. It opens again by itself when the city answers.
pub fn reading(
    linked: bool,
    contact: Option<&Contact>,
    now: &Clocks,
    rules: &OfflineRules,
) -> Result<Reading, Locked> {
    if !rules.store {
        return Err(Locked::SwitchedOff);
    }
    if linked {
        return Ok(Reading::Linked);
    }
    let contact = contact.ok_or(Locked::NeverHeard)?;
    let elapsed = contact.elapsed(now).ok_or(Locked::NoTrustedTime)?;
    let hours = rules.hours.min(contact.granted.hours);
    let left = i64::from(hours) * 3600 - elapsed;
    if left <= 0 {
        return Err(Locked::TooLong {
            since: contact.at,
            hours,
        });
    }
    Ok(Reading::Offline {
        since: contact.at,
        // A wall clock set back makes `left` longer than what is left by it, never longer than what the TPM leaves.
        until: now.wall.plus(left),
    })
}
