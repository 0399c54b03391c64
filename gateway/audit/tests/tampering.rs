//! Somebody changes the files of a log on a stopped box, in every way; verification finds it and names where.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what a test cannot do is its failure"
)]

mod bench;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use bench::{Bench, copy_dir, lines, segments};
use gateway_audit::{Note, Options, Report, verify};
use proptest::prelude::*;

/// A log with three files, checkpoints and countersignatures; made once.
fn sound() -> &'static Bench {
    static BENCH: OnceLock<Bench> = OnceLock::new();
    BENCH.get_or_init(|| Bench::filled("tkh-1001"))
}

/// The same by another box.
fn foreign() -> &'static Bench {
    static BENCH: OnceLock<Bench> = OnceLock::new();
    BENCH.get_or_init(|| Bench::filled("tkh-1002"))
}

fn with_roots() -> Options {
    Options {
        roots: vec![sound().root.clone()],
        ..Options::default()
    }
}

fn with_city() -> Options {
    Options {
        city: Some(sound().city_copy()),
        ..with_roots()
    }
}

fn copied() -> (tempfile::TempDir, PathBuf) {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("audit");
    copy_dir(&sound().dir, &dir);
    (home, dir)
}

fn found(dir: &Path, options: &Options) -> Vec<(&'static str, Option<u64>)> {
    report(dir, options)
        .findings
        .iter()
        .map(|finding| (finding.fault.id(), finding.entry))
        .collect()
}

fn report(dir: &Path, options: &Options) -> Report {
    verify(dir, options).unwrap()
}

#[test]
fn a_sound_log_has_no_finding_and_says_what_is_proven() {
    let report = report(&sound().dir, &with_city());
    assert_eq!(report.findings, []);
    assert!(
        report.checkpoints >= 4 && report.receipts >= 2,
        "{report:?}"
    );
    assert!(report.signed_to >= report.acknowledged.unwrap().0);
    assert_eq!(
        report.notes,
        [Note::NotSigned {
            from: report.signed_to + 1
        }]
    );
}

#[test]
fn a_changed_removed_inserted_or_reordered_entry_is_named() {
    let all = lines(&sound().dir);
    let edit = |change: &dyn Fn(&mut Vec<String>)| {
        let (_home, dir) = copied();
        let first = segments(&dir).remove(0);
        let mut text: Vec<String> = fs::read_to_string(&first)
            .unwrap()
            .lines()
            .map(str::to_owned)
            .collect();
        change(&mut text);
        fs::write(&first, text.join("\n") + "\n").unwrap();
        found(&dir, &with_roots())[0]
    };
    assert!(all.len() > 12);
    let changed = edit(&|text| text[4] = text[4].replace("\"box\"", "\"facility\""));
    assert_eq!(changed, ("entry-changed", Some(5)));
    assert_eq!(
        edit(&|text| drop(text.remove(4))),
        ("entries-missing", Some(5))
    );
    assert_eq!(
        edit(&|text| text.insert(4, text[2].clone())),
        ("entry-repeated", Some(5))
    );
    assert_eq!(edit(&|text| text.swap(3, 4)), ("entries-missing", Some(4)));
    assert_eq!(
        edit(&|text| text[4].insert(3, ' ')),
        ("entry-unreadable", Some(5))
    );
    assert_eq!(edit(&|text| text.truncate(3)).0, "entries-missing");
}

#[test]
fn a_whole_file_that_is_gone_or_exchanged_is_named() {
    let (_home, dir) = copied();
    let files = segments(&dir);
    let second = files[1]
        .file_stem()
        .unwrap()
        .to_string_lossy()
        .parse::<u64>()
        .unwrap();
    fs::remove_file(&files[1]).unwrap();
    assert_eq!(
        found(&dir, &with_roots())[0],
        ("entries-missing", Some(second))
    );

    let (_home, dir) = copied();
    fs::remove_file(&segments(&dir)[0]).unwrap();
    assert_eq!(
        found(&dir, &with_roots())[0],
        ("beginning-missing", Some(1))
    );

    let (_home, dir) = copied();
    let theirs = segments(&foreign().dir);
    fs::copy(&theirs[1], dir.join(theirs[1].file_name().unwrap())).unwrap();
    assert_eq!(found(&dir, &with_roots())[0].1, Some(second));
}

