//! The life of media, trainings and declarations, through the file and back.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what a test cannot do is its failure"
)]

use std::path::Path;

use gateway_policy::calendar::Date;
use gateway_policy::{Check, Missing, Observation, Source, Timestamp};
use gateway_registers::{
    Change, Disposal, Error, Field, Kind, Loosening, NewMedium, Place, RETENTION, Refused,
    Register, Registers, Topic, Training,
};

const NOW: Timestamp = Timestamp(1_795_476_305); // 2026-11-24 08:25 in Japan
const DAY: i64 = 86_400;
const BY: &str = "kanri";

fn usb(label: &str) -> NewMedium {
    NewMedium {
        kind: Kind::UsbMemory,
        label: label.into(),
        purpose: "レセプトの提出".into(),
        owner: "佐藤".into(),
        place: "事務室の鍵付き棚".into(),
    }
}

fn lend() -> Change {
    Change::Lend {
        to: "鈴木".into(),
        place: "訪問先".into(),
        due: None,
    }
}

fn dispose() -> Change {
    Change::Dispose {
        method: Disposal::Destroyed,
        witness: "田中".into(),
    }
}

fn write_off() -> Change {
    Change::WriteOff {
        report: "11月24日 高萩市に電話で報告".into(),
    }
}

fn refused(result: Result<impl Sized, Error>) -> Refused {
    match result {
        Err(Error::Refused(why)) => why,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it was taken"),
    }
}

fn raw(directory: &Path) -> rusqlite::Connection {
    rusqlite::Connection::open(directory.join("registers.db")).unwrap()
}

#[test]
fn a_medium_is_entered_lent_returned_and_disposed_of_and_its_history_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let registers = Registers::open(directory.path()).unwrap();
    let number = registers.enter(usb("USB-1"), BY, NOW).unwrap();
    registers
        .change(number, lend(), "suzuki", NOW.plus(60))
        .unwrap();
    registers
        .change(number, Change::Return, "suzuki", NOW.plus(120))
        .unwrap();
    registers
        .review(vec![number], vec![], BY, NOW.plus(180))
        .unwrap();
    registers
        .change(number, dispose(), BY, NOW.plus(240))
        .unwrap();

    // Derived again from the file, it is the same.
    let before = registers.state();
    drop(registers);
    let registers = Registers::open(directory.path()).unwrap();
    assert_eq!(registers.state(), before);
    let history = registers.history(number).unwrap().unwrap();
    assert!(history.medium.has_ended());
    assert_eq!(history.medium.seen, Some(NOW.plus(180)));
    let said: Vec<_> = history
        .events
        .iter()
        .map(|event| (event.by.as_str(), event.what.as_str()))
        .collect();
    assert_eq!(
        said,
        [
            ("kanri", "登録（責任者 佐藤、保管場所 事務室の鍵付き棚）"),
            ("suzuki", "貸出：鈴木（訪問先）"),
            ("suzuki", "返却"),
            ("kanri", "点検：あることを確認"),
            ("kanri", "廃棄：物理的に破壊（立会人 田中）"),
        ]
    );
}

#[test]
fn nothing_happens_to_a_medium_after_its_end() {
    let directory = tempfile::tempdir().unwrap();
    let registers = Registers::open(directory.path()).unwrap();
    let number = registers.enter(usb("USB-1"), BY, NOW).unwrap();
    registers.change(number, dispose(), BY, NOW).unwrap();
    for change in [
        lend(),
        Change::Return,
        Change::Lose,
        Change::Found,
        dispose(),
        write_off(),
    ] {
        assert_eq!(
            refused(registers.change(number, change, BY, NOW)),
            Refused::Ended
        );
    }
    // Its label may be used again, its number not.
    assert_eq!(registers.enter(usb("USB-1"), BY, NOW).unwrap(), number + 1);
}

