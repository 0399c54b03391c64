//! The city's SQLite: one thread owns the connection, everyone else sends it work through a bounded queue.
//!
//! Holds no rules about who may do what; the rooms above ask and decide.

pub mod access;
pub mod accesslog;
pub mod audit;
pub mod events;
pub mod numbers;
pub mod people;
pub mod reports;

use rusqlite::Connection;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot, watch};

/// Jobs waiting for the thread before callers have to wait.
const QUEUE: usize = 256;

/// Why the store could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database could not be opened.
    #[error("the city's database could not be opened")]
    Open(#[source] rusqlite::Error),
    /// A statement failed.
    #[error("the city's database refused a statement")]
    Query(#[from] rusqlite::Error),
    /// The thread has ended; the city is shutting down.
    #[error("the city's database thread has ended")]
    Ended,
}

type Job = Box<dyn FnOnce(&mut Connection) + Send>;

/// A handle to the database thread.
#[derive(Clone)]
pub struct Store {
    jobs: mpsc::Sender<Job>,
    latest: Arc<watch::Sender<i64>>,
    access: Arc<watch::Sender<u64>>,
    attachments: Arc<PathBuf>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Store(…)")
    }
}

impl Store {
    /// Opens `dir/city.db`, making it if needed, and starts the thread.
    ///
    /// # Errors
    /// When the database cannot be opened or its schema not be made.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        let attachments = dir.join("attachments");
        std::fs::create_dir_all(&attachments).map_err(|_| StoreError::Ended)?;
        let mut connection = Connection::open(dir.join("city.db")).map_err(StoreError::Open)?;
        prepare(&mut connection).map_err(StoreError::Open)?;
        let newest = events::newest(&connection).map_err(StoreError::Open)?;
        let (jobs, mut queue) = mpsc::channel::<Job>(QUEUE);
        std::thread::Builder::new()
            .name("city-store".into())
            .spawn(move || {
                while let Some(job) = queue.blocking_recv() {
                    job(&mut connection);
                }
            })
            .map_err(|_| StoreError::Ended)?;
        Ok(Self {
            jobs,
            latest: Arc::new(watch::Sender::new(newest)),
            access: Arc::new(watch::Sender::new(0)),
            attachments: Arc::new(attachments),
        })
    }

    /// Runs `work` on the thread inside one transaction, which is committed if `work` succeeds. Wakes the feeds if it
    /// appended events.
    ///
    /// # Errors
    /// What `work` returns, or that the thread has ended.
    pub async fn run<T, W>(&self, work: W) -> Result<T, StoreError>
    where
        T: Send + 'static,
        W: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let latest = Arc::clone(&self.latest);
        let job: Job = Box::new(move |connection| {
            let outcome = in_transaction(connection, work);
            if let Ok(newest) = events::newest(connection) {
                latest.send_if_modified(|seen| std::mem::replace(seen, newest) != newest);
            }
            // The caller may have gone away; the work is done all the same.
            let _ = answer.send(outcome);
        });
        self.jobs.send(job).await.map_err(|_| StoreError::Ended)?;
        Ok(answered.await.map_err(|_| StoreError::Ended)??)
    }

    /// Wakes whenever events were appended; carries the newest sequence number.
    #[must_use]
    pub fn event_signal(&self) -> watch::Receiver<i64> {
        self.latest.subscribe()
    }

    /// Wakes whenever someone's access was taken or given back.
    #[must_use]
    pub fn access_signal(&self) -> watch::Receiver<u64> {
        self.access.subscribe()
    }

    /// Tells every open feed and live page to look again whether it may go on.
    pub fn access_changed(&self) {
        self.access.send_modify(|count| *count += 1);
    }

    /// The file that holds an attachment's bytes.
    #[must_use]
    pub fn attachment_path(&self, id: &str) -> PathBuf {
        self.attachments.join(id)
    }
}

fn in_transaction<T>(
    connection: &mut Connection,
    work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    let transaction = connection.transaction()?;
    let value = work(&transaction)?;
    transaction.commit()?;
    Ok(value)
}

fn prepare(connection: &mut Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.pragma_update(None, "foreign_keys", "ON")?;
    connection.pragma_update(None, "secure_delete", "ON")?;
    connection.set_prepared_statement_cache_capacity(64);
    connection.execute_batch(include_str!("schema.sql"))?;
    connection.execute(
        "INSERT OR IGNORE INTO meta (name, value) VALUES ('epoch', ?1)",
        [crate::secrets::hex(&crate::secrets::random::<4>())],
    )?;
    Ok(())
}
