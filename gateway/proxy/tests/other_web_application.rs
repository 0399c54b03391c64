//! The relay in front of a web application that knows nothing of it: Debian's Jupyter notebook server, with its sign-in,
//! cookies, XSRF check, redirects, uploads, downloads and WebSockets, used through curl and a WebSocket client.
//!
//! It does not test the notebook server; where a step fails directly against the application too, it proves nothing.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what a test cannot do is its failure"
)]
#![allow(unreachable_pub, reason = "a test's modules are nobody's interface")]

#[allow(
    dead_code,
    reason = "shared with the data path's own tests, which use all of it"
)]
#[path = "data_path/stand.rs"]
mod stand;

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::{SinkExt, StreamExt};
use gateway_proxy::Protocol;
use rustls::pki_types::ServerName;
use serde_json::{Value, json};
use stand::{CITY, Setup, Stand};
use tempfile::TempDir;
use test_harness::{Child, Program, binaries, ports, wait};
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest};

const PASSWORD: &str = "kaigo renraku 2026";

/// A notebook server, the relay in front of it, and one person's cookie jar.
struct Desk {
    relay: Stand,
    files: TempDir,
    _application: Child,
}

impl Desk {
    fn start() -> Self {
        let setup = Setup {
            protocol: Protocol::Http1,
            ..Setup::new()
        };
        let files = tempfile::tempdir().unwrap();
        let (application, address) = notebook(&setup, &files);
        std::fs::write(files.path().join("ca.pem"), setup.authority.pem()).unwrap();
        Self {
            relay: setup.start(address),
            files,
            _application: application,
        }
    }

    fn origin(&self) -> String {
        format!("https://{CITY}:{}", self.relay.https.port())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.files.path().join(name)
    }

    /// curl through the relay with the person's cookies; `path` is what follows the origin.
    fn curl(&self, path: &str, arguments: &[&str]) -> Answer {
        let resolve = format!("{CITY}:{}:127.0.0.1", self.relay.https.port());
        let output = Command::new(binaries::debian("curl", "curl").unwrap())
            .args(["--silent", "--show-error", "--max-time", "30", "--include"])
            .args(["--resolve", &resolve])
            .arg("--cacert")
            .arg(self.path("ca.pem"))
            .arg("--cookie")
            .arg(self.path("jar"))
            .arg("--cookie-jar")
            .arg(self.path("jar"))
            .args(arguments)
            .arg(format!("{}{path}", self.origin()))
            .output()
            .unwrap();
        Answer::read(&output)
    }

    /// The value of a cookie in the jar.
    fn cookie(&self, name: &str) -> Option<String> {
        let jar = std::fs::read_to_string(self.path("jar")).ok()?;
        jar.lines()
            .map(|line| line.split('\t').collect::<Vec<_>>())
            .find(|fields| fields.get(5) == Some(&name))
            .and_then(|fields| fields.get(6).map(ToString::to_string))
    }

    /// All cookies, as a browser sends them.
    fn cookies(&self) -> String {
        let jar = std::fs::read_to_string(self.path("jar")).unwrap();
        let mut all = String::new();
        for line in jar.lines() {
            if let [_, _, _, _, _, name, value] = line.split('\t').collect::<Vec<_>>()[..] {
                let separator = if all.is_empty() { "" } else { "; " };
                let _ = write!(all, "{separator}{name}={value}");
            }
        }
        all
    }

    fn sign_in(&self, password: &str) -> Answer {
        let page = self.curl("/login?next=%2Fapi%2Fcontents", &[]);
        assert_eq!(page.status, 200, "{page:?}");
        let xsrf = self
            .cookie("_xsrf")
            .expect("the application sets its XSRF cookie");
        let fields = ["--data-urlencode", &format!("password={password}")];
        let xsrf = ["--data-urlencode", &format!("_xsrf={xsrf}")];
        self.curl("/login?next=%2Fapi%2Fcontents", &[fields, xsrf].concat())
    }

