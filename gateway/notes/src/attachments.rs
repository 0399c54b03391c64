//! Attachments: files that notes name, kept sealed, and readable only once they are whole, as announced and clean.
//!
//! The store's side of them. It fetches nothing and scans nothing: the daemon does both and says here what came of it
//! (docs/decisions/0017).

mod again;
mod bounds;
mod carrying;
mod chunks;
mod fetching;
mod files;
#[doc(hidden)]
pub mod fuzzing;
mod reading;
mod rows;

pub use bounds::{AttachmentPolicy, NotKept};
pub use fetching::{AttachmentCounts, Attempt, Judgement, Unjudged, Wanted};
pub use files::Incoming;
pub use reading::{Standing, StoredAttachment};
pub use rows::Refusal;

pub(crate) use files::erase_all;
pub(crate) use rows::{Row, bytes_of_rows};

use std::sync::Arc;

use crate::readers::Lane;
use crate::{Error, Limits, Looked, Store};

impl Store {
    /// Puts new bounds in force at once, also narrower ones; `limits.days` of 0 erases everything and takes nothing in.
    /// Answers whether the feed has to be followed from the beginning.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn set_bounds(
        &self,
        limits: Limits,
        attachments: AttachmentPolicy,
        now: i64,
    ) -> Result<bool, Error> {
        self.manage(move |cabinet| cabinet.set_bounds(limits, attachments, now))
            .await
    }

    /// At most `most` attachments that are to be fetched, those of the newest notes first.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn wanted_attachments(&self, now: i64, most: usize) -> Result<Vec<Wanted>, Error> {
        self.run(move |database| database.wanted_attachments(now, most))
            .await
    }

    /// How the attachments stand, in numbers.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn attachment_counts(&self, now: i64) -> Result<AttachmentCounts, Error> {
        self.run(move |database| database.attachment_counts(now))
            .await
    }

    /// Begins to take an attachment in, or goes on with one. `None`: it is not wanted any more.
    ///
    /// # Errors
    /// [`Error::AttachmentFile`] when the disk refuses.
    pub async fn begin_attachment(
        &self,
        attempt: Attempt,
        now: i64,
    ) -> Result<Option<(Attempt, Incoming)>, Error> {
        self.run(move |database| database.begin_attachment(&attempt, now))
            .await
    }

    /// Begins anew with nothing: the city answered with all of it where a part was asked for.
    ///
    /// # Errors
    /// As [`Store::begin_attachment`].
    pub async fn restart_attachment(
        &self,
        attempt: Attempt,
        now: i64,
    ) -> Result<Option<(Attempt, Incoming)>, Error> {
        self.run(move |database| database.restart_attachment(&attempt, now))
            .await
    }

    /// All of it is on the disk ([`Incoming::finish`]). `false`: it is not wanted any more.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn attachment_fetched(&self, attempt: Attempt) -> Result<bool, Error> {
        self.run(move |database| database.attachment_fetched(&attempt))
            .await
    }

    /// The city does not give it.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn refuse_attachment(&self, attempt: Attempt, why: Refusal) -> Result<bool, Error> {
        self.run(move |database| database.refuse_attachment(&attempt, why))
            .await
    }

    /// At most `most` attachments that are complete and wait to be looked into.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn unjudged_attachments(&self, most: usize) -> Result<Vec<Unjudged>, Error> {
        self.run(move |database| database.unjudged_attachments(most))
            .await
    }

    /// The scanner has the database of this name: what it called clean under another is to be looked at again.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn scanner_has(&self, name: &str) -> Result<(), Error> {
        let name = name.to_owned();
        self.run(move |database| database.scanner_has(&name)).await
    }

    /// At most `most` attachments that can be read and that the scanner's newest database has not seen, those looked at
    /// longest ago first. They stay readable until [`Store::judge_attachment`] says otherwise.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn attachments_to_look_at_again(&self, most: usize) -> Result<Vec<Unjudged>, Error> {
        self.run(move |database| database.attachments_to_look_at_again(most))
            .await
    }

    /// Says what was found. Only [`Judgement::Readable`] makes it readable; refused, its key and then its file are erased.
    /// `false`: it waits for no judgement any more.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn judge_attachment(
        &self,
        attempt: Attempt,
        judgement: Judgement,
    ) -> Result<bool, Error> {
        self.run(move |database| database.judge_attachment(&attempt, judgement))
            .await
    }

    /// An attachment, to be read piece by piece. `None` for one that does not exist, is not readable (yet), and that this
    /// user may not read: they cannot be told apart.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn attachment(
        &self,
        user: &str,
        id: &str,
    ) -> Result<Option<StoredAttachment>, Error> {
        let (reader, id) = (user.to_owned(), id.to_owned());
        let found = self
            .read(
                Looked::Attachment,
                |found: &Option<reading::Found>| {
                    found.as_ref().map(|found| Some(found.person.clone()))
                },
                move |database| database.attachment(&reader, &id),
            )
            .await?;
        Ok(found.map(|found| found.for_user(self.clone(), user.to_owned())))
    }

    /// How these attachments of a person's notes stand, in the order asked for; beside the notes on a page. `None` when there
    /// is no such person for this user.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn attachment_standings(
        &self,
        user: &str,
        person: &str,
        ids: Vec<String>,
        now: i64,
    ) -> Result<Option<Vec<Standing>>, Error> {
        let (user, person): (Arc<str>, Arc<str>) = (user.into(), person.into());
        let ids: Arc<[String]> = ids.into();
        let asked = (Arc::clone(&user), Arc::clone(&person), Arc::clone(&ids));
        // Nearly always all of them are settled, and then nobody waits for the thread that writes.
        let settled = self
            .look(Lane::Page, move |database| {
                let (user, person, ids) = &asked;
                database.settled_standings(user, person, ids)
            })
            .await?;
        let Some(settled) = settled else {
            return Ok(None);
        };
        if let Some(all) = settled.into_iter().collect() {
            return Ok(Some(all));
        }
        self.run(move |database| database.standings(&user, &person, &ids, now))
            .await
    }
}
