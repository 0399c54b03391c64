//! The listener: certificates, resumed sessions, host names, odd requests, and failing on request.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

mod running_city;

use running_city::{EST, GATEWAY, RENRAKU, RunningCity, openssl};
use serde_json::json;
use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};
use std::time::Duration;

/// Sends raw bytes over TLS with openssl and returns everything that came back.
fn raw(city: &RunningCity, arguments: &[&str], request: &str) -> String {
    let mut process = Command::new("openssl")
        .args([
            "s_client",
            "-quiet",
            "-ign_eof",
            "-CAfile",
            city.ca_file(),
            "-verify_return_error",
        ])
        .args([
            "-connect",
            &format!("127.0.0.1:{}", city.port()),
            "-servername",
            RENRAKU,
        ])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut input = process.stdin.take().unwrap();
    // An answer can come, and s_client end on it, before the last of a refused request is taken.
    match input
        .write_all(request.as_bytes())
        .and_then(|()| input.flush())
    {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => panic!("{error}"),
        _ => {}
    }
    let mut out = String::new();
    // The request asks for `connection: close`, or the city closes; a city that does neither fails by the test's time.
    process
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut out)
        .unwrap();
    let _ = process.wait();
    out
}

#[test]
fn a_certificate_revoked_in_between_is_refused_on_a_resumed_session() {
    let city = RunningCity::start();
    let who = city.identity("tkh-1001", "box");
    let cookie = city.sign_in(&who, "sakura-01");
    let (key, certificate) = (who.key.to_str().unwrap(), who.certificate.to_str().unwrap());
    let session = city.path("session");
    let request = format!(
        "GET /staff/api/persons HTTP/1.1\r\nhost: {RENRAKU}\r\ncookie: {cookie}\r\nconnection: close\r\n\r\n"
    );
    let save = [
        "-cert",
        certificate,
        "-key",
        key,
        "-sess_out",
        session.to_str().unwrap(),
    ];
    let first = raw(&city, &save, &request);
    assert!(first.starts_with("HTTP/1.1 200"), "{first}");
    // Without -cert: what the resumed session says is all the city has.
    let resume = ["-sess_in", session.to_str().unwrap()];
    let resumed_before = city.stats()["handshakes"]["resumed"].as_u64().unwrap();
    let second = raw(&city, &resume, &request);
    assert!(second.starts_with("HTTP/1.1 200"), "{second}");
    assert_eq!(
        city.stats()["handshakes"]["resumed"].as_u64().unwrap(),
        resumed_before + 1
    );
    city.control("revoke", &json!({ "serial": who.serial }));
    let third = raw(&city, &resume, &request);
    assert!(
        third.starts_with("HTTP/1.1 403") && third.contains("certificate-revoked"),
        "{third}"
    );
    assert_eq!(
        city.stats()["handshakes"]["resumed"].as_u64().unwrap(),
        resumed_before + 2,
        "it was resumed"
    );
}

#[test]
fn a_certificate_revoked_in_between_is_refused_on_an_open_connection() {
    let city = RunningCity::start();
    let who = city.identity("tkh-1001", "box");
    // One connection, two requests; the control call happens between them because the first waits for it.
    let url = city.url(GATEWAY, "/gateway/v1/attachments/none");
    city.control(
        "fail",
        &json!({ "mode": "slow", "delay_ms": 1500, "host": GATEWAY }),
    );
    let process = Command::new("curl")
        .args([
            "-sS",
            "--cacert",
            city.ca_file(),
            "--cert",
            who.certificate.to_str().unwrap(),
            "--key",
        ])
        .args([who.key.to_str().unwrap(), &url, &url])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(2_200));
    city.control("revoke", &json!({ "facility": "tkh-1001" }));
    let out = String::from_utf8(process.wait_with_output().unwrap().stdout).unwrap();
    assert!(
        out.find("not-found").unwrap() < out.find("certificate-revoked").unwrap(),
        "{out}"
    );
}

#[test]
fn a_certificate_of_another_authority_fails_the_handshake() {
    let city = RunningCity::start();
    let (key, certificate) = (city.path("alien.key"), city.path("alien.pem"));
    let subject = "/O=someone/CN=tkh-1001";
    openssl(
        &[
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-subj",
            subject,
            "-addext",
            "subjectAltName=URI:urn:renraku:facility:tkh-1001",
            "-addext",
            "extendedKeyUsage=clientAuth",
            "-keyout",
            key.to_str().unwrap(),
            "-out",
            certificate.to_str().unwrap(),
        ],
        b"",
    );
    let out = Command::new("curl")
        .args([
            "-sS",
            "--cacert",
            city.ca_file(),
            "--cert",
            certificate.to_str().unwrap(),
            "--key",
        ])
        .args([key.to_str().unwrap(), &city.url(RENRAKU, "/")])
        .output()
        .unwrap();
    assert!(!out.status.success());
    // curl may be told before the city has written its line.
    let said = (0..100).any(|_| {
        std::thread::sleep(Duration::from_millis(50));
        city.log().contains("handshake failed")
    });
    let curl = String::from_utf8_lossy(&out.stderr);
    assert!(said, "{curl}\n{}", city.log());
}

