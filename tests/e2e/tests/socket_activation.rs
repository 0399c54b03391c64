//! gatewayd takes the ports that systemd opened for it, as `gatewayd.socket` says.
//!
//! `systemd-socket-activate` hands them over here; it needs no booted system.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what a test cannot do is its failure"
)]

use std::net::TcpStream;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use test_harness::facility::{Facility, Options};
use test_harness::ports;

#[test]
fn gatewayd_serves_the_sockets_that_systemd_hands_over_and_opens_none_itself() {
    let (https, http) = (ports::free().unwrap(), ports::free().unwrap());
    let activate = [
        "systemd-socket-activate".to_owned(),
        "--setenv=NOTIFY_SOCKET".to_owned(),
        format!("--listen=127.0.0.1:{https}"),
        format!("--listen=127.0.0.1:{http}"),
    ];
    let options = Options {
        https_port: Some(https),
        http_port: Some(http),
        through: activate.to_vec(),
        ..Options::default()
    };
    let done = AtomicBool::new(false);
    let facility = std::thread::scope(|scope| {
        // The first connection is what starts gatewayd.
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                drop(TcpStream::connect(("127.0.0.1", https)));
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        let facility = Facility::start(options);
        done.store(true, Ordering::Relaxed);
        facility.unwrap()
    });

    let portal = fetch(&facility, &facility.gateway.portal_url());
    assert!(
        portal.status.success(),
        "{}",
        String::from_utf8_lossy(&portal.stderr)
    );
    // Told apart by port: clear HTTP on the second, nothing but the way to the first.
    let clear = fetch(&facility, &format!("http://127.0.0.1:{http}/proxy.pac"));
    assert!(String::from_utf8_lossy(&clear.stdout).contains("FindProxyForURL"));
    // The configuration names ::1 too; with sockets handed over that is not looked at.
    assert!(TcpStream::connect(("::1", https)).is_err());
}

fn fetch(facility: &Facility, url: &str) -> Output {
    Command::new("curl")
        .args([
            "--silent",
            "--show-error",
            "--fail",
            "--noproxy",
            "*",
            "--cacert",
        ])
        .arg(facility.city.ca_file())
        .arg(url)
        .output()
        .unwrap()
}
