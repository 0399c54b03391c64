//! One row for each attachment that a note names: what the feed said of it, and how far the box has got with it.
//!
//! A row's body is sealed under the person's key and bound to everything that stands beside it unsealed: whoever has the
//! disk cannot call a file readable that is not. Nothing here touches files; those that no row names any more are listed
//! by the schema's triggers in `erased_files`.

use rusqlite::{Connection, OptionalExtension, Row as SqlRow, params};

use zeroize::Zeroizing;

use super::chunks::FileKey;
use super::files::FileName;
use crate::key::{Cipher, Keyring, Kind, TAG, Tag, identity};
use crate::pack::{Unpack, pack};
use crate::writing::Writing;
use crate::{Attachment, Error, Personal};

/// The most attachments of one note; the rest stay at the city.
const MOST_OF_A_NOTE: usize = 32;

/// What the database takes for an attachment beside the words of the feed: the key of its file, tags, numbers, five indices.
const ROW: usize = 420;

/// Why an attachment is not kept although the policy would have it. What was wrong on the city's side is tried again when
/// it sends the note again; what was found in the file stays until it is another file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// Malware was found in it.
    Infected,
    /// It cannot be looked into (「検査できないファイル」).
    Unscannable,
    /// Its kind is held back (第25条).
    Kind,
    /// What the city sent is not what its feed announced.
    WrongContent,
    /// The city does not have it, or not for this facility.
    Absent,
    /// It could be read until a newer database of the scanner found malware in it.
    Withdrawn,
}

/// How far the box has got with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum State {
    /// Nothing is here.
    Wanted,
    /// Some of it may be here.
    Partial,
    /// All of it is here, and nobody has looked into it.
    Fetched,
    /// It is what was announced, and clean.
    Readable,
    /// It is not kept.
    Refused(Refusal),
}

impl State {
    pub(crate) const fn code(self) -> i64 {
        match self {
            Self::Wanted => 0,
            Self::Partial => 1,
            Self::Fetched => 2,
            Self::Readable => 3,
            Self::Refused(Refusal::Infected) => 4,
            Self::Refused(Refusal::Unscannable) => 5,
            Self::Refused(Refusal::Kind) => 6,
            Self::Refused(Refusal::WrongContent) => 7,
            Self::Refused(Refusal::Absent) => 8,
            Self::Refused(Refusal::Withdrawn) => 9,
        }
    }

    pub(crate) const fn of(code: i64) -> Result<Self, Error> {
        Ok(match code {
            0 => Self::Wanted,
            1 => Self::Partial,
            2 => Self::Fetched,
            3 => Self::Readable,
            4 => Self::Refused(Refusal::Infected),
            5 => Self::Refused(Refusal::Unscannable),
            6 => Self::Refused(Refusal::Kind),
            7 => Self::Refused(Refusal::WrongContent),
            8 => Self::Refused(Refusal::Absent),
            9 => Self::Refused(Refusal::Withdrawn),
            _ => return Err(Error::Damaged),
        })
    }

    /// Whether bytes of it are on the disk.
    const fn has_file(self) -> bool {
        matches!(self, Self::Partial | Self::Fetched | Self::Readable)
    }
}

/// A row as it stands in the table.
pub(crate) struct Row {
    pub(crate) tag: Tag,
    pub(crate) note: Tag,
    pub(crate) person: Tag,
    pub(crate) time: i64,
    pub(crate) size: i64,
    pub(crate) state: State,
    pub(crate) file: Option<FileName>,
    /// Under the how manieth database of the scanner it was looked into.
    pub(crate) judged: i64,
    body: Vec<u8>,
}

/// A row's body, opened.
pub(crate) struct Body {
    pub(crate) id: String,
    pub(crate) name: Personal,
    pub(crate) media_type: String,
    pub(crate) sha256: String,
    /// While there is a file.
    pub(crate) key: Option<FileKey>,
    /// How often what came was not what was announced.
    pub(crate) wrong: i64,
}

impl Body {
    pub(crate) fn parse(packed: &[u8]) -> Result<Self, Error> {
        let mut fields = Unpack::new(packed);
        let body = Self {
            id: fields.text()?.to_owned(),
            name: Personal::new(fields.text()?),
            media_type: fields.text()?.to_owned(),
            sha256: fields.text()?.to_owned(),
            key: match fields.bytes()? {
                [] => None,
                key => Some(FileKey::from_slice(key)?),
            },
            wrong: fields.number()?,
        };
        if fields.is_empty() {
            Ok(body)
        } else {
            Err(Error::Damaged)
        }
    }

    pub(crate) fn pack(&self) -> Result<Zeroizing<Vec<u8>>, Error> {
        pack(&[
            self.id.as_bytes(),
            self.name.reveal().as_bytes(),
            self.media_type.as_bytes(),
            self.sha256.as_bytes(),
            self.key.as_ref().map_or(&[], FileKey::as_bytes),
            &self.wrong.to_be_bytes(),
        ])
    }
}

const COLUMNS: &str = "tag, note, person, time, size, state, file, body, judged";