#[test]
fn a_server_certificate_of_the_city_is_no_client_certificate() {
    let city = RunningCity::start();
    let holder = city.identity("tkh-1001", "box");
    let (key, csr) = city.request(
        "lan",
        &["-addext", "subjectAltName=DNS:box.takahagi.localhost"],
    );
    let data = format!("@{}", csr.display());
    let arguments = [
        "-H",
        "content-type: application/pkcs10",
        "--data-binary",
        &data,
    ];
    let answer = city.curl_as(
        &holder,
        EST,
        "/.well-known/est/lan/simpleenroll",
        &arguments,
    );
    let lan = city.keep(&answer.body, key, "lan");
    let out = Command::new("curl")
        .args([
            "-sS",
            "--cacert",
            city.ca_file(),
            "--cert",
            lan.certificate.to_str().unwrap(),
            "--key",
        ])
        .args([lan.key.to_str().unwrap(), &city.url(RENRAKU, "/")])
        .output()
        .unwrap();
    assert!(!out.status.success());
}

#[test]
fn a_facility_certificate_that_has_run_out_is_refused() {
    let city = RunningCity::start_with(&["--facility-validity", "3"]);
    let who = city.identity("tkh-1001", "box");
    let session = city.path("session");
    let request = format!(
        "GET /gateway/v1/attachments/none HTTP/1.1\r\nhost: {GATEWAY}\r\nconnection: close\r\n\r\n"
    );
    let (key, certificate) = (who.key.to_str().unwrap(), who.certificate.to_str().unwrap());
    raw(
        &city,
        &[
            "-cert",
            certificate,
            "-key",
            key,
            "-sess_out",
            session.to_str().unwrap(),
        ],
        &request,
    );
    std::thread::sleep(Duration::from_secs(4));
    let out = raw(&city, &["-sess_in", session.to_str().unwrap()], &request);
    assert!(out.contains("certificate-expired"), "resumed: {out}");
    let fresh = Command::new("curl")
        .args([
            "-sS",
            "--cacert",
            city.ca_file(),
            "--cert",
            certificate,
            "--key",
            key,
            &city.url(RENRAKU, "/"),
        ])
        .output()
        .unwrap();
    assert!(
        !fresh.status.success(),
        "a full handshake with an expired certificate fails"
    );
}

#[test]
fn an_unknown_host_is_misdirected_and_two_hosts_are_a_bad_request() {
    let city = RunningCity::start();
    let answer = city.curl(RENRAKU, "/", &["-H", "host: elsewhere.example"]);
    assert_eq!(
        (answer.status, answer.problem().as_str()),
        (421, "misdirected")
    );
    for hosts in [
        "",
        "host: a\r\nhost: b\r\n",
        "host: user@renraku.takahagi.localhost\r\n",
        "host: a b\r\n",
    ] {
        let out = raw(
            &city,
            &[],
            &format!("GET / HTTP/1.1\r\n{hosts}connection: close\r\n\r\n"),
        );
        assert!(out.starts_with("HTTP/1.1 400"), "{hosts:?}: {out}");
    }
}

#[test]
fn ambiguous_lengths_and_malformed_heads_are_refused() {
    let city = RunningCity::start();
    let host = format!("host: {RENRAKU}\r\n");
    let odd = [
        format!(
            "POST /staff/login HTTP/1.1\r\n{host}content-length: 5\r\ncontent-length: 6\r\n\r\nhello"
        ),
        format!("POST /staff/login HTTP/1.1\r\n{host}content-length: +5\r\n\r\nhello"),
        format!("POST /staff/login HTTP/1.1\r\n{host}transfer-encoding: gzip\r\n\r\nhello"),
        format!("GET / HTTP/1.1\r\n{host}x y: z\r\n\r\n"),
        format!("GET / HTTP/1.1\r\n{host}x: y\r\n folded\r\n\r\n"),
        "GET / HTTP/9.9\r\n\r\n".to_owned(),
    ];
    for request in &odd {
        let out = raw(&city, &[], request);
        assert!(
            out.starts_with("HTTP/1.1 4") || out.is_empty(),
            "{request:?}: {out}"
        );
    }
    let many = format!("GET / HTTP/1.1\r\n{host}x: {}\r\n\r\n", "a".repeat(100_000));
    let out = raw(&city, &[], &many);
    assert!(out.starts_with("HTTP/1.1 431") || out.is_empty(), "{out}");
}

