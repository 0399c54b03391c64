//! Watches the virus scanner (checks AV-ALIVE, AV-DB, AV-SELF, AV-CONF, 第27条) and puts databases to use that the signed
//! channel or freshclam brings.
//!
//! It judges nothing: what the checks mean is the policy's. How a database is proven is `gateway-antivirus`'s.

mod databases;
mod watch;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use gateway_antivirus::database::{Store, TestLoad, Updater};
use gateway_antivirus::{ConfigCheck, Places, Scanner};
use nix::unistd::Group;
use tokio::sync::{Notify, oneshot, watch as latest};
use tokio::task::JoinSet;

use crate::posture::Posture;
use crate::signed_channel::Staged;
use crate::steps::Steps;

/// How long clamd may take to load a database. Measured: 38 s for 2.6 million signatures on a slow box.
const PROOF: Duration = Duration::from_secs(180);

/// Table `[antivirus]`.
#[derive(Debug, Clone, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Table {
    /// clamd's socket.
    pub(crate) socket: PathBuf,
    /// Seconds between two canary scans; at most 300, for the gate counts on it.
    pub(crate) canary_seconds: u64,
    /// clamd's configuration file, compared with the one this program was built with.
    pub(crate) configuration: PathBuf,
    /// The group that may connect to clamd; not looked at when absent.
    pub(crate) socket_group: Option<String>,
    /// The directory of databases that clamd loads from and this program alone writes.
    pub(crate) databases: PathBuf,
    /// A release that came with the image, for the first start.
    pub(crate) factory: Option<PathBuf>,
    /// Where freshclam keeps ClamAV's own databases, if the facility's line reaches a mirror.
    pub(crate) official: Option<PathBuf>,
    /// Debian's clamav-testfiles: every database must find all of them before it is used.
    pub(crate) test_files: PathBuf,
}

impl Default for Table {
    fn default() -> Self {
        Self {
            socket: PathBuf::from("/run/clamav/clamd.ctl"),
            canary_seconds: 300,
            configuration: PathBuf::from("/usr/share/renraku-gateway/clamd.conf"),
            socket_group: None,
            databases: PathBuf::from("/var/lib/renraku-antivirus"),
            factory: None,
            official: None,
            test_files: PathBuf::from("/usr/share/clamav-testfiles"),
        }
    }
}

/// The scanner with all that is known about it.
pub(crate) struct Antivirus {
    scanner: Scanner,
    table: Table,
    /// Absent when the directory of databases cannot be used.
    updater: Option<Arc<Updater>>,
    check: ConfigCheck,
    posture: Arc<Posture>,
    /// The data path got no answer, or a database was put to use: look now.
    look: Arc<Notify>,
    /// The scanner came or went: what was interrupted may go on.
    turned: Arc<Notify>,
    /// The database that the scanner has, by name, once that is known.
    loaded: latest::Sender<Option<String>>,
}

impl Antivirus {
    /// Opens the directory of databases. `trouble` is told by the data path when the scanner does not answer.
    pub(crate) fn open(
        table: &Table,
        scanner: Scanner,
        posture: Arc<Posture>,
        trouble: Arc<Notify>,
    ) -> Arc<Self> {
        let updater = match Store::open(&table.databases) {
            Ok(store) => {
                let test_load = TestLoad {
                    test_files: Some(table.test_files.clone()),
                    ..TestLoad::default()
                };
                let updater = Updater::new(store, scanner.clone(), test_load, PROOF);
                Some(Arc::new(updater))
            }
            Err(error) => {
                let error = crate::certificates::chain(&error);
                tracing::error!(event = "antivirus-database-refused", reason = "store", %error, "the directory of antivirus databases cannot be used");
                None
            }
        };
        let group = table.socket_group.as_deref().map(|name| {
            let group = Group::from_name(name).ok().flatten();
            // A group that does not exist owns no socket.
            group.map_or(u32::MAX, |group| group.gid.as_raw())
        });
        let check = ConfigCheck::new(Places {
            configuration: table.configuration.clone(),
            socket: table.socket.clone(),
            databases: updater
                .as_ref()
                .map(|updater| updater.store().database_directory()),
            group,
        });
        Arc::new(Self {
            scanner,
            table: table.clone(),
            updater,
            check,
            posture,
            look: trouble,
            turned: Arc::new(Notify::new()),
            loaded: latest::Sender::new(None),
        })
    }

    /// The database that the scanner has, by name, as it changes; one without a name is not told.
    pub(crate) fn loaded(&self) -> latest::Receiver<Option<String>> {
        self.loaded.subscribe()
    }

    /// Starts watching; answers with the end of the first look, however it ended.
    pub(crate) fn watch(
        self: &Arc<Self>,
        steps: Steps,
        tasks: &mut JoinSet<()>,
    ) -> oneshot::Receiver<()> {
        let (first, looked) = oneshot::channel();
        tasks.spawn(watch::run(Arc::clone(self), steps, first));
        looked
    }

    /// Starts putting databases to use.
    pub(crate) fn take_databases(
        self: &Arc<Self>,
        delivered: latest::Receiver<Option<Staged>>,
        tasks: &mut JoinSet<()>,
    ) {
        if let Some(updater) = &self.updater {
            tasks.spawn(databases::run(
                Arc::clone(self),
                Arc::clone(updater),
                delivered,
            ));
        }
    }
}
