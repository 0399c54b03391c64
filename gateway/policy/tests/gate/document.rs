//! The city's signed policy: what it may say, and what it may never do.

use gateway_policy::{
    Check, Effect, LeastSystem, OperatingSystem, PROGRAM_BYTES, PROGRAMS, Part, Policy,
    PolicyContext, PolicyError, PolicyFault, SYSTEMS, TEXT_SECONDS, Timestamp, VersionFloor, Wait,
    bounds,
};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::stand::{DAY, NOW, ago};

fn context() -> PolicyContext<'static> {
    PolicyContext {
        now: NOW,
        floor: VersionFloor::kept(3),
        facility: "F-0812",
    }
}

fn plain() -> Value {
    json!({
        "version": 4,
        "not_before": ago(DAY).0,
        "expires": NOW.plus(90 * DAY).0,
        "facilities": ["*"],
    })
}

fn with(key: &str, value: Value) -> Value {
    let mut document = plain();
    document[key] = value;
    document
}

fn read(document: &Value) -> Result<Policy, PolicyError> {
    Policy::parse(document.to_string().as_bytes(), &context())
}

fn faults(document: &Value) -> Vec<PolicyFault> {
    match read(document) {
        Err(PolicyError::Faulty(faults)) => faults,
        other => panic!("{other:?}"),
    }
}

fn set(check: &str, parameter: &str, value: i64) -> Value {
    json!({ "check": check, "parameter": parameter, "value": value })
}

#[test]
fn a_policy_that_sets_nothing_is_the_built_in_one_with_a_version_and_an_end() {
    let policy = read(&plain()).unwrap();
    let mut expected = Policy::built_in();
    expected.version = 4;
    expected.expires = Some(NOW.plus(90 * DAY));
    assert_eq!(policy, expected);
}

#[test]
fn everything_a_policy_may_say_is_taken_over() {
    let document = json!({
        "version": 9,
        "not_before": ago(DAY).0,
        "expires": NOW.plus(90 * DAY).0,
        "facilities": ["F-0001", "F-0812"],
        "set": [
            set("AV-DB", "dated.block", 14 * DAY),
            set("PC-USB", "major.restrict", 5),
            set("PC-AV", "major.restrict", 600),
        ],
        "waivers": [{ "check": "UPD", "until": NOW.plus(30 * DAY).0, "reason": "版に不具合" }],
        "store": {
            "days": 14, "attachments": false, "notes": 5000, "attachment_bytes": 1 << 20, "attachment_days": 7,
            "attachment_types": ["image/*", "application/pdf"],
        },
        "downloads": { "macros": true, "listed": ["ab".repeat(32)], "text_seconds": 0 },
        "windows": [{ "days": ["sat", "sun"], "from": "22:00", "to": "05:30" }],
        "terms_version": "令和8年4月",
        "texts": { "notice": "お知らせ" },
        "phone": "0293-22-0080",
    });
    let policy = read(&document).unwrap();
    let rung = |check, part, effect| policy.thresholds(check).part(part).rung(effect);
    assert_eq!(
        rung(Check::AvDb, Part::Dated, Effect::Block),
        Wait::Seconds(14 * DAY)
    );
    assert_eq!(
        rung(Check::PcUsb, Part::Major, Effect::Restrict),
        Wait::BusinessDays(5)
    );
    assert_eq!(
        rung(Check::PcAv, Part::Major, Effect::Restrict),
        Wait::Seconds(600)
    );
    assert_eq!(policy.waivers[0].0, Check::Upd);
    assert_eq!(
        (policy.store.days, policy.store.attachments),
        (Some(14), Some(false))
    );
    let store = &policy.store;
    assert_eq!(
        (store.notes, store.attachment_bytes, store.attachment_days),
        (Some(5000), Some(1 << 20), Some(7))
    );
    assert_eq!(
        store.attachment_types.as_deref().unwrap_or_default(),
        ["image/*", "application/pdf"]
    );
    assert!(policy.downloads.macros && !policy.downloads.executables);
    assert_eq!(policy.downloads.listed, [[0xab; 32]]);
    assert_eq!(policy.downloads.text_seconds, 0);
    assert_eq!((policy.windows[0].from, policy.windows[0].to), (1320, 330));
    assert_eq!(policy.phone.as_deref(), Some("0293-22-0080"));
    assert_eq!(VersionFloor::kept(3).raised(&policy).version(), 9);
    assert_eq!(VersionFloor::kept(12).raised(&policy).version(), 12);
}

#[test]
fn accesses_are_kept_neither_too_short_to_be_asked_for_nor_for_ever() {
    for (days, fits) in [(29, false), (30, true), (1830, true), (1831, false)] {
        let document = with("store", json!({ "access_log_days": days }));
        assert_eq!(read(&document).is_ok(), fits, "{days}");
    }
    let refused = faults(&with("store", json!({ "access_log_days": 0 })));
    assert_eq!(refused, [PolicyFault::Bound("store.access_log_days")]);
}

