//! A box that keeps a log, with a key in software, and a city that countersigns; and what a tamperer does with files.

#![allow(unreachable_pub, reason = "a module of a test program")]

use std::fs;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use gateway_audit::{
    Checkpoint, CityCopy, Digest, Event, Id, Log, Receipt, Settings, SignedCheckpoint, Version,
    receipt_message, spki_id,
};
use gateway_policy::{Check, Effect, Source, State, Subject, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::pki_types::CertificateDer;

pub const NOW: Timestamp = Timestamp(1_795_000_000);

pub struct Bench {
    pub dir: PathBuf,
    pub root: CertificateDer<'static>,
    leaf: Vec<u8>,
    city_key: EcdsaKeyPair,
    box_key: EcdsaKeyPair,
    facility: String,
    seen: Vec<SignedCheckpoint>,
    _home: tempfile::TempDir,
}

impl Bench {
    /// A log of three files and some.
    pub fn filled(facility: &str) -> Self {
        let home = tempfile::tempdir().unwrap();
        let (root, leaf, city_key) = city();
        let mut bench = Self {
            dir: home.path().join("audit"),
            root,
            leaf,
            city_key,
            box_key: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap(),
            facility: facility.to_owned(),
            seen: Vec::new(),
            _home: home,
        };
        let settings = Settings {
            segment_bytes: 3000,
            ..Settings::default()
        };
        let mut log = Log::open(&bench.dir, settings, NOW).unwrap().0;
        let started = Event::Started {
            version: Version(0, 1, 0),
            boot: Id([3; 16]),
        };
        log.append(&started, NOW).unwrap();
        for round in 0..6 {
            for _ in 0..3 {
                log.append(&verdict(), NOW.plus(round * 60)).unwrap();
            }
            let signed = bench.checkpoint(&mut log);
            if round % 2 == 1 {
                let receipt = bench.receipt(&signed);
                let sequence = signed.parse().unwrap().sequence;
                log.store_receipt(sequence, &receipt, NOW).unwrap();
            }
        }
        log.sync().unwrap();
        bench
    }

    fn spki(&self) -> Vec<u8> {
        let head: [u8; 26] = [
            0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06,
            0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
        ];
        [&head[..], self.box_key.public_key().as_ref()].concat()
    }

    fn checkpoint(&mut self, log: &mut Log) -> SignedCheckpoint {
        log.register_key(&self.spki(), NOW).unwrap();
        log.sync().unwrap();
        let (count, head) = log.durable();
        let checkpoint = Checkpoint {
            sequence: log.next_sequence(),
            count,
            head,
            log: log.id(),
            boot: Id([3; 16]),
            at: NOW,
            key: spki_id(&self.spki()),
            facility: self.facility.clone(),
        }
        .to_bytes();
        let signed = SignedCheckpoint {
            signature: sign(&self.box_key, &checkpoint),
            checkpoint,
        };
        log.store_checkpoint(&signed, NOW).unwrap();
        self.seen.push(signed.clone());
        signed
    }

    fn receipt(&self, signed: &SignedCheckpoint) -> Receipt {
        let at = Timestamp(time::OffsetDateTime::now_utc().unix_timestamp());
        Receipt {
            at,
            signature: sign(&self.city_key, &receipt_message(at, signed)),
            chain: vec![self.leaf.clone()],
        }
    }

    /// What the city has kept.
    pub fn city_copy(&self) -> CityCopy {
        CityCopy {
            keys: vec![self.spki()],
            checkpoints: self.seen.clone(),
        }
    }
}

fn sign(key: &EcdsaKeyPair, message: &[u8]) -> Vec<u8> {
    key.sign(&SystemRandom::new(), message)
        .unwrap()
        .as_ref()
        .to_vec()
}

fn city() -> (CertificateDer<'static>, Vec<u8>, EcdsaKeyPair) {
    let root_key = KeyPair::generate().unwrap();
    let mut root = CertificateParams::default();
    root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    root.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let root_certificate = root.self_signed(&root_key).unwrap();
    let issuer = Issuer::new(root, root_key);
    let key = KeyPair::generate().unwrap();
    let mut leaf = CertificateParams::default();
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::TimeStamping];
    let leaf = leaf.signed_by(&key, &issuer).unwrap();
    let pair =
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &key.serialize_der()).unwrap();
    (root_certificate.der().clone(), leaf.der().to_vec(), pair)
}

