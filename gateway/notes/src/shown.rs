//! Pages of notes as text: made once of what was opened, and answered again from what is kept as long as nothing has changed.
//!
//! What the text looks like is the pages' business; they hand in how it is made. Each reading is decided and put on record here
//! as everywhere: whoever is answered from what is kept was found to be a reader since anything was written last.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::database::Database;
use crate::kept::Wanted;
use crate::readers::Lane;
use crate::{
    Cursor, Error, Looked, Opening, Page, PersonSummary, Personal, Standing, Store, StoredNote,
};

/// Text about a person, the same for all who may read it but for parts that are only for who has not read a note yet. Wiped when
/// it goes, and in memory once.
pub struct Shown {
    text: Zeroizing<String>,
    unread_only: Vec<(Range<usize>, i64)>,
}

impl Shown {
    /// `unread_only`: ranges of the text in their order, each with the number of the note that it marks.
    #[must_use]
    pub fn new(text: impl Into<Zeroizing<String>>, unread_only: Vec<(Range<usize>, i64)>) -> Self {
        let text = text.into();
        // A copy that is as long as the text: the buffer it was made in may be much larger.
        let text = match text.capacity() - text.len() {
            0..1024 => text,
            _ => Zeroizing::new(text.as_str().to_owned()),
        };
        Self { text, unread_only }
    }

    /// The text for a reader who has read all up to the note of this number, in pieces.
    pub fn for_reader(&self, read_upto: i64) -> impl Iterator<Item = &str> {
        let left_out = self
            .unread_only
            .iter()
            .filter(move |(_, number)| *number <= read_upto)
            .map(|(range, _)| range.clone());
        let end = self.text.len()..self.text.len();
        let mut from = 0;
        left_out.chain(std::iter::once(end)).map(move |skipped| {
            let piece = self.text.get(from..skipped.start).unwrap_or_default();
            from = skipped.end;
            piece
        })
    }

    /// All of it.
    #[must_use]
    pub fn whole(&self) -> &str {
        &self.text
    }

    pub(crate) fn bytes(&self) -> usize {
        self.text.capacity() + self.unread_only.capacity() * size_of::<(Range<usize>, i64)>()
    }
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shown(..)")
    }
}

/// A name that several answers share.
#[derive(Clone)]
pub struct Named(Arc<Personal>);

impl Named {
    pub(crate) fn new(name: impl Into<String>) -> Self {
        Self(Arc::new(Personal::new(name)))
    }

    /// The text.
    #[must_use]
    pub fn reveal(&self) -> &str {
        self.0.reveal()
    }
}

impl fmt::Debug for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Named(..)")
    }
}

/// The newest notes of a person, and how they stand for who reads them; as [`Page`].
#[derive(Debug)]
pub struct ShownNotes {
    /// The person.
    pub name: Named,
    /// The notes.
    pub text: Arc<Shown>,
    /// Where the next page begins, if there is one.
    pub older: Option<Cursor>,
    /// The number up to which the reader has marked this person's notes as read.
    pub read_upto: i64,
    /// The highest number of this person's notes.
    pub newest_number: i64,
    /// How many of this person's notes are not marked as read; as [`Page::unread`].
    pub unread: u64,
}

/// A person in a list.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The person.
    pub text: Arc<Shown>,
    /// As [`PersonSummary::unread`].
    pub unread: u64,
}

/// What a text is made of.
#[derive(Debug)]
pub struct Showing<'a> {
    /// The person's id.
    pub person: &'a str,
    /// The notes, newest first.
    pub notes: &'a [StoredNote],
    /// How their attachments stand, in the same order.
    pub standings: &'a [Standing],
    /// The time, in Unix seconds.
    pub now: i64,
}

/// Makes the text of notes. The same for every reader and every moment of one day.
pub type ShowNotes = fn(&Showing<'_>) -> Shown;
/// Makes the text of a person in a list, but for how much is unread. The same for every reader and moment.
pub type ShowPerson = fn(&PersonSummary) -> Shown;

/// When a page is looked at.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// In Unix seconds.
    pub now: i64,
    /// A number for the day, by which days are called.
    pub day: i64,
}

/// A list, and who is in it if it was made just now.
struct List {
    list: Arc<[Entry]>,
    made: Vec<String>,
}

/// A person's notes, which may have been made just now.
struct Found {
    shown: ShownNotes,
    made: bool,
}

/// What was made of a person's notes.
enum Made {
    Shown(ShownNotes),
    /// Whether some of the attachments are going to be fetched has to be asked elsewhere first.
    Open(Arc<Page>),
}

