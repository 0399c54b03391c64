//! One worker thread with its runtime, its connections and its upstream pools. Does not decide anything about a request.

use std::{
    io,
    net::TcpListener as StdListener,
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
    time::Duration,
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use gateway_policy::{Asked, DeviceId, Gate, Permit, Recent, Refusal, Snapshot, Timestamp};
use rustls::ServerConfig;

use crate::{
    Inspection, LocalPages, StaffSessions, StartError,
    config::ProxyConfig,
    connection::{Door, Protocols},
    device::{Identify, NodeNames, Seen},
    drain::{Drain, Phase},
    listener::{Listeners, Slots, accept},
    live::Live,
    route::Routes,
    upstream::{Pool, Upstreams},
};

/// How often pools are tidied.
const TIDY: Duration = Duration::from_secs(2);
/// How often a draining worker looks whether it is done.
const GLANCE: Duration = Duration::from_millis(10);

/// What all workers share.
pub(crate) struct Shared {
    pub(crate) config: ProxyConfig,
    pub(crate) routes: Routes,
    pub(crate) pac: Bytes,
    pub(crate) gate: Gate,
    pub(crate) snapshot: Arc<ArcSwap<Snapshot>>,
    pub(crate) clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    pub(crate) pages: Arc<dyn LocalPages>,
    pub(crate) staff: Arc<StaffSessions>,
    pub(crate) inspection: Inspection,
    pub(crate) lan_tls: ArcSwap<ServerConfig>,
    pub(crate) upstreams: Arc<Upstreams>,
    pub(crate) slots: Arc<Slots>,
    pub(crate) nodes: NodeNames,
    pub(crate) identify: Identify,
    pub(crate) seen: Seen,
    /// One for each worker.
    pub(crate) live: Box<[Arc<Live>]>,
    pub(crate) drain: Drain,
}

impl Shared {
    /// Asks the gate, with the newest snapshot.
    pub(crate) fn judge(&self, asked: &Asked, device: Option<DeviceId>) -> Result<Permit, Refusal> {
        let now = (self.clock)();
        self.gate
            .check(asked, device.into(), &self.snapshot.load(), now)
    }

    /// Whether a device's registration has been taken back.
    pub(crate) fn is_revoked(&self, device: DeviceId) -> bool {
        let snapshot = self.snapshot.load();
        snapshot
            .device(device)
            .is_some_and(|device| device.revoked.is_some())
    }
}

/// What the connections of one thread share.
pub(crate) struct Worker {
    pub(crate) shared: Arc<Shared>,
    pub(crate) protocols: Protocols,
    pub(crate) pools: Vec<Arc<Pool>>,
    pub(crate) live: Arc<Live>,
    recent: Mutex<Recent>,
}

impl Worker {
    /// Asks the gate about a request, with the newest snapshot.
    pub(crate) fn judge(&self, asked: &Asked, device: Option<DeviceId>) -> Result<Permit, Refusal> {
        let shared = &self.shared;
        let now = (shared.clock)();
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let snapshot = shared.snapshot.load();
        shared
            .gate
            .check_recent(&mut recent, asked, device.into(), &snapshot, now)
    }

    /// Starts the thread. It ends when the data path has drained.
    pub(crate) fn start(
        number: usize,
        shared: Arc<Shared>,
        listeners: Listeners,
    ) -> Result<JoinHandle<()>, StartError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(StartError::Runtime)?;
        std::thread::Builder::new()
            .name(format!("gateway-data-{number}"))
            .spawn(move || runtime.block_on(Self::run(number, shared, listeners)))
            .map_err(StartError::Thread)
    }

    async fn run(number: usize, shared: Arc<Shared>, listeners: Listeners) {
        let pools = shared
            .upstreams
            .sites
            .iter()
            .map(|site| Pool::new(Arc::clone(site), Arc::clone(&shared.upstreams)))
            .collect();
        let worker = Arc::new(Self {
            protocols: Protocols::new(&shared.config.limits),
            pools,
            live: Arc::clone(&shared.live[number]),
            recent: Mutex::default(),
            shared: Arc::clone(&shared),
        });
        let doors = listeners
            .https
            .into_iter()
            .map(|socket| (socket, Door::Tls))
            .chain(
                listeners
                    .http
                    .into_iter()
                    .map(|socket| (socket, Door::Plain)),
            );
        for (socket, door) in doors {
            tokio::spawn(listen(Arc::clone(&worker), socket, door));
        }
        let tidying = tokio::spawn(tidy(Arc::clone(&worker)));
        tokio::spawn(judge_again(Arc::clone(&worker)));

        shared.drain.reached(Phase::Draining).await;
        tidying.abort();
        while shared.slots.open() > 0 && shared.drain.phase() < Phase::Cut {
            tokio::time::sleep(GLANCE).await;
        }
        for pool in &worker.pools {
            pool.close();
        }
        // Returning ends the runtime, and with it whatever did not finish in time.
    }
}

async fn listen(worker: Arc<Worker>, socket: StdListener, door: Door) {
    let ended: io::Result<()> = accept(worker, socket, door).await;
    if let Err(error) = ended {
        tracing::error!(target: "renraku::listener", error = %error, "a listening socket cannot be used");
    }
}

/// What was let through may have to end: the gate's word counts for open connections too.
async fn judge_again(worker: Arc<Worker>) {
    let shared = &worker.shared;
    let mut often = tokio::time::interval(shared.config.limits.tunnel_check);
    often.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        often.tick().await;
        worker.live.judge(
            |asked, device| shared.judge(asked, device).err(),
            |device| shared.is_revoked(device),
        );
    }
}

async fn tidy(worker: Arc<Worker>) {
    let mut often = tokio::time::interval(TIDY);
    loop {
        often.tick().await;
        for pool in &worker.pools {
            pool.tidy();
        }
    }
}