#[test]
fn unknown_paths_and_methods_are_told_apart_on_every_host() {
    let city = RunningCity::start();
    for host in [RENRAKU, EST, GATEWAY] {
        let answer = city.curl(host, "/nowhere", &["-H", "accept: application/json"]);
        assert_eq!(
            (answer.status, answer.problem().as_str()),
            (404, "not-found"),
            "{host}"
        );
    }
    let answer = city.curl(
        RENRAKU,
        "/",
        &["-X", "DELETE", "-H", "accept: application/json"],
    );
    assert_eq!(answer.problem(), "method-not-allowed");
    assert!(answer.header("allow").unwrap().contains("GET"));
}

#[test]
fn both_http_versions_and_both_tls_versions_are_spoken() {
    let city = RunningCity::start();
    for arguments in [["--http1.1", "--tlsv1.3"], ["--http2", "--tlsv1.3"]] {
        assert_eq!(city.curl(RENRAKU, "/", &arguments).status, 200);
    }
    assert_eq!(city.curl(RENRAKU, "/", &["--tls-max", "1.2"]).status, 200);
    let versions = &city.stats()["versions"];
    assert!(versions["HTTP/1.1"].as_u64().unwrap() > 0 && versions["HTTP/2"].as_u64().unwrap() > 0);
}

#[test]
fn a_stream_arrives_piece_by_piece() {
    let city = RunningCity::start();
    let mut process = Command::new("curl")
        .args(["-sSN", "--cacert", city.ca_file()])
        .arg(city.url(RENRAKU, "/line-check/stream?count=3&interval_ms=400"))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = process.stdout.take().unwrap();
    let mut times = Vec::new();
    let mut chunk = [0; 1024];
    while out.read(&mut chunk).unwrap() > 0 {
        times.push(std::time::Instant::now());
    }
    assert!(process.wait().unwrap().success());
    assert!(
        times.len() >= 3
            && times.last().unwrap().duration_since(times[0]) > Duration::from_millis(600)
    );
}

#[test]
fn the_city_fails_as_it_is_told_and_recovers() {
    let city = RunningCity::start();
    let who = city.identity("tkh-1001", "box");
    city.control("fail", &json!({ "mode": "5xx" }));
    let answer = city.curl(RENRAKU, "/", &["-H", "accept: application/json"]);
    assert_eq!(
        (answer.status, answer.problem().as_str()),
        (503, "unavailable")
    );
    assert!(answer.header("retry-after").is_some());
    city.control("fail", &json!({ "mode": "cut-mid-body" }));
    for version in ["--http1.1", "--http2"] {
        let out = Command::new("curl")
            .args([
                "-sS",
                version,
                "--cacert",
                city.ca_file(),
                &city.url(RENRAKU, "/style.css"),
            ])
            .output()
            .unwrap();
        let whole = include_str!("../templates/style.css").len();
        assert!(
            !out.status.success() && out.stdout.len() <= whole / 2,
            "{version}: {}",
            out.stdout.len()
        );
    }
    city.control("fail", &json!({ "mode": "hang" }));
    let code = |arguments: &[&str]| {
        let url = city.url(RENRAKU, "/");
        let status = Command::new("curl")
            .args(["-s", "--cacert", city.ca_file(), &url])
            .args(arguments)
            .status();
        status.unwrap().code().unwrap()
    };
    assert_eq!(
        code(&["--max-time", "1"]),
        28,
        "a hanging city runs into the client's time"
    );
    city.control("fail", &json!({ "mode": "none" }));
    assert_eq!(city.curl_as(&who, RENRAKU, "/staff/login", &[]).status, 200);
    city.control("fail", &json!({ "mode": "down" }));
    assert_eq!(code(&[]), 7, "refused to connect");
    assert_eq!(
        city.stats()["active_connections"],
        0,
        "open connections were cut"
    );
    city.control("fail", &json!({ "mode": "none" }));
    assert_eq!(city.curl(RENRAKU, "/", &[]).status, 200);
}

#[test]
fn a_city_that_is_told_to_end_ends_at_once_and_finds_everything_again() {
    let city = RunningCity::start();
    let who = city.identity("tkh-1001", "box");
    let pid = city.pid().to_string();
    assert!(Command::new("kill").arg(&pid).status().unwrap().success());
    let patience = std::time::Instant::now() + Duration::from_secs(3);
    // The test is the parent, so a dead city is a zombie until it is waited for; its port tells.
    while std::net::TcpStream::connect(("127.0.0.1", city.port())).is_ok() {
        assert!(
            std::time::Instant::now() < patience,
            "the city does not end"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    let ready = city.path("again.json");
    let mut again = Command::new(env!("CARGO_BIN_EXE_reference-city"))
        .arg("--dir")
        .arg(city.path("city"))
        .args([
            "--seed",
            "--listen",
            &format!("127.0.0.1:{}", city.port()),
            "--ready-file",
        ])
        .arg(&ready)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    while !ready.exists() {
        std::thread::sleep(Duration::from_millis(20));
    }
    let answer = city.curl_as(&who, GATEWAY, "/gateway/v1/attachments/none", &[]);
    again.kill().unwrap();
    again.wait().unwrap();
    assert_eq!(answer.status, 404, "the certificate is still known");
}
