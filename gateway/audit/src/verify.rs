//! Verifies a log directory offline: chain, checkpoints, countersignatures, and the city's copy if there is one. It changes
//! nothing and needs neither TPM nor network.
//!
//! What each part can show. The chain: any change, removal, reordering or insertion that did not make all later hashes anew.
//! The checkpoints, signed in the TPM: a chain made anew, and a log cut off before the last checkpoint. The entries that
//! mention checkpoints and countersignatures: one of those that is gone or exchanged. The city's copy: everything before its
//! newest checkpoint, even if log and checkpoints were both cut back or all made anew. What nothing shows: entries after the
//! newest checkpoint that were cut off at the end.

mod fault;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use gateway_policy::Timestamp;
use rustls::pki_types::CertificateDer;

pub use self::fault::{Fault, Finding, Note};
use crate::chain::{Walk, walk};
use crate::records::{self, CityCopy, Read, Stored};
use crate::{Checkpoint, Digest, Id, SignedCheckpoint};

/// What the log is held against besides itself.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The city's root certificates; without them countersignatures are read but not checked.
    pub roots: Vec<CertificateDer<'static>>,
    /// What the city has kept.
    pub city: Option<CityCopy>,
    /// What the running box knows to be written: count and head.
    pub written: Option<(u64, Digest)>,
}

/// What was found.
#[derive(Clone, Debug)]
pub struct Report {
    /// Which log.
    pub log: Option<Id>,
    /// The first entry that is there.
    pub first: u64,
    /// The last entry that holds.
    pub count: u64,
    /// Its hash.
    pub head: Digest,
    /// Time of the first entry.
    pub opened: Option<Timestamp>,
    /// The log began because the one before it was put aside.
    pub after_fault: bool,
    /// Checkpoints that hold.
    pub checkpoints: usize,
    /// Countersignatures that hold.
    pub receipts: usize,
    /// Entries up to here are signed by the TPM.
    pub signed_to: u64,
    /// Entries up to here are countersigned by the city, and since when (its clock).
    pub acknowledged: Option<(u64, Timestamp)>,
    /// What is wrong, first bad entry first.
    pub findings: Vec<Finding>,
    /// What is worth knowing and not wrong.
    pub notes: Vec<Note>,
    /// How the log of accesses stood when it was mentioned last: its name, entries, head.
    pub accesses: Option<(Id, u64, Digest)>,
    pub(crate) last_checkpoint: Option<Checkpoint>,
    pub(crate) tail: Option<crate::chain::Tail>,
    pub(crate) last_receipt: Option<Stored>,
}

/// Verifies the log in `dir`.
///
/// # Errors
/// When a file cannot be read at all.
pub fn verify(dir: &Path, options: &Options) -> io::Result<Report> {
    let kept = Kept::read(dir)?;
    let mut wanted: BTreeSet<u64> = kept
        .checkpoints
        .iter()
        .flatten()
        .map(|(_, checkpoint)| checkpoint.count)
        .collect();
    let city = options.city.clone().unwrap_or_default();
    let theirs: Vec<_> = city
        .checkpoints
        .iter()
        .map(|signed| (signed, signed.parse().ok()))
        .collect();
    wanted.extend(
        theirs
            .iter()
            .filter_map(|(_, checkpoint)| Some(checkpoint.as_ref()?.count)),
    );
    wanted.extend(options.written.map(|(count, _)| count));
    let walk = walk(dir, &wanted)?;

    let mut judge = Judge::new(dir, walk);
    judge.chain();
    judge.checkpoints(&kept);
    judge.receipts(&kept, &options.roots);
    judge.written(options.written);
    if options.city.is_some() {
        judge.city(&city, &theirs, &kept);
    } else {
        judge.note(Note::NoCityCopy);
    }
    Ok(judge.finish())
}

/// The files beside the log, as read.
struct Kept {
    keys_read: Read,
    keys: BTreeMap<Digest, Vec<u8>>,
    checkpoints: Vec<Option<(SignedCheckpoint, Checkpoint)>>,
    chains: BTreeMap<Digest, Vec<Vec<u8>>>,
    chains_read: Read,
    receipts: Vec<Option<Stored>>,
    unfinished: bool,
}

