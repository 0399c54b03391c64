//! Brings the parts up in order, says when the box is ready, and takes them down again.
//!
//! Wiring only: what the parts do is theirs. The order matters: pages and portal first (they must be there when all else
//! fails), then the TPM, then what needs it.

use std::num::NonZeroUsize;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use gateway_antivirus::Scanner;
use gateway_city::backoff::system_random;
use gateway_city::feed::{FeedSettings, FeedState, Follower, Why};
use gateway_city::tls as city_tls;
use gateway_console::Console;
use gateway_notes::Store;
use gateway_policy::Gate;
use gateway_provisioning::{Provisioner, ProvisioningConfig, ProvisioningError, StateLock};
use gateway_proxy::{
    Dependencies, LanCertificate, Listeners, Proxy, ProxyConfig, Running, StaffSessions, StartError,
};
use gateway_tpm::KeyVault;
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::certificates::{Certificates, chain};
use crate::config::{Config, Protocol};
use crate::desk::{BoxDesk, Run};
use crate::late_vault::LateVault;
use crate::pages::Pages;
use crate::posture::{self, Posture};
use crate::stored_notes::{FeedIntoStore, Forget, StoredNotes};
use crate::{measure, setup_certificate, sockets};

/// How long readiness waits for the TPM; without it the box comes up with its pages and the portal only.
const TPM_PATIENCE: Duration = Duration::from_secs(10);

/// How often old notes are dropped and the facility's standing is confirmed.
const UPKEEP: Duration = Duration::from_secs(600);

/// How often the feed is asked for while the facility is suspended: two handshakes a minute do not burden the city,
/// and care goes on soon after the suspension has ended.
const PROBE: Duration = Duration::from_secs(30);

/// Ceiling of the feed's back-off. With full jitter, half of it is what recovery takes on average.
const FEED_BACKOFF: Duration = Duration::from_secs(60);

