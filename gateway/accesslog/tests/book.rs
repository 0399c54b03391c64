//! The log as the daemon uses it: what is recorded comes back, what was changed is found, what cannot be recorded is refused.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test ends at the first surprise"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use gateway_accesslog::{
    Access, Book, End, Ending, Key, Opened, Peer, Settings, Standing, What, count_by_day,
    hand_over, open, read_back,
};
use gateway_audit::{Digest, Id};
use gateway_policy::{DeviceId, Timestamp};

/// What somebody with the disk does to the lines of a file.
type Deed = fn(Vec<String>) -> Vec<String>;

const START: i64 = 1_795_000_000;
const DAY: i64 = 86_400;

/// A clock that a test turns.
#[derive(Clone, Default)]
struct Clock(Arc<AtomicI64>);

impl Clock {
    fn new() -> Self {
        Self(Arc::new(AtomicI64::new(START)))
    }

    fn set(&self, at: i64) {
        self.0.store(at, Ordering::SeqCst);
    }

    fn hand(&self) -> Arc<dyn Fn() -> Timestamp + Send + Sync> {
        let own = self.0.clone();
        Arc::new(move || Timestamp(own.load(Ordering::SeqCst)))
    }
}

fn settings(dir: &Path) -> Settings {
    Settings {
        dir: dir.join("accesses"),
        days: 400,
        bytes: 1 << 30,
        vouched: None,
    }
}

fn opened(dir: &Path, key: &Key, clock: &Clock) -> (Book, Opened) {
    let (book, found, _) = open(&settings(dir), key.clone(), clock.hand()).unwrap();
    (book, found)
}

fn access(user: &str, person: &str) -> Access {
    Access {
        user: user.to_owned(),
        person: Some(person.to_owned()),
        what: What::Notes,
        shown: true,
        device: Some(DeviceId([7; 16])),
        peer: Peer::Lan,
        outage: false,
    }
}

fn everything() -> (Timestamp, Timestamp) {
    (Timestamp(0), Timestamp(i64::MAX - DAY * 2))
}

async fn filled(dir: &Path, key: &Key, clock: &Clock, count: u64) -> Standing {
    let (book, _) = opened(dir, key, clock);
    for n in 0..count {
        book.access(access(&format!("user-{n}"), "person-secret-id"))
            .await
            .unwrap();
    }
    let standing = book.flush().await.unwrap();
    book.stop().await;
    standing
}

fn only_file(dir: &Path) -> PathBuf {
    let mut files = fs::read_dir(dir.join("accesses")).unwrap();
    files
        .find_map(|file| {
            let path = file.unwrap().path();
            let name = path.file_name()?.to_str()?.to_owned();
            name.starts_with('0').then_some(path)
        })
        .unwrap()
}

#[tokio::test]
async fn an_access_comes_back_with_its_length_and_its_ids_are_in_no_file() {
    let directory = tempfile::tempdir().unwrap();
    let (key, _) = Key::generate().unwrap();
    let clock = Clock::new();
    let (book, found) = opened(directory.path(), &key, &clock);
    assert_eq!(found, Opened::Whole);
    let first = book.access(access("sato", "person-1")).await.unwrap();
    clock.set(START + 60);
    let second = book.access(access("suzuki", "person-2")).await.unwrap();
    book.ending(&Ending {
        of: first,
        seconds: 42,
        end: End::Left,
    });
    book.flush().await.unwrap();
    let back = read_back(book.dir(), &key, everything(), 100, |_| true).unwrap();
    assert_eq!(back.unreadable, 0);
    let newest = &back.entries[0];
    assert_eq!((newest.number, newest.lasted), (second, None));
    assert_eq!(newest.access, access("suzuki", "person-2"));
    assert_eq!(back.entries[1].lasted, Some((42, End::Left)));
    assert_eq!(back.entries[1].at, Timestamp(START));
    let only_sato = read_back(book.dir(), &key, everything(), 100, |one| {
        one.user == "sato"
    });
    assert_eq!(only_sato.unwrap().entries.len(), 1);
    let bounded = read_back(book.dir(), &key, everything(), 1, |_| true).unwrap();
    assert!(bounded.more && bounded.entries[0].number == second);
    book.stop().await;
    for file in fs::read_dir(directory.path().join("accesses")).unwrap() {
        let text = String::from_utf8_lossy(&fs::read(file.unwrap().path()).unwrap()).into_owned();
        for word in ["sato", "suzuki", "person-", "notes", "0707"] {
            assert!(!text.contains(word), "{word}");
        }
    }
    // Under another key, as after a cleared TPM, the chain goes on; what is in it stays shut.
    let (other, _) = Key::generate().unwrap();
    let (book, found) = opened(directory.path(), &other, &clock);
    assert_eq!(found, Opened::Whole);
    let back = read_back(book.dir(), &other, everything(), 100, |_| true).unwrap();
    assert_eq!((back.entries.len(), back.unreadable), (0, 3));
    book.stop().await;
}