impl Row {
    fn read(row: &SqlRow<'_>) -> rusqlite::Result<(Self, i64, Vec<u8>)> {
        let row_of = Self {
            tag: row.get(0)?,
            note: row.get(1)?,
            person: row.get(2)?,
            time: row.get(3)?,
            size: row.get(4)?,
            state: State::Wanted,
            file: None,
            judged: row.get(8)?,
            body: row.get(7)?,
        };
        Ok((row_of, row.get(5)?, row.get(6)?))
    }

    fn checked((row, state, file): (Self, i64, Vec<u8>)) -> Result<Self, Error> {
        let state = State::of(state)?;
        let file = match (state.has_file(), file.len()) {
            (false, 0) => None,
            (true, _) => Some(FileName::try_from(file).map_err(|_| Error::Damaged)?),
            (false, _) => return Err(Error::Damaged),
        };
        Ok(Self { state, file, ..row })
    }

    pub(crate) fn find(connection: &Connection, tag: &Tag) -> Result<Option<Self>, Error> {
        connection
            .prepare_cached(&format!("SELECT {COLUMNS} FROM attachments WHERE tag = ?1"))
            .and_then(|mut query| query.query_row([tag], Self::read).optional())
            .map_err(Error::database("find an attachment"))?
            .map(Self::checked)
            .transpose()
    }

    /// All of one person's, in no order.
    pub(crate) fn of_person(connection: &Connection, person: &Tag) -> Result<Vec<Self>, Error> {
        let rows: Vec<_> = connection
            .prepare_cached(&format!(
                "SELECT {COLUMNS} FROM attachments WHERE person = ?1"
            ))
            .and_then(|mut query| query.query_map([person], Self::read)?.collect())
            .map_err(Error::database("list a person's attachments"))?;
        rows.into_iter().map(Self::checked).collect()
    }

    /// Those with these states (codes from `least` to `most`), newest first.
    pub(crate) fn list(
        connection: &Connection,
        least: State,
        most: State,
    ) -> Result<Vec<Self>, Error> {
        let rows: Vec<_> = connection
            .prepare_cached(&format!(
                "SELECT {COLUMNS} FROM attachments WHERE state BETWEEN ?1 AND ?2 ORDER BY time DESC, tag DESC"
            ))
            .and_then(|mut query| {
                query
                    .query_map([least.code(), most.code()], Self::read)?
                    .collect()
            })
            .map_err(Error::database("list attachments"))?;
        rows.into_iter().map(Self::checked).collect()
    }

    /// At most `most` that can be read and were looked into under an older database than this, those longest ago first.
    pub(crate) fn judged_before(
        connection: &Connection,
        epoch: i64,
        most: usize,
    ) -> Result<Vec<Self>, Error> {
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let rows: Vec<_> = connection
            .prepare_cached(&format!(
                "SELECT {COLUMNS} FROM attachments WHERE state = 3 AND judged < ?1
                 ORDER BY judged, time DESC LIMIT ?2"
            ))
            .and_then(|mut query| query.query_map([epoch, most], Self::read)?.collect())
            .map_err(Error::database("list attachments"))?;
        rows.into_iter().map(Self::checked).collect()
    }

    fn identity(&self) -> Vec<u8> {
        identity(
            b"attachment",
            &[
                &self.tag,
                &self.note,
                &self.person,
                &self.time.to_be_bytes(),
                &self.size.to_be_bytes(),
                &self.state.code().to_be_bytes(),
                self.file.as_ref().map_or(&[], |file| file.as_slice()),
                &self.judged.to_be_bytes(),
            ],
        )
    }

    pub(crate) fn open(&self, cipher: &Cipher) -> Result<Body, Error> {
        let body = Body::parse(&cipher.open(&self.identity(), &self.body)?)?;
        if body.key.is_some() == self.file.is_some() {
            Ok(body)
        } else {
            Err(Error::Damaged)
        }
    }

    fn seal(&mut self, cipher: &Cipher, body: &Body) -> Result<(), Error> {
        self.body = cipher.seal(&self.identity(), &body.pack()?)?;
        Ok(())
    }

    /// Writes the row anew, sealed as it stands now.
    pub(crate) fn put(
        &mut self,
        connection: &Connection,
        cipher: &Cipher,
        body: &Body,
    ) -> Result<(), Error> {
        self.seal(cipher, body)?;
        let file = self.file.as_ref().map_or(&[][..], |file| file.as_slice());
        connection
            .prepare_cached(
                "INSERT INTO attachments (tag, note, person, time, size, state, file, body, judged, loose)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, 0)
                 ON CONFLICT (tag) DO UPDATE SET note = excluded.note, person = excluded.person, time = excluded.time,
                     size = excluded.size, state = excluded.state, file = excluded.file, body = excluded.body,
                     judged = excluded.judged, loose = 0",
            )
            .and_then(|mut statement| {
                statement.execute(params![
                    self.tag,
                    self.note,
                    self.person,
                    self.time,
                    self.size,
                    self.state.code(),
                    file,
                    self.body,
                    self.judged
                ])
            })
            .map(drop)
            .map_err(Error::database("store an attachment's row"))
    }