/// Why the daemon did not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartupError {
    /// State directory, lock or trust anchor.
    #[error("provisioning cannot start")]
    Provisioning(#[from] ProvisioningError),
    /// A listening socket.
    #[error("the listening sockets")]
    Sockets(#[from] sockets::SocketError),
    /// The data path.
    #[error("the data path")]
    DataPath(#[from] StartError),
    /// A trust anchor file.
    #[error("cannot use the authorities in {0}")]
    Anchor(std::path::PathBuf, #[source] rustls::pki_types::pem::Error),
    /// The certificate shown before provisioning.
    #[error("the setup certificate")]
    SetupCertificate(#[from] setup_certificate::SetupCertificateError),
    /// TLS towards the city.
    #[error("TLS towards the city")]
    CityTls(#[from] city_tls::TlsSetupError),
    /// No randomness, signals or threads.
    #[error("the system refuses {0}")]
    System(&'static str, #[source] std::io::Error),
    /// The console's sessions.
    #[error("the console")]
    Console(#[from] gateway_console::NoRandomness),
}

/// Runs the box until it is told to stop.
///
/// # Errors
/// [`StartupError`]: nothing was served.
pub(crate) async fn run(config: Config) -> Result<(), StartupError> {
    let mut terminate =
        signal(SignalKind::terminate()).map_err(|error| StartupError::System("signals", error))?;
    let mut interrupt =
        signal(SignalKind::interrupt()).map_err(|error| StartupError::System("signals", error))?;
    let lock = Arc::new(StateLock::acquire(&config.state_dir)?);
    let drain = Duration::from_secs(config.limits.drain_seconds);
    let mut tasks = JoinSet::new();
    let certificates = start(config, lock, &mut tasks).await?;

    let _ = sd_notify::notify(false, &[NotifyState::Ready, NotifyState::Status("serving")]);
    tracing::info!(
        event = "ready",
        version = env!("CARGO_PKG_VERSION"),
        "the gateway is ready"
    );
    tasks.spawn(watchdog());
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        // A task that ends has panicked: stop in good order and let systemd start afresh.
        ended = tasks.join_next() => tracing::error!(event = "draining", ended = ?ended.map(|task| task.is_err()), "a part has ended"),
    }
    tracing::info!(event = "draining", "stopping; open requests may finish");
    let _ = sd_notify::notify(false, &[NotifyState::Stopping]);
    let running = certificates
        .data_path
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
        .take();
    if let Some(running) = running {
        let _ = tokio::task::spawn_blocking(move || running.drain(drain)).await;
    }
    tasks.shutdown().await;
    Ok(())
}

/// Everything up to readiness.
async fn start(
    config: Config,
    lock: Arc<StateLock>,
    tasks: &mut JoinSet<()>,
) -> Result<Arc<Certificates>, StartupError> {
    let posture = Arc::new(Posture::new());
    let staff = Arc::new(StaffSessions::new()?);
    let vault = Arc::new(LateVault::new(vault_config(&config)));
    let provisioning = ProvisioningConfig {
        state_dir: config.state_dir.clone(),
        tpm: config.tpm.clone(),
        city: config.city.clone(),
        lan: config.lan.clone(),
    };
    let provisioner = Arc::new(Provisioner::new(
        provisioning,
        Arc::clone(&vault) as Arc<dyn KeyVault>,
        lock,
    )?);
    let (feed_state, feed) = watch::channel(FeedState::Connecting);
    let notes = Arc::new(StoredNotes::new(
        config.state_dir.clone(),
        Arc::clone(&vault),
        config.store_limits(),
    ));
    let console = Arc::new(OnceLock::<Arc<Console>>::new());

    let pages = Arc::new(LatePages {
        console: Arc::clone(&console),
        runtime: tokio::runtime::Handle::current(),
    });
    let running = data_path(&config, &posture, &staff, pages)?;
    let certificates = Arc::new(Certificates::new(
        Arc::clone(&provisioner),
        Arc::clone(&vault),
        Arc::clone(&posture),
        running,
    ));
    let desk = BoxDesk {
        posture: Arc::clone(&posture),
        gate: Gate::new(),
        provisioner: Arc::clone(&provisioner),
        certificates: Arc::clone(&certificates),
        vault: Arc::clone(&vault),
        notes: Arc::clone(&notes),
        feed,
        run: Arc::new(Run::default()),
    };
    let made = Arc::new(Console::new(Arc::new(desk), config.console())?);
    let _ = console.set(Arc::clone(&made));

    measure_all(
        &config,
        &provisioner,
        &posture,
        &certificates,
        &vault,
        tasks,
    )?;
    let follow = Feed {
        certificates: Arc::clone(&certificates),
        notes: Arc::clone(&notes),
        staff,
        posture,
        console: made,
        state: feed_state,
    };
    tasks.spawn(follow.run(config.city.gateway_api));
    // Opening goes on in the background when it takes longer; the box is then ready with less.
    let (opened, ready) = tokio::sync::oneshot::channel();
    tasks.spawn(keep_what_the_tpm_holds(
        vault,
        Arc::clone(&certificates),
        notes,
        opened,
    ));
    let _ = tokio::time::timeout(TPM_PATIENCE, ready).await;
    Ok(certificates)
}

fn vault_config(config: &Config) -> gateway_tpm::Config {
    let vault = gateway_tpm::Config::new(&config.tpm.tcti, &config.state_dir);
    if config.tpm.allow_software {
        vault.allow_software_tpm()
    } else {
        vault
    }
}

/// The console is made after the data path that serves it; until then there is only "try again".
struct LatePages {
    console: Arc<OnceLock<Arc<Console>>>,
    runtime: tokio::runtime::Handle,
}

impl gateway_proxy::LocalPages for LatePages {
    fn respond(&self, request: gateway_proxy::LocalRequest) -> gateway_proxy::LocalResponse {
        match self.console.get() {
            Some(console) => Pages::new(Arc::clone(console), self.runtime.clone()).respond(request),
            None => Box::pin(async {
                let mut early = http::Response::default();
                *early.status_mut() = http::StatusCode::SERVICE_UNAVAILABLE;
                early
            }),
        }
    }
}

fn data_path(
    config: &Config,
    posture: &Posture,
    staff: &Arc<StaffSessions>,
    pages: Arc<dyn gateway_proxy::LocalPages>,
) -> Result<Running, StartupError> {
    let opened = sockets::open(&config.listen.https, &config.listen.http)?;
    let port = |sockets: &[std::net::TcpListener], otherwise: u16| {
        sockets
            .first()
            .and_then(|socket| socket.local_addr().ok())
            .map_or(otherwise, |address| address.port())
    };
    let (https_port, http_port) = (port(&opened.https, 443), port(&opened.http, 80));
    let names = config.console_names();
    let roots = read_roots(&config.city.anchor)?;
    let workers = match config.limits.workers {
        0 => std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
        workers => NonZeroUsize::new(workers).unwrap_or(NonZeroUsize::MIN),
    };
    let certificate = setup_certificate::make(&config.state_dir, &config.lan.names)?;
    let proxy = ProxyConfig {
        sites: config.sites.iter().map(site).collect::<Result<_, _>>()?,
        console_hosts: names
            .iter()
            .cloned()
            .chain(sockets::own_addresses().into_iter().map(sockets::as_host))
            .collect(),
        roots,
        workers,
        https_port,
        proxy_authority: format!(
            "{}:{http_port}",
            names.first().map_or("localhost", String::as_str)
        ),
        connect_ports: Vec::new(),
        limits: config.proxy_limits(),
    };
    let dependencies = Dependencies {
        gate: Gate::new(),
        snapshot: posture.published(),
        clock: Arc::new(posture::now),
        pages,
        staff: Arc::clone(staff),
        lan_certificate: LanCertificate::new(certificate.chain, certificate.key)?,
        identity: None,
    };
    let listeners = Listeners {
        https: opened.https,
        http: opened.http,
    };
    Ok(Proxy::start(proxy, &listeners, dependencies)?)
}

fn read_roots(path: &std::path::Path) -> Result<Vec<CertificateDer<'static>>, StartupError> {
    let unusable = |error| StartupError::Anchor(path.to_owned(), error);
    CertificateDer::pem_file_iter(path)
        .map_err(unusable)?
        .collect::<Result<_, _>>()
        .map_err(unusable)
}

fn site(site: &crate::config::Site) -> Result<gateway_proxy::Site, StartupError> {
    let owner = match &site.anchor {
        None => gateway_proxy::Owner::City,
        Some(anchor) => gateway_proxy::Owner::Other {
            roots: read_roots(anchor)?,
        },
    };
    Ok(gateway_proxy::Site {
        hosts: site.hosts.clone(),
        upstream: gateway_proxy::Upstream {
            host: site.hosts.first().cloned().unwrap_or_default(),
            port: site.port,
            connect: site.connect,
        },
        public_paths: site.public_paths.clone(),
        protocol: match site.protocol {
            Protocol::Auto => gateway_proxy::Protocol::Auto,
            Protocol::Http1 => gateway_proxy::Protocol::Http1,
            Protocol::Http2 => gateway_proxy::Protocol::Http2,
        },
        owner,
    })
}

fn measure_all(
    config: &Config,
    provisioner: &Arc<Provisioner>,
    posture: &Arc<Posture>,
    certificates: &Arc<Certificates>,
    vault: &Arc<LateVault>,
    tasks: &mut JoinSet<()>,
) -> Result<(), StartupError> {
    let scanner = Scanner::new(gateway_antivirus::Config::new(&config.antivirus.socket));
    let interval = Duration::from_secs(config.antivirus.canary_seconds);
    tasks.spawn(measure::snapshot(Arc::clone(posture)));
    tasks.spawn(measure::scanner(scanner, interval, Arc::clone(posture)));
    let anonymous = city_tls::client_config(Arc::clone(provisioner.anchors()), None)?;
    tasks.spawn(measure::clock(
        config.city.est.clone(),
        anonymous,
        Arc::clone(posture),
    ));
    tasks.spawn(measure::key(Arc::clone(certificates), Arc::clone(vault)));
    Ok(())
}

/// Opens the TPM, puts the certificates to work, opens the store, and keeps the certificates renewed.
async fn keep_what_the_tpm_holds(
    vault: Arc<LateVault>,
    certificates: Arc<Certificates>,
    notes: Arc<StoredNotes>,
    opened: tokio::sync::oneshot::Sender<()>,
) {
    // What is on disk decides what the pages say, even when the TPM is not there.
    certificates.apply_or_log().await;
    let mut opened = Some(opened);
    if vault.is_refused().await {
        // Waiting will not help; a manager at the setup page will.
        opened.take();
    }
    vault.open_eventually().await;
    certificates.apply_or_log().await;
    certificates.check_key(false).await;
    let opening = async {
        notes.open_eventually().await;
        drop(opened);
    };
    tokio::join!(opening, measure::certificates(certificates));
}

/// Follows the city's feed into the store, and acts on what its state says.
struct Feed {
    certificates: Arc<Certificates>,
    notes: Arc<StoredNotes>,
    staff: Arc<StaffSessions>,
    posture: Arc<Posture>,
    console: Arc<Console>,
    state: watch::Sender<FeedState>,
}

impl Feed {
    /// Follows whenever there is a certificate to show and a store to fill, and stops when one of them goes: with a
    /// certificate that is revoked or has lost its key there is nothing to ask the city.
    async fn run(self, endpoint: gateway_city::Endpoint) {
        let mut tls = self.certificates.city_tls();
        let mut notes = self.notes.changes();
        loop {
            let (Some(first), Some(store)) = (some(&mut tls).await, some(&mut notes).await) else {
                return std::future::pending().await;
            };
            tokio::select! {
                () = self.follow(endpoint.clone(), first, store) => {}
                () = none(tls.clone()) => {}
                _ = notes.changed() => {}
            }
            self.state.send_replace(FeedState::Connecting);
        }
    }

    async fn follow(
        &self,
        endpoint: gateway_city::Endpoint,
        first: Arc<rustls::ClientConfig>,
        store: Store,
    ) {
        // A restart must not end a suspension (第35条) before the city was heard.
        if store.status().await.is_ok_and(|status| status.suspended) {
            self.posture.standing(true);
        }
        let mut tls = self.certificates.city_tls();
        let (config, configs) = watch::channel(first);
        let console = Arc::clone(&self.console);
        let forget = Forget(Box::new(move |user| console.forget(user)));
        let sink = FeedIntoStore::new(
            store.clone(),
            Arc::clone(&self.staff),
            Arc::clone(&self.posture),
            forget,
        );
        let settings = FeedSettings {
            longest_delay: FEED_BACKOFF,
            probe: PROBE,
            ..FeedSettings::default()
        };
        let (follower, mut state) =
            Follower::new(endpoint, configs, sink, settings, system_random());
        let passing_on = async {
            while tls.changed().await.is_ok() {
                if let Some(next) = tls.borrow_and_update().clone() {
                    config.send_replace(next);
                }
            }
        };
        let acting = async {
            loop {
                let now = state.borrow_and_update().clone();
                let before = self.state.send_replace(now.clone());
                self.act(&before, &now).await;
                if state.changed().await.is_err() {
                    return;
                }
            }
        };
        tokio::join!(follower.run(), passing_on, acting, self.keep_up(&store));
    }

    /// What a quiet feed does not do: a connection that stands is the city's word that nothing has changed, and notes
    /// grow too old without any event.
    async fn keep_up(&self, store: &Store) {
        loop {
            tokio::time::sleep(UPKEEP).await;
            if let Err(error) = store.tidy(posture::now().0).await {
                tracing::error!(event = "store", error = %chain(&error), "old notes could not be dropped");
            }
            let level = matches!(*self.state.borrow(), FeedState::CaughtUp { .. });
            if level && let Ok(status) = store.status().await {
                self.posture.standing(status.suspended);
            }
        }
    }

    async fn act(&self, before: &FeedState, now: &FeedState) {
        match now {
            FeedState::Revoked { .. } => self.certificates.revoked().await,
            FeedState::Suspended { .. } => self.posture.standing(true),
            FeedState::CaughtUp { .. } => tracing::info!(event = "feed", "level with the city"),
            FeedState::Disconnected { why, .. } => {
                let same = matches!(before, FeedState::Disconnected { why: old, .. } if old == why);
                if !same {
                    tracing::warn!(event = "feed", ?why, "not connected to the city");
                }
                if *why == Why::OwnKey {
                    self.certificates.check_key(true).await;
                }
            }
            FeedState::Connecting | FeedState::CatchingUp => {}
        }
    }
}

/// Waits until there is something; `None` when nothing can come any more.
async fn some<T: Clone>(watched: &mut watch::Receiver<Option<T>>) -> Option<T> {
    loop {
        if let Some(value) = watched.borrow_and_update().clone() {
            return Some(value);
        }
        watched.changed().await.ok()?;
    }
}

/// Waits until there is nothing.
async fn none<T>(mut watched: watch::Receiver<Option<T>>) {
    let _ = watched.wait_for(Option::is_none).await;
}

/// Tells systemd that the control threads are alive, twice per interval it asks for (sd_watchdog_enabled(3)).
async fn watchdog() {
    let mut microseconds = 0;
    if !sd_notify::watchdog_enabled(false, &mut microseconds) {
        return std::future::pending().await;
    }
    loop {
        let _ = sd_notify::notify(false, &[NotifyState::Watchdog]);
        tokio::time::sleep(Duration::from_micros(microseconds / 2)).await;
    }
}
