//! The handle: cloneable, bounded, answering asynchronously; behind it one thread owns the database.
//!
//! It decides nothing.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use tokio::sync::{mpsc, oneshot, watch};

use crate::cabinet::Cabinet;
use crate::database::Database;
use crate::kept::Kept;
use crate::readers::{Lane, Readers, Retry};
use crate::{
    Cursor, Error, Event, KeyRoots, Looked, Notice, OneNote, Opening, Page, PersonSummary, Reading,
    Rebuilding, Staff, Status, Witness,
};

/// How many requests wait for the thread; whoever comes then waits to be allowed to wait.
const QUEUE: usize = 256;

/// How much is kept. The oldest notes go first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Notes older than this many days are not kept.
    pub days: u32,
    /// At most this many notes.
    pub notes: u64,
    /// At most this many bytes of notes, what is searched of them, and attachments.
    pub bytes: u64,
}

impl Default for Limits {
    /// A month, which outlasts any outage and holds what a visit needs.
    fn default() -> Self {
        Self {
            days: 30,
            notes: 100_000,
            bytes: 512 * 1024 * 1024,
        }
    }
}

/// What was found when the store was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opened {
    /// Nothing; it begins empty.
    New,
    /// A whole store; the feed goes on where it stopped.
    Resumed,
    /// A damaged store, or one under another key; it was erased and begins empty.
    StartedAfresh,
}

type Job = Box<dyn FnOnce(&mut Cabinet) + Send>;

/// A cloneable handle to the store. The thread ends when the last one is dropped.
#[derive(Clone)]
pub struct Store {
    jobs: mpsc::Sender<Job>,
    /// For whoever only reads.
    readers: Readers,
    /// Text of pages, kept for a short while.
    pub(crate) kept: Arc<Kept>,
    /// One more than the notes that a database filled beside the one that is read has received; 0 without one.
    beside: Arc<AtomicU64>,
    /// Its other half is dropped when the thread has closed the files.
    ended: watch::Receiver<()>,
    /// Who records what is read through this handle; without, nothing personal can be read.
    witness: Option<Arc<dyn Witness>>,
    /// Whether anything personal may be read at this moment; asked at each reading.
    guard: Option<Guard>,
}

/// Whether anything personal may be read at this moment, whoever asks. Must not wait.
pub type Guard = Arc<dyn Fn() -> bool + Send + Sync>;

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Store(..)")
    }
}

impl Store {
    /// Opens the store in `directory`, which it makes and of which it owns every file. Blocks while it checks the files.
    ///
    /// # Errors
    /// When the directory or the roots cannot be used. A damaged store is no error: it is erased, and [`Opened`] says so.
    pub fn open(
        directory: &Path,
        roots: Arc<dyn KeyRoots>,
        limits: Limits,
    ) -> Result<(Self, Opened), Error> {
        let (mut cabinet, opened) = Cabinet::open(directory, roots, limits)?;
        let (jobs, mut waiting) = mpsc::channel::<Job>(QUEUE);
        let (end, ended) = watch::channel(());
        let end = Arc::new(end);
        let no_thread = |source| Error::Directory {
            path: directory.to_owned(),
            source,
        };
        let beside = Arc::new(AtomicU64::new(cabinet.beside()));
        let readers = Readers::start(&cabinet.current, &end).map_err(no_thread)?;
        let kept = Kept::start().map_err(no_thread)?;
        thread::Builder::new()
            .name("notes".to_owned())
            .spawn(move || {
                while let Some(job) = waiting.blocking_recv() {
                    job(&mut cabinet);
                }
                drop(cabinet);
                drop(end);
            })
            .map_err(no_thread)?;
        let store = Self {
            jobs,
            readers,
            kept,
            beside,
            ended,
            witness: None,
            guard: None,
        };
        Ok((store, opened))
    }

    /// This handle and all that come from it answer nothing personal while `guard` says no.
    #[must_use]
    pub fn guarded(self, guard: Guard) -> Self {
        Self {
            guard: Some(guard),
            ..self
        }
    }

    /// A handle through which persons and notes can be read, each reading recorded by `witness` first.
    #[must_use]
    pub fn witnessed(&self, witness: Arc<dyn Witness>) -> Self {
        Self {
            witness: Some(witness),
            ..self.clone()
        }
    }

