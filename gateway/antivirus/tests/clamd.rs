//! The client against the real clamd: at work, killed, hung, restarted, overloaded.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test ends at the first surprise"
)]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use gateway_antivirus::{
    Body, CanaryError, Config, Outcome, Scanner, SealedBody, Transfer, Unavailable, Unscannable,
};
use test_harness::clamd::{Clamd, Database, eicar};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{UnixListener, UnixStream};

/// Bytes that do not compress and are no known file type, so that clamd takes its time over them.
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

fn scanners(clamd: &Clamd) -> [Scanner; 2] {
    [Transfer::Descriptor, Transfer::Stream].map(|transfer| {
        Scanner::new(Config {
            transfer,
            ..Config::new(clamd.socket())
        })
    })
}

fn impatient(clamd: &Clamd) -> Scanner {
    Scanner::new(Config {
        scan: Duration::from_millis(500),
        command: Duration::from_millis(500),
        ..Config::new(clamd.socket())
    })
}

/// A zip archive with one stored member, `encrypted` meaning only that its flag says so.
fn zip(content: &[u8], encrypted: bool) -> Vec<u8> {
    let crc = !content.iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            if crc & 1 == 1 {
                (crc >> 1) ^ 0xedb8_8320
            } else {
                crc >> 1
            }
        })
    });
    let length = u32::try_from(content.len()).unwrap().to_le_bytes();
    let name = b"a.txt";
    let mut common = vec![20, 0, u8::from(encrypted), 0, 0, 0, 0, 0, 0x21, 0x50];
    common.extend(crc.to_le_bytes());
    common.extend(length);
    common.extend(length);
    common.extend([5, 0, 0, 0]);
    let mut archive = b"PK\x03\x04".to_vec();
    archive.extend(&common);
    archive.extend(name);
    archive.extend(content);
    let directory = u32::try_from(archive.len()).unwrap();
    archive.extend(b"PK\x01\x02\x14\x00");
    archive.extend(&common);
    archive.extend([0; 14]);
    archive.extend(name);
    let size = u32::try_from(archive.len()).unwrap() - directory;
    archive.extend(b"PK\x05\x06\x00\x00\x00\x00\x01\x00\x01\x00");
    archive.extend(size.to_le_bytes());
    archive.extend(directory.to_le_bytes());
    archive.extend([0, 0]);
    archive
}

#[tokio::test]
async fn clean_and_infected_bodies_are_told_apart_both_ways() {
    let directory = tempfile::tempdir().unwrap();
    let clamd = Clamd::start(directory.path()).unwrap();
    for scanner in scanners(&clamd) {
        let found = Outcome::Infected("Eicar-Test-Signature.UNOFFICIAL".to_owned());
        assert_eq!(scanner.scan(&sealed(b"a note")).await, Outcome::Clean);
        assert_eq!(scanner.scan(&sealed(b"")).await, Outcome::Clean);
        assert_eq!(
            scanner.scan(&sealed(&noise(3_000_000))).await,
            Outcome::Clean
        );
        assert_eq!(scanner.scan(&sealed(&eicar())).await, found);
        assert_eq!(scanner.scan(&sealed(&zip(&eicar(), false))).await, found);
        let mut deep = noise(2_000_000);
        deep.extend(eicar());
        assert_eq!(scanner.scan(&sealed(&deep)).await, found);
    }
}

#[tokio::test]
async fn a_body_passed_by_descriptor_is_written_to_no_file_and_a_streamed_one_is() {
    let directory = tempfile::tempdir().unwrap();
    let mut clamd = Clamd::start(directory.path()).unwrap();
    let pid = clamd.process().pid();
    // It may write no file of more than a megabyte.
    let limited = std::process::Command::new("prlimit")
        .args([format!("--pid={pid}"), "--fsize=1000000".to_owned()])
        .status();
    assert!(limited.unwrap().success());
    let body = sealed(&noise(3_000_000));
    let [by_descriptor, by_stream] = scanners(&clamd);
    assert_eq!(by_descriptor.scan(&body).await, Outcome::Clean);
    let outcome = by_stream.scan(&body).await;
    assert!(matches!(outcome, Outcome::Unavailable(_)), "{outcome:?}");
}

#[tokio::test]
async fn a_clamd_that_answers_without_looking_is_found_out() {
    let directory = tempfile::tempdir().unwrap();
    let clamd = Clamd::start(directory.path()).unwrap();
    let [by_descriptor, by_stream] = scanners(&clamd);
    let clean = sealed(b"a note");
    assert_eq!(by_descriptor.scan(&clean).await, Outcome::Clean);
    let before = *by_descriptor.database_serial().borrow();
    // Without it clamd says OK to every descriptor, the test virus included.
    std::fs::remove_dir_all(clamd.temporary_directory()).unwrap();
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let blind = Outcome::Unavailable(Unavailable::Blind);
    assert_eq!(by_descriptor.scan(&clean).await, blind);
    assert_eq!(by_descriptor.scan(&sealed(&eicar())).await, blind);
    assert!(*by_descriptor.database_serial().borrow() > before);
    assert!(matches!(
        by_stream.scan(&clean).await,
        Outcome::Unavailable(_)
    ));
    std::fs::create_dir(clamd.temporary_directory()).unwrap();
    assert_eq!(by_descriptor.scan(&clean).await, Outcome::Clean);
}

