//! Who may read stored notes: what the city says takes effect at once, on pages that are open too; without the city the box
//! locks after the policy's hours, whatever is done to its clock, its power and its files; and it opens by itself.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what a test cannot do is its failure"
)]

use std::path::PathBuf;
use std::time::Duration;

use gateway_e2e::visiting::{Answer, Visitor};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use test_harness::facility::{Facility, Options};
use test_harness::{WallClock, wait};

const SOON: Duration = Duration::from_secs(90);
/// What the policy of these tests permits.
const HOURS: u64 = 4;
const HOUR: u64 = 3600;

/// A facility whose city permits four hours, somebody who reads there, and the clock of the box alone.
struct Outage {
    facility: Facility,
    visitor: Visitor,
    clock: WallClock,
    version: u64,
    _directory: tempfile::TempDir,
}

impl Outage {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let clock = WallClock::new(&directory.path().join("box")).unwrap();
        let city = WallClock::new(&directory.path().join("city")).unwrap();
        let facility = Facility::start(Options {
            clock: Some(clock.clone()),
            city: test_harness::city::Options {
                clock: Some(city),
                ..test_harness::city::Options::default()
            },
            ..Options::default()
        })
        .unwrap();
        let visitor = Visitor::new(&facility, "sakura-01");
        let page = visitor.sign_in(&facility, "sakura-01");
        assert!(page.says("支援対象者"), "{page:?}");
        let mut outage = Self {
            facility,
            visitor,
            clock,
            version: 0,
            _directory: directory,
        };
        outage.reads("stored notes", |page| page.says("架空 花子"));
        let before = outage.contact_is_kept();
        outage.policy(&json!({ "offline_hours": HOURS }));
        wait::until("what is permitted now to be kept", SOON, || {
            (outage.contact_is_kept() != before).then_some(())
        })
        .unwrap();
        outage
    }

    /// Puts a policy in force.
    fn policy(&mut self, store: &Value) {
        self.version += 1;
        let now = self.clock.now();
        let document = json!({
            "version": self.version,
            "not_before": now - 3600,
            "expires": now + 30 * 86_400,
            "facilities": ["*"],
            "store": store,
        });
        self.facility.city.control("tuf-policy", &document).unwrap();
        self.facility
            .city
            .control("hint", &json!({ "what": "policy" }))
            .unwrap();
        let line = format!("version={}", self.version);
        wait::until("the policy", SOON, || {
            let log = self.facility.gateway.log();
            let taken = |text: &str| text.contains("TUF-POLICY") && text.contains(&line);
            log.lines().any(taken).then_some(())
        })
        .unwrap();
    }

    fn contact_file(&self) -> PathBuf {
        let state = self.facility.gateway.state_directory();
        state.join("offline/contact.sealed")
    }

    /// The contact is written as soon as it begins, and anew when the policy permits something else.
    fn contact_is_kept(&self) -> Vec<u8> {
        wait::until("the sealed contact", SOON, || {
            std::fs::read(self.contact_file()).ok()
        })
        .unwrap()
    }

    /// What the home page shows to everybody says whether the box is locked.
    fn is_locked(&self) -> bool {
        let home = self.visitor.open(&self.facility.gateway.console_url());
        assert!(home.says("保存した連絡"), "{home:?}");
        home.says("いまは読めません")
    }

    fn locks(&self, why: &str) {
        let locked = wait::until(why, SOON, || self.is_locked().then_some(()));
        assert!(locked.is_ok(), "{why}: {}", self.facility.gateway.log());
    }

    fn opens(&self, why: &str) {
        wait::until(why, SOON, || (!self.is_locked()).then_some(())).unwrap();
    }

    fn away(&self) {
        self.facility.city.fail("down").unwrap();
        wait::until("the outage", SOON, || {
            let home = self.visitor.open(&self.facility.gateway.console_url());
            home.says("市の連絡帳につながりません").then_some(())
        })
        .unwrap();
    }

    /// A person's stored notes, in the session on the console.
    fn notes(&self) -> Answer {
        let url = format!("{}notes/p-1001", self.facility.gateway.console_url());
        self.visitor.open(&url)
    }

    /// Opens the stored notes by way of the notebook until the page is as it should be.
    fn reads(&self, what: &str, is: impl Fn(&Answer) -> bool) {
        let stored = || self.visitor.stored(&self.facility.gateway);
        let found = wait::until(what, SOON, || is(&stored()).then_some(()));
        assert!(found.is_ok(), "{what}: {:?}", stored());
    }

    /// Asks again for the page that is open until it is as it should be.
    fn page_turns(&self, what: &str, is: impl Fn(&Answer) -> bool) {
        let found = wait::until(what, SOON, || is(&self.notes()).then_some(()));
        assert!(found.is_ok(), "{what}: {:?}", self.notes());
    }

    /// Puts the TPM's own clock forward, which its owner may; back, nobody may. As if so much time had passed with power.
    fn time_passes_by_the_tpm(&self, hours: u64) {
        let mut milliseconds = tpm_clock(&self.facility);
        milliseconds += hours * HOUR * 1000;
        let mut command = vec![
            0x80, 0x02, 0, 0, 0, 35, 0, 0, 0x01, 0x28, 0x40, 0, 0, 0x01, 0, 0, 0, 9, 0x40, 0, 0,
            0x09, 0, 0, 0, 0, 0,
        ];
        command.extend(milliseconds.to_be_bytes());
        wait::until("the TPM's clock", SOON, || {
            let answer = self.facility.tpm.command(&command).ok()?;
            (answer[6..10] == [0; 4]).then_some(())
        })
        .unwrap();
    }
}

