//! Devices: known by their certificate, whatever the protocol, and cut off with everything they have open.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use bytes::Bytes;
use gateway_policy::{DEVICE_CHECKS, DeviceId, DeviceStanding, Observation, Subject};
use gateway_proxy::{DeviceTrust, Running};
use http::{Request, Response, Version, header};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use rustls::{
    ClientConfig, HandshakeKind, RootCertStore, SignatureScheme, SupportedProtocolVersion,
    client::{ResolvesClientCert, Resumption},
    pki_types::{CertificateDer, ServerName},
    sign::CertifiedKey,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    client::{Answer, Client, full, read},
    origin::{Origin, Reply, Speaks},
    stand::{self, Authority, CITY, CONSOLE, Pair, Setup, Stand, nobody},
};

const PC: DeviceId = DeviceId([0x11; 16]);
const TABLET: DeviceId = DeviceId([0x22; 16]);
const BOTH: [Version; 2] = [Version::HTTP_11, Version::HTTP_2];

/// Two registered devices, and how the box tells them apart: by the very certificate.
struct Register {
    authority: Authority,
    pc: Pair,
    tablet: Pair,
}

impl Register {
    fn new() -> Self {
        let authority = Authority::new("devices of this box");
        let (pc, tablet) = (authority.client("pc"), authority.client("tablet"));
        Self {
            authority,
            pc,
            tablet,
        }
    }

    fn trust(&self, asks: bool) -> DeviceTrust {
        let known = [(PC, &self.pc), (TABLET, &self.tablet)].map(|(id, pair)| {
            let leaf = pair.chain[0].clone();
            (leaf, id)
        });
        DeviceTrust {
            authorities: if asks {
                vec![self.authority.der()]
            } else {
                Vec::new()
            },
            identify: Arc::new(move |chain| {
                let (_, id) = known.iter().find(|(leaf, _)| chain.first() == Some(leaf))?;
                Some(*id)
            }),
            seen: Arc::new(|_, _| ()),
        }
    }

    fn setup(&self) -> Setup {
        let mut setup = Setup::new();
        setup.devices = self.trust(true);
        setup.limits.tunnel_check = Duration::from_millis(100);
        setup
    }
}

/// Shows a certificate to whoever asks, and remembers which authorities were named.
#[derive(Debug)]
struct Shows {
    key: Option<Arc<CertifiedKey>>,
    asked: Mutex<Vec<usize>>,
}

