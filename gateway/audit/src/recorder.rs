//! The thread that owns the log, and the handle that everybody else holds. It batches: entries wait at most a second for the
//! disk, critical ones not at all. It never stops what is being logged: who cannot wait is not made to.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use gateway_policy::Timestamp;
use tokio::sync::{oneshot, watch};

use crate::event::LogFault;
use crate::{
    Checkpoint, Digest, Event, Finding, Id, Log, LogError, Receipt, Settings, SignedCheckpoint,
};

/// Entries that may wait for the thread.
const QUEUE: usize = 4096;
/// The longest an entry is not durable.
const BATCH: Duration = Duration::from_secs(1);
/// How often a disk that refuses is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// The entry is not on the disk, and it is not known whether it ever will be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the audit log cannot be written now")]
pub struct NotDurable;

/// The log's thread has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the audit log has ended")]
pub struct Ended;

/// What a checkpoint is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Which log.
    pub log: Id,
    /// Number for the checkpoint.
    pub sequence: u64,
    /// Durable entries.
    pub count: u64,
    /// Hash of the last.
    pub head: Digest,
}

/// The state of the log, published after every change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Which log.
    pub log: Id,
    /// When it began.
    pub opened: Timestamp,
    /// Number and hash of the last durable entry.
    pub written: (u64, Digest),
    /// Critical entries since the start; a checkpoint is due when it grows.
    pub critical: u64,
    /// Since when the log is known to have been tampered with; until the city has countersigned the one begun after it.
    pub broken: Option<Timestamp>,
    /// Since when the disk refuses.
    pub unwritable: Option<Timestamp>,
    /// How the log of accesses stood, as this log had it when it was opened: its name, entries, head.
    pub accesses: Option<(Id, u64, Digest)>,
    /// The newest checkpoint.
    pub checkpoint: Option<Checkpoint>,
    /// The city's time in its newest countersignature.
    pub acknowledged: Option<Timestamp>,
    /// Entries lost since the start.
    pub lost: u64,
}

type Reply<T> = oneshot::Sender<Result<T, LogError>>;
/// Called once with what became of an entry.
type Told = Box<dyn FnOnce(Result<u64, NotDurable>) + Send>;

enum Command {
    Record(Event, Timestamp, Option<Told>),
    Head(Reply<Head>),
    Key(Vec<u8>, Timestamp, Reply<()>),
    Checkpoint(SignedCheckpoint, Timestamp, Reply<()>),
    Receipt(u64, Receipt, Timestamp, Reply<()>),
    Check(Timestamp, Reply<Vec<Finding>>),
    RemoveOld(Timestamp, Reply<()>),
    Stop(oneshot::Sender<()>),
}

/// The handle to the log. Cheap to clone.
#[derive(Clone)]
pub struct AuditSink {
    commands: SyncSender<Command>,
    lost: Arc<AtomicU64>,
    clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
}

impl fmt::Debug for AuditSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AuditSink(..)")
    }
}