#[tokio::test]
async fn any_access_that_was_changed_removed_moved_or_cut_off_is_found() {
    let deeds: BTreeMap<&str, Deed> = BTreeMap::from([
        (
            "changed",
            (|mut lines: Vec<String>| {
                lines[3] = lines[3].replacen("sealed\":\"", "sealed\":\"A", 1);
                lines
            }) as Deed,
        ),
        ("removed", |mut lines| {
            lines.remove(4);
            lines
        }),
        ("moved", |mut lines| {
            lines.swap(4, 5);
            lines
        }),
        ("repeated", |mut lines| {
            lines.insert(5, lines[4].clone());
            lines
        }),
        ("cut off", |mut lines| {
            lines.truncate(6);
            lines
        }),
        ("emptied", |_| Vec::new()),
    ]);
    for (deed, do_it) in deeds {
        let directory = tempfile::tempdir().unwrap();
        let (key, _) = Key::generate().unwrap();
        let clock = Clock::new();
        let standing = filled(directory.path(), &key, &clock, 8).await;
        let file = only_file(directory.path());
        let text = fs::read_to_string(&file).unwrap();
        let lines = do_it(text.lines().map(|line| format!("{line}\n")).collect());
        fs::write(&file, lines.concat()).unwrap();
        // The audit log, which TPM and city vouch for, has how far this one had come.
        let with = Settings {
            vouched: Some((standing.log, standing.count, standing.head)),
            ..settings(directory.path())
        };
        let (book, found, _) = open(&with, key.clone(), clock.hand()).unwrap();
        assert_eq!(found, Opened::Changed, "{deed}");
        assert!(book.access(access("s", "p")).await.is_ok(), "{deed}");
        book.stop().await;
    }
}

#[tokio::test]
async fn records_put_together_anew_with_right_hashes_do_not_open() {
    let directory = tempfile::tempdir().unwrap();
    let (key, _) = Key::generate().unwrap();
    let clock = Clock::new();
    filled(directory.path(), &key, &clock, 4).await;
    let file = only_file(directory.path());
    let text = fs::read_to_string(&file).unwrap();
    let lines: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    // Without the third entry, numbers and hashes made to fit: whoever has the disk can do that, the key he has not.
    let mut anew = String::new();
    let mut previous = Digest::ZERO;
    for (n, line) in lines.iter().enumerate().filter(|(n, _)| *n != 2) {
        let mut entry = line["entry"].clone();
        entry["n"] = if n < 2 { n + 1 } else { n }.into();
        let entry = entry.to_string();
        let hash = Digest::of(&[&previous.0, entry.as_bytes()]);
        anew += &format!("{{\"entry\":{entry},\"hash\":\"{hash}\"}}\n");
        previous = hash;
    }
    fs::write(&file, anew).unwrap();
    let (book, found) = opened(directory.path(), &key, &clock);
    assert_eq!(found, Opened::Whole, "the hashes alone do not show it");
    let back = read_back(book.dir(), &key, everything(), 100, |_| true).unwrap();
    assert_eq!((back.entries.len(), back.unreadable), (1, 2));
    book.stop().await;
}

#[tokio::test]
async fn another_log_in_its_place_is_not_the_one_that_was_vouched_for() {
    let directory = tempfile::tempdir().unwrap();
    let (key, _) = Key::generate().unwrap();
    let clock = Clock::new();
    filled(directory.path(), &key, &clock, 5).await;
    let with = Settings {
        vouched: Some((Id([9; 16]), 1, Digest([1; 32]))),
        ..settings(directory.path())
    };
    let (book, found, _) = open(&with, key.clone(), clock.hand()).unwrap();
    assert_eq!(found, Opened::Changed);
    book.stop().await;
    fs::remove_dir_all(directory.path().join("accesses")).unwrap();
    let (book, found, _) = open(&with, key, clock.hand()).unwrap();
    assert_eq!(found, Opened::Changed, "it is gone altogether");
    book.stop().await;
}

