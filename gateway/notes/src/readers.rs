//! Reading beside the thread that writes: threads with connections of their own, which only read, so that a page never waits
//! for a sync and a page never waits for somebody else's search.
//!
//! They decide nothing and repair nothing: whatever does not go smoothly here is asked again of the thread that owns the
//! files. What it has changed is seen here from the moment on at which it says so.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier, Mutex, PoisonError, RwLock};
use std::thread;

use rusqlite::Connection;
use rusqlite::config::DbConfig;
use tokio::sync::{mpsc, oneshot, watch};

use crate::Error;
use crate::database::Database;
use crate::file;
use crate::key::Wrapping;

/// Threads for pages: as many as the box has cores.
const FOR_PAGES: usize = 2;
/// How many requests wait for them.
const QUEUE: usize = 256;

type Job = Box<dyn FnOnce(&mut Reader) + Send>;

/// What there is to be read at this moment.
#[derive(Clone)]
struct View {
    /// A database that was made anew at the same place has another one.
    identity: u64,
    directory: PathBuf,
    wrapping: Arc<Wrapping>,
    /// How often keys were destroyed in it.
    destroyed: u64,
}

impl View {
    fn is(&self, other: &Self) -> bool {
        self.identity == other.identity
            && self.wrapping.generation() == other.wrapping.generation()
            && self.destroyed == other.destroyed
    }
}

/// What somebody waits for.
#[derive(Clone, Copy)]
pub(crate) enum Lane {
    /// A page.
    Page,
    /// A search.
    Search,
}

/// A cloneable handle to the threads. They end when the last one is dropped.
#[derive(Clone)]
pub(crate) struct Readers {
    pages: mpsc::Sender<Job>,
    searches: mpsc::Sender<Job>,
    view: Arc<RwLock<View>>,
    /// Something may be open.
    in_use: Arc<AtomicBool>,
    /// One after the other, or threads would wait for each other crosswise.
    telling: Arc<Mutex<()>>,
}

/// One thread's connection, opened when it is first needed.
struct Reader {
    in_use: Arc<AtomicBool>,
    view: Arc<RwLock<View>>,
    open: Option<(View, Database)>,
}

/// The answer, or the question again.
enum Outcome<T, W> {
    Answer(T),
    Again(W),
}

impl Readers {
    /// Starts the threads; `ended` is let go of when they have closed the files.
    pub(crate) fn start(
        database: &Database,
        ended: &Arc<watch::Sender<()>>,
    ) -> std::io::Result<Self> {
        let view = Arc::new(RwLock::new(view_of(database)));
        let in_use = Arc::new(AtomicBool::new(false));
        let lane = |threads: usize| {
            let (jobs, waiting) = mpsc::channel::<Job>(QUEUE);
            let waiting = Arc::new(Mutex::new(waiting));
            for _ in 0..threads {
                let waiting = Arc::clone(&waiting);
                let ended = Arc::clone(ended);
                let mut reader = Reader {
                    in_use: Arc::clone(&in_use),
                    view: Arc::clone(&view),
                    open: None,
                };
                thread::Builder::new()
                    .name("notes-read".to_owned())
                    .spawn(move || {
                        while let Some(job) = next(&waiting) {
                            // A panic costs the one answer and the connection, which is open only between two answers.
                            let _ = catch_unwind(AssertUnwindSafe(|| job(&mut reader)));
                        }
                        drop(reader);
                        drop(ended);
                    })?;
            }
            Ok::<_, std::io::Error>(jobs)
        };
        Ok(Self {
            pages: lane(FOR_PAGES)?,
            searches: lane(1)?,
            view,
            in_use,
            telling: Arc::default(),
        })
    }

    /// From now on this is what is read. To be called before whoever asked for the change is told that it was made.
    pub(crate) fn now_read(&self, database: &Database) {
        let now = view_of(database);
        {
            let mut view = self.view.write().unwrap_or_else(PoisonError::into_inner);
            if view.is(&now) {
                return;
            }
            *view = now;
        }
        // So that connections and keys of before do not wait for the next reader.
        self.tell(Reader::let_go);
    }

    /// Each thread does this before it goes on. Where a queue is full, readers are there, who see for themselves.
    fn tell(&self, what: fn(&mut Reader)) {
        let _turn = self.telling.lock().unwrap_or_else(PoisonError::into_inner);
        for (jobs, threads) in [(&self.pages, FOR_PAGES), (&self.searches, 1)] {
            // Each waits for the others, so that no thread takes the turn of another.
            let together = Arc::new(Barrier::new(threads));
            for permit in jobs.try_reserve_many(threads).into_iter().flatten() {
                let together = Arc::clone(&together);
                permit.send(Box::new(move |reader| {
                    what(reader);
                    together.wait();
                }));
            }
        }
    }

