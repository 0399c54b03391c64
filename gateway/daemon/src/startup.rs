//! Brings the parts up in order, says when the box is ready, and takes them down again.
//!
//! Wiring only: what the parts do is theirs. The order matters: pages and portal first (they must be there when all else
//! fails), then the TPM, then what needs it.

use std::num::NonZeroUsize;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwapOption;
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
use crate::stored_notes::{self, FeedIntoStore, Forget};
use crate::{measure, setup_certificate, sockets};

/// How long readiness waits for the TPM; without it the box comes up with its pages and the portal only.
const TPM_PATIENCE: Duration = Duration::from_secs(10);

/// How often old notes are dropped and the facility's standing is confirmed.
const UPKEEP: Duration = Duration::from_secs(600);

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
    let store = Arc::new(ArcSwapOption::<Store>::empty());
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
        store: Arc::clone(&store),
        feed,
        run: Arc::new(Run::default()),
    };
    let made = Arc::new(Console::new(Arc::new(desk), config.console())?);
    let _ = console.set(Arc::clone(&made));

    measure_all(&config, &provisioner, &posture, &certificates, tasks)?;
    let opening =
        open_what_the_tpm_keeps(config, vault, Arc::clone(&certificates), Arc::clone(&store));
    let follow = Feed {
        certificates: Arc::clone(&certificates),
        store,
        staff,
        posture,
        console: made,
        state: feed_state,
    };
    // Opening goes on in the background when it takes longer; the box is then ready with less.
    let (opened, ready) = tokio::sync::oneshot::channel();
    tasks.spawn(async move {
        let endpoint = opening.await;
        let _ = opened.send(());
        follow.run(endpoint).await;
    });
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
    let mut roots = read_roots(&config.city.anchor)?;
    for anchor in config.sites.iter().filter_map(|site| site.anchor.as_ref()) {
        roots.extend(read_roots(anchor)?);
    }
    let workers = match config.limits.workers {
        0 => std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
        workers => NonZeroUsize::new(workers).unwrap_or(NonZeroUsize::MIN),
    };
    let certificate = setup_certificate::make(&config.state_dir, &config.lan.names)?;
    let proxy = ProxyConfig {
        sites: config.sites.iter().map(site).collect(),
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

fn site(site: &crate::config::Site) -> gateway_proxy::Site {
    gateway_proxy::Site {
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
    }
}

fn measure_all(
    config: &Config,
    provisioner: &Arc<Provisioner>,
    posture: &Arc<Posture>,
    certificates: &Arc<Certificates>,
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
    tasks.spawn(measure::key(Arc::clone(certificates)));
    Ok(())
}

/// Opens the TPM, puts the certificates to work, opens the store. Returns where the feed is.
async fn open_what_the_tpm_keeps(
    config: Config,
    vault: Arc<LateVault>,
    certificates: Arc<Certificates>,
    store: Arc<ArcSwapOption<Store>>,
) -> gateway_city::Endpoint {
    // What is on disk decides what the pages say, even when the TPM is not there.
    certificates.apply_or_log().await;
    vault.open_eventually().await;
    certificates.apply_or_log().await;
    certificates.check_key().await;
    let limits = config.store_limits();
    let state = config.state_dir.clone();
    loop {
        let (state, vault) = (state.clone(), Arc::clone(&vault));
        match tokio::task::spawn_blocking(move || stored_notes::open(&state, &*vault, limits)).await
        {
            Ok(Ok(opened)) => {
                store.store(Some(Arc::new(opened)));
                break;
            }
            Ok(Err(error)) => {
                tracing::error!(event = "store", error = %chain(&error), "the store of notes is not open")
            }
            Err(_) => tracing::error!(event = "store", "opening the store of notes was cut short"),
        }
        tokio::time::sleep(Duration::from_secs(30)).await;
    }
    config.city.gateway_api
}

/// Follows the city's feed into the store, and acts on what its state says.
struct Feed {
    certificates: Arc<Certificates>,
    store: Arc<ArcSwapOption<Store>>,
    staff: Arc<StaffSessions>,
    posture: Arc<Posture>,
    console: Arc<Console>,
    state: watch::Sender<FeedState>,
}

impl Feed {
    async fn run(self, endpoint: gateway_city::Endpoint) {
        let renewing = measure::certificates(Arc::clone(&self.certificates));
        let following = self.follow(endpoint);
        tokio::join!(renewing, following);
    }

    async fn follow(&self, endpoint: gateway_city::Endpoint) {
        let mut tls = self.certificates.city_tls();
        let Some(first) = wait_for_identity(&mut tls).await else {
            return;
        };
        let Some(store) = self.store.load_full() else {
            return;
        };
        let (config, configs) = watch::channel(first);
        let console = Arc::clone(&self.console);
        let forget = Forget(Box::new(move |user| console.forget(user)));
        let sink = FeedIntoStore::new(
            Store::clone(&store),
            Arc::clone(&self.staff),
            Arc::clone(&self.posture),
            forget,
        );
        let (follower, mut state) = Follower::new(
            endpoint,
            configs,
            sink,
            FeedSettings::default(),
            system_random(),
        );
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
                self.act(&now).await;
                self.state.send_replace(now);
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

    async fn act(&self, state: &FeedState) {
        match state {
            FeedState::Revoked { .. } => self.certificates.revoked().await,
            FeedState::Suspended { .. } => self.posture.standing(true),
            FeedState::Disconnected {
                why: Why::OwnKey, ..
            } => self.certificates.check_key().await,
            FeedState::CaughtUp { .. } => tracing::info!(event = "feed", "level with the city"),
            FeedState::Disconnected { why, .. } => {
                tracing::warn!(event = "feed", ?why, "not connected to the city")
            }
            FeedState::Connecting | FeedState::CatchingUp => {}
        }
    }
}

async fn wait_for_identity(
    tls: &mut watch::Receiver<crate::certificates::CityTls>,
) -> Option<Arc<rustls::ClientConfig>> {
    loop {
        if let Some(config) = tls.borrow_and_update().clone() {
            return Some(config);
        }
        tls.changed().await.ok()?;
    }
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
