use proptest::prelude::*;

use super::*;
use crate::slot::Tries;

fn system(version: &str, slot: Slot) -> System {
    System {
        version: version.to_owned(),
        root_hash: format!("{version}-hash"),
        slot,
    }
}

fn candidate(version: &str, slot: Slot) -> Candidate {
    Candidate {
        system: system(version, slot),
        kernel: "00".to_owned(),
    }
}

fn kernel(version: &str, tries: Option<Tries>) -> KernelName {
    KernelName {
        version: version.to_owned(),
        slot: Slot::B,
        tries,
    }
}

const NOW: Timestamp = Timestamp(1_800_000_000);
const TRIED: Option<Tries> = Some(Tries { left: 0, done: 1 });

fn with_2_written() -> State {
    let mut state = State::default();
    state.blessed(&system("1", Slot::A), NOW).unwrap();
    state.begin(candidate("2", Slot::B)).unwrap();
    state.written().unwrap();
    state
}

#[test]
fn the_floor_rises_only_when_the_new_version_was_blessed() {
    let mut state = with_2_written();
    assert_eq!(
        state.started(&system("2", Slot::B), None, NOW),
        Found::FirstStart
    );
    assert!(state.blessed(&system("2", Slot::B), NOW).is_err());
    state.healthy().unwrap();
    assert_eq!(state.floor(), Some("1"));
    state.blessed(&system("2", Slot::B), NOW).unwrap();
    assert_eq!((state.floor(), state.phase()), (Some("2"), &Phase::Idle));
    assert_eq!(state.good().unwrap().system, system("2", Slot::B));
}

#[test]
fn a_version_that_did_not_come_up_has_failed_until_a_person_says_otherwise() {
    let mut state = with_2_written();
    let old = system("1", Slot::A);
    assert_eq!(
        state.started(&old, Some(&kernel("2", TRIED)), NOW),
        Found::CameBack
    );
    assert!(state.has_failed("2", "2-hash") && !state.has_failed("2", "another"));
    assert_eq!(state.failed().unwrap().why, Why::NoVerdict);
    assert!(state.retry() && !state.retry());
    assert!(!state.has_failed("2", "2-hash"));
}

#[test]
fn a_newer_version_takes_the_place_of_the_failed_one() {
    let mut state = with_2_written();
    state.started(&system("1", Slot::A), Some(&kernel("2", TRIED)), NOW);
    state.begin(candidate("3", Slot::B)).unwrap();
    assert!(state.failed().is_none());
}

#[test]
fn a_restart_of_the_updater_alone_changes_nothing() {
    let mut state = with_2_written();
    let before = state.clone();
    let waiting = kernel("2", Some(Tries::ONE));
    assert_eq!(
        state.started(&system("1", Slot::A), Some(&waiting), NOW),
        Found::Nothing
    );
    assert_eq!(state, before);
}

#[test]
fn a_kernel_that_has_vanished_is_written_again() {
    let mut state = with_2_written();
    assert_eq!(
        state.started(&system("1", Slot::A), None, NOW),
        Found::BeginAgain
    );
    assert!(state.failed().is_none());
}

#[test]
fn a_cut_after_the_verdict_is_no_failure() {
    let mut state = with_2_written();
    state.started(&system("2", Slot::B), None, NOW);
    state.healthy().unwrap();
    let old = system("1", Slot::A);
    assert_eq!(
        state.started(&old, Some(&kernel("2", TRIED)), NOW),
        Found::BeginAgain
    );
    assert!(state.failed().is_none());
    assert_eq!(state.floor(), Some("1"));
}

#[test]
fn a_start_before_the_record_was_written_is_recognised() {
    let mut state = State::default();
    state.begin(candidate("2", Slot::B)).unwrap();
    assert_eq!(
        state.started(&system("2", Slot::B), None, NOW),
        Found::FirstStart
    );
}

#[test]
fn a_running_candidate_is_judged_before_another_is_begun() {
    let mut state = with_2_written();
    state.started(&system("2", Slot::B), None, NOW);
    assert!(state.begin(candidate("3", Slot::A)).is_err());
    state.unhealthy(NOW).unwrap();
    assert_eq!(state.failed().unwrap().why, Why::Unhealthy);
}

#[test]
fn what_waits_can_be_taken_back_and_what_runs_cannot() {
    let mut state = with_2_written();
    state.withdrawn().unwrap();
    assert_eq!(state.phase(), &Phase::Idle);
    assert!(state.failed().is_none());
    let mut state = with_2_written();
    state.started(&system("2", Slot::B), None, NOW);
    assert!(state.withdrawn().is_err());
}

#[derive(Clone, Debug)]
enum Step {
    Begin(u8),
    Written,
    Started(u8, bool),
    Healthy,
    Unhealthy,
    Bless(u8),
    Retry,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (1u8..6).prop_map(Step::Begin),
        Just(Step::Written),
        (1u8..6, any::<bool>()).prop_map(|(version, tried)| Step::Started(version, tried)),
        Just(Step::Healthy),
        Just(Step::Unhealthy),
        (1u8..6).prop_map(Step::Bless),
        Just(Step::Retry),
    ]
}

proptest! {
    #[test]
    fn the_floor_is_never_above_what_was_blessed_and_never_sinks(
        steps in proptest::collection::vec(step(), 0..60)
    ) {
        let mut state = State::default();
        let mut highest = 0;
        let mut floor = 0;
        for step in steps {
            let failed = state.failed().cloned();
            match step {
                Step::Begin(version) => drop(state.begin(candidate(&version.to_string(), Slot::B))),
                Step::Written => drop(state.written()),
                Step::Started(version, tried) => {
                    let kernel = kernel("x", tried.then_some(Tries { left: 0, done: 1 }));
                    state.started(&system(&version.to_string(), Slot::B), Some(&kernel), NOW);
                }
                Step::Healthy => drop(state.healthy()),
                Step::Unhealthy => drop(state.unhealthy(NOW)),
                Step::Bless(version) => {
                    if state.blessed(&system(&version.to_string(), Slot::B), NOW).is_ok() {
                        highest = highest.max(version);
                    }
                }
                Step::Retry => drop(state.retry()),
            }
            let now = state.floor().map_or(0, |floor| floor.parse().unwrap());
            prop_assert!(now >= floor && now <= highest);
            floor = now;
            // A failure is forgotten for a newer version, a person, or because the version is good after all.
            if let Some(failed) = failed && state.failed() != Some(&failed) {
                let newer = matches!(state.phase(), Phase::Fetching(it) if it.system.version > failed.version);
                let good = state.good().is_some_and(|good| good.system.version == failed.version);
                prop_assert!(newer || good || state.failed().is_some() || matches!(step, Step::Retry));
            }
            // What is kept is read again as it was.
            let text = serde_json::to_string(&state).unwrap();
            prop_assert_eq!(serde_json::from_str::<State>(&text).unwrap(), state.clone());
        }
    }
}
