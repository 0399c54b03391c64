//! What is to be fetched, and what became of it: the steps from wanted to readable, each of which survives a crash.
//!
//! Wanted → partial (a file is made, then the row names it) → fetched (the file is whole and on the disk) → readable or
//! refused (what came was compared with the feed's digest and scanned by the caller). It fetches and scans nothing itself.

use std::collections::HashMap;

use super::bounds::NotKept;
use super::chunks::FileKey;
use super::files::{Content, Directory, FileName, Incoming};
use super::rows::{Body, Refusal, Row, State, drop_file};
use crate::Error;
use crate::database::{Database, checkpoint};
use crate::key::{Cipher, Tag};
use crate::writing::person_cipher;

/// How often a file whose content was wrong is fetched anew before it is refused.
const WRONG_TWICE: i64 = 2;

/// One attempt at one attachment: worth nothing any more once its note is gone or it has been begun anew.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Attempt {
    tag: Tag,
    file: Option<FileName>,
    /// Of the scanner's database when it was listed.
    epoch: i64,
}

impl Attempt {
    pub(crate) const fn of(tag: Tag, file: Option<FileName>) -> Self {
        Self {
            tag,
            file,
            epoch: 0,
        }
    }
}

impl std::fmt::Debug for Attempt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Attempt(..)")
    }
}

/// An attachment that is to be fetched.
#[derive(Debug)]
pub struct Wanted {
    /// For [`crate::Store::begin_attachment`].
    pub attempt: Attempt,
    /// The city's id.
    pub id: String,
    /// Bytes.
    pub size: u64,
    /// Its SHA-256 in hexadecimal, as the feed gives it; the city's entity tag.
    pub sha256: String,
}

/// An attachment that is complete and waits to be looked into.
#[derive(Debug)]
pub struct Unjudged {
    /// For [`crate::Store::judge_attachment`].
    pub attempt: Attempt,
    /// Bytes.
    pub size: u64,
    /// Its SHA-256 in hexadecimal, as the feed gives it.
    pub sha256: String,
    /// The media type, as the feed gives it.
    pub media_type: String,
    /// The end of its file name, from the last dot on, in lower case; what it claims to be.
    pub extension: String,
    pub(crate) content: Content,
}

impl Unjudged {
    /// Hands the readable bytes to `take`, piece by piece. Blocks on the disk.
    ///
    /// # Errors
    /// [`Error::AttachmentLost`] when the file is not what was written.
    pub fn read(&self, mut take: impl FnMut(&[u8])) -> Result<(), Error> {
        (0..self.content.chunks())
            .try_for_each(|number| self.content.chunk(number).map(|chunk| take(&chunk)))
    }
}

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Content(..)")
    }
}

/// What was found of a complete attachment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// It is what the feed announced, and clean.
    Readable,
    /// It is not what the feed announced; it is fetched once more, and then refused.
    Wrong,
    /// Its file is damaged; it is fetched again.
    Lost,
    /// It is not kept.
    Refused(Refusal),
}

/// How the attachments stand, in numbers only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AttachmentCounts {
    /// Named by notes that are stored and to be kept by the policy.
    pub total: u64,
    /// Of these, readable or refused for good.
    pub done: u64,
    /// Of these, refused for good.
    pub refused: u64,
    /// Named by notes, but not to be kept by the policy.
    pub not_kept: u64,
    /// Readable bytes of all files here, in whole or in part.
    pub bytes: u64,
    /// Of the readable ones, those that the scanner's newest database has not seen.
    pub unseen: u64,
}

/// The persons' ciphers, each found once.
pub(super) struct Ciphers<'a> {
    database: &'a Database,
    known: HashMap<Tag, Cipher>,
}

impl<'a> Ciphers<'a> {
    pub(super) fn new(database: &'a Database) -> Self {
        Self {
            database,
            known: HashMap::new(),
        }
    }

