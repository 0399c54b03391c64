//! The handle others scan with: bounded in time and in number.
//!
//! It does not retry; whoever holds the body knows how long its reader will wait.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Arc, Mutex as StdMutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Mutex, Semaphore, SemaphorePermit, watch};
use tokio::time::error::Elapsed;
use tokio::time::{Instant, timeout};

use crate::connection::Connection;
use crate::samples::eicar;
use crate::{Outcome, SealedBody, Unavailable, Unscannable, reply};

/// How long clamd is believed to look at what it is given, once it caught the test virus. A clamd that cannot make its
/// directory for temporary files answers OK to everything (measured with 1.4.6), and nothing in that answer shows it.
const WITNESS_HOLDS: Duration = Duration::from_secs(1);

/// How long a connection is kept for the next body. clamd closes it after thirty seconds without a command.
const SPARE_KEPT: Duration = Duration::from_secs(5);

/// How a body reaches clamd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transfer {
    /// By descriptor; as a stream once clamd has shown that it receives none.
    Descriptor,
    /// As a stream. clamd then writes the body into its temporary directory.
    Stream,
}

/// Where clamd is and how long we wait for it.
#[derive(Clone, Debug)]
pub struct Config {
    /// clamd's socket.
    pub socket: PathBuf,
    /// How a body reaches clamd.
    pub transfer: Transfer,
    /// The largest body that is scanned, in bytes. Must not exceed clamd's `MaxFileSize` and `StreamMaxLength`.
    pub largest: u64,
    /// How many scans may run at once. More than clamd's `MaxThreads` only makes a queue there.
    pub concurrent: usize,
    /// How long a scan waits for its turn.
    pub turn: Duration,
    /// How long one scan may take. More than clamd's `MaxScanTime`.
    pub scan: Duration,
    /// How long clamd may take to answer a command without a body. Measured: 2.8 s under overload, so busy is not dead.
    pub command: Duration,
}

impl Config {
    /// The settings that belong to the box's `clamd.conf`.
    #[must_use]
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self {
            socket: socket.into(),
            transfer: Transfer::Descriptor,
            largest: 50 * 1024 * 1024,
            concurrent: 4,
            turn: Duration::from_secs(20),
            scan: Duration::from_secs(40),
            command: Duration::from_secs(10),
        }
    }
}

/// A cloneable handle to clamd. Holds at most one connection, for the next body.
#[derive(Clone, Debug)]
pub struct Scanner(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    config: Config,
    turns: Semaphore,
    /// clamd receives no descriptors: it said so, or the canary found out.
    descriptors_refused: AtomicBool,
    /// Counts how often clamd may have come to another database.
    database: watch::Sender<u64>,
    /// The process that listens, as far as the kernel says; systemd's own where it opened the socket.
    listener: AtomicI32,
    /// When the test virus was last given to clamd and caught.
    witnessed: Mutex<Option<Instant>>,
    /// clamd failed since the last change was counted.
    failed: AtomicBool,
    /// Made while clamd looks at the body before, and since when it waits.
    spare: StdMutex<Option<(Connection, Instant)>>,
}

impl Scanner {
    /// A handle; nothing is connected yet.
    #[must_use]
    pub fn new(config: Config) -> Self {
        let turns = Semaphore::new(config.concurrent.max(1));
        Self(Arc::new(Inner {
            config,
            turns,
            descriptors_refused: AtomicBool::new(false),
            database: watch::Sender::new(1),
            listener: AtomicI32::new(0),
            witnessed: Mutex::new(None),
            failed: AtomicBool::new(false),
            spare: StdMutex::new(None),
        }))
    }

    /// A number that grows whenever clamd may have come to another database: at a reload, a restart, a break in its service.
    /// What was clean under an older number counts for nothing. Read it *before* the scan whose result is remembered.
    #[must_use]
    pub fn database_serial(&self) -> watch::Receiver<u64> {
        self.0.database.subscribe()
    }

    /// From now on another database may answer.
    pub fn database_changed(&self) {
        self.0.database.send_modify(|serial| *serial += 1);
    }

    /// The largest body that is scanned, in bytes.
    #[must_use]
    pub fn largest(&self) -> u64 {
        self.0.config.largest
    }

