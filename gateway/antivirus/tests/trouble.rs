//! The real clamd in trouble: ended in the middle, slow, reloading under load, short of memory, flooded. Whatever happens,
//! nothing that was not looked at is clean, and the test virus never is.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test ends at the first surprise"
)]

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use gateway_antivirus::{
    Beat, Config, Outcome, Pulse, Scanner, SealedBody, Transfer, Unavailable, Unscannable,
};
use nix::sys::signal::Signal;
use test_harness::clamd::{Clamd, Database, eicar};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

/// Bytes that do not compress and are no known file type.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[3]
        })
        .collect()
}

fn sealed(bytes: &[u8]) -> SealedBody {
    SealedBody::from_bytes(bytes).unwrap()
}

fn started(directory: &Path, settings: &str) -> (Clamd, Scanner) {
    let clamd = Clamd::start_with(directory, Database::Eicar, settings).unwrap();
    let scanner = Scanner::new(Config::new(clamd.socket()));
    (clamd, scanner)
}

/// Signatures that find nothing, to make loading take its time and its memory.
fn weigh_down(clamd: &Clamd, signatures: u32) {
    use std::fmt::Write as _;
    let mut text = String::new();
    for number in 0..signatures {
        let hash = u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let _ = writeln!(
            text,
            "{hash:016x}{hash:016x}:{}:Weight.{number}",
            number % 9999 + 1
        );
    }
    let file = clamd.databases().join("current/db/weight.hdb");
    std::fs::write(file, text).unwrap();
}