fn verdict() -> Event {
    Event::Verdict {
        subject: Subject::Box,
        check: Check::AvAlive,
        state: State::Grace,
        effect: Effect::Restrict,
        since: NOW,
        deadline: Some(NOW.plus(900)),
        source: Some(Source::Measured),
        digest: Some(Digest([7; 32])),
    }
}

pub fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for file in fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}

/// The log's files in order.
pub fn segments(dir: &Path) -> Vec<PathBuf> {
    let mut all: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|file| file.unwrap().path())
        .filter(|path| path.file_stem().unwrap().len() == 20)
        .collect();
    all.sort();
    all
}

/// All complete lines of the log.
pub fn lines(dir: &Path) -> Vec<String> {
    segments(dir)
        .iter()
        .flat_map(|path| {
            let bytes = fs::read(path).unwrap();
            let text = String::from_utf8_lossy(&bytes).into_owned();
            text.split_inclusive('\n')
                .filter(|line| line.ends_with('\n'))
                .map(str::to_owned)
                .collect::<Vec<_>>()
        })
        .collect()
}

/// Changes entry `number` and makes every later hash anew, as somebody does who knows how.
pub fn restamp(dir: &Path, number: u64, change: impl Fn(&str) -> String) {
    let mut previous = [0; 32].to_vec();
    let mut hexadecimal = "0".repeat(64);
    for path in segments(dir) {
        let mut out = String::new();
        for line in fs::read_to_string(&path).unwrap().lines() {
            let (entry, _) = line
                .strip_prefix("{\"entry\":")
                .unwrap()
                .rsplit_once(",\"hash\":")
                .unwrap();
            let mut entry = entry.to_owned();
            if entry.contains(&format!("\"n\":{number},")) {
                entry = change(&entry);
            }
            if let Some((before, after)) = entry.clone().split_once("\"previous\":\"") {
                entry = format!("{before}\"previous\":\"{hexadecimal}{}", &after[64..]);
            }
            let hash = digest(&SHA256, &[&previous[..], entry.as_bytes()].concat());
            previous = hash.as_ref().to_vec();
            hexadecimal = previous.iter().map(|byte| format!("{byte:02x}")).collect();
            out += &format!("{{\"entry\":{entry},\"hash\":\"{hexadecimal}\"}}\n");
        }
        fs::write(&path, out).unwrap();
    }
}

/// Puts the log back to what it was just after its third checkpoint, checkpoints and receipts included, as from a copy of
/// the disk.
pub fn rewind(dir: &Path) {
    let keep = |file: &str, count: usize| {
        let path = dir.join(file);
        let text: String = fs::read_to_string(&path)
            .unwrap()
            .split_inclusive('\n')
            .take(count)
            .collect();
        fs::write(&path, text).unwrap();
    };
    keep("checkpoints.jsonl", 3);
    keep("receipts.jsonl", 1);
    let mut seen = 0;
    for path in segments(dir) {
        let text = fs::read_to_string(&path).unwrap();
        let mut kept = String::new();
        for line in text.split_inclusive('\n') {
            if seen < 3 {
                kept += line;
            }
            seen += usize::from(line.contains("\"kind\":\"checkpointed\""));
        }
        if kept.is_empty() {
            fs::remove_file(&path).unwrap();
        } else {
            fs::write(&path, kept).unwrap();
        }
    }
}
