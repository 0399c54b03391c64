//! A facility with one PC on which osquery runs, replayed: what it reports, what time brings, and what the journal says.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use gateway_e2e::seats::{Seat, pair};
use serde_json::{Value, json};
use test_harness::facility::{Facility, Options};
use test_harness::{WallClock, city, wait};

/// The box looks every ten seconds what time has brought, and every fifteen who was there.
pub const SOON: Duration = Duration::from_secs(40);
pub const HOUR: u64 = 3_600;
pub const DAY: u64 = 24 * HOUR;

/// What the PC says of itself; the agent reports all of it each time.
#[derive(Clone)]
pub struct State {
    pub signatures: &'static str,
    pub revision: &'static str,
    pub programs: &'static [&'static str],
    pub lock: &'static str,
    pub usbstor: &'static str,
    pub media: &'static [&'static str],
    pub bitlocker: &'static str,
}

pub const IN_ORDER: State = State {
    signatures: "1",
    revision: "4349",
    programs: &["LibreOffice 25.2", "uTorrent 3.6"],
    lock: "600",
    usbstor: "4",
    media: &[BEFORE],
    bitlocker: "1",
};

/// Windows remembers sticks from before the PC was registered; they are no finding.
pub const BEFORE: &str = "4C530001230101110001&0";
/// A stick that is plugged in later, and entered in the register of media.
pub const STICK: &str = "4C530001230101119203&0";
/// One that nobody registers.
pub const FOREIGN: &str = "4C530001230101117777&0";

pub struct Office<'a> {
    pub facility: &'a Facility,
    pub clock: &'a WallClock,
    pub pc: Seat<'a>,
    node_key: String,
    /// How many lines of each check have been read.
    read: RefCell<BTreeMap<&'static str, usize>>,
}

impl<'a> Office<'a> {
    /// A facility with one Windows PC on which osquery runs.
    pub fn open(facility: &'a Facility, clock: &'a WallClock) -> Self {
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
    pub fn reports(&self, state: &State) {
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
    pub fn asks_for_its_configuration(&self) {
        let body = json!({"node_key": self.node_key});
        let (status, _) = self.pc.post("device/osquery/v1/config", &body, &[]);
        assert_eq!(status, 200);
    }

    /// It does so every fifteen seconds by a clock that the test does not move.
    pub fn the_box_looks_who_was_there(&self) {
        std::thread::sleep(Duration::from_secs(16));
    }

    /// The PC is on all day and its agent reports nothing. What is counted is the time it was there, so the box looks in
    /// between.
    pub fn is_used_for_a_day_without_a_report(&self) {
        for asks in [40, 42] {
            for _ in 0..asks {
                self.passes(1_100);
                self.asks_for_its_configuration();
            }
            self.the_box_looks_who_was_there();
        }
    }

    pub fn passes(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds)).unwrap();
    }

    pub fn lines(&self, check: &str) -> Vec<String> {
        let log = self.facility.gateway.log();
        let rule = format!("rule=\"{check}\"");
        log.lines()
            .filter(|line| line.contains("a check has changed") && line.contains(&rule))
            .map(str::to_owned)
            .collect()
    }

    /// The next line of each check says this state and effect.
    pub fn decides(&self, expected: &[(&'static str, &str, &str)]) {
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
    pub fn decided_no_more(&self) {
        for (check, number) in self.read.borrow().iter() {
            assert_eq!(self.lines(check).len(), *number, "{:#?}", self.lines(check));
        }
    }

    /// The city publishes its policy, and says so on the feed.
    /// `set`: waits that are shorter than the built-in ones, so that a test need not last for months.
    pub fn the_city_decides(&self, devices: &Value, set: &[(&str, &str, u64)]) {
        let now = self.clock.now();
        let sets = |(check, parameter, value): &(&str, &str, u64)| json!({"check": check, "parameter": parameter, "value": value});
        let set: Vec<Value> = set.iter().map(sets).collect();
        let policy = json!({
            "version": 1,
            "not_before": now - 3_600,
            "expires": now + 90 * 86_400,
            "facilities": ["*"],
            "devices": devices,
            "set": set,
        });
        self.facility.city.control("tuf-policy", &policy).unwrap();
        let hint = json!({"id": "policy"});
        self.facility.city.control("hint", &hint).unwrap();
    }

    /// The manager writes the stick's serial number on it and enters it in the register of media.
    pub fn registers_the_stick(&self) {
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
        // It looks into the register as often.
        self.the_box_looks_who_was_there();
    }
}

/// A facility whose clock the test moves, with the devices that nobody registered kept out.
pub fn facility(clock: &WallClock) -> Facility {
    Facility::start(Options {
        refuse_unknown_devices: true,
        clock: Some(clock.clone()),
        city: city::Options::default(),
        ..Options::default()
    })
    .unwrap()
}