    pub(super) fn open(&mut self, row: &Row) -> Result<Option<Body>, Error> {
        if !self.known.contains_key(&row.person) {
            let Database {
                connection, keys, ..
            } = self.database;
            let Some(cipher) = person_cipher(connection, keys, &row.person)? else {
                return Ok(None);
            };
            self.known.insert(row.person, cipher);
        }
        self.known
            .get(&row.person)
            .map(|cipher| row.open(cipher))
            .transpose()
    }
}

impl Database {
    /// Each attachment that is not refused, newest first, with what the policy and the room say of it.
    fn admitted(
        &self,
        now: i64,
        mut each: impl FnMut(Row, Body, Result<(), NotKept>) -> bool,
    ) -> Result<(), Error> {
        let mut ciphers = Ciphers::new(self);
        let (room, mut taken) = (self.room_for_attachments(), 0_i64);
        for row in Row::list(&self.connection, State::Wanted, State::Readable)? {
            let Some(body) = ciphers.open(&row)? else {
                continue;
            };
            let admitted = self.attachments.admits(&row, &body, now).and_then(|()| {
                match taken.checked_add(row.size) {
                    Some(sum) if sum <= room => {
                        taken = sum;
                        Ok(())
                    }
                    _ => Err(NotKept::NoRoom),
                }
            });
            if !each(row, body, admitted) {
                break;
            }
        }
        Ok(())
    }

    /// At most `most` attachments to be fetched, newest first.
    pub(crate) fn wanted_attachments(&self, now: i64, most: usize) -> Result<Vec<Wanted>, Error> {
        let mut wanted = Vec::new();
        self.admitted(now, |row, body, admitted| {
            if admitted.is_ok() && matches!(row.state, State::Wanted | State::Partial) {
                wanted.push(Wanted {
                    attempt: attempt(&row),
                    id: body.id,
                    size: u64::try_from(row.size).unwrap_or_default(),
                    sha256: body.sha256,
                });
            }
            wanted.len() < most
        })?;
        Ok(wanted)
    }

    pub(crate) fn attachment_counts(&self, now: i64) -> Result<AttachmentCounts, Error> {
        let refused = Row::list(
            &self.connection,
            State::Refused(Refusal::Infected),
            State::Refused(Refusal::Withdrawn),
        )?;
        let refused = refused.len() as u64;
        let mut counts = AttachmentCounts {
            refused,
            done: refused,
            total: refused,
            bytes: u64::try_from(self.attachment_bytes()?).unwrap_or_default(),
            unseen: self.unseen_attachments()?,
            ..AttachmentCounts::default()
        };
        self.admitted(now, |row, _, admitted| {
            match admitted {
                Ok(()) => {
                    counts.total += 1;
                    counts.done += u64::from(row.state == State::Readable);
                }
                Err(_) => counts.not_kept += 1,
            }
            true
        })?;
        Ok(counts)
    }

    /// What keeps a wanted attachment from being fetched.
    pub(crate) fn why_not_kept(&self, tag: &Tag, now: i64) -> Result<Option<NotKept>, Error> {
        let mut why = None;
        self.admitted(now, |row, _, admitted| {
            if row.tag == *tag {
                why = admitted.err();
            }
            row.tag != *tag
        })?;
        Ok(why)
    }

    fn row_of(&self, attempt: &Attempt) -> Result<Option<Row>, Error> {
        let row = Row::find(&self.connection, &attempt.tag)?;
        Ok(row.filter(|row| row.file == attempt.file))
    }

    fn directory_of_files(&self) -> Directory {
        Directory::of(&self.directory)
    }