    /// The id of the last event stored: where the feed is to be resumed. `None`: from the beginning.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn position(&self) -> Result<Option<String>, Error> {
        self.manage(|cabinet| cabinet.position()).await
    }

    /// Applies events in one transaction, and with them the new position: all or none.
    ///
    /// `after` is the position they follow. `now` (Unix seconds) becomes the time they were fetched. A person whose
    /// support ended is gone, key first, when this returns.
    ///
    /// # Errors
    /// [`Error::OutOfStep`] or [`Error::StartedAfresh`]: nothing was applied; follow the feed from [`Store::position`].
    pub async fn apply(
        &self,
        after: Option<String>,
        events: Vec<Event>,
        now: i64,
    ) -> Result<(), Error> {
        self.manage(move |cabinet| cabinet.apply(after.as_deref(), &events, now))
            .await
    }

    /// Drops what has grown too old by `now`. To be called now and then; applying events does it too.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn tidy(&self, now: i64) -> Result<(), Error> {
        // What is old goes from a locked store too; nothing stays open in it though nobody asks.
        let _ = self.permitted();
        self.manage(move |cabinet| cabinet.tidy(now)).await
    }

    /// Erases everything, as when the box leaves the facility.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn erase(&self) -> Result<(), Error> {
        self.manage(Cabinet::start_afresh).await
    }

    /// The feed has to be followed from the beginning: from now on events fill a second database. What is stored can be read
    /// until that one is caught up and takes its place; what takes a right away is applied to both at once.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn begin_rebuild(&self) -> Result<(), Error> {
        self.manage(Cabinet::begin_rebuild).await
    }

    /// How a rebuilding stands, and the root of the keys; numbers only.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn rebuilding(&self) -> Result<Rebuilding, Error> {
        self.manage(|cabinet| cabinet.rebuilding()).await
    }

    /// Notes received so far by a database that is filled beside the one that is read; `None` while there is none. Waits
    /// for nobody, so that every page can say it.
    #[must_use]
    pub fn received_beside(&self) -> Option<u64> {
        self.beside.load(Ordering::Relaxed).checked_sub(1)
    }

    /// The staff member, unless unknown, suspended, or of a suspended facility.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn staff(&self, user: &str) -> Result<Option<Staff>, Error> {
        let user = user.to_owned();
        self.look(Lane::Page, move |database| database.staff(&user))
            .await
    }

    /// The persons this user may read, the one with the newest note first. For whom nothing is permitted: none.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn persons_for(&self, user: &str) -> Result<Vec<PersonSummary>, Error> {
        let user = user.to_owned();
        let granted = |_: &Vec<PersonSummary>| Some(None);
        self.read_beside(Lane::Page, Looked::List, granted, move |database| {
            database.persons_for(&user)
        })
        .await
    }

    /// At most `limit` of a person's notes, newest first, older than `before`. `None` for a person that does not exist
    /// and for one this user may not read: the two cannot be told apart.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn notes_of(
        &self,
        user: &str,
        person: &str,
        limit: usize,
        before: Option<Cursor>,
    ) -> Result<Option<Page>, Error> {
        let (user, id) = (user.to_owned(), person.to_owned());
        let granted = |page: &Option<Page>| page.is_some().then(|| Some(person.to_owned()));
        self.read_beside(Lane::Page, Looked::Notes, granted, move |database| {
            database.notes_of(&user, &id, limit, before)
        })
        .await
    }

    /// One note of a person; `None` when there is no such note for this user, for whatever reason.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn note_of(
        &self,
        user: &str,
        person: &str,
        note: &str,
    ) -> Result<Option<OneNote>, Error> {
        let (user, id, note) = (user.to_owned(), person.to_owned(), note.to_owned());
        let granted = |note: &Option<OneNote>| note.is_some().then(|| Some(person.to_owned()));
        self.read_beside(Lane::Page, Looked::Note, granted, move |database| {
            database.note_of(&user, &id, &note)
        })
        .await
    }

    /// The notices in force at `now` (Unix seconds); those for members only to staff who may read.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn notices(&self, user: Option<&str>, now: i64) -> Result<Vec<Notice>, Error> {
        let user = user.map(ToOwned::to_owned);
        self.look(Lane::Page, move |database| {
            database.notices(user.as_deref(), now)
        })
        .await
    }

    /// Counts and times; nothing personal.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn status(&self) -> Result<Status, Error> {
        self.run(|database| database.status()).await
    }

    /// Drops this handle and waits until the files are closed, which needs all other handles to be dropped too.
    pub async fn close(self) {
        let Self {
            jobs,
            readers,
            mut ended,
            ..
        } = self;
        drop((jobs, readers));
        while ended.changed().await.is_ok() {}
    }

    /// Every reading of what is personal goes through here. `granted` says of an answer whether it holds anything, and about
    /// which person; it is asked before the answer goes on, and so is the witness.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        what: Looked,
        granted: impl FnOnce(&T) -> Option<Option<String>> + Send,
        work: impl FnOnce(&mut Database) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        if self.witness.is_none() {
            return Err(Error::NotRecorded);
        }
        self.permitted()?;
        let answer = self.run(work).await?;
        self.recorded(what, granted, answer).await
    }

    /// As [`Store::read`], for work that changes nothing: beside the thread that writes.
    pub(crate) async fn read_beside<T: Send + 'static>(
        &self,
        lane: Lane,
        what: Looked,
        granted: impl FnOnce(&T) -> Option<Option<String>> + Send,
        work: impl Fn(&mut Database) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        if self.witness.is_none() {
            return Err(Error::NotRecorded);
        }
        self.permitted()?;
        let answer = self.look(lane, work).await?;
        self.recorded(what, granted, answer).await
    }

    /// As [`Store::read_beside`], for a page and what it begins with. Who may read nothing gets nothing, which is no reading.
    pub(crate) async fn read_opening<T: Send + 'static>(
        &self,
        what: Looked,
        granted: impl FnOnce(&T) -> Option<Option<String>> + Send,
        work: impl Fn(&mut Database) -> Result<Option<(Opening, T)>, Error> + Send + 'static,
    ) -> Result<Option<(Opening, T)>, Error> {
        if self.witness.is_none() {
            return Err(Error::NotRecorded);
        }
        self.permitted()?;
        let Some((opening, page)) = self.look(Lane::Page, work).await? else {
            return Ok(None);
        };
        let page = self.recorded(what, granted, page).await?;
        Ok(Some((opening, page)))
    }

    /// As [`Store::read_opening`], for a page that may be kept: where it is not, it is found.
    pub(crate) async fn read_kept<T>(
        &self,
        what: Looked,
        granted: impl FnOnce(&T) -> Option<Option<String>> + Send,
        kept: impl FnOnce() -> Option<(Opening, T)> + Send,
        find: impl Future<Output = Result<Option<(Opening, T)>, Error>> + Send,
    ) -> Result<Option<(Opening, T)>, Error> {
        if self.witness.is_none() {
            return Err(Error::NotRecorded);
        }
        self.permitted()?;
        let found = match kept() {
            Some(kept) => Some(kept),
            None => find.await?,
        };
        let Some((opening, page)) = found else {
            return Ok(None);
        };
        let page = self.recorded(what, granted, page).await?;
        Ok(Some((opening, page)))
    }

    async fn recorded<T>(
        &self,
        what: Looked,
        granted: impl FnOnce(&T) -> Option<Option<String>> + Send,
        answer: T,
    ) -> Result<T, Error> {
        let about = granted(&answer);
        self.record(Reading {
            what,
            granted: about.is_some(),
            person: about.flatten(),
        })
        .await?;
        Ok(answer)
    }

    /// Work that only reads what concerns persons, staff and notices. What does not go smoothly beside the thread that writes
    /// is done by it: it alone may find the store damaged.
    pub(crate) async fn look<T: Send + 'static>(
        &self,
        lane: Lane,
        work: impl Fn(&mut Database) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        match self.readers.look(lane, work).await {
            Ok(answer) => Ok(answer),
            Err(Retry(Some(work))) => self.run(work).await,
            Err(Retry(None)) => Err(Error::Closed),
        }
    }

    pub(crate) async fn record(&self, reading: Reading) -> Result<(), Error> {
        let witness = self.witness.as_ref().ok_or(Error::NotRecorded)?;
        let recorded = witness.recorded(reading).await;
        recorded.map_err(|_| Error::NotRecorded)?;
        // It may have locked while the reading waited for its turn.
        self.permitted()
    }

    /// Whether the box may answer anything personal now, whoever asks.
    pub(crate) fn permitted(&self) -> Result<(), Error> {
        match &self.guard {
            Some(guard) if !guard() => {
                self.readers.close();
                self.kept.forget();
                Err(Error::Locked)
            }
            _ => Ok(()),
        }
    }

    /// Work on the database that is read.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Database) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.manage(|cabinet| work(&mut cabinet.current)).await
    }

    /// Work on all that is stored.
    pub(crate) async fn manage<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Cabinet) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (answer, answered) = oneshot::channel();
        let (readers, kept) = (self.readers.clone(), Arc::clone(&self.kept));
        let beside = Arc::clone(&self.beside);
        let job: Job = Box::new(move |cabinet| {
            let before = cabinet.trace();
            kept.work_begins();
            let outcome = recovering_when_damaged(cabinet, work);
            readers.now_read(&cabinet.current);
            kept.work_ends(cabinet.trace() != before);
            beside.store(cabinet.beside(), Ordering::Relaxed);
            // Before the asker may drop the last handle and wait for the threads to end.
            drop((readers, kept));
            // The asker may have gone away.
            let _ = answer.send(outcome);
        });
        self.jobs.send(job).await.map_err(|_| Error::Closed)?;
        answered.await.map_err(|_| Error::Closed)?
    }
}

fn recovering_when_damaged<T>(
    cabinet: &mut Cabinet,
    work: impl FnOnce(&mut Cabinet) -> Result<T, Error>,
) -> Result<T, Error> {
    let outcome = work(cabinet);
    let Err(damage) = &outcome else {
        return outcome;
    };
    if !damage.is_damage() {
        return outcome;
    }
    tracing::error!(event = "store-rebuilt", error = %damage, "the store of notes is damaged and is filled anew");
    cabinet.recover()?;
    Err(Error::StartedAfresh)
}