#[test]
fn what_is_lent_cannot_be_lent_or_disposed_of_and_what_is_lost_must_be_found_or_reported() {
    let directory = tempfile::tempdir().unwrap();
    let registers = Registers::open(directory.path()).unwrap();
    let number = registers.enter(usb("USB-1"), BY, NOW).unwrap();
    let change = |change| registers.change(number, change, BY, NOW);
    assert_eq!(refused(change(Change::Return)), Refused::NotLent);
    assert_eq!(refused(change(Change::Found)), Refused::NotMissing);
    assert_eq!(refused(change(write_off())), Refused::NotMissing);
    change(lend()).unwrap();
    assert_eq!(refused(change(lend())), Refused::NotKept);
    assert_eq!(refused(change(dispose())), Refused::NotKept);
    change(Change::Lose).unwrap();
    assert_eq!(refused(change(Change::Lose)), Refused::Missing);
    assert_eq!(refused(change(dispose())), Refused::NotKept);
    change(Change::Found).unwrap();
    change(Change::Lose).unwrap();
    change(write_off()).unwrap();
    assert!(registers.state().medium(number).unwrap().has_ended());
    assert_eq!(
        refused(registers.change(99, lend(), BY, NOW)),
        Refused::NoSuchMedium
    );
}

#[test]
fn two_media_in_use_never_bear_the_same_label() {
    let directory = tempfile::tempdir().unwrap();
    let registers = Registers::open(directory.path()).unwrap();
    registers.enter(usb("USB-1"), BY, NOW).unwrap();
    for same in ["ＵＳＢ－１", " usb-1", "Usb - 1"] {
        assert_eq!(
            refused(registers.enter(usb(same), BY, NOW)),
            Refused::LabelTaken,
            "{same}"
        );
    }
}

#[test]
fn a_review_covers_the_register_as_it_stands() {
    let directory = tempfile::tempdir().unwrap();
    let registers = Registers::open(directory.path()).unwrap();
    // A facility without media says so by reviewing an empty register.
    registers.review(vec![], vec![], BY, NOW).unwrap();
    let one = registers.enter(usb("USB-1"), BY, NOW).unwrap();
    let two = registers.enter(usb("USB-2"), BY, NOW).unwrap();
    for (seen, missing) in [
        (vec![one], vec![]),
        (vec![], vec![]),
        (vec![one, two, 9], vec![]),
        (vec![one, two], vec![two]),
        (vec![one, one, two], vec![]),
    ] {
        assert_eq!(
            refused(registers.review(seen, missing, BY, NOW.plus(1))),
            Refused::ReviewIncomplete
        );
    }
    assert_eq!(registers.state().reviewed(), Some(NOW));
    registers
        .review(vec![one], vec![two], BY, NOW.plus(2))
        .unwrap();
    let state = registers.state();
    assert_eq!(state.medium(two).unwrap().place, Place::Missing);
    assert_eq!(state.medium(one).unwrap().seen, Some(NOW.plus(2)));
    // What is seen at the next review was not lost after all.
    registers
        .review(vec![one, two], vec![], BY, NOW.plus(3))
        .unwrap();
    assert_eq!(registers.state().medium(two).unwrap().place, Place::Kept);
}

#[test]
fn fields_must_be_ordinary_text_and_days_must_be_possible() {
    let directory = tempfile::tempdir().unwrap();
    let registers = Registers::open(directory.path()).unwrap();
    let with = |change: &dyn Fn(&mut NewMedium)| {
        let mut medium = usb("USB-1");
        change(&mut medium);
        refused(registers.enter(medium, BY, NOW))
    };
    assert_eq!(
        with(&|medium| medium.label = " ".into()),
        Refused::Empty(Field::Label)
    );
    assert_eq!(
        with(&|medium| medium.owner = String::new()),
        Refused::Empty(Field::Owner)
    );
    assert_eq!(
        with(&|medium| medium.place = "棚\u{202e}".into()),
        Refused::NoText(Field::Place)
    );
    let number = registers.enter(usb("USB-1"), BY, NOW).unwrap();
    let due = |year, month, day| Change::Lend {
        to: "鈴木".into(),
        place: "訪問先".into(),
        due: Some(Date { year, month, day }),
    };
    assert_eq!(
        refused(registers.change(number, due(2026, 11, 23), BY, NOW)),
        Refused::ImpossibleDay(Field::Due)
    );
    assert_eq!(
        refused(registers.change(number, due(2026, 11, 31), BY, NOW)),
        Refused::NoSuchDay(Field::Due)
    );
    registers
        .change(number, due(2026, 11, 24), BY, NOW)
        .unwrap();

    let training = |year, month, day, participants| Training {
        day: Date { year, month, day },
        topic: "パスワードの扱い".into(),
        participants,
    };
    assert_eq!(
        refused(registers.train(training(2026, 11, 25, 3), BY, NOW)),
        Refused::ImpossibleDay(Field::Day)
    );
    assert_eq!(
        refused(registers.train(training(2026, 11, 24, 0), BY, NOW)),
        Refused::Participants
    );
    registers.train(training(2026, 11, 24, 8), BY, NOW).unwrap();
    assert_eq!(
        refused(registers.train(training(2026, 11, 24, 8), BY, NOW)),
        Refused::Recorded
    );
}

