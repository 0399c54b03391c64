//! The devices of a facility, from the first one on, through the running gateway: curl and openssl as a program on a device
//! uses them, and a manager at the console.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what a test cannot do is its failure"
)]

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use gateway_e2e::seats::{Seat, openssl, pair};
use gateway_e2e::visiting::Answer;
use serde_json::json;
use test_harness::city::PORTAL_HOST;
use test_harness::facility::{Facility, Options};
use test_harness::{WallClock, city, wait};

const SOON: Duration = Duration::from_secs(40);

fn strict() -> Facility {
    Facility::start(Options {
        refuse_unknown_devices: true,
        ..Options::default()
    })
    .unwrap()
}

#[test]
fn the_manager_registers_the_first_device_and_strangers_are_refused_from_then_on() {
    let facility = strict();
    let newcomer = Seat::new(&facility, "newcomer");
    newcomer.signs_in_as_manager();
    let pc = pair(&facility, &newcomer, "office", "linux");

    // The browser that has just registered it is a stranger itself now, whatever session it has.
    let refused = newcomer.open(&newcomer.notebook("staff/"));
    assert_eq!(refused.status, 403, "{}", refused.body);
    assert_eq!(newcomer.open(&newcomer.console("devices")).status, 403);
    for open in [newcomer.notebook(""), newcomer.console("pairing")] {
        assert_eq!(newcomer.open(&open).status, 200, "{open}");
    }
    let (status, problem) = newcomer.post("device/v1/renew", &json!({}), &[]);
    assert_eq!(
        (status, &problem["type"]),
        (403, &json!("urn:renraku:problem:device-unknown"))
    );

    pc.signs_in_as_manager();
    assert!(pc.open(&pc.console("devices")).says("office"));

    // A certificate that says the same, signed by somebody else.
    let mut forger = Seat::new(&facility, "forger");
    let file = |ending: &str| facility.directory().join(format!("forger.{ending}"));
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let subject = Command::new("openssl")
        .args(["x509", "-noout", "-subject", "-nameopt", "multiline", "-in"])
        .arg(&pc.certificate.as_ref().unwrap().0)
        .output()
        .unwrap();
    let subject = String::from_utf8_lossy(&subject.stdout).into_owned();
    let id = subject.rsplit("= ").next().unwrap().trim();
    assert_eq!(id.len(), 32, "{subject}");
    openssl(&[
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "30",
        "-subj",
        &format!("/CN={id}"),
        "-keyout",
        &text(&file("key")),
        "-out",
        &text(&file("crt")),
    ]);
    forger.certificate = Some((file("crt"), file("key")));
    assert_eq!(forger.open(&forger.notebook("staff/login")).status, 403);
    assert!(
        !facility.gateway.log().contains("office"),
        "names are in no log"
    );
}

#[test]
fn revoking_a_device_ends_its_open_connections_within_seconds() {
    let facility = strict();
    let newcomer = Seat::new(&facility, "newcomer");
    newcomer.signs_in_as_manager();
    let office = pair(&facility, &newcomer, "office", "linux");
    office.signs_in_as_manager();
    let lost = pair(&facility, &office, "lost", "linux");
    assert_eq!(lost.open(&lost.notebook("staff/login")).status, 200);

    lost.signs_in_as_manager();
    let mut connection = keep_alive(&facility, &lost);
    let (tunnel_ended, tunnel) = mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let _ = tunnel_ended.send(web_socket(&lost));
        });
        std::thread::sleep(Duration::from_secs(3));
        assert!(
            tunnel.try_recv().is_err(),
            "the page's WebSocket stays open"
        );
        revoke_by_hand(&facility, &office, &lost, &mut connection, &tunnel);
    });
}

/// Opens the WebSocket of an open page, and stays until it ends.
fn web_socket(seat: &Seat<'_>) -> Answer {
    let origin = format!("Origin: {}", seat.notebook("").trim_end_matches('/'));
    seat.send(&[
        "--http1.1",
        "--no-buffer",
        "--header",
        &origin,
        "--header",
        "Connection: Upgrade",
        "--header",
        "Upgrade: websocket",
        "--header",
        "Sec-WebSocket-Version: 13",
        "--header",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        &seat.notebook("staff/live"),
    ])
}

