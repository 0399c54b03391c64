//! The four checks of the virus scanner (第27条) through the running gateway: the evidence is changed for real, and the
//! journal's decision line and the gate follow, and come back.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what a test cannot do is its failure"
)]

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use gateway_e2e::visiting::Visitor;
use test_harness::facility::{Facility, Options};
use test_harness::signatures::Signatures;
use test_harness::{WallClock, city, wait};

const SOON: Duration = Duration::from_secs(40);
const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

struct Stage {
    facility: Facility,
    /// The box's and the city's; the city's certificates are for the same time.
    clocks: [WallClock; 2],
    visitor: Visitor,
    freshclam: PathBuf,
    _directory: tempfile::TempDir,
}

impl Stage {
    /// A facility whose box scans its canary every second and takes databases of freshclam.
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let clocks =
            ["box", "city"].map(|name| WallClock::new(&directory.path().join(name)).unwrap());
        let freshclam = directory.path().join("freshclam");
        fs::create_dir(&freshclam).unwrap();
        let mut facility = Facility::start(Options {
            clock: Some(clocks[0].clone()),
            city: city::Options {
                clock: Some(clocks[1].clone()),
                ..city::Options::default()
            },
            ..Options::default()
        })
        .unwrap();
        let file = facility.gateway.configuration_file();
        let text = fs::read_to_string(&file).unwrap();
        let ours = format!("[antivirus]\ncanary_seconds = 1\nofficial = {freshclam:?}\n");
        fs::write(&file, text.replace("[antivirus]\n", &ours)).unwrap();
        facility.gateway.restart().unwrap();
        let visitor = Visitor::new(&facility, "sakura-01");
        Self {
            facility,
            clocks,
            visitor,
            freshclam,
            _directory: directory,
        }
    }

    fn some_time_passes(&self, seconds: i64) {
        // First the city's: what it says of the time must not be behind the box.
        for clock in self.clocks.iter().rev() {
            clock.shift(seconds).unwrap();
        }
    }

    /// Waits for the newest decision line about a check, one that says all of `words`.
    fn decides(&self, check: &str, words: &[&str]) {
        let rule = format!("rule=\"{check}\"");
        let newest = || {
            let log = self.facility.gateway.log();
            let mut lines = log
                .lines()
                .filter(|line| line.contains("a check has changed") && line.contains(&rule));
            let newest = lines.next_back().unwrap_or_default();
            words.iter().all(|word| newest.contains(word)).then_some(())
        };
        wait::until(&format!("{check} {words:?}"), SOON, newest)
            .unwrap_or_else(|error| panic!("{error}\n{}", self.facility.gateway.log()));
    }

    fn says(&self, words: &str) {
        wait::until(words, SOON, || {
            self.facility.gateway.log().contains(words).then_some(())
        })
        .unwrap_or_else(|error| panic!("{error}\n{}", self.facility.gateway.log()));
    }

    fn staff_pages_answer(&self, status: u16, rule: &str) {
        let page = format!("{}staff/login", self.facility.gateway.portal_url());
        wait::until("the gate to follow", SOON, || {
            let answer = self.visitor.open(&page);
            let named = answer.field("proxy-status").contains(rule);
            (answer.status == status && (named || status == 200)).then_some(())
        })
        .unwrap_or_else(|error| panic!("{error}\n{}", self.facility.gateway.log()));
    }

    /// A check that failed counts as good again after two measurements ten minutes apart.
    fn ten_minutes_pass(&self) {
        std::thread::sleep(Duration::from_secs(3));
        self.some_time_passes(11 * 60);
    }
}

#[test]
fn a_database_that_ages_warns_restricts_and_blocks_and_a_new_one_opens_the_box_again() {
    let stage = Stage::start();
    stage.staff_pages_answer(200, "");
    stage.some_time_passes(27 * HOUR);
    stage.decides("AV-DB", &["effect=\"warn\""]);
    stage.staff_pages_answer(200, "");
    stage.some_time_passes(2 * DAY);
    stage.decides("AV-DB", &["effect=\"restrict\""]);
    stage.some_time_passes(4 * DAY);
    stage.decides("AV-DB", &["effect=\"block\""]);
    stage.staff_pages_answer(403, "AV-DB");
    // What freshclam brings is newer, and is proven before it is used.
    let brought = Signatures::built(stage.clocks[0].now() - HOUR).serial(27_100);
    brought.write_official(&stage.freshclam).unwrap();
    stage.says("an antivirus database was proven and is in use");
    stage.ten_minutes_pass();
    stage.decides("AV-DB", &["effect=\"allow\""]);
    stage.staff_pages_answer(200, "");
}

#[test]
fn a_database_that_finds_less_is_refused_by_name_and_changes_nothing() {
    let stage = Stage::start();
    let weak = Signatures::built(stage.clocks[0].now() + 60).serial(27_100);
    weak.without_eicar()
        .write_official(&stage.freshclam)
        .unwrap();
    stage.says("reason=\"misses\"");
    assert!(
        !stage
            .facility
            .gateway
            .log()
            .contains("was proven and is in use")
    );
    stage.staff_pages_answer(200, "");
}