/// Stands before the real clamd and meets every `FILDES` with `answer`, as where descriptors are withheld from it. Like clamd it
/// does not mind connections that say nothing.
fn without_descriptors(clamd: &Clamd, directory: &Path, answer: &'static [u8]) -> PathBuf {
    let socket = directory.join("withheld.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let clamd = clamd.socket();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let clamd = clamd.clone();
            tokio::spawn(async move {
                let mut command = vec![0; 8];
                if client.read_exact(&mut command).await.is_err() {
                    return;
                }
                if command == b"zFILDES\0" {
                    // The descriptor itself is never received.
                    client.read_exact(&mut [0]).await.unwrap();
                    client.write_all(answer).await.unwrap();
                } else {
                    let mut real = UnixStream::connect(&clamd).await.unwrap();
                    real.write_all(&command).await.unwrap();
                    let _ = copy_bidirectional(&mut client, &mut real).await;
                }
            });
        }
    });
    socket
}

#[tokio::test]
async fn a_clamd_that_says_it_receives_no_descriptors_is_sent_streams() {
    let directory = tempfile::tempdir().unwrap();
    let clamd = Clamd::start(directory.path()).unwrap();
    let answer = b"No file descriptor received. ERROR\0";
    let socket = without_descriptors(&clamd, directory.path(), answer);
    let scanner = Scanner::new(Config::new(socket));
    assert_eq!(scanner.scan(&sealed(b"a note")).await, Outcome::Clean);
    assert!(matches!(
        scanner.scan(&sealed(&eicar())).await,
        Outcome::Infected(_)
    ));
}

#[tokio::test]
async fn a_clamd_that_hangs_up_on_descriptors_is_sent_streams_once_the_canary_has_found_out() {
    let directory = tempfile::tempdir().unwrap();
    let clamd = Clamd::start(directory.path()).unwrap();
    let socket = without_descriptors(&clamd, directory.path(), b"");
    let scanner = Scanner::new(Config::new(socket));
    let before = scanner.scan(&sealed(b"a note")).await;
    assert_eq!(before, Outcome::Unavailable(Unavailable::NoAnswer));
    scanner.canary().await.unwrap();
    assert_eq!(scanner.scan(&sealed(b"a note")).await, Outcome::Clean);
}

#[tokio::test]
async fn what_exceeds_a_limit_or_is_encrypted_is_unscannable() {
    let directory = tempfile::tempdir().unwrap();
    let limits = "MaxFileSize 1M\nStreamMaxLength 1M\n";
    let clamd = Clamd::start_with(directory.path(), Database::Eicar, limits).unwrap();
    let [by_descriptor, by_stream] = scanners(&clamd);
    let large = sealed(&noise(1_500_000));
    let outcome = by_descriptor.scan(&large).await;
    assert!(
        matches!(
            &outcome,
            Outcome::Unscannable(Unscannable::LimitExceeded(_))
        ),
        "{outcome:?}"
    );
    assert_eq!(
        by_stream.scan(&large).await,
        Outcome::Unscannable(Unscannable::TooLarge)
    );
    for scanner in [by_descriptor, by_stream] {
        let outcome = scanner.scan(&sealed(&zip(b"0123456789abcdef", true))).await;
        assert!(
            matches!(&outcome, Outcome::Unscannable(Unscannable::Encrypted(_))),
            "{outcome:?}"
        );
    }
}

#[tokio::test]
async fn a_body_beyond_our_own_limit_is_not_sent_at_all() {
    let scanner = Scanner::new(Config {
        largest: 10,
        ..Config::new("/nonexistent/socket")
    });
    let outcome = scanner.scan(&sealed(b"eleven byte")).await;
    assert_eq!(outcome, Outcome::Unscannable(Unscannable::TooLarge));
}

#[tokio::test]
async fn without_clamd_nothing_is_clean() {
    let scanner = Scanner::new(Config::new("/nonexistent/socket"));
    let gone = Unavailable::Connect(std::io::ErrorKind::NotFound);
    assert_eq!(
        scanner.scan(&sealed(b"a note")).await,
        Outcome::Unavailable(gone.clone())
    );
    assert_eq!(scanner.ping().await, Err(gone.clone()));
    assert_eq!(scanner.version().await, Err(gone));
    assert!(matches!(
        scanner.canary().await,
        Err(CanaryError::Unavailable(_))
    ));
}