impl ResolvesClientCert for Shows {
    fn resolve(&self, hints: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.asked.lock().unwrap().push(hints.len());
        self.key.clone()
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// One browser: its certificate, its session tickets.
struct Browser {
    shows: Arc<Shows>,
    config: ClientConfig,
}

impl Browser {
    fn new(stand: &Stand, pair: Option<&Pair>) -> Self {
        Self::speaking(stand, pair, rustls::ALL_VERSIONS)
    }

    fn speaking(
        stand: &Stand,
        pair: Option<&Pair>,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Self {
        let certified = |pair: &Pair| {
            let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&pair.key).unwrap();
            Arc::new(CertifiedKey::new(pair.chain.clone(), key))
        };
        let shows = Arc::new(Shows {
            key: pair.map(certified),
            asked: Mutex::default(),
        });
        let mut roots = RootCertStore::empty();
        roots.add(stand.authority.der()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_client_cert_resolver(Arc::clone(&shows) as _);
        config.resumption = Resumption::in_memory_sessions(16);
        Self { shows, config }
    }

    fn asked(&self) -> Vec<usize> {
        std::mem::take(&mut self.shows.asked.lock().unwrap())
    }

    async fn over<T>(
        &self,
        io: T,
        version: Version,
        host: &'static str,
    ) -> std::io::Result<TlsStream<T>>
    where
        T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    {
        let mut config = self.config.clone();
        config.alpn_protocols = match version {
            Version::HTTP_2 => vec![b"h2".to_vec()],
            _ => vec![b"http/1.1".to_vec()],
        };
        let connector = TlsConnector::from(Arc::new(config));
        connector
            .connect(ServerName::try_from(host).unwrap(), io)
            .await
    }

    /// The connection, and whether an earlier session was resumed.
    async fn connect(&self, stand: &Stand, version: Version, host: &'static str) -> (Client, bool) {
        let tcp = TcpStream::connect(stand.https).await.unwrap();
        let tls = self.over(tcp, version, host).await.unwrap();
        let resumed = tls.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed);
        (Client::over(tls, version, stand.https).await, resumed)
    }

    /// Who the box takes us for.
    async fn seen_as(&self, stand: &Stand, version: Version) -> (String, bool) {
        let (mut client, resumed) = self.connect(stand, version, CONSOLE).await;
        let answer = page(&mut client).await;
        (answer.header("x-device").to_owned(), resumed)
    }
}

async fn page(client: &mut Client) -> Answer {
    let request = client.request("GET", CONSOLE, "/").body(full("")).unwrap();
    client.answer(request).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_is_known_by_its_certificate_on_a_first_and_on_a_resumed_session() {
    let register = Register::new();
    let stand = register.setup().start(nobody());
    for tls in [&rustls::version::TLS13, &rustls::version::TLS12] {
        for version in BOTH {
            let browser = Browser::speaking(&stand, Some(&register.pc), &[tls]);
            let first = browser.seen_as(&stand, version).await;
            assert_eq!(first, (PC.to_string(), false), "{tls:?}");
            assert_eq!(browser.asked(), [1], "one authority is named");
            let again = browser.seen_as(&stand, version).await;
            assert_eq!(again, (PC.to_string(), true), "{tls:?}");
            assert!(browser.asked().is_empty(), "not asked again");
        }
    }
    let other = Browser::new(&stand, Some(&register.tablet));
    assert_eq!(
        other.seen_as(&stand, Version::HTTP_2).await.0,
        TABLET.to_string()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_has_no_certificate_or_a_foreign_one_gets_pages_and_no_name() {
    let register = Register::new();
    let stand = register.setup().start(nobody());
    let stranger = Authority::new("somebody else").client("pc");
    let unregistered = register.authority.client("pc");
    for pair in [None, Some(&stranger), Some(&unregistered)] {
        for version in BOTH {
            let browser = Browser::new(&stand, pair);
            assert_eq!(browser.seen_as(&stand, version).await.0, "none");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_without_its_key_opens_no_connection() {
    let register = Register::new();
    let stand = register.setup().start(nobody());
    let stolen = Pair {
        chain: register.pc.chain.clone(),
        key: register.tablet.key.clone_key(),
        chain_pem: String::new(),
        key_pem: String::new(),
    };
    for tls in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let browser = Browser::speaking(&stand, Some(&stolen), &[tls]);
        let tcp = TcpStream::connect(stand.https).await.unwrap();
        let refused = match browser.over(tcp, Version::HTTP_11, CONSOLE).await {
            Err(error) => error,
            // In TLS 1.3 the client is done before the server has looked.
            Ok(mut tls) => tls.read(&mut [0]).await.unwrap_err(),
        };
        assert!(refused.to_string().contains("DecryptError"), "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endless_chain_is_not_kept() {
    let register = Register::new();
    let stand = register.setup().start(nobody());
    let mut long = register.authority.client("pc");
    long.chain.extend(vec![register.authority.der(); 8]);
    let browser = Browser::new(&stand, Some(&long));
    let tcp = TcpStream::connect(stand.https).await.unwrap();
    let mut tls = browser.over(tcp, Version::HTTP_11, CONSOLE).await.unwrap();
    assert!(tls.read(&mut [0]).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_asked_while_there_is_no_authority_and_everybody_anew_once_there_is() {
    let register = Register::new();
    let mut setup = register.setup();
    setup.devices = register.trust(false);
    let stand = setup.start(nobody());
    let browser = Browser::new(&stand, Some(&register.pc));
    assert_eq!(
        browser.seen_as(&stand, Version::HTTP_2).await,
        ("none".to_owned(), false)
    );
    assert_eq!(
        browser.seen_as(&stand, Version::HTTP_2).await,
        ("none".to_owned(), true)
    );
    assert!(browser.asked().is_empty());

    let rubbish = CertificateDer::from(b"rubbish".to_vec());
    assert!(stand.running().set_device_authorities(&[rubbish]).is_err());
    let authority = register.authority.der();
    stand
        .running()
        .set_device_authorities(&[authority])
        .unwrap();
    let known = browser.seen_as(&stand, Version::HTTP_2).await;
    assert_eq!(
        known,
        (PC.to_string(), false),
        "the old session is not resumed"
    );
    assert_eq!(browser.asked(), [1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_is_known_inside_a_connect_tunnel_by_what_it_shows_there() {
    let register = Register::new();
    let stand = register.setup().start(nobody());
    for (pair, name) in [
        (Some(&register.pc), PC.to_string()),
        (None, "none".to_owned()),
    ] {
        let mut tcp = TcpStream::connect(stand.http).await.unwrap();
        let connect = format!("CONNECT {CONSOLE}:443 HTTP/1.1\r\nHost: {CONSOLE}:443\r\n\r\n");
        tcp.write_all(connect.as_bytes()).await.unwrap();
        let mut head = [0; 1024];
        let read = tcp.read(&mut head).await.unwrap();
        assert!(head[..read].starts_with(b"HTTP/1.1 200"));
        let browser = Browser::new(&stand, pair);
        let tls = browser.over(tcp, Version::HTTP_2, CONSOLE).await.unwrap();
        let mut client = Client::over(tls, Version::HTTP_2, stand.https).await;
        assert_eq!(page(&mut client).await.header("x-device"), name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_city_sees_a_device_under_one_name_and_not_its_id() {
    let register = Register::new();
    let setup = register.setup();
    let origin = Origin::start(&setup.authority, Speaks::Http1).await;
    let stand = setup.start(origin.address);
    let mut nodes = Vec::new();
    for pair in [
        Some(&register.pc),
        Some(&register.pc),
        Some(&register.tablet),
        None,
    ] {
        let browser = Browser::new(&stand, pair);
        let (mut client, _) = browser.connect(&stand, Version::HTTP_2, CITY).await;
        let answer = client.get("/head").await;
        let line = answer
            .text()
            .lines()
            .find(|line| line.starts_with("forwarded: "))
            .unwrap();
        assert!(!line.contains(&PC.to_string()));
        nodes.push(line.to_owned());
    }
    assert_eq!(nodes[0], nodes[1]);
    nodes.sort();
    nodes.dedup();
    assert_eq!(nodes.len(), 3);
}

/// Starts answering, and never ends.
async fn endless(request: Request<Incoming>) -> Reply {
    let events = request.uri().path() == "/events";
    let frames = futures_util::stream::unfold(0, |count| async move {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let event = format!("id: {count}\ndata: {count}\n\n");
        Some((Ok(Frame::data(Bytes::from(event))), count + 1))
    });
    let mut response = Response::new(BodyExt::boxed(StreamBody::new(frames)));
    if events {
        let kind = "text/event-stream".parse().unwrap();
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
    }
    response
}

/// What a device has open, and whether it ends in time.
struct Open {
    client: Client,
    events: Incoming,
    download: tokio::task::JoinHandle<hyper::Result<Answer>>,
    idle: TlsStream<TcpStream>,
}

impl Open {
    async fn by(browser: &Browser, stand: &Stand, version: Version) -> Self {
        let (mut client, _) = browser.connect(stand, version, CITY).await;
        let request = client
            .request("GET", CITY, "/events")
            .header("accept", "text/event-stream")
            .body(full(""))
            .unwrap();
        let mut events = client.send(request).await.unwrap().into_body();
        events.frame().await.unwrap().unwrap();

        let (mut downloading, _) = browser.connect(stand, version, CITY).await;
        let download = tokio::spawn(async move {
            let request = downloading
                .request("GET", CITY, "/endless")
                .body(full(""))
                .unwrap();
            read(downloading.send(request).await?).await
        });
        let tcp = TcpStream::connect(stand.https).await.unwrap();
        let idle = browser.over(tcp, version, CITY).await.unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
        Self {
            client,
            events,
            download,
            idle,
        }
    }

    async fn ends(mut self) {
        let all = async {
            while let Some(Ok(_)) = self.events.frame().await {}
            assert!(!matches!(self.download.await.unwrap(), Ok(answer) if answer.status == 200));
            let mut rest = Vec::new();
            let _ = self.idle.read_to_end(&mut rest).await;
            let request = self
                .client
                .request("GET", CITY, "/head")
                .body(full(""))
                .unwrap();
            assert!(
                self.client.send(request).await.is_err(),
                "the connection is gone"
            );
        };
        tokio::time::timeout(Duration::from_secs(2), all)
            .await
            .expect("all of it ends");
    }

    async fn goes_on(&mut self) {
        for _ in 0..5 {
            self.events.frame().await.unwrap().unwrap();
        }
        assert!(!self.download.is_finished());
    }
}

async fn stand_with_streams(register: &Register) -> (Stand, Origin) {
    let setup = register.setup();
    let behaviour = Arc::new(|request| Box::pin(endless(request)) as _);
    let origin = Origin::with(&setup.authority, &setup.authority, Speaks::Http1, behaviour).await;
    (setup.start(origin.address), origin)
}

fn cut(running: &Running, device: DeviceId) -> Instant {
    running.cut(device);
    Instant::now()
}

#[tokio::test(flavor = "multi_thread")]
async fn cutting_a_device_ends_all_it_has_open_and_nothing_of_another() {
    let register = Register::new();
    let (stand, _origin) = stand_with_streams(&register).await;
    for version in BOTH {
        let pc = Browser::new(&stand, Some(&register.pc));
        let tablet = Browser::new(&stand, Some(&register.tablet));
        let ending = Open::by(&pc, &stand, version).await;
        let mut staying = Open::by(&tablet, &stand, version).await;
        let since = cut(stand.running(), PC);
        ending.ends().await;
        assert!(
            since.elapsed() < Duration::from_secs(2),
            "{:?}",
            since.elapsed()
        );
        staying.goes_on().await;
        // It may come back; what it is told then is the gate's business.
        assert_eq!(pc.seen_as(&stand, version).await.0, PC.to_string());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_under_way_ends_when_the_gate_turns_and_the_public_part_goes_on() {
    let register = Register::new();
    let (stand, _origin) = stand_with_streams(&register).await;
    for version in BOTH {
        let browser = Browser::new(&stand, Some(&register.pc));
        let well = stand.snapshot.load_full();
        let mut open = Open::by(&browser, &stand, version).await;
        stand
            .snapshot
            .store(Arc::new(gateway_policy::Snapshot::nothing_known(
                stand::now(),
            )));
        let ended = async { while let Some(Ok(_)) = open.events.frame().await {} };
        tokio::time::timeout(Duration::from_secs(2), ended)
            .await
            .expect("the events end");
        let download = tokio::time::timeout(Duration::from_secs(2), open.download).await;
        let refused = download.expect("the download ends").unwrap().unwrap();
        assert_eq!(refused.status, 403, "with a page that says why");
        let (mut client, _) = browser.connect(&stand, version, CONSOLE).await;
        assert_eq!(page(&mut client).await.status, 200);
        stand.snapshot.store(well);
    }
}

/// Both devices registered and in order; the PC revoked or not.
fn registered(revoked: bool) -> gateway_policy::Snapshot {
    let mut ledger = stand::good_ledger();
    let standing = |id, revoked| DeviceStanding {
        id,
        revoked,
        manager: false,
    };
    let revoked = revoked.then(stand::now);
    ledger.set_devices(
        &[standing(PC, revoked), standing(TABLET, None)],
        stand::now(),
    );
    for device in [PC, TABLET] {
        for check in DEVICE_CHECKS {
            let seen = stand::measured(check, Observation::Pass);
            ledger.observe(Subject::Device(device), seen, stand::now());
        }
    }
    stand::snapshot(&ledger)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_a_snapshot_shows_as_revoked_is_cut_and_comes_back_to_a_page_that_says_so() {
    let register = Register::new();
    let (stand, _origin) = stand_with_streams(&register).await;
    for version in BOTH {
        stand.snapshot.store(Arc::new(registered(false)));
        let pc = Browser::new(&stand, Some(&register.pc));
        let tablet = Browser::new(&stand, Some(&register.tablet));
        let ending = Open::by(&pc, &stand, version).await;
        let mut staying = Open::by(&tablet, &stand, version).await;
        stand.snapshot.store(Arc::new(registered(true)));
        ending.ends().await;
        staying.goes_on().await;

        // On a session from before, and on a connection that is not cut again.
        let (mut client, resumed) = pc.connect(&stand, version, CITY).await;
        assert!(resumed);
        for _ in 0..3 {
            let answer = client.get("/head").await;
            assert_eq!(answer.status, 403);
            assert!(
                answer.header("proxy-status").contains("DEVICE-REVOKED"),
                "{answer:?}"
            );
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        let (mut client, _) = pc.connect(&stand, version, CONSOLE).await;
        assert_eq!(page(&mut client).await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_under_way_ends_with_a_page_when_the_gate_turns() {
    let register = Register::new();
    let (stand, _origin) = stand_with_streams(&register).await;
    for version in BOTH {
        let browser = Browser::new(&stand, Some(&register.pc));
        let well = stand.snapshot.load_full();
        let (mut client, _) = browser.connect(&stand, version, CITY).await;
        let frames = futures_util::stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            Some((Ok(Frame::data(Bytes::from_static(b"more and more"))), ()))
        });
        let request = client
            .request("POST", CITY, "/upload")
            .body(BodyExt::boxed(StreamBody::new(frames)))
            .unwrap();
        let upload = tokio::spawn(async move { client.send(request).await });
        tokio::time::sleep(Duration::from_millis(200)).await;
        let nothing = gateway_policy::Snapshot::nothing_known(stand::now());
        stand.snapshot.store(Arc::new(nothing));
        let answered = tokio::time::timeout(Duration::from_secs(2), upload).await;
        let answered = answered.expect("it ends").unwrap().unwrap();
        assert_eq!(answered.status(), 403);
        stand.snapshot.store(well);
    }
}
