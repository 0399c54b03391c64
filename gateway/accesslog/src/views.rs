//! Which pages stand open, and for how long each was. Pure: time is an argument, and nothing is written here.

use std::collections::HashMap;
use std::hash::Hash;

use crate::{End, Ending};

/// Pages that may stand open; who opens more has the oldest ended.
const MOST: usize = 4096;

/// Open pages, by session and page. Time is in seconds of a clock that only goes forward.
#[derive(Debug)]
pub struct Views<S, V> {
    open: HashMap<S, Vec<View<V>>>,
    count: usize,
}

#[derive(Debug)]
struct View<V> {
    page: V,
    entry: u64,
    since: u64,
}

/// What has come to its end.
pub type Over = Vec<Ending>;

impl<S: Clone + Eq + Hash, V: PartialEq> Default for Views<S, V> {
    fn default() -> Self {
        Self {
            open: HashMap::new(),
            count: 0,
        }
    }
}

impl<S: Clone + Eq + Hash, V: PartialEq> Views<S, V> {
    /// A page was opened; its access is entry `entry`.
    pub fn opened(&mut self, session: S, page: V, entry: u64, now: u64) -> Over {
        let over = if self.count >= MOST {
            self.oldest_session()
                .map(|oldest| self.moves_on(&oldest, now))
                .unwrap_or_default()
        } else {
            Over::new()
        };
        self.count += 1;
        self.open.entry(session).or_default().push(View {
            page,
            entry,
            since: now,
        });
        over
    }

    /// Another page is asked for in this session.
    pub fn moves_on(&mut self, session: &S, now: u64) -> Over {
        self.take(session, |_| true, End::Next, now)
    }

    /// This page was left.
    pub fn left(&mut self, session: &S, page: &V, now: u64) -> Over {
        self.take(session, |view| view.page == *page, End::Left, now)
    }

    /// Ends what has stood open for `longest` seconds; its length is that, at the most.
    pub fn idle(&mut self, longest: u64, now: u64) -> Over {
        let sessions: Vec<S> = self.open.keys().cloned().collect();
        let mut over = Over::new();
        for session in sessions {
            let old = |view: &View<V>| now.saturating_sub(view.since) >= longest;
            over.extend(self.take(&session, old, End::Idle, now));
        }
        for ending in &mut over {
            ending.seconds = longest;
        }
        over
    }

    /// The box stops.
    pub fn stop(&mut self, now: u64) -> Over {
        let sessions: Vec<S> = self.open.keys().cloned().collect();
        sessions
            .iter()
            .flat_map(|session| self.take(session, |_| true, End::Stopped, now))
            .collect()
    }

    fn take(&mut self, session: &S, which: impl Fn(&View<V>) -> bool, end: End, now: u64) -> Over {
        let Some(views) = self.open.get_mut(session) else {
            return Over::new();
        };
        let (over, still): (Vec<_>, Vec<_>) = views.drain(..).partition(|view| which(view));
        *views = still;
        if views.is_empty() {
            self.open.remove(session);
        }
        self.count -= over.len();
        over.into_iter()
            .map(|view| Ending {
                of: view.entry,
                seconds: now.saturating_sub(view.since),
                end,
            })
            .collect()
    }

    fn oldest_session(&self) -> Option<S> {
        let oldest = |views: &Vec<View<V>>| views.iter().map(|view| view.since).min();
        self.open
            .iter()
            .min_by_key(|(_, views)| oldest(views))
            .map(|(session, _)| session.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ending(of: u64, seconds: u64, end: End) -> Ending {
        Ending { of, seconds, end }
    }

    #[test]
    fn a_page_lasts_until_it_is_left_or_the_next_is_asked_for() {
        let mut views = Views::default();
        assert!(views.opened("s", 1, 10, 100).is_empty());
        assert!(views.left(&"s", &2, 105).is_empty(), "another page");
        assert!(views.left(&"t", &1, 105).is_empty(), "another session");
        assert_eq!(views.left(&"s", &1, 107), [ending(10, 7, End::Left)]);
        assert!(views.moves_on(&"s", 108).is_empty(), "it is over already");
        views.opened("s", 2, 11, 110);
        views.opened("s", 2, 12, 110);
        assert_eq!(
            views.moves_on(&"s", 130),
            [ending(11, 20, End::Next), ending(12, 20, End::Next)]
        );
        // The page that was left says so late, when the next one stands open.
        views.opened("s", 3, 13, 131);
        assert!(views.left(&"s", &2, 131).is_empty());
        assert_eq!(views.stop(140), [ending(13, 9, End::Stopped)]);
        assert_eq!(views.count, 0);
    }

    #[test]
    fn a_page_that_nobody_leaves_ends_when_a_session_would_and_no_longer() {
        let mut views = Views::default();
        views.opened("s", 1, 10, 0);
        views.opened("t", 2, 11, 500);
        assert!(views.idle(900, 899).is_empty());
        assert_eq!(views.idle(900, 960), [ending(10, 900, End::Idle)]);
        assert_eq!(views.idle(900, 5000), [ending(11, 900, End::Idle)]);
    }

    #[test]
    fn open_pages_are_bounded_and_the_oldest_session_makes_room() {
        let mut views = Views::default();
        for n in 0..MOST as u64 {
            assert!(views.opened(n, 1, n, n).is_empty());
        }
        let over = views.opened(u64::MAX, 1, 7777, 5000);
        assert_eq!(over, [ending(0, 5000, End::Next)]);
        assert_eq!(views.count, MOST);
    }
}
