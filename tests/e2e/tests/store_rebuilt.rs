//! The store of notes is filled anew: beside the old one when the city asks for it, from nothing when it is damaged or the
//! root of its keys is lost. Readers, a purge and a crash come in between.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what a test cannot do is its failure"
)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use gateway_e2e::visiting::{Answer, Visitor};
use serde_json::{Value, json};
use test_harness::facility::{Facility, Options};
use test_harness::{binaries, wait};

/// A loaded machine and a back-off may come together.
const PATIENCE: Duration = Duration::from_secs(120);

/// What `gatewayctl notes --json` says.
fn notes(facility: &Facility) -> Value {
    let output = Command::new(binaries::ours("gatewayctl").unwrap())
        .args(["notes", "--json", "--socket"])
        .arg(facility.gateway.state_directory().join("control.sock"))
        .output()
        .unwrap();
    serde_json::from_slice(&output.stdout).unwrap_or_default()
}

fn until_notes(facility: &Facility, what: &str, is: impl Fn(&Value) -> bool) -> Value {
    let mut last = Value::Null;
    wait::until(what, PATIENCE, || {
        last = notes(facility);
        is(&last).then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}\n{last:#}\n{}", facility.gateway.log()));
    last
}

fn is_level(notes: &Value) -> bool {
    notes["caught_up"] == true && notes["rebuilding"].is_null()
}

fn page_of(facility: &Facility, visitor: &Visitor, person: &str) -> Answer {
    visitor.open(&format!("{}notes/{person}", facility.gateway.console_url()))
}

fn signed_in(facility: &Facility) -> Visitor {
    let visitor = Visitor::new(facility, "sakura-01");
    wait::until("signing in", PATIENCE, || {
        visitor
            .sign_in(facility, "sakura-01")
            .says("支援対象者")
            .then_some(())
    })
    .unwrap();
    visitor
}

fn until_readable(facility: &Facility, visitor: &Visitor) {
    wait::until("stored notes", PATIENCE, || {
        // By way of the notebook, which hands the session over.
        visitor
            .stored(&facility.gateway)
            .says("参照情報")
            .then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}\n{}", facility.gateway.log()));
}

fn databases(facility: &Facility) -> Vec<PathBuf> {
    let store = facility.gateway.state_directory().join("notes/store");
    ["a", "b"]
        .map(|name| store.join(name).join("notes.db"))
        .into_iter()
        .filter(|file| file.exists())
        .collect()
}

fn files_below(path: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            files_below(&entry.path(), found);
        } else {
            found.push(entry.path());
        }
    }
}

/// Nothing readable of what the notes say is in any file of the box's state.
fn nothing_is_readable_on_the_disk(facility: &Facility, words: &[&str]) {
    let mut files = Vec::new();
    files_below(&facility.gateway.state_directory(), &mut files);
    assert!(files.len() > 3);
    for file in files {
        let bytes = std::fs::read(&file).unwrap_or_default();
        for word in words {
            let found = bytes
                .windows(word.len())
                .any(|part| part == word.as_bytes());
            assert!(!found, "{word} in {}", file.display());
        }
    }
}

#[test]
fn readers_keep_the_old_store_until_the_new_one_is_complete_through_a_purge_and_a_crash() {
    let mut facility = Facility::start(Options::default()).unwrap();
    let visitor = signed_in(&facility);
    until_notes(&facility, "the first filling", is_level);
    until_readable(&facility, &visitor);
    assert!(page_of(&facility, &visitor, "p-1002").says("参照情報"));
    let before = notes(&facility)["key_root"]["generation"].as_u64().unwrap();

    // While the box is away the city forgets the way from where the box stopped.
    let meanwhile = "留守の間に書かれた内容です。";
    let control = |what: &str, arguments: Value| {
        facility.city.control(what, &arguments).unwrap();
    };
    control("never-level", json!({ "held": true }));
    facility.city.fail("down").unwrap();
    control(
        "note",
        json!({ "person": "p-1001", "author": "sakura-02", "text": meanwhile }),
    );
    control("forget-events", json!({}));
    facility.city.recover().unwrap();
    let standing = until_notes(&facility, "a rebuilding", |notes| {
        notes["rebuilding"]["notes"].as_u64() > Some(0)
    });
    assert_eq!(standing["caught_up"], false);
    assert_eq!(databases(&facility).len(), 2);

    // Read is still the old one, whole.
    let page = page_of(&facility, &visitor, "p-1001");
    assert!(page.says("参照情報") && !page.says(meanwhile), "{page:?}");

    // Who reads is told; how much has come, the manager alone.
    assert!(page.says("保存の作り直しをしています") && !page.says("件まで受け取りました"));
    let home = visitor.open(&facility.gateway.console_url());
    assert!(home.says("保存の作り直しをしています"), "{}", home.body);
    assert!(!home.says("件まで受け取りました"), "{}", home.body);
    let manager = Visitor::new(&facility, "sakura-kanri");
    let page = manager.sign_in(&facility, "sakura-kanri");
    assert_eq!(page.status, 200, "{page:?}");
    wait::until("the manager's home page", PATIENCE, || {
        let _ = manager.stored(&facility.gateway);
        let home = manager.open(&facility.gateway.console_url());
        home.says("件まで受け取りました").then_some(())
    })
    .unwrap();

    // SIGKILL in the midst: both are there again, and it goes on.
    facility.gateway.process().kill();
    facility.gateway.start_again().unwrap();
    let visitor = signed_in(&facility);
    until_readable(&facility, &visitor);
    until_notes(&facility, "the rebuilding to go on", |notes| {
        notes["rebuilding"]["notes"].as_u64() > Some(0)
    });
    assert!(!page_of(&facility, &visitor, "p-1001").says(meanwhile));

    // Whose support ends meanwhile is not read any more, although the old store is what is read.
    assert!(page_of(&facility, &visitor, "p-1002").says("参照情報"));
    let control = |what: &str, arguments: Value| {
        facility.city.control(what, &arguments).unwrap();
    };
    control("person-ended", json!({ "id": "p-1002" }));
    wait::until("the person to be gone", PATIENCE, || {
        (page_of(&facility, &visitor, "p-1002").status == 404).then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}\n{}", facility.gateway.log()));
    assert!(!notes(&facility)["rebuilding"].is_null());
    assert!(page_of(&facility, &visitor, "p-1001").says("参照情報"));

    control("never-level", json!({ "held": false }));
    let standing = until_notes(&facility, "the switch", is_level);
    assert!(page_of(&facility, &visitor, "p-1001").says(meanwhile));
    assert_eq!(page_of(&facility, &visitor, "p-1002").status, 404);
    assert_eq!(databases(&facility).len(), 1);
    // Once for the person, once for what only the old store had.
    let root = &standing["key_root"];
    assert!(root["generation"].as_u64().unwrap() >= before + 2, "{root}");
    assert_eq!(root["renewal_due"], false);
    nothing_is_readable_on_the_disk(&facility, &[meanwhile, "架空 花子", "p-1001", "p-1002"]);
}

#[test]
fn a_damaged_store_and_a_lost_root_are_said_and_filled_anew_while_relaying_goes_on() {
    let mut facility = Facility::start(Options::default()).unwrap();
    let visitor = signed_in(&facility);
    until_notes(&facility, "the first filling", is_level);
    until_readable(&facility, &visitor);
    let state = facility.gateway.state_directory();
    type Damage = fn(&Path);
    let damages: [(&str, Damage); 2] = [
        ("a damaged file", |state| {
            let directory = state.join("notes/store/a");
            std::fs::write(directory.join("notes.db"), vec![0x5a; 30_000]).unwrap();
            // The log may hold every page of so small a store, and would repair it.
            let _ = std::fs::remove_file(directory.join("notes.db-wal"));
        }),
        ("a lost root", |state| {
            std::fs::remove_file(state.join("tpm/root.auth")).unwrap();
        }),
    ];
    for (at, (name, damage)) in damages.into_iter().enumerate() {
        facility.gateway.process().stop();
        damage(&state);
        facility.gateway.start_again().unwrap();
        let visitor = signed_in(&facility);
        until_notes(&facility, name, is_level);
        until_readable(&facility, &visitor);
        let log = facility.gateway.log();
        let said = log.matches("filled anew").count();
        assert!(said > at, "{name}: {log}");
    }
}

/// Puts the whole state directory back to what `copy` holds, as somebody would who kept the disk of an earlier day.
fn put_back(facility: &mut Facility, copy: &Path) {
    facility.gateway.process().stop();
    let state = facility.gateway.state_directory();
    std::fs::remove_dir_all(&state).unwrap();
    copied(copy, &state);
}

fn copied(from: &Path, to: &Path) {
    let status = Command::new("cp")
        .arg("-a")
        .args([from, to])
        .status()
        .unwrap();
    assert!(status.success());
}

/// The box itself, with its own TPM, opens an earlier copy of its disk; but no more once somebody has been purged since.
#[test]
fn a_copy_of_the_disk_from_before_a_purge_opens_no_more_on_the_box_it_was_made_on() {
    let mut facility = Facility::start(Options::default()).unwrap();
    let before = until_notes(&facility, "the first filling", is_level);
    let persons = before["persons"].as_u64().unwrap();
    assert!(persons >= 3, "{before:#}");
    facility.gateway.process().stop();
    let kept = tempfile::tempdir().unwrap();
    let copy = kept.path().join("state");
    copied(&facility.gateway.state_directory(), &copy);

    // Without the city nothing can be filled anew, so what is counted was opened.
    facility.city.fail("down").unwrap();
    put_back(&mut facility, &copy);
    facility.gateway.start_again().unwrap();
    until_notes(&facility, "the copy to open", |notes| {
        notes["persons"].as_u64() == Some(persons)
    });

    facility.city.recover().unwrap();
    facility
        .city
        .control("person-ended", &json!({ "id": "p-1003" }))
        .unwrap();
    until_notes(&facility, "the purge", |notes| {
        notes["persons"].as_u64() == Some(persons - 1)
            && notes["key_root"]["renewal_due"] == false
            && notes["key_root"]["generation"].as_u64() > before["key_root"]["generation"].as_u64()
    });

    facility.city.fail("down").unwrap();
    put_back(&mut facility, &copy);
    facility.gateway.start_again().unwrap();
    let opened = until_notes(&facility, "a store", |notes| notes["open"] == true);
    assert_eq!(opened["persons"], 0, "{opened:#}");
    assert_eq!(opened["notes"], 0, "{opened:#}");
    let log = facility.gateway.log();
    assert!(log.contains("event=\"store-rebuilt\""), "{log}");

    // It is no worse off for it: the city fills it anew, without the person.
    facility.city.recover().unwrap();
    until_notes(&facility, "the store filled anew", |notes| {
        is_level(notes) && notes["persons"].as_u64() == Some(persons - 1)
    });
}
