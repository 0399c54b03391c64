//! A waker that tells whether it was used, and passes the call on only when nobody is there to hear it.
//!
//! Streams and the protocol of one connection wake each other while both are being polled by the same task. Passed on,
//! each such call would have the task scheduled once more, to find nothing to do. Does not count calls.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    task::{Context, Wake, Waker},
};

use futures_util::task::AtomicWaker;

#[derive(Debug, Default)]
pub(crate) struct Bell {
    rung: AtomicBool,
    /// The task is being polled and will look at `rung` before it rests.
    attended: AtomicBool,
    task: AtomicWaker,
}

impl Bell {
    /// From now until [`Bell::detach`] the task looks itself.
    pub(crate) fn attach(&self, cx: &Context<'_>) {
        self.task.register(cx.waker());
        self.attended.store(true, SeqCst);
    }

    /// The task goes to rest; if the bell has rung and was not answered, the task comes again.
    pub(crate) fn detach(&self) {
        self.attended.store(false, SeqCst);
        if self.rung.load(SeqCst) {
            self.task.wake();
        }
    }

    /// The task goes on to something else and will ask again by itself: what has rung meanwhile is not for now.
    pub(crate) fn leave(&self) {
        self.attended.store(false, SeqCst);
    }

    /// Answers the bell by polling something with it.
    pub(crate) fn listen<R>(self: &Arc<Self>, poll: impl FnOnce(&mut Context<'_>) -> R) -> R {
        self.rung.store(false, SeqCst);
        let waker = Waker::from(Arc::clone(self));
        poll(&mut Context::from_waker(&waker))
    }

    pub(crate) fn has_rung(&self) -> bool {
        self.rung.load(SeqCst)
    }

    pub(crate) fn ring(&self) {
        self.rung.store(true, SeqCst);
        if !self.attended.load(SeqCst) {
            self.task.wake();
        }
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.ring();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ring();
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::AtomicUsize,
        task::{Context, Wake, Waker},
    };

    use super::*;

    #[derive(Default)]
    struct Calls(AtomicUsize);

    impl Wake for Calls {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    #[test]
    fn a_bell_that_rings_while_attended_does_not_call_the_task_unless_it_goes_unanswered() {
        let calls = Arc::new(Calls::default());
        let waker = Waker::from(Arc::clone(&calls));
        let cx = Context::from_waker(&waker);
        let bell = Arc::new(Bell::default());

        bell.attach(&cx);
        bell.ring();
        assert!(bell.has_rung());
        bell.listen(|_| ());
        bell.detach();
        assert_eq!(calls.0.load(SeqCst), 0, "answered");

        bell.attach(&cx);
        bell.listen(|inner| inner.waker().wake_by_ref());
        bell.detach();
        assert_eq!(calls.0.load(SeqCst), 1, "unanswered");
    }

    #[test]
    fn a_bell_that_was_left_calls_for_what_rings_afterwards_only() {
        let calls = Arc::new(Calls::default());
        let waker = Waker::from(Arc::clone(&calls));
        let bell = Arc::new(Bell::default());
        bell.attach(&Context::from_waker(&waker));
        bell.ring();
        bell.leave();
        assert_eq!(calls.0.load(SeqCst), 0, "rang before");
        bell.ring();
        assert_eq!(calls.0.load(SeqCst), 1, "rang afterwards");
    }

    #[test]
    fn a_bell_that_rings_at_rest_calls_the_task() {
        let calls = Arc::new(Calls::default());
        let waker = Waker::from(Arc::clone(&calls));
        let bell = Arc::new(Bell::default());
        bell.attach(&Context::from_waker(&waker));
        bell.detach();
        bell.ring();
        assert_eq!(calls.0.load(SeqCst), 1);
    }
}
