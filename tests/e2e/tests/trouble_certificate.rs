//! The city takes rights away: the certificate, the facility's, a user's, and those that a stranger never had.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what a test cannot do is its failure"
)]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use gateway_e2e::visiting::Visitor;
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::json;
use test_harness::city::PORTAL_HOST;
use test_harness::facility::{Facility, Options};
use test_harness::gatewayd::{self, Gatewayd};
use test_harness::swtpm::Swtpm;
use test_harness::{setup, wait};

const OURS: &str = "tkh-1001";
const SOON: Duration = Duration::from_secs(20);

fn signed_in(facility: &Facility, user: &str) -> Visitor {
    let visitor = Visitor::new(facility, user);
    let page = visitor.sign_in(facility, user);
    assert!(page.says("支援対象者"), "{page:?}");
    visitor
}

fn staff_pages(gateway: &Gatewayd) -> String {
    format!("{}staff/", gateway.portal_url())
}

fn until_stored_notes_are_readable(facility: &Facility, visitor: &Visitor) {
    wait::until("stored notes", SOON, || {
        visitor
            .stored(&facility.gateway)
            .says("参照情報")
            .then_some(())
    })
    .unwrap();
}

/// A browser's connection to the box that stays open between two requests.
struct OpenConnection {
    stream: StreamOwned<ClientConnection, TcpStream>,
    cookie: String,
}

