//! The same new body asked for by many at once: one scan, whoever leaves.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use gateway_antivirus::{Scanner, Transfer};
use gateway_proxy::{Inspection, InspectionLimits};
use test_harness::clamd::{Clamd, eicar};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixListener, UnixStream},
    sync::watch,
};

use crate::{
    origin::Speaks,
    site::{BOTH, Content, Site, problem},
    stand::Setup,
};

/// The box gives the scanner a test virus of its own now and then; only what is larger is counted and held.
const LARGE: usize = 100_000;

/// Stands before the real clamd, counts the large bodies that are streamed to it, and holds back what it says of them.
struct Between {
    socket: PathBuf,
    scans: Arc<AtomicUsize>,
    held: watch::Sender<bool>,
}

impl Between {
    fn stand(clamd: &Clamd, directory: &Path) -> Self {
        let socket = directory.join("between.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let (clamd, scans) = (clamd.socket(), Arc::<AtomicUsize>::default());
        let held = watch::Sender::new(true);
        let between = Self {
            socket,
            scans: Arc::clone(&scans),
            held: held.clone(),
        };
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let real = UnixStream::connect(&clamd).await.unwrap();
                tokio::spawn(pass(client, real, Arc::clone(&scans), held.subscribe()));
            }
        });
        between
    }

    async fn until_scanned(&self, scans: usize) {
        let enough = async {
            while self.scans.load(SeqCst) < scans {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let patience = Duration::from_secs(60);
        tokio::time::timeout(patience, enough).await.unwrap();
    }
}

async fn pass(
    client: UnixStream,
    real: UnixStream,
    scans: Arc<AtomicUsize>,
    mut held: watch::Receiver<bool>,
) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_real, mut to_real) = real.into_split();
    let sent = Arc::<AtomicUsize>::default();
    let counted = Arc::clone(&sent);
    tokio::spawn(async move {
        let mut buffer = vec![0; 65_536];
        while let Ok(read @ 1..) = from_client.read(&mut buffer).await {
            counted.fetch_add(read, SeqCst);
            if to_real.write_all(&buffer[..read]).await.is_err() {
                return;
            }
        }
    });
    let mut answer = Vec::new();
    let _ = from_real.read_to_end(&mut answer).await;
    if sent.load(SeqCst) >= LARGE {
        scans.fetch_add(1, SeqCst);
        let _ = held.wait_for(|held| !held).await;
    }
    let _ = to_client.write_all(&answer).await;
}

struct Stage {
    site: Arc<Site>,
    between: Between,
    _clamd: Clamd,
    _directory: tempfile::TempDir,
}

async fn stage() -> Stage {
    let directory = tempfile::tempdir().unwrap();
    let clamd = Clamd::start(directory.path()).unwrap();
    let between = Between::stand(&clamd, directory.path());
    let scanner = Scanner::new(gateway_antivirus::Config {
        transfer: Transfer::Stream,
        ..gateway_antivirus::Config::new(&between.socket)
    });
    let mut setup = Setup::new();
    setup.inspection = Some(Inspection::new(scanner, InspectionLimits::default()).unwrap());
    Stage {
        site: Arc::new(Site::with(setup, Speaks::Http1).await),
        between,
        _clamd: clamd,
        _directory: directory,
    }
}

impl Stage {
    /// `many` who ask for the same, of whom the site has seen all.
    async fn ask(&self, many: usize) -> Vec<tokio::task::JoinHandle<crate::client::Answer>> {
        let before = self.site.requests();
        let asking = (0..many)
            .map(|number| {
                let site = Arc::clone(&self.site);
                tokio::spawn(async move { site.get(BOTH[number % 2], "/new", &[]).await })
            })
            .collect();
        let seen = async {
            while self.site.requests() < before + many {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let patience = Duration::from_secs(60);
        tokio::time::timeout(patience, seen).await.unwrap();
        asking
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_body_that_many_ask_for_at_once_is_scanned_once() {
    let stage = stage().await;
    let body = Bytes::from(vec![b'n'; 3 * LARGE]);
    stage.site.serve("/new", Content::new(body.clone()));
    let asking = stage.ask(12).await;
    stage.between.until_scanned(1).await;
    stage.between.held.send_replace(false);
    for answer in asking {
        let answer = answer.await.unwrap();
        assert_eq!(answer.status, 200);
        assert_eq!(answer.body, body);
    }
    assert_eq!(stage.between.scans.load(SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_virus_that_many_ask_for_at_once_reaches_none_of_them() {
    let stage = stage().await;
    let body = [eicar(), vec![b' '; LARGE]].concat();
    stage.site.serve("/new", Content::new(body));
    let asking = stage.ask(6).await;
    stage.between.until_scanned(1).await;
    stage.between.held.send_replace(false);
    for answer in asking {
        let answer = answer.await.unwrap();
        assert_eq!(
            (answer.status.as_u16(), problem(&answer)),
            (403, "infected".to_owned())
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_first_who_asked_leaves_the_others_still_get_their_answer() {
    let stage = stage().await;
    let body = Bytes::from(vec![b'l'; 3 * LARGE]);
    stage.site.serve("/new", Content::new(body.clone()));
    let first = stage.ask(1).await;
    stage.between.until_scanned(1).await;
    let others = stage.ask(4).await;
    for first in first {
        first.abort();
    }
    // The answer about the first's body is still held back: it is another's scan that ends.
    stage.between.until_scanned(2).await;
    stage.between.held.send_replace(false);
    for answer in others {
        assert_eq!(answer.await.unwrap().body, body);
    }
    assert_eq!(stage.between.scans.load(SeqCst), 2);
}