    /// Asks clamd about one body. Clean is believed only of a clamd that caught the test virus within the last second; it
    /// is given it anew when that is longer ago.
    pub async fn scan(&self, body: &SealedBody) -> Outcome {
        let outcome = match self.turn().await {
            Ok(_turn) => self.scan_in_turn(body).await,
            Err(busy) => return Outcome::Unavailable(busy),
        };
        if outcome != Outcome::Clean {
            return outcome;
        }
        match self.witness().await {
            Ok(()) => Outcome::Clean,
            Err(why) => Outcome::Unavailable(why),
        }
    }

    /// Shows that clamd looks. Those who ask at the same time share one answer.
    async fn witness(&self) -> Result<(), Unavailable> {
        let asking = async {
            let mut witnessed = self.0.witnessed.lock().await;
            if witnessed.is_some_and(|at| at.elapsed() < WITNESS_HOLDS) {
                return Ok(());
            }
            let begin = Instant::now();
            let virus = SealedBody::from_bytes(&eicar())
                .map_err(|error| Unavailable::Exhausted(error.to_string()))?;
            match self.probe(&virus).await {
                Outcome::Infected(_) => {
                    *witnessed = Some(begin);
                    Ok(())
                }
                Outcome::Unavailable(why) => Err(why),
                _ => {
                    // What was called clean since the last time may not have been looked at.
                    self.database_changed();
                    Err(Unavailable::Blind)
                }
            }
        };
        timeout(self.0.config.command, asking)
            .await
            .unwrap_or(Err(Unavailable::TimedOut))
    }

