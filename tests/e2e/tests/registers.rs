//! The registers through the running box: who may add to them, what they prove to the checks MEDIA, DECL and TRAINING, and that
//! an entry that was answered is there after the power was cut.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what a test cannot do is its failure"
)]

use std::time::Duration;

use gateway_e2e::visiting::{Answer, Visitor};
use test_harness::facility::{Facility, Options};
use test_harness::{WallClock, wait};

const SOON: Duration = Duration::from_secs(40);
const DAY: Duration = Duration::from_secs(86_400);

/// A facility whose clock the test moves, with its manager at the console.
struct Kept {
    facility: Facility,
    clock: WallClock,
    manager: Visitor,
    _directory: tempfile::TempDir,
}

fn user(facility: &Facility, role: &str) -> String {
    let described = facility.city.described();
    let ours = &described["numbers"][0]["facility"];
    let users = described["users"].as_array().unwrap();
    let found = users
        .iter()
        .find(|user| &user["facility"] == ours && user["role"] == role);
    found.unwrap()["user_id"].as_str().unwrap().to_owned()
}

/// Signs in at the notebook and goes over to the box's own pages.
fn at_the_console(facility: &Facility, role: &str, name: &str) -> Visitor {
    let visitor = Visitor::new(facility, name);
    let id = user(facility, role);
    let signed_in = visitor.sign_in(facility, &id);
    assert_eq!(signed_in.status, 200, "{signed_in:?}");
    wait::until("the stored notes", SOON, || {
        visitor
            .stored(&facility.gateway)
            .says("閲覧を終わる")
            .then_some(())
    })
    .unwrap();
    visitor
}

impl Kept {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let clock = WallClock::new(directory.path()).unwrap();
        let facility = Facility::start(Options {
            clock: Some(clock.clone()),
            ..Options::default()
        })
        .unwrap();
        let manager = at_the_console(&facility, "manager", "manager");
        Self {
            facility,
            clock,
            manager,
            _directory: directory,
        }
    }

    fn url(&self, page: &str) -> String {
        format!("{}{page}", self.facility.gateway.console_url())
    }

    fn open(&self, page: &str) -> Answer {
        self.manager.open(&self.url(page))
    }

    /// Sends a form as the box's own page does, and shows the page it leads to.
    fn send(&self, page: &str, fields: &[(&str, &str)]) -> Answer {
        let origin = self.facility.gateway.console_url();
        self.send_from(
            &self.manager,
            page,
            fields,
            &["--location"],
            origin.trim_end_matches('/'),
        )
    }

    fn send_from(
        &self,
        visitor: &Visitor,
        page: &str,
        fields: &[(&str, &str)],
        more: &[&str],
        origin: &str,
    ) -> Answer {
        let origin = format!("Origin: {origin}");
        let fields: Vec<String> = fields
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let url = self.url(page);
        let mut arguments = more.to_vec();
        arguments.extend(["--header", "Accept: text/html", "--header", &origin]);
        if fields.is_empty() {
            arguments.extend(["--data", ""]);
        }
        for field in &fields {
            arguments.extend(["--data-urlencode", field]);
        }
        arguments.push(&url);
        visitor.send(&arguments)
    }

    fn enter(&self, label: &str) -> Answer {
        self.send(
            "media/new",
            &[
                ("kind", "USBメモリ"),
                ("label", label),
                ("purpose", "国保連への提出"),
                ("owner", "佐藤"),
                ("place", "事務室の鍵付き棚"),
            ],
        )
    }

    /// Waits for the decision line of a check.
    fn decides(&self, check: &str, state: &str) {
        wait::until(&format!("{check} {state}"), SOON, || {
            let log = self.facility.gateway.log();
            log.lines()
                .rfind(|line| line.contains("a check has changed") && line.contains(check))
                .is_some_and(|line| line.contains(state))
                .then_some(())
        })
        .unwrap_or_else(|error| {
            let log = self.facility.gateway.log();
            let lines: Vec<_> = log.lines().filter(|line| line.contains(check)).collect();
            panic!("{error}: {lines:#?}")
        });
    }
}

