//! The power goes, the disk fills, at every step.

use std::fs;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};

use super::*;
use crate::disk::tests::Fault;
use crate::event::{Database, Version};
use crate::{Note, SignedCheckpoint};

const NOW: Timestamp = Timestamp(1_795_000_000);

fn small() -> Settings {
    Settings {
        segment_bytes: 900,
        ..Settings::default()
    }
}

fn event(serial: u64) -> Event {
    Event::Database {
        what: Database::Switched,
        serial: Some(serial),
        built: None,
    }
}

struct Key(EcdsaKeyPair, Vec<u8>);

impl Key {
    fn new() -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
        let head: [u8; 26] = [
            0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06,
            0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
        ];
        let spki = [&head[..], pair.public_key().as_ref()].concat();
        Self(pair, spki)
    }

    fn checkpoint(&self, log: &mut Log) -> Result<(), LogError> {
        log.register_key(&self.1, NOW)?;
        log.sync()?;
        let (count, head) = log.durable();
        let checkpoint = Checkpoint {
            sequence: log.next_sequence(),
            count,
            head,
            log: log.id(),
            boot: Id([3; 16]),
            at: NOW,
            key: crate::spki_id(&self.1),
            facility: "tkh-1001".to_owned(),
        }
        .to_bytes();
        let signature = self.0.sign(&SystemRandom::new(), &checkpoint).unwrap();
        let signed = SignedCheckpoint {
            signature: signature.as_ref().to_vec(),
            checkpoint,
        };
        log.store_checkpoint(&signed, NOW)
    }
}

/// What a box does in its life: returns the last entry that was known to be durable.
fn live(disk: &Disk, dir: &Path, key: &Key) -> (u64, bool) {
    let mut durable = 0;
    let mut all = || -> Result<(), LogError> {
        let (mut log, _) = Log::open_on(disk.clone(), dir, small(), NOW)?;
        durable = log.durable().0;
        for serial in 0..6 {
            log.append(&event(serial), NOW)?;
            if serial % 2 == 1 {
                log.sync()?;
                durable = log.durable().0;
            }
            if serial == 3 {
                key.checkpoint(&mut log)?;
            }
        }
        key.checkpoint(&mut log)?;
        log.sync()?;
        durable = log.durable().0;
        Ok(())
    };
    let done = all().is_ok();
    (durable, done)
}

#[test]
fn a_power_cut_at_any_step_loses_no_durable_entry_and_is_never_taken_for_tampering() {
    let key = Key::new();
    let mut cuts = 0;
    for steps in 0.. {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("audit");
        // A life before, so that the cut meets an old log as well as a new one.
        if steps % 2 == 0 {
            live(&Disk::default(), &dir, &key);
        }
        let disk = Disk::default();
        disk.break_with(Fault::PowerCut(steps / 2));
        let (durable, done) = live(&disk, &dir, &key);
        let (mut log, report) = Log::open(&dir, small(), NOW.plus(60)).unwrap();
        let findings = report.map(|report| report.findings).unwrap_or_default();
        assert!(!log.after_fault(), "cut after {steps}: {findings:?}");
        assert!(log.durable().0 >= durable, "cut after {steps}");
        key.checkpoint(&mut log).unwrap();
        log.append(&event(99), NOW).unwrap();
        let again = log.check().unwrap();
        assert_eq!(again.findings, [], "cut after {steps}");
        assert_eq!(again.tail, None);
        if done && steps % 2 == 1 {
            break;
        }
        cuts += 1;
    }
    assert!(cuts > 60, "{cuts}");
}

#[test]
fn an_end_cut_at_any_byte_is_dropped_and_an_entry_says_so_unless_it_was_signed() {
    let key = Key::new();
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("audit");
    let mut log = Log::open(&dir, Settings::default(), NOW).unwrap().0;
    log.append(&event(1), NOW).unwrap();
    key.checkpoint(&mut log).unwrap();
    let signed = log.last_checkpoint().unwrap().count;
    log.append(&event(2), NOW).unwrap();
    log.sync().unwrap();
    drop(log);
    let path = segment_path(&dir, 1);
    let whole = fs::read(&path).unwrap();
    for end in 0..whole.len() {
        fs::write(&path, &whole[..end]).unwrap();
        let complete = whole[..end].iter().filter(|byte| **byte == b'\n').count();
        let copy = home.path().join(format!("copy-{end}"));
        copy_dir(&dir, &copy);
        let (log, report) = Log::open(&copy, Settings::default(), NOW).unwrap();
        let torn = whole[..end].last() != Some(&b'\n');
        if u64::try_from(complete).unwrap() < signed {
            assert!(log.after_fault(), "cut at {end}");
            assert!(!report.unwrap().findings.is_empty());
        } else {
            assert!(
                !log.after_fault(),
                "cut at {end}: {:?}",
                report.unwrap().findings
            );
            let text = fs::read_to_string(segment_path(&copy, 1)).unwrap();
            assert_eq!(text.contains("tail-dropped"), torn, "cut at {end}");
        }
    }
}

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for file in fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}

