//! What the box offers to the devices of its facility, seen with the tools an auditor would use: curl and
//! `openssl s_client`. The cipher suites are those of the IPA/CRYPTREC guideline's 高セキュリティ型.
//!
//! It does not look at pages (the browser's tests do) and asks the city for nothing but its public portal.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what a test cannot do is its failure"
)]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use test_harness::binaries;
use test_harness::city::{BOX_HOST, PORTAL_HOST};
use test_harness::facility::{Facility, Options};

/// One facility for all tests that run at the same time; it ends with the last of them.
fn facility() -> Arc<Facility> {
    static RUNNING: Mutex<Weak<Facility>> = Mutex::new(Weak::new());
    let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    running.upgrade().unwrap_or_else(|| {
        let facility = Arc::new(Facility::start(Options::default()).unwrap());
        *running = Arc::downgrade(&facility);
        facility
    })
}

/// What `openssl s_client` says of a connection to the box as the portal, and whether it was made.
struct Handshake {
    made: bool,
    said: String,
}

impl Handshake {
    fn says(&self, text: &str) -> bool {
        self.said.contains(text)
    }
}

/// Connects with these arguments, sends `typed`, and stays for the answer.
fn s_client(facility: &Facility, arguments: &[&str], typed: &[u8]) -> Handshake {
    let mut client = Command::new(binaries::debian("openssl", "openssl").unwrap())
        .args(["s_client", "-servername", PORTAL_HOST, "-connect"])
        .arg(format!("127.0.0.1:{}", facility.gateway.https_port()))
        .arg("-CAfile")
        .arg(facility.city.ca_file())
        .args(["-verify_hostname", PORTAL_HOST, "-verify_return_error"])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Refused before it could be read.
    let _ = client.stdin.take().unwrap().write_all(typed);
    let Output {
        status,
        stdout,
        stderr,
    } = client.wait_with_output().unwrap();
    Handshake {
        made: status.success(),
        said: format!(
            "{}{}",
            String::from_utf8_lossy(&stdout),
            String::from_utf8_lossy(&stderr)
        ),
    }
}

fn handshake(facility: &Facility, arguments: &[&str]) -> Handshake {
    s_client(facility, arguments, b"Q\n")
}

/// curl with the city's anchor; the portal's and the box's name lead to the box.
fn curl(facility: &Facility, address: &str, arguments: &[&str]) -> Output {
    let (https, http) = (facility.gateway.https_port(), facility.gateway.http_port());
    let mut command = Command::new(binaries::debian("curl", "curl").unwrap());
    command
        .args(["--silent", "--show-error", "--max-time", "20", "--cacert"])
        .arg(facility.city.ca_file());
    for host in [PORTAL_HOST, BOX_HOST] {
        for port in [https, http] {
            command.args(["--resolve", &format!("{host}:{port}:{address}")]);
        }
    }
    command.args(arguments).output().unwrap()
}

