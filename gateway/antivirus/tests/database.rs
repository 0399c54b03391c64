//! Database releases against the real clamd and the real clamscan: taken, refused by name, taken back, interrupted.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test ends at the first surprise"
)]

use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use gateway_antivirus::database::{
    Loaded, Origin, Refused, Release, Step, Store, TestLoad, Updater, quietly,
};
use gateway_antivirus::{Config, Kind, Outcome, Scanner, SealedBody, SelfTest};
use test_harness::clamd::{Clamd, Database};
use test_harness::signatures::{Signatures, finds, now};

/// A box: clamd and its databases, the harness's generation in use.
struct Stand {
    directory: tempfile::TempDir,
    clamd: Clamd,
    scanner: Scanner,
    updater: Updater,
}

const PROOF: Duration = Duration::from_secs(20);

fn updater(databases: &Path, scanner: &Scanner, proof: Duration) -> Updater {
    let store = Store::open(databases).unwrap();
    Updater::new(store, scanner.clone(), TestLoad::default(), proof)
}

impl Stand {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let clamd = Clamd::start(&directory.path().join("clamd")).unwrap();
        let scanner = Scanner::new(Config {
            command: Duration::from_secs(2),
            ..Config::new(clamd.socket())
        });
        let updater = updater(&clamd.databases(), &scanner, PROOF);
        Self {
            directory,
            clamd,
            scanner,
            updater,
        }
    }

    fn released(&self, signatures: &Signatures) -> PathBuf {
        let place = self.directory.path().join("release");
        let _ = std::fs::remove_dir_all(&place);
        signatures.write_release(&place).unwrap();
        place
    }

    async fn install(&self, signatures: &Signatures) -> Result<(), Refused> {
        let release = Release::signed(&self.released(signatures))?;
        let installed = self.updater.install(release, &[], now(), &quietly).await;
        installed.map(|_| ())
    }

    async fn says(&self, body: &[u8]) -> Outcome {
        let body = SealedBody::from_bytes(body).unwrap();
        self.scanner.scan(&body).await
    }

    /// The release that the running engine has loaded.
    async fn serial_in_use(&self) -> u64 {
        match self.updater.loaded().await.unwrap() {
            Loaded::Generation(generation) => generation.serial,
            other => panic!("{other:?}"),
        }
    }
}

/// Newer than the one in use, which was built when the test began.
fn release(serial: u64) -> Signatures {
    static BEGIN: OnceLock<i64> = OnceLock::new();
    let minutes = i64::try_from(serial).unwrap() * 60;
    Signatures::built(BEGIN.get_or_init(now) + minutes).serial(serial)
}

#[tokio::test]
async fn a_release_is_in_use_once_its_canary_is_found_through_the_socket() {
    let stand = Stand::start();
    let mut serial = stand.scanner.database_serial();
    let before = *serial.borrow_and_update();
    let built = release(2).with("new.ndb", finds("New.Threat", b"a threat of this week"));
    assert_eq!(stand.says(b"a threat of this week").await, Outcome::Clean);
    stand.install(&built).await.unwrap();
    assert!(matches!(
        stand.says(b"a threat of this week").await,
        Outcome::Infected(_)
    ));
    let loaded = stand.updater.loaded().await.unwrap();
    assert_eq!(loaded.built_at(), Some(built.built_at));
    assert_eq!(stand.serial_in_use().await, 2);
    assert!(!stand.updater.store().is_unproven());
    assert_eq!(stand.updater.store().floor(Origin::City).unwrap(), 2);
    assert!(*serial.borrow_and_update() > before, "nothing stays clean");
    SelfTest::new(&[]).run(&stand.scanner).await.unwrap();
}