#[test]
fn what_was_never_done_is_unknown_and_what_was_done_dates_from_then() {
    let directory = tempfile::tempdir().unwrap();
    let registers = Registers::open(directory.path()).unwrap();
    let said = |registers: &Registers| {
        registers
            .observed(NOW.plus(DAY))
            .map(|observed| (observed.check, observed.observation))
    };
    let never = Observation::Unknown(Missing::Never);
    assert_eq!(
        said(&registers),
        [
            (Check::Media, never),
            (Check::Training, never),
            (Check::Decl, never)
        ]
    );
    registers.review(vec![], vec![], BY, NOW).unwrap();
    let training = Training {
        day: Date {
            year: 2026,
            month: 4,
            day: 10,
        },
        topic: "情報セキュリティ".into(),
        participants: 12,
    };
    registers.train(training, BY, NOW).unwrap();
    registers
        .declare(Topic::Paper, "", BY, NOW.plus(-5 * DAY))
        .unwrap();
    // One of two topics is not enough.
    assert_eq!(said(&registers)[2].1, never);
    registers
        .declare(Topic::Tablets, "使っていない", BY, NOW)
        .unwrap();
    let april = Date {
        year: 2026,
        month: 4,
        day: 10,
    }
    .midnight_in_japan();
    let since = |since| Observation::Dated { since };
    assert_eq!(
        said(&registers).map(|(_, observation)| observation),
        [since(NOW), since(april), since(NOW.plus(-5 * DAY))]
    );
    registers
        .declare(Topic::Paper, "", BY, NOW.plus(5))
        .unwrap();
    assert_eq!(said(&registers)[2].1, since(NOW));
    for observed in registers.observed(NOW) {
        assert_eq!(observed.source, Source::Declared);
        assert_ne!(observed.digest, [0; 32]);
    }
}

#[test]
fn the_file_itself_refuses_to_change_or_drop_an_entry() {
    let directory = tempfile::tempdir().unwrap();
    let registers = Registers::open(directory.path()).unwrap();
    registers.enter(usb("USB-1"), BY, NOW).unwrap();
    let file = raw(directory.path());
    for statement in [
        "UPDATE events SET by = 'x'",
        "DELETE FROM events",
        "UPDATE retention SET before = 9999999999; DELETE FROM events",
    ] {
        let error = file.execute_batch(statement).unwrap_err().to_string();
        assert!(error.contains("an entry is"), "{error}");
    }
}

#[test]
fn entries_are_kept_five_years_after_the_end_and_media_in_use_for_good() {
    let directory = tempfile::tempdir().unwrap();
    let registers = Registers::open(directory.path()).unwrap();
    let living = registers.enter(usb("USB-1"), BY, NOW).unwrap();
    let ended = registers.enter(usb("USB-2"), BY, NOW).unwrap();
    registers
        .change(ended, dispose(), BY, NOW.plus(DAY))
        .unwrap();
    registers
        .review(vec![living], vec![], BY, NOW.plus(DAY))
        .unwrap();
    registers
        .review(vec![living], vec![], BY, NOW.plus(2 * DAY))
        .unwrap();

    assert_eq!(registers.drop_expired(NOW.plus(RETENTION)).unwrap(), 0);
    let late = NOW.plus(RETENTION + 3 * DAY);
    // Two entries of the medium disposed of, and the older of two reviews.
    assert_eq!(registers.drop_expired(late).unwrap(), 3);
    let state = registers.state();
    assert!(state.medium(ended).is_none());
    assert!(state.medium(living).is_some());
    assert_eq!(state.reviewed(), Some(NOW.plus(2 * DAY)));
    drop(registers);
    // And a number is not given twice, even when nothing of its first bearer is left.
    let registers = Registers::open(directory.path()).unwrap();
    assert_eq!(registers.enter(usb("USB-3"), BY, late).unwrap(), ended + 1);
}

