use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use gateway_tuf::{Line, Medium};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;

/// A relay of a directory, with the updater's own end of the line.
struct Relay {
    folder: tempfile::TempDir,
    socket: PathBuf,
    line: Line,
}

impl Relay {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let targets = folder.path().join("copy/targets/releases/1.2");
        std::fs::create_dir_all(&targets).unwrap();
        std::fs::create_dir_all(folder.path().join("copy/metadata")).unwrap();
        std::fs::write(targets.join("root.img"), content()).unwrap();
        std::fs::write(folder.path().join("copy/metadata/timestamp.json"), b"{}").unwrap();
        std::fs::write(folder.path().join("secret.json"), b"secret").unwrap();
        let socket = folder.path().join("channel.sock");
        let copy = folder.path().join("copy");
        let source: Source = Arc::new(move || Arc::new(Medium::new(&copy)));
        tokio::spawn(serve(control::open(&socket).unwrap(), source));
        Self {
            line: Line::new(&socket),
            socket,
            folder,
        }
    }

    async fn raw(&self, request: &str) -> String {
        let mut stream = UnixStream::connect(&self.socket).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }
}

fn content() -> Vec<u8> {
    (0..700_000_u32)
        .map(|n| u8::try_from(n % 251).unwrap())
        .collect()
}

async fn collected(body: Option<gateway_tuf::Body>) -> Option<(u64, Vec<u8>)> {
    let mut body = body?;
    let mut out = Vec::new();
    while let Some(piece) = body.pieces.next().await.unwrap() {
        out.extend_from_slice(&piece);
    }
    Some((body.starts_at, out))
}

#[tokio::test]
async fn files_come_through_whole_and_from_an_offset() {
    let relay = Relay::new();
    let name = "releases/1.2/root.img";
    let whole = collected(relay.line.target(name, 0).await.unwrap()).await;
    assert_eq!(whole.unwrap(), (0, content()));
    let rest = collected(relay.line.target(name, 300_000).await.unwrap()).await;
    assert_eq!(rest.unwrap(), (300_000, content()[300_000..].to_vec()));
    let metadata = collected(relay.line.metadata("timestamp.json").await.unwrap()).await;
    assert_eq!(metadata.unwrap(), (0, b"{}".to_vec()));
    assert!(relay.line.metadata("2.root.json").await.unwrap().is_none());
}

#[tokio::test]
async fn names_that_lead_elsewhere_are_refused_with_an_id() {
    let relay = Relay::new();
    for path in [
        "/tuf/metadata/../../secret.json",
        "/tuf/metadata/..%2f..%2fsecret.json",
        "/tuf/targets/../../secret.json",
        "/tuf/targets//etc/passwd",
        "/tuf/metadata/timestamp.json?x=1",
        "/",
        "/tuf/",
    ] {
        let answer = relay
            .raw(&format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n"))
            .await;
        // A percent sign may stand in a role's name; such a file is simply not there.
        let refused = answer.contains("RELAY-NAME") || answer.contains("RELAY-MISSING");
        assert!(
            refused && !answer.contains("secret\r\n"),
            "{path}: {answer}"
        );
        assert!(answer.contains("application/problem+json"), "{answer}");
    }
    assert!(relay.folder.path().join("secret.json").exists());
}

#[tokio::test]
async fn only_get_and_only_ranges_to_the_end_are_answered() {
    let relay = Relay::new();
    for method in ["HEAD", "POST", "PUT", "DELETE"] {
        let request = format!(
            "{method} /tuf/metadata/timestamp.json HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n"
        );
        let answer = relay.raw(&request).await;
        assert!(answer.starts_with("HTTP/1.1 405"), "{method}: {answer}");
    }
    for range in [
        "bytes=0-5",
        "bytes=-5",
        "bytes=5-,7-",
        "lines=1-",
        "bytes=99999999999999999999-",
    ] {
        let request = format!(
            "GET /tuf/targets/releases/1.2/root.img HTTP/1.1\r\nhost: x\r\nrange: {range}\r\n\r\n"
        );
        let answer = relay.raw(&request).await;
        assert!(answer.contains("RELAY-RANGE"), "{range}: {answer}");
    }
}

#[tokio::test]
async fn the_socket_is_for_its_group_only() {
    let relay = Relay::new();
    let mode = std::fs::metadata(&relay.socket)
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o660);
}

#[tokio::test]
async fn without_a_certificate_the_updater_is_told_so() {
    let folder = tempfile::tempdir().unwrap();
    let endpoint = Endpoint {
        host: "city.example".to_owned(),
        port: 443,
        connect: None,
    };
    let (_keeps, tls) = watch::channel(None);
    let source: Source = Arc::new(move || {
        let city = City::new(endpoint.clone(), tls.clone(), Timeouts::default());
        Arc::new(city)
    });
    let socket = folder.path().join("channel.sock");
    tokio::spawn(serve(control::open(&socket).unwrap(), source));
    let refused = Line::new(&socket)
        .metadata("timestamp.json")
        .await
        .unwrap_err();
    assert!(matches!(refused, TransportError::Relay { id } if id == "RELAY-CERTIFICATE"));
}

#[tokio::test]
async fn somebody_who_stalls_does_not_stop_the_others() {
    let relay = Relay::new();
    let _stalls = UnixStream::connect(&relay.socket).await.unwrap();
    let answered = relay.line.metadata("timestamp.json").await.unwrap();
    assert!(collected(answered).await.is_some());
}
