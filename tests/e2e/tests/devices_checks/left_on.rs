//! A PC that is left on after hours (第25条): a warning, and the daily list.

use test_harness::{WallClock, wait};

use crate::office::{HOUR, IN_ORDER, Office, SOON, facility};

const MINUTE: u64 = 60;
/// Japan is nine hours ahead and has no summer time.
const JAPAN: i64 = 9 * 3_600;

/// Moves on to the next time it is so many minutes after midnight in Japan.
fn until(office: &Office<'_>, minutes: u64) {
    let day = 24 * HOUR;
    let now = u64::try_from((office.clock.now() + JAPAN).rem_euclid(86_400)).unwrap();
    office.passes((minutes * MINUTE + day - now) % day);
}

#[test]
fn a_pc_left_on_at_night_is_on_the_list_of_the_next_day_and_a_warning_until_the_night_after() {
    let directory = tempfile::tempdir().unwrap();
    let clock = WallClock::new(directory.path()).unwrap();
    let facility = facility(&clock);
    let office = Office::open(&facility, &clock);
    office.reports(&IN_ORDER);
    office.decides(&[("PC-ON", "compliant", "allow")]);

    // Somebody works until ten to nine and goes home; the agent goes on asking all evening.
    until(&office, 20 * 60 + 50);
    let navigates = ["--header", "Sec-Fetch-Mode: navigate"];
    let page = office.pc.notebook("staff/login");
    let opens = || {
        let opened = wait::until("the notebook", SOON, || {
            let answer = office.pc.send(&[&navigates[..], &[&page]].concat());
            (answer.status == 200).then_some(())
        });
        opened.unwrap();
    };
    opens();
    for _ in 0..8 {
        office.passes(10 * MINUTE);
        office.asks_for_its_configuration();
    }
    office.the_box_looks_who_was_there();
    until(&office, 7 * 60 + 30);
    office.decides(&[("PC-ON", "failing", "warn")]);

    opens();
    office.pc.signs_in_as_manager();
    let list = office.pc.open(&office.pc.console("devices/days"));
    assert_eq!(list.status, 200, "{list:?}");
    let (_, nights) = list.body.split_once("id=\"nights\"").unwrap();
    assert!(nights.contains("office"), "{nights}");

    // The next night it is off; two looks of the morning after clear it.
    until(&office, 7 * 60 + 10);
    office.the_box_looks_who_was_there();
    office.passes(31 * MINUTE);
    office.decides(&[("PC-ON", "compliant", "allow")]);
    office.decided_no_more();
}
