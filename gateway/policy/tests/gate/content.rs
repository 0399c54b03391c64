//! What becomes of a body: for every outcome, kind, size, verdict and policy.

use gateway_policy::content::{
    Body, BodyKind, ContentRefusal, Direction, Pass, ScanOutcome, TEXT_DOWNLOAD_BYTES,
    TEXT_UPLOAD_BYTES, judge,
};
use gateway_policy::{Downloads, Effect, Policy, TEXT_SECONDS, Timestamp, Verdict};
use proptest::prelude::*;

use crate::stand::{HOUR, MINUTE, NOW, ago};

const DIGEST: [u8; 32] = [3; 32];

fn verdict(effect: Effect) -> Verdict {
    Verdict {
        effect,
        rule: None,
        since: NOW,
        deadline: None,
        break_glass: None,
    }
}

fn text(bytes: u64) -> Body<'static> {
    Body {
        direction: Direction::Upload,
        kind: BodyKind::Text,
        bytes,
        digest: &DIGEST,
        known_clean: false,
        scanner_proof: Some(ago(MINUTE)),
    }
}

fn unscanned(body: &Body<'_>) -> Result<Pass, ContentRefusal> {
    let downloads = Policy::built_in().downloads;
    let outcome = ScanOutcome::Unavailable;
    judge(body, outcome, &verdict(Effect::Restrict), &downloads, NOW)
}

#[test]
fn short_text_passes_for_a_quarter_of_an_hour_without_the_scanner() {
    assert_eq!(unscanned(&text(TEXT_UPLOAD_BYTES)), Ok(Pass::UnscannedText));
    assert_eq!(
        unscanned(&text(TEXT_UPLOAD_BYTES + 1)),
        Err(ContentRefusal::Unavailable)
    );
    let down = |bytes| Body {
        direction: Direction::Download,
        ..text(bytes)
    };
    assert!(unscanned(&down(TEXT_DOWNLOAD_BYTES)).is_ok());
    assert!(unscanned(&down(TEXT_DOWNLOAD_BYTES + 1)).is_err());
    for (proof, passes) in [
        (Some(ago(TEXT_SECONDS - 1)), true),
        (Some(ago(TEXT_SECONDS)), false),
        (Some(NOW.plus(MINUTE + 1)), false),
        (None, false),
    ] {
        let body = Body {
            scanner_proof: proof,
            ..text(10)
        };
        assert_eq!(unscanned(&body).is_ok(), passes, "{proof:?}");
    }
}

#[test]
fn bytes_that_were_clean_before_pass_in_the_same_time() {
    let known = Body {
        kind: BodyKind::Other,
        known_clean: true,
        ..text(20 << 20)
    };
    assert_eq!(unscanned(&known), Ok(Pass::KnownClean));
    let late = Body {
        scanner_proof: Some(ago(HOUR)),
        ..known
    };
    assert_eq!(unscanned(&late), Err(ContentRefusal::Unavailable));
}

#[test]
fn an_emergency_keeps_the_text_exception_open_and_lets_no_file_pass() {
    let emergency = Verdict {
        break_glass: Some(NOW.plus(HOUR)),
        ..verdict(Effect::Restrict)
    };
    let downloads = Policy::built_in().downloads;
    let long_dead = Body {
        scanner_proof: Some(ago(5 * HOUR)),
        ..text(100)
    };
    let ask = |body: &Body<'_>, downloads: &Downloads| {
        judge(body, ScanOutcome::Unavailable, &emergency, downloads, NOW)
    };
    assert_eq!(ask(&long_dead, &downloads), Ok(Pass::UnscannedText));
    let file = Body {
        kind: BodyKind::Other,
        ..long_dead
    };
    assert_eq!(ask(&file, &downloads), Err(ContentRefusal::Unavailable));
    let closed = Downloads {
        text_seconds: 0,
        ..downloads
    };
    assert_eq!(ask(&long_dead, &closed), Err(ContentRefusal::Unavailable));
}

#[test]
fn programs_scripts_and_macros_are_held_back_unless_listed() {
    let downloads = Policy::built_in().downloads;
    for kind in [BodyKind::Executable, BodyKind::Script, BodyKind::Macro] {
        let body = Body { kind, ..text(10) };
        let ask = |downloads: &Downloads| {
            judge(
                &body,
                ScanOutcome::Clean,
                &verdict(Effect::Allow),
                downloads,
                NOW,
            )
        };
        assert_eq!(ask(&downloads), Err(ContentRefusal::Kind(kind)));
        let listed = Downloads {
            listed: vec![DIGEST],
            ..downloads.clone()
        };
        assert_eq!(ask(&listed), Ok(Pass::Scanned));
    }
}

fn any_body() -> impl Strategy<Value = Body<'static>> {
    let kind = prop_oneof![
        Just(BodyKind::Text),
        Just(BodyKind::Executable),
        Just(BodyKind::Script),
        Just(BodyKind::Macro),
        Just(BodyKind::Other)
    ];
    let proof = prop_oneof![
        Just(None),
        (-HOUR..HOUR).prop_map(|age| Some(Timestamp(NOW.0 - age)))
    ];
    (any::<bool>(), kind, 0..2_000_000_u64, any::<bool>(), proof).prop_map(
        |(up, kind, bytes, known_clean, scanner_proof)| Body {
            direction: if up {
                Direction::Upload
            } else {
                Direction::Download
            },
            kind,
            bytes,
            digest: &DIGEST,
            known_clean,
            scanner_proof,
        },
    )
}

fn any_verdict() -> impl Strategy<Value = Verdict> {
    let effect = prop_oneof![
        Just(Effect::Allow),
        Just(Effect::Warn),
        Just(Effect::Restrict),
        Just(Effect::Block)
    ];
    let until = prop::option::of((-HOUR..HOUR).prop_map(|s| NOW.plus(s)));
    (effect, until).prop_map(|(effect, break_glass)| Verdict {
        break_glass,
        ..verdict(effect)
    })
}

fn any_downloads() -> impl Strategy<Value = Downloads> {
    (any::<[bool; 4]>(), any::<i64>()).prop_map(
        |([executables, scripts, macros, listed], text_seconds)| Downloads {
            executables,
            scripts,
            macros,
            listed: if listed { vec![DIGEST] } else { Vec::new() },
            text_seconds,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn neither_policy_nor_emergency_ever_lets_malware_pass(
        body in any_body(), verdict in any_verdict(), downloads in any_downloads(),
    ) {
        let found = judge(&body, ScanOutcome::Infected, &verdict, &downloads, NOW);
        prop_assert_eq!(found, Err(ContentRefusal::Infected));
        let opaque = judge(&body, ScanOutcome::Unscannable, &verdict, &downloads, NOW);
        prop_assert_eq!(opaque, Err(ContentRefusal::Unscannable));
    }

    #[test]
    fn what_is_neither_scanned_nor_known_passes_only_as_short_text(
        body in any_body(), verdict in any_verdict(), downloads in any_downloads(),
    ) {
        let answer = judge(&body, ScanOutcome::Unavailable, &verdict, &downloads, NOW);
        if answer.is_ok() && !body.known_clean {
            prop_assert_eq!(answer, Ok(Pass::UnscannedText));
            prop_assert_eq!(body.kind, BodyKind::Text);
            prop_assert!(body.bytes <= TEXT_DOWNLOAD_BYTES && verdict.effect < Effect::Block);
        }
    }
}