    /// Lets go of the file, its key first: the row that is put next has neither.
    pub(crate) fn without_file(&mut self, body: &mut Body, state: State) {
        self.state = state;
        self.file = None;
        body.key = None;
    }
}

/// What the rows of a note's attachments take, whatever has come of them; their files are counted for themselves.
pub(crate) fn bytes_of_rows(attachments: &[Attachment]) -> usize {
    let row = |attachment: &Attachment| {
        let Attachment {
            id,
            name,
            media_type,
            size: _,
            sha256,
        } = attachment;
        ROW + id.len() + name.reveal().len() + media_type.len() + sha256.len()
    };
    attachments.iter().take(MOST_OF_A_NOTE).map(row).sum()
}

impl Writing<'_> {
    /// Notes the attachments of a note that has just been written. A file that is here already stays.
    pub(crate) fn attach(
        &mut self,
        (note, person): (&Tag, &Tag),
        time: i64,
        cipher: &Cipher,
        attachments: &[Attachment],
    ) -> Result<(), Error> {
        for attachment in attachments.iter().take(MOST_OF_A_NOTE) {
            let Ok(size) = i64::try_from(attachment.size) else {
                continue;
            };
            let tag = self.keys.tag(Kind::Attachment, &attachment.id);
            let known = Row::find(self.transaction, &tag)?
                .filter(|row| row.person == *person && row.size == size);
            let known = match known {
                Some(row) => {
                    let body = row.open(cipher)?;
                    (body.sha256 == attachment.sha256).then_some((row, body))
                }
                None => None,
            };
            let (mut row, mut body) = known.unwrap_or_else(|| (fresh(tag, *person, size), empty()));
            body.id.clone_from(&attachment.id);
            body.name = Personal::new(attachment.name.reveal());
            body.media_type.clone_from(&attachment.media_type);
            body.sha256.clone_from(&attachment.sha256);
            // Sent anew: the city may have put right what was wrong on its side. What is infected stays so.
            if matches!(
                row.state,
                State::Refused(Refusal::Absent | Refusal::WrongContent)
            ) {
                (row.state, body.wrong) = (State::Wanted, 0);
            }
            (row.note, row.time) = (*note, time);
            row.put(self.transaction, cipher, &body)?;
        }
        Ok(())
    }

    /// Lets go of attachments whose note is gone or no longer names them, and of the oldest files beyond the bounds.
    /// To be called once before each commit.
    pub(crate) fn settle_attachments(&mut self) -> Result<(), Error> {
        self.let_loose_attachments_go()?;
        let bytes = i64::try_from(self.limits.bytes).unwrap_or(i64::MAX);
        let room = bytes.saturating_sub(self.totals.bytes).max(0);
        let mut stored = stored_bytes(self.transaction)?;
        if stored <= room {
            return Ok(());
        }
        let newest_first = Row::list(self.transaction, State::Partial, State::Readable)?;
        for mut row in newest_first.into_iter().rev() {
            if stored <= room {
                break;
            }
            stored -= row.size;
            drop_file(self.transaction, self.keys, &mut row)?;
            self.erased = true;
        }
        Ok(())
    }
}

impl Writing<'_> {
    /// Of these, those whose note is gone or no longer names them.
    pub(crate) fn let_loose_attachments_go(&mut self) -> Result<(), Error> {
        let gone = self
            .transaction
            .prepare_cached("DELETE FROM attachments WHERE loose = 1")
            .and_then(|mut delete| delete.execute([]))
            .map_err(Error::database("delete attachments"))?;
        self.erased |= gone > 0;
        Ok(())
    }
}

/// Takes a row's file away; the attachment is wanted again, should there be room.
pub(crate) fn drop_file(
    connection: &Connection,
    keys: &Keyring,
    row: &mut Row,
) -> Result<(), Error> {
    let cipher =
        crate::writing::person_cipher(connection, keys, &row.person)?.ok_or(Error::Damaged)?;
    let mut body = row.open(&cipher)?;
    row.without_file(&mut body, State::Wanted);
    row.put(connection, &cipher, &body)
}

/// The readable size of all files that are here, in whole or in part.
pub(crate) fn stored_bytes(connection: &Connection) -> Result<i64, Error> {
    connection
        .prepare_cached(
            "SELECT coalesce(sum(size), 0) FROM attachments WHERE state BETWEEN 1 AND 3",
        )
        .and_then(|mut query| query.query_row([], |row| row.get(0)))
        .map_err(Error::database("count attachments"))
}

const fn fresh(tag: Tag, person: Tag, size: i64) -> Row {
    Row {
        tag,
        note: [0; TAG],
        person,
        time: 0,
        size,
        state: State::Wanted,
        file: None,
        judged: 0,
        body: Vec::new(),
    }
}

fn empty() -> Body {
    Body {
        id: String::new(),
        name: Personal::default(),
        media_type: String::new(),
        sha256: String::new(),
        key: None,
        wrong: 0,
    }
}
