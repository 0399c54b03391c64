//! PINs on a real (software) TPM: what neither a restart, an older copy of the file, many hands at once nor a thief of the
//! disk gets past.

use std::path::PathBuf;
use std::sync::Barrier;

use gateway_tpm::TpmVault;
use test_harness::swtpm::Swtpm;

use super::*;

const NOW: Timestamp = Timestamp(1_800_000_000);
const USER: &str = "sakura-01";

struct Bench {
    directory: tempfile::TempDir,
    tpm: Swtpm,
}

impl Bench {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let tpm = Swtpm::start(&directory.path().join("tpm")).unwrap();
        Self { directory, tpm }
    }

    fn folder(&self) -> PathBuf {
        self.directory.path().join("state/offline")
    }

    fn file(&self) -> PathBuf {
        self.folder().join("pins")
    }

    /// The box as it starts.
    fn pins(&self) -> Pins {
        let state = self.directory.path().join("state");
        let mut config = gateway_tpm::Config::new(self.tpm.tcti(), state).allow_software_tpm();
        config.deadline = Duration::from_secs(60);
        Pins::new(&self.folder(), Arc::new(TpmVault::open(config).unwrap()))
    }

    fn with_pin(&self) -> Pins {
        let pins = self.pins();
        pins.set(USER, &pin("803917"), NOW).unwrap();
        pins
    }
}

fn pin(text: &str) -> Pin {
    Pin::typed(text).unwrap()
}

/// A device each time, so that only the PIN's own count is seen.
fn try_from_anywhere(pins: &Pins, user: &str, text: &str) -> Attempt {
    let mut device = [0; 16];
    rand::fill(&mut device).unwrap();
    pins.attempt(user, &pin(text), DeviceId(device)).unwrap()
}

fn locked(pins: &Pins) -> bool {
    pins.standing(USER).unwrap().is_some_and(|pin| pin.locked)
}

#[test]
fn the_right_pin_is_known_after_a_restart_and_nothing_readable_is_on_the_disk() {
    let mut bench = Bench::new();
    drop(bench.with_pin());
    bench.tpm.restart().unwrap();
    let pins = bench.pins();
    assert_eq!(try_from_anywhere(&pins, USER, "803917"), Attempt::Right);
    assert_eq!(try_from_anywhere(&pins, USER, "803918"), Attempt::Refused);
    assert_eq!(
        try_from_anywhere(&pins, "sakura-02", "803917"),
        Attempt::Refused
    );
    let since = pins.standing(USER).unwrap().unwrap().since;
    assert_eq!(since, NOW);
    for file in std::fs::read_dir(bench.folder()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        for text in ["803917", USER] {
            let shows = bytes
                .windows(text.len())
                .any(|part| part == text.as_bytes());
            assert!(!shows, "{text}");
        }
    }
}

#[test]
fn five_wrong_ones_lock_it_for_good_and_only_a_sign_in_at_the_city_opens_it() {
    let bench = Bench::new();
    let mut pins = bench.with_pin();
    for _ in 0..PIN_FAILURES {
        // Killed and started again after each.
        assert_eq!(try_from_anywhere(&pins, USER, "000000"), Attempt::Refused);
        drop(pins);
        pins = bench.pins();
    }
    assert_eq!(try_from_anywhere(&pins, USER, "803917"), Attempt::Refused);
    assert!(locked(&pins));
    pins.forgive("somebody-else").unwrap();
    assert!(locked(&pins));
    pins.forgive(USER).unwrap();
    assert_eq!(try_from_anywhere(&pins, USER, "803917"), Attempt::Right);
}

#[test]
fn a_right_one_in_between_gives_nobody_more_tries() {
    let bench = Bench::new();
    let pins = bench.with_pin();
    for _ in 0..4 {
        assert_eq!(try_from_anywhere(&pins, USER, "000000"), Attempt::Refused);
        assert_eq!(try_from_anywhere(&pins, USER, "803917"), Attempt::Right);
    }
    assert_eq!(try_from_anywhere(&pins, USER, "000000"), Attempt::Refused);
    assert_eq!(try_from_anywhere(&pins, USER, "803917"), Attempt::Refused);
}

