//! What is open on one worker and may have to end before its time: connections of known devices, and requests and tunnels in
//! flight. Asks the gate about them again and again. Does not end anything itself: it wakes those who do.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use gateway_policy::{Asked, DeviceId, Refusal};

use crate::pulse::Pulse;

/// The registers of one worker. Only its own thread takes the locks, but for [`Live::cut`].
#[derive(Debug, Default)]
pub(crate) struct Live {
    connections: Mutex<Places<Connected>>,
    exchanges: Mutex<Places<Exchange>>,
}

/// A connection of a device that has shown its certificate.
#[derive(Debug)]
struct Connected {
    device: DeviceId,
    pulse: Arc<Pulse>,
    /// It was revoked when it came: such a connection is good for the page that says so.
    came_revoked: bool,
}

/// A request or a tunnel that the gate has let through.
#[derive(Debug)]
struct Exchange {
    asked: Asked,
    device: Option<DeviceId>,
    waker: Waker,
    ended: Option<Ended>,
}

/// Why something in flight must end.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ended {
    /// The gate has turned.
    Refused(Refusal),
    /// The device's connections are cut.
    Cut,
}

impl Live {
    /// Takes a device's connection into the register until the answer is dropped.
    pub(crate) fn connected(
        self: &Arc<Self>,
        device: DeviceId,
        pulse: Arc<Pulse>,
        came_revoked: bool,
    ) -> Registered {
        let place = lock(&self.connections).insert(Connected {
            device,
            pulse,
            came_revoked,
        });
        Registered {
            live: Arc::clone(self),
            place,
        }
    }

    /// Judges everything that is in flight once more.
    pub(crate) fn judge(
        &self,
        refusal: impl Fn(&Asked, Option<DeviceId>) -> Option<Refusal>,
        is_revoked: impl Fn(DeviceId) -> bool,
    ) {
        for exchange in lock(&self.exchanges).iter_mut() {
            if exchange.ended.is_none()
                && let Some(refusal) = refusal(&exchange.asked, exchange.device)
            {
                exchange.end(Ended::Refused(refusal));
            }
        }
        for connected in lock(&self.connections).iter_mut() {
            if !connected.came_revoked && is_revoked(connected.device) {
                connected.pulse.cut();
            }
        }
    }

    /// Ends everything that belongs to a device, whatever the gate says.
    pub(crate) fn cut(&self, device: DeviceId) {
        for exchange in lock(&self.exchanges).iter_mut() {
            if exchange.device == Some(device) && exchange.ended.is_none() {
                exchange.end(Ended::Cut);
            }
        }
        for connected in lock(&self.connections).iter_mut() {
            if connected.device == device {
                connected.pulse.cut();
            }
        }
    }
}

impl Exchange {
    fn end(&mut self, why: Ended) {
        self.ended = Some(why);
        self.waker.wake_by_ref();
    }
}

/// A connection's place in the register.
#[derive(Debug)]
pub(crate) struct Registered {
    live: Arc<Live>,
    place: usize,
}

impl Drop for Registered {
    fn drop(&mut self) {
        lock(&self.live.connections).remove(self.place);
    }
}

/// Watches over one request or tunnel. It takes a place in the register only once there is something to wait for, so that
/// what is answered at once costs nothing.
#[derive(Debug)]
pub(crate) struct Watch {
    live: Arc<Live>,
    asked: Asked,
    device: Option<DeviceId>,
    place: Option<usize>,
}

impl Watch {
    pub(crate) const fn new(live: Arc<Live>, asked: Asked, device: Option<DeviceId>) -> Self {
        Self {
            live,
            asked,
            device,
            place: None,
        }
    }

    /// Ready when it must end; otherwise the task is woken when it must.
    pub(crate) fn poll_ended(&mut self, cx: &Context<'_>) -> Poll<Ended> {
        let mut exchanges = lock(&self.live.exchanges);
        let Some(exchange) = self.place.and_then(|place| exchanges.get_mut(place)) else {
            self.place = Some(exchanges.insert(Exchange {
                asked: self.asked,
                device: self.device,
                waker: cx.waker().clone(),
                ended: None,
            }));
            return Poll::Pending;
        };
        if let Some(why) = exchange.ended {
            return Poll::Ready(why);
        }
        exchange.waker.clone_from(cx.waker());
        Poll::Pending
    }