impl AuditSink {
    /// Logs something that happened. Never waits and never fails; when too much waits already, the log says how many were
    /// lost.
    pub fn record(&self, event: Event) {
        let command = Command::Record(event, (self.clock)(), None);
        if self.commands.try_send(command).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Logs something before it takes effect: returns its number when it is on the disk.
    ///
    /// # Errors
    /// [`NotDurable`]; the entry may be in the log later all the same.
    pub async fn durably(&self, event: Event) -> Result<u64, NotDurable> {
        let (reply, answer) = oneshot::channel();
        self.send(
            event,
            Box::new(move |told| {
                let _ = reply.send(told);
            }),
        )?;
        answer.await.map_err(|_| NotDurable)?
    }

    /// [`AuditSink::durably`] for a thread that may block, and for so long at the most: a log that could not even be opened
    /// never answers.
    ///
    /// # Errors
    /// As there.
    pub fn durably_blocking(&self, event: Event, patience: Duration) -> Result<u64, NotDurable> {
        let (reply, answer) = sync_channel(1);
        self.send(
            event,
            Box::new(move |told| {
                let _ = reply.send(told);
            }),
        )?;
        answer.recv_timeout(patience).map_err(|_| NotDurable)?
    }

    fn send(&self, event: Event, told: Told) -> Result<(), NotDurable> {
        let command = Command::Record(event, (self.clock)(), Some(told));
        self.commands.try_send(command).map_err(|refused| {
            if matches!(refused, TrySendError::Full(_)) {
                self.lost.fetch_add(1, Ordering::Relaxed);
            }
            NotDurable
        })
    }

    async fn ask<T>(
        &self,
        command: impl FnOnce(Timestamp, Reply<T>) -> Command,
    ) -> Result<Result<T, LogError>, Ended> {
        let (reply, answer) = oneshot::channel();
        self.commands
            .try_send(command((self.clock)(), reply))
            .map_err(|_| Ended)?;
        answer.await.map_err(|_| Ended)
    }

    /// What the next checkpoint is made of; everything before it is durable.
    ///
    /// # Errors
    /// [`Ended`], or why it could not be made durable.
    pub async fn head(&self) -> Result<Result<Head, LogError>, Ended> {
        self.ask(|_, reply| Command::Head(reply)).await
    }

    /// See [`Log::register_key`].
    ///
    /// # Errors
    /// As there, and [`Ended`].
    pub async fn register_key(&self, spki: Vec<u8>) -> Result<Result<(), LogError>, Ended> {
        self.ask(|at, reply| Command::Key(spki, at, reply)).await
    }

    /// See [`Log::store_checkpoint`].
    ///
    /// # Errors
    /// As there, and [`Ended`].
    pub async fn store_checkpoint(
        &self,
        signed: SignedCheckpoint,
    ) -> Result<Result<(), LogError>, Ended> {
        self.ask(|at, reply| Command::Checkpoint(signed, at, reply))
            .await
    }

    /// See [`Log::store_receipt`].
    ///
    /// # Errors
    /// As there, and [`Ended`].
    pub async fn store_receipt(
        &self,
        sequence: u64,
        receipt: Receipt,
    ) -> Result<Result<(), LogError>, Ended> {
        self.ask(|at, reply| Command::Receipt(sequence, receipt, at, reply))
            .await
    }

    /// Verifies the files; a log that does not verify is put aside and another begun. Returns what was found.
    ///
    /// # Errors
    /// [`Ended`], or why it could not be verified.
    pub async fn check(&self) -> Result<Result<Vec<Finding>, LogError>, Ended> {
        self.ask(Command::Check).await
    }

    /// See [`Log::remove_old`].
    ///
    /// # Errors
    /// As there, and [`Ended`].
    pub async fn remove_old(&self) -> Result<Result<(), LogError>, Ended> {
        self.ask(Command::RemoveOld).await
    }

    /// Makes everything durable and ends the thread.
    pub async fn stop(&self) {
        let (reply, answer) = oneshot::channel();
        if self.commands.try_send(Command::Stop(reply)).is_ok() {
            let _ = answer.await;
        }
    }
}

/// Starts the thread that opens the log in `dir` and owns it. While the disk refuses, opening is tried again and the status is
/// `None`; what is recorded meanwhile waits. Dropping the last handle ends the thread.
///
/// # Errors
/// When the system gives no thread.
pub fn start(
    dir: PathBuf,
    settings: Settings,
    clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
) -> std::io::Result<(AuditSink, watch::Receiver<Option<Status>>)> {
    let (commands, inbox) = sync_channel(QUEUE);
    let lost = Arc::new(AtomicU64::new(0));
    let (published, status) = watch::channel(None);
    let sink = AuditSink {
        commands,
        lost: Arc::clone(&lost),
        clock: Arc::clone(&clock),
    };
    std::thread::Builder::new()
        .name("audit".to_owned())
        .spawn(move || {
            let Some(log) = open_eventually(&dir, &settings, &clock, &published) else {
                return;
            };
            let recorder = Recorder {
                broken: log.after_fault().then(|| log.opened()),
                log,
                lost,
                lost_before: 0,
                critical: 0,
                unwritable: None,
                clock,
            };
            published.send_replace(Some(recorder.status()));
            recorder.run(&inbox, &published);
        })?;
    Ok((sink, status))
}

/// `None` when nobody is interested any more.
fn open_eventually(
    dir: &Path,
    settings: &Settings,
    clock: &Arc<dyn Fn() -> Timestamp + Send + Sync>,
    published: &watch::Sender<Option<Status>>,
) -> Option<Log> {
    let mut told = false;
    loop {
        match Log::open(dir, settings.clone(), clock()) {
            Ok((log, report)) => {
                for finding in report.iter().flat_map(|report| &report.findings) {
                    tell(finding);
                }
                return Some(log);
            }
            Err(error) if !std::mem::replace(&mut told, true) => {
                tracing::error!(event = "audit-unwritable", error = %chain(&error), "the audit log cannot be opened; trying on");
            }
            Err(_) => {}
        }
        std::thread::sleep(RETRY);
        if published.is_closed() {
            return None;
        }
    }
}

fn tell(finding: &Finding) {
    tracing::error!(
        event = "audit-broken",
        check = "LOG",
        entry = finding.entry,
        fault = finding.fault.id(),
        line = finding.line,
        "the audit log was changed; it is put aside and another begins"
    );
}

struct Recorder {
    log: Log,
    lost: Arc<AtomicU64>,
    lost_before: u64,
    critical: u64,
    broken: Option<Timestamp>,
    unwritable: Option<Timestamp>,
    clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
}

impl Recorder {
    fn run(mut self, inbox: &Receiver<Command>, published: &watch::Sender<Option<Status>>) {
        // When something first waited for the disk.
        let mut since: Option<Instant> = None;
        loop {
            let patience = match (since, self.unwritable) {
                (Some(_), Some(_)) => RETRY,
                (Some(since), None) => BATCH.saturating_sub(since.elapsed()),
                (None, _) => Duration::from_secs(3600),
            };
            let mut waiting = Vec::new();
            let mut urgent = false;
            let mut stop = None;
            let mut over = false;
            let mut next = inbox.recv_timeout(patience);
            // Everything that is there already shares one synchronisation.
            loop {
                let command = match next {
                    Ok(command) => command,
                    Err(why) => {
                        over |= why == RecvTimeoutError::Disconnected;
                        break;
                    }
                };
                since.get_or_insert_with(Instant::now);
                match command {
                    Command::Record(event, at, reply) => {
                        urgent |= reply.is_some() || event.is_critical();
                        let number = self.append(&event, at);
                        waiting.extend(reply.map(|reply| (reply, number)));
                    }
                    Command::Stop(done) => stop = Some(done),
                    other => self.act(other),
                }
                if stop.is_some() {
                    break;
                }
                next = inbox.try_recv().map_err(|_| RecvTimeoutError::Timeout);
            }
            over |= stop.is_some();
            let due = since.is_some_and(|since| since.elapsed() >= BATCH);
            if urgent || due || over {
                self.note_lost();
                if self.sync() {
                    since = None;
                }
            }
            let durable = self.log.durable().0;
            for (reply, number) in waiting {
                reply(number.filter(|number| *number <= durable).ok_or(NotDurable));
            }
            let status = Some(self.status());
            published.send_if_modified(|seen| {
                let changed = *seen != status;
                *seen = status;
                changed
            });
            if over {
                if let Some(done) = stop {
                    let _ = done.send(());
                }
                return;
            }
        }
    }

