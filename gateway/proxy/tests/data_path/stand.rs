//! A box on a test stand: the data path over real sockets, with an authority, an identity and pages of its own.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use gateway_antivirus::Scanner;
use gateway_policy::{
    BOX_CHECKS, Certificate, Check, Evidence, FACILITY_CHECKS, Gate, Ledger, Observation, Observed,
    Snapshot, Source, Standing, Subject, Timestamp, UnknownDevices,
};
use gateway_proxy::{
    Dependencies, DeviceTrust, Identity, Inspection, InspectionLimits, LanCertificate, Limits,
    Listeners, LocalPages, LocalRequest, LocalResponse, Owner, Protocol, Proxy, ProxyConfig,
    Running, Site, StaffSessions, Support, Upstream,
};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use test_harness::clamd::Clamd;

pub const CITY: &str = "city.localhost";
pub const CONSOLE: &str = "box.localhost";

/// A certificate authority for one test.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

pub struct Pair {
    pub chain: Vec<CertificateDer<'static>>,
    pub key: PrivateKeyDer<'static>,
    pub chain_pem: String,
    pub key_pem: String,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    pub fn der(&self) -> CertificateDer<'static> {
        self.0.der().clone()
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    pub fn server(&self, names: &[&str]) -> Pair {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        self.issue(
            CertificateParams::new(names).unwrap(),
            ExtendedKeyUsagePurpose::ServerAuth,
        )
    }

