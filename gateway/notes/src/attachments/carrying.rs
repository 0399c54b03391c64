//! From one database to the next: files that were fetched and looked into already are not fetched again only because the
//! feed had to be followed from the beginning.
//!
//! Only what the new database wants itself is carried over: same id, same digest. The file is linked, not copied; its key
//! is sealed anew under the new database's key of the person.

use super::fetching::Ciphers;
use super::files::Directory;
use super::rows::{Body, Refusal, Row, State};
use crate::Error;
use crate::database::Database;
use crate::key::{Cipher, Kind};
use crate::writing::person_cipher;

impl Database {
    /// Takes over what `old` has of the attachments that are wanted here. Answers how many.
    pub(crate) fn adopt_attachments(&mut self, old: &Self) -> Result<usize, Error> {
        let mut ciphers = Ciphers::new(old);
        let mut adopted = Vec::new();
        let withdrawn = State::Refused(Refusal::Withdrawn);
        let mut known = Row::list(
            &old.connection,
            State::Readable,
            State::Refused(Refusal::Kind),
        )?;
        known.extend(Row::list(&old.connection, withdrawn, withdrawn)?);
        self.adopt_count(old)?;
        for theirs in known {
            if let Some(body) = ciphers.open(&theirs)? {
                adopted.extend(self.adopted(&theirs, body)?);
            }
        }
        let files: Vec<_> = adopted.iter().filter_map(|(row, ..)| row.file).collect();
        Directory::of(&self.directory).link(&Directory::of(&old.directory), &files)?;
        let transaction = self
            .connection
            .transaction()
            .map_err(Error::database("begin"))?;
        for (row, body, cipher) in &mut adopted {
            row.put(&transaction, cipher, body)?;
        }
        transaction.commit().map_err(Error::database("commit"))?;
        Ok(adopted.len())
    }

    /// Our row as it is to be, if it is about the same file and nothing has come of it yet.
    fn adopted(
        &self,
        theirs: &Row,
        their_body: Body,
    ) -> Result<Option<(Row, Body, Cipher)>, Error> {
        let tag = self.keys.tag(Kind::Attachment, &their_body.id);
        let ours = Row::find(&self.connection, &tag)?
            .filter(|row| row.state == State::Wanted && row.size == theirs.size);
        let Some(mut row) = ours else {
            return Ok(None);
        };
        let Some(cipher) = person_cipher(&self.connection, &self.keys, &row.person)? else {
            return Ok(None);
        };
        let mut body = row.open(&cipher)?;
        if body.sha256 != their_body.sha256 {
            return Ok(None);
        }
        (row.state, row.file, body.key) = (theirs.state, theirs.file, their_body.key);
        row.judged = theirs.judged;
        Ok(Some((row, body, cipher)))
    }
}
