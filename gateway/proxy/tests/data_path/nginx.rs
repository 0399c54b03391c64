//! A real nginx as the site: another implementation's idea of TLS, HTTP and connection reuse.

use std::{fmt::Write as _, net::SocketAddr, path::Path, process::Command, time::Duration};

use http::Version;
use test_harness::{Child, Program, ports, wait};

use crate::{
    client::{Client, full},
    stand::{CITY, Setup, Stand},
};

struct Nginx {
    address: SocketAddr,
    log: std::path::PathBuf,
    _child: Child,
    _directory: tempfile::TempDir,
}

/// Requires client certificates, keeps connections alive for a hundred requests, and logs what TLS did.
fn nginx(setup: &Setup, http2: bool) -> Nginx {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let port = ports::free().unwrap();
    let pair = setup.authority.server(&[CITY]);
    std::fs::write(path.join("ca.pem"), setup.authority.pem()).unwrap();
    std::fs::write(path.join("cert.pem"), &pair.chain_pem).unwrap();
    std::fs::write(path.join("key.pem"), &pair.key_pem).unwrap();
    std::fs::create_dir(path.join("www")).unwrap();
    std::fs::write(path.join("www/hello"), "hello from nginx").unwrap();
    std::fs::write(path.join("www/large"), vec![b'n'; 3_000_000]).unwrap();
    std::fs::write(path.join("nginx.conf"), configuration(path, port, http2)).unwrap();
    let mut child = Program::new("nginx", "/usr/sbin/nginx", path.join("nginx.out"))
        .args(["-e", "stderr", "-p"])
        .arg(path)
        .arg("-c")
        .arg(path.join("nginx.conf"))
        .spawn()
        .unwrap();
    wait::for_port(&mut child, port, Duration::from_secs(10)).unwrap();
    Nginx {
        address: SocketAddr::from(([127, 0, 0, 1], port)),
        log: path.join("access.log"),
        _child: child,
        _directory: directory,
    }
}

fn configuration(path: &Path, port: u16, http2: bool) -> String {
    let mut text = String::new();
    let http2 = if http2 { " http2" } else { "" };
    let path = path.display();
    write!(
        text,
        "daemon off; master_process off; pid {path}/pid; error_log stderr warn;\n\
         events {{ worker_connections 256; }}\n\
         http {{\n\
           log_format tls '$ssl_session_reused $ssl_client_verify $connection_requests $server_protocol';\n\
           access_log {path}/access.log tls;\n\
           client_body_temp_path {path}/b; proxy_temp_path {path}/p; fastcgi_temp_path {path}/f;\n\
           uwsgi_temp_path {path}/u; scgi_temp_path {path}/s;\n\
           keepalive_requests 100;\n\
           server {{\n\
             listen 127.0.0.1:{port} ssl{http2};\n\
             server_name {CITY};\n\
             ssl_certificate {path}/cert.pem; ssl_certificate_key {path}/key.pem;\n\
             ssl_client_certificate {path}/ca.pem; ssl_verify_client on; ssl_protocols TLSv1.3;\n\
             ssl_session_cache shared:s:1m;\n\
             root {path}/www;\n\
             location /upload {{ client_max_body_size 50m; dav_methods PUT; create_full_put_path on; }}\n\
           }}\n\
         }}\n"
    )
    .unwrap();
    text
}

fn log(nginx: &Nginx) -> Vec<String> {
    let text = std::fs::read_to_string(&nginx.log).unwrap();
    text.lines().map(ToOwned::to_owned).collect()
}

async fn exercise(stand: &Stand) {
    for version in [Version::HTTP_11, Version::HTTP_2] {
        let mut client = Client::connect(stand, version).await;
        for _ in 0..150 {
            assert_eq!(client.get("/hello").await.text(), "hello from nginx");
        }
        assert_eq!(client.get("/large").await.body.len(), 3_000_000);
        assert_eq!(client.get("/absent").await.status, 404);
        let request = client
            .request("GET", CITY, "/large")
            .header("range", "bytes=10-19")
            .body(full(""))
            .unwrap();
        let answer = client.answer(request).await;
        assert_eq!((answer.status.as_u16(), answer.text()), (206, "nnnnnnnnnn"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nginx_over_http1_is_relayed_with_one_full_handshake() {
    let setup = Setup::new();
    let nginx = nginx(&setup, false);
    let stand = setup.start(nginx.address);
    exercise(&stand).await;
    let log = log(&nginx);
    assert!(log.len() > 300);
    // nginx closes after a hundred requests; the connections after the first resume.
    assert!(log.iter().all(|line| line.contains(" SUCCESS ")), "{log:?}");
    assert_eq!(stand.running().signatures(), 1);
    assert!(
        log.iter().any(|line| line.starts_with("r ")),
        "{:?}",
        log.last()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nginx_over_http2_is_relayed_with_one_full_handshake() {
    let setup = Setup::new();
    let nginx = nginx(&setup, true);
    let stand = setup.start(nginx.address);
    exercise(&stand).await;
    let log = log(&nginx);
    assert!(
        log.iter().all(|line| line.ends_with("HTTP/2.0")),
        "{:?}",
        log.last()
    );
    assert_eq!(stand.running().signatures(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn h2load_and_many_clients_see_no_failure() {
    let setup = Setup::new();
    let nginx = nginx(&setup, false);
    let stand = setup.start(nginx.address);
    let url = format!("https://{CITY}:{}/hello", stand.https.port());
    for options in [["-c8", "-m8"], ["-c32", "-m1"]] {
        let url = url.clone();
        // Not every resolver knows names below localhost.
        let to = format!("--connect-to={}", stand.https);
        let output = tokio::task::spawn_blocking(move || {
            Command::new("h2load")
                .args(["-n4000"])
                .args(options)
                .arg(to)
                .arg(url)
                .output()
                .unwrap()
        })
        .await
        .unwrap();
        let report = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            report.contains("4000 succeeded, 0 failed, 0 errored"),
            "{report}"
        );
        assert!(report.contains("4000 2xx"), "{report}");
    }
    assert_eq!(stand.running().signatures(), 1);
}