#[tokio::test]
async fn an_older_expired_future_or_altered_release_is_refused_and_nothing_changes() {
    let stand = Stand::start();
    stand.install(&release(5)).await.unwrap();
    let refused = async |signatures: &Signatures| {
        let refused = stand.install(signatures).await.unwrap_err();
        assert_eq!(stand.serial_in_use().await, 5);
        refused.reason()
    };
    assert_eq!(refused(&release(4)).await, "rollback");
    assert_eq!(refused(&release(5)).await, "in-use");
    let other = release(5).with("new.ndb", finds("New.Threat", b"a threat of this week"));
    assert_eq!(refused(&other).await, "conflict");
    let mut expired = release(6);
    expired.built_at = now() - 3600;
    expired.valid = 60;
    assert_eq!(refused(&expired).await, "expired");
    let mut future = release(6);
    future.built_at = now() + 2 * 86_400;
    assert_eq!(refused(&future).await, "future");
    let place = stand.released(&release(6));
    std::fs::write(place.join("test.ndb"), "Other:0:*:00112233").unwrap();
    let altered = Release::signed(&place).unwrap();
    let altered = stand.updater.install(altered, &[], now(), &quietly).await;
    assert_eq!(altered.unwrap_err().reason(), "digest");
    std::fs::remove_file(place.join("test.ndb")).unwrap();
    let missing = Release::signed(&place).unwrap();
    let missing = stand.updater.install(missing, &[], now(), &quietly).await;
    assert_eq!(missing.unwrap_err().reason(), "unreadable");
    std::fs::write(place.join("manifest.json"), "{}").unwrap();
    assert_eq!(Release::signed(&place).unwrap_err().reason(), "manifest");
    stand.install(&release(6)).await.unwrap();
    assert_eq!(stand.serial_in_use().await, 6);
}

#[tokio::test]
async fn a_release_that_fails_its_trial_is_refused_by_name_while_scanning_goes_on() {
    let stand = Stand::start();
    let refused = async |signatures: &Signatures| {
        let refused = stand.install(signatures).await.unwrap_err();
        assert_eq!(stand.serial_in_use().await, 1, "{refused}");
        format!("{}: {refused}", refused.reason())
    };
    // Smaller, and valid: clamd itself would take it without a word.
    let weak = refused(&release(2).without_eicar()).await;
    assert_eq!(weak, "misses: it does not find the EICAR test file");
    let malformed = refused(&release(2).with("new.ndb", "Half:0:*:zz\n")).await;
    assert!(malformed.starts_with("does-not-load: "), "{malformed}");
    let blind =
        refused(&release(2).with("test.hdb", format!("{}:9:Other\n", "0".repeat(32)))).await;
    assert!(
        blind.starts_with("misses: it does not find clam"),
        "{blind}"
    );
    let mute = release(2).with("renraku-canary.ndb", finds("Other.Name", b"0123456789"));
    let mute = refused(&mute).await;
    assert_eq!(mute, "misses: it does not find Renraku.Canary.2");
    let eager = release(2).with("new.ndb", finds("Too.Much", "訪問看護".as_bytes()));
    let eager = refused(&eager).await;
    assert!(
        eager.starts_with("false-alarm: it takes clean.txt"),
        "{eager}"
    );
    // It would switch off our own signatures.
    let names: String = ["PE", "ELF"]
        .iter()
        .zip(["WindowsProgram", "LinuxProgram"])
        .map(|(detail, kind)| format!("Heuristics.Renraku.Policy.{kind}.{detail}\n"))
        .collect();
    let lenient = refused(&release(2).with("new.ign2", names)).await;
    assert_eq!(lenient, "misses: it does not find a program");
    let mut huge = release(2);
    huge = huge.with("new.ndb", "");
    let place = stand.released(&huge);
    let manifest = std::fs::read_to_string(place.join("manifest.json")).unwrap();
    let manifest = manifest.replace("\"size\":0", "\"size\":1000000000000000");
    std::fs::write(place.join("manifest.json"), manifest).unwrap();
    let huge = Release::signed(&place).unwrap();
    let huge = stand.updater.install(huge, &[], now(), &quietly).await;
    assert_eq!(huge.unwrap_err().reason(), "no-space");
}

