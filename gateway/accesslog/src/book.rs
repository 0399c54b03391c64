//! The thread that owns the log, and the handle. A record is in the file before whoever waits for it is told, and on the disk
//! within a second; what cannot be written is told so. It reads nothing back.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use gateway_audit::{Digest, Id, Log, LogError, Options, Synchronisation};
use gateway_policy::Timestamp;
use tokio::sync::{oneshot, watch};
use zeroize::Zeroizing;

use crate::seal::{ToSeal, plain};
use crate::{Access, Ending, Key};

/// Records that may wait for the thread.
const QUEUE: usize = 1024;
/// Records that are brought into the file together, when so many wait.
const TOGETHER: usize = 64;
/// Bytes in the file only after which the disk is asked before its time: where much more has come, whoever asks waits for it.
const MUCH: usize = 256 << 10;
/// The longest a record is in the file only.
const BATCH: Duration = Duration::from_secs(1);
/// Bytes of one file.
const FILE: u64 = 1 << 20;
/// A file is begun each day, so that records go within a day after theirs are over.
const DAY: u32 = 86_400;

type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// The access is not in the log; what was asked for is not to be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the access cannot be recorded now")]
pub struct NotRecorded;

/// Why the log did not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The log itself.
    #[error("the log of accesses cannot be opened")]
    Log(#[from] LogError),
    /// No thread.
    #[error("the system gives no thread")]
    Thread(#[source] io::Error),
}

/// Where the log is and how much of it is kept.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its directory.
    pub dir: PathBuf,
    /// Days that records are kept.
    pub days: u32,
    /// Bytes of all records; the oldest go first.
    pub bytes: u64,
    /// What the audit log has of it: its name, entries and head.
    pub vouched: Option<(Id, u64, Digest)>,
}

/// How the log stands; published after every synchronisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Which log.
    pub log: Id,
    /// Durable entries.
    pub count: u64,
    /// Hash of the last.
    pub head: Digest,
    /// The disk refuses: nothing is recorded, and nothing personal shown.
    pub unwritable: bool,
}

/// What was found when it was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opened {
    /// Nothing, or a whole log.
    Whole,
    /// A log that was changed, cut, or is not the one the audit log knows. It was put aside, and another begins.
    Changed,
}

/// Who waits until a record is in the file.
type Asker = oneshot::Sender<Result<u64, NotRecorded>>;

enum Command {
    Access(Zeroizing<Vec<u8>>, Asker),
    Ending(Zeroizing<Vec<u8>>),
    Synchronised(Synchronisation, io::Result<()>),
    Flush(oneshot::Sender<Standing>),
    Keep(u32),
    SetAside(oneshot::Sender<()>),
    Stop(oneshot::Sender<()>),
}

/// The handle. Cheap to clone; [`Book::stop`] ends the thread.
#[derive(Clone)]
pub struct Book {
    commands: SyncSender<Command>,
    dir: PathBuf,
    key: Key,
}

impl fmt::Debug for Book {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Book(..)")
    }
}

/// Opens the log under `key`, or begins one. Blocks: all of it is verified.
///
/// # Errors
/// [`OpenError`] when the disk refuses.
pub fn open(
    settings: &Settings,
    key: Key,
    clock: Clock,
) -> Result<(Book, Opened, watch::Receiver<Standing>), OpenError> {
    let of_log = gateway_audit::Settings {
        segment_bytes: FILE,
        keep_days: settings.days,
        keep_bytes: settings.bytes,
        segment_seconds: Some(DAY),
        vouched: settings.vouched.map(|(_, count, head)| (count, head)),
        roots: Vec::new(),
    };
    let (log, report) = Log::open(&settings.dir, of_log, clock())?;
    let found = report.iter().any(|report| !report.findings.is_empty());
    let another = settings.vouched.is_some_and(|(id, ..)| id != log.id());
    let opened = if found || another {
        Opened::Changed
    } else {
        Opened::Whole
    };
    let (commands, inbox) = sync_channel(QUEUE);
    let (published, standing) = watch::channel(standing(&log, false));
    let (jobs, waiting) = sync_channel::<Synchronisation>(1);
    let back = commands.clone();
    let thread = |name: &str| std::thread::Builder::new().name(name.to_owned());
    thread("accesses-disk")
        .spawn(move || {
            while let Ok(job) = waiting.recv() {
                let result = job.wait();
                if back.send(Command::Synchronised(job, result)).is_err() {
                    return;
                }
            }
        })
        .map_err(OpenError::Thread)?;
    let keeper = Keeper {
        log,
        key: key.clone(),
        clock,
        jobs,
        under_way: false,
        dirty: None,
        unwritable: false,
        published,
    };
    thread("accesses")
        .spawn(move || keeper.run(&inbox))
        .map_err(OpenError::Thread)?;
    let book = Book {
        commands,
        dir: settings.dir.clone(),
        key,
    };
    Ok((book, opened, standing))
}

