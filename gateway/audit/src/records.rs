//! The files beside the log: checkpoints, countersignatures, certificates, public keys; one JSON object a line. Knows the
//! form of a line and how to add one durably, not what the lines prove.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gateway_policy::Timestamp;
use serde_json::{Value, json};

use crate::canonical::canonical;
use crate::disk::Disk;
use crate::{Digest, Receipt, SignedCheckpoint, spki_id};

pub(crate) const CHECKPOINTS: &str = "checkpoints.jsonl";
pub(crate) const RECEIPTS: &str = "receipts.jsonl";
pub(crate) const CERTIFICATES: &str = "certificates.jsonl";
pub(crate) const KEYS: &str = "keys.jsonl";

/// Lines of one file, appended durably one by one.
#[derive(Debug)]
pub(crate) struct Lines {
    path: PathBuf,
    file: File,
    length: u64,
    disk: Disk,
}

impl Lines {
    /// Opens the file, dropping an unfinished last line: nothing was ever told that it is there.
    pub(crate) fn open(path: PathBuf, disk: Disk) -> io::Result<Self> {
        let file = disk.open(&path, false)?;
        let bytes = fs::read(&path)?;
        let whole = bytes
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |at| at + 1);
        let length = u64::try_from(whole).unwrap_or(u64::MAX);
        if whole < bytes.len() {
            disk.set_len(&file, length)?;
            disk.sync(&file)?;
        }
        Ok(Self {
            path,
            file,
            length,
            disk,
        })
    }

    /// Adds a line; durable when this returns.
    pub(crate) fn append(&mut self, value: &Value) -> io::Result<()> {
        let line = canonical(value).map_err(io::Error::other)? + "\n";
        // Where the last durable line ends, whatever a failed attempt left behind it.
        self.disk.set_len(&self.file, self.length)?;
        self.disk
            .write_at(&self.file, line.as_bytes(), self.length)?;
        self.disk.sync(&self.file)?;
        self.length += u64::try_from(line.len()).unwrap_or(0);
        Ok(())
    }

    /// Keeps only the lines that `keep` accepts: written anew beside it and renamed into place.
    pub(crate) fn retain(&mut self, keep: impl Fn(&Value) -> bool) -> io::Result<()> {
        let fresh = self.path.with_extension("new");
        self.disk.remove(&fresh)?;
        let mut text = String::new();
        for value in read(&self.path)?.lines {
            if value.as_ref().is_none_or(&keep) {
                text += &canonical(&value.unwrap_or_default()).map_err(io::Error::other)?;
                text.push('\n');
            }
        }
        let file = self.disk.open(&fresh, true)?;
        self.disk.write_at(&file, text.as_bytes(), 0)?;
        self.disk.sync(&file)?;
        self.disk.rename(&fresh, &self.path)?;
        if let Some(directory) = self.path.parent() {
            self.disk.sync_dir(directory)?;
        }
        self.file = file;
        self.length = u64::try_from(text.len()).unwrap_or(u64::MAX);
        Ok(())
    }
}

/// What a file of lines holds.
#[derive(Debug, Default)]
pub(crate) struct Read {
    /// Each line; `None` where it is not canonical JSON.
    pub(crate) lines: Vec<Option<Value>>,
    /// The last line has no end.
    pub(crate) unfinished: bool,
}

/// Reads a file; one that is not there is empty.
pub(crate) fn read(path: &Path) -> io::Result<Read> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Read::default()),
        Err(error) => return Err(error),
    };
    let mut pieces: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
    let last = pieces.pop().unwrap_or_default();
    let lines = pieces
        .into_iter()
        .map(|line| {
            let text = std::str::from_utf8(line).ok()?;
            let value: Value = serde_json::from_str(text).ok()?;
            (canonical(&value).ok()? == text).then_some(value)
        })
        .collect();
    Ok(Read {
        lines,
        unfinished: !last.is_empty(),
    })
}

fn bytes_of(value: &Value, member: &str) -> Option<Vec<u8>> {
    STANDARD.decode(value.get(member)?.as_str()?).ok()
}

pub(crate) fn checkpoint_line(signed: &SignedCheckpoint) -> Value {
    json!({
        "checkpoint": STANDARD.encode(&signed.checkpoint),
        "signature": STANDARD.encode(&signed.signature),
    })
}