#[tokio::test]
async fn a_trial_has_bounds_of_time_and_memory() {
    let stand = Stand::start();
    let tried = async |test_load: TestLoad| {
        let store = Store::open(stand.clamd.databases()).unwrap();
        let updater = Updater::new(store, stand.scanner.clone(), test_load, PROOF);
        let release = Release::signed(&stand.released(&release(2))).unwrap();
        let refused = updater.install(release, &[], now(), &quietly).await;
        refused.unwrap_err().reason()
    };
    let small = TestLoad {
        memory: 60 << 20,
        ..TestLoad::default()
    };
    assert_eq!(tried(small).await, "no-memory");
    let hasty = TestLoad {
        time: Duration::from_millis(20),
        ..TestLoad::default()
    };
    assert_eq!(tried(hasty).await, "too-slow");
    let elsewhere = TestLoad {
        test_files: Some(stand.directory.path().join("none")),
        ..TestLoad::default()
    };
    assert!(["no-samples", "does-not-load"].contains(&tried(elsewhere).await));
    assert_eq!(stand.serial_in_use().await, 1);
}

#[tokio::test]
async fn a_database_that_clamd_does_not_load_in_time_is_taken_back() {
    let mut stand = Stand::start();
    let updater = updater(
        &stand.clamd.databases(),
        &stand.scanner,
        Duration::from_secs(3),
    );
    stand.clamd.suspend().unwrap();
    let release = Release::signed(&stand.released(&release(2))).unwrap();
    let refused = updater.install(release, &[], now(), &quietly).await;
    assert!(matches!(refused, Err(Refused::NotProven { back: false })));
    stand.clamd.resume().unwrap();
    assert_eq!(updater.store().current().unwrap().serial, 1);
    assert!(!updater.store().is_unproven());
    updater.settle().await.unwrap();
    // The switch was undone before clamd came round to loading anything.
    stand.clamd.restart().unwrap();
    assert_eq!(stand.serial_in_use().await, 1);
    stand.install(&self::release(2)).await.unwrap();
    assert_eq!(stand.serial_in_use().await, 2);
}

#[tokio::test]
async fn a_database_that_clamd_answers_for_and_does_not_load_is_taken_back_and_the_old_one_proven()
{
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().join("clamd");
    // clamd reloads, and what it loads is still the old one: RELOADING says nothing.
    let old = place.join("databases/generations/harness/db");
    let settings = format!("DatabaseDirectory {}", old.display());
    let clamd = Clamd::start_with(&place, Database::Eicar, &settings).unwrap();
    let scanner = Scanner::new(Config::new(clamd.socket()));
    let updater = updater(&clamd.databases(), &scanner, Duration::from_secs(3));
    let serial = *scanner.database_serial().borrow();
    release(2)
        .write_release(&directory.path().join("release"))
        .unwrap();
    let release = Release::signed(&directory.path().join("release")).unwrap();
    let refused = updater.install(release, &[], now(), &quietly).await;
    assert!(
        matches!(refused, Err(Refused::NotProven { back: true })),
        "{refused:?}"
    );
    assert_eq!(updater.store().current().unwrap().serial, 1);
    assert!(!updater.store().is_unproven());
    assert_eq!(updater.store().floor(Origin::City).unwrap(), 0);
    assert!(*scanner.database_serial().borrow() > serial);
}

#[tokio::test]
async fn a_database_damaged_on_the_disk_is_replaced_by_the_one_before() {
    let mut stand = Stand::start();
    stand.install(&release(2)).await.unwrap();
    stand.install(&release(3)).await.unwrap();
    let files = stand.updater.store().database_directory();
    std::fs::write(files.join("test.ndb"), "Half:0:*:zz\n").unwrap();
    stand.clamd.kill();
    assert!(
        stand.clamd.restart().is_err(),
        "clamd would not start, again and again"
    );
    stand.updater.store().mend().unwrap();
    stand.clamd.restart().unwrap();
    stand.updater.settle().await.unwrap();
    assert_eq!(stand.serial_in_use().await, 2);
    assert_eq!(stand.updater.store().floor(Origin::City).unwrap(), 3);
}

