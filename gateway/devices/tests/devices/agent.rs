//! osquery's remote API, asked with bodies of the form that its documentation shows.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use gateway_devices::{Fact, Standards};
use gateway_policy::{Check, DeviceId, Grade, Missing, Observation, Source};
use serde_json::{Value, json};

use crate::office::{Ask, Office};

const HOUR: i64 = 3_600;

/// An osquery that enrols, reads its configuration and logs.
struct Agent<'a> {
    office: &'a mut Office,
    device: DeviceId,
    node_key: String,
}

impl<'a> Agent<'a> {
    fn enrol(office: &'a mut Office, kind: &str, uuid: &str) -> Self {
        let (device, _) = office.registered(kind, None);
        let answer = enrol(office, device, uuid);
        let node_key = answer["node_key"].as_str().unwrap().to_owned();
        assert_eq!(answer["node_invalid"], false);
        Self {
            office,
            device,
            node_key,
        }
    }

    fn post(&self, call: &str, body: &Value) -> Value {
        call_with(self.office, Some(self.device), call, body)
    }

    /// Logs one snapshot, packed as `--logger_tls_compress` does, taken now.
    fn logs(&self, name: &str, rows: Value) {
        let line = json!({
            "snapshot": rows, "action": "snapshot", "name": name, "hostIdentifier": "4C4C4544",
            "calendarTime": "Sun Nov 22 10:00:00 2026 UTC", "unixTime": self.office.now.0,
            "epoch": 0, "counter": 0, "numerics": false,
        });
        let body = json!({"node_key": self.node_key, "log_type": "result", "data": [line]});
        let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
        packed.write_all(body.to_string().as_bytes()).unwrap();
        let packed = packed.finish().unwrap();
        let (status, answer) = self.office.json(&Ask {
            coding: Some("gzip"),
            device: Some(self.device),
            ..Ask::post("/device/osquery/v1/log", &packed)
        });
        assert_eq!((status, &answer["node_invalid"]), (200, &json!(false)));
    }

    fn sees(&self, check: Check) -> Option<Observation> {
        self.office.last(self.device, check)
    }
}

fn call_with(office: &Office, device: Option<DeviceId>, call: &str, body: &Value) -> Value {
    let path = format!("/device/osquery/v1/{call}");
    let body = body.to_string();
    let (status, answer) = office.json(&Ask {
        device,
        ..Ask::post(&path, body.as_bytes())
    });
    assert_eq!(status, 200, "osquery looks at nothing else");
    answer
}

fn enrol(office: &Office, device: DeviceId, uuid: &str) -> Value {
    let body = json!({
        "enroll_secret": "", "host_identifier": uuid, "platform_type": "2",
        "host_details": {
            "os_version": {"name": "Microsoft Windows 11 Pro", "build": "26100", "platform": "windows"},
            "osquery_info": {"version": "5.12.1"}, "platform_info": {"vendor": "LENOVO"},
            "system_info": {"uuid": uuid, "hardware_serial": "PF2ABCDE", "computer_name": "DESKTOP-1"},
        },
    });
    call_with(office, Some(device), "enroll", &body)
}

const UUID: &str = "4C4C4544-0043-3010-8052-B4C04F564231";
const FAILED: Option<Observation> = Some(Observation::Fail {
    grade: Grade::Major,
    since: None,
});

#[test]
fn an_agent_enrols_reads_its_schedule_and_every_check_follows_what_it_logs() {
    let mut office = Office::open();
    let agent = Agent::enrol(&mut office, "windows", UUID);
    let config = agent.post("config", &json!({"node_key": agent.node_key}));
    let schedule = config["schedule"].as_object().unwrap();
    assert!(schedule.contains_key("renraku_security_products"));
    assert!(schedule.values().all(|query| query["snapshot"] == true));

    let antivirus = |state: &str, current: &str| json!([{"type": "Antivirus", "state": state, "signatures_up_to_date": current}]);
    agent.logs("renraku_security_products", antivirus("On", "1"));
    let observed = agent.office.observed(agent.device);
    assert!(observed.iter().all(|one| one.source == Source::Agent));
    let found = |check| {
        observed
            .iter()
            .find(|one| one.check == check)
            .unwrap()
            .observation
    };
    let now = agent.office.now;
    assert_eq!(found(Check::PcAv), Observation::Pass);
    assert_eq!(found(Check::PcSig), Observation::Dated { since: now });
    assert_eq!(found(Check::PcRpt), Observation::Pass);
    for state in ["Off", "Snoozed", "Expired"] {
        agent.logs("renraku_security_products", antivirus(state, "0"));
        assert_eq!(agent.sees(Check::PcAv), FAILED, "{state}");
    }
    agent.logs("renraku_security_products", antivirus("On", "0"));
    assert_eq!(agent.sees(Check::PcSig), FAILED);

    let version = |build: &str, revision: &str| {
        json!([
            {"name": "CurrentMajorVersionNumber", "data": "10"}, {"name": "CurrentMinorVersionNumber", "data": "0"},
            {"name": "CurrentBuildNumber", "data": build}, {"name": "UBR", "data": revision},
        ])
    };
    agent.logs("renraku_windows_version", version("26100", "4349"));
    assert_eq!(agent.sees(Check::PcOs), Some(Observation::Pass));
    agent.logs("renraku_windows_version", version("19045", "5965"));
    assert_eq!(agent.sees(Check::PcOs), FAILED);

    let lock = |seconds: &str| json!([{"name": "inactivity", "data": seconds}]);
    agent.logs("renraku_windows_lock", lock("900"));
    assert_eq!(agent.sees(Check::PcLock), Some(Observation::Pass));
    agent.logs("renraku_windows_lock", lock("0"));
    assert_eq!(agent.sees(Check::PcLock), FAILED);

    agent.logs(
        "renraku_bitlocker",
        json!([{"drive_letter": "C:", "protection_status": "1"}]),
    );
    assert_eq!(agent.sees(Check::PcEnc), Some(Observation::Pass));
    agent.logs(
        "renraku_bitlocker",
        json!([{"drive_letter": "C:", "protection_status": "0"}]),
    );
    assert_eq!(agent.sees(Check::PcEnc), FAILED);
    agent.logs("renraku_battery", json!([{"batteries": "0"}]));
    assert_eq!(agent.sees(Check::PcEnc), Some(Observation::NotApplicable));
}