    /// Closes everything, so that neither text nor keys stay open: nobody may read now, whoever asks.
    pub(crate) fn close(&self) {
        if !self.in_use.swap(false, Ordering::SeqCst) {
            return;
        }
        self.tell(|reader| reader.open = None);
    }

    /// Runs `work` on one of the threads; gives it back when that did not go smoothly.
    pub(crate) async fn look<T, W>(&self, lane: Lane, work: W) -> Result<T, Retry<W>>
    where
        T: Send + 'static,
        W: Fn(&mut Database) -> Result<T, Error> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |reader| {
            let outcome = match reader.look(&work) {
                Ok(value) => Outcome::Answer(value),
                Err(_) => Outcome::Again(work),
            };
            // The asker may have gone away.
            let _ = answer.send(outcome);
        });
        let jobs = match lane {
            Lane::Page => &self.pages,
            Lane::Search => &self.searches,
        };
        jobs.send(job).await.map_err(|_| Retry(None))?;
        match answered.await {
            Ok(Outcome::Answer(value)) => Ok(value),
            Ok(Outcome::Again(work)) => Err(Retry(Some(work))),
            Err(_) => Err(Retry(None)),
        }
    }
}

/// The work that is to be done by the owner instead; `None` when the threads have ended.
pub(crate) struct Retry<W>(pub(crate) Option<W>);

fn view_of(database: &Database) -> View {
    View {
        identity: database.identity,
        directory: database.directory.clone(),
        wrapping: Arc::clone(database.keys.wrapping()),
        destroyed: database.destroyed,
    }
}

fn next(waiting: &Mutex<mpsc::Receiver<Job>>) -> Option<Job> {
    // Whoever holds the lock waits for all; a thread that panicked at its work did not hold it.
    let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
    waiting.blocking_recv()
}

impl Reader {
    /// Closes what is not to be read any more.
    fn let_go(&mut self) {
        let now = self.now();
        if self.open.as_ref().is_some_and(|(view, _)| !view.is(&now)) {
            self.open = None;
        }
    }

    fn now(&self) -> View {
        let view = self.view.read().unwrap_or_else(PoisonError::into_inner);
        view.clone()
    }

    /// Everything that `work` reads is of one moment.
    fn look<T>(
        &mut self,
        work: impl FnOnce(&mut Database) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.let_go();
        let (view, mut database) = match self.open.take() {
            Some(open) => open,
            None => {
                let view = self.now();
                self.in_use.store(true, Ordering::SeqCst);
                let database = open(&view.directory, &view.wrapping)?;
                (view, database)
            }
        };
        step(&database.connection, "BEGIN")?;
        if let Some(opened) = &database.opened {
            opened.at_this_moment(&database.connection)?;
        }
        let answer = work(&mut database);
        step(&database.connection, "COMMIT")?;
        // After an error it is closed: whatever was wrong, the next reader begins anew.
        let answer = answer?;
        self.open = Some((view, database));
        Ok(answer)
    }
}

fn step(connection: &Connection, sql: &'static str) -> Result<(), Error> {
    connection
        .prepare_cached(sql)
        .and_then(|mut statement| statement.execute([]))
        .map(|_| ())
        .map_err(Error::database("read at one moment"))
}

fn open(directory: &Path, wrapping: &Arc<Wrapping>) -> Result<Database, Error> {
    let (connection, keys) = file::open_to_read(directory, wrapping)?;
    // The owner alone brings the log into the file, and removes it.
    connection
        .set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)
        .map_err(Error::database("be configured"))?;
    Ok(Database::to_read(directory, connection, keys))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_closed_leaves_no_thread_with_anything_open_and_opens_again() {
        let directory = tempfile::tempdir().unwrap();
        let database = crate::work::filled(directory.path());
        let ended = Arc::new(watch::channel(()).0);
        let readers = Readers::start(&database, &ended).unwrap();
        for _ in 0..2 {
            for lane in [Lane::Page, Lane::Search] {
                let persons = readers.look(lane, |database| database.persons_for("s"));
                assert_eq!(persons.await.ok().unwrap().len(), 1);
            }
            assert_eq!(still_open(&readers).await, 2);
            readers.close();
            assert_eq!(still_open(&readers).await, 0);
        }
    }

    /// How many of all threads have something open.
    async fn still_open(readers: &Readers) -> usize {
        let mut open = 0;
        for (jobs, threads) in [(&readers.pages, FOR_PAGES), (&readers.searches, 1)] {
            let together = Arc::new(Barrier::new(threads));
            let (answer, mut answers) = mpsc::unbounded_channel();
            for _ in 0..threads {
                let (together, answer) = (Arc::clone(&together), answer.clone());
                let job: Job = Box::new(move |reader| {
                    together.wait();
                    answer.send(reader.open.is_some()).unwrap();
                });
                jobs.send(job).await.ok().unwrap();
            }
            drop(answer);
            while let Some(is_open) = answers.recv().await {
                open += usize::from(is_open);
            }
        }
        open
    }
}