#[test]
fn a_full_disk_keeps_entries_waiting_and_writes_them_in_order_when_there_is_room() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("audit");
    let disk = Disk::default();
    let mut log = Log::open_on(disk.clone(), &dir, small(), NOW).unwrap().0;
    disk.break_with(Fault::Full);
    for serial in 0..20 {
        log.append(&event(serial), NOW).unwrap();
        assert!(log.sync().is_err());
    }
    assert_eq!(log.durable().0, 1);
    let mut more = 0;
    while log.append(&event(0), NOW).is_ok() {
        more += 1;
        assert!(more < 10_000, "what waits is bounded");
    }
    disk.break_with(Fault::None);
    log.sync().unwrap();
    assert_eq!(log.durable().0, 21 + more);
    assert_eq!(log.check().unwrap().findings, []);
}

#[test]
fn a_log_that_was_tampered_with_is_kept_whole_and_another_begins_that_says_so() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("audit");
    let mut log = Log::open(&dir, small(), NOW).unwrap().0;
    log.append(&event(5), NOW).unwrap();
    log.append(&event(6), NOW).unwrap();
    log.sync().unwrap();
    let path = segment_path(&dir, 1);
    let text = fs::read_to_string(&path).unwrap();
    let tampered = text.replace("\"serial\":5", "\"serial\":8");
    fs::write(&path, &tampered).unwrap();
    let found = log.check().unwrap().findings;
    assert_eq!(found[0].entry, Some(2));
    log.set_aside(NOW).unwrap();
    assert!(log.after_fault());
    let kept = home.path().join(format!("audit-set-aside-{}", NOW.0));
    assert_eq!(
        fs::read_to_string(segment_path(&kept, 1)).unwrap(),
        tampered
    );
    assert!(fs::read_to_string(&path).unwrap().contains("set-aside"));
    // And after a restart it still says so.
    drop(log);
    assert!(Log::open(&dir, small(), NOW).unwrap().0.after_fault());
    // What is put aside does not fill the disk.
    for _ in 0..12 {
        let mut log = Log::open(&dir, small(), NOW).unwrap().0;
        log.set_aside(NOW).unwrap();
    }
    assert_eq!(
        fs::read_dir(home.path()).unwrap().count(),
        1 + MOST_SET_ASIDE
    );
    assert!(kept.exists());
}

#[test]
fn old_entries_are_removed_by_whole_files_and_what_is_left_still_verifies() {
    let key = Key::new();
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("audit");
    let settings = Settings {
        keep_days: 10,
        ..small()
    };
    let mut log = Log::open(&dir, settings.clone(), NOW).unwrap().0;
    for day in 0..30_u32 {
        let at = NOW.plus(i64::from(day) * 86_400);
        log.append(&event(day.into()), at).unwrap();
        log.append(
            &Event::Started {
                version: Version(0, 1, 0),
                boot: Id([3; 16]),
            },
            at,
        )
        .unwrap();
        key.checkpoint(&mut log).unwrap();
    }
    let now = NOW.plus(30 * 86_400);
    let before = segments(&dir).unwrap();
    log.remove_old(now).unwrap();
    let after = segments(&dir).unwrap();
    assert!(
        after.len() < before.len() && after[0] > 1,
        "{before:?} {after:?}"
    );
    let report = log.check().unwrap();
    assert_eq!(report.findings, []);
    assert_eq!(report.first, after[0]);
    assert!(report.checkpoints < 30);
    drop(log);
    let mut log = Log::open(&dir, settings, now).unwrap().0;
    assert!(!log.after_fault());
    key.checkpoint(&mut log).unwrap();
    // Removing one more file by hand is not retention.
    fs::remove_file(segment_path(&dir, after[0])).unwrap();
    let found = log.check().unwrap().findings;
    assert_eq!(found[0].fault.id(), "beginning-missing", "{found:?}");
}

#[test]
fn the_oldest_files_go_when_all_together_are_too_long() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("audit");
    let settings = Settings {
        keep_bytes: 4000,
        ..small()
    };
    let mut log = Log::open(&dir, settings, NOW).unwrap().0;
    for serial in 0..200 {
        log.append(&event(serial), NOW).unwrap();
        log.remove_old(NOW).unwrap();
    }
    let length: u64 = fs::read_dir(&dir)
        .unwrap()
        .map(|file| file.unwrap().metadata().unwrap().len())
        .sum();
    assert!(length < 6000, "{length}");
    let report = log.check().unwrap();
    assert_eq!(report.findings, []);
    assert!(report.notes.contains(&Note::NotSigned { from: 1 }));
}

#[test]
fn a_synchronisation_that_ends_late_takes_nothing_back() {
    let directory = tempfile::tempdir().unwrap();
    let (mut log, _) = Log::open(&directory.path().join("log"), small(), NOW).unwrap();
    log.append(&event(1), NOW).unwrap();
    let late = log.synchronise().unwrap().unwrap();
    log.append(&event(2), NOW).unwrap();
    // Somebody could not wait.
    log.sync().unwrap();
    let durable = log.durable();
    log.append(&event(3), NOW).unwrap();
    let done = late.wait();
    log.synchronised(&late, done).unwrap();
    assert_eq!(log.durable(), durable, "neither back nor ahead");
    log.sync().unwrap();
    assert_eq!(log.durable(), log.written());
    assert!(log.check().unwrap().findings.is_empty());
}
