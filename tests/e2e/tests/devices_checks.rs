//! Every check of a PC through the running gateway: what its agent reports, what the city's signed policy says of it, and the
//! one line in the journal for each step from compliant to restricted and back.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what a test cannot do is its failure"
)]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use gateway_e2e::seats::{Seat, pair};
use serde_json::{Value, json};
use test_harness::facility::{Facility, Options};
use test_harness::{WallClock, city, wait};

/// The box looks every ten seconds what time has brought, and every fifteen who was there.
const SOON: Duration = Duration::from_secs(40);
const HOUR: u64 = 3_600;
const DAY: u64 = 24 * HOUR;

/// What the PC says of itself; the agent reports all of it each time.
#[derive(Clone)]
struct State {
    signatures: &'static str,
    revision: &'static str,
    programs: &'static [&'static str],
    lock: &'static str,
    usbstor: &'static str,
    media: &'static [&'static str],
    bitlocker: &'static str,
}

const IN_ORDER: State = State {
    signatures: "1",
    revision: "4349",
    programs: &["LibreOffice 25.2", "uTorrent 3.6"],
    lock: "600",
    usbstor: "4",
    media: &[BEFORE],
    bitlocker: "1",
};

/// Windows remembers sticks from before the PC was registered; they are no finding.
const BEFORE: &str = "4C530001230101110001&0";
/// A stick that is plugged in later, and entered in the register of media.
const STICK: &str = "4C530001230101119203&0";
/// One that nobody registers.
const FOREIGN: &str = "4C530001230101117777&0";

struct Office<'a> {
    facility: &'a Facility,
    clock: &'a WallClock,
    pc: Seat<'a>,
    node_key: String,
    /// How many lines of each check have been read.
    read: RefCell<BTreeMap<&'static str, usize>>,
}

impl<'a> Office<'a> {
    /// A facility with one Windows PC on which osquery runs.
    fn open(facility: &'a Facility, clock: &'a WallClock) -> Self {
        let newcomer = Seat::new(facility, "newcomer");
        newcomer.signs_in_as_manager();
        let pc = pair(facility, &newcomer, "office", "windows");
        let enrol = json!({"enroll_secret": "", "host_identifier": "x", "platform_type": "2", "host_details":
            {"system_info": {"uuid": "4C4C4544-0043-3010-8052-B4C04F564231"}}});
        let (_, enrolled) = pc.post("device/osquery/v1/enroll", &enrol, &[]);
        let node_key = enrolled["node_key"].as_str().unwrap().to_owned();
        Self {
            facility,
            clock,
            pc,
            node_key,
            read: RefCell::default(),
        }
    }

    /// The agent sends its log, packed as it packs it.
    fn reports(&self, state: &State) {
        let rows = |name: &str, rows: Value| json!({"name": format!("renraku_{name}"), "action": "snapshot", "unixTime": self.clock.now(), "snapshot": rows});
        let values = |values: &[(&str, &str)]| -> Value {
            let row = |(name, data): &(&str, &str)| json!({"name": name, "data": data});
            values.iter().map(row).collect()
        };
        let named = |names: &[&str]| -> Value {
            let row = |name: &&str| json!({"name": name, "version": "1"});
            names.iter().map(row).collect()
        };
        let data = [
            rows(
                "security_products",
                json!([{"type": "Antivirus", "state": "On", "signatures_up_to_date": state.signatures}]),
            ),
            rows(
                "windows_version",
                values(&[
                    ("CurrentMajorVersionNumber", "10"),
                    ("CurrentMinorVersionNumber", "0"),
                    ("CurrentBuildNumber", "26100"),
                    ("UBR", state.revision),
                ]),
            ),
            rows("programs", named(state.programs)),
            rows("windows_lock", values(&[("inactivity", state.lock)])),
            rows("usbstor", json!([{"data": state.usbstor}])),
            rows("usb_media", named(state.media)),
            rows(
                "bitlocker",
                json!([{"drive_letter": "C:", "protection_status": state.bitlocker}]),
            ),
            rows("battery", json!([{"batteries": "1"}])),
        ];
        let body = json!({"node_key": self.node_key, "log_type": "result", "data": data});
        let file = self.facility.directory().join("log.json");
        std::fs::write(&file, body.to_string()).unwrap();
        let packed = Command::new("gzip")
            .arg("--stdout")
            .arg(&file)
            .output()
            .unwrap();
        std::fs::write(file.with_extension("gz"), packed.stdout).unwrap();
        let body = format!("@{}", file.with_extension("gz").display());
        let answer = self.pc.send(&[
            "--header",
            "Content-Type: application/json",
            "--header",
            "Content-Encoding: gzip",
            "--data-binary",
            &body,
            &self.pc.console("device/osquery/v1/log"),
        ]);
        assert_eq!(answer.body, "{\"node_invalid\":false}");
    }