    /// A call of the application's JSON interface, with its XSRF token.
    fn call(&self, method: &str, path: &str, body: &Value) -> Answer {
        let file = self.path("body.json");
        std::fs::write(&file, body.to_string()).unwrap();
        let xsrf = self.cookie("_xsrf").unwrap_or_default();
        let token = format!("X-XSRFToken: {xsrf}");
        let data = format!("@{}", file.display());
        let mut arguments = vec!["--request", method, "--header", &token];
        if !body.is_null() {
            arguments.extend([
                "--header",
                "Content-Type: application/json",
                "--data-binary",
                &data,
            ]);
        }
        self.curl(path, &arguments)
    }

    /// A WebSocket through the relay, opened as the application's own page would.
    async fn websocket(&self, path: &str) -> WebSocket {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.relay.authority.der()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let tcp = tokio::net::TcpStream::connect(self.relay.https)
            .await
            .unwrap();
        let name = ServerName::try_from(CITY).unwrap();
        let tls = tokio_rustls::TlsConnector::from(Arc::new(config))
            .connect(name, tcp)
            .await
            .unwrap();
        let mut request = format!("wss://{CITY}:{}{path}", self.relay.https.port())
            .into_client_request()
            .unwrap();
        let headers = request.headers_mut();
        headers.insert("origin", self.origin().parse().unwrap());
        headers.insert("cookie", self.cookies().parse().unwrap());
        let (socket, _) = tokio_tungstenite::client_async(request, tls).await.unwrap();
        socket
    }
}

type WebSocket =
    tokio_tungstenite::WebSocketStream<tokio_rustls::client::TlsStream<tokio::net::TcpStream>>;

/// Starts the notebook server over HTTPS with a password.
fn notebook(setup: &Setup, files: &TempDir) -> (Child, SocketAddr) {
    let pair = setup.authority.server(&[CITY]);
    let path = |name: &str| files.path().join(name);
    std::fs::write(path("cert.pem"), &pair.chain_pem).unwrap();
    std::fs::write(path("key.pem"), &pair.key_pem).unwrap();
    std::fs::create_dir(path("work")).unwrap();
    std::fs::create_dir(path("config")).unwrap();
    let port = ports::free().unwrap();
    // notebook.auth.security: algorithm, salt, hash of password and salt.
    let hash = aws_lc_rs::digest::digest(
        &aws_lc_rs::digest::SHA256,
        format!("{PASSWORD}0f").as_bytes(),
    );
    let hash: String = hash
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let configuration = json!({ "NotebookApp": {
        "password": format!("sha256:0f:{hash}"),
        "certfile": path("cert.pem"),
        "keyfile": path("key.pem"),
        "ip": "127.0.0.1",
        "port": port,
        "port_retries": 0,
        "notebook_dir": path("work"),
        "open_browser": false,
        "allow_root": true,
        // It is asked for by the name of the site, not as localhost.
        "allow_remote_access": true,
    }});
    std::fs::write(
        path("config/jupyter_notebook_config.json"),
        configuration.to_string(),
    )
    .unwrap();
    let program = binaries::debian("jupyter-notebook", "jupyter-notebook").unwrap();
    let mut child = Program::new("jupyter-notebook", program, path("notebook.log"))
        .env("JUPYTER_CONFIG_DIR", path("config"))
        .env("JUPYTER_DATA_DIR", path("data"))
        .env("JUPYTER_RUNTIME_DIR", path("runtime"))
        .env("IPYTHONDIR", path("ipython"))
        .env("HOME", files.path())
        .env("SHELL", "/bin/sh")
        .spawn()
        .unwrap();
    wait::for_port(&mut child, port, Duration::from_secs(60)).unwrap();
    (child, SocketAddr::from(([127, 0, 0, 1], port)))
}

#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    /// The last response in what `curl --include` printed.
    fn read(output: &Output) -> Self {
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let mut rest = &output.stdout[..];
        loop {
            let end = rest
                .windows(4)
                .position(|four| four == b"\r\n\r\n")
                .expect("a head")
                + 4;
            let head = String::from_utf8_lossy(&rest[..end]).into_owned();
            rest = &rest[end..];
            let status = head.split(' ').nth(1).unwrap().parse().unwrap();
            // An interim response, or one that --location has followed.
            if status < 200 || rest.starts_with(b"HTTP/") {
                continue;
            }
            return Self {
                status,
                head: head.to_ascii_lowercase(),
                body: rest.to_vec(),
            };
        }
    }

    fn field(&self, name: &str) -> Option<&str> {
        self.head
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("{self:?}"))
    }
}

