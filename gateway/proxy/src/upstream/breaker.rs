//! When to stop asking a site that does not answer, and how many retries it may be burdened with. Does not send anything.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

const FAILURES_TO_OPEN: u32 = 3;
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Opens after consecutive connect failures; while open, one probe per pause is let through, and the pause doubles.
#[derive(Debug, Default)]
pub(crate) struct Breaker(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    failures: u32,
    pause: Duration,
    open_until: Option<Instant>,
}

impl Breaker {
    /// Whether a connection may be dialled now. While open, the first caller after the pause becomes the probe.
    pub(crate) fn allows(&self, now: Instant) -> bool {
        let mut state = self.state();
        match state.open_until {
            None => true,
            Some(until) if now < until => false,
            Some(_) => {
                // Others wait until the probe has answered or another pause is over.
                state.open_until = Some(now + state.pause);
                true
            }
        }
    }

    /// Whether that is news.
    pub(crate) fn succeeded(&self) -> bool {
        std::mem::take(&mut *self.state()).failures > 0
    }

    /// Whether that is news.
    pub(crate) fn failed(&self, now: Instant) -> bool {
        let mut state = self.state();
        state.failures = state.failures.saturating_add(1);
        if state.failures >= FAILURES_TO_OPEN {
            state.pause = (state.pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
            state.open_until = Some(now + state.pause);
        }
        state.failures == 1
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lets about one request in ten be retried, with a small reserve for quiet times.
#[derive(Debug)]
pub(crate) struct RetryBudget(AtomicI64);

impl RetryBudget {
    const RETRY: i64 = 10;
    const RESERVE: i64 = 10 * Self::RETRY;

    pub(crate) const fn new() -> Self {
        Self(AtomicI64::new(Self::RESERVE))
    }

    /// Counts a first attempt.
    pub(crate) fn deposit(&self) {
        if self.0.load(Ordering::Relaxed) < Self::RESERVE {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Takes the price of one retry, if there is enough.
    pub(crate) fn withdraw(&self) -> bool {
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                (left >= Self::RETRY).then_some(left - Self::RETRY)
            })
            .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_site_is_left_alone_after_three_failures_and_probed_once_per_pause() {
        let breaker = Breaker::default();
        let start = Instant::now();
        for _ in 0..FAILURES_TO_OPEN {
            assert!(breaker.allows(start));
            let _ = breaker.failed(start);
        }
        assert!(!breaker.allows(start));
        let later = start + FIRST_PAUSE;
        assert!(breaker.allows(later), "the probe");
        assert!(!breaker.allows(later), "everybody else");
        assert!(!breaker.failed(later), "no news");
        assert!(
            !breaker.allows(later + FIRST_PAUSE),
            "the pause has doubled"
        );
        assert!(breaker.succeeded(), "news");
        assert!(breaker.allows(later));
    }

    #[test]
    fn retries_are_a_tenth_of_the_requests() {
        let budget = RetryBudget::new();
        while budget.withdraw() {}
        for _ in 0..100 {
            budget.deposit();
        }
        let retries = std::iter::repeat_with(|| budget.withdraw())
            .take_while(|granted| *granted)
            .count();
        assert_eq!(retries, 10);
    }
}