#[tokio::test]
async fn a_log_that_is_changed_while_the_box_runs_is_put_aside_and_recording_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let (key, _) = Key::generate().unwrap();
    let clock = Clock::new();
    let (book, _) = opened(directory.path(), &key, &clock);
    for _ in 0..5 {
        book.access(access("s", "p")).await.unwrap();
    }
    assert!(book.verify().await.unwrap());
    let file = only_file(directory.path());
    let text = fs::read_to_string(&file).unwrap();
    let kept: Vec<&str> = text.lines().take(3).collect();
    fs::write(&file, kept.join("\n") + "\n").unwrap();
    assert!(!book.verify().await.unwrap());
    book.access(access("s", "p")).await.unwrap();
    assert!(book.verify().await.unwrap(), "another log begins");
    let aside = fs::read_dir(directory.path())
        .unwrap()
        .filter(|file| {
            let name = file.as_ref().unwrap().file_name();
            name.to_string_lossy().starts_with("accesses-set-aside-")
        })
        .count();
    assert_eq!(aside, 1);
    book.stop().await;
}

#[tokio::test]
async fn records_go_when_their_days_are_over_and_the_chain_still_holds() {
    let directory = tempfile::tempdir().unwrap();
    let (key, _) = Key::generate().unwrap();
    let clock = Clock::new();
    let (book, _) = opened(directory.path(), &key, &clock);
    for day in 0..40 {
        clock.set(START + day * DAY);
        book.access(access("s", &format!("p-{day}"))).await.unwrap();
    }
    let days = count_by_day(book.dir(), Timestamp(0), Timestamp(START + 41 * DAY)).unwrap();
    assert_eq!(days.len(), 40);
    assert!(days.values().all(|count| *count == 1));
    book.keep(30);
    let standing = book.flush().await.unwrap();
    let back = read_back(book.dir(), &key, everything(), 100, |_| true).unwrap();
    assert!(
        (30..=32).contains(&back.entries.len()),
        "{}",
        back.entries.len()
    );
    assert_eq!(back.unreadable, 0);
    assert!(book.verify().await.unwrap());
    book.stop().await;
    let with = Settings {
        vouched: Some((standing.log, standing.count, standing.head)),
        ..settings(directory.path())
    };
    let (book, found, _) = open(&with, key, clock.hand()).unwrap();
    assert_eq!(found, Opened::Whole);
    book.stop().await;
}

#[tokio::test]
async fn what_is_handed_over_in_pieces_is_one_chain_with_its_records() {
    let directory = tempfile::tempdir().unwrap();
    let (key, _) = Key::generate().unwrap();
    let clock = Clock::new();
    let (book, _) = opened(directory.path(), &key, &clock);
    for n in 0..50 {
        clock.set(START + n * 3600);
        book.access(access(&format!("u-{n}"), "p")).await.unwrap();
    }
    book.flush().await.unwrap();
    let range = (Timestamp(START + 10 * 3600), Timestamp(START + 40 * 3600));
    let (mut resume, mut records, mut head) = (None, Vec::new(), None);
    loop {
        let piece = hand_over(book.dir(), &key, range, resume, 4000).unwrap();
        assert!(head.is_none_or(|head| head == piece.previous));
        let mut previous = piece.previous;
        for line in &piece.lines {
            let value: serde_json::Value = serde_json::from_str(&line.line).unwrap();
            previous = Digest::of(&[&previous.0, value["entry"].to_string().as_bytes()]);
            assert_eq!(value["hash"], previous.to_string());
            if let Some(record) = &line.record {
                let digest = Digest::of(&[record.as_bytes()]).to_string();
                assert_eq!(value["entry"]["digest"], digest);
                records.push(record.clone());
            }
        }
        head = Some(previous);
        resume = piece.next;
        if resume.is_none() {
            break;
        }
    }
    assert_eq!(records.len(), 30);
    assert!(records[0].contains("\"u-10\"") && records[29].contains("\"u-39\""));
    book.stop().await;
}

#[tokio::test]
async fn a_log_that_has_ended_records_nothing_more() {
    let directory = tempfile::tempdir().unwrap();
    let (key, _) = Key::generate().unwrap();
    let clock = Clock::new();
    let (book, _) = opened(directory.path(), &key, &clock);
    book.access(access("s", "p")).await.unwrap();
    book.stop().await;
    assert!(book.access(access("s", "p")).await.is_err());
}