fn revoke_by_hand(
    facility: &Facility,
    office: &Seat<'_>,
    lost: &Seat<'_>,
    connection: &mut KeepAlive,
    tunnel: &mpsc::Receiver<Answer>,
) {
    let list = office.open(&office.console("devices"));
    let (_, after) = list.body.split_once("<b>lost</b>").map_or_else(
        || panic!("it is not on the list: {}", list.body),
        |_| {
            let before = list.body.split("<b>lost</b>").next().unwrap();
            before.rsplit_once("/devices/").unwrap()
        },
    );
    let id = after.split('"').next().unwrap().to_owned();
    let asked = Instant::now();
    office.submits(&format!("devices/{id}"), &[("action", "revoke")]);
    connection.ends_within(Duration::from_secs(5));
    let cut = tunnel
        .recv_timeout(Duration::from_secs(5))
        .expect("the WebSocket ends");
    assert_eq!(cut.status, 101, "{}", cut.body);
    assert_ne!(cut.ended, 28, "it was cut, and did not run out of time");
    assert!(asked.elapsed() < Duration::from_secs(6));
    let refused = lost.open(&lost.notebook("staff/login"));
    assert_eq!(refused.status, 403);
    assert!(facility.gateway.log().contains("device-revoked"));

    office.submits(&format!("devices/{id}"), &[("action", "reactivate")]);
    assert_eq!(lost.open(&lost.notebook("staff/login")).status, 200);
}

/// A connection with a device's certificate that has answered once and stays open.
struct KeepAlive {
    client: std::process::Child,
    ended: mpsc::Receiver<()>,
}

fn keep_alive(facility: &Facility, seat: &Seat<'_>) -> KeepAlive {
    let (certificate, key) = seat.certificate.as_ref().unwrap();
    let mut client = Command::new("openssl")
        .args(["s_client", "-quiet", "-servername", PORTAL_HOST, "-connect"])
        .arg(format!("127.0.0.1:{}", facility.gateway.https_port()))
        .arg("-CAfile")
        .arg(facility.city.ca_file())
        .arg("-cert")
        .arg(certificate)
        .arg("-key")
        .arg(key)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let port = facility.gateway.https_port();
    let request = format!("GET / HTTP/1.1\r\nHost: {PORTAL_HOST}:{port}\r\n\r\n");
    client
        .stdin
        .as_mut()
        .unwrap()
        .write_all(request.as_bytes())
        .unwrap();
    let mut output = client.stdout.take().unwrap();
    let (answered, answer) = mpsc::channel();
    let (end, ended) = mpsc::channel();
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while output.read(&mut buffer).is_ok_and(|length| length > 0) {
            let _ = answered.send(());
        }
        let _ = end.send(());
    });
    answer.recv_timeout(SOON).unwrap();
    KeepAlive { client, ended }
}

impl KeepAlive {
    fn ends_within(&mut self, limit: Duration) {
        self.ended.recv_timeout(limit).expect("the connection ends");
    }
}

impl Drop for KeepAlive {
    fn drop(&mut self) {
        let _ = self.client.kill();
        let _ = self.client.wait();
    }
}