impl Book {
    /// Puts an access on record and returns its number, when it is in the file.
    ///
    /// # Errors
    /// [`NotRecorded`]: it must not be shown. It may be in the log later all the same.
    pub async fn access(&self, access: Access) -> Result<u64, NotRecorded> {
        let plain = plain(&access.bounded()).map_err(|_| NotRecorded)?;
        let (reply, answer) = oneshot::channel();
        self.commands
            .try_send(Command::Access(plain, reply))
            .map_err(|_| NotRecorded)?;
        answer.await.map_err(|_| NotRecorded)?
    }

    /// Notes how an access ended. Never waits; an ending that is lost leaves an access without one.
    pub fn ending(&self, ending: &Ending) {
        if let Ok(plain) = plain(ending) {
            let _ = self.commands.try_send(Command::Ending(plain));
        }
    }

    /// Keeps records for another number of days from now on, and removes what is older.
    pub fn keep(&self, days: u32) {
        let _ = self.commands.try_send(Command::Keep(days));
    }

    /// Makes everything durable. `None` when the log has ended.
    pub async fn flush(&self) -> Option<Standing> {
        let (reply, answer) = oneshot::channel();
        self.commands.try_send(Command::Flush(reply)).ok()?;
        answer.await.ok()
    }

    /// Holds the files against themselves and what was written; records go on meanwhile. A log that was changed is put aside
    /// and another begins. True when it was whole.
    ///
    /// # Errors
    /// When the files cannot be read.
    pub async fn verify(&self) -> io::Result<bool> {
        let Some(standing) = self.flush().await else {
            return Ok(true);
        };
        let dir = self.dir.clone();
        let options = Options {
            written: Some((standing.count, standing.head)),
            ..Options::default()
        };
        let looked = tokio::task::spawn_blocking(move || gateway_audit::verify(&dir, &options));
        let report = looked.await.map_err(io::Error::other)??;
        if report.findings.is_empty() {
            return Ok(true);
        }
        for finding in &report.findings {
            tracing::error!(
                event = "accesses-broken",
                entry = finding.entry,
                fault = finding.fault.id(),
                "the log of accesses was changed; it is put aside and another begins"
            );
        }
        let (reply, answer) = oneshot::channel();
        if self.commands.try_send(Command::SetAside(reply)).is_ok() {
            let _ = answer.await;
        }
        Ok(false)
    }

    /// Where the log is.
    #[must_use]
    pub fn dir(&self) -> &std::path::Path {
        &self.dir
    }

    /// What opens its records.
    #[must_use]
    pub const fn key(&self) -> &Key {
        &self.key
    }

    /// Makes everything durable and ends the thread.
    pub async fn stop(&self) {
        let (reply, answer) = oneshot::channel();
        if self.commands.try_send(Command::Stop(reply)).is_ok() {
            let _ = answer.await;
        }
    }
}

fn standing(log: &Log, unwritable: bool) -> Standing {
    let (count, head) = log.durable();
    Standing {
        log: log.id(),
        count,
        head,
        unwritable,
    }
}

struct Keeper {
    log: Log,
    key: Key,
    clock: Clock,
    jobs: SyncSender<Synchronisation>,
    /// A synchronisation is with the other thread.
    under_way: bool,
    /// Since when something is in the file only.
    dirty: Option<Instant>,
    unwritable: bool,
    published: watch::Sender<Standing>,
}

