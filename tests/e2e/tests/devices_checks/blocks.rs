//! The hardest effect: definitions, updates and reports that stay away until nothing is forwarded any more.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

use serde_json::json;
use test_harness::signatures::Signatures;
use test_harness::{WallClock, wait};

use crate::office::{DAY, HOUR, IN_ORDER, Office, SOON, State, facility};

/// The PC reaches the notebook.
#[track_caller]
fn opens(office: &Office<'_>) {
    let page = office.pc.notebook("staff/login");
    let mut last = None;
    let opened = wait::until("the notebook", SOON, || {
        let answer = office.pc.open(&page);
        (last.insert(answer).status == 200).then_some(())
    });
    assert!(opened.is_ok(), "{last:?}");
}

/// The PC is kept from the notebook by this check; for a moment after a step of the clock the box's own come first.
#[track_caller]
fn is_refused_by(office: &Office<'_>, check: &str) {
    let page = office.pc.notebook("staff/login");
    let rule = format!("rule=\"{check}\"");
    let mut last = String::new();
    let refused = wait::until("a refusal", SOON, || {
        let code = office.pc.open(&page).support_code()?;
        let log = office.facility.gateway.log();
        last = log.lines().find(|line| line.contains(&code))?.to_owned();
        last.contains(&rule).then_some(())
    });
    assert!(refused.is_ok(), "{check}: {last}");
}

#[test]
fn old_definitions_a_system_without_updates_and_an_agent_that_is_silent_block_in_the_end() {
    let directory = tempfile::tempdir().unwrap();
    let clock = WallClock::new(directory.path()).unwrap();
    let facility = facility(&clock);
    let office = Office::open(&facility, &clock);
    let good = State {
        revision: "5000",
        ..IN_ORDER
    };
    office.reports(&good);
    for check in ["PC-SIG", "PC-OS", "PC-RPT"] {
        office.decides(&[(check, "compliant", "allow")]);
    }
    opens(&office);

    let lists = json!({"systems": [{"platform": "windows", "least": "10.0.26100.5000"}]});
    let sooner = [
        ("PC-SIG", "major.restrict", DAY),
        ("PC-SIG", "major.block", 3 * DAY),
        ("PC-OS", "major.warn", 2 * DAY),
        ("PC-OS", "major.restrict", 5 * DAY),
        ("PC-OS", "major.block", 9 * DAY),
        ("PC-RPT", "unknown.block", 2 * DAY),
    ];
    office.the_city_decides(&lists, &sooner);
    definitions_and_updates_stay_away(&office);
    office.decided_no_more();
    the_agent_stays_away(&office, &good);
}

/// A new generation of the box's own database, loaded by the running clamd.
fn newer_definitions(office: &Office<'_>) {
    let clamd = &office.facility.clamd;
    let newer = Signatures::built(office.clock.now() - 60).serial(2);
    newer.write_generation(&clamd.databases()).unwrap();
    let mut control = UnixStream::connect(clamd.socket()).unwrap();
    control.write_all(b"zRELOAD\0").unwrap();
    let mut answer = String::new();
    control.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("RELOADING"), "{answer}");
}

/// The PC is there twice a day, and its agent says each time what is wrong.
fn definitions_and_updates_stay_away(office: &Office<'_>) {
    let bad = State {
        signatures: "0",
        revision: "4349",
        ..IN_ORDER
    };
    office.reports(&bad);
    office.decides(&[("PC-SIG", "grace", "warn"), ("PC-OS", "grace", "allow")]);
    // Never away for twelve hours, after which it would have an hour to catch up.
    let times = |times: u32| {
        for _ in 0..times {
            office.passes(11 * HOUR);
            office.reports(&bad);
        }
    };
    times(3);
    office.decides(&[("PC-SIG", "grace", "restrict")]);
    opens(office);
    times(4);
    office.decides(&[("PC-OS", "grace", "warn"), ("PC-SIG", "failing", "block")]);
    is_refused_by(office, "PC-SIG");
    times(6);
    // The box's own scanner gets new ones: its age is not what is looked at here.
    newer_definitions(office);
    times(7);
    office.decides(&[
        ("PC-OS", "grace", "restrict"),
        ("PC-OS", "failing", "block"),
    ]);

    // New definitions carry their own date; an update is believed when it was seen twice.
    let updated = State {
        revision: "5000",
        ..IN_ORDER
    };
    office.reports(&updated);
    office.decides(&[("PC-SIG", "compliant", "allow")]);
    is_refused_by(office, "PC-OS");
    office.passes(11 * 60);
    office.reports(&updated);
    office.decides(&[("PC-OS", "compliant", "allow")]);
    opens(office);
}

/// The PC is used all day and reports nothing; then it is off for some days.
fn the_agent_stays_away(office: &Office<'_>, good: &State) {
    office.is_used_for_a_day_without_a_report();
    office.decides(&[("PC-RPT", "unknown-stale", "warn")]);
    office.passes(HOUR);
    office.decides(&[("PC-RPT", "unknown-stale", "restrict")]);
    // It is seen once more before it is switched off.
    office.asks_for_its_configuration();
    office.the_box_looks_who_was_there();
    office.passes(2 * DAY);
    office.decides(&[("PC-RPT", "unknown-stale", "block")]);
    // Back again it has an hour to catch up, at restrict, and uses it for nothing.
    opens(office);
    office.decides(&[("PC-RPT", "unknown-stale", "restrict")]);
    office.passes(61 * 60);
    office.decides(&[("PC-RPT", "unknown-stale", "block")]);
    is_refused_by(office, "PC-RPT");
    office.reports(good);
    office.decides(&[("PC-RPT", "compliant", "allow")]);
    opens(office);
}