#[test]
fn what_the_manager_records_is_what_the_checks_see_and_it_grows_old() {
    let kept = Kept::start();
    let page = kept.open("registers");
    assert!(page.says("点検が必要") && page.says("研修が必要") && page.says("申告が必要"));

    // A life of a medium.
    let page = kept.enter("USB-1");
    assert!(
        page.says("保管中") && page.says("登録（責任者 佐藤"),
        "{page:?}"
    );
    let page = kept.enter("ＵＳＢ－１");
    assert_eq!(page.status, 422);
    assert!(page.says("同じ名前の媒体が、すでに登録されています"));
    let page = kept.send(
        "media/1",
        &[("action", "lend"), ("to", "鈴木"), ("place", "訪問先")],
    );
    assert!(page.says("貸出中"));
    let page = kept.send(
        "media/1",
        &[
            ("action", "dispose"),
            ("method", "物理的に破壊"),
            ("witness", "田中"),
        ],
    );
    assert_eq!(page.status, 422, "what is lent cannot be disposed of");
    assert!(kept.send("media/1", &[("action", "return")]).says("保管中"));

    // The three checks, from never to good.
    kept.send("media/review", &[("listed", "1"), ("found-1", "yes")]);
    kept.decides("MEDIA", "compliant");
    let today = "2026-04-10";
    let page = kept.send(
        "training",
        &[
            ("day", today),
            ("topic", "パスワードの扱い"),
            ("participants", "１２名"),
        ],
    );
    assert!(page.says("12名") && page.says("2026年4月10日"), "{page:?}");
    kept.decides("TRAINING", "compliant");
    for topic in [
        "印刷された用紙の取り扱い",
        "タブレット・スマートフォンの管理",
    ] {
        kept.send("declarations", &[("topic", topic), ("remark", "")]);
    }
    kept.decides("DECL", "compliant");
    let page = kept.open("");
    assert!(page.says("規約の条文ごとの点検") && page.says("第28条"));

    // Ninety-one days later they are due again, without anybody's doing.
    kept.clock.advance(DAY * 91).unwrap();
    kept.decides("MEDIA", "failing");
    kept.decides("DECL", "failing");
}

#[test]
fn staff_and_forged_forms_are_refused_and_a_get_changes_nothing() {
    let kept = Kept::start();
    assert!(kept.enter("USB-1").says("保管中"));
    let staff = at_the_console(&kept.facility, "staff", "staff");
    for page in ["media", "media/1", "training", "declarations", "report"] {
        let answer = staff.open(&kept.url(page));
        assert_eq!(answer.status, 403, "{page}");
        assert!(!answer.says("USB-1"));
    }
    let console = kept.facility.gateway.console_url();
    let own = console.trim_end_matches('/');
    let lose = [("action", "lose")];
    let by_staff = kept.send_from(&staff, "media/1", &lose, &[], own);
    assert_eq!(by_staff.status, 403);
    let portal = kept.facility.gateway.portal_url();
    for origin in [portal.trim_end_matches('/'), "https://evil.example", "null"] {
        let forged = kept.send_from(&kept.manager, "media/1", &lose, &[], origin);
        assert_eq!(forged.status, 403, "{origin}");
    }
    kept.open("media/1?action=lose");
    assert!(kept.open("media/1").says("保管中"));
}

#[test]
fn an_entry_that_was_answered_is_there_after_the_power_was_cut() {
    let mut kept = Kept::start();
    assert!(kept.enter("USB-1").says("保管中"));
    let page = kept.send(
        "media/1",
        &[("action", "lend"), ("to", "鈴木"), ("place", "訪問先")],
    );
    assert!(page.says("貸出中"));
    kept.facility.gateway.process().kill();
    kept.facility.gateway.start_again().unwrap();
    // The session ended with the process; the register did not.
    kept.manager = at_the_console(&kept.facility, "manager", "manager-again");
    let page = kept.open("media/1");
    assert!(page.says("貸出中") && page.says("鈴木"), "{page:?}");
    let csv = kept.open("media/media.csv");
    assert!(csv.body.starts_with('\u{feff}'));
    assert!(csv.says("\"貸出\",\"鈴木\",\"訪問先\""));
    assert!(csv.field("content-disposition").contains("media.csv"));
}