impl Keeper {
    fn run(mut self, inbox: &Receiver<Command>) {
        loop {
            let patience = match self.dirty {
                Some(since) if !self.under_way => BATCH.saturating_sub(since.elapsed()),
                _ => Duration::from_secs(3600),
            };
            match inbox.recv_timeout(patience) {
                Ok(first) => {
                    if let Some(done) = self.act_on_all(first, inbox) {
                        self.flush();
                        let _ = done.send(());
                        return;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    self.flush();
                    return;
                }
            }
            let due = self.dirty.is_some_and(|since| since.elapsed() >= BATCH);
            if !self.under_way && (due || self.log.waiting() >= MUCH) {
                self.synchronise();
            }
        }
    }

    /// Acts on this command and those that wait behind it. Records among them come into the file with one write, and whoever waits
    /// for theirs is told after it. Answers with whoever wants the end.
    fn act_on_all(
        &mut self,
        first: Command,
        inbox: &Receiver<Command>,
    ) -> Option<oneshot::Sender<()>> {
        let mut asking = Vec::new();
        let mut next = Some(first);
        for _ in 0..TOGETHER {
            match next.or_else(|| inbox.try_recv().ok()) {
                Some(Command::Access(plain, reply)) => {
                    let number = self.put("access", plain);
                    asking.push((reply, number));
                }
                Some(Command::Ending(plain)) => {
                    let _ = self.put("over", plain);
                }
                Some(Command::Stop(done)) => {
                    self.answer(asking);
                    return Some(done);
                }
                Some(other) => {
                    self.answer(std::mem::take(&mut asking));
                    self.act(other);
                }
                None => break,
            }
            next = None;
        }
        self.answer(asking);
        None
    }

    /// Brings what was put into the log into the file, and tells those who wait for it.
    fn answer(&mut self, asking: Vec<(Asker, Option<u64>)>) {
        // A failure shows in the next synchronisation.
        let _ = self.log.write();
        // In the file is enough to answer: it survives this process, and the disk has it within a second.
        let recorded = self.log.is_written() && !self.unwritable;
        for (reply, number) in asking {
            let _ = reply.send(number.filter(|_| recorded).ok_or(NotRecorded));
        }
    }

    fn act(&mut self, command: Command) {
        match command {
            Command::Synchronised(job, result) => {
                self.under_way = false;
                let done = self.log.synchronised(&job, result);
                self.after(done);
            }
            Command::Flush(reply) => {
                self.flush();
                let _ = reply.send(standing(&self.log, self.unwritable));
            }
            Command::Keep(days) => {
                self.log.keep_days(days);
                let removed = self.log.remove_old((self.clock)());
                self.after(removed);
            }
            Command::SetAside(reply) => {
                let aside = self.log.set_aside((self.clock)());
                self.after(aside);
                let _ = reply.send(());
            }
            // Those are acted on together.
            Command::Access(..) | Command::Ending(_) | Command::Stop(_) => {}
        }
    }

    /// The number of the record in the log; `None` when it is not in it, or not sealed.
    fn put(&mut self, kind: &'static str, plain: Zeroizing<Vec<u8>>) -> Option<u64> {
        let record = ToSeal {
            key: &self.key,
            kind,
            plain,
            failed: std::cell::Cell::new(false),
        };
        let mut number = self.log.put(&record, (self.clock)());
        let mut waited = None;
        if matches!(number, Err(LogError::Full)) {
            // More has come within a second than may wait for the disk: whoever asks now waits for it instead.
            waited = Some(self.log.sync());
            number = self.log.put(&record, (self.clock)());
        }
        let sealed = !record.failed.get();
        if let Some(done) = waited {
            self.after(done);
        }
        self.dirty.get_or_insert_with(Instant::now);
        number.ok().filter(|_| sealed)
    }

    fn synchronise(&mut self) {
        match self.log.synchronise() {
            Ok(Some(job)) => {
                self.dirty = Some(Instant::now());
                // The other thread has no other work: there was none under way.
                self.under_way = self.jobs.try_send(job).is_ok();
            }
            Ok(None) => self.dirty = None,
            Err(error) => self.after(Err(error)),
        }
    }

    fn flush(&mut self) {
        let synced = self.log.sync();
        self.after(synced);
    }

    fn after(&mut self, result: Result<(), LogError>) {
        match result {
            Ok(()) => {
                if std::mem::take(&mut self.unwritable) {
                    tracing::info!(
                        event = "accesses-written-again",
                        "accesses are recorded again"
                    );
                }
                let durable = self.log.durable();
                if !self.under_way && self.log.written() == durable {
                    self.dirty = None;
                }
            }
            Err(error) => {
                self.dirty = Some(Instant::now());
                if !std::mem::replace(&mut self.unwritable, true) {
                    let cause = std::error::Error::source(&error).map(ToString::to_string);
                    tracing::error!(
                        event = "accesses-unwritable",
                        error = %error,
                        cause,
                        "accesses cannot be recorded; stored notes are not shown"
                    );
                }
            }
        }
        self.published
            .send_replace(standing(&self.log, self.unwritable));
    }
}