    fn append(&mut self, event: &Event, at: Timestamp) -> Option<u64> {
        match self.log.append(event, at) {
            Ok(number) => {
                self.critical += u64::from(event.is_critical());
                Some(number)
            }
            Err(_) => {
                self.lost.fetch_add(1, Ordering::Relaxed);
                None
            }
        }
    }

    fn note_lost(&mut self) {
        let lost = self.lost.load(Ordering::Relaxed);
        if lost > self.lost_before && self.unwritable.is_none() {
            let event = Event::Log {
                what: LogFault::EntriesLost,
                count: lost - self.lost_before,
                first_checkpoint: None,
            };
            if self.append(&event, (self.clock)()).is_some() {
                self.lost_before = lost;
            }
        }
    }

    /// True when everything is durable.
    fn sync(&mut self) -> bool {
        match self.log.sync() {
            Ok(()) => {
                if self.unwritable.take().is_some() {
                    tracing::info!(
                        event = "audit-written-again",
                        "the audit log can be written again"
                    );
                }
                true
            }
            Err(error) => {
                if self.unwritable.is_none() {
                    self.unwritable = Some((self.clock)());
                    tracing::error!(event = "audit-unwritable", error = %chain(&error), "the audit log cannot be written; requests are relayed all the same");
                }
                false
            }
        }
    }

    fn act(&mut self, command: Command) {
        match command {
            Command::Head(reply) => {
                let made = self.log.sync().map(|()| {
                    let (count, head) = self.log.durable();
                    Head {
                        log: self.log.id(),
                        sequence: self.log.next_sequence(),
                        count,
                        head,
                    }
                });
                drop(reply.send(made));
            }
            Command::Key(spki, at, reply) => drop(reply.send(self.log.register_key(&spki, at))),
            Command::Checkpoint(signed, at, reply) => {
                drop(reply.send(self.log.store_checkpoint(&signed, at)));
            }
            Command::Receipt(sequence, receipt, at, reply) => {
                let stored = self.log.store_receipt(sequence, &receipt, at);
                if stored.is_ok() {
                    // The city's people have seen that this log begins after a fault, or it would not have taken it.
                    self.broken = None;
                }
                drop(reply.send(stored));
            }
            Command::Check(at, reply) => drop(reply.send(self.check(at))),
            Command::RemoveOld(at, reply) => drop(reply.send(self.log.remove_old(at))),
            Command::Record(..) | Command::Stop(_) => {}
        }
    }

    fn check(&mut self, at: Timestamp) -> Result<Vec<Finding>, LogError> {
        let found = self.log.check()?.findings;
        if !found.is_empty() {
            found.iter().for_each(tell);
            self.broken = Some(at);
            self.log.set_aside(at)?;
            self.critical += 1;
        }
        Ok(found)
    }

    fn status(&self) -> Status {
        Status {
            log: self.log.id(),
            opened: self.log.opened(),
            written: self.log.durable(),
            critical: self.critical,
            broken: self.broken.filter(|_| self.log.last_receipt().is_none()),
            unwritable: self.unwritable,
            accesses: self.log.accesses(),
            checkpoint: self.log.last_checkpoint().cloned(),
            acknowledged: self.log.last_receipt().map(|(_, at)| at),
            lost: self.lost.load(Ordering::Relaxed),
        }
    }
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}
