use proptest::prelude::*;

use super::*;
use crate::schedule::Wave;
use crate::slot::Slot;
use crate::state::Candidate;

const NOW: Timestamp = Timestamp(1_796_090_400);

fn system(version: &str) -> System {
    System {
        version: version.to_owned(),
        root_hash: "aa".repeat(32),
        slot: Slot::A,
    }
}

fn manifest(version: &str) -> Manifest {
    Manifest {
        version: version.to_owned(),
        hardware: "box-1".to_owned(),
        root_hash: [0xbb; 32],
        schedule: Vec::new(),
        deadline: None,
    }
}

fn facts(running: &System) -> Facts<'_> {
    Facts {
        running,
        hardware: "box-1",
        box_id: "0123",
        window: None,
        now: NOW,
    }
}

fn with_floor(version: &str) -> State {
    let mut state = State::default();
    state.blessed(&system(version), NOW).unwrap();
    state
}

fn candidate(version: &str) -> Candidate {
    Candidate {
        system: System {
            version: version.to_owned(),
            root_hash: "bb".repeat(32),
            slot: Slot::B,
        },
        kernel: String::new(),
    }
}

#[test]
fn a_newer_release_is_installed_and_the_running_one_is_level() {
    let running = system("1.9");
    let state = with_floor("1.9");
    assert_eq!(
        decide(&manifest("1.10"), &state, &facts(&running)),
        Decision::Install
    );
    let mut same = manifest("1.9");
    same.root_hash = [0xaa; 32];
    assert_eq!(decide(&same, &state, &facts(&running)), Decision::Level);
}

#[test]
fn what_is_refused_is_refused_with_its_reason() {
    let running = system("1.9");
    let state = with_floor("1.9");
    let refused = |manifest: &Manifest, state: &State| {
        let Decision::Refuse(unfit) = decide(manifest, state, &facts(&running)) else {
            panic!("not refused");
        };
        unfit
    };
    assert_eq!(refused(&manifest("1.8"), &state), Unfit::Older);
    assert_eq!(refused(&manifest("1.9"), &state), Unfit::SameVersion);
    assert_eq!(
        refused(&manifest("1.10"), &with_floor("2.0")),
        Unfit::BelowFloor
    );
    let mut other = manifest("2.0");
    other.hardware = "box-2".to_owned();
    assert_eq!(refused(&other, &state), Unfit::Hardware);
}

#[test]
fn what_has_failed_waits_for_a_person_or_a_newer_one() {
    let running = system("1.9");
    let mut state = with_floor("1.9");
    state.begin(candidate("2.0")).unwrap();
    state.written().unwrap();
    state.started(&candidate("2.0").system, None, NOW);
    state.unhealthy(NOW).unwrap();
    let facts = facts(&running);
    assert_eq!(
        decide(&manifest("2.0"), &state, &facts),
        Decision::Refuse(Unfit::FailedBefore)
    );
    assert_eq!(decide(&manifest("2.1"), &state, &facts), Decision::Install);
    state.retry();
    assert_eq!(decide(&manifest("2.0"), &state, &facts), Decision::Install);
}

#[test]
fn a_box_waits_for_its_wave_and_says_until_when() {
    let running = system("1");
    let mut release = manifest("2");
    let wave = |at: i64, per_mille| Wave {
        not_before: Timestamp(at),
        per_mille,
    };
    release.schedule = vec![wave(NOW.0 + 3600, 1000)];
    let decided = decide(&release, &State::default(), &facts(&running));
    let then = Some(Timestamp(NOW.0 + 3600));
    assert_eq!(decided, Decision::Wait(Reason::Wave, then));
    release.schedule = vec![wave(NOW.0 - 1, 0)];
    let decided = decide(&release, &State::default(), &facts(&running));
    assert_eq!(decided, Decision::Wait(Reason::Wave, None));
    release.schedule = vec![wave(NOW.0 - 1, 1000)];
    let decided = decide(&release, &State::default(), &facts(&running));
    assert_eq!(decided, Decision::Install);
}

#[test]
fn outside_the_window_it_waits_unless_the_deadline_has_passed() {
    let running = system("1");
    let window: Window =
        toml::from_str("days = [\"tue\"]\nfrom = \"02:00\"\nuntil = \"04:00\"").unwrap();
    let mut release = manifest("2");
    let mut facts = facts(&running);
    facts.window = Some(&window);
    facts.now = Timestamp(window.next(NOW).0 + 2 * 3600);
    let opens = window.next(facts.now);
    let decided = decide(&release, &State::default(), &facts);
    assert_eq!(decided, Decision::Wait(Reason::Window, Some(opens)));
    release.deadline = Some(Timestamp(facts.now.0 + 60));
    let decided = decide(&release, &State::default(), &facts);
    assert_eq!(decided, Decision::Wait(Reason::Window, release.deadline));
    release.deadline = Some(facts.now);
    assert_eq!(
        decide(&release, &State::default(), &facts),
        Decision::Install
    );
    release.deadline = None;
    facts.now = opens;
    assert_eq!(
        decide(&release, &State::default(), &facts),
        Decision::Install
    );
}

#[test]
fn the_restart_is_judged_anew_when_it_is_due() {
    let running = system("1");
    let window: Window =
        toml::from_str("days = [\"tue\"]\nfrom = \"02:00\"\nuntil = \"04:00\"").unwrap();
    let mut state = State::default();
    state.begin(candidate("2")).unwrap();
    state.written().unwrap();
    let mut facts = facts(&running);
    facts.window = Some(&window);
    facts.now = Timestamp(window.next(NOW).0 + 2 * 3600);
    assert!(matches!(
        decide(&manifest("2"), &state, &facts),
        Decision::Wait(Reason::Window, Some(_))
    ));
    facts.now = window.next(facts.now);
    assert_eq!(decide(&manifest("2"), &state, &facts), Decision::Restart);
    // A newer one takes the place of what waits.
    assert_eq!(decide(&manifest("3"), &state, &facts), Decision::Install);
}

proptest! {
    #[test]
    fn nothing_below_the_floor_or_below_what_runs_is_ever_installed(
        offered in 0u8..12, running in 0u8..12, floor in 0u8..12, written in any::<bool>(),
    ) {
        let running_system = system(&running.to_string());
        let mut state = with_floor(&floor.to_string());
        if written {
            state.begin(candidate(&offered.to_string())).unwrap();
            state.written().unwrap();
        }
        let decided = decide(&manifest(&offered.to_string()), &state, &facts(&running_system));
        if matches!(decided, Decision::Install | Decision::Restart) {
            prop_assert!(offered > running && offered >= floor);
        }
    }
}