impl OpenConnection {
    fn to(facility: &Facility, user: &str) -> Self {
        let mut roots = RootCertStore::empty();
        for root in CertificateDer::pem_file_iter(facility.city.ca_file()).unwrap() {
            roots.add(root.unwrap()).unwrap();
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from(PORTAL_HOST).unwrap();
        let connection = ClientConnection::new(Arc::new(config), name).unwrap();
        let tcp = TcpStream::connect(("127.0.0.1", facility.gateway.https_port())).unwrap();
        tcp.set_read_timeout(Some(SOON)).unwrap();
        let jar = facility.directory().join(format!("{user}.cookies"));
        let jar = std::fs::read_to_string(jar).unwrap();
        let line = jar
            .lines()
            .find(|line| line.contains("__Host-renraku"))
            .unwrap();
        Self {
            stream: StreamOwned::new(connection, tcp),
            cookie: line.split('\t').next_back().unwrap().to_owned(),
        }
    }

    /// Head and body of an answer on this very connection.
    fn get(&mut self, path: &str) -> String {
        write!(
            self.stream,
            "GET {path} HTTP/1.1\r\nHost: {PORTAL_HOST}\r\nAccept: text/html\r\nCookie: __Host-renraku={}\r\n\r\n",
            self.cookie
        )
        .unwrap();
        let mut answer = Vec::new();
        let mut piece = [0; 4096];
        loop {
            let length = self.stream.read(&mut piece).unwrap();
            assert_ne!(length, 0, "the box closed the connection");
            answer.extend_from_slice(&piece[..length]);
            let text = String::from_utf8_lossy(&answer);
            let Some((head, body)) = text.split_once("\r\n\r\n") else {
                continue;
            };
            let head = head.to_ascii_lowercase();
            let announced = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "))
                .map(|length| length.parse::<usize>().unwrap());
            let complete = match announced {
                Some(length) => body.len() >= length,
                None => body.ends_with("0\r\n\r\n"),
            };
            if complete {
                return text.into_owned();
            }
        }
    }
}

#[test]
fn a_revoked_certificate_ends_work_on_open_connections_too_and_a_new_number_repairs_it() {
    let mut facility = Facility::start(Options::default()).unwrap();
    let visitor = signed_in(&facility, "sakura-01");
    until_stored_notes_are_readable(&facility, &visitor);
    let mut open = OpenConnection::to(&facility, "sakura-01");
    assert!(open.get("/staff/").starts_with("HTTP/1.1 200"));

    facility
        .city
        .control("revoke", &json!({ "facility": OURS }))
        .unwrap();
    // At once the city's own words, and as soon as the box knows, the box's.
    let first = open.get("/staff/");
    assert!(first.starts_with("HTTP/1.1 403"), "{first}");
    let page = wait::until("the box's refusal", SOON, || {
        let page = open.get("/staff/");
        assert!(page.starts_with("HTTP/1.1 403"), "{page}");
        page.contains("連絡帳への接続を止めています")
            .then_some(page)
    })
    .unwrap();
    assert!(page.contains("details=\"CERT\""), "{page}");
    assert!(page.contains("サポートコード"));

    let is_revoked = |facility: &Facility, visitor: &Visitor| {
        let console = visitor.open(&facility.gateway.console_url());
        assert!(
            console.says("電子証明書が失効しているため"),
            "{}",
            console.body
        );
        assert!(console.says("失効しています"));
        let list = visitor.open(&format!("{}certificates", facility.gateway.console_url()));
        assert!(list.says(">失効<"), "{}", list.body);
        assert_eq!(visitor.open(&facility.gateway.portal_url()).status, 200);
        let problem = visitor.ask(&staff_pages(&facility.gateway));
        assert_eq!(
            (problem.status, problem.field("content-type")),
            (403, "application/problem+json")
        );
        let code = problem.support_code().unwrap();
        let log = facility.gateway.log();
        let line = log.lines().find(|line| line.contains(&code)).unwrap();
        assert!(line.contains("CERT"), "{line}");
    };
    is_revoked(&facility, &visitor);
    // A stolen box is cut off like this, and with that certificate the box does not hear any more who may read what: locked
    // from the city's first word on (decision 18), whoever on the box heard it.
    let is_locked = |facility: &Facility, visitor: &Visitor| {
        let stored = visitor.stored(&facility.gateway);
        assert!(!stored.says("架空 花子"), "{stored:?}");
        assert!(
            stored.says("電子証明書を失効させているため、保存した連絡は読めません"),
            "{stored:?}"
        );
    };
    is_locked(&facility, &visitor);
    let contact = facility
        .gateway
        .state_directory()
        .join("offline/contact.sealed");
    wait::until("the contact to be forgotten", SOON, || {
        (!contact.exists()).then_some(())
    })
    .unwrap();
    is_locked(&facility, &visitor);
    let log = facility.gateway.log();
    assert_eq!(log.matches("certificate-revoked").count(), 1, "{log}");

    facility.gateway.restart().unwrap();
    is_revoked(&facility, &visitor);
    let stored = visitor.stored(&facility.gateway);
    assert!(!stored.says("架空 花子"), "{stored:?}");

    let (number, code) = (
        facility.city.text("spare_number"),
        facility.city.text("spare_code"),
    );
    setup::provision(&facility.gateway, number, code).unwrap();
    let visitor = signed_in(&facility, "sakura-01");
    until_stored_notes_are_readable(&facility, &visitor);
    let home = visitor.open(&facility.gateway.console_url());
    // The sentence on top may still ask for the registers, which nobody has filled in here.
    assert!(home.says("まで有効") && !home.says("失効"), "{home:?}");
}

#[test]
fn a_suspended_facility_is_blocked_and_comes_back_by_itself() {
    let mut facility = Facility::start(Options::default()).unwrap();
    let visitor = signed_in(&facility, "sakura-01");
    until_stored_notes_are_readable(&facility, &visitor);
    let suspend = |facility: &Facility, suspended: bool| {
        facility
            .city
            .control(
                "suspend-facility",
                &json!({ "id": OURS, "suspended": suspended }),
            )
            .unwrap();
    };
    suspend(&facility, true);
    let is_suspended = |facility: &Facility| {
        let page = wait::until("the box's refusal", SOON, || {
            let page = visitor.open(&staff_pages(&facility.gateway));
            assert_eq!(page.status, 403, "{page:?}");
            page.field("proxy-status")
                .contains("SUSPENDED")
                .then_some(page)
        })
        .unwrap();
        assert!(page.says("連絡帳への接続を止めています"));
        assert_eq!(visitor.open(&facility.gateway.portal_url()).status, 200);
        let console = visitor.open(&facility.gateway.console_url());
        assert!(
            console.says("市により停止されています（規約第35条）"),
            "{}",
            console.body
        );
        assert!(!visitor.stored(&facility.gateway).says("架空 花子"));
    };
    is_suspended(&facility);
    facility.gateway.restart().unwrap();
    is_suspended(&facility);

    suspend(&facility, false);
    wait::until(
        "staff pages, by themselves",
        Duration::from_secs(90),
        || (visitor.open(&staff_pages(&facility.gateway)).status == 200).then_some(()),
    )
    .unwrap();
    let visitor = signed_in(&facility, "sakura-01");
    until_stored_notes_are_readable(&facility, &visitor);
    let log = facility.gateway.log();
    assert!(log.contains("rule=\"SUSPENDED\" article=35"), "{log}");
}

#[test]
fn a_suspended_user_reads_nothing_more_neither_online_nor_stored() {
    let facility = Facility::start(Options::default()).unwrap();
    let (suspended, colleague) = (
        signed_in(&facility, "sakura-01"),
        signed_in(&facility, "sakura-02"),
    );
    until_stored_notes_are_readable(&facility, &suspended);
    until_stored_notes_are_readable(&facility, &colleague);
    let console_notes = format!("{}notes", facility.gateway.console_url());
    assert!(suspended.open(&console_notes).says("架空 花子"));

    facility
        .city
        .control("suspend-user", &json!({ "id": "sakura-01" }))
        .unwrap();
    wait::until(
        "the end of the reader's session",
        Duration::from_secs(5),
        || {
            suspended
                .open(&console_notes)
                .says("サインインが必要です")
                .then_some(())
        },
    )
    .unwrap();
    for city in ["none", "down"] {
        facility.city.fail(city).unwrap();
        let page = suspended.stored(&facility.gateway);
        assert!(page.says("サインインが必要です"), "{}", page.body);
        assert!(
            !suspended
                .open(&staff_pages(&facility.gateway))
                .says("支援対象者")
        );
        assert!(
            colleague.open(&console_notes).says("架空 花子"),
            "the others read on"
        );
    }
}

#[test]
fn staff_of_another_facility_get_nothing_through_this_box_and_leave_nothing_in_it() {
    let facility = Facility::start(Options::default()).unwrap();
    let stranger = Visitor::new(&facility, "midori-01");
    let page = stranger.sign_in(&facility, "midori-01");
    assert_eq!(page.status, 403, "{page:?}");
    assert!(page.says("この利用事業所のユーザーIDではありません"));
    assert!(
        stranger
            .stored(&facility.gateway)
            .says("サインインが必要です")
    );

    // With a session opened at their own box, too.
    let directory = facility.directory().join("midori");
    let tpm = Swtpm::start(&directory.join("tpm")).unwrap();
    let theirs = Gatewayd::start(
        &directory,
        &gatewayd::Options {
            tcti: tpm.tcti(),
            anchor: facility.city.ca_file(),
            city_port: facility.city.port(),
            clamd: facility.clamd.socket(),
            https_port: None,
            http_port: None,
            refuse_unknown_devices: false,
            more_sites: Vec::new(),
            more: String::new(),
            through: Vec::new(),
            clock: None,
        },
    )
    .unwrap();
    let numbers = facility.city.described()["numbers"].as_array().unwrap();
    let midori = numbers
        .iter()
        .find(|number| number["facility"] == "tkh-1002")
        .unwrap();
    setup::provision(
        &theirs,
        midori["number"].as_str().unwrap(),
        midori["code"].as_str().unwrap(),
    )
    .unwrap();
    let page = stranger.sign_in_at(&facility, &theirs, "midori-01");
    assert!(page.says("支援対象者"), "{page:?}");
    let only_theirs = "仮名 しず";
    assert!(page.says(only_theirs), "{}", page.body);
    let page = stranger.open(&staff_pages(&facility.gateway));
    assert!(!page.says("支援対象者"), "{}", page.body);
    assert!(
        stranger
            .stored(&facility.gateway)
            .says("サインインが必要です")
    );

    let manager = signed_in(&facility, "sakura-kanri");
    until_stored_notes_are_readable(&facility, &manager);
    assert!(!manager.stored(&facility.gateway).says(only_theirs));
}