impl Kept {
    fn read(dir: &Path) -> io::Result<Self> {
        let checkpoints = records::read(&dir.join(records::CHECKPOINTS))?;
        let receipts = records::read(&dir.join(records::RECEIPTS))?;
        let keys_read = records::read(&dir.join(records::KEYS))?;
        let chains_read = records::read(&dir.join(records::CERTIFICATES))?;
        Ok(Self {
            keys: records::keys(&keys_read),
            chains: chains_read
                .lines
                .iter()
                .flatten()
                .filter_map(records::read_chain)
                .map(|chain| (records::chain_digest(&chain), chain))
                .collect(),
            unfinished: [&checkpoints, &receipts, &keys_read, &chains_read]
                .iter()
                .any(|read| read.unfinished),
            checkpoints: checkpoints
                .lines
                .iter()
                .map(|line| {
                    let signed = records::read_checkpoint(line.as_ref()?)?;
                    let parsed = signed.parse().ok()?;
                    Some((signed, parsed))
                })
                .collect(),
            receipts: receipts
                .lines
                .iter()
                .map(|line| Stored::read(line.as_ref()?))
                .collect(),
            keys_read,
            chains_read,
        })
    }
}

struct Judge {
    dir: PathBuf,
    walk: Walk,
    log: Option<Id>,
    /// Digests of the checkpoints and countersignatures that are there, by number.
    seen_checkpoints: BTreeMap<u64, (Digest, u64)>,
    seen_receipts: BTreeMap<u64, Digest>,
    signed_to: u64,
    acknowledged: Option<(u64, Timestamp)>,
    last_checkpoint: Option<Checkpoint>,
    last_receipt: Option<Stored>,
    findings: Vec<Finding>,
    notes: Vec<Note>,
}

impl Judge {
    fn new(dir: &Path, walk: Walk) -> Self {
        Self {
            dir: dir.to_owned(),
            log: walk.log,
            walk,
            seen_checkpoints: BTreeMap::new(),
            seen_receipts: BTreeMap::new(),
            signed_to: 0,
            acknowledged: None,
            last_checkpoint: None,
            last_receipt: None,
            findings: Vec::new(),
            notes: Vec::new(),
        }
    }

    fn find(&mut self, fault: Fault, entry: Option<u64>, file: &str, line: usize) {
        self.findings.push(Finding {
            fault,
            entry,
            file: self.dir.join(file),
            line,
        });
    }

    fn note(&mut self, note: Note) {
        self.notes.push(note);
    }

    fn chain(&mut self) {
        if let Some((entry, bend, file, line)) = self.walk.broken.clone() {
            self.findings.push(Finding {
                fault: Fault::Chain(bend),
                entry: Some(entry),
                file,
                line,
            });
        }
        let removed = self.walk.mentions.removed.map_or(0, |(up_to, _)| up_to);
        if self.walk.broken.is_none() && self.walk.first > removed + 1 {
            self.find(Fault::BeginningMissing, Some(removed + 1), "", 0);
        }
        if self.walk.tail.is_some() {
            self.note(Note::UnfinishedLine);
        }
    }

    fn checkpoints(&mut self, kept: &Kept) {
        let file = records::CHECKPOINTS;
        self.keys(kept);
        let may_begin_at = self
            .walk
            .mentions
            .removed
            .map_or(1, |(_, first)| first.max(1));
        let mut due = None;
        for (place, read) in kept.checkpoints.iter().enumerate() {
            let line = place + 1;
            let Some((signed, checkpoint)) = read else {
                self.find(Fault::CheckpointUnreadable, None, file, line);
                due = None;
                continue;
            };
            let first_ever = place == 0 && checkpoint.sequence > may_begin_at;
            if due.is_some_and(|due| due != checkpoint.sequence) || first_ever {
                self.find(Fault::CheckpointOrder, None, file, line);
            }
            due = Some(checkpoint.sequence + 1);
            self.seen_checkpoints
                .insert(checkpoint.sequence, (signed.digest(), checkpoint.count));
            self.checkpoint(signed, checkpoint, kept, line);
        }
        for (sequence, digest, entry) in self.walk.mentions.checkpoints.clone() {
            let first = kept
                .checkpoints
                .iter()
                .flatten()
                .next()
                .map_or(0, |(_, first)| first.sequence);
            let gone_by_retention = sequence < first && first <= may_begin_at;
            match self.seen_checkpoints.get(&sequence) {
                Some((seen, _)) if *seen == digest => {}
                Some(_) => self.find(Fault::CheckpointSwapped(sequence), Some(entry), file, 0),
                None if gone_by_retention => {}
                None => self.find(Fault::CheckpointMissing(sequence), Some(entry), file, 0),
            }
        }
        if self.signed_to < self.walk.count {
            self.note(Note::NotSigned {
                from: self.signed_to + 1,
            });
        }
    }