    async fn turn(&self) -> Result<SemaphorePermit<'_>, Unavailable> {
        match timeout(self.0.config.turn, self.0.turns.acquire()).await {
            Ok(Ok(turn)) => Ok(turn),
            // The semaphore is never closed; were it, no scan could be had either.
            Ok(Err(_)) | Err(_) => Err(Unavailable::Busy),
        }
    }

    async fn scan_in_turn(&self, body: &SealedBody) -> Outcome {
        if body.len() > self.0.config.largest {
            return Outcome::Unscannable(Unscannable::TooLarge);
        }
        let scanning = async {
            let connection = self.spare();
            let connection = connection.map_or_else(|| self.connect(), Ok)?;
            self.transfer(connection, body, || self.make_spare()).await
        };
        self.judged(timeout(self.0.config.scan, scanning).await)
    }

    /// The connection that was made for this body, if clamd still waits at its other end.
    fn spare(&self) -> Option<Connection> {
        let (connection, since) = self.spare_place().take()?;
        if self.streams() || since.elapsed() > SPARE_KEPT || !connection.is_quiet() {
            return None;
        }
        self.listens(connection.listener());
        Some(connection)
    }

    /// That it cannot be made is noticed by whoever makes one in earnest.
    fn make_spare(&self) {
        let mut place = self.spare_place();
        if place.is_none()
            && let Ok(connection) = Connection::open(&self.0.config.socket)
        {
            *place = Some((connection, Instant::now()));
        }
    }

    fn spare_place(&self) -> MutexGuard<'_, Option<(Connection, Instant)>> {
        self.0.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Scans without waiting for a turn, on a connection of its own: the canary must not wait behind the traffic it vouches for.
    pub(crate) async fn scan_now(&self, body: &SealedBody, limit: Duration) -> Outcome {
        if body.len() > self.0.config.largest {
            return Outcome::Unscannable(Unscannable::TooLarge);
        }
        self.judged(timeout(limit, self.transfer_apart(body)).await)
    }

    /// Scans a body of our own at once, whatever its length, in the time of a command.
    pub(crate) async fn probe(&self, body: &SealedBody) -> Outcome {
        self.judged(timeout(self.0.config.command, self.transfer_apart(body)).await)
    }

    async fn transfer_apart(&self, body: &SealedBody) -> Result<Vec<u8>, Unavailable> {
        self.transfer(self.connect()?, body, || {}).await
    }

    async fn transfer(
        &self,
        connection: Connection,
        body: &SealedBody,
        meanwhile: impl FnOnce(),
    ) -> Result<Vec<u8>, Unavailable> {
        if self.streams() {
            return connection.stream(body).await;
        }
        let raw = connection.pass_descriptor(body, meanwhile).await?;
        if raw.starts_with(b"No file descriptor received") || raw == b"UNKNOWN COMMAND\0" {
            self.stream_from_now_on();
            return self.stream(body).await;
        }
        Ok(raw)
    }

    async fn stream(&self, body: &SealedBody) -> Result<Vec<u8>, Unavailable> {
        self.connect()?.stream(body).await
    }

    /// Scans as a stream whatever is configured.
    pub(crate) async fn scan_as_stream(&self, body: &SealedBody, limit: Duration) -> Outcome {
        self.judged(timeout(limit, self.stream(body)).await)
    }

    pub(crate) fn streams(&self) -> bool {
        self.0.config.transfer == Transfer::Stream
            || self.0.descriptors_refused.load(Ordering::Relaxed)
    }

    pub(crate) fn stream_from_now_on(&self) {
        if !self.0.descriptors_refused.swap(true, Ordering::Relaxed) {
            tracing::warn!("clamd receives no descriptors; bodies are streamed to it from now on");
            drop(self.spare_place().take());
        }
    }

    /// Whether clamd answers at all. An answer does not mean that it catches anything; see [`Scanner::canary`].
    ///
    /// # Errors
    /// [`Unavailable`] with the reason.
    pub async fn ping(&self) -> Result<(), Unavailable> {
        match self.command(b"zPING\0").await?.as_slice() {
            b"PONG\0" => Ok(()),
            other => Err(unexpected(other)),
        }
    }

    /// clamd's own description of its engine and, with an official database, that database's number and date.
    ///
    /// # Errors
    /// [`Unavailable`] with the reason.
    pub async fn version(&self) -> Result<String, Unavailable> {
        let raw = self.command(b"zVERSION\0").await?;
        let text = raw
            .strip_suffix(b"\0")
            .and_then(|text| std::str::from_utf8(text).ok());
        match text {
            Some(text) if text.starts_with("ClamAV ") => Ok(text.to_owned()),
            _ => Err(unexpected(&raw)),
        }
    }

    /// Tells clamd to load its database again. It answers the same whatever comes of it.
    pub(crate) async fn reload(&self) -> Result<(), Unavailable> {
        match self.command(b"zRELOAD\0").await?.as_slice() {
            b"RELOADING\0" => Ok(()),
            other => Err(unexpected(other)),
        }
    }

    async fn command(&self, command: &[u8]) -> Result<Vec<u8>, Unavailable> {
        let asking = async { self.connect()?.ask(command).await };
        timeout(self.0.config.command, asking)
            .await
            .unwrap_or(Err(Unavailable::TimedOut))
    }

    fn connect(&self) -> Result<Connection, Unavailable> {
        let connection = Connection::open(&self.0.config.socket)
            .inspect_err(|_| self.0.failed.store(true, Ordering::Relaxed))?;
        self.listens(connection.listener());
        Ok(connection)
    }

    /// Takes note of who is at the other end.
    fn listens(&self, listener: i32) {
        let before = self.0.listener.swap(listener, Ordering::Relaxed);
        let failed = self.0.failed.swap(false, Ordering::Relaxed);
        if failed || (before != 0 && before != listener) {
            self.database_changed();
        }
    }

    fn judged(&self, answer: Result<Result<Vec<u8>, Unavailable>, Elapsed>) -> Outcome {
        let outcome = match answer {
            Ok(Ok(raw)) => reply::parse(&raw),
            Ok(Err(unavailable)) => Outcome::Unavailable(unavailable),
            Err(_) => Outcome::Unavailable(Unavailable::TimedOut),
        };
        // Who hung up may have been killed, and the next to answer may be another.
        if let Outcome::Unavailable(
            Unavailable::NoAnswer | Unavailable::Send(_) | Unavailable::Receive(_),
        ) = outcome
        {
            self.0.failed.store(true, Ordering::Relaxed);
        }
        outcome
    }

    pub(crate) fn command_limit(&self) -> Duration {
        self.0.config.command
    }
}

/// An answer to a command without a body, judged as any other: none, a time-out, or something unknown.
fn unexpected(raw: &[u8]) -> Unavailable {
    match reply::parse(raw) {
        Outcome::Unavailable(unavailable) => unavailable,
        other => Unavailable::Answer(format!("{other:?}")),
    }
}
