//! What systemd relies on: readiness, signs of life, an end in good order.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what a test cannot do is its failure"
)]

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::{Duration, Instant};

use gateway_e2e::visiting::Visitor;
use nix::sys::signal::Signal;
use test_harness::facility::{Facility, Options};
use test_harness::{Program, binaries};

/// A facility whose gatewayd was stopped, to be started in another way.
fn stopped() -> Facility {
    let mut facility = Facility::start(Options::default()).unwrap();
    facility.gateway.process().stop();
    facility
}

struct Supervisor(UnixDatagram);

impl Supervisor {
    fn at(address: &Path) -> Self {
        let socket = UnixDatagram::bind(address).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        Self(socket)
    }

    fn next(&self) -> String {
        let mut message = [0; 4096];
        let length = self.0.recv(&mut message).expect("a message within 20 s");
        String::from_utf8_lossy(&message[..length]).into_owned()
    }

    fn wait_for(&self, word: &str) {
        while !self.next().lines().any(|line| line == word) {}
    }
}

#[test]
fn readiness_and_signs_of_life_come_when_the_box_serves() {
    let mut facility = stopped();
    let directory = tempfile::tempdir().unwrap();
    let address = directory.path().join("notify");
    let supervisor = Supervisor::at(&address);
    let log = directory.path().join("log");
    // systemd names the process that is to give the signs.
    let mut gatewayd = Program::new("gatewayd", "sh", log)
        .args(["-c", "WATCHDOG_PID=$$ exec \"$@\"", "sh"])
        .arg(binaries::ours("gatewayd").unwrap())
        .arg("--config")
        .arg(facility.gateway.configuration_file())
        .env("NOTIFY_SOCKET", &address)
        .env("WATCHDOG_USEC", "1000000")
        .spawn()
        .unwrap();
    supervisor.wait_for("READY=1");
    // Ready means that it serves: at the first try.
    let visitor = Visitor::new(&facility, "sakura-01");
    assert_eq!(visitor.open(&facility.gateway.portal_url()).status, 200);
    assert!(visitor.sign_in(&facility, "sakura-01").says("支援対象者"));
    let since = Instant::now();
    for _ in 0..5 {
        supervisor.wait_for("WATCHDOG=1");
    }
    assert!(
        since.elapsed() < Duration::from_secs(4),
        "{:?}",
        since.elapsed()
    );
    // Not only while all is well.
    facility.tpm.kill();
    facility.city.fail("down").unwrap();
    let since = Instant::now();
    for _ in 0..5 {
        supervisor.wait_for("WATCHDOG=1");
    }
    assert!(
        since.elapsed() < Duration::from_secs(4),
        "{:?}",
        since.elapsed()
    );
    gatewayd.signal(Signal::SIGTERM).unwrap();
    supervisor.wait_for("STOPPING=1");
    assert_eq!(
        gatewayd.wait(Duration::from_secs(20)).unwrap().code(),
        Some(0)
    );
}
