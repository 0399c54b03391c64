use proptest::prelude::*;
use serde_json::json;

use super::*;

const NOW: i64 = 1_800_000_000;

/// A line as osquery's logger writes a snapshot.
fn line(name: &str, rows: Value) -> Value {
    json!({
        "snapshot": rows, "action": "snapshot", "name": name, "hostIdentifier": "4C4C4544-0043",
        "calendarTime": "Fri Jan 15 08:00:00 2027 UTC", "unixTime": NOW - 60, "epoch": 0, "counter": 0,
        "numerics": false,
    })
}

fn says(name: &str, rows: Value) -> Report {
    translate(&line(name, rows), NOW)
}

#[test]
fn windows_antivirus_is_the_best_of_its_products_and_definitions_are_of_the_one_that_is_on() {
    let product = |state: &str, current: &str| json!({"type": "Antivirus", "state": state, "signatures_up_to_date": current});
    let report = says(
        "renraku_security_products",
        json!([product("Off", "0"), product("On", "1")]),
    );
    assert_eq!(report.antivirus.unwrap().value, Antivirus::On);
    assert_eq!(report.signatures.unwrap().value, Signatures::Current);
    for (state, expected) in [
        ("On", Antivirus::On),
        ("Off", Antivirus::Off),
        ("Snoozed", Antivirus::Snoozed),
        ("Expired", Antivirus::Expired),
    ] {
        let report = says("renraku_security_products", json!([product(state, "0")]));
        assert_eq!(report.antivirus.unwrap().value, expected);
        assert_eq!(report.signatures.unwrap().value, Signatures::Outdated);
    }
    assert!(says("renraku_security_products", json!([])).is_empty());
    assert!(says("renraku_security_products", json!([product("?", "")])).is_empty());
    let center = |state: &str| says("renraku_security_center", json!([{"antivirus": state}]));
    assert_eq!(center("Good").antivirus.unwrap().value, Antivirus::On);
    assert_eq!(center("Poor").antivirus.unwrap().value, Antivirus::Off);
    assert!(center("Error").is_empty());
}

#[test]
fn a_windows_version_is_put_together_from_its_registry_values() {
    let values = |revision: &str| {
        json!([
            {"name": "CurrentBuildNumber", "data": "26100"}, {"name": "CurrentMajorVersionNumber", "data": "10"},
            {"name": "CurrentMinorVersionNumber", "data": "0"}, {"name": "UBR", "data": revision},
        ])
    };
    let os = says("renraku_windows_version", values("4349")).os.unwrap();
    assert_eq!(os.value.version.to_string(), "10.0.26100.4349");
    assert_eq!(os.at, NOW - 60);
    assert!(
        says(
            "renraku_windows_version",
            json!([{"name": "UBR", "data": "1"}])
        )
        .is_empty()
    );
}

#[test]
fn other_systems_say_their_version_in_words() {
    let os = |platform: &str, version: &str| {
        says(
            "renraku_os_version",
            json!([{"platform": platform, "version": version}]),
        )
        .os
        .map(|os| (os.value.platform, os.value.version.to_string()))
    };
    assert_eq!(os("darwin", "15.5"), Some((Platform::Macos, "15.5".into())));
    assert_eq!(
        os("debian", "12 (bookworm)"),
        Some((Platform::Debian, "12".into()))
    );
    assert_eq!(
        os("ubuntu", "24.04.2 LTS (Noble Numbat)"),
        Some((Platform::Ubuntu, "24.4.2".into()))
    );
    assert_eq!(os("plan9", "4"), None);
}

#[test]
fn windows_locks_by_the_machine_or_by_a_secure_screen_saver() {
    let lock = |inactivity: &str, saver: &str, secure: &str| {
        says(
            "renraku_windows_lock",
            json!([
                {"name": "inactivity", "data": inactivity}, {"name": "saver_seconds", "data": saver},
                {"name": "saver_secure", "data": secure},
            ]),
        )
        .lock
        .unwrap()
        .value
        .seconds
    };
    assert_eq!(lock("600", "", ""), Some(600));
    assert_eq!(lock("0", "", ""), None);
    assert_eq!(lock("", "300", "1"), Some(300));
    assert_eq!(lock("", "300", "0"), None);
    assert_eq!(lock("900", "300", "1"), Some(300));
    assert_eq!(lock("", "", ""), None);
    assert!(says("renraku_windows_lock", json!([])).is_empty());
    let mac = |enabled: &str, grace: &str| {
        let rows = json!([{"enabled": enabled, "grace_period": grace}]);
        says("renraku_screenlock", rows).lock.unwrap().value.seconds
    };
    assert_eq!(mac("1", "300"), Some(300));
    assert_eq!(mac("1", "0"), Some(1));
    assert_eq!(mac("0", "0"), None);
    assert_eq!(mac("1", "-1"), None);
}

