//! Events that wait to be handed to the sink together: the more in one transaction, the less each of them costs.
//!
//! It hands nothing over itself. While the box catches up it waits for more for a short time; as soon as the box is level with
//! the city, nothing waits but for the events before it.

use std::time::Duration;

use tokio::time::Instant;

use super::FeedEvent;
use crate::wire::Event;

/// So many are enough: a sink's transaction stays within some megabytes.
const ENOUGH_EVENTS: usize = 4096;
/// As many bytes of the feed are enough, whatever they hold.
const ENOUGH_BYTES: usize = 4 * 1024 * 1024;
/// When nothing comes for this long, what there is goes.
const GAP: Duration = Duration::from_millis(20);
/// No event waits longer for others.
const LONGEST: Duration = Duration::from_millis(250);

#[derive(Default)]
pub(super) struct Gathered {
    events: Vec<FeedEvent>,
    bytes: usize,
    level: bool,
    /// When the first and the last of them came.
    times: Option<(Instant, Instant)>,
}

impl Gathered {
    /// Events of `bytes` bytes that came at `now`.
    pub(super) fn add(&mut self, events: Vec<FeedEvent>, bytes: usize, now: Instant) {
        if events.is_empty() {
            return;
        }
        self.level |= events.iter().any(|event| event.event == Event::CaughtUp);
        self.bytes += bytes;
        self.times = Some((self.times.map_or(now, |(first, _)| first), now));
        if self.events.is_empty() {
            self.events = events;
        } else {
            self.events.extend(events);
        }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// No more is to be added before these are taken.
    pub(super) const fn is_full(&self) -> bool {
        self.events.len() >= ENOUGH_EVENTS || self.bytes >= ENOUGH_BYTES
    }

    /// When they are to be handed over, should nothing more come.
    pub(super) fn due(&self) -> Instant {
        match self.times {
            Some((first, _)) if self.level || self.is_full() => first,
            Some((first, last)) => (first + LONGEST).min(last + GAP),
            None => Instant::now(),
        }
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        !self.is_empty() && self.due() <= now
    }

    pub(super) fn take(&mut self) -> Vec<FeedEvent> {
        self.bytes = 0;
        self.times = None;
        std::mem::take(&mut self.events)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(events: Vec<Event>) -> Vec<FeedEvent> {
        let event = |event| FeedEvent { id: None, event };
        events.into_iter().map(event).collect()
    }

    fn one() -> Vec<FeedEvent> {
        events(vec![Event::NoteDeleted("n".into())])
    }

    #[test]
    fn while_catching_up_events_wait_for_others_but_not_for_long() {
        let mut gathered = Gathered::default();
        let start = Instant::now();
        assert!(!gathered.is_due(start));
        gathered.add(one(), 10, start);
        assert!(!gathered.is_due(start));
        assert!(gathered.is_due(start + GAP));
        let mut now = start;
        while now < start + LONGEST {
            assert!(!gathered.is_due(now));
            gathered.add(one(), 10, now);
            now += GAP / 2;
        }
        assert!(gathered.is_due(now));
        assert!(gathered.take().len() > 20);
        assert!(gathered.is_empty() && !gathered.is_due(now));
    }

    #[test]
    fn once_level_with_the_city_nothing_waits() {
        let mut gathered = Gathered::default();
        let now = Instant::now();
        gathered.add(one(), 10, now);
        gathered.add(events(vec![Event::CaughtUp]), 10, now);
        assert!(gathered.is_due(now));
        assert_eq!(gathered.take().len(), 2);
        gathered.add(one(), 10, now);
        assert!(gathered.is_due(now));
    }

    #[test]
    fn enough_is_enough_in_events_and_in_bytes() {
        let now = Instant::now();
        let mut many = Gathered::default();
        while !many.is_full() {
            many.add(one(), 10, now);
        }
        assert!(many.is_due(now));
        assert_eq!(many.take().len(), ENOUGH_EVENTS);
        assert!(!many.is_full());
        many.add(one(), ENOUGH_BYTES, now);
        assert!(many.is_full() && many.is_due(now));
    }
}
