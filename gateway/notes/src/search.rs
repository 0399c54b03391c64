//! Searching what a staff member may read, by opening their persons' segments and scanning them in memory.
//!
//! Segments of persons who may not be read are not opened, so that neither a count nor the time taken tells of them. It does
//! not remember what was searched for.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use memchr::memmem::Finder;
use rusqlite::{OptionalExtension, params};
use zeroize::Zeroizing;

use crate::database::Database;
use crate::key::{Kind, Tag};
use crate::permission::PersonRow;
use crate::read::unpack_note;
use crate::readers::Lane;
use crate::search_fold::{Traced, fold};
use crate::search_segments::{Segment, search_cipher, segment_identity};
use crate::writing::note_identity;
use crate::{Error, Looked, PersonSummary, Personal, Reading, Store, StoredNote};

/// How long one search may take; what it has found by then is answered.
const LONGEST: Duration = Duration::from_secs(2);
/// More words than these are left out of a search.
const MOST_WORDS: usize = 8;
/// Characters shown before the first hit, and all in all.
const LEAD: usize = 24;
const EXCERPT: usize = 120;

/// What a search has found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Persons whose names hold all words.
    pub persons: Vec<PersonSummary>,
    /// Notes that hold at least one of the words, the others being in the note or in its person's name; newest first.
    pub notes: Vec<FoundNote>,
    /// There are more, older ones.
    pub more: bool,
    /// The time was up before everything was searched.
    pub cut_short: bool,
}

/// A note that was found.
#[derive(Debug, PartialEq, Eq)]
pub struct FoundNote {
    /// The city's id of its person.
    pub person: String,
    /// The person's name.
    pub display_name: Personal,
    /// The note.
    pub note: StoredNote,
    /// The part of its text around the first hit.
    pub excerpt: Vec<Part>,
    /// The names of its attachments.
    pub attachments: Vec<Vec<Part>>,
}

/// A piece of text, searched for or not.
#[derive(Debug, PartialEq, Eq)]
pub struct Part {
    /// The text.
    pub text: Personal,
    /// It is what was searched for.
    pub hit: bool,
}

impl Store {
    /// Searches what this user may read for all of `words`, for about two seconds at most; the newest `limit` notes. `None`
    /// when `words` holds nothing to search for.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn search(
        &self,
        user: &str,
        words: &str,
        limit: usize,
    ) -> Result<Option<Found>, Error> {
        let (user, words) = (user.to_owned(), Zeroizing::new(words.to_owned()));
        let granted = |found: &Option<Found>| found.is_some().then_some(None);
        let found = self
            .read_beside(Lane::Search, Looked::Search, granted, move |database| {
                database.search(&user, &words, limit, Instant::now() + LONGEST)
            })
            .await?;
        // The record names everybody of whom something is shown.
        let notes = found.iter().flat_map(|found| &found.notes);
        let shown: BTreeSet<&str> = notes.map(|note| note.person.as_str()).collect();
        for person in shown {
            self.record(Reading {
                what: Looked::Search,
                person: Some(person.to_owned()),
                granted: true,
            })
            .await?;
        }
        Ok(found)
    }
}

/// The words searched for, folded.
pub(crate) struct Words(Vec<Zeroizing<String>>);

impl Words {
    /// `None` when nothing in `text` can be searched for.
    pub(crate) fn new(text: &str) -> Option<Self> {
        let mut words: Vec<_> = text
            .split_whitespace()
            .map(fold)
            .filter(|word| !word.is_empty())
            .collect();
        words.dedup();
        words.truncate(MOST_WORDS);
        (!words.is_empty()).then_some(Self(words))
    }
}

/// A person who may be read, and what of the words their name leaves to be found.
struct Searching {
    tag: Tag,
    row: Arc<PersonRow>,
    in_name: Vec<bool>,
}

/// The newest notes found so far, and one more.
struct Newest {
    limit: usize,
    heap: BinaryHeap<Reverse<(i64, Tag, usize)>>,
}

impl Newest {
    fn push(&mut self, hit: (i64, Tag, usize)) {
        self.heap.push(Reverse(hit));
        if self.heap.len() > self.limit.saturating_add(1) {
            self.heap.pop();
        }
    }
}