/// `TPM2_ReadClock`.
fn tpm_clock(facility: &Facility) -> u64 {
    let command = [0x80, 0x01, 0, 0, 0, 10, 0, 0, 0x01, 0x81];
    wait::until("the TPM's clock", SOON, || {
        let answer = facility.tpm.command(&command).ok()?;
        // Header, time (u64), clock (u64).
        Some(u64::from_be_bytes(answer.get(18..26)?.try_into().ok()?))
    })
    .unwrap()
}

#[test]
fn after_the_hours_without_the_city_the_box_locks_and_opens_by_itself_when_it_answers() {
    let outage = Outage::start();
    outage.away();
    let page = outage.notes();
    assert!(page.status == 200 && page.says("参照情報"), "{page:?}");
    assert!(page.says("に読めなくなります"), "{page:?}");
    outage.clock.shift(3 * 3600 + 1800).unwrap();
    assert_eq!(outage.notes().status, 200, "half an hour is left");
    outage.clock.shift(1800).unwrap();
    outage.page_turns("the lock", |page| page.status == 503);
    let page = outage.notes();
    assert!(page.says("保存した連絡は読めません") && page.says("つながると自動で読める"));
    assert!(!page.says("架空"), "{page:?}");
    assert!(outage.is_locked());
    outage.facility.city.recover().unwrap();
    outage.page_turns("the box to open by itself", |page| {
        page.status == 200 && page.says("参照情報")
    });
}

#[test]
fn a_tpm_that_falls_silent_in_an_outage_holds_nobody_up_who_reads() {
    let outage = Outage::start();
    outage.away();
    let tpm = Pid::from_raw(i32::try_from(outage.facility.tpm.pid().unwrap()).unwrap());
    kill(tpm, Signal::SIGSTOP).unwrap();
    // What it said last counts for ten minutes; who reads does not wait for it.
    for _ in 0..3 {
        let page = outage.notes();
        assert!(page.status == 200 && page.says("参照情報"), "{page:?}");
    }
    // The hours go on by the other clock.
    outage
        .clock
        .shift(i64::try_from(HOURS * HOUR).unwrap())
        .unwrap();
    outage.page_turns("the lock", |page| page.status == 503);
    kill(tpm, Signal::SIGCONT).unwrap();
    outage.facility.city.recover().unwrap();
    outage.opens("open again with the city");
}

#[test]
fn a_clock_that_is_turned_back_does_not_open_what_the_tpms_clock_has_locked() {
    let mut outage = Outage::start();
    outage.away();
    outage.time_passes_by_the_tpm(HOURS);
    outage.locks("four hours by the TPM alone");
    assert_eq!(outage.notes().status, 503);
    outage.clock.shift(-86_400).unwrap();
    outage.locks("still, with the clock a day back");
    outage.facility.gateway.restart().unwrap();
    outage.locks("still, after a restart");
    // By a clock a day back the city's certificate is of the future.
    outage.clock.shift(86_400).unwrap();
    outage.facility.city.recover().unwrap();
    outage.opens("open again with the city");
}

#[test]
fn an_older_copy_of_what_the_box_keeps_makes_the_outage_longer() {
    let mut outage = Outage::start();
    let early = std::fs::read(outage.contact_file()).unwrap();
    outage.time_passes_by_the_tpm(HOURS);
    // Contact again, and a newer one is kept.
    outage.away();
    outage.facility.city.recover().unwrap();
    wait::until("a newer contact", SOON, || {
        (std::fs::read(outage.contact_file()).ok()? != early).then_some(())
    })
    .unwrap();
    outage.away();
    assert!(!outage.is_locked());
    let state = outage.contact_file();
    outage.facility.gateway.process().kill();
    std::fs::write(&state, &early).unwrap();
    outage.facility.gateway.start_again().unwrap();
    outage.locks("four hours since the older contact");
    // Without any there is nothing to count from.
    outage.facility.gateway.process().kill();
    std::fs::remove_file(&state).unwrap();
    outage.facility.gateway.start_again().unwrap();
    outage.locks("no contact is known");
    std::fs::write(&state, b"not sealed by anybody").unwrap();
    outage.facility.gateway.restart().unwrap();
    outage.locks("a damaged contact is none");
    outage.facility.city.recover().unwrap();
    outage.opens("open again with the city");
}