pub(crate) fn read_checkpoint(value: &Value) -> Option<SignedCheckpoint> {
    let signed = SignedCheckpoint {
        checkpoint: bytes_of(value, "checkpoint")?,
        signature: bytes_of(value, "signature")?,
    };
    (checkpoint_line(&signed) == *value).then_some(signed)
}

/// A countersignature as stored: the chain is named by its digest, because it is the same for months.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The checkpoint it is under.
    pub sequence: u64,
    /// The city's time.
    pub at: Timestamp,
    /// The countersignature, DER.
    pub(crate) signature: Vec<u8>,
    /// Digest of the certificates.
    pub(crate) chain: Digest,
}

impl Stored {
    pub(crate) fn of(sequence: u64, receipt: &Receipt) -> Self {
        Self {
            sequence,
            at: receipt.at,
            signature: receipt.signature.clone(),
            chain: chain_digest(&receipt.chain),
        }
    }

    pub(crate) fn line(&self) -> Value {
        json!({
            "sequence": self.sequence,
            "time": self.at.0,
            "signature": STANDARD.encode(&self.signature),
            "certificates": self.chain.to_string(),
        })
    }

    pub(crate) fn read(value: &Value) -> Option<Self> {
        let stored = Self {
            sequence: value.get("sequence")?.as_u64()?,
            at: Timestamp(value.get("time")?.as_i64()?),
            signature: bytes_of(value, "signature")?,
            chain: Digest::parse(value.get("certificates")?.as_str()?)?,
        };
        (stored.line() == *value).then_some(stored)
    }

    pub(crate) fn with(&self, chain: &[Vec<u8>]) -> Receipt {
        Receipt {
            at: self.at,
            signature: self.signature.clone(),
            chain: chain.to_vec(),
        }
    }
}

pub(crate) fn chain_digest(chain: &[Vec<u8>]) -> Digest {
    let parts: Vec<&[u8]> = chain.iter().map(Vec::as_slice).collect();
    Digest::of(&parts)
}

pub(crate) fn chain_line(chain: &[Vec<u8>]) -> Value {
    json!({ "certificates": chain.iter().map(|der| STANDARD.encode(der)).collect::<Vec<_>>() })
}

pub(crate) fn read_chain(value: &Value) -> Option<Vec<Vec<u8>>> {
    let chain: Vec<Vec<u8>> = value
        .get("certificates")?
        .as_array()?
        .iter()
        .map(|der| STANDARD.decode(der.as_str()?).ok())
        .collect::<Option<_>>()?;
    (chain_line(&chain) == *value).then_some(chain)
}

pub(crate) fn key_line(spki: &[u8]) -> Value {
    json!({ "key": STANDARD.encode(spki) })
}

pub(crate) fn read_key(value: &Value) -> Option<Vec<u8>> {
    let key = bytes_of(value, "key")?;
    (key_line(&key) == *value).then_some(key)
}

/// The public keys in a file, by their names.
pub(crate) fn keys(read: &Read) -> BTreeMap<Digest, Vec<u8>> {
    read.lines
        .iter()
        .flatten()
        .filter_map(read_key)
        .map(|key| (spki_id(&key), key))
        .collect()
}

/// What the city has kept of one box: its export for `gatewayctl audit verify --city-checkpoints`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CityCopy {
    /// The keys it has pinned, SubjectPublicKeyInfo.
    pub keys: Vec<Vec<u8>>,
    /// The checkpoints it has accepted, oldest first.
    pub checkpoints: Vec<SignedCheckpoint>,
}

impl CityCopy {
    /// Reads the export: JSON lines, each `{"key"}` or `{"checkpoint","signature"}`, base64.
    ///
    /// # Errors
    /// The number of the first line that is neither.
    pub fn parse(text: &str) -> Result<Self, usize> {
        let mut copy = Self::default();
        for (place, line) in text
            .lines()
            .enumerate()
            .filter(|(_, line)| !line.is_empty())
        {
            let value: Value = serde_json::from_str(line).map_err(|_| place + 1)?;
            if let Some(key) = bytes_of(&value, "key") {
                copy.keys.push(key);
            } else if let (Some(checkpoint), Some(signature)) = (
                bytes_of(&value, "checkpoint"),
                bytes_of(&value, "signature"),
            ) {
                copy.checkpoints.push(SignedCheckpoint {
                    checkpoint,
                    signature,
                });
            } else {
                return Err(place + 1);
            }
        }
        Ok(copy)
    }
}
