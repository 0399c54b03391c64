//! What is kept: the bounds that the policy sets, and what becomes of files when it sets narrower ones.
//!
//! Text goes before files: when there are more bytes than allowed, the oldest files go first, and notes only when no file
//! is left. A note is some hundred bytes and a file some megabytes, so the other way round one picture would cost the
//! notes of a month.

use super::rows::{Body, Row, State, drop_file, stored_bytes};
use crate::database::Database;
use crate::file::{meta, set_meta};
use crate::{Error, Limits};

const DAY: i64 = 86_400;
/// In the database's own state: the policy has switched the store off, and nothing is taken in.
const OFF: &str = "switched-off";

/// Which attachments are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttachmentPolicy {
    /// Any at all.
    pub kept: bool,
    /// The largest, in bytes.
    pub largest: u64,
    /// Those of notes older than this many days are not kept.
    pub days: u32,
    /// Media types as the feed names them; `image/*` stands for all pictures. Empty: every type.
    pub media_types: Vec<String>,
}

impl Default for AttachmentPolicy {
    /// Ordinary documents and pictures of a month, each as large as the scanner takes.
    fn default() -> Self {
        Self {
            kept: true,
            largest: 50 * 1024 * 1024,
            days: 30,
            media_types: Vec::new(),
        }
    }
}

/// Why the policy does not have a file kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NotKept {
    /// The policy keeps no attachments.
    Off,
    /// It is larger than the policy allows.
    TooLarge,
    /// Its note is older than the policy allows.
    TooOld,
    /// Its media type is not among those the policy names.
    MediaType,
    /// Newer ones fill the room there is.
    NoRoom,
}

impl AttachmentPolicy {
    /// Whether this file is one to be kept, without regard to room.
    pub(crate) fn admits(&self, row: &Row, body: &Body, now: i64) -> Result<(), NotKept> {
        let oldest = now.saturating_sub(i64::from(self.days).saturating_mul(DAY));
        if !self.kept {
            Err(NotKept::Off)
        } else if u64::try_from(row.size).unwrap_or(u64::MAX) > self.largest {
            Err(NotKept::TooLarge)
        } else if row.time < oldest {
            Err(NotKept::TooOld)
        } else if !self.names(&body.media_type) {
            Err(NotKept::MediaType)
        } else {
            Ok(())
        }
    }

    fn names(&self, media_type: &str) -> bool {
        let essence = media_type.split(';').next().unwrap_or_default().trim();
        let is = |listed: &String| match listed.strip_suffix("/*") {
            Some(main) => essence
                .split_once('/')
                .is_some_and(|(of, _)| of.eq_ignore_ascii_case(main)),
            None => listed.eq_ignore_ascii_case(essence),
        };
        self.media_types.is_empty() || self.media_types.iter().any(is)
    }
}

impl Database {
    /// Puts new bounds in force, also narrower ones: what is beyond them is gone when this returns. `limits.days` of 0
    /// switches the store off: everything is erased, and nothing is taken in until it is switched on again.
    ///
    /// Answers whether everything is to be erased and the feed followed from the beginning; the caller does it, and then
    /// calls [`Database::remember_whether_off`].
    pub(crate) fn set_bounds(
        &mut self,
        limits: Limits,
        attachments: AttachmentPolicy,
        now: i64,
    ) -> Result<bool, Error> {
        let off = limits.days == 0;
        let was_off = meta(&self.connection, OFF)?.is_some();
        self.limits = limits;
        self.attachments = attachments;
        // Said again: what came in meanwhile, if anything did, goes too.
        if off != was_off || (off && self.holds_a_person()?) {
            return Ok(true);
        }
        self.tidy(now)?;
        Ok(false)
    }

    /// After everything was erased: that it is switched off outlives a restart.
    pub(crate) fn remember_whether_off(&self) -> Result<(), Error> {
        if self.limits.days == 0 {
            set_meta(&self.connection, OFF, &[1])?;
        }
        Ok(())
    }

    /// On opening: what the policy said last holds until it is heard again.
    pub(crate) fn stay_switched_off(&mut self) -> Result<(), Error> {
        if meta(&self.connection, OFF)?.is_some() {
            self.limits.days = 0;
        }
        Ok(())
    }

    fn holds_a_person(&self) -> Result<bool, Error> {
        self.connection
            .query_row("SELECT EXISTS (SELECT 1 FROM persons)", [], |row| {
                row.get(0)
            })
            .map_err(Error::database("look for persons"))
    }

    /// Takes away the files that the policy does not have kept by now.
    pub(crate) fn tidy_attachments(&mut self, now: i64) -> Result<(), Error> {
        let transaction = self
            .connection
            .transaction()
            .map_err(Error::database("begin"))?;
        let mut dropped = false;
        for mut row in Row::list(&transaction, State::Partial, State::Readable)? {
            let cipher = crate::writing::person_cipher(&transaction, &self.keys, &row.person)?
                .ok_or(Error::Damaged)?;
            let body = row.open(&cipher)?;
            if self.attachments.admits(&row, &body, now).is_err() {
                drop_file(&transaction, &self.keys, &mut row)?;
                dropped = true;
            }
        }
        transaction.commit().map_err(Error::database("commit"))?;
        if dropped {
            self.let_files_go()?;
        }
        Ok(())
    }

    /// Bytes that files may take: what the notes leave.
    pub(crate) fn room_for_attachments(&self) -> i64 {
        let bytes = i64::try_from(self.limits.bytes).unwrap_or(i64::MAX);
        bytes.saturating_sub(self.totals.bytes).max(0)
    }

    pub(crate) fn attachment_bytes(&self) -> Result<i64, Error> {
        stored_bytes(&self.connection)
    }
}
