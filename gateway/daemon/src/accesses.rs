//! Puts on record who reads what in the store of notes, from where, and for how long.
//!
//! Every handle through which personal things can be read is made here ([`Accesses::witness`]). While the log is not open, or
//! does not take a record, nothing is read: the store asks its witness before it answers. It decides nobody's permission.

mod handing_over;
mod keeping;

use std::collections::HashSet;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use gateway_accesslog::{Access, Book, Over, Peer, Views, What};
use gateway_city::feed::FeedState;
use gateway_console::{SessionId, ViewId, Visit};
use gateway_notes::{Looked, NotRecorded, Reading, Witness};
use tokio::sync::watch;

use crate::audit::Audit;

/// How long a page may wait for its record; a disk that hangs is no reason for a page that hangs.
const PATIENCE: Duration = Duration::from_secs(3);
/// A page that nobody leaves and that no other follows is over after this: the session counts as idle.
const IDLE: Duration = Duration::from_secs(15 * 60);

/// See the module.
#[derive(Debug)]
pub(crate) struct Accesses {
    audit: Arc<Audit>,
    feed: watch::Receiver<FeedState>,
    /// The log, once its key is there.
    book: watch::Sender<Option<Book>>,
    views: Mutex<Views<SessionId, ViewId>>,
    started: Instant,
}

impl Accesses {
    /// Nothing is recorded, and so nothing read, before [`Accesses::keep`] has opened the log.
    #[must_use]
    pub(crate) fn new(audit: Arc<Audit>, feed: watch::Receiver<FeedState>) -> Arc<Self> {
        Arc::new(Self {
            audit,
            feed,
            book: watch::Sender::new(None),
            views: Mutex::default(),
            started: Instant::now(),
        })
    }

    /// Records what one visit reads.
    #[must_use]
    pub(crate) fn witness(self: &Arc<Self>, visit: Visit) -> Visited {
        Visited {
            accesses: Arc::clone(self),
            visit,
            instead: None,
            recorded: Mutex::default(),
        }
    }

    /// Records the reading of this log itself; the names that its page shows are part of it.
    #[must_use]
    pub(crate) fn witness_of_log(self: &Arc<Self>, visit: Visit) -> Visited {
        Visited {
            instead: Some(What::Log),
            ..self.witness(visit)
        }
    }

    /// Another page is asked for in this session.
    pub(crate) fn moves_on(&self, session: SessionId) {
        let over = self.views().moves_on(&session, self.seconds());
        self.note(&over);
    }

    /// A page was left.
    pub(crate) fn left(&self, session: SessionId, view: ViewId) {
        let over = self.views().left(&session, &view, self.seconds());
        self.note(&over);
    }

    /// The log, if it is open.
    #[must_use]
    pub(crate) fn book(&self) -> Option<Book> {
        self.book.borrow().clone()
    }

    fn note(&self, over: &Over) {
        let Some(book) = self.book() else { return };
        for ending in over {
            book.ending(ending);
        }
    }

    /// Seconds of a clock that nobody sets.
    fn seconds(&self) -> u64 {
        self.started.elapsed().as_secs()
    }

    fn views(&self) -> MutexGuard<'_, Views<SessionId, ViewId>> {
        // A panic in between leaves an access without its end, which the log says as it is.
        self.views.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The witness of one visit.
#[derive(Debug)]
pub(crate) struct Visited {
    accesses: Arc<Accesses>,
    visit: Visit,
    /// Everything read counts as this.
    instead: Option<What>,
    /// One page may ask the store several times for the same.
    recorded: Mutex<HashSet<(What, Option<String>)>>,
}

impl Visited {
    async fn record(&self, reading: Reading) -> Result<(), NotRecorded> {
        let what = self.instead.unwrap_or_else(|| what(reading.what));
        let once = (what, reading.person.clone());
        if reading.granted && self.recorded().contains(&once) {
            return Ok(());
        }
        let book = self.accesses.book().ok_or(NotRecorded)?;
        let access = Access {
            user: self.visit.staff.user.clone(),
            person: reading.person,
            what,
            shown: reading.granted,
            device: self.visit.device,
            peer: Peer::of(self.visit.peer),
            outage: matches!(*self.accesses.feed.borrow(), FeedState::Disconnected { .. }),
        };
        let number = tokio::time::timeout(PATIENCE, book.access(access))
            .await
            .map_err(|_| NotRecorded)?
            .map_err(|_| NotRecorded)?;
        if reading.granted {
            self.recorded().insert(once);
            let now = self.accesses.seconds();
            let (session, view) = (self.visit.session, self.visit.view);
            let over = self.accesses.views().opened(session, view, number, now);
            self.accesses.note(&over);
        }
        Ok(())
    }

    fn recorded(&self) -> MutexGuard<'_, HashSet<(What, Option<String>)>> {
        self.recorded.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Witness for Visited {
    fn recorded(
        &self,
        reading: Reading,
    ) -> Pin<Box<dyn Future<Output = Result<(), NotRecorded>> + Send + '_>> {
        Box::pin(self.record(reading))
    }
}

const fn what(looked: Looked) -> What {
    match looked {
        Looked::List => What::List,
        Looked::Notes => What::Notes,
        Looked::Note => What::Note,
        Looked::Search => What::Search,
        Looked::Attachment => What::Attachment,
        Looked::Print => What::Print,
    }
}
