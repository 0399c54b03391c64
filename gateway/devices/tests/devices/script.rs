//! What the PowerShell script sends, sent by a client that does the same.

use gateway_devices::{Kind, Name};
use gateway_policy::{Check, DeviceId, Missing, Observation, Source};
use serde_json::{Value, json};

use crate::office::{Ask, Office};

const DAY: i64 = 86_400;

fn nonce(office: &Office, device: DeviceId) -> (String, u64) {
    let (status, answer) = office.json(&Ask {
        device: Some(device),
        ..Ask::get("/device/v1/nonce")
    });
    assert_eq!(status, 200, "{answer}");
    (
        answer["nonce"].as_str().unwrap().to_owned(),
        answer["counter"].as_u64().unwrap(),
    )
}

fn report(nonce: &str, counter: u64) -> Value {
    json!({
        "version": 1, "nonce": nonce, "counter": counter,
        "hardware_uuid": "4C4C4544-0043-3010-8052-B4C04F564231",
        "os": {"major": 10, "minor": 0, "build": 26100, "revision": 4349},
        "defender": {"service": true, "realtime": true, "signature_age": 1},
        "products": [{"state": 397_568}],
        "lock": {"inactivity": 600, "saver_seconds": null, "saver_secure": null},
        "usbstor_start": 4, "media": [], "bitlocker": 1, "portable": true,
        "programs": [{"name": "LibreOffice 25.2", "version": "25.2.4"}],
    })
}

fn send(office: &Office, device: Option<DeviceId>, report: &Value) -> u16 {
    let body = report.to_string();
    let answer = office.ask(&Ask {
        device,
        ..Ask::post("/device/v1/report", body.as_bytes())
    });
    answer.status.as_u16()
}

#[test]
fn a_report_of_the_script_is_taken_for_every_check_and_says_that_it_is_the_scripts() {
    let office = Office::open();
    let (device, _) = office.registered("windows", None);
    let _ = office.devices.take_effects();
    let (number, counter) = nonce(&office, device);
    assert_eq!(counter, 0);
    assert_eq!(send(&office, Some(device), &report(&number, 1)), 204);
    let observed = office.observed(device);
    let found = |check| observed.iter().find(|one| one.check == check).unwrap();
    for check in [
        Check::PcAv,
        Check::PcOs,
        Check::PcSw,
        Check::PcLock,
        Check::PcUsb,
        Check::PcEnc,
        Check::PcRpt,
    ] {
        assert_eq!(found(check).observation, Observation::Pass, "{check:?}");
        assert_eq!(found(check).source, Source::Script);
        assert_eq!(found(check).at, office.now);
    }
    let since = office.now.plus(-DAY);
    assert_eq!(
        found(Check::PcSig).observation,
        Observation::Dated { since }
    );
}

#[test]
fn a_report_that_was_sent_before_or_answers_no_nonce_is_refused() {
    let mut office = Office::open();
    let (device, _) = office.registered("windows", None);
    let (other, _) = office.registered("windows", None);
    let (number, _) = nonce(&office, device);
    let good = report(&number, 5);
    assert_eq!(send(&office, None, &good), 403);
    assert_eq!(send(&office, Some(other), &good), 409);
    assert_eq!(send(&office, Some(device), &good), 204);
    assert_eq!(send(&office, Some(device), &good), 409, "the same again");
    let (number, counter) = nonce(&office, device);
    assert_eq!(counter, 5);
    assert_eq!(
        send(&office, Some(device), &report(&number, 5)),
        409,
        "a counter that does not grow"
    );
    let (number, _) = nonce(&office, device);
    assert_eq!(send(&office, Some(device), &report("made up", 6)), 409);
    assert_eq!(
        send(&office, Some(device), &report(&number, 6)),
        409,
        "a nonce is tried once"
    );
    let (number, _) = nonce(&office, device);
    office.now = office.now.plus(601);
    assert_eq!(
        send(&office, Some(device), &report(&number, 6)),
        409,
        "too late"
    );
    let (number, _) = nonce(&office, device);
    assert_eq!(send(&office, Some(device), &json!({"nonce": number})), 400);
}

#[test]
fn hardware_that_changes_under_one_certificate_is_refused() {
    let office = Office::open();
    let (device, _) = office.registered("windows", None);
    let (number, _) = nonce(&office, device);
    assert_eq!(send(&office, Some(device), &report(&number, 1)), 204);
    let (number, _) = nonce(&office, device);
    let mut elsewhere = report(&number, 2);
    elsewhere["hardware_uuid"] = json!("99999999-0043-3010-8052-B4C04F564231");
    assert_eq!(send(&office, Some(device), &elsewhere), 409);
}

#[test]
fn a_tablet_is_declared_for_ninety_days_and_a_pc_that_can_be_measured_is_not() {
    let mut office = Office::open();
    let (pc, _) = office.registered("windows", None);
    let declare =
        |office: &Office, id, check| office.devices.declare(id, &[check], "m-1", office.now);
    assert!(declare(&office, pc, Check::PcAv).is_err());
    let ticket = office
        .devices
        .start_pairing(
            Name::parse("A").unwrap(),
            Kind::Ipad,
            [192, 0, 2, 1].into(),
            office.now,
        )
        .unwrap()
        .unwrap();
    let tablet = office.approve(&ticket.code);
    declare(&office, tablet, Check::PcLock).unwrap();
    let observed = office.observed(tablet);
    let last = observed.last().unwrap();
    assert_eq!(
        (last.observation, last.source),
        (Observation::Pass, Source::Declared)
    );
    office.now = office.now.plus(89 * DAY);
    office.devices.tick(office.now).unwrap();
    let observed = office.observed(tablet);
    let of = |check| {
        observed
            .iter()
            .find(|one| one.check == check)
            .map(|one| one.observation)
    };
    assert_eq!(of(Check::PcLock), Some(Observation::Pass));
    assert_eq!(of(Check::PcRpt), Some(Observation::NotApplicable));
    assert_eq!(of(Check::PcOs), None, "nobody has declared it");
    office.now = office.now.plus(DAY);
    office.devices.tick(office.now).unwrap();
    assert_eq!(
        office.last(tablet, Check::PcLock),
        Some(Observation::Unknown(Missing::Stale))
    );
}

#[test]
fn a_pc_left_on_is_listed_for_its_night_and_forgiven_the_night_after() {
    let mut office = Office::open();
    let (pc, _) = office.registered("windows", None);
    // 24 November 2026, 20:00 in Japan.
    let evening = gateway_policy::Timestamp(1_795_518_000);
    let presence = office.devices.presence();
    office.now = evening;
    presence.seen(pc, office.now, true);
    for _ in 0..30 {
        office.now = office.now.plus(600);
        presence.seen(pc, office.now, false);
    }
    office.devices.tick(office.now).unwrap();
    let left_on = office.devices.left_on(evening.plus(-DAY)).unwrap();
    assert_eq!(left_on.len(), 1);
    assert_eq!((left_on[0].first, left_on[0].last), (evening, office.now));
    assert!(matches!(
        office.last(pc, Check::PcOn),
        Some(Observation::Fail { .. })
    ));
    office.now = office.now.plus(36 * 3600);
    office.devices.tick(office.now).unwrap();
    assert_eq!(office.last(pc, Check::PcOn), Some(Observation::Pass));
}