#[tokio::test]
async fn a_box_without_any_database_starts_with_one_that_says_nothing_of_its_age() {
    let directory = tempfile::tempdir().unwrap();
    let scanner = Scanner::new(Config::new(directory.path().join("clamd/clamd.sock")));
    let databases = directory.path().join("clamd/databases");
    let updater = updater(&databases, &scanner, Duration::from_secs(1));
    let built_in = updater
        .install(Release::built_in(), &[], now(), &quietly)
        .await;
    // Nobody is there to prove it to, but it is where clamd will look.
    assert!(matches!(built_in, Err(Refused::NotProven { back: false })));
    assert_eq!(updater.store().current().unwrap().serial, 0);
    assert!(updater.store().is_unproven());
}

#[tokio::test]
async fn permitted_kinds_are_left_out_and_malware_is_found_all_the_same() {
    let stand = Stand::start();
    let program = std::fs::read("/usr/bin/true").unwrap();
    let infected = [program.clone(), test_harness::clamd::eicar()].concat();
    let forbidden = Outcome::Forbidden(Kind::LinuxProgram);
    assert_eq!(stand.says(&program).await, forbidden);
    assert!(matches!(stand.says(&infected).await, Outcome::Infected(_)));
    let permitted = [Kind::LinuxProgram];
    stand.updater.permit(&permitted, now()).await.unwrap();
    assert_eq!(stand.says(&program).await, Outcome::Clean);
    assert!(matches!(stand.says(&infected).await, Outcome::Infected(_)));
    SelfTest::new(&permitted).run(&stand.scanner).await.unwrap();
    assert!(SelfTest::new(&[]).run(&stand.scanner).await.is_err());
    assert!(
        stand
            .updater
            .permit(&permitted, now())
            .await
            .unwrap()
            .is_none()
    );
    stand.updater.permit(&[], now()).await.unwrap();
    assert_eq!(stand.says(&program).await, forbidden);
    assert_eq!(stand.serial_in_use().await, 1);
}

#[tokio::test]
async fn official_databases_of_freshclam_are_a_source_and_say_their_own_age() {
    let stand = Stand::start();
    let freshclam = stand.directory.path().join("freshclam");
    let old = now() - 10 * 86_400;
    let written = Signatures::built(old).serial(27_001);
    written.write_official(&freshclam).unwrap();
    let take = async || {
        let release = Release::official(&freshclam)?;
        stand.updater.install(release, &[], now(), &quietly).await
    };
    // The one in use is newer, whatever its number.
    assert_eq!(take().await.unwrap_err().reason(), "older");
    let fresh = Signatures::built(now() - 60).serial(27_011);
    let newer = Signatures {
        built_at: now() + 60,
        ..fresh
    };
    newer.write_official(&freshclam).unwrap();
    let generation = take().await.unwrap();
    assert_eq!(
        (generation.origin, generation.serial),
        (Origin::Official, 27_011)
    );
    assert_eq!(
        stand.updater.loaded().await.unwrap().built_at(),
        Some(newer.built_at)
    );
    assert!(stand.scanner.version().await.unwrap().contains("/27011/"));
    written.write_official(&freshclam).unwrap();
    assert_eq!(take().await.unwrap_err().reason(), "rollback");
    assert!(Release::official(stand.directory.path()).is_err());
}