impl Database {
    /// Searches until `deadline`; `None` when there is nothing to search for in `words`.
    pub(crate) fn search(
        &self,
        user: &str,
        words: &str,
        limit: usize,
        deadline: Instant,
    ) -> Result<Option<Found>, Error> {
        let Some(words) = Words::new(words) else {
            return Ok(None);
        };
        let finders: Vec<_> = words
            .0
            .iter()
            .map(|word| Finder::new(word.as_bytes()))
            .collect();
        let mut found = Found::default();
        let mut people = Vec::new();
        let reader = self.keys.tag(Kind::Staff, user);
        for (tag, row) in self.all_readable(user)? {
            let name = fold(row.display_name.reveal());
            let in_name: Vec<bool> = finders
                .iter()
                .map(|finder| finder.find(name.as_bytes()).is_some())
                .collect();
            if in_name.iter().all(|found| *found) {
                found.persons.push(self.summary(&reader, &row, &tag)?);
            }
            people.push(Searching { tag, row, in_name });
        }
        let mut newest = Newest {
            limit,
            heap: BinaryHeap::new(),
        };
        for (number, person) in people.iter().enumerate() {
            if Instant::now() > deadline {
                found.cut_short = true;
                break;
            }
            self.scan(person, number, &finders, &mut newest)?;
        }
        let mut hits: Vec<_> = newest.heap.into_iter().map(|Reverse(hit)| hit).collect();
        hits.sort_unstable_by(|one, other| other.cmp(one));
        found.more = hits.len() > limit;
        hits.truncate(limit);
        for (time, note, person) in hits {
            let person = &people[person];
            if let Some(note) = self.one_note(&person.row, &person.tag, &note, Some(time))? {
                found.notes.push(show(person, note, &words));
            }
        }
        found
            .persons
            .sort_by(|one, other| other.newest.cmp(&one.newest).then(one.id.cmp(&other.id)));
        Ok(Some(found))
    }

