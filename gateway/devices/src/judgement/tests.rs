use proptest::prelude::*;

use super::*;
use crate::report::{Lock, UsbStorage};

const AT: i64 = 1_800_000_000;

fn fact<T>(value: T) -> Option<Fact<T>> {
    Some(Fact { value, at: AT })
}

fn of(report: &Report, check: Check) -> Option<Observation> {
    of_with(report, check, &Standards::default(), None)
}

fn of_with(
    report: &Report,
    check: Check,
    standards: &Standards,
    unregistered: Option<Timestamp>,
) -> Option<Observation> {
    judge(report, standards, unregistered, Source::Agent)
        .into_iter()
        .find(|observed| observed.check == check)
        .map(|observed| observed.observation)
}

fn os(platform: Platform, version: &str) -> Report {
    Report {
        os: fact(Os {
            platform,
            version: Version::parse(version).unwrap(),
        }),
        ..Report::default()
    }
}

#[test]
fn an_operating_system_is_held_against_the_least_build_of_its_own_release() {
    let standards = Standards {
        least: [
            (Platform::Windows, "10.0.26100.4349"),
            (Platform::Windows, "10.0.22631.5472"),
            (Platform::Macos, "15.5"),
            (Platform::Debian, "12"),
        ]
        .into_iter()
        .map(|(platform, version)| (platform, Version::parse(version).unwrap()))
        .collect(),
        ..Standards::default()
    };
    for (platform, version, good) in [
        (Platform::Windows, "10.0.26100.4349", true),
        (Platform::Windows, "10.0.26100.4348", false),
        (Platform::Windows, "10.0.26100", false),
        (Platform::Windows, "10.0.22631.5472", true),
        // Newer than the list in number, but of a release that is not supported.
        (Platform::Windows, "10.0.22621.9999", false),
        (Platform::Windows, "10.0.19045.5965", false),
        (Platform::Windows, "6.1.7601.24546", false),
        (Platform::Windows, "10.0.27000.1", true),
        (Platform::Macos, "15.4.1", false),
        (Platform::Macos, "15.5", true),
        (Platform::Macos, "14.7", false),
        (Platform::Macos, "26.0", true),
        (Platform::Debian, "12.9", true),
        (Platform::Debian, "11.11", false),
        (Platform::Ubuntu, "24.04", false),
    ] {
        let observed = of_with(&os(platform, version), Check::PcOs, &standards, None);
        assert_eq!(observed, Some(pass_if(good)), "{platform:?} {version}");
    }
}

#[test]
fn a_banned_program_is_worse_than_an_unknown_one() {
    let report = Report {
        programs: fact(vec![
            Program {
                name: "LibreOffice 25.2".into(),
                version: "25.2".into(),
            },
            Program {
                name: "µTorrent".into(),
                version: "3".into(),
            },
        ]),
        ..Report::default()
    };
    let with = |banned: &[&str], approved: Option<&[&str]>| {
        let strings = |list: &[&str]| list.iter().map(|&name| name.to_owned()).collect();
        let standards = Standards {
            banned: strings(banned),
            approved: approved.map(strings),
            ..Standards::default()
        };
        of_with(&report, Check::PcSw, &standards, None)
    };
    let fail = |grade| Some(Observation::Fail { grade, since: None });
    assert_eq!(with(&[], None), Some(Observation::Pass));
    assert_eq!(with(&[], Some(&["LibreOffice*"])), fail(Grade::Minor));
    assert_eq!(
        with(&["µtorrent"], Some(&["*"])),
        fail(Grade::Major),
        "banned although everything is approved"
    );
    assert_eq!(
        with(&["torrent"], Some(&["libreoffice*", "µTorrent"])),
        Some(Observation::Pass)
    );
}

#[test]
fn a_screen_has_to_be_locked_within_fifteen_minutes() {
    for (seconds, good) in [
        (Some(900), true),
        (Some(1), true),
        (Some(901), false),
        (Some(0), false),
        (None, false),
    ] {
        let report = Report {
            lock: fact(Lock { seconds }),
            ..Report::default()
        };
        assert_eq!(
            of(&report, Check::PcLock),
            Some(pass_if(good)),
            "{seconds:?}"
        );
    }
}

#[test]
fn usb_storage_may_be_off_on_or_in_use() {
    let report = |disabled| Report {
        usb: fact(UsbStorage { disabled }),
        media: fact(vec!["X".to_owned()]),
        ..Report::default()
    };
    let since = Timestamp(AT - 5);
    let seen = |disabled, unregistered| {
        of_with(
            &report(disabled),
            Check::PcUsb,
            &Standards::default(),
            unregistered,
        )
    };
    assert_eq!(seen(true, None), Some(Observation::Pass));
    assert_eq!(
        seen(false, None),
        Some(Observation::Fail {
            grade: Grade::Minor,
            since: None
        })
    );
    for disabled in [true, false] {
        assert_eq!(
            seen(disabled, Some(since)),
            Some(Observation::Fail {
                grade: Grade::Major,
                since: Some(since)
            })
        );
    }
}

#[test]
fn only_a_pc_known_to_stay_at_its_desk_need_not_be_encrypted() {
    let seen = |encrypted: Option<bool>, portable: Option<bool>| {
        let report = Report {
            encrypted: encrypted.and_then(fact),
            portable: portable.and_then(fact),
            ..Report::default()
        };
        of(&report, Check::PcEnc)
    };
    assert_eq!(seen(Some(true), None), Some(Observation::Pass));
    assert_eq!(seen(Some(false), None), Some(FAILED));
    assert_eq!(seen(Some(false), Some(true)), Some(FAILED));
    assert_eq!(
        seen(Some(false), Some(false)),
        Some(Observation::NotApplicable)
    );
    assert_eq!(seen(None, Some(false)), Some(Observation::NotApplicable));
    assert_eq!(seen(Some(true), Some(false)), Some(Observation::Pass));
    assert_eq!(seen(None, Some(true)), None);
}

#[test]
fn what_a_report_does_not_speak_of_is_not_observed() {
    assert!(
        judge(
            &Report::default(),
            &Standards::default(),
            None,
            Source::Agent
        )
        .is_empty()
    );
    let only_media = Report {
        media: fact(Vec::new()),
        ..Report::default()
    };
    assert!(judge(&only_media, &Standards::default(), None, Source::Agent).is_empty());
}

proptest! {
    #[test]
    fn a_version_reads_what_it_writes(parts in prop::collection::vec(any::<u32>(), 1..=4)) {
        let version = Version(parts);
        prop_assert_eq!(Version::parse(&version.to_string()), Some(version));
    }

    #[test]
    fn a_newer_correction_of_one_release_is_never_judged_worse(
        older in 0_u32..100_000, more in 0_u32..100_000, least in 0_u32..100_000,
    ) {
        let standards = Standards {
            least: vec![(Platform::Windows, Version(vec![10, 0, 26_100, least]))],
            ..Standards::default()
        };
        let good = |revision| is_supported(
            &Os { platform: Platform::Windows, version: Version(vec![10, 0, 26_100, revision]) },
            &standards,
        );
        prop_assert!(!good(older) || good(older + more));
    }
}
