//! The WebSocket of an open page, in both directions.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::json;
use test_harness::city::PORTAL_HOST;
use test_harness::clamd::eicar;
use test_harness::wait;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

use crate::office::{Office, contains, office};

const SOON: Duration = Duration::from_secs(60);

type Socket = WebSocketStream<tokio_rustls::client::TlsStream<TcpStream>>;

/// What an open page does: a WebSocket with the cookies of whoever is signed in.
async fn open(office: &Office) -> Socket {
    let port = office.facility.gateway.https_port();
    let mut roots = RootCertStore::empty();
    let anchor = CertificateDer::from_pem_file(office.facility.city.ca_file()).unwrap();
    roots.add(anchor).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let tcp = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let name = ServerName::try_from(PORTAL_HOST).unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let tls = connector.connect(name, tcp).await.unwrap();
    let mut request = format!("wss://{PORTAL_HOST}:{port}/staff/live")
        .into_client_request()
        .unwrap();
    let fields = request.headers_mut();
    fields.insert("cookie", office.cookies().parse().unwrap());
    let origin = format!("https://{PORTAL_HOST}:{port}");
    fields.insert("origin", origin.parse().unwrap());
    let (socket, _) = tokio_tungstenite::client_async(request, tls).await.unwrap();
    socket
}

/// Everything that comes until the end; the code with which it ends, and the bytes before.
async fn until_closed(socket: &mut Socket) -> (Option<u16>, Vec<u8>) {
    let mut came = Vec::new();
    let mut code = None;
    let reading = async {
        while let Some(Ok(message)) = socket.next().await {
            match message {
                Message::Close(frame) => code = frame.map(|frame| frame.code.into()),
                other => came.extend_from_slice(&other.into_data()),
            }
        }
    };
    tokio::time::timeout(SOON, reading).await.expect("it ends");
    (code, came)
}

fn frame(data: Data, last: bool, bytes: &[u8]) -> Message {
    Message::Frame(Frame::message(bytes.to_vec(), OpCode::Data(data), last))
}

#[tokio::test(flavor = "multi_thread")]
#[allow(
    clippy::await_holding_lock,
    reason = "one test at a time, each on a runtime of its own"
)]
async fn no_virus_passes_in_a_websocket_message_in_either_direction() {
    let office = office();
    let virus = eicar();
    let text = String::from_utf8(virus.clone()).unwrap();
    let fragments = vec![
        frame(Data::Binary, false, &virus[..20]),
        frame(Data::Continue, false, &virus[20..50]),
        frame(Data::Continue, true, &virus[50..]),
    ];
    let said = [
        ("text", vec![Message::text(text.clone())]),
        ("binary", vec![Message::binary(virus.clone())]),
        ("in fragments", fragments),
    ];
    for (case, messages) in said {
        let mut socket = open(&office).await;
        let before = office.counted().messages;
        socket
            .send(Message::text("お変わりありませんか"))
            .await
            .unwrap();
        wait::until("an ordinary message at the city", SOON, || {
            (office.counted().messages == before + 1).then_some(())
        })
        .unwrap();
        for message in messages {
            // The box may have closed it already.
            let _ = socket.send(message).await;
        }
        let (code, came) = until_closed(&mut socket).await;
        assert_eq!(code, Some(1008), "{case}");
        assert!(!contains(&came, &virus[..16]), "{case}");
        assert_eq!(office.counted().messages, before + 1, "{case}");
    }

    let mut socket = open(&office).await;
    let says = |text: &str| {
        let said = json!({ "text": text });
        let pages = office.facility.city.control("say", &said).unwrap();
        pages["pages"].as_u64().unwrap()
    };
    wait::until("the page at the city", SOON, || {
        (says("体温は36.5度です") == 1).then_some(())
    })
    .unwrap();
    let ordinary = tokio::time::timeout(SOON, async {
        loop {
            match socket.next().await.unwrap().unwrap() {
                Message::Text(text) => return text.to_string(),
                _ => continue,
            }
        }
    });
    assert_eq!(ordinary.await.unwrap(), "体温は36.5度です");
    assert_eq!(says(&text), 1);
    let (code, came) = until_closed(&mut socket).await;
    assert_eq!(code, Some(1008));
    assert!(!contains(&came, &virus[..16]), "not a piece of it came");
}