#[tokio::test]
async fn an_official_database_that_nobody_manages_is_dated_by_what_clamd_says() {
    let directory = tempfile::tempdir().unwrap();
    let freshclam = directory.path().join("freshclam");
    let old = now() - 10 * 86_400;
    Signatures::built(old)
        .serial(42)
        .write_official(&freshclam)
        .unwrap();
    let settings = format!("DatabaseDirectory {}", freshclam.display());
    let clamd =
        Clamd::start_with(&directory.path().join("clamd"), Database::Eicar, &settings).unwrap();
    let scanner = Scanner::new(Config::new(clamd.socket()));
    let loaded = gateway_antivirus::database::loaded_by(&scanner)
        .await
        .unwrap();
    let Loaded::Official { version, built_at } = loaded else {
        panic!("{loaded:?}")
    };
    assert_eq!(version, 42);
    assert!((built_at - old).abs() < 61, "{built_at} {old}");
}

#[tokio::test]
async fn the_demonstration_with_official_databases_says_their_age() {
    let directory = tempfile::tempdir().unwrap();
    let freshclam = directory.path().join("freshclam");
    let built = now() - 86_400;
    let written = Signatures::built(built).serial(43);
    written.write_official(&freshclam).unwrap();
    let whole = Signatures::official(&freshclam).unwrap();
    let clamd = Clamd::start_of(&directory.path().join("clamd"), &whole, "").unwrap();
    let scanner = Scanner::new(Config::new(clamd.socket()));
    let updater = updater(&clamd.databases(), &scanner, PROOF);
    let loaded = updater.loaded().await.unwrap();
    assert_eq!(loaded.built_at(), Some(built));
}

const STEPS: [Step; 8] = [
    Step::Staged,
    Step::Tried,
    Step::Kept,
    Step::Announced,
    Step::Switched,
    Step::Reloading,
    Step::Proven,
    Step::Finished,
];

/// Not a test by itself: the process whose power is cut. It aborts at the step that its environment names.
#[tokio::test]
async fn child_that_dies_at_a_step() {
    let Ok(at) = std::env::var("CUT_AT") else {
        return;
    };
    let path = |name: &str| PathBuf::from(std::env::var(name).unwrap());
    let scanner = Scanner::new(Config::new(path("CUT_SOCKET")));
    let updater = updater(&path("CUT_DATABASES"), &scanner, PROOF);
    let release = Release::signed(&path("CUT_RELEASE")).unwrap();
    let die = move |step: Step| {
        if format!("{step:?}") == at {
            std::process::abort();
        }
    };
    let _ = updater.install(release, &[], now(), &die).await;
}

#[tokio::test]
async fn a_power_cut_at_any_step_leaves_a_database_that_loads_and_the_release_is_taken_afterwards()
{
    let mut stand = Stand::start();
    for (number, step) in (2..).zip(STEPS) {
        let place = stand.released(&release(number));
        let status = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_that_dies_at_a_step"])
            .env("CUT_AT", format!("{step:?}"))
            .env("CUT_SOCKET", stand.clamd.socket())
            .env("CUT_DATABASES", stand.clamd.databases())
            .env("CUT_RELEASE", &place)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap();
        assert_eq!(status.signal(), Some(nix::libc::SIGABRT), "{step:?}");
        // Power is cut for clamd too: it starts with whatever the link points to.
        stand.clamd.restart().unwrap();
        stand.updater = updater(&stand.clamd.databases(), &stand.scanner, PROOF);
        stand.updater.settle().await.unwrap();
        assert!(!stand.updater.store().is_unproven(), "{step:?}");
        let found = stand.serial_in_use().await;
        assert!([number - 1, number].contains(&found), "{step:?}: {found}");
        match stand.install(&release(number)).await {
            Ok(()) => assert_eq!(found, number - 1),
            Err(Refused::InUse) => assert_eq!(found, number),
            Err(other) => panic!("{step:?}: {other}"),
        }
        assert_eq!(stand.serial_in_use().await, number);
        println!("{step:?}: found release {found}, completed");
    }
}