#[tokio::test]
async fn a_killed_clamd_is_unavailable_and_a_restarted_one_is_used_again() {
    let directory = tempfile::tempdir().unwrap();
    let mut clamd = Clamd::start(directory.path()).unwrap();
    let scanner = Scanner::new(Config::new(clamd.socket()));
    scanner.ping().await.unwrap();
    scanner.canary().await.unwrap();
    clamd.kill();
    let refused = Unavailable::Connect(std::io::ErrorKind::ConnectionRefused);
    assert_eq!(
        scanner.scan(&sealed(b"a note")).await,
        Outcome::Unavailable(refused.clone())
    );
    assert_eq!(scanner.ping().await, Err(refused));
    clamd.restart().unwrap();
    assert_eq!(scanner.scan(&sealed(b"a note")).await, Outcome::Clean);
    assert_eq!(
        scanner.canary().await.unwrap().signature,
        "Eicar-Test-Signature.UNOFFICIAL"
    );
}

#[tokio::test]
async fn a_clamd_killed_in_the_middle_of_a_scan_leaves_no_clean_answer() {
    let directory = tempfile::tempdir().unwrap();
    let mut clamd = Clamd::start(directory.path()).unwrap();
    for scanner in scanners(&clamd) {
        let body = sealed(&noise(40_000_000));
        let scan = tokio::spawn(async move { scanner.scan(&body).await });
        tokio::time::sleep(Duration::from_millis(60)).await;
        clamd.kill();
        let outcome = scan.await.unwrap();
        assert!(
            matches!(
                &outcome,
                Outcome::Unavailable(Unavailable::NoAnswer | Unavailable::Send(_))
            ),
            "{outcome:?}"
        );
        clamd.restart().unwrap();
    }
}

#[tokio::test]
async fn a_hung_clamd_is_unavailable_in_time_and_used_again_when_it_wakes() {
    let directory = tempfile::tempdir().unwrap();
    let mut clamd = Clamd::start(directory.path()).unwrap();
    let scanner = impatient(&clamd);
    clamd.suspend().unwrap();
    let begin = Instant::now();
    assert_eq!(
        scanner.scan(&sealed(b"a note")).await,
        Outcome::Unavailable(Unavailable::TimedOut)
    );
    assert_eq!(scanner.ping().await, Err(Unavailable::TimedOut));
    assert!(matches!(
        scanner.canary().await,
        Err(CanaryError::Unavailable(Unavailable::TimedOut))
    ));
    assert!(begin.elapsed() < Duration::from_secs(10));
    clamd.resume().unwrap();
    assert_eq!(
        Scanner::new(Config::new(clamd.socket()))
            .scan(&sealed(b"a note"))
            .await,
        Outcome::Clean
    );
}

#[tokio::test]
async fn a_clamd_that_catches_nothing_fails_the_canary_although_it_answers() {
    let directory = tempfile::tempdir().unwrap();
    let mut clamd = Clamd::start_with(directory.path(), Database::WithoutEicar, "").unwrap();
    let scanner = Scanner::new(Config::new(clamd.socket()));
    scanner.ping().await.unwrap();
    assert!(matches!(scanner.canary().await, Err(CanaryError::Missed)));
    clamd.restart_with(Database::Eicar).unwrap();
    scanner.canary().await.unwrap();
}

#[tokio::test]
async fn more_scans_than_allowed_wait_and_then_give_up_while_the_canary_passes() {
    let directory = tempfile::tempdir().unwrap();
    let mut clamd = Clamd::start(directory.path()).unwrap();
    let scanner = Scanner::new(Config {
        concurrent: 1,
        turn: Duration::from_millis(200),
        ..Config::new(clamd.socket())
    });
    clamd.suspend().unwrap();
    let first = {
        let scanner = scanner.clone();
        tokio::spawn(async move { scanner.scan(&sealed(b"first")).await })
    };
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(
        scanner.scan(&sealed(b"second")).await,
        Outcome::Unavailable(Unavailable::Busy)
    );
    let canary = {
        let scanner = scanner.clone();
        tokio::spawn(async move { scanner.canary().await })
    };
    clamd.resume().unwrap();
    canary.await.unwrap().unwrap();
    assert_eq!(first.await.unwrap(), Outcome::Clean);
}

#[tokio::test]
async fn many_bodies_at_once_are_each_judged_right() {
    let directory = tempfile::tempdir().unwrap();
    let clamd = Clamd::start(directory.path()).unwrap();
    let scanner = Scanner::new(Config::new(clamd.socket()));
    let mut scans = tokio::task::JoinSet::new();
    for n in 0..60 {
        let scanner = scanner.clone();
        scans.spawn(async move {
            let mut body = Body::new(1_000_000).unwrap();
            body.append(&noise(200_000 + n)).unwrap();
            if n % 3 == 0 {
                body.append(&eicar()).unwrap();
            }
            let outcome = scanner.scan(&body.seal().unwrap()).await;
            (n % 3 == 0, outcome)
        });
    }
    while let Some(scan) = scans.join_next().await {
        let (infected, outcome) = scan.unwrap();
        match outcome {
            Outcome::Infected(_) => assert!(infected),
            Outcome::Clean => assert!(!infected),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn the_version_names_the_engine() {
    let directory = tempfile::tempdir().unwrap();
    let clamd = Clamd::start(directory.path()).unwrap();
    let version = Scanner::new(Config::new(clamd.socket()))
        .version()
        .await
        .unwrap();
    assert!(version.starts_with("ClamAV 1."), "{version}");
}
