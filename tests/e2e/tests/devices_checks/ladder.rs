//! From compliant to restricted and back, and what the city's lists change.

use serde_json::json;
use test_harness::WallClock;

use crate::office::{BEFORE, DAY, FOREIGN, HOUR, IN_ORDER, Office, STICK, State, facility};

#[test]
fn each_check_of_a_pc_warns_restricts_and_is_cleared_with_one_line_for_each_step() {
    let directory = tempfile::tempdir().unwrap();
    let clock = WallClock::new(directory.path()).unwrap();
    let facility = facility(&clock);
    let office = Office::open(&facility, &clock);

    office.reports(&IN_ORDER);
    for check in [
        "PC-SIG", "PC-OS", "PC-SW", "PC-LOCK", "PC-USB", "PC-ENC", "PC-RPT",
    ] {
        office.decides(&[(check, "compliant", "allow")]);
    }

    a_stick_is_registered_late(&office);

    // Nothing on the PC changes: the city's lists do, and what it reported last is held against them.
    let lists = json!({
        "systems": [{"platform": "windows", "least": "10.0.26100.5000"}],
        "banned": ["utorrent*"],
    });
    let sooner = [
        ("PC-OS", "major.warn", 2 * DAY),
        ("PC-OS", "major.restrict", 5 * DAY),
        ("PC-LOCK", "major.restrict", 5 * DAY),
        ("PC-ENC", "major.restrict", 5 * DAY),
        ("PC-USB", "major.restrict", 1),
    ];
    office.the_city_decides(&lists, &sooner);
    office.decides(&[("PC-OS", "grace", "allow"), ("PC-SW", "grace", "warn")]);

    let bad = State {
        signatures: "0",
        lock: "0",
        usbstor: "3",
        media: &[BEFORE, STICK, FOREIGN],
        bitlocker: "0",
        ..IN_ORDER
    };
    office.reports(&bad);
    for check in ["PC-SIG", "PC-LOCK", "PC-USB", "PC-ENC"] {
        office.decides(&[(check, "grace", "warn")]);
    }
    office.decided_no_more();

    the_agent_stops_for_a_day(&office, &bad);
    days_pass(&office, &bad);
    office.decided_no_more();
    everything_is_put_right(&office);
    office.decided_no_more();
}

/// It is found, warned of, and in order once it is in the register.
fn a_stick_is_registered_late(office: &Office<'_>) {
    let plugged_in = State {
        media: &[BEFORE, STICK],
        ..IN_ORDER
    };
    office.reports(&plugged_in);
    office.decides(&[("PC-USB", "grace", "warn")]);
    // Pulling it out does not undo it.
    office.reports(&IN_ORDER);
    office.registers_the_stick();
    for _ in 0..2 {
        office.passes(11 * 60);
        office.reports(&plugged_in);
    }
    office.decides(&[("PC-USB", "compliant", "allow")]);
    office.decided_no_more();
}

/// It is there all day and reports nothing.
fn the_agent_stops_for_a_day(office: &Office<'_>, bad: &State) {
    office.is_used_for_a_day_without_a_report();
    office.decides(&[
        ("PC-RPT", "unknown-stale", "warn"),
        // A banned program is tolerated for a day.
        ("PC-SW", "failing", "restrict"),
    ]);
    office.passes(HOUR);
    office.decides(&[("PC-RPT", "unknown-stale", "restrict")]);
    office.reports(bad);
    office.decides(&[("PC-RPT", "compliant", "allow")]);
}

/// The agent reports every day, and nobody does anything.
fn days_pass(office: &Office<'_>, bad: &State) {
    // Working days, so that a holiday makes it more.
    let before = office.lines("PC-USB").len();
    let restricted = || office.lines("PC-USB").len() > before;
    let mut days = 0;
    while days < 5 || (days < 10 && !restricted()) {
        office.passes(23 * HOUR);
        office.reports(bad);
        days += 1;
    }
    office.decides(&[
        ("PC-OS", "grace", "warn"),
        ("PC-OS", "grace", "restrict"),
        ("PC-SIG", "grace", "restrict"),
        ("PC-LOCK", "failing", "restrict"),
        ("PC-USB", "failing", "restrict"),
        ("PC-ENC", "failing", "restrict"),
    ]);
}

/// Two reports ten minutes apart clear what failed; one does for definitions, which carry their own date.
fn everything_is_put_right(office: &Office<'_>) {
    let good = State {
        revision: "5000",
        programs: &["LibreOffice 25.2"],
        media: &[BEFORE, STICK, FOREIGN],
        ..IN_ORDER
    };
    office.reports(&good);
    office.decides(&[("PC-SIG", "compliant", "allow")]);
    office.passes(11 * 60);
    office.reports(&good);
    for check in ["PC-OS", "PC-SW", "PC-LOCK", "PC-ENC"] {
        office.decides(&[(check, "compliant", "allow")]);
    }
    // That a stick was plugged in is not undone by anything but the register.
    office.decided_no_more();
}