#[test]
fn a_chain_made_anew_shows_at_its_first_checkpoint() {
    let (_home, dir) = copied();
    bench::restamp(&dir, 5, |entry| entry.replace("\"box\"", "\"facility\""));
    let report = report(&dir, &with_roots());
    let first = &report.findings[0];
    assert_eq!(first.fault.id(), "chain-made-anew", "{:?}", report.findings);
    assert!(first.entry.unwrap() <= 5, "{first:?}");
}

#[test]
fn an_end_cut_off_shows_at_the_checkpoint_that_signed_it() {
    let (_home, dir) = copied();
    let signed = report(&dir, &with_roots()).signed_to;
    let number = |path: &PathBuf| {
        let stem = path.file_stem().unwrap().to_string_lossy();
        stem.parse::<u64>().unwrap()
    };
    let cut = segments(&dir);
    let cut = cut.iter().rposition(|path| number(path) <= signed).unwrap();
    let before = number(&segments(&dir)[cut]);
    for path in segments(&dir).split_off(cut) {
        fs::remove_file(path).unwrap();
    }
    let found = found(&dir, &with_roots());
    assert_eq!(found[0], ("log-truncated", Some(before)), "{found:?}");
}

#[test]
fn checkpoints_and_receipts_that_are_gone_or_exchanged_are_missed() {
    let edit = |file: &str, change: &dyn Fn(&mut Vec<String>)| {
        let (_home, dir) = copied();
        let path = dir.join(file);
        let mut text: Vec<String> = fs::read_to_string(&path)
            .unwrap()
            .lines()
            .map(str::to_owned)
            .collect();
        change(&mut text);
        fs::write(&path, text.join("\n") + "\n").unwrap();
        found(&dir, &with_roots())
            .into_iter()
            .map(|(id, _)| id)
            .collect::<Vec<_>>()
    };
    let theirs = |file: &str| {
        let text = fs::read_to_string(foreign().dir.join(file)).unwrap();
        text.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let checkpoints = theirs("checkpoints.jsonl");
    for (file, change, expected) in [
        (
            "checkpoints.jsonl",
            &(|text: &mut Vec<String>| drop(text.remove(1))) as &dyn Fn(&mut Vec<String>),
            "checkpoint-missing",
        ),
        (
            "checkpoints.jsonl",
            &|text| drop(text.pop()),
            "checkpoint-missing",
        ),
        (
            "checkpoints.jsonl",
            &|text| text.swap(0, 1),
            "checkpoint-order",
        ),
        (
            "checkpoints.jsonl",
            &|text| text[1] = checkpoints[1].clone(),
            "checkpoint-signature",
        ),
        (
            "receipts.jsonl",
            &|text| drop(text.remove(0)),
            "receipt-missing",
        ),
        (
            "receipts.jsonl",
            &|text| drop(text.pop()),
            "receipt-missing",
        ),
        ("receipts.jsonl", &|text| text.swap(0, 1), "receipt-order"),
        ("keys.jsonl", &|text| text.clear(), "key-unreadable"),
        (
            "certificates.jsonl",
            &|text| text.clear(),
            "certificates-unreadable",
        ),
    ] {
        let ids = edit(file, change);
        assert!(
            ids.contains(&expected),
            "{file}: {ids:?} without {expected}"
        );
    }
    // A receipt by somebody who is not the city.
    let options = Options {
        roots: vec![foreign().root.clone()],
        ..Options::default()
    };
    let ids = found(&sound().dir, &options);
    assert!(ids.iter().any(|(id, _)| *id == "receipt-false"), "{ids:?}");
}

#[test]
fn log_and_checkpoints_cut_back_together_show_only_in_the_citys_copy() {
    let (_home, dir) = copied();
    bench::rewind(&dir);
    assert_eq!(found(&dir, &with_roots()), []);
    let found = found(&dir, &with_city());
    assert_eq!(found[0].0, "city-has-more", "{found:?}");
    assert_eq!(found[0].1, Some(report(&dir, &with_roots()).count + 1));
}

#[test]
fn a_whole_log_exchanged_for_another_shows_only_in_the_citys_copy() {
    let options = Options {
        city: Some(sound().city_copy()),
        ..Options::default()
    };
    assert_eq!(found(&foreign().dir, &Options::default()), []);
    assert_eq!(found(&foreign().dir, &options)[0].0, "city-other-log");
}

/// One thing that somebody does to one file.
#[derive(Clone, Debug)]
enum Deed {
    Flip(prop::sample::Index, u8),
    Insert(prop::sample::Index, u8),
    Delete(prop::sample::Index),
    RemoveLine(prop::sample::Index),
    RepeatLine(prop::sample::Index),
    SwapLines(prop::sample::Index, prop::sample::Index),
    ForeignLine(prop::sample::Index),
    Truncate(prop::sample::Index),
    Remove,
}

fn deed() -> impl Strategy<Value = Deed> {
    use prop::sample::Index;
    prop_oneof![
        (any::<Index>(), 1..=255_u8).prop_map(|(at, by)| Deed::Flip(at, by)),
        (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Deed::Insert(at, byte)),
        any::<Index>().prop_map(Deed::Delete),
        any::<Index>().prop_map(Deed::RemoveLine),
        any::<Index>().prop_map(Deed::RepeatLine),
        (any::<Index>(), any::<Index>()).prop_map(|(a, b)| Deed::SwapLines(a, b)),
        any::<Index>().prop_map(Deed::ForeignLine),
        any::<Index>().prop_map(Deed::Truncate),
        Just(Deed::Remove),
    ]
}

/// Does it; false when the file is the same afterwards.
fn commit(deed: &Deed, path: &Path) -> bool {
    let before = fs::read(path).unwrap();
    let mut bytes = before.clone();
    let mut text: Vec<Vec<u8>> = before
        .split_inclusive(|byte| *byte == b'\n')
        .map(<[u8]>::to_vec)
        .collect();
    match deed {
        Deed::Flip(at, by) => {
            let at = at.index(bytes.len());
            bytes[at] ^= by;
        }
        Deed::Insert(at, byte) => bytes.insert(at.index(bytes.len() + 1), *byte),
        Deed::Delete(at) => drop(bytes.remove(at.index(bytes.len()))),
        Deed::Truncate(at) => bytes.truncate(at.index(bytes.len())),
        Deed::RemoveLine(at) => {
            drop(text.remove(at.index(text.len())));
            bytes = text.concat();
        }
        Deed::RepeatLine(at) => {
            let at = at.index(text.len());
            text.insert(at, text[at].clone());
            bytes = text.concat();
        }
        Deed::SwapLines(a, b) => {
            let (a, b) = (a.index(text.len()), b.index(text.len()));
            text.swap(a, b);
            bytes = text.concat();
        }
        Deed::ForeignLine(at) => {
            let other = fs::read(foreign().dir.join(path.file_name().unwrap())).unwrap();
            let theirs: Vec<_> = other.split_inclusive(|byte| *byte == b'\n').collect();
            let at = at.index(text.len().min(theirs.len()));
            text[at] = theirs[at].to_vec();
            bytes = text.concat();
        }
        Deed::Remove => {
            fs::remove_file(path).unwrap();
            return true;
        }
    }
    fs::write(path, &bytes).unwrap();
    bytes != before
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn any_one_deed_is_found_unless_it_only_cuts_entries_that_were_not_signed_yet(
        file in any::<prop::sample::Index>(), deed in deed()
    ) {
        let (_home, dir) = copied();
        let mut files: Vec<PathBuf> = fs::read_dir(&dir).unwrap().map(|file| file.unwrap().path()).collect();
        files.sort();
        let path = file.get(&files);
        prop_assume!(commit(&deed, path));
        let report = report(&dir, &with_roots());
        if report.findings.is_empty() {
            // What is left is the log as it was, up to an entry behind everything that was signed; or a line without end,
            // as a power cut leaves it, behind the same.
            let signed = verify(&sound().dir, &with_roots()).unwrap().signed_to;
            prop_assert!(report.count >= signed, "{} of {}", report.count, signed);
            let same: Vec<String> = lines(&sound().dir).into_iter().take(usize::try_from(report.count).unwrap()).collect();
            prop_assert_eq!(lines(&dir).into_iter().take(same.len()).collect::<Vec<_>>(), same);
        }
    }
}
