//! The city's signed policy: no panic; what is taken over keeps every compiled-in bound, whatever it says.
#![no_main]

use gateway_policy::{
    Check, Effect, Part, Policy, PolicyContext, TEXT_SECONDS, Timestamp, VersionFloor, Wait, bounds,
};
use libfuzzer_sys::fuzz_target;

const NOW: Timestamp = Timestamp(1_800_000_000);

fuzz_target!(|bytes: &[u8]| {
    let context = PolicyContext {
        now: NOW,
        floor: VersionFloor::kept(2),
        facility: "F-0812",
    };
    let Ok(policy) = Policy::parse(bytes, &context) else {
        return;
    };
    assert!(policy.version >= 2 && !policy.is_expired(NOW));
    assert!((0..=TEXT_SECONDS).contains(&policy.downloads.text_seconds));
    for check in Check::ALL {
        for part in Part::ALL {
            for effect in [Effect::Warn, Effect::Restrict, Effect::Block] {
                let wait = match policy.thresholds(check).part(part).rung(effect) {
                    Wait::Never => None,
                    Wait::Seconds(value) => Some(value),
                    Wait::BusinessDays(days) => Some(i64::from(days)),
                };
                match (wait, bounds(check, part, effect)) {
                    (None, None) => {}
                    (Some(wait), Some((least, most))) => {
                        assert!((least..=most).contains(&wait), "{check:?} {part:?} {effect:?}");
                    }
                    (wait, bounds) => panic!("{check:?} {part:?} {effect:?}: {wait:?} {bounds:?}"),
                }
            }
        }
    }
    for (check, waiver) in &policy.waivers {
        assert_eq!(waiver.permitted(*check, NOW), Ok(()));
    }
});
