//! One file of the signed repository is whatever comes; the others are genuine. No panic; nothing unsigned is believed, stored,
//! or leads to another target.
//!
//! The first byte says which file. The seeds are files of a repository whose keys are gone.
#![no_main]

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, LazyLock, Mutex};

use gateway_policy::Timestamp;
use gateway_tuf::form::canonical;
use gateway_tuf::{
    Body, Client, Disk, Duties, Fetching, Limits, Pieces, Store, Transport, TransportError,
};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use tokio::runtime::Runtime;

const NOW: Timestamp = Timestamp(1_795_377_200);
const FIRST_ROOT: &[u8] = include_bytes!("../seeds/signed_channel/first_root");
const FILES: [(&str, &[u8]); 5] = [
    ("2.root.json", include_bytes!("../seeds/signed_channel/root")),
    ("timestamp.json", include_bytes!("../seeds/signed_channel/timestamp")),
    ("2.snapshot.json", include_bytes!("../seeds/signed_channel/snapshot")),
    ("1.targets.json", include_bytes!("../seeds/signed_channel/targets")),
    ("1.policy.json", include_bytes!("../seeds/signed_channel/policy")),
];

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime")
});

fuzz_target!(|bytes: &[u8]| {
    let Some((&which, content)) = bytes.split_first() else {
        return;
    };
    let (changed, genuine) = FILES[usize::from(which) % FILES.len()];
    let disk = Arc::new(Memory::default());
    let client = Client::new(
        Store::on(Arc::clone(&disk) as Arc<dyn Disk>),
        FIRST_ROOT.to_vec(),
        Arc::new(Offer { changed, content: content.to_vec() }),
        Limits::default(),
        Duties::City,
    );
    let found = RUNTIME.block_on(async {
        let mut trusted = client.refresh(NOW).await.ok()?;
        trusted.target("policy/policy.json").await.ok()
    });
    // What was stored under the changed name says, to the letter, what was signed.
    for (name, stored) in disk.files.lock().expect("no panic before").iter() {
        let genuine = FILES
            .iter()
            .filter(|(file, _)| file.ends_with(name.as_str()))
            .map(|(_, bytes)| &bytes[1..])
            .chain((name == "root.json").then_some(FIRST_ROOT));
        assert!(
            genuine.map(signed).any(|genuine| genuine == signed(stored)),
            "{name}"
        );
    }
    if let Some(found) = found {
        assert_eq!(signed(content), signed(&genuine[1..]));
        assert_eq!(found.role, "policy");
    }
});

/// What the signatures cover.
fn signed(file: &[u8]) -> Vec<u8> {
    let file: Value = serde_json::from_slice(file).expect("what is believed is JSON");
    canonical(&file["signed"]).expect("what is believed is canonical")
}

#[derive(Debug)]
struct Offer {
    changed: &'static str,
    content: Vec<u8>,
}

impl Transport for Offer {
    fn metadata<'a>(&'a self, name: &'a str) -> Fetching<'a, Option<Body>> {
        let genuine = FILES.iter().find(|(file, _)| *file == name);
        let bytes = if name == self.changed {
            Some(self.content.clone())
        } else {
            genuine.map(|(_, bytes)| bytes[1..].to_vec())
        };
        Box::pin(async move {
            Ok(bytes.map(|bytes| Body {
                starts_at: 0,
                total: None,
                pieces: Box::new(Once(Some(bytes))),
            }))
        })
    }

    fn target<'a>(&'a self, _: &'a str, _: u64) -> Fetching<'a, Option<Body>> {
        Box::pin(async { Err(TransportError::NoCertificate) })
    }
}

struct Once(Option<Vec<u8>>);

impl Pieces for Once {
    fn next(&mut self) -> Fetching<'_, Option<bytes::Bytes>> {
        let piece = self.0.take().map(bytes::Bytes::from);
        Box::pin(async move { Ok(piece) })
    }
}

/// A disk on which every write stays.
#[derive(Debug, Default)]
struct Memory {
    files: Mutex<BTreeMap<String, Vec<u8>>>,
}

impl Disk for Memory {
    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        Ok(self.files.lock().expect("no panic before").get(name).cloned())
    }

    fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let mut files = self.files.lock().expect("no panic before");
        files.insert(name.to_owned(), bytes.to_vec());
        Ok(())
    }

    fn sync(&self, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut files = self.files.lock().expect("no panic before");
        let file = files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        files.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.files.lock().expect("no panic before").remove(name);
        Ok(())
    }

    fn sync_names(&self) -> io::Result<()> {
        Ok(())
    }
}