    /// Whether it must end, if anything was ever waited for.
    pub(crate) fn has_ended(&self) -> Option<Ended> {
        let place = self.place?;
        lock(&self.live.exchanges).get_mut(place)?.ended
    }

    /// Resolves when it must end.
    pub(crate) async fn ended(&mut self) -> Ended {
        poll_fn(|cx| self.poll_ended(cx)).await
    }

    /// Drives `work` as long as it may go on.
    ///
    /// # Errors
    /// Why it may not.
    pub(crate) async fn over<F: Future>(
        &mut self,
        mut work: Pin<&mut F>,
    ) -> Result<F::Output, Ended> {
        poll_fn(|cx| match work.as_mut().poll(cx) {
            Poll::Ready(done) => Poll::Ready(Ok(done)),
            Poll::Pending => self.poll_ended(cx).map(Err),
        })
        .await
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            lock(&self.live.exchanges).remove(place);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Numbered places; a number is good until its thing is removed.
#[derive(Debug)]
struct Places<T> {
    places: Vec<Option<T>>,
    free: Vec<usize>,
}

impl<T> Default for Places<T> {
    fn default() -> Self {
        Self {
            places: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl<T> Places<T> {
    fn insert(&mut self, thing: T) -> usize {
        match self.free.pop() {
            Some(place) => {
                self.places[place] = Some(thing);
                place
            }
            None => {
                self.places.push(Some(thing));
                self.places.len() - 1
            }
        }
    }

    fn get_mut(&mut self, place: usize) -> Option<&mut T> {
        self.places.get_mut(place)?.as_mut()
    }

    fn remove(&mut self, place: usize) {
        if self.places.get_mut(place).and_then(Option::take).is_some() {
            self.free.push(place);
        }
    }

    fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.places.iter_mut().flatten()
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use gateway_policy::Area;

    use super::*;

    const ASKED: Asked = Asked {
        area: Area::Staff,
        writes: false,
        transfers_file: false,
    };

    #[test]
    fn what_is_answered_at_once_takes_no_place() {
        let live = Arc::new(Live::default());
        let mut watch = Watch::new(Arc::clone(&live), ASKED, None);
        let mut cx = Context::from_waker(Waker::noop());
        let work = pin!(async { 7 });
        let mut over = pin!(watch.over(work));
        assert!(matches!(over.as_mut().poll(&mut cx), Poll::Ready(Ok(7))));
        assert!(lock(&live.exchanges).places.is_empty());
    }

    #[test]
    fn a_device_that_is_cut_takes_its_own_along_and_nobody_elses() {
        let live = Arc::new(Live::default());
        let cx = Context::from_waker(Waker::noop());
        let [mine, other] = [DeviceId([1; 16]), DeviceId([2; 16])];
        let pulses = [mine, other].map(|device| {
            let pulse = Arc::new(Pulse::new());
            let registered = live.connected(device, Arc::clone(&pulse), false);
            (pulse, registered)
        });
        let mut watches = [Some(mine), Some(other), None]
            .map(|device| Watch::new(Arc::clone(&live), ASKED, device));
        for watch in &mut watches {
            assert!(watch.poll_ended(&cx).is_pending());
        }
        live.cut(mine);
        assert!(matches!(
            watches[0].poll_ended(&cx),
            Poll::Ready(Ended::Cut)
        ));
        assert!(watches[1].poll_ended(&cx).is_pending());
        assert!(watches[2].poll_ended(&cx).is_pending());
        assert!(pulses[0].0.is_cut() && !pulses[1].0.is_cut());
    }

    #[test]
    fn a_connection_that_came_revoked_stays_for_the_page_that_says_so() {
        let live = Arc::new(Live::default());
        let device = DeviceId([1; 16]);
        let [before, after] = [false, true].map(|came_revoked| {
            let pulse = Arc::new(Pulse::new());
            let registered = live.connected(device, Arc::clone(&pulse), came_revoked);
            (pulse, registered)
        });
        live.judge(|_, _| None, |_| true);
        assert!(before.0.is_cut() && !after.0.is_cut());
    }

    #[test]
    fn places_are_used_again() {
        let live = Arc::new(Live::default());
        let cx = Context::from_waker(Waker::noop());
        for _ in 0..10 {
            let mut watch = Watch::new(Arc::clone(&live), ASKED, None);
            assert!(watch.poll_ended(&cx).is_pending());
        }
        assert_eq!(lock(&live.exchanges).places.len(), 1);
    }
}
