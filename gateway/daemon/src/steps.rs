//! Notices that the wall clock was set, or that the box slept, and wakes everybody who measures.
//!
//! Evidence is dated by the wall clock and measured on timers that run on. After a step of hours the last measurement is
//! that much older, and staff would be refused until each timer happened to fire. It does not judge the new time.

use std::time::{Duration, Instant, SystemTime};

use tokio::sync::watch;

/// How often both clocks are compared. Until then the snapshot looks hours old and staff are refused (SNAPSHOT-STALE); what
/// it rests on cannot be measured within a request, so the step has to be noticed before somebody asks.
const LOOK: Duration = Duration::from_millis(100);

/// Less than this is the ordinary slewing of time synchronisation.
const STEP: Duration = Duration::from_secs(30);

/// Told of each step.
#[derive(Clone, Debug)]
pub(crate) struct Steps(watch::Receiver<u64>);

impl Steps {
    /// Sleeps for `pause`, or until the wall clock steps.
    pub(crate) async fn sleep(&mut self, pause: Duration) {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            // Without the watching task there are no steps to tell of; the timer alone decides.
            Ok(()) = self.0.changed() => {}
        }
    }
}

/// The watching task, to be spawned once, and what it tells.
pub(crate) fn watch() -> (impl Future<Output = ()> + Send + 'static, Steps) {
    let (tell, told) = watch::channel(0);
    let task = async move {
        let mut last = (SystemTime::now(), Instant::now());
        loop {
            tokio::time::sleep(LOOK).await;
            let now = (SystemTime::now(), Instant::now());
            let step = difference(last, now);
            last = now;
            if step >= STEP {
                tracing::warn!(
                    event = "posture",
                    check = "CLOCK",
                    seconds = step.as_secs(),
                    "the wall clock was set, or the box slept; everything is measured anew"
                );
                tell.send_modify(|steps| *steps += 1);
            }
        }
    };
    (task, Steps(told))
}

/// How much further one clock went than the other between two looks, in either direction.
fn difference(before: (SystemTime, Instant), after: (SystemTime, Instant)) -> Duration {
    let elapsed = after.1.saturating_duration_since(before.1);
    match after.0.duration_since(before.0) {
        Ok(wall) => wall.abs_diff(elapsed),
        Err(back) => back.duration() + elapsed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_seen_in_both_directions_and_passing_time_is_none() {
        let before = (SystemTime::now(), Instant::now());
        let later = |wall: i64, elapsed: u64| {
            let shift = Duration::from_secs(wall.unsigned_abs());
            let wall = if wall < 0 {
                before.0 - shift
            } else {
                before.0 + shift
            };
            difference(before, (wall, before.1 + Duration::from_secs(elapsed)))
        };
        assert_eq!(later(100, 100), Duration::ZERO);
        assert_eq!(later(864_001, 1), Duration::from_secs(864_000));
        assert_eq!(later(-3600, 1), Duration::from_secs(3601));
        assert_eq!(later(1, 61), Duration::from_secs(60));
    }
}
