//! When devices are there, from what the box itself sees: the last request, the last that a person caused, how long a
//! device has been online, and which are left on after hours (第25条).
//!
//! It sees requests, not people: a person who reads for half an hour without a click looks like an empty chair, and a PC
//! that is on but silent is not seen at all.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use gateway_policy::calendar::Date;
use gateway_policy::{DeviceId, Timestamp};

/// Two requests within this time belong to one stretch of being online, in seconds. Longer than the interval of reports.
const STRETCH: i64 = 1_200;

/// So long after the last thing a person did a device is left alone, in seconds.
const ALONE: i64 = 1_800;

/// More than a facility may register.
const MOST: usize = 1_024;

/// A device left on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeftOn {
    /// Which.
    pub device: DeviceId,
    /// The evening: the day on which the hours ended, as its midnight in Japan.
    pub night: Timestamp,
    /// When a person last did something, or when it was first seen without one.
    pub first: Timestamp,
    /// When it was last seen.
    pub last: Timestamp,
}

/// The hours in which a facility works, in minutes after midnight in Japan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hours {
    pub(crate) open: i64,
    pub(crate) close: i64,
}

impl Default for Hours {
    /// From seven to nine in the evening: early and late visits included.
    fn default() -> Self {
        Self {
            open: 7 * 60,
            close: 21 * 60,
        }
    }
}

impl Hours {
    /// The evening to which a moment outside the hours belongs; `None` within them.
    fn night(self, at: Timestamp) -> Option<Timestamp> {
        let midnight = Date::in_japan(at).midnight_in_japan();
        let minute = midnight.age(at) / 60;
        if minute >= self.close {
            Some(midnight)
        } else if minute < self.open {
            Some(Date::in_japan(midnight.plus(-1)).midnight_in_japan())
        } else {
            None
        }
    }

