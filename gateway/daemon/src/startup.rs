//! Brings the parts up in order, says when the box is ready, and takes them down again.
//!
//! Wiring only: what the parts do is theirs. The order matters: pages and portal first (they must be there when all else
//! fails), then the TPM, then what needs it.

use std::num::NonZeroUsize;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use gateway_antivirus::Scanner;
use gateway_city::feed::FeedState;
use gateway_city::tls as city_tls;
use gateway_console::Console;
use gateway_devices::Devices;
use gateway_provisioning::{
    Failure, Provisioner, ProvisioningConfig, ProvisioningError, StateLock,
};
use gateway_proxy::{
    Dependencies, Inspection, InspectionLimits, LanCertificate, Listeners, Proxy, ProxyConfig,
    Running, StaffSessions, StartError,
};
use gateway_tpm::KeyVault;
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::accesses::Accesses;
use crate::antivirus::Antivirus;
use crate::certificates::{Certificates, held};
use crate::config::{Config, Protocol};
use crate::desk::{BoxDesk, Run};
use crate::desk_offline::OfflinePages;
use crate::devices::KeptDevices;
use crate::following::Feed;
use crate::late_vault::LateVault;
use crate::offline::{Offline, Pins};
use crate::pages::Pages;
use crate::posture::{self, Posture};
use crate::record_keeping::{self, RecordKeeping};
use crate::stored_notes::StoredNotes;
use crate::{
    box_posture, clock, desk_devices, desk_offline, desks, measure, setup_certificate,
    signed_channel, sockets, steps,
};

/// How long readiness waits for the TPM; without it the box comes up with its pages and the portal only.
const TPM_PATIENCE: Duration = Duration::from_secs(10);

/// Why the daemon did not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartupError {
    /// State directory, lock or trust anchor.
    #[error("provisioning cannot start")]
    Provisioning(#[from] ProvisioningError),
    /// Two daemons on one state would be two owners of one certificate.
    #[error("another gatewayd or gateway-provision is at work on {}", .0.display())]
    InUse(std::path::PathBuf),
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
    let lock = StateLock::acquire(&config.state_dir).map_err(|error| match error.failure() {
        Failure::InUse => StartupError::InUse(config.state_dir.clone()),
        _ => error.into(),
    })?;
    let lock = Arc::new(lock);
    let drain = Duration::from_secs(config.limits.drain_seconds);
    let mut tasks = JoinSet::new();
    let (certificates, records) = start(config, lock, &mut tasks).await?;

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
    records.close().await;
    tasks.shutdown().await;
    Ok(())
}