#[test]
fn a_store_is_bounded_whatever_the_policy_says() {
    let refused = |store: Value| faults(&with("store", store));
    for (member, most) in [
        ("notes", 1_000_000_u64),
        ("attachment_bytes", 50 << 20),
        ("attachment_days", 90),
    ] {
        assert!(read(&with("store", json!({ member: most }))).is_ok());
        assert_eq!(refused(json!({ member: most + 1 })).len(), 1, "{member}");
    }
    for text in [
        "",
        "png",
        "image/",
        "/png",
        "image/*/x",
        "image/p ng",
        "*/*",
    ] {
        assert_eq!(
            refused(json!({ "attachment_types": [text] })),
            [PolicyFault::MediaType(0)],
            "{text}"
        );
    }
    assert_eq!(
        refused(json!({ "attachment_types": vec!["image/png"; 65] })),
        [PolicyFault::TooLong("store.attachment_types")]
    );
}

#[test]
fn an_older_expired_future_or_foreign_policy_is_refused() {
    assert_eq!(
        faults(&with("version", json!(2))),
        [PolicyFault::Rollback {
            version: 2,
            floor: 3
        }]
    );
    assert_eq!(
        faults(&with("expires", json!(NOW.0))),
        [PolicyFault::Expired(NOW)]
    );
    let tomorrow = NOW.plus(DAY);
    assert_eq!(
        faults(&with("not_before", json!(tomorrow.0))),
        [PolicyFault::NotYet(tomorrow)]
    );
    assert_eq!(
        faults(&with("facilities", json!(["F-0001"]))),
        [PolicyFault::NotForThisFacility]
    );
    assert_eq!(
        faults(&with("expires", json!(i64::MAX))),
        [PolicyFault::Lifetime]
    );
}

#[test]
fn all_faults_are_told_together() {
    let mut document = with(
        "set",
        json!([
            set("AV-DB", "dated.block", 15 * DAY),
            set("NO-SUCH", "dated.block", 1),
            set("BOOT", "major.block", 1),
            set("SBOM", "major.block", DAY),
            set("PC-AV", "sometimes", 1),
            set("PC-OS", "major.warn", 28 * DAY),
            set("PC-OS", "major.restrict", 27 * DAY),
            set("PC-OS", "major.warn", 28 * DAY),
        ]),
    );
    document["version"] = json!(0);
    document["waivers"] = json!([{ "check": "BOOT", "until": NOW.plus(DAY).0, "reason": "x" }]);
    document["downloads"] = json!({ "text_seconds": 901, "listed": ["zz"] });
    document["windows"] = json!([{ "days": [], "from": "24:00", "to": "1:00" }]);
    let found = faults(&document);
    assert_eq!(found.len(), 13, "{found:#?}");
}

#[test]
fn what_is_not_a_policy_is_refused_without_a_word_of_it_in_force() {
    for document in [
        with("unknown", json!(1)),
        with("version", json!("4")),
        with("version", json!(-4)),
        json!([]),
    ] {
        assert!(matches!(read(&document), Err(PolicyError::Malformed(_))));
    }
    let large = vec![b' '; gateway_policy::POLICY_BYTES + 1];
    assert!(matches!(
        Policy::parse(&large, &context()),
        Err(PolicyError::TooLarge)
    ));
}

#[test]
fn the_citys_lists_for_devices_are_taken_over() {
    let policy = read(&with(
        "devices",
        json!({
            "systems": [
                { "platform": "windows", "least": "10.0.26100.4349" },
                { "platform": "windows", "least": "10.0.26200.1" },
                { "platform": "ubuntu", "least": "24.04.2" },
                { "platform": "macos", "least": "15" },
            ],
            "banned": ["µTorrent*", "C"],
            "approved": ["LibreOffice*", "一太郎 2026"],
        }),
    ))
    .unwrap();
    let least = |platform, least: &[u32]| LeastSystem {
        platform,
        least: least.to_vec(),
    };
    assert_eq!(
        policy.devices.systems,
        [
            least(OperatingSystem::Windows, &[10, 0, 26100, 4349]),
            least(OperatingSystem::Windows, &[10, 0, 26200, 1]),
            least(OperatingSystem::Ubuntu, &[24, 4, 2]),
            least(OperatingSystem::Macos, &[15]),
        ]
    );
    assert_eq!(policy.devices.banned, ["µTorrent*", "C"]);
    assert_eq!(policy.devices.approved.as_ref().unwrap().len(), 2);
    // An empty list of checked programs is a list; none is none.
    let empty = read(&with("devices", json!({ "approved": [] }))).unwrap();
    assert_eq!(empty.devices.approved, Some(Vec::new()));
    let none = read(&with("devices", json!({}))).unwrap();
    assert_eq!(none.devices, Policy::built_in().devices);
}