async fn command(clamd: &Clamd, command: &[u8]) -> Vec<u8> {
    let mut stream = UnixStream::connect(clamd.socket()).await.unwrap();
    stream.write_all(command).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn a_clamd_told_to_end_in_the_middle_of_a_scan_leaves_no_clean_answer() {
    let directory = tempfile::tempdir().unwrap();
    let (mut clamd, _) = started(directory.path(), "");
    for transfer in [Transfer::Descriptor, Transfer::Stream] {
        let scanner = Scanner::new(Config {
            transfer,
            ..Config::new(clamd.socket())
        });
        let mut body = noise(40_000_000);
        body.extend(eicar());
        let body = sealed(&body);
        let scan = tokio::spawn(async move { scanner.scan(&body).await });
        tokio::time::sleep(Duration::from_millis(60)).await;
        clamd.process().signal(Signal::SIGTERM).unwrap();
        match scan.await.unwrap() {
            // It may finish what it has begun before it ends.
            Outcome::Infected(_) | Outcome::Unavailable(_) => {}
            other => panic!("{other:?}"),
        }
        clamd.restart().unwrap();
    }
}

#[tokio::test]
async fn a_slow_clamd_is_waited_for_and_one_over_its_own_time_has_not_looked_at_all() {
    let directory = tempfile::tempdir().unwrap();
    let (mut clamd, scanner) = started(directory.path(), "");
    clamd.suspend().unwrap();
    let scan = tokio::spawn(async move { scanner.scan(&sealed(b"a note")).await });
    tokio::time::sleep(Duration::from_secs(2)).await;
    clamd.resume().unwrap();
    assert_eq!(scan.await.unwrap(), Outcome::Clean);

    let other = tempfile::tempdir().unwrap();
    let (_clamd, scanner) = started(other.path(), "MaxScanTime 20\n");
    let outcome = scanner.scan(&sealed(&noise(40_000_000))).await;
    assert!(
        matches!(
            &outcome,
            Outcome::Unscannable(Unscannable::LimitExceeded(_))
        ),
        "{outcome:?}"
    );
}

/// After this long without a turn clamd is broken, not busy.
const PATIENCE: Duration = Duration::from_secs(120);

/// Scans while `work` goes on; every answer that is one must be right. The longest any of them took.
async fn scan_during(scanner: &Scanner, work: impl Future<Output = ()>) -> Duration {
    let stop = enough::Flag::default();
    let scanning = |virus: bool| {
        let (scanner, stop) = (scanner.clone(), stop.clone());
        tokio::spawn(async move {
            let begun = Instant::now();
            let mut longest = Duration::ZERO;
            let mut scans = 0;
            while !stop.is_set() || scans == 0 {
                let body = if virus { eicar() } else { noise(100_000) };
                let begin = Instant::now();
                match scanner.scan(&sealed(&body)).await {
                    Outcome::Infected(_) if virus => scans += 1,
                    Outcome::Clean if !virus => scans += 1,
                    // On a busy machine a scan may find no turn in time. That is no answer, and never "clean".
                    Outcome::Unavailable(why) => {
                        assert!(begun.elapsed() < PATIENCE, "no answer in time: {why:?}");
                    }
                    other => panic!("virus: {virus}, {other:?}"),
                }
                longest = longest.max(begin.elapsed());
            }
            longest
        })
    };
    let scans = [scanning(true), scanning(false), scanning(true)];
    work.await;
    stop.set();
    let mut longest = Duration::ZERO;
    for scan in scans {
        longest = longest.max(scan.await.unwrap());
    }
    longest
}

/// The smallest possible way to say "enough".
mod enough {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    #[derive(Clone, Default)]
    pub(super) struct Flag(Arc<AtomicBool>);

    impl Flag {
        pub(super) fn set(&self) {
            self.0.store(true, Ordering::SeqCst);
        }
        pub(super) fn is_set(&self) -> bool {
            self.0.load(Ordering::SeqCst)
        }
    }
}

#[tokio::test]
async fn reloading_under_load_changes_no_answer_whether_scans_wait_for_it_or_not() {
    // Without concurrency clamd first waits until all its threads are idle for its IdleTimeout, 30 s.
    for (concurrent, reloads) in [("yes", 3), ("no", 1)] {
        let directory = tempfile::tempdir().unwrap();
        let settings = format!("ConcurrentDatabaseReload {concurrent}\n");
        let (mut clamd, scanner) = started(directory.path(), &settings);
        weigh_down(&clamd, 50_000);
        let longest = scan_during(&scanner, async {
            for _ in 0..reloads {
                assert_eq!(command(&clamd, b"zRELOAD\0").await, b"RELOADING\0");
                tokio::time::sleep(Duration::from_millis(1500)).await;
            }
        })
        .await;
        assert!(clamd.process().is_running());
        assert!(
            longest < Duration::from_secs(39),
            "{concurrent}: {longest:?}"
        );
        assert!(
            clamd.log().contains("Database correctly reloaded"),
            "{concurrent}"
        );
    }
}

#[tokio::test]
async fn a_reload_of_a_malformed_database_keeps_the_old_engine() {
    let directory = tempfile::tempdir().unwrap();
    let (clamd, scanner) = started(directory.path(), "");
    std::fs::write(
        clamd.databases().join("current/db/half.ndb"),
        "Half:0:*:zz\n",
    )
    .unwrap();
    scan_during(&scanner, async {
        assert_eq!(command(&clamd, b"zRELOAD\0").await, b"RELOADING\0");
        tokio::time::sleep(Duration::from_secs(2)).await;
    })
    .await;
    scanner.canary().await.unwrap();
}

/// Lets a running clamd have no more memory than it has now, and a little.
fn confine(clamd: &mut Clamd, more: u64) {
    let pid = clamd.process().pid();
    let status = std::fs::read_to_string(format!("/proc/{pid}/statm")).unwrap();
    let pages: u64 = status.split(' ').next().unwrap().parse().unwrap();
    let limited = Command::new("prlimit")
        .arg(format!("--pid={pid}"))
        .arg(format!("--as={}", pages * 4096 + more))
        .status()
        .unwrap();
    assert!(limited.success());
}

#[tokio::test]
async fn a_clamd_without_memory_for_a_body_says_no_such_thing_as_clean() {
    let directory = tempfile::tempdir().unwrap();
    let (mut clamd, scanner) = started(directory.path(), "MaxThreads 1\n");
    scanner.canary().await.unwrap();
    confine(&mut clamd, 4 << 20);
    let mut infected = noise(45_000_000);
    infected.extend(eicar());
    for body in [infected, noise(45_000_000)] {
        match scanner.scan(&sealed(&body)).await {
            Outcome::Unavailable(_) | Outcome::Unscannable(_) | Outcome::Infected(_) => {}
            other => panic!("{other:?}"),
        }
    }
    // It may go on, or take a moment to end.
    let until = Instant::now() + Duration::from_secs(60);
    while let Err(error) = scanner.canary().await {
        assert!(Instant::now() < until, "{error}");
        if !clamd.process().is_running() {
            clamd.restart().unwrap();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_clamd_without_memory_for_a_new_database_goes_on_with_the_old_or_ends() {
    let directory = tempfile::tempdir().unwrap();
    let (mut clamd, scanner) = started(directory.path(), "MaxThreads 1\n");
    weigh_down(&clamd, 400_000);
    confine(&mut clamd, 24 << 20);
    assert_eq!(command(&clamd, b"zRELOAD\0").await, b"RELOADING\0");
    let until = Instant::now() + Duration::from_secs(4);
    while Instant::now() < until {
        match scanner.scan(&sealed(&eicar())).await {
            Outcome::Infected(_) | Outcome::Unavailable(_) => {}
            other => panic!("{other:?}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(
        !clamd.log().contains("Database correctly reloaded"),
        "the limit was too wide"
    );
    if !clamd.process().is_running() {
        std::fs::remove_file(clamd.databases().join("current/db/weight.hdb")).unwrap();
        clamd.restart().unwrap();
    }
    scanner.canary().await.unwrap();
}

#[tokio::test]
async fn a_clamd_that_gave_up_waiting_for_the_body_says_so_with_a_newline() {
    let directory = tempfile::tempdir().unwrap();
    let (clamd, _) = started(directory.path(), "ReadTimeout 1\nCommandReadTimeout 1\n");
    // Stands between: passes on the beginning of the body, and then nothing but clamd's answer.
    let socket = directory.path().join("halting.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let real = clamd.socket();
    tokio::spawn(async move {
        let (mut client, _) = listener.accept().await.unwrap();
        let mut begin = vec![0; 5000];
        client.read_exact(&mut begin).await.unwrap();
        let mut real = UnixStream::connect(real).await.unwrap();
        real.write_all(&begin).await.unwrap();
        let mut answer = Vec::new();
        let swallowing = async {
            let mut rest = vec![0; 65536];
            while client.read(&mut rest).await.unwrap() > 0 {}
        };
        tokio::select! {
            _ = swallowing => {}
            _ = real.read_to_end(&mut answer) => {}
        }
        assert_eq!(
            answer.last(),
            Some(&b'\n'),
            "{}",
            String::from_utf8_lossy(&answer)
        );
        client.write_all(&answer).await.unwrap();
    });
    let scanner = Scanner::new(Config {
        transfer: Transfer::Stream,
        ..Config::new(socket)
    });
    let outcome = scanner.scan(&sealed(&noise(10_000))).await;
    assert_eq!(outcome, Outcome::Unavailable(Unavailable::GaveUp));
}

#[tokio::test]
async fn more_connections_than_clamd_has_room_for_are_each_answered_right_or_not_at_all() {
    let directory = tempfile::tempdir().unwrap();
    let (clamd, _) = started(directory.path(), "MaxThreads 1\nMaxQueue 2\n");
    let mut scans = tokio::task::JoinSet::new();
    for number in 0..40_usize {
        // A handle each, so that nothing of ours bounds them.
        let scanner = Scanner::new(Config::new(clamd.socket()));
        scans.spawn(async move {
            let virus = number.is_multiple_of(2);
            let mut body = noise(500_000 + number);
            if virus {
                body.extend(eicar());
            }
            (virus, scanner.scan(&sealed(&body)).await)
        });
    }
    let mut answered = 0;
    while let Some(scan) = scans.join_next().await {
        match scan.unwrap() {
            (true, Outcome::Infected(_)) | (false, Outcome::Clean) => answered += 1,
            (_, Outcome::Unavailable(_)) => {}
            wrong => panic!("{wrong:?}"),
        }
    }
    assert!(answered > 0);
}

#[tokio::test]
async fn a_busy_clamd_is_called_dead_only_at_the_third_silence() {
    let directory = tempfile::tempdir().unwrap();
    let mut clamd = Clamd::start(directory.path()).unwrap();
    let scanner = Scanner::new(Config {
        command: Duration::from_millis(200),
        ..Config::new(clamd.socket())
    });
    let mut pulse = Pulse::default();
    assert!(matches!(pulse.beat(&scanner).await, Beat::Alive(_)));
    clamd.suspend().unwrap();
    assert!(matches!(pulse.beat(&scanner).await, Beat::Busy));
    assert!(matches!(pulse.beat(&scanner).await, Beat::Busy));
    assert!(matches!(pulse.beat(&scanner).await, Beat::Dead(_)));
    clamd.resume().unwrap();
    assert!(matches!(pulse.beat(&scanner).await, Beat::Alive(_)));
    clamd.kill();
    assert!(
        matches!(pulse.beat(&scanner).await, Beat::Dead(_)),
        "nobody is there"
    );
}

#[tokio::test]
async fn what_was_clean_is_clean_no_more_after_a_restart_or_a_break() {
    let directory = tempfile::tempdir().unwrap();
    let (mut clamd, scanner) = started(directory.path(), "");
    let serial = scanner.database_serial();
    scanner.canary().await.unwrap();
    scanner.canary().await.unwrap();
    let first = *serial.borrow();
    clamd.restart().unwrap();
    // Nobody asked while it was away: only another process listens.
    scanner.canary().await.unwrap();
    let second = *serial.borrow();
    assert!(second > first);
    clamd.kill();
    assert!(scanner.canary().await.is_err());
    clamd.restart().unwrap();
    scanner.canary().await.unwrap();
    assert!(*serial.borrow() > second);
}
