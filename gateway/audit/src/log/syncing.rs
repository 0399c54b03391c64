//! Making entries durable beside the thread that appends: who may not wait for the disk appends on while it works.

use std::fs::File;
use std::io;

use super::{Log, LogError};
use crate::disk::Disk;
use crate::{Digest, Id};

/// What a synchronisation will have made durable when it has succeeded. One at a time.
#[derive(Debug)]
pub struct Synchronisation {
    disk: Disk,
    file: File,
    log: Id,
    segment: u64,
    /// Where the bytes begin.
    at: u64,
    bytes: usize,
    upto: (u64, Digest),
}

impl Synchronisation {
    /// Waits for the disk. For any thread.
    ///
    /// # Errors
    /// The system's reason; it is told to [`Log::synchronised`] too.
    pub fn wait(&self) -> io::Result<()> {
        self.disk.sync(&self.file)
    }
}

impl Log {
    /// Begins to make durable what was appended; `None` when there is nothing to do.
    ///
    /// # Errors
    /// [`LogError::Disk`]; it can be tried again.
    pub fn synchronise(&mut self) -> Result<Option<Synchronisation>, LogError> {
        if self.waiting.is_empty() && !self.failed {
            return Ok(None);
        }
        self.write()?;
        let file = self
            .file
            .try_clone()
            .map_err(|source| self.disk_error("be made durable", source))?;
        Ok(Some(Synchronisation {
            disk: self.disk.clone(),
            file,
            log: self.id,
            segment: self.segment,
            at: self.length,
            bytes: self.waiting.len(),
            upto: (self.count, self.head),
        }))
    }

    /// Takes note of how it ended.
    ///
    /// # Errors
    /// [`LogError::Disk`] when it failed: everything is written again with the next.
    pub fn synchronised(
        &mut self,
        done: &Synchronisation,
        result: io::Result<()>,
    ) -> Result<(), LogError> {
        if (done.log, done.segment, done.at) != (self.id, self.segment, self.length) {
            // A new file or log was begun, or these bytes were made durable, meanwhile.
            return Ok(());
        }
        if let Err(source) = result {
            self.failed = true;
            return Err(self.disk_error("be made durable", source));
        }
        if self.failed {
            return Ok(());
        }
        self.length += u64::try_from(done.bytes).unwrap_or(u64::MAX);
        self.waiting.drain(..done.bytes);
        self.written -= done.bytes;
        self.durable = done.upto;
        Ok(())
    }
}