    fn keys(&mut self, kept: &Kept) {
        let mut seen = BTreeSet::new();
        for (place, line) in kept.keys_read.lines.iter().enumerate() {
            match line.as_ref().and_then(records::read_key) {
                Some(key) if seen.insert(key.clone()) => {}
                _ => self.find(Fault::KeyUnreadable, None, records::KEYS, place + 1),
            }
        }
        if kept.unfinished {
            self.note(Note::UnfinishedLine);
        }
    }

    fn checkpoint(
        &mut self,
        signed: &SignedCheckpoint,
        checkpoint: &Checkpoint,
        kept: &Kept,
        line: usize,
    ) {
        let file = records::CHECKPOINTS;
        let sequence = checkpoint.sequence;
        let signer = kept.keys.get(&checkpoint.key);
        if !signer.is_some_and(|key| signed.is_signed_by(key)) {
            self.find(Fault::CheckpointSignature(sequence), None, file, line);
            return;
        }
        if *self.log.get_or_insert(checkpoint.log) != checkpoint.log {
            self.find(Fault::CheckpointOtherLog(sequence), None, file, line);
            return;
        }
        if let Some(last) = &self.last_checkpoint
            && last.count > checkpoint.count
        {
            self.find(Fault::CheckpointOrder, None, file, line);
            return;
        }
        if checkpoint.count > self.walk.count {
            // Where the chain is broken that is the finding; how much is behind the break is not known.
            if self.walk.broken.is_none() {
                let fault = Fault::Cut {
                    count: checkpoint.count,
                };
                self.find(fault, Some(self.walk.count + 1), file, line);
            }
            return;
        }
        let removed_before = checkpoint.count < self.walk.first;
        match self.walk.heads.get(&checkpoint.count) {
            Some(head) if *head != checkpoint.head => {
                let fault = Fault::MadeAnew {
                    up_to: checkpoint.count,
                };
                self.find(fault, Some(self.signed_to + 1), file, line);
                return;
            }
            None if !removed_before => return,
            _ => {}
        }
        self.signed_to = checkpoint.count;
        self.last_checkpoint = Some(checkpoint.clone());
    }