#[test]
fn a_person_signs_in_with_a_password_and_is_led_back_to_the_page_they_wanted() {
    let desk = Desk::start();
    let stranger = desk.curl("/tree", &[]);
    assert_eq!(stranger.status, 302);
    let location = stranger.field("location").unwrap();
    assert_eq!(
        location, "/login?next=%2ftree",
        "the redirect stays on the relay's origin"
    );

    let wrong = desk.sign_in("wrong");
    assert_eq!(wrong.status, 401);
    assert_eq!(desk.curl("/api/contents", &[]).status, 403);

    let right = desk.sign_in(PASSWORD);
    assert_eq!(
        (right.status, right.field("location")),
        (302, Some("/api/contents"))
    );
    assert!(
        right.head.contains("set-cookie: username-"),
        "{}",
        right.head
    );
    assert!(
        right.head.contains("httponly") && right.head.contains("secure"),
        "{}",
        right.head
    );
    let contents = desk.curl("/api/contents", &[]);
    assert_eq!(contents.status, 200);
    assert_eq!(contents.json()["type"], "directory");

    let followed = desk.curl("/", &["--location"]);
    assert_eq!(followed.status, 200);
    assert!(String::from_utf8_lossy(&followed.body).contains("/static/"));

    assert_eq!(desk.curl("/logout", &[]).status, 200);
    assert_eq!(desk.curl("/api/contents", &[]).status, 403);
}

#[test]
fn what_is_uploaded_comes_back_byte_for_byte_over_both_protocols() {
    let desk = Desk::start();
    desk.sign_in(PASSWORD);
    // Three megabytes of every byte in changing order.
    let bytes: Vec<u8> = (0..3_000_000_u32)
        .map(|index| (index.wrapping_mul(index) >> 7).to_le_bytes()[0])
        .collect();
    let upload = json!({ "type": "file", "format": "base64", "content": STANDARD.encode(&bytes) });
    let path = "/api/contents/%E8%A8%98%E9%8C%B2.bin";
    let body = desk.path("upload.json");
    std::fs::write(&body, upload.to_string()).unwrap();

    let without_token = desk.curl(
        path,
        &[
            "--request",
            "PUT",
            "--data-binary",
            &format!("@{}", body.display()),
        ],
    );
    assert_eq!(
        without_token.status, 403,
        "the application's own XSRF check must see what it would see directly"
    );

    let stored = desk.call("PUT", path, &upload);
    assert_eq!(stored.status, 201, "{stored:?}");
    // The application names the new file relative to itself.
    assert_eq!(
        stored.field("location"),
        Some("/api/contents/%e8%a8%98%e9%8c%b2.bin")
    );
    assert_eq!(std::fs::read(desk.path("work/記録.bin")).unwrap(), bytes);

    // Files are only for the application's own pages: it compares the referring page with Host.
    let referer = format!("{}/tree", desk.origin());
    for version in ["--http1.1", "--http2"] {
        let file = desk.curl(
            "/files/%E8%A8%98%E9%8C%B2.bin?download=1",
            &[version, "--referer", &referer],
        );
        assert_eq!(file.status, 200);
        assert!(
            file.body == bytes,
            "{version}: {} bytes of {}",
            file.body.len(),
            bytes.len()
        );
        assert!(
            file.field("content-disposition")
                .unwrap()
                .starts_with("attachment")
        );
    }

    let deleted = desk.call("DELETE", path, &Value::Null);
    assert_eq!((deleted.status, deleted.body.len()), (204, 0));
    assert!(!desk.path("work/記録.bin").exists());
}