    pub fn client(&self, name: &str) -> Pair {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        self.issue(params, ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn issue(&self, mut params: CertificateParams, usage: ExtendedKeyUsagePurpose) -> Pair {
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Pair {
            chain: vec![certificate.der().clone()],
            key: PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
            chain_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
        }
    }
}

impl Pair {
    pub fn identity(&self) -> Identity {
        Identity {
            chain: self.chain.clone(),
            key: rustls::crypto::aws_lc_rs::sign::any_supported_type(&self.key).unwrap(),
        }
    }

    pub fn lan(&self) -> LanCertificate {
        LanCertificate::new(self.chain.clone(), self.key.clone_key()).unwrap()
    }
}

/// Says who asked for what.
struct Pages;

impl LocalPages for Pages {
    fn respond(&self, request: LocalRequest) -> LocalResponse {
        let staff = request
            .staff
            .map_or("nobody".to_owned(), |staff| staff.user);
        let device = request
            .device
            .map_or("none".to_owned(), |id| id.to_string());
        let text = format!(
            "box {} {} {} {} {}",
            request.method,
            request.host,
            request.uri.path(),
            request.body.len(),
            staff
        );
        Box::pin(async move {
            let mut response = http::Response::new(Bytes::from(text));
            let device = device.parse().unwrap();
            response.headers_mut().insert("x-device", device);
            response
        })
    }
}

pub struct Stand {
    pub authority: Authority,
    pub facility: Pair,
    pub https: SocketAddr,
    pub http: SocketAddr,
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    pub staff: Arc<StaffSessions>,
    pub running: Option<Running>,
}

/// How a stand differs from the usual one.
pub struct Setup {
    pub authority: Authority,
    pub limits: Limits,
    pub protocol: Protocol,
    pub identity: bool,
    pub workers: usize,
    pub ipv6: bool,
    pub owner: Owner,
    pub devices: DeviceTrust,
    /// One of its own, instead of the shared scanner with the usual limits.
    pub inspection: Option<Inspection>,
}

impl Setup {
    pub fn new() -> Self {
        Self {
            authority: Authority::new("test authority"),
            limits: Limits::default(),
            protocol: Protocol::Auto,
            identity: true,
            workers: 1,
            ipv6: false,
            owner: Owner::City,
            devices: DeviceTrust::nobody(),
            inspection: None,
        }
    }

    /// Starts the box in front of an origin.
    pub fn start(self, origin: SocketAddr) -> Stand {
        let loopback = if self.ipv6 {
            SocketAddr::from((Ipv6Addr::LOCALHOST, 0))
        } else {
            SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
        };
        let listeners = Listeners {
            https: vec![Listeners::bind(loopback).unwrap()],
            http: vec![Listeners::bind(loopback).unwrap()],
        };
        let https = listeners.https[0].local_addr().unwrap();
        let http = listeners.http[0].local_addr().unwrap();
        let facility = self.authority.client("facility 17");
        let lan = self.authority.server(&[CITY, CONSOLE]);
        let snapshot = Arc::new(ArcSwap::from_pointee(all_is_well()));
        let staff = Arc::new(StaffSessions::new().unwrap());
        let config = ProxyConfig {
            sites: vec![Site {
                hosts: vec![CITY.to_owned()],
                upstream: Upstream {
                    host: CITY.to_owned(),
                    port: origin.port(),
                    connect: Some(origin),
                },
                public_paths: vec!["/".to_owned(), "/public/".to_owned()],
                protocol: self.protocol,
                owner: self.owner,
            }],
            console_hosts: vec![CONSOLE.to_owned()],
            roots: vec![self.authority.der()],
            workers: NonZeroUsize::new(self.workers).unwrap(),
            https_port: https.port(),
            proxy_authority: format!("{CONSOLE}:{}", http.port()),
            connect_ports: vec![443],
            support: Support {
                office: "<高萩市>".into(),
                phone: "0293-00-0000".into(),
            },
            limits: self.limits,
        };
        let inspection = self
            .inspection
            .unwrap_or_else(|| inspection(InspectionLimits::default()));
        let dependencies = Dependencies {
            inspection,
            gate: Gate::new().with_unknown_devices(UnknownDevices::Warn),
            snapshot: Arc::clone(&snapshot),
            clock: Arc::new(now),
            pages: Arc::new(Pages),
            staff: Arc::clone(&staff),
            lan_certificate: lan.lan(),
            devices: self.devices,
            identity: self.identity.then(|| facility.identity()),
        };
        let running = Proxy::start(config, &listeners, dependencies).unwrap();
        Stand {
            authority: self.authority,
            facility,
            https,
            http,
            snapshot,
            staff,
            running: Some(running),
        }
    }
}

impl Stand {
    pub fn running(&self) -> &Running {
        self.running.as_ref().unwrap()
    }

    /// Waits until no client connection is left.
    pub async fn quiet(&self) {
        for _ in 0..500 {
            if self.running().connections() == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("connections remain");
    }
}

/// Inspects with the clamd that all tests of this process share.
pub fn inspection(limits: InspectionLimits) -> Inspection {
    inspection_at(&socket(), limits)
}

/// Inspects with any clamd.
pub fn inspection_at(socket: &Path, limits: InspectionLimits) -> Inspection {
    let scanner = Scanner::new(gateway_antivirus::Config::new(socket));
    Inspection::new(scanner, limits).unwrap()
}

/// The socket of a real clamd, started once for all tests of this process and gone with it.
fn socket() -> PathBuf {
    static SHARED: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let (_, socket) = SHARED.get_or_init(|| {
        let directory = tempfile::tempdir().unwrap();
        let (tell, told) = std::sync::mpsc::channel();
        let path = directory.path().to_owned();
        // It lives as long as the thread that started it: no test's own.
        std::thread::spawn(move || {
            let clamd = Clamd::start(&path).unwrap();
            tell.send(clamd.socket()).unwrap();
            loop {
                std::thread::park();
            }
        });
        (directory, told.recv().unwrap())
    });
    socket.clone()
}

static NOW: AtomicI64 = AtomicI64::new(1_800_000_000);

pub fn now() -> Timestamp {
    Timestamp(NOW.load(Ordering::Relaxed))
}

/// Everything measured and in order.
pub fn all_is_well() -> Snapshot {
    snapshot(&good_ledger())
}

/// What was found just now.
pub fn measured(check: Check, observation: Observation) -> Observed {
    Observed {
        check,
        observation,
        at: now(),
        source: Source::Measured,
        digest: [0; 32],
    }
}

/// A box and a facility in order.
pub fn good_ledger() -> Ledger {
    let at = now();
    let mut ledger = Ledger::new(at);
    for check in BOX_CHECKS {
        ledger.observe(Subject::Box, measured(check, Observation::Pass), at);
    }
    for check in FACILITY_CHECKS {
        ledger.observe(Subject::Facility, measured(check, Observation::Pass), at);
    }
    ledger
}

/// What the gate would judge by now, with a good certificate and standing.
pub fn snapshot(ledger: &Ledger) -> Snapshot {
    let at = now();
    let certificate = Certificate::Held {
        not_before: at.plus(-1000),
        not_after: at.plus(365 * 86_400),
    };
    let standing = Standing::Active;
    ledger.snapshot(
        at,
        Evidence::Known {
            value: certificate,
            at,
        },
        Evidence::Known {
            value: standing,
            at,
        },
    )
}

/// An address nothing listens on.
pub fn nobody() -> SocketAddr {
    let listener = std::net::TcpListener::bind((IpAddr::V4(Ipv4Addr::LOCALHOST), 0)).unwrap();
    listener.local_addr().unwrap()
}
