//! What stands beside the entries and vouches for them: keys, checkpoints, countersignatures. Each is stored first and then
//! mentioned in the log, so that one that is gone is missed. It checks that they belong here, not their signatures.

use gateway_policy::Timestamp;

use super::{Log, LogError};
use crate::records::{self, Stored};
use crate::{Event, Receipt, SignedCheckpoint, spki_id};

impl Log {
    /// Makes a signing key known: an entry in the log, its public half beside it. Nothing happens when it is known.
    ///
    /// # Errors
    /// [`LogError`].
    pub fn register_key(&mut self, spki: &[u8], at: Timestamp) -> Result<(), LogError> {
        let id = spki_id(spki);
        if self.known_keys.contains(&id) {
            return Ok(());
        }
        self.append(&Event::Key { key: id }, at)?;
        self.sync()?;
        self.keys
            .append(&records::key_line(spki))
            .map_err(|source| LogError::Disk {
                action: "keep a key",
                path: self.dir.clone(),
                source,
            })?;
        self.known_keys.insert(id);
        Ok(())
    }

    /// Stores a signed checkpoint and mentions it in the log.
    ///
    /// # Errors
    /// [`LogError::NotOurs`] unless it is the next one of this log, by a registered key; [`LogError::Disk`].
    pub fn store_checkpoint(
        &mut self,
        signed: &SignedCheckpoint,
        at: Timestamp,
    ) -> Result<(), LogError> {
        let checkpoint = signed.parse().map_err(|_| LogError::NotOurs)?;
        let ours = checkpoint.log == self.id
            && checkpoint.sequence == self.next_sequence
            && checkpoint.count <= self.durable.0
            && self.known_keys.contains(&checkpoint.key);
        if !ours {
            return Err(LogError::NotOurs);
        }
        self.checkpoints
            .append(&records::checkpoint_line(signed))
            .map_err(|source| LogError::Disk {
                action: "keep a checkpoint",
                path: self.dir.clone(),
                source,
            })?;
        let event = Event::Checkpointed {
            sequence: checkpoint.sequence,
            digest: signed.digest(),
        };
        self.next_sequence = checkpoint.sequence + 1;
        self.last_checkpoint = Some(checkpoint);
        self.append(&event, at)?;
        Ok(())
    }

    /// Stores a countersignature, which the caller has checked, and mentions it in the log.
    ///
    /// # Errors
    /// [`LogError::NotOurs`] unless it is under a later checkpoint than the last one; [`LogError::Disk`].
    pub fn store_receipt(
        &mut self,
        sequence: u64,
        receipt: &Receipt,
        at: Timestamp,
    ) -> Result<(), LogError> {
        let last = self.last_receipt.as_ref().map_or(0, |last| last.sequence);
        if sequence <= last || sequence >= self.next_sequence {
            return Err(LogError::NotOurs);
        }
        let stored = Stored::of(sequence, receipt);
        let failed = |source| LogError::Disk {
            action: "keep a countersignature",
            path: self.dir.clone(),
            source,
        };
        if !self.known_chains.contains(&stored.chain) {
            self.certificates
                .append(&records::chain_line(&receipt.chain))
                .map_err(failed)?;
            self.known_chains.insert(stored.chain);
        }
        self.receipts.append(&stored.line()).map_err(failed)?;
        let event = Event::Acknowledged {
            sequence,
            time: receipt.at,
            digest: receipt.digest(),
        };
        self.last_receipt = Some(stored);
        self.append(&event, at)?;
        Ok(())
    }
}