#[test]
fn a_medium_that_is_not_registered_is_a_finding_until_it_is() {
    let mut office = Office::open();
    let agent = Agent::enrol(&mut office, "windows", UUID);
    agent.logs("renraku_usb_media", json!([{"name": "OLD1&0"}]));
    agent.logs("renraku_usbstor", json!([{"data": "3"}]));
    let minor = Observation::Fail {
        grade: Grade::Minor,
        since: None,
    };
    assert_eq!(agent.sees(Check::PcUsb), Some(minor));
    agent.logs("renraku_usbstor", json!([{"data": "4"}]));
    assert_eq!(agent.sees(Check::PcUsb), Some(Observation::Pass));
    agent.logs(
        "renraku_usb_media",
        json!([{"name": "OLD1&0"}, {"name": "4C530001&0"}]),
    );
    let since = agent.office.now;
    let major = Observation::Fail {
        grade: Grade::Major,
        since: Some(since),
    };
    assert_eq!(agent.sees(Check::PcUsb), Some(major));
    let found = agent
        .office
        .devices
        .unregistered_media(agent.device)
        .unwrap();
    assert_eq!(found, [("4C530001".to_owned(), since)]);
    let standards = Standards {
        media: ["4C530001".to_owned()].into(),
        ..Standards::default()
    };
    let now = agent.office.now;
    agent.office.devices.set_standards(standards, now).unwrap();
    assert_eq!(agent.sees(Check::PcUsb), Some(Observation::Pass));
}

#[test]
fn a_list_of_the_city_is_applied_to_what_was_reported_before() {
    let mut office = Office::open();
    let agent = Agent::enrol(&mut office, "windows", UUID);
    agent.logs(
        "renraku_programs",
        json!([{"name": "LibreOffice", "version": "25"}, {"name": "Torrent", "version": "1"}]),
    );
    assert_eq!(agent.sees(Check::PcSw), Some(Observation::Pass));
    // The PC is off for a week; then the lists come.
    agent.office.now = agent.office.now.plus(7 * 24 * HOUR);
    let with = |banned: &[&str], approved: &[&str]| {
        let strings = |list: &[&str]| list.iter().map(|&name| name.to_owned()).collect();
        let standards = Standards {
            banned: strings(banned),
            approved: Some(strings(approved)),
            ..Standards::default()
        };
        agent
            .office
            .devices
            .set_standards(standards, agent.office.now)
            .unwrap();
        agent.sees(Check::PcSw)
    };
    let fail = |grade, since| Some(Observation::Fail { grade, since });
    let now = Some(agent.office.now);
    assert_eq!(with(&[], &["libreoffice"]), fail(Grade::Minor, now));
    assert_eq!(with(&["torrent"], &["*"]), fail(Grade::Major, now));
    // Another ban changes nothing for what was banned before.
    assert_eq!(with(&["torrent", "x"], &["*"]), fail(Grade::Major, None));
    assert_eq!(with(&[], &["*"]), Some(Observation::Pass));
}

