//! The data path alone, for profilers: `relay PORT UPSTREAM_PORT HOST CERTIFICATES CLAMD_SOCKET`, one worker, everything
//! permitted that the scanner finds clean. With `devices.pem` among the certificates, devices are asked for theirs.
//!
//! The client key is a file, which the product never has; that is why this is an example and not a program of the box.
#![allow(
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "a tool for the workbench, not shipped"
)]

use std::{net::SocketAddr, num::NonZeroUsize, path::Path, sync::Arc};

use arc_swap::ArcSwap;
use bytes::Bytes;
use gateway_antivirus::Scanner;
use gateway_policy::{
    BOX_CHECKS, Certificate, Evidence, FACILITY_CHECKS, Gate, Ledger, Observation, Observed,
    Source, Standing, Subject, Timestamp, UnknownDevices,
};
use gateway_proxy::{
    Dependencies, DeviceTrust, Identity, Inspection, InspectionLimits, LanCertificate, Limits,
    Listeners, LocalPages, LocalRequest, LocalResponse, Owner, Protocol, Proxy, ProxyConfig, Site,
    StaffSessions, Upstream,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

struct NoPages;

impl LocalPages for NoPages {
    fn respond(&self, _: LocalRequest) -> LocalResponse {
        Box::pin(async { http::Response::new(Bytes::from_static(b"")) })
    }
}

fn chain(path: &Path) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_file_iter(path)
        .unwrap()
        .map(Result::unwrap)
        .collect()
}

fn asked_for(path: &Path) -> Vec<CertificateDer<'static>> {
    if path.exists() {
        chain(path)
    } else {
        Vec::new()
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, port, upstream, host, certificates, clamd] = arguments.as_slice() else {
        panic!("PORT UPSTREAM_PORT HOST CERTIFICATES CLAMD_SOCKET")
    };
    let (port, upstream): (u16, u16) = (port.parse().unwrap(), upstream.parse().unwrap());
    let directory = Path::new(certificates);
    let now = Timestamp(1_800_000_000);
    let at = now;
    let measured = |check| Observed {
        check,
        observation: Observation::Pass,
        at,
        source: Source::Measured,
        digest: [0; 32],
    };
    let mut ledger = Ledger::new(at);
    for check in BOX_CHECKS {
        ledger.observe(Subject::Box, measured(check), at);
    }
    for check in FACILITY_CHECKS {
        ledger.observe(Subject::Facility, measured(check), at);
    }
    let known = |value| Evidence::Known { value, at };
    let snapshot = ledger.snapshot(
        now,
        known(Certificate::Held {
            not_before: Timestamp(0),
            not_after: Timestamp(4_000_000_000),
        }),
        Evidence::Known {
            value: Standing::Active,
            at,
        },
    );
    let key = rustls::crypto::aws_lc_rs::sign::any_ecdsa_type(
        &PrivateKeyDer::from_pem_file(directory.join("client.key")).unwrap(),
    )
    .unwrap();
    let config = ProxyConfig {
        sites: vec![Site {
            hosts: vec![host.clone()],
            upstream: Upstream {
                host: host.clone(),
                port: upstream,
                connect: Some(SocketAddr::from(([127, 0, 0, 1], upstream))),
            },
            public_paths: Vec::new(),
            protocol: Protocol::Http1,
            owner: Owner::City,
        }],
        console_hosts: vec!["box.localhost".to_owned()],
        roots: chain(&directory.join("ca.pem")),
        workers: NonZeroUsize::MIN,
        https_port: port,
        proxy_authority: "box.localhost:80".to_owned(),
        connect_ports: Vec::new(),
        support: gateway_proxy::Support::default(),
        limits: Limits {
            connections_per_client: 8192,
            connections: 8192,
            ..Limits::default()
        },
    };
    let scanner = Scanner::new(gateway_antivirus::Config::new(clamd));
    let inspection = Inspection::new(scanner, InspectionLimits::default()).unwrap();
    let dependencies = Dependencies {
        inspection,
        gate: Gate::new().with_unknown_devices(UnknownDevices::Warn),
        snapshot: Arc::new(ArcSwap::from_pointee(snapshot)),
        clock: Arc::new(move || now),
        pages: Arc::new(NoPages),
        staff: Arc::new(StaffSessions::new().unwrap()),
        lan_certificate: LanCertificate::new(
            chain(&directory.join("server.pem")),
            PrivateKeyDer::from_pem_file(directory.join("server.key")).unwrap(),
        )
        .unwrap(),
        devices: DeviceTrust {
            authorities: asked_for(&directory.join("devices.pem")),
            ..DeviceTrust::nobody()
        },
        identity: Some(Identity {
            chain: chain(&directory.join("client.pem")),
            key,
        }),
    };
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let listeners = Listeners {
        https: vec![Listeners::bind(address).unwrap()],
        http: Vec::new(),
    };
    let _running = Proxy::start(config, &listeners, dependencies).unwrap();
    eprintln!("relaying on {address}");
    loop {
        std::thread::park();
    }
}