    fn scan(
        &self,
        person: &Searching,
        number: usize,
        finders: &[Finder<'_>],
        newest: &mut Newest,
    ) -> Result<(), Error> {
        let cipher = search_cipher(&person.row.cipher)?;
        let bound_to = segment_identity(&person.tag);
        let mut statement = self
            .connection
            .prepare_cached("SELECT body FROM segments WHERE person = ?1")
            .map_err(Error::database("search"))?;
        let mut rows = statement
            .query(params![person.tag])
            .map_err(Error::database("search"))?;
        while let Some(row) = rows.next().map_err(Error::database("search"))? {
            let sealed = row
                .get_ref(0)
                .and_then(|body| Ok(body.as_blob()?))
                .map_err(Error::database("search"))?;
            let opened = cipher.open(&bound_to, sealed)?;
            let mut segment = Segment::new(&opened);
            while let Some(entry) = segment.next()? {
                if matches(entry.text, finders, &person.in_name) {
                    newest.push((entry.time, entry.note, number));
                }
            }
        }
        Ok(())
    }

    /// A note of this person; `None` when there is none by this tag.
    pub(crate) fn one_note(
        &self,
        person: &PersonRow,
        person_tag: &Tag,
        note: &Tag,
        time: Option<i64>,
    ) -> Result<Option<StoredNote>, Error> {
        let row: Option<(i64, i64, Vec<u8>)> = self
            .connection
            .prepare_cached("SELECT number, time, body FROM notes WHERE tag = ?1 AND person = ?2")
            .and_then(|mut query| {
                query
                    .query_row(params![note, person_tag], |row| {
                        Ok((row.get(0)?, row.get(1)?, row.get(2)?))
                    })
                    .optional()
            })
            .map_err(Error::database("find a note"))?;
        let Some((number, written, sealed)) = row else {
            return Ok(None);
        };
        if time.is_some_and(|time| time != written) {
            return Ok(None);
        }
        let body = person
            .cipher
            .open(&note_identity(note, person_tag, written), &sealed)?;
        unpack_note(number, written, &body).map(Some)
    }
}

/// Every word is in the note or in the person's name, and at least one in the note.
fn matches(text: &[u8], finders: &[Finder<'_>], in_name: &[bool]) -> bool {
    let mut here = false;
    for (finder, in_name) in finders.iter().zip(in_name) {
        match finder.find(text) {
            Some(_) => here = true,
            None if *in_name => {}
            None => return false,
        }
    }
    here
}

fn show(person: &Searching, note: StoredNote, words: &Words) -> FoundNote {
    FoundNote {
        person: person.row.id.clone(),
        display_name: Personal::new(person.row.display_name.reveal()),
        excerpt: marked(note.text.reveal(), words, Some(EXCERPT)),
        attachments: note
            .attachments
            .iter()
            .map(|attachment| marked(attachment.name.reveal(), words, None))
            .collect(),
        note,
    }
}

/// `text` in parts, those marked that are one of the words; of a long one the part around the first of them.
fn marked(text: &str, words: &Words, most: Option<usize>) -> Vec<Part> {
    let hits = hits(text, words);
    let (begin, end) = match most {
        Some(most) => excerpt(text, hits.first().map_or(0, |hit| hit.0), most),
        None => (0, text.len()),
    };
    let mut parts = Vec::new();
    let mut part = |text: &str, hit| {
        if !text.is_empty() {
            parts.push(Part {
                text: Personal::new(text),
                hit,
            });
        }
    };
    if begin > 0 {
        part("…", false);
    }
    let mut at = begin;
    for (from, to) in hits {
        let (from, to) = (from.max(at), to.min(end));
        if from < to {
            part(&text[at..from], false);
            part(&text[from..to], true);
            at = to;
        }
    }
    part(&text[at..end], false);
    if end < text.len() {
        part("…", false);
    }
    parts
}

/// Where the words stand in `text`, in order, none overlapping another.
fn hits(text: &str, words: &Words) -> Vec<(usize, usize)> {
    let traced = Traced::new(text);
    let mut hits: Vec<(usize, usize)> = words
        .0
        .iter()
        .flat_map(|word| {
            traced
                .folded
                .match_indices(word.as_str())
                .filter_map(|(at, word)| traced.origin(at, at + word.len()))
        })
        .collect();
    hits.sort_unstable();
    let mut apart: Vec<(usize, usize)> = Vec::with_capacity(hits.len());
    for (from, to) in hits {
        match apart.last_mut() {
            Some(last) if from <= last.1 => last.1 = last.1.max(to),
            _ => apart.push((from, to)),
        }
    }
    apart
}

/// The bounds of at most `most` characters of `text` with what begins at `hit` near their beginning.
fn excerpt(text: &str, hit: usize, most: usize) -> (usize, usize) {
    let boundary = |at: Option<(usize, char)>, otherwise| at.map_or(otherwise, |(at, _)| at);
    let begin = boundary(text[..hit].char_indices().rev().nth(LEAD - 1), 0);
    let end = begin + boundary(text[begin..].char_indices().nth(most), text.len() - begin);
    (begin, end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str, words: &str) -> String {
        let parts = marked(text, &Words::new(words).unwrap(), Some(EXCERPT));
        parts
            .iter()
            .map(|part| match part.hit {
                true => format!("[{}]", part.text.reveal()),
                false => part.text.reveal().to_owned(),
            })
            .collect()
    }

    #[test]
    fn what_was_found_is_marked_as_it_was_written() {
        assert_eq!(shown("夜間の発熱あり。", "発熱"), "夜間の[発熱]あり。");
        assert_eq!(shown("ﾊﾞｲﾀﾙは安定", "ばいたる"), "[ﾊﾞｲﾀﾙ]は安定");
        assert_eq!(
            shown("血圧 128/76、体温36.4", "体温 血圧"),
            "[血圧] 128/76、[体温]36.4"
        );
        assert_eq!(shown("ああああ", "ああ あああ"), "[ああああ]");
        assert_eq!(shown("何もない", "熱"), "何もない");
        let long = format!("{}咳{}", "前".repeat(100), "後".repeat(300));
        let expected = format!("…{}[咳]{}…", "前".repeat(24), "後".repeat(95));
        assert_eq!(shown(&long, "咳"), expected);
    }

    #[test]
    fn blanks_alone_are_nothing_to_search_for() {
        for words in ["", " 　\n", "ー", "\u{200b}"] {
            assert!(Words::new(words).is_none());
        }
        assert_eq!(Words::new(&"語 ".repeat(3)).unwrap().0.len(), 1);
    }
}