fn text(output: &Output) -> String {
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

const HERE: &str = "127.0.0.1";

#[test]
fn tls_1_3_and_the_strong_suites_of_1_2_are_offered() {
    let facility = facility();
    for suite in [
        "TLS_AES_256_GCM_SHA384",
        "TLS_AES_128_GCM_SHA256",
        "TLS_CHACHA20_POLY1305_SHA256",
    ] {
        let made = handshake(&facility, &["-tls1_3", "-ciphersuites", suite]);
        assert!(
            made.made && made.says("TLSv1.3") && made.says(suite),
            "{suite}: {}",
            made.said
        );
    }
    for suite in [
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        "ECDHE-ECDSA-CHACHA20-POLY1305",
    ] {
        let made = handshake(&facility, &["-tls1_2", "-cipher", suite]);
        assert!(
            made.made && made.says("TLSv1.2") && made.says(suite),
            "{suite}: {}",
            made.said
        );
        assert!(
            made.says("Secure Renegotiation IS supported")
                && made.says("Extended master secret: yes"),
            "{}",
            made.said
        );
        assert!(made.says("Compression: NONE"), "{}", made.said);
    }
}

#[test]
fn old_versions_and_weak_suites_are_refused() {
    let facility = facility();
    for version in ["-tls1", "-tls1_1"] {
        let refused = handshake(&facility, &[version, "-cipher", "ALL:@SECLEVEL=0"]);
        assert!(!refused.made, "{version}: {}", refused.said);
        // Before anything else is said; which of the two alerts depends on what else the hello lacks.
        assert!(
            refused.says("no peer certificate available")
                && (refused.says("SSL alert number 70") || refused.says("SSL alert number 40")),
            "{version}: {}",
            refused.said
        );
    }
    for (kind, suites) in [
        (
            "CBC",
            "ECDHE-ECDSA-AES128-SHA:ECDHE-ECDSA-AES256-SHA:ECDHE-ECDSA-AES128-SHA256:ECDHE-ECDSA-AES256-SHA384",
        ),
        (
            "RSA key exchange",
            "AES128-GCM-SHA256:AES256-GCM-SHA384:AES128-SHA:AES256-SHA",
        ),
        ("DHE", "DHE-RSA-AES128-GCM-SHA256:DHE-RSA-AES256-GCM-SHA384"),
        ("CCM", "ECDHE-ECDSA-AES128-CCM8"),
        ("no authentication", "AECDH-AES128-SHA:ADH-AES128-SHA"),
        ("no encryption", "ECDHE-ECDSA-NULL-SHA:NULL-SHA256"),
    ] {
        let refused = handshake(
            &facility,
            &["-tls1_2", "-cipher", &format!("{suites}:@SECLEVEL=0")],
        );
        assert!(!refused.made, "{kind}: {}", refused.said);
        assert!(
            refused.says("alert handshake failure"),
            "{kind}: {}",
            refused.said
        );
    }
}

#[test]
fn the_certificate_is_the_citys_for_exactly_these_names_and_signed_with_ecdsa() {
    let facility = facility();
    let made = handshake(&facility, &["-tls1_3", "-showcerts"]);
    assert!(
        made.made && made.says("Verify return code: 0 (ok)"),
        "{}",
        made.said
    );
    assert!(made.says("Peer signature type: ECDSA"), "{}", made.said);
    // Devices are asked for theirs, of the facility's own authority or the city's; who has none is let on.
    assert!(
        made.says("Acceptable client certificate CA names"),
        "{}",
        made.said
    );
    let console = handshake(
        &facility,
        &["-servername", BOX_HOST, "-verify_hostname", BOX_HOST],
    );
    assert!(console.made, "{}", console.said);
    let other = handshake(&facility, &["-verify_hostname", "est.takahagi.localhost"]);
    assert!(
        !other.made && other.says("hostname mismatch"),
        "{}",
        other.said
    );
}

#[test]
fn http_2_and_http_1_1_are_offered_and_nothing_else() {
    let facility = facility();
    for protocol in ["h2", "http/1.1"] {
        let made = handshake(&facility, &["-alpn", protocol]);
        assert!(
            made.made && made.says(&format!("ALPN protocol: {protocol}")),
            "{}",
            made.said
        );
    }
    let both = handshake(&facility, &["-alpn", "http/1.1,h2"]);
    assert!(
        both.says("ALPN protocol: h2"),
        "the box prefers HTTP/2: {}",
        both.said
    );
    let unknown = handshake(&facility, &["-alpn", "spdy/3"]);
    assert!(
        !unknown.made && unknown.says("alert no application protocol"),
        "{}",
        unknown.said
    );
    let portal = facility.gateway.portal_url();
    for (version, expected) in [("--http2", "2"), ("--http1.1", "1.1")] {
        let answer = curl(
            &facility,
            HERE,
            &[
                version,
                "--output",
                "/dev/null",
                "--write-out",
                "%{http_code} %{http_version}",
                &portal,
            ],
        );
        assert_eq!(text(&answer), format!("200 {expected}"));
    }
}

#[test]
fn sessions_resume_and_no_early_data_is_taken() {
    let facility = facility();
    let ticket = facility.directory().join("session.pem");
    let ticket = ticket.to_str().unwrap();
    // The ticket comes behind the handshake: stay until the answer is there.
    let request = format!("GET / HTTP/1.1\r\nHost: {PORTAL_HOST}\r\nConnection: close\r\n\r\n");
    for version in ["-tls1_3", "-tls1_2"] {
        let first = s_client(
            &facility,
            &[version, "-ign_eof", "-sess_out", ticket],
            request.as_bytes(),
        );
        assert!(
            first.says("HTTP/1.1 200") && first.says("New, TLSv1."),
            "{}",
            first.said
        );
        assert!(!first.says("Max Early Data: 1"), "{}", first.said);
        assert!(Path::new(ticket).exists());
        let second = handshake(&facility, &[version, "-sess_in", ticket]);
        assert!(second.says("Reused, TLSv1."), "{version}: {}", second.said);
    }
}

#[test]
fn both_address_families_answer_the_same() {
    let facility = facility();
    let portal = facility.gateway.portal_url();
    let over_4 = curl(&facility, "127.0.0.1", &["-4", &portal]);
    let over_6 = curl(&facility, "[::1]", &["-6", &portal]);
    assert!(!text(&over_4).is_empty());
    assert_eq!(text(&over_4), text(&over_6));
    let plain = format!(
        "http://{PORTAL_HOST}:{}/proxy.pac",
        facility.gateway.http_port()
    );
    assert_eq!(
        text(&curl(&facility, "127.0.0.1", &[&plain])),
        text(&curl(&facility, "[::1]", &[&plain]))
    );
}

#[test]
fn clear_http_leads_to_https_and_nowhere_else() {
    let facility = facility();
    let (https, http) = (facility.gateway.https_port(), facility.gateway.http_port());
    let ask = |host: &str, path: &str| {
        let url = format!("http://127.0.0.1:{http}{path}");
        let host = format!("Host: {host}");
        let format = "%{http_code} %{redirect_url}";
        text(&curl(
            &facility,
            HERE,
            &[
                "--header",
                &host,
                "--output",
                "/dev/null",
                "--write-out",
                format,
                &url,
            ],
        ))
    };
    for host in [PORTAL_HOST, BOX_HOST] {
        assert_eq!(
            ask(&format!("{host}:{http}"), "/a/b?c=d"),
            format!("308 https://{host}:{https}/a/b?c=d")
        );
    }
    assert_eq!(ask("elsewhere.example", "/"), "421 ");
    // The address on the box's label leads to its own pages.
    assert_eq!(
        ask("127.0.0.1", "/setup"),
        format!("308 https://127.0.0.1:{https}/setup")
    );
    // The redirect must not be led astray by what looks like an authority.
    assert_eq!(
        ask(PORTAL_HOST, "//elsewhere.example/"),
        format!("308 https://{PORTAL_HOST}:{https}//elsewhere.example/")
    );
}

#[test]
fn the_proxy_configuration_sends_the_citys_host_to_the_box_and_everything_else_past_it() {
    let facility = facility();
    let http = facility.gateway.http_port();
    let url = format!("http://127.0.0.1:{http}/proxy.pac");
    let answer = curl(
        &facility,
        HERE,
        &[
            "--include",
            "--header",
            &format!("Host: {BOX_HOST}:{http}"),
            &url,
        ],
    );
    let answer = text(&answer);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(
        answer
            .to_ascii_lowercase()
            .contains("content-type: application/x-ns-proxy-autoconfig"),
        "{answer}"
    );
    for part in [
        "function FindProxyForURL(url, host)",
        &format!("\"{PORTAL_HOST}\""),
        "PROXY ",
        "DIRECT",
    ] {
        assert!(answer.contains(part), "{part} in {answer}");
    }
}

#[test]
fn connect_leads_to_the_citys_hosts_only() {
    let facility = facility();
    let (https, http) = (facility.gateway.https_port(), facility.gateway.http_port());
    let proxy = format!("http://127.0.0.1:{http}");
    let portal = facility.gateway.portal_url();
    let direct = text(&curl(&facility, HERE, &[&portal]));
    for version in ["--http1.1", "--http2"] {
        // The tunnel's TLS is the box's: the same anchor, the same page.
        let tunnelled = curl(&facility, HERE, &[version, "--proxy", &proxy, &portal]);
        assert_eq!(text(&tunnelled), direct);
    }
    for elsewhere in [
        "https://elsewhere.example/".to_owned(),
        format!("https://{PORTAL_HOST}:22/"),
        format!("https://127.0.0.1:{}/", facility.city.port()),
        format!("https://est.takahagi.localhost:{https}/"),
        format!("https://localhost:{http}/"),
    ] {
        let refused = curl(
            &facility,
            HERE,
            &[
                "--proxy",
                &proxy,
                "--write-out",
                "%{http_connect}",
                &elsewhere,
            ],
        );
        assert!(!refused.status.success(), "{elsewhere}");
        assert_eq!(
            String::from_utf8_lossy(&refused.stdout),
            "403",
            "{elsewhere}"
        );
    }
    // An open proxy for clear HTTP it is not either.
    let plain = curl(
        &facility,
        HERE,
        &[
            "--proxy",
            &proxy,
            "--output",
            "/dev/null",
            "--write-out",
            "%{http_code}",
            "http://elsewhere.example/",
        ],
    );
    assert_eq!(text(&plain), "403");
}

#[test]
fn a_host_that_is_not_relayed_is_misdirected() {
    let facility = facility();
    let url = facility.gateway.portal_url();
    let answer = curl(
        &facility,
        HERE,
        &[
            "--header",
            "Host: elsewhere.example",
            "--output",
            "/dev/null",
            "--write-out",
            "%{http_code}",
            &url,
        ],
    );
    assert_eq!(text(&answer), "421");
}

#[test]
fn what_is_no_tls_gets_no_answer_on_the_tls_port() {
    let facility = facility();
    let mut stream = TcpStream::connect(("127.0.0.1", facility.gateway.https_port())).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        .unwrap();
    let mut answer = Vec::new();
    // The connection may end with a reset.
    let _ = stream.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP/"), "{answer:?}");
    assert!(answer.len() < 16, "an alert at most: {answer:?}");
}