    /// Makes or opens the file; `None` when the attachment is not wanted any more.
    pub(crate) fn begin_attachment(
        &mut self,
        asked: &Attempt,
        now: i64,
    ) -> Result<Option<(Attempt, Incoming)>, Error> {
        let Some(mut row) = self.row_of(asked)? else {
            return Ok(None);
        };
        let Some(cipher) = person_cipher(&self.connection, &self.keys, &row.person)? else {
            return Ok(None);
        };
        let mut body = row.open(&cipher)?;
        let directory = self.directory_of_files();
        let size = u64::try_from(row.size).map_err(|_| Error::Damaged)?;
        match (row.state, &body.key, row.file) {
            (State::Partial, Some(key), Some(file)) => {
                match Incoming::open(&directory.path(&file), key.cipher()?, size) {
                    Ok(incoming) => return Ok(Some((attempt(&row), incoming))),
                    // The file went with a power cut: from the beginning, under another key.
                    Err(Error::AttachmentLost) => {}
                    Err(error) => return Err(error),
                }
            }
            (State::Wanted, None, None) => {}
            _ => return Ok(None),
        }
        let (key, file) = (FileKey::generate()?, directory.create()?);
        let incoming = Incoming::open(&directory.path(&file), key.cipher()?, size)?;
        (row.state, row.file, body.key) = (State::Partial, Some(file), Some(key));
        row.put(&self.connection, &cipher, &body)?;
        self.make_room(now)?;
        Ok(Some((attempt(&row), incoming)))
    }

    /// Lets go of the files that newer ones leave no room for, once there is too much.
    fn make_room(&mut self, now: i64) -> Result<(), Error> {
        if self.attachment_bytes()? <= self.room_for_attachments() {
            return Ok(());
        }
        let mut beyond = Vec::new();
        self.admitted(now, |row, _, admitted| {
            if admitted.is_err() && row.file.is_some() {
                beyond.push(row);
            }
            true
        })?;
        for row in &mut beyond {
            drop_file(&self.connection, &self.keys, row)?;
        }
        self.let_files_go()
    }

    /// Begins anew with an empty file and another key: what the city has now is not what it had when this began.
    pub(crate) fn restart_attachment(
        &mut self,
        asked: &Attempt,
        now: i64,
    ) -> Result<Option<(Attempt, Incoming)>, Error> {
        match self.step(asked, &[State::Partial], |row, body| {
            row.without_file(body, State::Wanted);
        })? {
            Some(wanted) => self.begin_attachment(&wanted, now),
            None => Ok(None),
        }
    }

    /// All of it is on the disk now.
    pub(crate) fn attachment_fetched(&mut self, asked: &Attempt) -> Result<bool, Error> {
        let done = self.step(asked, &[State::Partial], |row, _| {
            row.state = State::Fetched;
        })?;
        Ok(done.is_some())
    }

    /// An attachment that cannot be fetched.
    pub(crate) fn refuse_attachment(
        &mut self,
        asked: &Attempt,
        why: Refusal,
    ) -> Result<bool, Error> {
        let from = [State::Wanted, State::Partial];
        let done = self.step(asked, &from, |row, body| {
            row.without_file(body, State::Refused(why));
        })?;
        Ok(done.is_some())
    }

    /// Those that wait to be looked into, oldest last, at most `most`.
    pub(crate) fn unjudged_attachments(&mut self, most: usize) -> Result<Vec<Unjudged>, Error> {
        let mut rows = Row::list(&self.connection, State::Fetched, State::Fetched)?;
        rows.truncate(most);
        self.unjudged_of(rows)
    }

    /// With their content; those without any are wanted again.
    pub(super) fn unjudged_of(&mut self, rows: Vec<Row>) -> Result<Vec<Unjudged>, Error> {
        let epoch = self.scanner_epoch()?;
        let (mut unjudged, mut lost) = (Vec::new(), Vec::new());
        let mut ciphers = Ciphers::new(self);
        for row in rows {
            let Some(body) = ciphers.open(&row)? else {
                continue;
            };
            match self.content(&row, &body) {
                Ok(content) => unjudged.push(Unjudged {
                    attempt: Attempt {
                        epoch,
                        ..attempt(&row)
                    },
                    size: u64::try_from(row.size).unwrap_or_default(),
                    sha256: body.sha256,
                    media_type: body.media_type,
                    extension: extension(body.name.reveal()),
                    content,
                }),
                Err(Error::AttachmentLost) => lost.push(attempt(&row)),
                Err(error) => return Err(error),
            }
        }
        for attempt in lost {
            self.judge_attachment(&attempt, Judgement::Lost)?;
        }
        Ok(unjudged)
    }

