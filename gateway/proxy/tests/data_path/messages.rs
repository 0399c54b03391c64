//! WebSocket messages through the box, with the real scanner: judged one by one, in order, in both directions.

use std::{
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt, StreamExt};
use gateway_policy::{Check, Grade, Observation, Snapshot, Subject};
use gateway_proxy::{
    InspectionLimits,
    messages::frame::{Head, Opcode, mask},
};
use http::{Request, Response, Version, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use test_harness::clamd::{Clamd, eicar};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message,
        handshake::derive_accept_key,
        protocol::{CloseFrame, Role, frame::coding::CloseCode},
    },
};

use crate::{
    origin::{Origin, Reply, Speaks, text},
    stand::{self, Setup, Stand, now},
    websocket::{BOTH, Socket, open, open_raw},
};

/// What the site heard, message by message.
type Heard = Arc<Mutex<Vec<Message>>>;

/// A site: `/echo` says everything again, `/speak?…` says what it was told to say, `/raw` writes bytes.
async fn site(mut request: Request<Incoming>, heard: Heard, script: Bytes) -> Reply {
    let Some(key) = request.headers().get(header::SEC_WEBSOCKET_KEY) else {
        return text("not a websocket");
    };
    let extensions = request.headers().contains_key("sec-websocket-extensions");
    let accept = derive_accept_key(key.as_bytes());
    let path = request.uri().path().to_owned();
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let mut io = TokioIo::new(upgrade.await.unwrap());
        if path == "/raw" {
            io.write_all(&script).await.unwrap();
            let mut rest = Vec::new();
            let _ = io.read_to_end(&mut rest).await;
            heard.lock().unwrap().push(Message::binary(rest));
            return;
        }
        let mut socket = WebSocketStream::from_raw_socket(io, Role::Server, None).await;
        if path == "/speak" {
            let _ = socket.send(Message::binary(script)).await;
        }
        while let Some(Ok(message)) = socket.next().await {
            heard.lock().unwrap().push(message.clone());
            let echo = path == "/echo" && (message.is_text() || message.is_binary());
            if echo && socket.send(message).await.is_err() {
                break;
            }
        }
    });
    let empty = http_body_util::Full::default().map_err(|never| match never {});
    let mut response = Response::builder()
        .status(101)
        .header("upgrade", "websocket")
        .header("connection", "Upgrade")
        .header("sec-websocket-accept", accept);
    if extensions {
        response = response.header("sec-websocket-extensions", "permessage-deflate");
    }
    response.body(empty.boxed()).unwrap()
}

struct Hall {
    stand: Stand,
    heard: Heard,
    _origin: Origin,
}

impl Hall {
    async fn new(setup: Setup) -> Self {
        Self::saying(setup, Bytes::new()).await
    }

    async fn saying(setup: Setup, script: impl Into<Bytes>) -> Self {
        let heard = Heard::default();
        let (hearing, script) = (Arc::clone(&heard), script.into());
        let behaviour = Arc::new(move |request| {
            Box::pin(site(request, Arc::clone(&hearing), script.clone())) as _
        });
        let authority = &setup.authority;
        let origin = Origin::with(authority, authority, Speaks::Http1, behaviour).await;
        Self {
            stand: setup.start(origin.address),
            heard,
            _origin: origin,
        }
    }