#[test]
fn what_an_agent_reports_warns_restricts_and_blocks_as_time_passes() {
    let directory = tempfile::tempdir().unwrap();
    let clock = WallClock::new(directory.path()).unwrap();
    let facility = Facility::start(Options {
        refuse_unknown_devices: true,
        clock: Some(clock.clone()),
        city: city::Options::default(),
        ..Options::default()
    })
    .unwrap();
    let newcomer = Seat::new(&facility, "newcomer");
    newcomer.signs_in_as_manager();
    let pc = pair(&facility, &newcomer, "office", "windows");
    let enrol = json!({"enroll_secret": "", "host_identifier": "x", "platform_type": "2", "host_details":
        {"system_info": {"uuid": "4C4C4544-0043-3010-8052-B4C04F564231"}}});
    let (_, enrolled) = pc.post("device/osquery/v1/enroll", &enrol, &[]);
    let key = enrolled["node_key"].as_str().unwrap().to_owned();
    let (_, config) = pc.post("device/osquery/v1/config", &json!({"node_key": key}), &[]);
    assert!(config["schedule"]["renraku_security_products"].is_object());
    let reports = |state: &str| {
        let line = json!({"name": "renraku_security_products", "action": "snapshot", "unixTime": clock.now(),
            "snapshot": [{"type": "Antivirus", "state": state, "signatures_up_to_date": "1"}]});
        let body = json!({"node_key": key, "log_type": "result", "data": [line]});
        let file = facility.directory().join("log.json");
        std::fs::write(&file, body.to_string()).unwrap();
        let packed = Command::new("gzip")
            .arg("--stdout")
            .arg(&file)
            .output()
            .unwrap();
        std::fs::write(file.with_extension("gz"), packed.stdout).unwrap();
        let body = format!("@{}", file.with_extension("gz").display());
        let answer = pc.send(&[
            "--header",
            "Content-Type: application/json",
            "--header",
            "Content-Encoding: gzip",
            "--data-binary",
            &body,
            &pc.console("device/osquery/v1/log"),
        ]);
        assert_eq!(answer.body, "{\"node_invalid\":false}");
    };
    let decided = |state: &str, effect: &str| {
        wait::until(&format!("PC-AV {state} {effect}"), SOON, || {
            let log = facility.gateway.log();
            let mut lines = log.lines().filter(|line| line.contains("PC-AV"));
            lines
                .next_back()
                .is_some_and(|line| line.contains(state) && line.contains(effect))
                .then_some(())
        })
        .unwrap_or_else(|error| {
            let log = facility.gateway.log();
            let lines: Vec<&str> = log.lines().filter(|line| line.contains("PC-AV")).collect();
            panic!("{error}: {}", lines.join("\n"))
        });
    };
    reports("On");
    decided("compliant", "allow");
    reports("Off");
    decided("grace", "warn");
    clock.advance(Duration::from_secs(31 * 60)).unwrap();
    decided("grace", "restrict");
    clock.advance(Duration::from_secs(24 * 3600)).unwrap();
    decided("failing", "block");
    // It was silent for a day and may read for an hour before that stops it. (What the box knew of its own scanner is a day old
    // too, and until that has answered again nobody reads.)
    let opens = || pc.open(&pc.notebook("staff/login")).status;
    wait::until("the PC to read again", SOON, || {
        (opens() == 200).then_some(())
    })
    .unwrap();
    // The box looks who was there every 15 seconds.
    std::thread::sleep(Duration::from_secs(16));
    clock.advance(Duration::from_secs(61 * 60)).unwrap();
    wait::until("the notebook to be closed", SOON, || {
        (opens() == 403).then_some(())
    })
    .unwrap();
    // Cleared by two passes ten minutes apart.
    reports("On");
    clock.advance(Duration::from_secs(11 * 60)).unwrap();
    reports("On");
    decided("compliant", "allow");
    // A key that was made for nothing.
    let (status, answer) = pc.post("device/osquery/v1/config", &json!({"node_key": "x"}), &[]);
    assert_eq!((status, answer), (200, json!({"node_invalid": true})));
}

/// The manager's PC, registered as such; only it may open an emergency with the PIN.
fn managers_pc<'a>(facility: &'a Facility, newcomer: &Seat<'_>) -> Seat<'a> {
    newcomer.signs_in_as_manager();
    let pc = pair(facility, newcomer, "office", "linux");
    pc.signs_in_as_manager();
    let pin = [("pin", "482915"), ("pin_again", "482915")];
    let set = wait::until("the PIN to be set", SOON, || {
        let page = pc.submits("break-glass/pin", &pin);
        page.says("設定してあります").then_some(())
    });
    set.unwrap();
    pc
}

