//! Reading a file: decided anew at each piece, opened chunk by chunk.
//!
//! An attachment that does not exist, is not here, or may not be read gives the same answer. It serves nothing.

use std::sync::Arc;

use zeroize::Zeroizing;

use super::bounds::NotKept;
use super::chunks::CHUNK;
use super::fetching::{Attempt, Judgement};
use super::files::{Content, FileName};
use super::rows::{Refusal, Row, State};
use crate::database::Database;
use crate::key::{Kind, Tag};
use crate::{Error, Personal, Store};

/// How an attachment stands, for those who may read its note.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Standing {
    /// It can be read here.
    Readable,
    /// It is still to be fetched, or to be looked into.
    Coming,
    /// It is not kept here by the policy; the city has it.
    NotKept(NotKept),
    /// It was refused.
    Refused(Refusal),
}

/// An attachment that this user may read.
pub struct StoredAttachment {
    /// The file name; it may name a person.
    pub name: Personal,
    /// The media type, as the feed gives it.
    pub media_type: String,
    /// Bytes.
    pub size: u64,
    /// SHA-256 in hexadecimal.
    pub sha256: String,
    store: Store,
    user: String,
    tag: Tag,
    file: FileName,
    content: Arc<Content>,
}

impl std::fmt::Debug for StoredAttachment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoredAttachment")
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

/// What [`Database::attachment`] found.
pub(crate) struct Found {
    pub(crate) person: String,
    name: Personal,
    media_type: String,
    size: u64,
    sha256: String,
    tag: Tag,
    file: FileName,
    content: Content,
}

impl Found {
    pub(crate) fn for_user(self, store: Store, user: String) -> StoredAttachment {
        StoredAttachment {
            name: self.name,
            media_type: self.media_type,
            size: self.size,
            sha256: self.sha256,
            store,
            user,
            tag: self.tag,
            file: self.file,
            content: Arc::new(self.content),
        }
    }
}

impl StoredAttachment {
    /// The readable bytes from `offset` on, at most one chunk (64 KiB) of them, none at the end. `None`: this user may not
    /// read it any more, or it is gone.
    ///
    /// # Errors
    /// [`Error::AttachmentLost`] when the file is not what was written; it is then fetched again.
    pub async fn piece(&self, offset: u64) -> Result<Option<Zeroizing<Vec<u8>>>, Error> {
        let (user, tag, file) = (self.user.clone(), self.tag, self.file);
        let still = move |database: &mut Database| database.may_go_on(&user, &tag, &file);
        self.store.permitted()?;
        if !self.store.run(still).await? {
            return Ok(None);
        }
        if offset >= self.size {
            return Ok(Some(Zeroizing::default()));
        }
        let number = u32::try_from(offset / CHUNK as u64).map_err(|_| Error::Damaged)?;
        let skipped = usize::try_from(offset % CHUNK as u64).map_err(|_| Error::Damaged)?;
        let content = Arc::clone(&self.content);
        let chunk = tokio::task::spawn_blocking(move || content.chunk(number))
            .await
            .map_err(|_| Error::Closed)?;
        match chunk {
            Ok(mut chunk) => {
                chunk.copy_within(skipped.., 0);
                let left = chunk.len().saturating_sub(skipped);
                chunk.truncate(left);
                Ok(Some(chunk))
            }
            Err(error @ Error::AttachmentLost) => {
                let attempt = Attempt::of(tag, Some(file));
                let again = move |database: &mut Database| {
                    database.judge_attachment(&attempt, Judgement::Lost)
                };
                self.store.run(again).await?;
                Err(error)
            }
            Err(error) => Err(error),
        }
    }
}

impl Database {
    /// The row, if this user may read the person it belongs to and its note is there.
    fn row_for(
        &self,
        user: &str,
        tag: &Tag,
    ) -> Result<Option<(Row, Arc<crate::permission::PersonRow>)>, Error> {
        if self.staff(user)?.is_none() {
            return Ok(None);
        }
        let row = Row::find(&self.connection, tag)?;
        // No person has an attachment's tag: what does not exist takes the same work as what may not be read.
        let person = row.as_ref().map_or(*tag, |row| row.person);
        Ok(row.zip(self.readable(user, &person)?))
    }

    /// The attachment, if it is readable at all and this user may read it.
    pub(crate) fn attachment(&mut self, user: &str, id: &str) -> Result<Option<Found>, Error> {
        let tag = self.keys.tag(Kind::Attachment, id);
        let Some((row, person)) = self.row_for(user, &tag)? else {
            return Ok(None);
        };
        let (State::Readable, Some(file)) = (row.state, row.file) else {
            return Ok(None);
        };
        let body = row.open(&person.cipher)?;
        let content = match self.content(&row, &body) {
            Ok(content) => content,
            Err(Error::AttachmentLost) => {
                self.judge_attachment(&Attempt::of(tag, Some(file)), Judgement::Lost)?;
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        Ok(Some(Found {
            person: person.id.clone(),
            name: body.name,
            media_type: body.media_type,
            size: u64::try_from(row.size).unwrap_or_default(),
            sha256: body.sha256,
            tag,
            file,
            content,
        }))
    }

    fn may_go_on(&self, user: &str, tag: &Tag, file: &FileName) -> Result<bool, Error> {
        let row = self.row_for(user, tag)?;
        Ok(row.is_some_and(|(row, _)| row.state == State::Readable && row.file == Some(*file)))
    }

    /// How these attachments of one person stand, in the order asked for. `None` when there is no such person for this user;
    /// inside, `None` for one that is wanted: whether it is going to be fetched only [`Self::standings`] can say, which
    /// knows the bounds.
    pub(crate) fn settled_standings(
        &self,
        user: &str,
        person: &str,
        ids: &[String],
    ) -> Result<Option<Vec<Option<Standing>>>, Error> {
        self.standings_by(user, person, ids, |_| Ok(None))
    }

    /// As [`Self::settled_standings`], with those that are wanted.
    pub(crate) fn standings(
        &self,
        user: &str,
        person: &str,
        ids: &[String],
        now: i64,
    ) -> Result<Option<Vec<Standing>>, Error> {
        let standings = self.standings_by(user, person, ids, |tag| {
            Ok(Some(match self.why_not_kept(tag, now)? {
                Some(why) => Standing::NotKept(why),
                None => Standing::Coming,
            }))
        })?;
        Ok(standings.map(|standings| standings.into_iter().flatten().collect()))
    }

    fn standings_by(
        &self,
        user: &str,
        person: &str,
        ids: &[String],
        wanted: impl Fn(&Tag) -> Result<Option<Standing>, Error>,
    ) -> Result<Option<Vec<Option<Standing>>>, Error> {
        let person = self.keys.tag(Kind::Person, person);
        if self.may_read(user, &person)?.is_none() {
            return Ok(None);
        }
        ids.iter()
            .map(|id| {
                let tag = self.keys.tag(Kind::Attachment, id);
                let row = Row::find(&self.connection, &tag)?.filter(|row| row.person == person);
                Ok(match row.map(|row| row.state) {
                    None => Some(Standing::Refused(Refusal::Absent)),
                    Some(State::Readable) => Some(Standing::Readable),
                    Some(State::Refused(why)) => Some(Standing::Refused(why)),
                    Some(State::Wanted) => wanted(&tag)?,
                    Some(State::Partial | State::Fetched) => Some(Standing::Coming),
                })
            })
            .collect::<Result<_, Error>>()
            .map(Some)
    }
}
