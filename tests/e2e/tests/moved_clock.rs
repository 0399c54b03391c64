//! Time passes at once, for the box and the city or for the box alone: what the clock check says, and that work goes on.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what a test cannot do is its failure"
)]

use std::time::Duration;

use gateway_e2e::visiting::{Answer, Visitor};
use test_harness::facility::{Facility, Options};
use test_harness::{WallClock, city, wait};

const SOON: Duration = Duration::from_secs(30);
const HOUR: i64 = 3600;

/// A facility, the clock of its box, and the clock of its city.
struct Moved {
    facility: Facility,
    box_clock: WallClock,
    city_clock: WallClock,
    _directory: tempfile::TempDir,
}

impl Moved {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let box_clock = WallClock::new(&directory.path().join("box")).unwrap();
        let city_clock = WallClock::new(&directory.path().join("city")).unwrap();
        let facility = Facility::start(Options {
            clock: Some(box_clock.clone()),
            city: city::Options {
                clock: Some(city_clock.clone()),
                ..city::Options::default()
            },
            ..Options::default()
        })
        .unwrap();
        Self {
            facility,
            box_clock,
            city_clock,
            _directory: directory,
        }
    }

    fn logs(&self, text: &str) {
        wait::until(text, SOON, || {
            self.facility.gateway.log().contains(text).then_some(())
        })
        .unwrap();
    }
}

fn staff_page(facility: &Facility) -> String {
    format!("{}staff/login", facility.gateway.portal_url())
}

fn opens(facility: &Facility, visitor: &Visitor) -> Answer {
    wait::until("a page of the notebook", SOON, || {
        let answer = visitor.open(&staff_page(facility));
        (answer.status == 200).then_some(answer)
    })
    .unwrap()
}

#[test]
fn when_a_night_passes_for_all_the_box_measures_anew_at_once_and_work_goes_on() {
    let moved = Moved::start();
    let visitor = Visitor::new(&moved.facility, "sakura-01");
    opens(&moved.facility, &visitor);
    moved.city_clock.shift(20 * HOUR).unwrap();
    moved.box_clock.shift(20 * HOUR).unwrap();
    moved.logs("everything is measured anew");
    opens(&moved.facility, &visitor);
}

#[test]
fn a_box_whose_clock_is_set_wrong_says_so_and_is_believed_again_when_it_is_right() {
    let moved = Moved::start();
    let visitor = Visitor::new(&moved.facility, "sakura-01");
    let page = visitor.sign_in(&moved.facility, "sakura-01");
    assert!(page.says("支援対象者"), "{page:?}");
    moved.box_clock.shift(2 * 3600).unwrap();
    moved.logs("the clock is wrong");
    let console = wait::until("the console to say so", SOON, || {
        let page = visitor.open(&moved.facility.gateway.console_url());
        page.says("時計").then_some(page)
    });
    console.unwrap();
    // Text still passes: care goes on.
    opens(&moved.facility, &visitor);
    moved.box_clock.shift(-2 * 3600).unwrap();
    wait::until("the console to say nothing of the clock", SOON, || {
        let page = visitor.open(&moved.facility.gateway.console_url());
        (page.status == 200 && !page.says("時計")).then_some(())
    })
    .unwrap();
}

#[test]
fn a_log_that_the_city_has_not_countersigned_for_a_day_is_a_warning_until_it_has() {
    let moved = Moved::start();
    let decisions = || -> Vec<String> {
        let log = moved.facility.gateway.log();
        log.lines()
            .filter(|line| line.contains("decision=\"check\"") && line.contains("rule=\"LOG\""))
            .map(str::to_owned)
            .collect()
    };
    let decides = |number: usize, words: [&str; 2]| {
        let line = wait::until(&format!("{words:?}"), Duration::from_secs(120), || {
            decisions().into_iter().nth(number)
        })
        .unwrap_or_else(|error| panic!("{error}: {:#?}", decisions()));
        assert!(words.iter().all(|word| line.contains(word)), "{line}");
    };
    decides(0, ["state=\"compliant\"", "effect=\"allow\""]);
    // The line is there and the notebook works; only the reports are not taken.
    let failure = serde_json::json!({"mode": "5xx", "path": "/gateway/v1/status"});
    moved.facility.city.control("fail", &failure).unwrap();
    moved.city_clock.shift(25 * HOUR).unwrap();
    moved.box_clock.shift(25 * HOUR).unwrap();
    decides(1, ["state=\"failing\"", "effect=\"warn\""]);
    let visitor = Visitor::new(&moved.facility, "sakura-01");
    opens(&moved.facility, &visitor);
    moved.facility.city.recover().unwrap();
    decides(2, ["state=\"compliant\"", "effect=\"allow\""]);
    assert_eq!(decisions().len(), 3, "{:#?}", decisions());
}