#[test]
fn reports_are_missed_by_the_hours_online_and_not_by_the_calendar() {
    let mut office = Office::open();
    let agent = Agent::enrol(&mut office, "windows", UUID);
    agent.logs("renraku_usbstor", json!([{"data": "4"}]));
    let _ = agent.sees(Check::PcRpt);
    let presence = agent.office.devices.presence();
    // Three weeks switched off.
    agent.office.now = agent.office.now.plus(21 * 24 * HOUR);
    agent.office.devices.tick(agent.office.now).unwrap();
    assert_eq!(agent.sees(Check::PcRpt), None);
    // Then it works for a day and says nothing.
    let mut states = Vec::new();
    for _ in 0..(24 * 6 + 1) {
        presence.seen(agent.device, agent.office.now, true);
        agent.office.devices.tick(agent.office.now).unwrap();
        states.extend(agent.sees(Check::PcRpt));
        agent.office.now = agent.office.now.plus(600);
    }
    assert_eq!(states.first(), Some(&Observation::Pass));
    assert_eq!(states.last(), Some(&Observation::Unknown(Missing::Stale)));
    agent.logs("renraku_usbstor", json!([{"data": "4"}]));
    assert_eq!(agent.sees(Check::PcRpt), Some(Observation::Pass));
}

#[test]
fn a_key_that_is_not_this_devices_and_a_device_without_certificate_have_to_enrol() {
    let mut office = Office::open();
    let (other, _) = office.registered("windows", None);
    let agent = Agent::enrol(&mut office, "windows", UUID);
    let invalid = json!({"node_invalid": true});
    for (device, key) in [
        (Some(agent.device), "wrong"),
        (Some(agent.device), ""),
        (Some(other), agent.node_key.as_str()),
        (None, agent.node_key.as_str()),
    ] {
        for call in ["config", "log"] {
            let body = json!({"node_key": key, "log_type": "result", "data": []});
            assert_eq!(
                call_with(agent.office, device, call, &body),
                invalid,
                "{call}"
            );
        }
    }
    assert_eq!(call_with(agent.office, None, "enroll", &json!({})), invalid);
    // It does, and the old key is good for nothing.
    let again = enrol(agent.office, agent.device, UUID);
    assert_ne!(again["node_key"], agent.node_key.as_str());
    assert_eq!(
        agent.post("config", &json!({"node_key": agent.node_key})),
        invalid
    );
}

#[test]
fn whatever_comes_is_answered_in_osquerys_json() {
    let mut office = Office::open();
    let agent = Agent::enrol(&mut office, "windows", UUID);
    for (path, method, body, coding) in [
        ("enroll", http::Method::GET, &b""[..], None),
        ("enroll", http::Method::POST, b"not json", None),
        ("log", http::Method::POST, b"{}", Some("gzip")),
        ("log", http::Method::POST, b"{}", Some("zstd")),
        ("distributed/read", http::Method::POST, b"{}", None),
        ("distributed/write", http::Method::POST, b"{}", None),
        ("carves/start", http::Method::POST, b"{}", None),
    ] {
        let path = format!("/device/osquery/v1/{path}");
        let (status, answer) = agent.office.json(&Ask {
            method,
            coding,
            device: Some(agent.device),
            ..Ask::post(&path, body)
        });
        assert_eq!(
            (status, answer),
            (200, json!({"node_invalid": true})),
            "{path}"
        );
    }
}

#[test]
fn hardware_of_another_device_in_use_does_not_enrol_and_a_forgotten_one_is_found_again() {
    let mut office = Office::open();
    let agent = Agent::enrol(&mut office, "windows", UUID);
    let first = agent.device;
    let (second, leaf) = office.registered("windows", None);
    assert_eq!(enrol(&office, second, UUID), json!({"node_invalid": true}));
    office.devices.forget(first, office.now).unwrap();
    let _ = office.devices.take_effects();
    assert!(enrol(&office, second, UUID)["node_key"].is_string());
    let identities = office.devices.identities();
    assert_eq!(identities.identify(&[leaf], office.now), Some(first));
    assert_eq!(office.devices.take_effects().cut, [second]);
}

#[test]
fn of_a_report_names_of_people_and_their_files_are_not_kept() {
    let mut office = Office::open();
    let agent = Agent::enrol(&mut office, "windows", UUID);
    agent.logs(
        "renraku_programs",
        json!([{"name": "A", "version": "1", "install_source": "C:\\Users\\yamada"}]),
    );
    let status = json!({"node_key": agent.node_key, "log_type": "status", "data": [
        {"hostIdentifier": "DESKTOP-YAMADA", "severity": "1", "message": "C:\\Users\\yamada"}]});
    assert_eq!(agent.post("log", &status)["node_invalid"], false);
    let (_, _, report) = agent.office.devices.report(agent.device).unwrap().unwrap();
    let Some(Fact { value, .. }) = report.programs else {
        panic!("it was reported")
    };
    assert_eq!(value.len(), 1);
    for file in std::fs::read_dir(agent.office.directory.path().join("devices")).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        let text = String::from_utf8_lossy(&bytes).to_lowercase();
        assert!(
            !text.contains("yamada") && !text.contains("pf2abcde") && !text.contains("4c4c4544")
        );
    }
}
