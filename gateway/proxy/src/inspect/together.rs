//! One scan for all who ask about the same new body at the same time: a page opened by the whole staff, a picture in twenty tabs.
//!
//! It does not scan, and remembers nothing once the scan has ended; that is the cache's.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

use super::{fingerprint::Fingerprint, kind::Kinds, stopped::Stopped};

/// What is asked: about which body, of which database, and whether on its way up. The way belongs to what is told of a body
/// that was stopped.
pub(crate) type Question = (Fingerprint, u64, bool);

/// What a scan says to all who ask the same.
pub(crate) type Found = Result<Kinds, Stopped>;

/// The scans that are under way.
#[derive(Default)]
pub(crate) struct Scans(Mutex<HashMap<Question, watch::Receiver<Option<Found>>>>);

/// Whose turn it is.
pub(crate) enum Turn<'a> {
    /// To be found out by the one who asks.
    Mine(UnderWay<'a>),
    /// Found out by another meanwhile.
    Found(Found),
}

impl Scans {
    fn under_way(&self) -> MutexGuard<'_, HashMap<Question, watch::Receiver<Option<Found>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for whoever asked the same first. If that one leaves without an answer that is good for others, the next of those who
    /// wait is the first.
    pub(crate) async fn turn(&self, question: Question) -> Turn<'_> {
        loop {
            let mut answer = match self.under_way().entry(question) {
                Entry::Vacant(place) => {
                    let (tell, answer) = watch::channel(None);
                    place.insert(answer);
                    return Turn::Mine(UnderWay {
                        scans: self,
                        question,
                        tell,
                    });
                }
                Entry::Occupied(place) => place.get().clone(),
            };
            let found = answer.wait_for(Option::is_some).await;
            if let Some(found) = found.ok().and_then(|found| found.clone()) {
                return Turn::Found(found);
            }
        }
    }
}

/// A scan that others may be waiting for. Dropped, it leaves its place to the next of them.
pub(crate) struct UnderWay<'a> {
    scans: &'a Scans,
    question: Question,
    tell: watch::Sender<Option<Found>>,
}

impl UnderWay<'_> {
    /// Tells those who wait, if there is something that is good for them.
    pub(crate) fn end(self, found: Option<Found>) {
        self.tell.send_replace(found);
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.scans.under_way().remove(&self.question);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::pin,
        task::{Context, Poll, Waker},
    };

    use super::*;
    use crate::inspect::{fingerprint::Key, stopped::Direction};

    fn poll<'a>(turn: std::pin::Pin<&mut impl Future<Output = Turn<'a>>>) -> Poll<Turn<'a>> {
        turn.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn who_asks_the_same_meanwhile_is_told_and_who_asks_another_thing_is_not() {
        let scans = Scans::default();
        let key = Key::fixed();
        let question = (key.of(b"body"), 1, false);
        let Poll::Ready(Turn::Mine(first)) = poll(pin!(scans.turn(question))) else {
            panic!("nobody has asked before");
        };
        let mut second = pin!(scans.turn(question));
        assert!(poll(second.as_mut()).is_pending());
        for other in [
            (key.of(b"other"), 1, false),
            (question.0, 2, false),
            (question.0, 1, true),
        ] {
            assert!(matches!(
                poll(pin!(scans.turn(other))),
                Poll::Ready(Turn::Mine(_))
            ));
        }
        let stopped = Stopped::infected(Direction::Download, "Name".to_owned());
        first.end(Some(Err(stopped.clone())));
        assert!(
            matches!(poll(second.as_mut()), Poll::Ready(Turn::Found(Err(found))) if found == stopped)
        );
        assert!(scans.under_way().is_empty());
    }

    #[test]
    fn when_the_first_leaves_without_an_answer_one_of_the_others_is_the_first() {
        let scans = Scans::default();
        let question = (Key::fixed().of(b"body"), 1, false);
        let Poll::Ready(Turn::Mine(first)) = poll(pin!(scans.turn(question))) else {
            panic!("nobody has asked before");
        };
        let (mut second, mut third) = (pin!(scans.turn(question)), pin!(scans.turn(question)));
        assert!(poll(second.as_mut()).is_pending() && poll(third.as_mut()).is_pending());
        drop(first);
        let Poll::Ready(Turn::Mine(now)) = poll(third.as_mut()) else {
            panic!("the place is free");
        };
        assert!(poll(second.as_mut()).is_pending(), "it is taken again");
        now.end(Some(Ok(Kinds::NONE)));
        assert!(matches!(
            poll(second.as_mut()),
            Poll::Ready(Turn::Found(Ok(_)))
        ));
    }
}