#[test]
fn usb_storage_and_what_was_plugged_in_are_read_from_the_registry() {
    let start = |data: &str| {
        says("renraku_usbstor", json!([{"data": data}]))
            .usb
            .unwrap()
            .value
    };
    assert!(start("4").disabled && !start("3").disabled);
    let report = says(
        "renraku_usb_media",
        json!([{"name": "4C53&0"}, {"name": "AA11&0"}, {"name": "4c53&1"}]),
    );
    assert_eq!(report.media.unwrap().value, ["4C53", "AA11"]);
    // Emptiness is the fact here: nothing was ever plugged in.
    assert!(
        says("renraku_usb_media", json!([]))
            .media
            .unwrap()
            .value
            .is_empty()
    );
}

#[test]
fn the_systems_drive_decides_whether_a_pc_is_encrypted() {
    let drives = |system: &str, other: &str| {
        says(
            "renraku_bitlocker",
            json!([
                {"drive_letter": "D:", "protection_status": other},
                {"drive_letter": "C:", "protection_status": system},
            ]),
        )
        .encrypted
        .unwrap()
        .value
    };
    assert!(drives("1", "0") && !drives("0", "1") && !drives("2", "1"));
    assert!(says("renraku_bitlocker", json!([])).is_empty());
    let one = |on: &str| says("renraku_disk_encryption", json!([{"encrypted": on}])).encrypted;
    assert!(one("1").unwrap().value && !one("0").unwrap().value && one("").is_none());
}

#[test]
fn linux_and_mac_say_it_in_their_own_tables() {
    let running = |count: i64| {
        says("renraku_clamd", json!([{"running": count}]))
            .antivirus
            .unwrap()
            .value
    };
    assert_eq!((running(1), running(0)), (Antivirus::On, Antivirus::Off));
    let built = |rows: Value| {
        says("renraku_clamav_database", rows)
            .signatures
            .map(|fact| fact.value)
    };
    assert_eq!(
        built(json!([{"built": "1799990000"}])),
        Some(Signatures::Built(1_799_990_000))
    );
    assert_eq!(built(json!([{"built": ""}])), Some(Signatures::Never));
    // From the future: believed as of now.
    assert_eq!(
        built(json!([{"built": "1900000000"}])),
        Some(Signatures::Built(NOW))
    );
    assert_eq!(built(json!([])), None);
    let keeper = says("renraku_gatekeeper", json!([{"assessments_enabled": "0"}]));
    assert_eq!(keeper.antivirus.unwrap().value, Antivirus::Off);
    let updates = says("renraku_xprotect_updates", json!([{"value": "1"}]));
    assert_eq!(updates.signatures.unwrap().value, Signatures::Current);
}

#[test]
fn programs_are_kept_by_name_and_version_only() {
    let report = says(
        "renraku_programs",
        json!([
            {"name": "B", "version": "2", "install_location": "C:\\Users\\yamada"}, {"name": " A\n", "version": "1"},
            {"name": "B", "version": "2"}, {"name": "", "version": "9"},
        ]),
    );
    let names: Vec<String> = report
        .programs
        .unwrap()
        .value
        .into_iter()
        .map(|program| program.name)
        .collect();
    assert_eq!(names, ["A", "B"]);
}

#[test]
fn a_line_from_the_future_counts_as_of_now_and_one_without_time_not_at_all() {
    let mut future = line("renraku_usbstor", json!([{"data": "4"}]));
    future["unixTime"] = json!(NOW + 86_400);
    assert_eq!(translate(&future, NOW).usb.unwrap().at, NOW);
    future["unixTime"] = json!("1799999999");
    assert_eq!(translate(&future, NOW).usb.unwrap().at, NOW - 1);
    future["unixTime"] = Value::Null;
    assert!(translate(&future, NOW).is_empty());
}

#[test]
fn a_difference_and_a_query_that_is_not_ours_say_nothing() {
    let difference = json!({
        "name": "renraku_usbstor", "action": "added", "columns": {"data": "4"}, "unixTime": NOW,
    });
    assert!(translate(&difference, NOW).is_empty());
    assert!(says("pack/other/usbstor", json!([{"data": "4"}])).is_empty());
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[ -~]{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map("(name|data|state|type|encrypted|version)", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn no_answer_however_malformed_is_taken_for_protection(rows in any_json(), time in any_json()) {
        for name in ["renraku_security_products", "renraku_security_center", "renraku_bitlocker", "renraku_usbstor",
            "renraku_windows_lock", "renraku_programs", "renraku_usb_media", "renraku_clamav_database"] {
            let report = translate(&json!({"name": name, "snapshot": rows, "unixTime": time}), NOW);
            // Whatever is read is of the past and says exactly one of the known things; none of the random texts says "on".
            for at in [report.antivirus.as_ref().map(|f| f.at), report.usb.as_ref().map(|f| f.at)].into_iter().flatten() {
                prop_assert!((0..=NOW).contains(&at));
            }
        }
    }
}
