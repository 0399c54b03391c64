//! One timer for the deadlines of a connection's requests, one after the other. Does not know what is late.
//!
//! Nearly every deadline is lifted long before it is due. So the timer is not moved with it: when it runs out and the deadline
//! has moved on, it is set anew.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until};

use crate::caller::Caller;

pub(super) struct Deadline {
    due: Instant,
    timer: Option<Pin<Box<Sleep>>>,
    caller: Caller,
}

impl Deadline {
    pub(super) fn new() -> Self {
        Self {
            due: Instant::now(),
            timer: None,
            caller: Caller::new(),
        }
    }

    /// From now on it is due in `time`.
    pub(super) fn set(&mut self, time: Duration) {
        self.due = Instant::now() + time;
        if let Some(timer) = &mut self.timer
            && timer.deadline() > self.due
        {
            timer.as_mut().reset(self.due);
            self.caller.ask_again();
        }
    }

    /// Ready when it is due.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let due = self.due;
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(sleep_until(due)))
            .as_mut();
        self.caller.poll(cx, |cx| poll_until(timer, due, cx))
    }

    /// Nobody waits for it until it is set again.
    pub(super) fn leave(&mut self) {
        self.caller.leave();
    }
}

fn poll_until(mut timer: Pin<&mut Sleep>, due: Instant, cx: &mut Context<'_>) -> Poll<()> {
    loop {
        ready!(timer.as_mut().poll(cx));
        if timer.deadline() >= due {
            return Poll::Ready(());
        }
        timer.as_mut().reset(due);
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    const LONG: Duration = Duration::from_millis(60);
    const SHORT: Duration = Duration::from_millis(10);

    async fn wait(deadline: &mut Deadline) -> Duration {
        let from = Instant::now();
        poll_fn(|cx| deadline.poll(cx)).await;
        from.elapsed()
    }

    #[tokio::test]
    async fn a_deadline_that_was_moved_is_not_due_when_the_first_would_have_been() {
        let mut deadline = Deadline::new();
        deadline.set(SHORT);
        assert!(
            deadline
                .poll(&mut Context::from_waker(std::task::Waker::noop()))
                .is_pending()
        );
        deadline.set(LONG);
        assert!(wait(&mut deadline).await >= LONG - Duration::from_millis(1));
    }

    #[tokio::test]
    async fn a_deadline_moved_nearer_does_not_wait_for_the_first() {
        let mut deadline = Deadline::new();
        deadline.set(Duration::from_secs(3600));
        assert!(
            deadline
                .poll(&mut Context::from_waker(std::task::Waker::noop()))
                .is_pending()
        );
        deadline.leave();
        deadline.set(SHORT);
        // That it ends at all is the claim.
        wait(&mut deadline).await;
    }
}