    /// What the site has heard, once it has heard `messages` or two seconds have gone.
    async fn heard(&self, messages: usize) -> Vec<Message> {
        for _ in 0..200 {
            if self.heard.lock().unwrap().len() >= messages {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.heard.lock().unwrap().clone()
    }
}

async fn with_scanner_at(socket: &Path, limits: InspectionLimits) -> Hall {
    let mut setup = Setup::new();
    setup.inspection = Some(stand::inspection_at(socket, limits));
    Hall::new(setup).await
}

/// What the box says last, after which nothing comes.
async fn last_word(socket: &mut Socket) -> (u16, String) {
    let mut word = None;
    let listening = async {
        while let Some(Ok(message)) = socket.next().await {
            if let Message::Close(Some(CloseFrame { code, reason })) = message {
                word = Some((code.into(), reason.to_string()));
            }
        }
    };
    let ended = tokio::time::timeout(Duration::from_secs(20), listening).await;
    ended.expect("the socket ends");
    word.expect("a close with a code")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_infected_message_ends_the_socket_and_reaches_nobody() {
    let hall = Hall::new(Setup::new()).await;
    let infected = [
        Message::binary(eicar()),
        Message::text(String::from_utf8(eicar()).unwrap()),
        Message::text(format!(
            "{{\"note\":\"{}\"}}",
            String::from_utf8(eicar()).unwrap().replace('\\', "\\\\")
        )),
    ];
    for version in BOTH {
        for message in &infected[..2] {
            let mut socket = open(&hall.stand, version, "/echo").await.unwrap();
            socket.send(Message::text("before")).await.unwrap();
            assert_eq!(
                socket.next().await.unwrap().unwrap(),
                Message::text("before")
            );
            socket.send(message.clone()).await.unwrap();
            let _ = socket.send(Message::text("after")).await;
            let (code, reason) = last_word(&mut socket).await;
            assert_eq!((code, reason.as_str()), (1008, "ウイルスが見つかりました"));
        }
    }
    hall.stand.quiet().await;
    let heard = hall.heard(8).await;
    assert_eq!(
        heard.iter().filter(|message| message.is_text()).count(),
        4,
        "before, each time"
    );
    assert!(
        heard
            .iter()
            .all(|message| message.is_close() || message == &Message::text("before"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_infected_message_of_the_site_does_not_reach_the_client() {
    let hall = Hall::saying(Setup::new(), eicar()).await;
    for version in BOTH {
        let mut socket = open(&hall.stand, version, "/speak").await.unwrap();
        let first = socket.next().await.unwrap().unwrap();
        let Message::Close(Some(close)) = first else {
            panic!("{first:?}");
        };
        assert_eq!(close.code, CloseCode::Policy);
    }
}

/// A frame as a client writes it.
fn frame(fin: bool, opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let key = [1, 2, 3, 4];
    let mut bytes = Vec::new();
    let head = Head {
        fin,
        opcode,
        mask: Some(key),
        length: payload.len() as u64,
    };
    head.write(&mut bytes);
    let start = bytes.len();
    bytes.extend_from_slice(payload);
    mask(&mut bytes[start..], key, 0);
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn an_infected_message_in_fragments_is_one_message() {
    let hall = Hall::new(Setup::new()).await;
    let eicar = eicar();
    for version in BOTH {
        let mut io = open_raw(&hall.stand, version, "/echo").await.unwrap();
        let mut bytes = frame(false, Opcode::Binary, &eicar[..10]);
        for byte in &eicar[10..] {
            bytes.extend(frame(true, Opcode::Ping, b"still there?"));
            bytes.extend(frame(false, Opcode::Continuation, &[*byte]));
        }
        bytes.extend(frame(true, Opcode::Continuation, b""));
        for byte in bytes {
            io.write_all(&[byte]).await.unwrap();
        }
        io.flush().await.unwrap();
        let mut answer = Vec::new();
        let _ = io.read_to_end(&mut answer).await;
        let close = [
            &[0x88][..],
            &[2 + u8::try_from("ウイルスが見つかりました".len()).unwrap()],
            &1008_u16.to_be_bytes(),
        ]
        .concat();
        assert!(
            answer.windows(close.len()).any(|window| window == close),
            "{answer:?}"
        );
    }
    let heard = hall.heard(2).await;
    assert!(
        heard.iter().all(|message| !message.is_binary()),
        "{heard:?}"
    );
    assert!(
        heard.iter().any(Message::is_ping),
        "control frames went on meanwhile"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn order_is_kept_and_large_messages_keep_the_size_of_their_frames() {
    let hall = Hall::new(Setup::new()).await;
    for version in BOTH {
        let mut socket = open(&hall.stand, version, "/echo").await.unwrap();
        let large = vec![b'x'; 3_000_000];
        let sent: Vec<Message> = (0..200)
            .map(|number| match number % 40 {
                0 => Message::binary([&large[..], number.to_string().as_bytes()].concat()),
                _ => Message::text(format!("{number} 番")),
            })
            .collect();
        let (mut speak, mut listen) = socket.by_ref().split();
        let speaking = async {
            for message in &sent {
                speak.send(message.clone()).await.unwrap();
            }
        };
        let listening = async {
            for message in &sent {
                assert!(listen.next().await.unwrap().unwrap() == *message);
            }
        };
        futures_util::future::join(speaking, listening).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pings_are_answered_by_the_other_end() {
    let hall = Hall::new(Setup::new()).await;
    for version in BOTH {
        let mut socket = open(&hall.stand, version, "/echo").await.unwrap();
        socket.send(Message::Ping("alive?".into())).await.unwrap();
        assert_eq!(
            socket.next().await.unwrap().unwrap(),
            Message::Pong("alive?".into())
        );
    }
    assert_eq!(
        hall.heard(2)
            .await
            .iter()
            .filter(|message| message.is_ping())
            .count(),
        2
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_close_passes_with_its_code_and_reason_and_both_ends_see_the_end() {
    let hall = Hall::new(Setup::new()).await;
    for version in BOTH {
        let mut socket = open(&hall.stand, version, "/echo").await.unwrap();
        let close = CloseFrame {
            code: CloseCode::from(4001),
            reason: "さようなら".into(),
        };
        socket.close(Some(close.clone())).await.unwrap();
        let answer = last_word(&mut socket).await;
        assert_eq!(answer, (4001, "さようなら".to_owned()));
    }
    assert_eq!(hall.heard(2).await.len(), 2);
    hall.stand.quiet().await;
}

/// Bytes of a client that breaks the protocol, and the code it is told.
fn broken() -> Vec<(&'static str, Vec<u8>, u16)> {
    let mut unmasked = Vec::new();
    Head {
        fin: true,
        opcode: Opcode::Text,
        mask: None,
        length: 0,
    }
    .write(&mut unmasked);
    let mut compressed = frame(true, Opcode::Text, b"x");
    compressed[0] |= 0x40;
    let mut reserved = frame(true, Opcode::Text, b"x");
    reserved[0] = 0x83;
    let mut long = frame(true, Opcode::Binary, b"xxxxx");
    long.splice(1..2, [0x80 | 126, 0, 5]);
    let mut huge = frame(true, Opcode::Binary, b"");
    huge.splice(1..2, [0x80 | 127, 0, 0, 0, 1, 0, 0, 0, 0]);
    vec![
        ("unmasked", unmasked, 1002),
        ("compressed", compressed, 1002),
        ("reserved opcode", reserved, 1002),
        ("a length too long", long, 1002),
        ("four gigabytes", huge, 1009),
        ("a ping in pieces", frame(false, Opcode::Ping, b"x"), 1002),
        (
            "a ping of 126 bytes",
            frame(true, Opcode::Ping, &[0; 126]),
            1002,
        ),
        (
            "a continuation of nothing",
            frame(true, Opcode::Continuation, b"x"),
            1002,
        ),
        (
            "a message in a message",
            [
                frame(false, Opcode::Text, b"x"),
                frame(true, Opcode::Text, b"x"),
            ]
            .concat(),
            1002,
        ),
        ("no text", frame(true, Opcode::Text, b"\xff"), 1007),
        (
            "half a close code",
            frame(true, Opcode::Close, b"\x03"),
            1002,
        ),
        (
            "a close code of nobody's",
            frame(true, Opcode::Close, &1005_u16.to_be_bytes()),
            1002,
        ),
        (
            "a close reason that is no text",
            frame(true, Opcode::Close, b"\x03\xe8\xff"),
            1007,
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_breaks_the_protocol_is_told_how_and_the_site_hears_nothing_of_it() {
    let hall = Hall::new(Setup::new()).await;
    for version in BOTH {
        for (name, bytes, code) in broken() {
            let mut io = open_raw(&hall.stand, version, "/echo").await.unwrap();
            io.write_all(&bytes).await.unwrap();
            let mut answer = Vec::new();
            let _ = io.read_to_end(&mut answer).await;
            assert_eq!(
                answer,
                [&[0x88, 2][..], &u16::to_be_bytes(code)].concat(),
                "{name}"
            );
        }
    }
    hall.stand.quiet().await;
    let heard = hall.heard(1).await;
    let away = |message: &Message| matches!(message, Message::Close(Some(close)) if close.code == CloseCode::Away);
    assert!(heard.iter().all(away), "{heard:?}");
    assert_eq!(heard.len(), 2 * broken().len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_that_breaks_the_protocol_is_told_so_and_the_client_learns_that_it_is_over() {
    let mut compressed = Vec::new();
    Head {
        fin: true,
        opcode: Opcode::Text,
        mask: None,
        length: 1,
    }
    .write(&mut compressed);
    compressed[0] |= 0x40;
    compressed.push(b'x');
    let hall = Hall::saying(Setup::new(), compressed).await;
    let mut socket = open(&hall.stand, Version::HTTP_11, "/raw").await.unwrap();
    assert_eq!(last_word(&mut socket).await.0, 1011);
    let heard = hall.heard(1).await.remove(0).into_data();
    let mut heard = BytesMut::from(heard);
    let (head, length) = Head::parse(&heard, gateway_proxy::messages::frame::Sender::Client)
        .unwrap()
        .unwrap();
    assert_eq!(head.opcode, Opcode::Close);
    mask(&mut heard[length..], head.mask.unwrap(), 0);
    assert_eq!(heard[length..length + 2], 1002_u16.to_be_bytes());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_extension_that_nobody_asked_for_is_no_websocket() {
    // The client's wish does not reach the site: were it to, the site would answer with an extension, and that is refused.
    let hall = Hall::new(Setup::new()).await;
    for version in BOTH {
        let mut socket = open(&hall.stand, version, "/echo").await.unwrap();
        socket.send(Message::text("plain")).await.unwrap();
        assert_eq!(
            socket.next().await.unwrap().unwrap(),
            Message::text("plain")
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_over_the_bound_is_refused_by_its_head() {
    let mut setup = Setup::new();
    setup.limits.message_bytes = 1000;
    let hall = Hall::new(setup).await;
    for version in BOTH {
        let mut socket = open(&hall.stand, version, "/echo").await.unwrap();
        socket.send(Message::binary(vec![0; 1000])).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap().len(), 1000);
        let _ = socket.send(Message::binary(vec![0; 1001])).await;
        assert_eq!(last_word(&mut socket).await.0, 1009);
    }
}

/// The scanner has failed for a minute: files are stopped, texts may pass.
fn scanner_failing() -> Snapshot {
    let failing = Observation::Fail {
        grade: Grade::Major,
        since: Some(now().plus(-60)),
    };
    let mut ledger = stand::good_ledger();
    ledger.observe(
        Subject::Box,
        stand::measured(Check::AvAlive, failing),
        now(),
    );
    stand::snapshot(&ledger)
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_scanner_a_message_waits_and_the_socket_ends() {
    let directory = tempfile::tempdir().unwrap();
    let mut clamd = Clamd::start(directory.path()).unwrap();
    let hall = with_scanner_at(&clamd.socket(), InspectionLimits::default()).await;
    let mut socket = open(&hall.stand, Version::HTTP_2, "/echo").await.unwrap();
    socket.send(Message::text("known")).await.unwrap();
    socket.next().await.unwrap().unwrap();
    clamd.kill();
    // What is known to be clean needs no scanner.
    socket.send(Message::text("known")).await.unwrap();
    socket.next().await.unwrap().unwrap();
    let since = Instant::now();
    // No text: short texts may pass for a quarter of an hour (compliance, AV-ALIVE).
    socket
        .send(Message::binary(b"\x01unknown".to_vec()))
        .await
        .unwrap();
    assert_eq!(
        last_word(&mut socket).await,
        (1013, "ウイルス検査が止まっています".to_owned())
    );
    let waited = since.elapsed();
    assert!(
        (Duration::from_secs(4)..Duration::from_secs(8)).contains(&waited),
        "{waited:?}"
    );

    // It comes back while a message waits.
    let mut socket = open(&hall.stand, Version::HTTP_2, "/echo").await.unwrap();
    socket
        .send(Message::binary(b"\x01later".to_vec()))
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let restarted = tokio::task::spawn_blocking(move || {
        clamd.restart().unwrap();
        clamd
    });
    assert_eq!(
        socket.next().await.unwrap().unwrap(),
        Message::binary(b"\x01later".to_vec())
    );
    drop(restarted.await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_scanner_is_known_to_fail_short_texts_pass_and_files_do_not() {
    let directory = tempfile::tempdir().unwrap();
    let nobody = directory.path().join("nobody");
    let hall = with_scanner_at(&nobody, InspectionLimits::default()).await;
    hall.stand.snapshot.store(Arc::new(scanner_failing()));
    for version in BOTH {
        let mut socket = open(&hall.stand, version, "/echo").await.unwrap();
        socket
            .send(Message::text("お変わりありません"))
            .await
            .unwrap();
        assert_eq!(
            socket.next().await.unwrap().unwrap(),
            Message::text("お変わりありません")
        );
        socket
            .send(Message::text("x".repeat(64 * 1024 + 1)))
            .await
            .unwrap();
        assert_eq!(last_word(&mut socket).await.0, 1013);

        let mut socket = open(&hall.stand, version, "/echo").await.unwrap();
        socket
            .send(Message::binary("a file, for all we know"))
            .await
            .unwrap();
        assert_eq!(
            last_word(&mut socket).await.0,
            1008,
            "the gate lets no file through"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_finds_no_memory_ends_its_own_socket_only() {
    let limits = InspectionLimits {
        held_bytes: 1 << 20,
        room_wait: Duration::from_millis(200),
        ..InspectionLimits::default()
    };
    let mut setup = Setup::new();
    setup.inspection = Some(stand::inspection(limits));
    let hall = Hall::new(setup).await;
    let mut modest = open(&hall.stand, Version::HTTP_2, "/echo").await.unwrap();
    let mut greedy = open(&hall.stand, Version::HTTP_2, "/echo").await.unwrap();
    let _ = greedy.send(Message::binary(vec![0; 8 << 20])).await;
    assert_eq!(last_word(&mut greedy).await.0, 1013);
    modest.send(Message::text("still here")).await.unwrap();
    assert_eq!(
        modest.next().await.unwrap().unwrap(),
        Message::text("still here")
    );
}
