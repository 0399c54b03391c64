//! What is left on disk: words in the clear, and the sealed rows of somebody who was purged.
//!
//! Rows are read by Debian's `sqlite3`, a reader that is not ours.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use test_harness::binaries;

/// Bytes that must not be found, with what they are.
pub(crate) type Needles = Vec<(String, Vec<u8>)>;

/// Every file below `directory`.
fn files(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            files(&path, found);
        } else if path.is_file() {
            found.push(path);
        }
    }
}

/// Which of `needles` stand in any file below `directory`.
pub(crate) fn found(directory: &Path, needles: &Needles) -> Vec<String> {
    let mut all = Vec::new();
    files(directory, &mut all);
    let mut found = Vec::new();
    for path in all {
        let bytes = std::fs::read(&path).unwrap_or_default();
        for (what, needle) in needles {
            if memchr::memmem::find(&bytes, needle).is_some() {
                found.push(format!("{what} in {}", path.display()));
            }
        }
    }
    found
}

/// The sealed rows of each person in the databases below `directory`: the person's tag, then the column's name and bytes.
pub(crate) fn rows_by_person(directory: &Path) -> BTreeMap<String, Needles> {
    let mut all = Vec::new();
    files(directory, &mut all);
    let mut rows = BTreeMap::new();
    for file in all {
        if file.extension().is_some_and(|extension| extension == "db") {
            add_rows(&file, &mut rows);
        }
    }
    rows
}

/// The rows of notes among the rows of a person.
pub(crate) fn notes_of(rows: &Needles) -> impl Iterator<Item = &(String, Vec<u8>)> {
    rows.iter().filter(|(what, _)| what == NOTE)
}

const NOTE: &str = "a note's row";

fn add_rows(file: &Path, rows: &mut BTreeMap<String, Needles>) {
    for (query, what) in [
        ("SELECT hex(tag), hex(key) FROM persons", "a wrapped key"),
        ("SELECT hex(tag), hex(body) FROM persons", "a person's row"),
        ("SELECT hex(person), hex(body) FROM notes", NOTE),
    ] {
        for line in ask(file, query).lines() {
            let (person, value) = line.split_once('|').unwrap();
            // The beginning is enough to know it by, and may not straddle two pages of the file.
            let bytes: Vec<u8> = value
                .as_bytes()
                .chunks_exact(2)
                .take(32)
                .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
                .collect();
            assert!(bytes.len() >= 16, "{what} of {} bytes", bytes.len());
            rows.entry(person.to_owned())
                .or_default()
                .push((what.to_owned(), bytes));
        }
    }
}

fn ask(file: &Path, query: &str) -> String {
    let output = Command::new(binaries::debian("sqlite3", "sqlite3").unwrap())
        .arg("-batch")
        .arg(file)
        .arg(query)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{query}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}