impl Store {
    /// As [`Store::page_of_persons`], as text that `show` makes where it is not known yet.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn shown_persons(
        &self,
        user: &str,
        show: ShowPerson,
    ) -> Result<Option<(Opening, Arc<[Entry]>)>, Error> {
        let epoch = self.kept.epoch();
        let (asked, kept) = (user.to_owned(), Arc::clone(&self.kept));
        let find = self.look(Lane::Page, move |database| {
            database.opening(&asked, || {
                let persons = database.persons_for(&asked)?;
                let known = kept.entries(epoch, persons.iter().map(|person| person.id.as_str()));
                let entries = persons.iter().zip(known).map(|(person, known)| Entry {
                    text: known.unwrap_or_else(|| Arc::new(show(person))),
                    unread: person.unread,
                });
                let list = entries.collect();
                let made = persons.into_iter().map(|person| person.id).collect();
                Ok(List { list, made })
            })
        });
        let granted = |_: &List| Some(None);
        let kept = || {
            let (opening, list) = self.kept.list(user)?;
            let made = Vec::new();
            Some((opening, List { list, made }))
        };
        let found = self.read_kept(Looked::List, granted, kept, find).await?;
        let Some((opening, found)) = found else {
            return Ok(None);
        };
        if !found.made.is_empty() {
            // Only now: it may have locked while the reading was put on record.
            let list = (found.made.as_slice(), &found.list);
            self.kept.keep_list(epoch, user, &opening, list);
        }
        Ok(Some((opening, found.list)))
    }

    /// As [`Store::page_of_notes`] of the newest `limit` notes with [`Store::attachment_standings`], as text that `show` makes
    /// where it is not known yet.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn shown_notes(
        &self,
        user: &str,
        person: &str,
        limit: usize,
        at: Moment,
        show: ShowNotes,
    ) -> Result<Option<(Opening, Option<ShownNotes>)>, Error> {
        let wanted = Wanted { limit, day: at.day };
        let epoch = self.kept.epoch();
        let granted = |page: &Option<Found>| page.is_some().then(|| Some(person.to_owned()));
        let kept = || {
            let (opening, shown) = self.kept.notes(user, person, wanted)?;
            Some((opening, Some(Found { shown, made: false })))
        };
        let find = self.find_notes(user, person, limit, at.now, show);
        let found = self.read_kept(Looked::Notes, granted, kept, find).await?;
        let Some((opening, found)) = found else {
            return Ok(None);
        };
        if let Some(Found { shown, made: true }) = &found {
            // Only now: it may have locked while the reading was put on record.
            let whose = (user, person);
            self.kept.keep_notes(epoch, whose, wanted, &opening, shown);
        }
        Ok(Some((opening, found.map(|found| found.shown))))
    }

    async fn find_notes(
        &self,
        user: &str,
        person: &str,
        limit: usize,
        now: i64,
        show: ShowNotes,
    ) -> Result<Option<(Opening, Option<Found>)>, Error> {
        let (asker, id) = (user.to_owned(), person.to_owned());
        let looked = self.look(Lane::Page, move |database| {
            database.opening(&asker, || database.made(&asker, &id, limit, now, show))
        });
        let Some((opening, made)) = looked.await? else {
            return Ok(None);
        };
        let shown = match made {
            None => None,
            Some(Made::Shown(shown)) => Some(shown),
            Some(Made::Open(page)) => self.settle(user, person, page, now, show).await?,
        };
        Ok(Some((
            opening,
            shown.map(|shown| Found { shown, made: true }),
        )))
    }

    /// Asks the thread that writes, which knows what is going to be fetched. `None` when the person is out of reach meanwhile.
    async fn settle(
        &self,
        user: &str,
        person: &str,
        page: Arc<Page>,
        now: i64,
        show: ShowNotes,
    ) -> Result<Option<ShownNotes>, Error> {
        let (asker, id, ids) = (user.to_owned(), person.to_owned(), page.attachment_ids());
        let standings = self
            .run(move |database| database.standings(&asker, &id, &ids, now))
            .await?;
        let Some(standings) = standings else {
            return Ok(None);
        };
        let id = person.to_owned();
        // Making it takes a while: not on the thread that asks.
        let made = self.look(Lane::Page, move |_| {
            Ok(page.shown(&id, &standings, now, show))
        });
        made.await.map(Some)
    }
}

impl Database {
    fn made(
        &self,
        user: &str,
        person: &str,
        limit: usize,
        now: i64,
        show: ShowNotes,
    ) -> Result<Option<Made>, Error> {
        let Some(page) = self.notes_of(user, person, limit, None)? else {
            return Ok(None);
        };
        let ids = page.attachment_ids();
        let standings = if ids.is_empty() {
            Some(Vec::new())
        } else {
            // Of the same moment, so the person is still within reach.
            let settled = self.settled_standings(user, person, &ids)?;
            settled.and_then(|settled| settled.into_iter().collect())
        };
        Ok(Some(match standings {
            Some(standings) => Made::Shown(page.shown(person, &standings, now, show)),
            None => Made::Open(Arc::new(page)),
        }))
    }
}

impl Page {
    fn attachment_ids(&self) -> Vec<String> {
        self.notes
            .iter()
            .flat_map(|note| &note.attachments)
            .map(|attachment| attachment.id.clone())
            .collect()
    }

    /// As text that `show` makes of it.
    #[must_use]
    pub fn shown(
        &self,
        person: &str,
        standings: &[Standing],
        now: i64,
        show: ShowNotes,
    ) -> ShownNotes {
        let showing = Showing {
            person,
            notes: &self.notes,
            standings,
            now,
        };
        ShownNotes {
            name: Named::new(self.display_name.reveal()),
            text: Arc::new(show(&showing)),
            older: self.older,
            read_upto: self.read_upto,
            newest_number: self.newest_number,
            unread: self.unread,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_sees_the_marks_of_what_they_have_not_read() {
        let shown = Shown::new("a*b**c*".to_owned(), vec![(1..2, 5), (3..5, 5), (6..7, 4)]);
        let seen = |read_upto| shown.for_reader(read_upto).collect::<String>();
        assert_eq!(seen(3), "a*b**c*");
        assert_eq!(seen(4), "a*b**c");
        assert_eq!(seen(5), "abc");
    }

    #[test]
    fn a_text_shows_nothing_when_debugged_and_keeps_no_larger_buffer() {
        let mut text = String::with_capacity(100_000);
        text.push_str("血圧");
        let shown = Shown::new(text, vec![]);
        assert_eq!(format!("{shown:?}"), "Shown(..)");
        assert_eq!(format!("{:?}", Named::new("山田")), "Named(..)");
        assert!(shown.bytes() < 100);
    }
}