/// Everything up to readiness.
async fn start(
    config: Config,
    lock: Arc<StateLock>,
    tasks: &mut JoinSet<()>,
) -> Result<(Arc<Certificates>, RecordKeeping), StartupError> {
    let posture = Arc::new(Posture::open(&config.state_dir));
    let records = record_keeping::open(
        &config.audit,
        &config.state_dir,
        read_roots(&config.city.anchor)?,
        &posture,
        tasks,
    )
    .map_err(|error| StartupError::System("a thread for the audit log", error))?;
    posture.runs_on(&config.posture);
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
    let offline = Arc::new(Offline::new(
        &config.state_dir,
        Arc::clone(&vault),
        feed.clone(),
        Arc::clone(&posture),
        records.status(),
    ));
    let guard = Arc::clone(&offline);
    let notes = Arc::new(StoredNotes::new(
        config.state_dir.clone(),
        Arc::clone(&vault),
        config.store_limits(),
        Arc::new(move || guard.reading().is_ok()),
    ));
    let pins = Pins::new(offline.directory(), Arc::clone(&vault) as _);
    let pins = Arc::new(pins.writing_down(&posture));
    let (signed_in, forgiving) = desk_offline::forgiving(Arc::clone(&pins));
    staff.tell_of_sign_ins(Box::new(signed_in));
    tasks.spawn(forgiving);
    let console = Arc::new(OnceLock::<Arc<Console>>::new());

    let devices = KeptDevices::open(
        &config.state_dir,
        read_roots(&config.city.anchor)?,
        Arc::clone(&vault) as Arc<dyn KeyVault>,
        &posture,
    );
    let pages = Arc::new(LatePages {
        console: Arc::clone(&console),
        devices: Arc::clone(&devices),
        runtime: tokio::runtime::Handle::current(),
    });
    let (hindered, watched) = watch::channel(None);
    let progress = Arc::new(crate::progress::Progress {
        notes: Arc::clone(&notes),
        feed: feed.clone(),
        hindered: watched,
    });
    let opened = sockets::open(&config.listen.https, &config.listen.http)?;
    let scanner = Scanner::new(gateway_antivirus::Config::new(&config.antivirus.socket));
    let inspection = Inspection::new(scanner.clone(), InspectionLimits::default())?;
    inspection.witnessed_by(records.witness_of_content());
    let antivirus = Antivirus::open(
        &config.antivirus,
        scanner.clone(),
        Arc::clone(&posture),
        inspection.trouble(),
    );
    let trouble = inspection.trouble();
    let (watch, steps) = steps::watch();
    tasks.spawn(watch);
    let first_canary = measure_what_needs_no_key(
        &config,
        &antivirus,
        &provisioner,
        (&posture, &offline),
        &steps,
        tasks,
    )?;
    let awake = tokio::time::Instant::now() + TPM_PATIENCE;
    let _ = tokio::time::timeout_at(awake, wake_up(&vault, first_canary)).await;
    let shown = Shown::read(&config, &provisioner, &vault, &posture).await?;
    let lan = LanSide {
        pages,
        shown,
        devices: devices.trust().await,
    };
    let running = data_path(&config, opened, &posture, &staff, lan, inspection)?;
    let certificates = Arc::new(Certificates::new(
        Arc::clone(&provisioner),
        Arc::clone(&vault),
        Arc::clone(&posture),
        running,
    ));
    devices.serve_through(Arc::clone(&certificates));
    tasks.spawn(Arc::clone(&devices).keep());
    let accesses = Accesses::new(records.audit(), feed.clone());
    tasks.spawn(Arc::clone(&accesses).keep(
        config.state_dir.clone(),
        Arc::clone(&vault),
        Arc::clone(&posture),
        Duration::from_secs(config.audit.verify_seconds),
    ));
    let desk = BoxDesk {
        posture: Arc::clone(&posture),
        gate: config.gate(),
        provisioner: Arc::clone(&provisioner),
        certificates: Arc::clone(&certificates),
        vault: Arc::clone(&vault),
        offline: Arc::clone(&offline),
        accesses: Arc::clone(&accesses),
        notes: Arc::clone(&notes),
        feed: feed.clone(),
        run: Arc::new(Run::default()),
        progress: Arc::clone(&progress),
    };
    let refusals = watch::Sender::new(None);
    let parts = desks::Parts {
        state_dir: &config.state_dir,
        posture: &posture,
        accesses: (&accesses, &notes),
        provisioner: &provisioner,
        certificates: &certificates,
        system: &config.posture.root,
        feed,
        refusals: refusals.subscribe(),
        devices: Some(desk_devices::pages(
            &devices,
            &posture,
            config.unknown_devices(),
        )),
        kept_devices: &devices,
        offline: Arc::new(OfflinePages {
            offline: Arc::clone(&offline),
            pins: Arc::clone(&pins),
            notes: Arc::clone(&notes),
            posture: Arc::clone(&posture),
        }),
    };
    let made = Console::new(Arc::new(desk), config.console())?.with(desks::make(parts, tasks));
    let made = Arc::new(made);
    let _ = console.set(Arc::clone(&made));

    tasks.spawn(measure::key(Arc::clone(&certificates), Arc::clone(&vault)));
    let hints = Arc::new(tokio::sync::Notify::new());
    let taken = signed_channel::start(
        &config,
        certificates.city_tls(),
        Arc::clone(&posture),
        Arc::clone(&provisioner),
        (Arc::clone(&hints), refusals),
        tasks,
    )
    .await;
    antivirus.take_databases(taken.databases.clone(), tasks);
    box_posture::start(
        gateway_posture::System::new(&config.posture.root),
        taken.release.clone(),
        Arc::clone(&posture),
        steps,
        tasks,
    );
    let audit = records.audit();
    let records = records.start(
        config.city.gateway_api.clone(),
        &config.state_dir,
        (&posture, &certificates, &vault),
        &accesses,
        &progress,
        tasks,
    );
    tasks.spawn(crate::store_bounds::keep(
        Arc::clone(&notes),
        config.store_bounds(),
        posture.policies(),
    ));
    let attachments = crate::attachments::Attachments {
        certificates: Arc::clone(&certificates),
        notes: Arc::clone(&notes),
        posture: Arc::clone(&posture),
        feed: feed_state.subscribe(),
        endpoint: config.city.gateway_api.clone(),
        scanner,
        trouble,
        state_dir: config.state_dir.clone(),
        hindered,
        loaded: antivirus.loaded(),
        audit,
    };
    tasks.spawn(attachments.run());
    let wanted = Arc::new(tokio::sync::Notify::new());
    tasks.spawn(Arc::clone(&accesses).answer_requests(
        config.city.gateway_api.clone(),
        Arc::clone(&certificates),
        Arc::clone(&wanted),
    ));
    let follow = Feed {
        certificates: Arc::clone(&certificates),
        notes: Arc::clone(&notes),
        staff,
        posture,
        console: made,
        pins,
        hints,
        wanted: Arc::clone(&wanted),
        state: feed_state,
    };
    tasks.spawn(follow.run(config.city.gateway_api));
    // Opening goes on in the background when it takes longer; the box is then ready with less.
    let (all_open, ready) = tokio::sync::oneshot::channel();
    tasks.spawn(keep_what_the_tpm_holds(
        vault,
        Arc::clone(&certificates),
        notes,
        all_open,
    ));
    let _ = tokio::time::timeout_at(awake, ready).await;
    Ok((certificates, records))
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
    devices: Arc<KeptDevices>,
    runtime: tokio::runtime::Handle,
}

