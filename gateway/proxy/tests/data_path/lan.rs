//! What the LAN side accepts, refuses and bounds.

use std::{process::Command, sync::Arc};

use http::{Request, Version};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use crate::{
    client::{Client, config, full, raw, read},
    origin::{Origin, Speaks},
    stand::{Authority, CITY, CONSOLE, Setup, Stand, nobody, now},
};

const BOTH: [Version; 2] = [Version::HTTP_11, Version::HTTP_2];

async fn stand() -> (Stand, Origin) {
    let setup = Setup::new();
    let origin = Origin::start(&setup.authority, Speaks::Http1).await;
    let stand = setup.start(origin.address);
    (stand, origin)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_host_is_misdirected_and_the_page_is_japanese() {
    let (stand, origin) = stand().await;
    for version in BOTH {
        // Without SNI, as a browser that was given an address.
        let alpn: &[u8] = if version == Version::HTTP_2 {
            b"h2"
        } else {
            b"http/1.1"
        };
        let tcp = TcpStream::connect(stand.https).await.unwrap();
        let mut config = Arc::unwrap_or_clone(config(&stand, &[alpn]));
        config.enable_sni = false;
        let name = CITY.try_into().unwrap();
        let tls = TlsConnector::from(Arc::new(config))
            .connect(name, tcp)
            .await
            .unwrap();
        let mut client = Client::over(tls, version, stand.https).await;
        let request = client
            .request("GET", "elsewhere.example", "/")
            .header("accept", "text/html,application/xhtml+xml")
            .body(full(""))
            .unwrap();
        let answer = client.answer(request).await;
        assert_eq!(answer.status, 421);
        assert_eq!(answer.header("content-type"), "text/html; charset=utf-8");
        assert!(answer.text().contains("このアドレスはここにはありません"));
        assert!(answer.text().contains("サポートコード"));
    }
    assert_eq!(origin.seen.requests(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_other_than_the_one_of_the_handshake_is_misdirected() {
    let (stand, _origin) = stand().await;
    for version in BOTH {
        let mut client = Client::connect(&stand, version).await;
        assert_eq!(client.get("/").await.status, 200);
        let request = client.request("GET", CONSOLE, "/").body(full("")).unwrap();
        assert_eq!(client.answer(request).await.status, 421);
        assert_eq!(client.get("/").await.status, 200, "the connection lives on");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_gets_a_problem_document_with_the_same_support_code_field() {
    let (stand, _origin) = stand().await;
    let mut client = Client::connect(&stand, Version::HTTP_2).await;
    for accept in [None, Some("application/json"), Some("*/*")] {
        let mut request = client.request("GET", CONSOLE, "/");
        if let Some(accept) = accept {
            request = request.header("accept", accept);
        }
        let answer = client.answer(request.body(full("")).unwrap()).await;
        assert_eq!(answer.header("content-type"), "application/problem+json");
        let problem: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(problem["type"], "urn:renraku:problem:misdirected");
        assert_eq!(problem["status"], 421);
        assert_eq!(problem["support_code"].as_str().unwrap().len(), 8);
        assert!(problem["title"].as_str().unwrap().starts_with("この"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_that_contradicts_host_is_refused() {
    let (stand, origin) = stand().await;
    let mut client = Client::connect(&stand, Version::HTTP_2).await;
    let request = client
        .request("GET", CITY, "/")
        .header("host", "elsewhere.example")
        .body(full(""))
        .unwrap();
    assert_eq!(client.answer(request).await.status, 400);
    let answer = raw(
        &stand,
        format!("GET https://elsewhere.example/ HTTP/1.1\r\nHost: {CITY}\r\n\r\n").as_bytes(),
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert_eq!(origin.seen.requests(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn ambiguous_requests_never_reach_the_site() {
    let (stand, origin) = stand().await;
    for bad in [
        "GET / HTTP/1.1\r\n\r\n".to_owned(),
        format!("GET / HTTP/1.1\r\nHost: {CITY}\r\nHost: {CITY}\r\n\r\n"),
        "GET / HTTP/1.1\r\nHost: \r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\nHost: a b\r\n\r\n".to_owned(),
        format!("GET / HTTP/1.1\nHost: {CITY}\n\n"),
        format!(
            "POST / HTTP/1.1\r\nHost: {CITY}\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
        ),
        format!(
            "POST / HTTP/1.1\r\nHost: {CITY}\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd"
        ),
        format!(
            "POST / HTTP/1.1\r\nHost: {CITY}\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n"
        ),
        format!("POST / HTTP/1.1\r\nHost: {CITY}\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n"),
    ] {
        let answer = raw(&stand, bad.as_bytes()).await;
        assert!(
            answer.starts_with("HTTP/1.1 4") || answer.is_empty(),
            "{bad:?} got {answer}"
        );
        assert_eq!(
            answer.matches("HTTP/1.1").count(),
            1,
            "{bad:?} got {answer}"
        );
    }
    assert_eq!(origin.seen.requests(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn methods_and_upgrades_that_open_back_doors_are_refused() {
    let (stand, origin) = stand().await;
    let port = stand.https.port();
    let trace = format!("TRACE / HTTP/1.1\r\nHost: {CITY}:{port}\r\nConnection: close\r\n\r\n");
    assert!(
        raw(&stand, trace.as_bytes())
            .await
            .starts_with("HTTP/1.1 405 ")
    );
    let h2c = format!(
        "GET / HTTP/1.1\r\nHost: {CITY}:{port}\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
         HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"
    );
    assert!(
        raw(&stand, h2c.as_bytes())
            .await
            .starts_with("HTTP/1.1 501 ")
    );
    assert_eq!(origin.seen.requests(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn connect_leads_to_the_city_only() {
    let (stand, origin) = stand().await;
    for (target, status) in [
        ("example.com:443".to_owned(), "403"),
        (format!("{CITY}:22"), "403"),
        (format!("127.0.0.1:{}", stand.http.port()), "403"),
        (format!("{CITY}:443"), "200"),
        (format!("{CITY}:{}", stand.https.port()), "200"),
        (format!("{CONSOLE}:{}", stand.https.port()), "200"),
    ] {
        let mut tcp = TcpStream::connect(stand.http).await.unwrap();
        let head = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n");
        tcp.write_all(head.as_bytes()).await.unwrap();
        let mut buffer = [0; 64];
        let read = tcp.read(&mut buffer).await.unwrap();
        let answer = String::from_utf8_lossy(&buffer[..read]);
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{target}: {answer}"
        );
    }
    assert_eq!(origin.seen.requests(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn inside_a_connect_tunnel_everything_is_as_without() {
    let (stand, _origin) = stand().await;
    for version in BOTH {
        let mut tcp = TcpStream::connect(stand.http).await.unwrap();
        let target = format!("{CITY}:{}", stand.https.port());
        let head = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n");
        tcp.write_all(head.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(tcp.read_u8().await.unwrap());
        }
        let alpn: &[u8] = if version == Version::HTTP_2 {
            b"h2"
        } else {
            b"http/1.1"
        };
        let connector = TlsConnector::from(config(&stand, &[alpn]));
        let inner = connector
            .connect(CITY.try_into().unwrap(), tcp)
            .await
            .unwrap();
        let mut client = Client::over(inner, version, stand.https).await;
        assert_eq!(client.get("/staff").await.text(), "GET /staff");
        let body = vec![7; 300_000];
        assert_eq!(client.post("/echo", body.clone()).await.body, body);
        // A tunnel in a tunnel has no use but to hide.
        if version == Version::HTTP_11 {
            let request = Request::builder()
                .method("CONNECT")
                .uri(&target)
                .header("host", &target)
                .body(full(""))
                .unwrap();
            assert_eq!(client.send(request).await.unwrap().status(), 403);
        }
    }
    stand.quiet().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_https_listener_takes_connect_too() {
    let (stand, _origin) = stand().await;
    for version in BOTH {
        let mut outer = Client::connect_as(&stand, version, CONSOLE).await;
        let target = format!("{CITY}:{}", stand.https.port());
        let mut request = Request::builder().method("CONNECT").uri(&target);
        if version == Version::HTTP_11 {
            request = request.header("host", &target);
        }
        let mut response = outer.send(request.body(full("")).unwrap()).await.unwrap();
        assert_eq!(response.status(), 200);
        let upgraded = hyper::upgrade::on(&mut response).await.unwrap();
        let connector = TlsConnector::from(config(&stand, &[b"http/1.1"]));
        let name = CITY.try_into().unwrap();
        let inner = connector
            .connect(name, TokioIo::new(upgraded))
            .await
            .unwrap();
        let mut client = Client::over(inner, Version::HTTP_11, stand.https).await;
        assert_eq!(client.get("/staff").await.text(), "GET /staff");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_plain_listener_redirects_and_serves_the_pac_file() {
    let (stand, origin) = stand().await;
    let tcp = TcpStream::connect(stand.http).await.unwrap();
    let mut client = Client::over(tcp, Version::HTTP_11, stand.http).await;
    let answer = client.get("/staff/a?b=c").await;
    assert_eq!(answer.status, 308);
    let https = format!("https://{CITY}:{}/staff/a?b=c", stand.https.port());
    assert_eq!(answer.header("location"), https);

    let request = client
        .request("GET", "192.0.2.7", "/proxy.pac")
        .body(full(""))
        .unwrap();
    let answer = client.answer(request).await;
    assert_eq!(
        answer.header("content-type"),
        "application/x-ns-proxy-autoconfig"
    );
    let pac = answer.text();
    assert!(pac.contains(&format!("\"{CITY}\": 1")), "{pac}");
    assert!(!pac.contains(&format!("\"{CONSOLE}\"")), "{pac}");
    assert!(
        pac.contains(&format!("PROXY {CONSOLE}:{}", stand.http.port())),
        "{pac}"
    );
    assert!(pac.contains("\"DIRECT\""), "{pac}");

    let request = client
        .request("GET", "elsewhere.example", "/")
        .body(full(""))
        .unwrap();
    assert_eq!(client.answer(request).await.status, 421);
    // A browser that sends all its plain traffic here.
    let request = Request::builder()
        .uri("http://elsewhere.example/")
        .header("host", "elsewhere.example")
        .body(full(""))
        .unwrap();
    assert_eq!(client.answer(request).await.status, 403);
    assert_eq!(origin.seen.requests(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_passes_through_the_explicit_proxy() {
    let (stand, _origin) = stand().await;
    let directory = tempfile::tempdir().unwrap();
    let ca = directory.path().join("ca.pem");
    std::fs::write(&ca, stand.authority.pem()).unwrap();
    for protocol in ["--http1.1", "--http2"] {
        let output = Command::new("curl")
            .args(["-sS", protocol, "--max-time", "10", "--cacert"])
            .arg(&ca)
            .args(["--proxy", &format!("http://{}", stand.http)])
            .arg(format!("https://{CITY}:{}/staff/curl", stand.https.port()))
            .output()
            .unwrap();
        let answer = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(
            answer,
            "GET /staff/curl",
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    let output = Command::new("curl")
        .args([
            "-sS",
            "--max-time",
            "10",
            "--proxy",
            &format!("http://{}", stand.http),
        ])
        .arg("https://example.com/")
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("403"));
}

/// What `openssl s_client` reports with the given options.
fn s_client(stand: &Stand, options: &[&str]) -> String {
    let output = Command::new("openssl")
        .args([
            "s_client",
            "-connect",
            &stand.https.to_string(),
            "-servername",
            CITY,
        ])
        .args(options)
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_is_1_3_or_1_2_with_forward_secrecy_and_aead() {
    let (stand, _origin) = stand().await;
    assert!(s_client(&stand, &["-tls1_3"]).contains("New, TLSv1.3, Cipher is TLS_"));
    let tls12 = s_client(&stand, &["-tls1_2"]);
    assert!(tls12.contains("Cipher is ECDHE-ECDSA-"), "{tls12}");
    for refused in [
        ["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA256"],
        ["-tls1_2", "-cipher", "AES128-GCM-SHA256"],
        ["-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0"],
    ] {
        let report = s_client(&stand, &refused);
        assert!(report.contains("Cipher is (NONE)"), "{refused:?}: {report}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gate_is_asked_on_every_request_of_an_open_connection() {
    let (stand, origin) = stand().await;
    for version in BOTH {
        let mut client = Client::connect(&stand, version).await;
        assert_eq!(client.get("/staff").await.status, 200);
        let well = stand.snapshot.load_full();
        stand
            .snapshot
            .store(Arc::new(gateway_policy::Snapshot::nothing_known(now())));
        let before = origin.seen.requests();
        let answer = client.get("/staff").await;
        assert_eq!(answer.status, 403);
        assert!(
            answer
                .header("proxy-status")
                .contains("http_request_denied")
        );
        assert!(answer.header("proxy-status").contains("renraku-gateway"));
        assert_eq!(origin.seen.requests(), before, "nothing was forwarded");
        assert_eq!(client.get("/public/help").await.status, 200, "第17条");
        assert_eq!(client.get("/public/../staff").await.status, 403);
        stand.snapshot.store(well);
        assert_eq!(client.get("/staff").await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ipv6_is_served_like_ipv4() {
    let authority = Authority::new("a");
    let mut setup = Setup::new();
    setup.authority = authority;
    setup.ipv6 = true;
    let origin = Origin::start(&setup.authority, Speaks::Http1).await;
    let stand = setup.start(origin.address);
    assert!(stand.https.is_ipv6());
    let mut client = Client::connect(&stand, Version::HTTP_2).await;
    assert_eq!(client.get("/").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_request_has_the_length_and_no_body() {
    let (stand, _origin) = stand().await;
    for version in BOTH {
        let mut client = Client::connect(&stand, version).await;
        let request = client
            .request("HEAD", CITY, "/staff")
            .body(full(""))
            .unwrap();
        let answer = client.answer(request).await;
        assert_eq!(answer.status, 200);
        assert!(answer.body.is_empty());
        assert_eq!(client.get("/a").await.text(), "GET /a");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_does_not_tell_where_the_site_lives() {
    let setup = Setup::new();
    let site = nobody();
    let stand = setup.start(site);
    let mut client = Client::connect(&stand, Version::HTTP_11).await;
    let request = client
        .request("GET", CITY, "/staff/person/4711?name=x")
        .header("accept", "text/html")
        .body(full(""))
        .unwrap();
    let answer = read(client.send(request).await.unwrap()).await.unwrap();
    assert_eq!(answer.status, 502);
    let page = answer.text();
    assert!(
        page.contains("/.well-known/renraku-gateway/notes"),
        "{page}"
    );
    for secret in [
        site.port().to_string().as_str(),
        "4711",
        "127.0.0.1",
        "refused",
    ] {
        assert!(!page.contains(secret), "{secret}");
    }
    assert!(
        answer
            .header("proxy-status")
            .contains("error=connection_refused")
    );
}