#[test]
fn fifty_at_once_from_many_devices_are_five_tries() {
    let bench = Bench::new();
    let pins = bench.with_pin();
    let barrier = Barrier::new(50);
    std::thread::scope(|scope| {
        for _ in 0..50 {
            scope.spawn(|| {
                barrier.wait();
                assert_eq!(try_from_anywhere(&pins, USER, "111111"), Attempt::Refused);
            });
        }
    });
    let open = pins.open.lock().unwrap();
    let kept = &open.as_ref().unwrap().kept;
    assert_eq!(kept.pins[USER].failures, PIN_FAILURES);
    assert_eq!(kept.strangers, 45, "the others were compared with nothing");
}

#[test]
fn an_older_copy_of_the_file_voids_every_pin_instead_of_giving_tries_back() {
    let bench = Bench::new();
    let pins = bench.with_pin();
    let copy = std::fs::read(bench.file()).unwrap();
    for _ in 0..3 {
        assert_eq!(try_from_anywhere(&pins, USER, "000000"), Attempt::Refused);
    }
    drop(pins);
    std::fs::write(bench.file(), copy).unwrap();
    let pins = bench.pins();
    assert_eq!(pins.standing(USER).unwrap(), None);
    assert_eq!(try_from_anywhere(&pins, USER, "803917"), Attempt::Refused);
    // And it can be set anew.
    pins.set(USER, &pin("520863"), NOW).unwrap();
    assert_eq!(try_from_anywhere(&pins, USER, "520863"), Attempt::Right);
}

#[test]
fn a_copy_put_back_right_after_a_write_opens_only_while_the_write_was_never_looked_at() {
    let bench = Bench::new();
    let pins = bench.with_pin();
    // The power is cut between the file and the counter: the file is one ahead, and is completed.
    {
        let mut open = pins.open.lock().unwrap();
        let open = open.as_mut().unwrap();
        open.kept.pins.get_mut(USER).unwrap().failures = 4;
        open.kept.version += 1;
        pins.file.write(&open.keys, &open.kept).unwrap();
    }
    drop(pins);
    let pins = bench.pins();
    assert_eq!(try_from_anywhere(&pins, USER, "000000"), Attempt::Refused);
    assert!(locked(&pins));
}

#[test]
fn an_attempt_that_cannot_be_counted_is_not_looked_at() {
    let bench = Bench::new();
    let pins = bench.with_pin();
    std::fs::remove_dir_all(bench.folder()).unwrap();
    let tried = pins.attempt(USER, &pin("803917"), DeviceId([1; 16]));
    assert!(matches!(tried, Err(Trouble::Disk(_))), "{tried:?}");
}

#[test]
fn one_device_gets_ten_attempts_in_a_quarter_of_an_hour_whoever_is_named() {
    let bench = Bench::new();
    let pins = bench.with_pin();
    let device = DeviceId([7; 16]);
    for attempt in 0..ATTEMPTS {
        let user = format!("user-{attempt}");
        let tried = pins.attempt(&user, &pin("803917"), device).unwrap();
        assert_eq!(tried, Attempt::Refused);
    }
    let more = pins.attempt(USER, &pin("803917"), device).unwrap();
    assert_eq!(more, Attempt::TooMany);
    assert_eq!(try_from_anywhere(&pins, USER, "803917"), Attempt::Right);
}

#[test]
fn a_removed_pin_is_gone_after_a_restart_and_another_tpm_opens_none() {
    let bench = Bench::new();
    let pins = bench.with_pin();
    pins.set("sakura-02", &pin("520863"), NOW).unwrap();
    assert!(pins.remove(USER).unwrap());
    assert!(!pins.remove(USER).unwrap());
    drop(pins);
    let pins = bench.pins();
    assert_eq!(try_from_anywhere(&pins, USER, "803917"), Attempt::Refused);
    assert_eq!(
        try_from_anywhere(&pins, "sakura-02", "520863"),
        Attempt::Right
    );
    drop(pins);

    // The disk in another box.
    let other = Bench::new();
    drop(other.pins());
    std::fs::create_dir_all(other.folder()).unwrap();
    for file in std::fs::read_dir(bench.folder()).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), other.folder().join(file.file_name())).unwrap();
    }
    let pins = other.pins();
    assert_eq!(
        try_from_anywhere(&pins, "sakura-02", "520863"),
        Attempt::Refused
    );
}