impl gateway_proxy::LocalPages for LatePages {
    fn respond(&self, request: gateway_proxy::LocalRequest) -> gateway_proxy::LocalResponse {
        if Devices::serves(request.uri.path()) {
            return self.devices.respond(request, &self.runtime);
        }
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

/// Waits for what makes the first answer a right one: the TPM, which holds the key of the LAN certificate, and the
/// scanner's first canary. A browser that knows the box must not be shown another certificate, nor staff a refusal,
/// only because the box has just been started.
async fn wake_up(vault: &Arc<LateVault>, first_canary: tokio::sync::oneshot::Receiver<()>) {
    let tpm = async {
        if !vault.is_refused().await {
            vault.open_eventually().await;
        }
    };
    let _ = tokio::join!(tpm, first_canary);
}

/// What the data path shows from its first connection on.
struct Shown {
    lan: LanCertificate,
    identity: Option<gateway_proxy::Identity>,
}

impl Shown {
    /// What is on disk; before there is a LAN certificate, and while the TPM does not open its key, one made here.
    async fn read(
        config: &Config,
        provisioner: &Provisioner,
        vault: &Arc<LateVault>,
        posture: &Posture,
    ) -> Result<Self, StartupError> {
        let stored = match provisioner.lan_identity().await {
            Ok(Some(lan)) => LanCertificate::with_signing_key(lan.chain, lan.key).ok(),
            // Said when the certificates are put to work.
            Ok(None) | Err(_) => None,
        };
        let lan = match stored {
            Some(lan) => lan,
            None => {
                let made = setup_certificate::make(&config.state_dir, &config.lan.names)?;
                LanCertificate::new(made.chain, made.key)?
            }
        };
        let identities = provisioner.identities().await.unwrap_or_default();
        let identity = identities.first().map(|identity| {
            posture.certificate(held(identity));
            gateway_proxy::Identity {
                chain: identity.chain.clone(),
                key: gateway_tpm::rustls_key(
                    Arc::clone(vault) as Arc<dyn KeyVault>,
                    identity.key.clone(),
                ),
            }
        });
        Ok(Self { lan, identity })
    }
}

/// What the LAN meets: pages, certificates, and how its devices are told apart.
struct LanSide {
    pages: Arc<dyn gateway_proxy::LocalPages>,
    shown: Shown,
    devices: gateway_proxy::DeviceTrust,
}

fn data_path(
    config: &Config,
    opened: sockets::Listeners,
    posture: &Posture,
    staff: &Arc<StaffSessions>,
    lan: LanSide,
    inspection: Inspection,
) -> Result<Running, StartupError> {
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
        support: gateway_proxy::Support {
            office: config.support.office.clone(),
            phone: config.support.phone.clone(),
        },
        limits: config.proxy_limits(),
    };
    let dependencies = Dependencies {
        gate: config.gate(),
        snapshot: posture.published(),
        clock: Arc::new(posture::now),
        pages: lan.pages,
        staff: Arc::clone(staff),
        lan_certificate: lan.shown.lan,
        devices: lan.devices,
        identity: lan.shown.identity,
        inspection,
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

/// Starts measuring; answers with the end of the first canary scan.
fn measure_what_needs_no_key(
    config: &Config,
    antivirus: &Arc<Antivirus>,
    provisioner: &Arc<Provisioner>,
    (posture, offline): (&Arc<Posture>, &Arc<Offline>),
    steps: &steps::Steps,
    tasks: &mut JoinSet<()>,
) -> Result<tokio::sync::oneshot::Receiver<()>, StartupError> {
    tasks.spawn(measure::snapshot(Arc::clone(posture), steps.clone()));
    let first_look = antivirus.watch(steps.clone(), tasks);
    let anonymous = city_tls::client_config(Arc::clone(provisioner.anchors()), None)?;
    tasks.spawn(clock::compare(
        Arc::clone(offline),
        config.city.est.clone(),
        anonymous,
        Arc::clone(posture),
        steps.clone(),
    ));
    tasks.spawn(Arc::clone(offline).keep(steps.clone()));
    Ok(first_look)
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