#[test]
fn a_release_that_cannot_be_or_is_named_twice_is_refused() {
    let system = |platform: &str, least: &str| json!({ "platform": platform, "least": least });
    for (platform, least) in [
        ("windows", "10.0"),
        ("windows", "10.0.26100.1.1"),
        ("windows", "10.0.26100."),
        ("windows", "10.0.26100.x"),
        ("windows", "10.0.26100.+1"),
        ("windows", "10.0.26100.4294967296"),
        ("windows", ""),
        ("ubuntu", "24"),
        ("macos", " 15"),
        ("debian", "-1"),
    ] {
        let document = with("devices", json!({ "systems": [system(platform, least)] }));
        assert_eq!(faults(&document), [PolicyFault::System(0)], "{least:?}");
    }
    let twice = json!([
        system("windows", "10.0.26100.4349"),
        system("windows", "10.0.26100.5000"),
        system("ubuntu", "24.04"),
        system("ubuntu", "24.4.2"),
    ]);
    assert_eq!(
        faults(&with("devices", json!({ "systems": twice }))),
        [PolicyFault::SystemTwice(1), PolicyFault::SystemTwice(3)]
    );
    let many: Vec<Value> = (0..=SYSTEMS)
        .map(|release| system("debian", &release.to_string()))
        .collect();
    assert_eq!(
        faults(&with("devices", json!({ "systems": many }))),
        [PolicyFault::TooLong("devices.systems")]
    );
    for malformed in [
        json!({ "systems": [system("beos", "5")] }),
        json!({ "systems": [{ "platform": "macos", "least": "15", "revision": 1 }] }),
        json!({ "systems": [{ "platform": "macos", "least": 15 }] }),
        json!({ "forbidden": [] }),
        json!({ "banned": "x" }),
        json!(null),
    ] {
        assert!(
            matches!(
                read(&with("devices", malformed.clone())),
                Err(PolicyError::Malformed(_))
            ),
            "{malformed}"
        );
    }
}

#[test]
fn names_of_programs_are_bounded_and_none_of_them_means_everything() {
    let longest = "x".repeat(PROGRAM_BYTES);
    assert!(read(&with("devices", json!({ "banned": [longest] }))).is_ok());
    let long = "x".repeat(PROGRAM_BYTES + 1);
    for name in [
        "", "*", "**", "ab*", "a*b", "abc**", " abc", "abc ", "a\nb", &long,
    ] {
        assert_eq!(
            faults(&with(
                "devices",
                json!({ "banned": ["good", name], "approved": [name] })
            )),
            [
                PolicyFault::Program("devices.banned", 1),
                PolicyFault::Program("devices.approved", 0),
            ],
            "{name:?}"
        );
    }
    let many = vec!["x"; PROGRAMS + 1];
    assert_eq!(
        faults(&with(
            "devices",
            json!({ "banned": many, "approved": many })
        )),
        [
            PolicyFault::TooLong("devices.banned"),
            PolicyFault::TooLong("devices.approved"),
        ]
    );
}

fn any_setting() -> impl Strategy<Value = Value> {
    let check = prop::sample::select(Check::ALL.to_vec());
    let part = prop::sample::select(Part::ALL.to_vec());
    let effect = prop::sample::select(vec![Effect::Warn, Effect::Restrict, Effect::Block]);
    let value = prop_oneof![0..2 * DAY, 0..120 * DAY, any::<i64>(), Just(0)];
    (check, part, effect, value).prop_map(|(check, part, effect, value)| {
        set(check.id(), &format!("{}.{}", part.id(), effect.id()), value)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2048, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_policy_ever_crosses_the_bounds(
        settings in prop::collection::vec(any_setting(), 0..3), text_seconds in -10..2000_i64,
    ) {
        let mut document = with("set", json!(settings));
        document["downloads"] = json!({ "text_seconds": text_seconds });
        let Ok(policy) = read(&document) else { return Ok(()) };
        prop_assert!(policy.downloads.text_seconds <= TEXT_SECONDS);
        for check in Check::ALL {
            for part in Part::ALL {
                for effect in [Effect::Warn, Effect::Restrict, Effect::Block] {
                    let wait = match policy.thresholds(check).part(part).rung(effect) {
                        Wait::Never => None,
                        Wait::Seconds(value) => Some(value),
                        Wait::BusinessDays(value) => Some(i64::from(value)),
                    };
                    let bounds = bounds(check, part, effect);
                    prop_assert_eq!(wait.is_some(), bounds.is_some());
                    if let (Some(wait), Some((least, most))) = (wait, bounds) {
                        prop_assert!((least..=most).contains(&wait));
                    }
                }
            }
        }
        let blocked = policy.thresholds(Check::Boot).major.from(Timestamp(0));
        prop_assert_eq!(blocked.effect(Timestamp(0)), Effect::Block);
        let old = policy.thresholds(Check::AvDb).dated.from(ago(14 * DAY));
        prop_assert_eq!(old.effect(NOW), Effect::Block);
    }

    #[test]
    fn no_bytes_stop_the_reader(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = Policy::parse(&bytes, &context());
    }
}