#[test]
fn a_changed_configuration_of_the_scanner_blocks_until_it_is_as_released() {
    let stage = Stage::start();
    let file = stage.facility.clamd.configuration_file();
    let released = fs::read_to_string(&file).unwrap();
    let changed = released.replace("AlertExceedsMax yes", "AlertExceedsMax no");
    assert_ne!(changed, released);
    fs::write(&file, changed).unwrap();
    stage.decides("AV-CONF", &["effect=\"block\""]);
    stage.staff_pages_answer(403, "AV-CONF");
    stage.says("AlertExceedsMax no is not ours");
    fs::write(&file, released).unwrap();
    stage.says("the scanner's configuration is as released");
    stage.ten_minutes_pass();
    stage.decides("AV-CONF", &["effect=\"allow\""]);
    stage.staff_pages_answer(200, "");
}

#[test]
fn a_socket_open_to_everybody_is_a_changed_configuration() {
    use std::os::unix::fs::PermissionsExt as _;
    let stage = Stage::start();
    let socket = stage.facility.clamd.socket();
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o666)).unwrap();
    stage.decides("AV-CONF", &["effect=\"block\""]);
    stage.says("the socket has mode 666, not 660");
}

#[test]
fn a_missing_signature_fails_the_self_test_although_the_scanner_lives() {
    let mut stage = Stage::start();
    let files = stage.facility.clamd.databases().join("current/db");
    let policy = files.join("renraku-policy.ldb");
    let kept = fs::read(&policy).unwrap();
    fs::remove_file(&policy).unwrap();
    stage.facility.clamd.restart().unwrap();
    stage.decides("AV-SELF", &["effect=\"restrict\""]);
    stage.says("a program in two archives was taken for Clean");
    fs::write(&policy, kept).unwrap();
    stage.facility.clamd.restart().unwrap();
    stage.says("the self-test passed");
    stage.ten_minutes_pass();
    stage.decides("AV-SELF", &["effect=\"allow\""]);
    stage.staff_pages_answer(200, "");
}

#[test]
fn a_page_asked_for_while_the_scanner_hangs_is_answered_in_time_and_never_unscanned() {
    let mut stage = Stage::start();
    stage.staff_pages_answer(200, "");
    stage.facility.clamd.suspend().unwrap();
    let page = format!("{}staff/login?{}", stage.facility.gateway.portal_url(), "x");
    let begin = Instant::now();
    let answer = stage.visitor.open(&page);
    assert!(begin.elapsed() < Duration::from_secs(90), "{answer:?}");
    stage.facility.clamd.resume().unwrap();
    stage.says("the virus scanner works");
    stage.ten_minutes_pass();
    stage.staff_pages_answer(200, "");
}

#[test]
fn a_database_damaged_on_the_disk_is_replaced_while_clamd_cannot_start() {
    let mut stage = Stage::start();
    let brought = Signatures::built(stage.clocks[0].now() + 60).serial(27_100);
    brought.write_official(&stage.freshclam).unwrap();
    stage.says("an antivirus database was proven and is in use");
    let files = stage.facility.clamd.databases().join("current/db");
    stage.facility.clamd.kill();
    fs::write(files.join("daily.cud"), "damaged").unwrap();
    stage.says("the virus scanner does not work");
    wait::until("the one before to be in place", SOON, || {
        let current = fs::read_link(stage.facility.clamd.databases().join("current")).ok()?;
        current.ends_with("harness").then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}\n{}", stage.facility.gateway.log()));
    stage.facility.clamd.restart().unwrap();
    stage.ten_minutes_pass();
    stage.staff_pages_answer(200, "");
}

#[test]
fn a_box_without_any_database_gives_clamd_one_to_start_with_and_forwards_nothing_by_it() {
    let mut stage = Stage::start();
    let databases = stage.facility.clamd.databases();
    stage.facility.clamd.kill();
    stage.facility.gateway.process().kill();
    fs::remove_dir_all(&databases).unwrap();
    stage.facility.gateway.start_again().unwrap();
    wait::until("a database for clamd", SOON, || {
        databases
            .join("current/db/renraku-built-in.ndb")
            .exists()
            .then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}\n{}", stage.facility.gateway.log()));
    stage.facility.clamd.restart().unwrap();
    stage.says("the virus scanner works");
    stage.says("an antivirus database was proven and is in use");
    stage.says("the self-test passed");
    stage.staff_pages_answer(403, "AV-DB");
    let brought = Signatures::built(stage.clocks[0].now() - HOUR).serial(27_100);
    brought.write_official(&stage.freshclam).unwrap();
    stage.says("27100 of official");
    stage.ten_minutes_pass();
    stage.staff_pages_answer(200, "");
}