    pub(crate) fn content(&self, row: &Row, body: &Body) -> Result<Content, Error> {
        let (Some(key), Some(file)) = (&body.key, row.file) else {
            return Err(Error::Damaged);
        };
        let size = u64::try_from(row.size).map_err(|_| Error::Damaged)?;
        Content::open(&self.directory_of_files().path(&file), key.cipher()?, size)
    }

    /// Says what was found. `false` when the attachment is not waiting for it any more.
    pub(crate) fn judge_attachment(
        &mut self,
        asked: &Attempt,
        judgement: Judgement,
    ) -> Result<bool, Error> {
        let from: &[State] = match judgement {
            Judgement::Lost => &[State::Partial, State::Fetched, State::Readable],
            Judgement::Wrong => &[State::Partial, State::Fetched],
            // What can be read may be looked into again.
            Judgement::Readable | Judgement::Refused(_) => &[State::Fetched, State::Readable],
        };
        let done = self.step(asked, from, |row, body| match judgement {
            Judgement::Readable => (row.state, row.judged) = (State::Readable, asked.epoch),
            Judgement::Lost => row.without_file(body, State::Wanted),
            Judgement::Refused(Refusal::Infected) if row.state == State::Readable => {
                row.without_file(body, State::Refused(Refusal::Withdrawn));
            }
            Judgement::Refused(why) => row.without_file(body, State::Refused(why)),
            Judgement::Wrong => {
                body.wrong += 1;
                let next = if body.wrong < WRONG_TWICE {
                    State::Wanted
                } else {
                    State::Refused(Refusal::WrongContent)
                };
                row.without_file(body, next);
            }
        })?;
        Ok(done.is_some())
    }

    /// One step of one attachment, and the end of its file if the step ends it.
    fn step(
        &mut self,
        asked: &Attempt,
        from: &[State],
        change: impl FnOnce(&mut Row, &mut Body),
    ) -> Result<Option<Attempt>, Error> {
        let Some(mut row) = self.row_of(asked)?.filter(|row| from.contains(&row.state)) else {
            return Ok(None);
        };
        let Some(cipher) = person_cipher(&self.connection, &self.keys, &row.person)? else {
            return Ok(None);
        };
        let mut body = row.open(&cipher)?;
        let had = row.file;
        change(&mut row, &mut body);
        row.put(&self.connection, &cipher, &body)?;
        if had != row.file {
            self.let_files_go()?;
        }
        Ok(Some(attempt(&row)))
    }

    /// Removes the files whose row is gone: after the log that may hold their key has been emptied.
    pub(crate) fn let_files_go(&mut self) -> Result<(), Error> {
        let names: Vec<FileName> = self
            .connection
            .prepare_cached("SELECT file FROM erased_files")
            .and_then(|mut query| query.query_map([], |row| row.get(0))?.collect())
            .map_err(Error::database("list erased files"))?;
        if names.is_empty() {
            return Ok(());
        }
        checkpoint(&self.connection)?;
        self.directory_of_files().remove(&names)?;
        self.connection
            .execute("DELETE FROM erased_files", [])
            .map(drop)
            .map_err(Error::database("forget erased files"))
    }

    /// On opening: removes what a crash left, files without a row and files whose row is gone.
    pub(crate) fn sweep_attachments(&mut self) -> Result<(), Error> {
        self.let_files_go()?;
        let rows = Row::list(&self.connection, State::Partial, State::Readable)?;
        let known = rows.iter().filter_map(|row| row.file).collect();
        self.directory_of_files().sweep(&known).map(drop)
    }
}

const fn attempt(row: &Row) -> Attempt {
    Attempt::of(row.tag, row.file)
}

/// From the last dot on, in lower case; nothing of the name itself.
fn extension(name: &str) -> String {
    name.rsplit_once('.')
        .map(|(_, extension)| extension.to_ascii_lowercase())
        .filter(|extension| extension.len() <= 16)
        .unwrap_or_default()
}