#[test]
fn a_facility_that_was_suspended_in_the_outage_reads_nothing_from_the_citys_first_word_on() {
    let mut outage = Outage::start();
    let facility = outage.facility.city.described()["numbers"][0]["facility"].clone();
    let suspend = |outage: &Outage, suspended: bool| {
        let asked = json!({ "id": facility, "suspended": suspended });
        let done = outage.facility.city.control("suspend-facility", &asked);
        done.unwrap();
    };
    outage.away();
    assert_eq!(outage.notes().status, 200);
    suspend(&outage, true);
    outage.facility.city.recover().unwrap();
    outage.page_turns("the city's word", |page| {
        page.says("市がこの事業所の利用を止めているか")
    });
    wait::until("the contact to be forgotten", SOON, || {
        (!outage.contact_file().exists()).then_some(())
    })
    .unwrap();
    // Cutting the line and the power now brings nothing back.
    outage.facility.city.fail("down").unwrap();
    outage.facility.gateway.restart().unwrap();
    outage.locks("still, after a restart without the line");
    suspend(&outage, false);
    outage.facility.city.recover().unwrap();
    outage.opens("open again with the city");
}

#[test]
fn power_cuts_that_hold_the_tpms_clock_back_use_the_hours_up() {
    let mut outage = Outage::start();
    outage.away();
    // Seventy minutes each: three leave half an hour, the fourth nothing.
    for _ in 0..3 {
        outage.facility.tpm.restart().unwrap();
        // It has started, and counted that.
        tpm_clock(&outage.facility);
    }
    outage.facility.gateway.restart().unwrap();
    outage.opens("half an hour is left");
    outage.facility.tpm.restart().unwrap();
    tpm_clock(&outage.facility);
    outage.facility.gateway.restart().unwrap();
    outage.locks("four losses of power in the outage");
}

#[test]
fn what_the_city_takes_back_is_gone_at_once_from_pages_that_are_open() {
    let mut outage = Outage::start();
    let shown = |page: &Answer| page.status == 200 && page.says("参照情報");
    outage.page_turns("the notes", shown);

    let text = "取り消される記録です。";
    let note = json!({ "person": "p-1001", "author": "sakura-02", "text": text });
    let note = outage.facility.city.control("note", &note).unwrap();
    outage.page_turns("a new note", |page| page.says(text));
    let id = json!({ "id": note["id"] });
    outage.facility.city.control("note-deleted", &id).unwrap();
    outage.page_turns("the deleted note to go", |page| {
        shown(page) && !page.says(text)
    });

    let permit = |outage: &Outage, permitted: bool| {
        let what = json!({ "person": "p-1001", "user_id": "sakura-01", "permitted": permitted });
        outage.facility.city.control("permit", &what).unwrap();
    };
    permit(&outage, false);
    outage.page_turns("the person to be withdrawn", |page| page.status == 404);
    permit(&outage, true);
    outage.page_turns("the person again", shown);

    outage.policy(&json!({ "days": 0 }));
    outage.page_turns("the policy to switch reading off", |page| !shown(page));
    outage.policy(&json!({ "days": 30, "offline_hours": HOURS }));
    outage.page_turns("the policy to switch it on", shown);

    let facility = outage.facility.city.described()["numbers"][0]["facility"].clone();
    let suspend = |outage: &Outage, what: &str, id: &Value, suspended: bool| {
        let asked = json!({ "id": id, "suspended": suspended });
        outage.facility.city.control(what, &asked).unwrap();
    };
    suspend(&outage, "suspend-facility", &facility, true);
    outage.page_turns("the facility to be suspended", |page| !shown(page));
    suspend(&outage, "suspend-facility", &facility, false);
    outage.page_turns("the facility again", shown);

    outage
        .facility
        .city
        .control("person-ended", &json!({ "person": "p-1001" }))
        .unwrap();
    outage.page_turns("support to end", |page| page.status == 404);

    suspend(&outage, "suspend-user", &json!("sakura-01"), true);
    outage.page_turns("the session to end", |page| page.says("サインインが必要"));
}