    /// The evening whose night ended last.
    pub(crate) fn last_night(self, now: Timestamp) -> Timestamp {
        let midnight = Date::in_japan(now).midnight_in_japan();
        let before = |day: Timestamp| Date::in_japan(day.plus(-1)).midnight_in_japan();
        if midnight.age(now) / 60 >= self.open {
            before(midnight)
        } else {
            before(before(midnight))
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    last: Timestamp,
    /// The last thing a person did.
    action: Timestamp,
    /// Seconds online that have not been collected yet.
    online: i64,
    left_on: Option<LeftOn>,
    changed: bool,
}

/// See the module. Asked at every request: one short lock, no allocation but for a device's first request.
#[derive(Debug, Default)]
pub struct Presence {
    devices: Mutex<HashMap<DeviceId, Seen>>,
    hours: Hours,
}

/// What has happened since it was last collected.
#[derive(Debug, Default)]
pub(crate) struct Collected {
    /// When each was last seen, and for how long it has been online, in seconds.
    pub(crate) seen: Vec<(DeviceId, Timestamp, i64)>,
    pub(crate) left_on: Vec<LeftOn>,
}

impl Presence {
    /// A request came from a device. `by_person`: one that only a person causes (a page opened, a form sent), as opposed to
    /// what a page left open does by itself.
    pub fn seen(&self, device: DeviceId, now: Timestamp, by_person: bool) {
        let mut devices = self.lock();
        if devices.len() >= MOST && !devices.contains_key(&device) {
            return;
        }
        let seen = devices.entry(device).or_insert(Seen {
            last: now,
            action: now,
            online: 0,
            left_on: None,
            changed: true,
        });
        let since_last = seen.last.age(now);
        if (1..=STRETCH).contains(&since_last) {
            seen.online += since_last;
        }
        seen.changed |= since_last != 0;
        // A clock set back begins anew: a time from the future would hide everything until it is reached.
        if since_last < 0 || by_person || since_last > STRETCH {
            seen.action = now;
        }
        seen.last = now;
        let Some(night) = self.hours.night(now) else {
            return;
        };
        if seen.action.age(now) < ALONE {
            return;
        }
        match &mut seen.left_on {
            Some(left_on) if left_on.night == night => left_on.last = now,
            other => {
                *other = Some(LeftOn {
                    device,
                    night,
                    first: seen.action,
                    last: now,
                });
            }
        }
    }

    pub(crate) fn collect(&self) -> Collected {
        let mut collected = Collected::default();
        for (device, seen) in self.lock().iter_mut().filter(|(_, seen)| seen.changed) {
            seen.changed = false;
            collected
                .seen
                .push((*device, seen.last, std::mem::take(&mut seen.online)));
            collected.left_on.extend(seen.left_on);
        }
        collected
    }

    pub(crate) const fn hours(&self) -> Hours {
        self.hours
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<DeviceId, Seen>> {
        // Each change is whole at every moment that can panic.
        self.devices.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEVICE: DeviceId = DeviceId([1; 16]);

    /// 24 November 2026, a Tuesday, at this hour and minute in Japan.
    fn at(hour: i64, minute: i64) -> Timestamp {
        let day = Date {
            year: 2026,
            month: 11,
            day: 24,
        };
        day.midnight_in_japan().plus(hour * 3600 + minute * 60)
    }

    fn left_on(presence: &Presence) -> Option<LeftOn> {
        presence.collect().left_on.pop()
    }

    /// Something on the device asks every five minutes by itself.
    fn idles(presence: &Presence, from: Timestamp, to: Timestamp) {
        let mut now = from;
        while now <= to {
            presence.seen(DEVICE, now, false);
            now = now.plus(300);
        }
    }

    #[test]
    fn a_pc_that_goes_on_talking_alone_after_hours_is_left_on() {
        let presence = Presence::default();
        presence.seen(DEVICE, at(20, 50), true);
        idles(&presence, at(20, 55), at(21, 15));
        assert_eq!(left_on(&presence), None);
        idles(&presence, at(21, 20), at(23, 0));
        let found = left_on(&presence).unwrap();
        assert_eq!(
            (found.first, found.last, found.night),
            (at(20, 50), at(23, 0), at(0, 0))
        );
        // After midnight it is still the same night.
        idles(&presence, at(23, 5), at(24 + 6, 0));
        assert_eq!(left_on(&presence).unwrap().night, at(0, 0));
        assert_eq!(presence.hours().last_night(at(24 + 7, 0)), at(0, 0));
        assert_eq!(presence.hours().last_night(at(24 + 6, 59)), at(-24, 0));
    }

    #[test]
    fn somebody_who_works_at_night_leaves_nothing_on() {
        let presence = Presence::default();
        let mut now = at(21, 0);
        while now < at(23, 0) {
            presence.seen(DEVICE, now, true);
            idles(&presence, now.plus(300), now.plus(1_200));
            now = now.plus(1_500);
        }
        assert_eq!(left_on(&presence), None);
    }

    #[test]
    fn by_day_a_pc_may_talk_alone() {
        let presence = Presence::default();
        idles(&presence, at(9, 0), at(20, 59));
        assert_eq!(left_on(&presence), None);
    }

    #[test]
    fn time_online_is_the_sum_of_stretches_and_not_of_pauses() {
        let presence = Presence::default();
        idles(&presence, at(9, 0), at(10, 0));
        idles(&presence, at(14, 0), at(14, 30));
        let collected = presence.collect();
        assert_eq!(collected.seen, [(DEVICE, at(14, 30), 5_400)]);
        assert!(presence.collect().seen.is_empty());
    }

    #[test]
    fn a_clock_set_back_does_not_hide_what_follows() {
        let presence = Presence::default();
        presence.seen(DEVICE, at(24 + 9, 0), true);
        presence.seen(DEVICE, at(21, 0), false);
        idles(&presence, at(21, 5), at(22, 0));
        assert_eq!(left_on(&presence).unwrap().first, at(21, 0));
    }
}
