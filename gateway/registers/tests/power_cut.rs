//! What was answered is on the disk, wherever the power is cut.
//!
//! A cut is played by keeping of the files what had been forced to the disk (the write-ahead log up to its length at the
//! answer) and any part, torn or garbled, of what came after it.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what a test cannot do is its failure"
)]

use std::fs;
use std::path::Path;

use gateway_policy::Timestamp;
use gateway_registers::{Change, Kind, NewMedium, Registers};
use proptest::prelude::*;

const NOW: Timestamp = Timestamp(1_795_476_305);

fn medium(n: usize) -> NewMedium {
    NewMedium {
        kind: Kind::Paper,
        label: format!("綴り{n}"),
        purpose: "訪問記録".into(),
        owner: "佐藤".into(),
        place: "書庫".into(),
    }
}

struct Written {
    database: Vec<u8>,
    log: Vec<u8>,
    /// The log's length when each entry was answered.
    answered: Vec<usize>,
}

fn write(entries: usize) -> Written {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let registers = Registers::open(directory.path()).unwrap();
    let length = || fs::read(path("registers.db-wal")).unwrap().len();
    let mut answered = vec![length()];
    for n in 0..entries {
        registers.enter(medium(n), "kanri", NOW).unwrap();
        answered.push(length());
    }
    Written {
        database: fs::read(path("registers.db")).unwrap(),
        log: fs::read(path("registers.db-wal")).unwrap(),
        answered,
    }
}

fn reopened(directory: &Path, written: &Written, log: &[u8]) -> usize {
    fs::write(directory.join("registers.db"), &written.database).unwrap();
    fs::write(directory.join("registers.db-wal"), log).unwrap();
    let registers = Registers::open(directory).unwrap();
    registers.state().media().count()
}

#[test]
fn an_answered_entry_survives_a_cut_at_any_byte_after_it() {
    let written = write(4);
    for entries in 0..written.answered.len() {
        let from = written.answered[entries];
        let to = written.answered.get(entries + 1).copied().unwrap_or(from);
        for cut in (from..=to).step_by(97).chain([to]) {
            let directory = tempfile::tempdir().unwrap();
            let found = reopened(directory.path(), &written, &written.log[..cut]);
            assert!(
                found == entries || (found == entries + 1 && cut == to),
                "cut at {cut}: {found} instead of {entries}"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn garbage_after_the_last_answer_takes_nothing_away(
        entries in 0_usize..4,
        garbage in proptest::collection::vec(any::<u8>(), 0..5000),
    ) {
        let written = write(entries);
        let mut log = written.log.clone();
        log.extend_from_slice(&garbage);
        let directory = tempfile::tempdir().unwrap();
        prop_assert_eq!(reopened(directory.path(), &written, &log), entries);
    }

    /// Any sequence of changes: what the register takes can be read again, what it refuses leaves no trace, and a medium whose
    /// life has ended stays as it was.
    #[test]
    fn any_life_of_media_is_read_again_as_it_was(steps in proptest::collection::vec((0_u64..4, 0_u8..8), 1..40)) {
        let directory = tempfile::tempdir().unwrap();
        let registers = Registers::open(directory.path()).unwrap();
        let mut at = NOW;
        for (number, step) in steps {
            at = at.plus(60);
            let before = registers.state();
            let ended = before.medium(number).is_some_and(gateway_registers::Medium::has_ended);
            let result = match step {
                0 => registers.enter(medium(usize::try_from(number).unwrap()), "a", at).map(|_| ()),
                1 => registers.change(number, Change::Lend { to: "b".into(), place: "c".into(), due: None }, "a", at),
                2 => registers.change(number, Change::Return, "a", at),
                3 => registers.change(number, Change::Lose, "a", at),
                4 => registers.change(number, Change::Found, "a", at),
                5 => registers.change(number, Change::Dispose { method: gateway_registers::Disposal::Shredded, witness: "w".into() }, "a", at),
                6 => registers.change(number, Change::WriteOff { report: "r".into() }, "a", at),
                _ => {
                    let in_use = before.media().filter(|medium| !medium.has_ended()).map(|medium| medium.number).collect();
                    registers.review(in_use, vec![], "a", at)
                }
            };
            let after = registers.state();
            if result.is_err() {
                prop_assert_eq!(&after, &before);
            }
            if ended {
                prop_assert_eq!(after.medium(number), before.medium(number));
            }
        }
        let lasting = registers.state();
        drop(registers);
        prop_assert_eq!(Registers::open(directory.path()).unwrap().state(), lasting);
    }
}