    /// osquery asks for its configuration: it is there, and says nothing of the PC.
    fn asks_for_its_configuration(&self) {
        let body = json!({"node_key": self.node_key});
        let (status, _) = self.pc.post("device/osquery/v1/config", &body, &[]);
        assert_eq!(status, 200);
    }

    fn passes(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds)).unwrap();
    }

    fn lines(&self, check: &str) -> Vec<String> {
        let log = self.facility.gateway.log();
        let rule = format!("rule=\"{check}\"");
        log.lines()
            .filter(|line| line.contains("a check has changed") && line.contains(&rule))
            .map(str::to_owned)
            .collect()
    }

    /// The next line of each check says this state and effect.
    fn decides(&self, expected: &[(&'static str, &str, &str)]) {
        for &(check, state, effect) in expected {
            let number = *self.read.borrow().get(check).unwrap_or(&0);
            let line = wait::until(&format!("{check} {state} {effect}"), SOON, || {
                self.lines(check).into_iter().nth(number)
            })
            .unwrap_or_else(|error| panic!("{error}: {:#?}", self.lines(check)));
            let says = |name: &str, value: &str| line.contains(&format!("{name}=\"{value}\""));
            assert!(
                says("state", state) && says("effect", effect) && says("subject", "device"),
                "not {check} {state} {effect}: {:#?}",
                self.lines(check)
            );
            self.read.borrow_mut().insert(check, number + 1);
        }
    }

    /// There is no line of these checks that was not expected.
    fn decided_no_more(&self) {
        for (check, number) in self.read.borrow().iter() {
            assert_eq!(self.lines(check).len(), *number, "{:#?}", self.lines(check));
        }
    }

    /// The city publishes its policy, and says so on the feed.
    fn the_city_decides(&self, devices: &Value) {
        let now = self.clock.now();
        let sets = |check: &str, parameter: &str, value: u64| json!({"check": check, "parameter": parameter, "value": value});
        let policy = json!({
            "version": 1,
            "not_before": now - 3_600,
            "expires": now + 90 * 86_400,
            "facilities": ["*"],
            "devices": devices,
            // So that a test need not last for months.
            "set": [
                sets("PC-OS", "major.warn", 2 * DAY),
                sets("PC-OS", "major.restrict", 5 * DAY),
                sets("PC-LOCK", "major.restrict", 5 * DAY),
                sets("PC-ENC", "major.restrict", 5 * DAY),
                sets("PC-USB", "major.restrict", 1),
            ],
        });
        self.facility.city.control("tuf-policy", &policy).unwrap();
        let hint = json!({"id": "policy"});
        self.facility.city.control("hint", &hint).unwrap();
    }

    /// The manager writes the stick's serial number on it and enters it in the register of media.
    fn registers_the_stick(&self) {
        let label = format!("USB-1 {}", STICK.trim_end_matches("&0"));
        let fields = [
            ("kind", "USBメモリ"),
            ("label", label.as_str()),
            ("purpose", "国保連への提出"),
            ("owner", "佐藤"),
            ("place", "事務室の鍵付き棚"),
        ];
        self.pc.signs_in_as_manager();
        let page = self.pc.submits("media/new", &fields);
        assert!(page.says("保管中"), "{page:?}");
        // The box looks into the register every fifteen seconds.
        std::thread::sleep(Duration::from_secs(16));
    }
}

#[test]
fn each_check_of_a_pc_warns_restricts_and_is_cleared_with_one_line_for_each_step() {
    let directory = tempfile::tempdir().unwrap();
    let clock = WallClock::new(directory.path()).unwrap();
    let facility = Facility::start(Options {
        refuse_unknown_devices: true,
        clock: Some(clock.clone()),
        city: city::Options::default(),
        ..Options::default()
    })
    .unwrap();
    let office = Office::open(&facility, &clock);

    office.reports(&IN_ORDER);
    for check in [
        "PC-SIG", "PC-OS", "PC-SW", "PC-LOCK", "PC-USB", "PC-ENC", "PC-RPT",
    ] {
        office.decides(&[(check, "compliant", "allow")]);
    }

    a_stick_is_registered_late(&office);

    // Nothing on the PC changes: the city's lists do, and what it reported last is held against them.
    office.the_city_decides(&json!({
        "systems": [{"platform": "windows", "least": "10.0.26100.5000"}],
        "banned": ["utorrent*"],
    }));
    office.decides(&[("PC-OS", "grace", "allow"), ("PC-SW", "grace", "warn")]);

    let bad = State {
        signatures: "0",
        lock: "0",
        usbstor: "3",
        media: &[BEFORE, STICK, FOREIGN],
        bitlocker: "0",
        ..IN_ORDER
    };
    office.reports(&bad);
    for check in ["PC-SIG", "PC-LOCK", "PC-USB", "PC-ENC"] {
        office.decides(&[(check, "grace", "warn")]);
    }
    office.decided_no_more();

    the_agent_stops_for_a_day(&office, &bad);
    days_pass(&office, &bad);
    office.decided_no_more();
    everything_is_put_right(&office);
    office.decided_no_more();
}

/// It is found, warned of, and in order once it is in the register.
fn a_stick_is_registered_late(office: &Office<'_>) {
    let plugged_in = State {
        media: &[BEFORE, STICK],
        ..IN_ORDER
    };
    office.reports(&plugged_in);
    office.decides(&[("PC-USB", "grace", "warn")]);
    // Pulling it out does not undo it.
    office.reports(&IN_ORDER);
    office.registers_the_stick();
    for _ in 0..2 {
        office.passes(11 * 60);
        office.reports(&plugged_in);
    }
    office.decides(&[("PC-USB", "compliant", "allow")]);
    office.decided_no_more();
}

/// It is there all day and reports nothing.
fn the_agent_stops_for_a_day(office: &Office<'_>, bad: &State) {
    for _ in 0..=72 {
        office.passes(1_200);
        office.asks_for_its_configuration();
    }
    office.decides(&[
        ("PC-RPT", "unknown-stale", "warn"),
        // A banned program is tolerated for a day.
        ("PC-SW", "grace", "restrict"),
    ]);
    office.passes(HOUR);
    office.decides(&[("PC-RPT", "unknown-stale", "restrict")]);
    office.reports(bad);
    office.decides(&[("PC-RPT", "compliant", "allow")]);
}

/// The agent reports every day, and nobody does anything.
fn days_pass(office: &Office<'_>, bad: &State) {
    // Working days, so that a holiday makes it more.
    let before = office.lines("PC-USB").len();
    let restricted = || office.lines("PC-USB").len() > before;
    let mut days = 0;
    while days < 5 || (days < 10 && !restricted()) {
        office.passes(23 * HOUR);
        office.reports(bad);
        days += 1;
    }
    office.decides(&[
        ("PC-OS", "grace", "warn"),
        ("PC-OS", "grace", "restrict"),
        ("PC-SIG", "grace", "restrict"),
        ("PC-LOCK", "grace", "restrict"),
        ("PC-USB", "grace", "restrict"),
        ("PC-ENC", "grace", "restrict"),
    ]);
}

/// Two reports ten minutes apart clear what failed; one does for definitions, which carry their own date.
fn everything_is_put_right(office: &Office<'_>) {
    let good = State {
        revision: "5000",
        programs: &["LibreOffice 25.2"],
        media: &[BEFORE, STICK, FOREIGN],
        ..IN_ORDER
    };
    office.reports(&good);
    office.decides(&[("PC-SIG", "compliant", "allow")]);
    office.passes(11 * 60);
    office.reports(&good);
    for check in ["PC-OS", "PC-SW", "PC-LOCK", "PC-ENC"] {
        office.decides(&[(check, "compliant", "allow")]);
    }
    // That a stick was plugged in is not undone by anything but the register.
    office.decided_no_more();
}