/// What the city was told of emergencies: how often, and the last.
fn told_the_city(facility: &Facility) -> Option<(u64, serde_json::Value)> {
    let all = facility.city.statistics().ok()?["reports"].clone();
    let incident = all
        .as_array()?
        .iter()
        .find(|report| report["kind"] == "incident" && report["last"]["kind"] == "break-glass")?;
    Some((incident["count"].as_u64()?, incident["last"].clone()))
}

#[test]
fn an_emergency_is_opened_offline_from_the_managers_pc_alone_and_the_city_hears_of_it_once() {
    let directory = tempfile::tempdir().unwrap();
    let clock = WallClock::new(directory.path()).unwrap();
    let mut facility = Facility::start(Options {
        refuse_unknown_devices: true,
        clock: Some(clock.clone()),
        ..Options::default()
    })
    .unwrap();
    let (certificate, stranger_page) = {
        let newcomer = Seat::new(&facility, "newcomer");
        let pc = managers_pc(&facility, &newcomer);
        (pc.certificate.clone(), pc.notebook("staff/login"))
    };
    // The scanner dies, and then the line.
    facility.clamd.kill();
    clock.advance(Duration::from_secs(20 * 60)).unwrap();
    wait::until("the block", SOON, || {
        let log = facility.gateway.log();
        log.contains("effect=Block rule=\"AV-ALIVE\"").then_some(())
    })
    .unwrap();
    facility.city.process().kill();
    let opens = [("pin", "482915"), ("reason", "disaster")];
    {
        let stranger = Seat::new(&facility, "newcomer");
        let mut pc = Seat::new(&facility, "office");
        pc.certificate = certificate.clone();
        assert_eq!(pc.open(&stranger_page).status, 403);
        let refused = stranger.submits("break-glass/open", &opens);
        assert_eq!(refused.status, 403, "{refused:?}");
        let opened = pc.submits("break-glass/open", &opens);
        assert!(opened.says("いま解除しています"), "{opened:?}");
        // The gate lets the manager's PC through: what is missing now is the city. A stranger is one in an emergency too.
        let page = pc.open(&stranger_page);
        assert!(page.says("連絡帳につながりません"), "{page:?}");
        assert_eq!(stranger.open(&stranger_page).status, 403);
    }
    let log = facility.gateway.log();
    let declared = |line: &&str| line.contains("an emergency is declared");
    assert_eq!(log.lines().filter(declared).count(), 1);

    // A restart meanwhile, and then the line is back.
    facility.gateway.restart().unwrap();
    facility.city.restart().unwrap();
    let (_, told) = wait::until("the city to hear of it", Duration::from_secs(120), || {
        told_the_city(&facility)
    })
    .unwrap();
    let summary = told["summary"].as_str().unwrap();
    assert!(summary.contains("災害への対応") && summary.contains("暗証番号"));
    wait::until("the box to keep that it was told", SOON, || {
        let log = facility.gateway.log();
        log.contains("the city has been told of an emergency")
            .then_some(())
    })
    .unwrap();
    let told_again = || {
        let log = facility.gateway.log();
        let lines = log
            .lines()
            .filter(|line| line.contains("told of an emergency"));
        lines.count()
    };
    let before = told_again();
    // It is drawn out an hour later: that is news, and once more only once.
    clock.advance(Duration::from_secs(3_600)).unwrap();
    let mut pc = Seat::new(&facility, "office");
    pc.certificate = certificate;
    let renewed = pc.submits("break-glass/open", &opens);
    assert!(renewed.says("いま解除しています"), "{renewed:?}");
    wait::until(
        "the city to hear of it again",
        Duration::from_secs(120),
        || {
            let (_, last) = told_the_city(&facility)?;
            (last["id"] != told["id"]).then_some(())
        },
    )
    .unwrap();
    assert!(told_again() <= before + 1);
}