    fn receipts(&mut self, kept: &Kept, roots: &[CertificateDer<'_>]) {
        let file = records::RECEIPTS;
        let mut seen = BTreeSet::new();
        for (place, line) in kept.chains_read.lines.iter().enumerate() {
            match line.as_ref().and_then(records::read_chain) {
                Some(chain) if seen.insert(chain.clone()) => {}
                _ => self.find(
                    Fault::CertificatesUnreadable,
                    None,
                    records::CERTIFICATES,
                    place + 1,
                ),
            }
        }
        let signed: BTreeMap<u64, &SignedCheckpoint> = kept
            .checkpoints
            .iter()
            .flatten()
            .map(|(signed, checkpoint)| (checkpoint.sequence, signed))
            .collect();
        let first_kept = signed.keys().next().copied().unwrap_or(0);
        let mut last = 0;
        for (place, read) in kept.receipts.iter().enumerate() {
            let line = place + 1;
            let Some(stored) = read else {
                self.find(Fault::ReceiptUnreadable, None, file, line);
                continue;
            };
            if stored.sequence <= last {
                self.find(Fault::ReceiptOrder, None, file, line);
            }
            last = stored.sequence;
            let Some(chain) = kept.chains.get(&stored.chain) else {
                self.find(Fault::CertificatesUnreadable, None, file, line);
                continue;
            };
            let receipt = stored.with(chain);
            self.seen_receipts.insert(stored.sequence, receipt.digest());
            let Some(checkpoint) = signed.get(&stored.sequence) else {
                if stored.sequence >= first_kept {
                    self.find(Fault::CheckpointMissing(stored.sequence), None, file, line);
                }
                continue;
            };
            if !roots.is_empty() && receipt.check(checkpoint, roots).is_err() {
                self.find(Fault::ReceiptFalse(stored.sequence), None, file, line);
                continue;
            }
            if let Some((_, count)) = self.seen_checkpoints.get(&stored.sequence)
                && *count <= self.signed_to
            {
                self.acknowledged = Some((*count, stored.at));
                self.last_receipt = Some(stored.clone());
            }
        }
        let first_receipt = kept
            .receipts
            .iter()
            .flatten()
            .next()
            .map_or(0, |first| first.sequence);
        let may_begin_at = self.walk.mentions.removed.map_or(0, |(_, first)| first);
        for (sequence, digest, entry) in self.walk.mentions.receipts.clone() {
            match self.seen_receipts.get(&sequence) {
                Some(seen) if *seen == digest => {}
                Some(_) => self.find(Fault::ReceiptSwapped(sequence), Some(entry), file, 0),
                None if sequence < may_begin_at && sequence < first_receipt.max(may_begin_at) => {}
                None => self.find(Fault::ReceiptMissing(sequence), Some(entry), file, 0),
            }
        }
        if kept.receipts.is_empty() {
            self.note(Note::NeverAcknowledged);
        } else if roots.is_empty() {
            self.note(Note::ReceiptsNotChecked);
        }
    }

    /// The box knows what it has written, also when everything on the disk was exchanged for something older.
    fn written(&mut self, written: Option<(u64, Digest)>) {
        let Some((count, head)) = written else { return };
        if self.walk.broken.is_some() || count < self.walk.first {
            return;
        }
        if self.walk.count < count {
            self.find(Fault::Cut { count }, Some(self.walk.count + 1), "", 0);
        } else if self
            .walk
            .heads
            .get(&count)
            .is_some_and(|found| *found != head)
        {
            self.find(
                Fault::MadeAnew { up_to: count },
                Some(self.signed_to + 1),
                "",
                0,
            );
        }
    }

    fn city(
        &mut self,
        city: &CityCopy,
        theirs: &[(&SignedCheckpoint, Option<Checkpoint>)],
        kept: &Kept,
    ) {
        let mut agreed = 0;
        let newest_log = theirs
            .iter()
            .rev()
            .find_map(|(_, parsed)| Some(parsed.as_ref()?.log));
        for (signed, parsed) in theirs {
            let Some(checkpoint) = parsed
                .as_ref()
                .filter(|_| city.keys.iter().any(|key| signed.is_signed_by(key)))
            else {
                self.find(Fault::CityCopyUnreadable, None, "", 0);
                continue;
            };
            if Some(checkpoint.log) != newest_log {
                // An older log that the city's people agreed to have replaced.
                continue;
            }
            if self.log.is_some_and(|log| log != checkpoint.log) {
                self.find(Fault::CityOtherLog, Some(1), "", 0);
                return;
            }
            if self.walk.broken.is_some() && checkpoint.count > self.walk.count {
                continue;
            }
            if checkpoint.count > self.walk.count {
                let fault = Fault::CityAhead {
                    count: checkpoint.count,
                };
                self.find(fault, Some(self.walk.count + 1), "", 0);
                return;
            }
            match self.walk.heads.get(&checkpoint.count) {
                Some(head) if *head != checkpoint.head => {
                    let fault = Fault::CityDiffers {
                        up_to: checkpoint.count,
                    };
                    self.find(fault, Some(agreed + 1), "", 0);
                    return;
                }
                _ => agreed = checkpoint.count,
            }
        }
        for (_, checkpoint) in kept.checkpoints.iter().flatten() {
            if !city
                .keys
                .iter()
                .any(|key| crate::spki_id(key) == checkpoint.key)
            {
                self.find(
                    Fault::CityOtherKey(checkpoint.sequence),
                    None,
                    records::CHECKPOINTS,
                    0,
                );
                return;
            }
        }
    }

    fn finish(mut self) -> Report {
        self.findings
            .sort_by_key(|finding| finding.entry.unwrap_or(u64::MAX));
        self.notes.dedup();
        Report {
            log: self.log,
            first: self.walk.first,
            count: self.walk.count,
            head: self.walk.head,
            opened: self.walk.opened,
            after_fault: self.walk.after_fault,
            checkpoints: self.seen_checkpoints.len(),
            receipts: self.seen_receipts.len(),
            signed_to: self.signed_to,
            acknowledged: self.acknowledged,
            findings: self.findings,
            notes: self.notes,
            last_checkpoint: self.last_checkpoint,
            accesses: self.walk.mentions.accesses,
            tail: self.walk.tail,
            last_receipt: self.last_receipt,
        }
    }
}