#[test]
fn a_page_with_its_scripts_and_styles_loads() {
    let desk = Desk::start();
    desk.sign_in(PASSWORD);
    let page = desk.curl("/tree", &["--compressed"]);
    let text = String::from_utf8_lossy(&page.body).into_owned();
    let (mut loaded, mut checked) = (0, 0);
    for link in text
        .split(['"', '\''])
        .filter(|text| text.starts_with("/static/"))
    {
        if link.ends_with('/') || link.contains(['{', ' ']) {
            continue;
        }
        let resource = desk.curl(link, &["--http2"]);
        if resource.status == 404 {
            continue;
        }
        assert_eq!(resource.status, 200, "{link}");
        let length: usize = resource.field("content-length").unwrap().parse().unwrap();
        assert_eq!(resource.body.len(), length, "{link}");
        loaded += 1;
        if let Some(date) = resource.field("last-modified") {
            let known = format!("If-Modified-Since: {date}");
            let unchanged = desk.curl(link, &["--http2", "--header", &known]);
            assert_eq!((unchanged.status, unchanged.body.len()), (304, 0), "{link}");
            checked += 1;
        }
    }
    assert!(
        loaded >= 3 && checked > 0,
        "{loaded} resources, {checked} with a date"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_terminal_answers_over_a_websocket() {
    let desk = Desk::start();
    desk.sign_in(PASSWORD);
    let terminal = desk.call("POST", "/api/terminals", &json!({}));
    assert_eq!(terminal.status, 200, "{terminal:?}");
    let name = terminal.json()["name"].as_str().unwrap().to_owned();
    let mut socket = desk
        .websocket(&format!("/terminals/websocket/{name}"))
        .await;
    // The answer must not be in the question: the terminal echoes what is typed.
    let typed = json!(["stdin", "echo answer-$((40+2))\r"]).to_string();
    socket.send(Message::text(typed)).await.unwrap();
    let mut shown = String::new();
    while !shown.contains("answer-42") {
        let message = tokio::time::timeout(Duration::from_secs(20), socket.next()).await;
        let message = message
            .unwrap_or_else(|_| panic!("nothing more after {shown:?}"))
            .unwrap()
            .unwrap();
        if let Message::Text(text) = message {
            let message: Value = serde_json::from_str(&text).unwrap();
            if message[0] == "stdout" {
                shown.push_str(message[1].as_str().unwrap());
            }
        }
    }
    socket.close(None).await.unwrap();
    let ended = async { while let Some(Ok(_)) = socket.next().await {} };
    tokio::time::timeout(Duration::from_secs(5), ended)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_notebook_computes_over_a_websocket() {
    let desk = Desk::start();
    desk.sign_in(PASSWORD);
    let kernel = desk.call("POST", "/api/kernels", &json!({ "name": "python3" }));
    assert_eq!(kernel.status, 201, "{kernel:?}");
    let id = kernel.json()["id"].as_str().unwrap().to_owned();
    let mut socket = desk
        .websocket(&format!("/api/kernels/{id}/channels?session_id=s1"))
        .await;
    let request = json!({
        "header": { "msg_id": "m1", "msg_type": "execute_request", "username": "", "session": "s1", "version": "5.3", "date": "" },
        "parent_header": {}, "metadata": {}, "channel": "shell", "buffers": [],
        "content": { "code": "6 * 7 * 1000003", "silent": false, "store_history": false,
                     "user_expressions": {}, "allow_stdin": false },
    });
    socket
        .send(Message::text(request.to_string()))
        .await
        .unwrap();
    loop {
        let message = tokio::time::timeout(Duration::from_secs(60), socket.next()).await;
        let message = message.expect("the kernel answers").unwrap().unwrap();
        let Message::Text(text) = message else {
            continue;
        };
        let message: Value = serde_json::from_str(&text).unwrap();
        if message["msg_type"] == "execute_result" {
            assert_eq!(message["content"]["data"]["text/plain"], "42000126");
            break;
        }
    }
    drop(socket);
    assert_eq!(
        desk.call("DELETE", &format!("/api/kernels/{id}"), &Value::Null)
            .status,
        204
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_websocket_from_another_origin_or_without_a_session_is_refused_by_the_application() {
    let desk = Desk::start();
    desk.sign_in(PASSWORD);
    let terminal = desk.call("POST", "/api/terminals", &json!({}));
    let name = terminal.json()["name"].as_str().unwrap().to_owned();
    let url = format!("/terminals/websocket/{name}");
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
    let handshake = |origin: &str| {
        let origin = format!("Origin: {origin}");
        let fields = [
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            key,
            &origin,
        ];
        let mut arguments = vec!["--http1.1"];
        for field in &fields {
            arguments.extend(["--header", field]);
        }
        desk.curl(&url, &arguments).status
    };
    assert_eq!(handshake("https://elsewhere.example"), 403);
    std::fs::remove_file(desk.path("jar")).unwrap();
    assert_eq!(handshake(&desk.origin()), 403);
}