#[test]
fn a_damaged_file_is_refused_and_left_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let registers = Registers::open(directory.path()).unwrap();
    registers.enter(usb("USB-1"), BY, NOW).unwrap();
    drop(registers);
    // An entry that cannot follow: a return of what was never lent.
    raw(directory.path())
        .execute(
            r#"INSERT INTO events (at, by, medium, ends, body)
               VALUES (1, 'x', 1, 0, '{"event":"change","medium":1,"change":{"kind":"return"}}')"#,
            [],
        )
        .unwrap();
    assert!(matches!(
        Registers::open(directory.path()),
        Err(Error::Damaged(_))
    ));
    let file = directory.path().join("registers.db");
    std::fs::write(&file, b"this is no database, but it is longer than nothing").unwrap();
    assert!(Registers::open(directory.path()).is_err());
    assert!(std::fs::read(&file).unwrap().starts_with(b"this is no"));
}

#[test]
fn csv_holds_every_entry_for_excel_and_no_formula() {
    let directory = tempfile::tempdir().unwrap();
    let registers = Registers::open(directory.path()).unwrap();
    let mut evil = usb("=HYPERLINK(\"http://x\")");
    evil.purpose = "a,\"b\"".into();
    let number = registers.enter(evil, BY, NOW).unwrap();
    let change = Change::Lend {
        to: "＋鈴木".into(),
        place: "訪問先".into(),
        due: Some(Date {
            year: 2026,
            month: 12,
            day: 1,
        }),
    };
    registers.change(number, change, BY, NOW).unwrap();
    registers.review(vec![], vec![number], BY, NOW).unwrap();
    let csv = registers.csv(Register::Media).unwrap();
    let lines: Vec<_> = csv.split("\r\n").collect();
    assert!(csv.starts_with("\u{feff}\"日時\",\"記録者\",\"媒体番号\""));
    assert_eq!(
        lines.len(),
        5,
        "a head, three entries, and the end of the last line"
    );
    assert_eq!(
        lines[1],
        "\"2026-11-24 08:25\",\"kanri\",\"1\",\"USBメモリ\",\"'=HYPERLINK(\"\"http://x\"\")\",\"a,\"\"b\"\"\",\"佐藤\",\"事務室の鍵付き棚\",\"登録\",\"\",\"\",\"\",\"\",\"\""
    );
    assert!(lines[2].contains("\"貸出\",\"'＋鈴木\",\"訪問先\",\"2026-12-01\""));
    assert!(lines[3].contains("点検：なし"));
    assert!(
        registers
            .csv(Register::Trainings)
            .unwrap()
            .starts_with('\u{feff}')
    );
    assert!(
        registers
            .csv(Register::Declarations)
            .unwrap()
            .contains("備考")
    );
}

#[test]
fn what_cannot_be_written_down_beforehand_is_not_entered_and_what_tightens_is() {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::{Arc, Mutex};

    let directory = tempfile::tempdir().unwrap();
    let (works, said) = (
        Arc::new(AtomicBool::new(true)),
        Arc::new(Mutex::new(Vec::new())),
    );
    let (log, heard) = (Arc::clone(&works), Arc::clone(&said));
    let registers = Registers::open(directory.path())
        .unwrap()
        .written_down_by(Box::new(move |what| {
            heard.lock().unwrap().push(what);
            log.load(Ordering::Relaxed)
        }));
    let number = registers.enter(usb("USB-1"), BY, NOW).unwrap();
    // What is refused for another reason is not said.
    let _ = registers.enter(usb("USB-1"), BY, NOW);
    assert_eq!(*said.lock().unwrap(), [Loosening::MediumEntered]);

    works.store(false, Ordering::Relaxed);
    let refused = registers.enter(usb("USB-2"), BY, NOW);
    assert!(matches!(refused, Err(Error::NotWrittenDown)), "{refused:?}");
    let refused = registers.review(vec![number], vec![], BY, NOW);
    assert!(matches!(refused, Err(Error::NotWrittenDown)), "{refused:?}");
    let refused = registers.declare(Topic::Paper, "", BY, NOW);
    assert!(matches!(refused, Err(Error::NotWrittenDown)), "{refused:?}");
    assert_eq!(registers.state().media().count(), 1);
    registers.change(number, Change::Lose, BY, NOW).unwrap();
    let refused = registers.change(number, Change::Found, BY, NOW);
    assert!(matches!(refused, Err(Error::NotWrittenDown)), "{refused:?}");
}
