//! What is searched, on disk: each person's folded texts in sealed segments, changed together with the notes.
//!
//! There is no index that could be read: a segment is opened to be scanned. New texts make small segments of their own, which
//! are put together as they become many, so that neither one new note nor a first sync rewrites much. It does not search.

use std::collections::{HashMap, HashSet};

use rusqlite::params;
use zeroize::Zeroizing;

use crate::key::{Cipher, TAG, Tag, identity};
use crate::pack::{LENGTH, Unpack, pack};
use crate::search_fold::fold_onto;
use crate::writing::Writing;
use crate::{Attachment, Error};

/// A segment of this size is left alone; putting more into it would make every change of one note expensive.
const FULL: usize = 48 * 1024;
/// How many segments of about one size there are before they are put together: each text is rewritten at most about
/// `log(FULL) / log(TOGETHER)` times.
const TOGETHER: usize = 4;
/// Between the parts of what is searched of one note. Folding drops it, so that no word runs across.
const APART: char = '\0';

/// What one transaction has changed of what is searched, by person.
#[derive(Default)]
pub(crate) struct Pending(HashMap<Tag, Changed>);

#[derive(Default)]
struct Changed {
    added: Vec<Entry>,
    removed: HashSet<Tag>,
}

struct Entry {
    note: Tag,
    time: [u8; 8],
    text: Zeroizing<String>,
}

impl Pending {
    pub(crate) fn add(&mut self, person: Tag, note: Tag, time: i64, text: Zeroizing<String>) {
        self.0.entry(person).or_default().added.push(Entry {
            note,
            time: time.to_be_bytes(),
            text,
        });
    }

    pub(crate) fn remove(&mut self, person: Tag, note: Tag) {
        let changed = self.0.entry(person).or_default();
        let before = changed.added.len();
        changed.added.retain(|entry| entry.note != note);
        if changed.added.len() == before {
            changed.removed.insert(note);
        }
    }

    /// Everything of this person is gone.
    pub(crate) fn forget(&mut self, person: &Tag) {
        self.0.remove(person);
    }
}

/// What of a note is searched: text, author, profession, names of attachments.
pub(crate) fn searched(
    text: &str,
    author: &str,
    role: &str,
    attachments: &[Attachment],
) -> Zeroizing<String> {
    let names = || {
        attachments
            .iter()
            .map(|attachment| attachment.name.reveal())
    };
    let length: usize = [text, author, role]
        .into_iter()
        .chain(names())
        .map(|part| part.len() + 1)
        .sum();
    let mut folded = Zeroizing::new(String::with_capacity(length + 64));
    fold_onto(&mut folded, text);
    for part in [author, role].into_iter().chain(names()) {
        folded.push(APART);
        fold_onto(&mut folded, part);
    }
    folded
}

/// What a note's text takes in its segment: with its tag, its time and the lengths of the three.
pub(crate) fn bytes_in_segment(text: &str) -> usize {
    text.len() + TAG + size_of::<i64>() + 3 * LENGTH
}

/// One note in an opened segment.
pub(crate) struct Searched<'a> {
    pub(crate) note: Tag,
    pub(crate) time: i64,
    pub(crate) text: &'a [u8],
}

/// The notes in an opened segment, one after the other.
pub(crate) struct Segment<'a>(Unpack<'a>);

impl<'a> Segment<'a> {
    pub(crate) const fn new(opened: &'a [u8]) -> Self {
        Self(Unpack::new(opened))
    }

    pub(crate) fn next(&mut self) -> Result<Option<Searched<'a>>, Error> {
        if self.0.is_empty() {
            return Ok(None);
        }
        Ok(Some(Searched {
            note: self.0.bytes()?.try_into().map_err(|_| Error::Damaged)?,
            time: self.0.number()?,
            text: self.0.bytes()?,
        }))
    }
}

/// The cipher of a person's segments.
pub(crate) fn search_cipher(person: &Cipher) -> Result<Cipher, Error> {
    person.derive(b"search")
}

/// What a segment is bound to. Which of a person's segments stands in which row says nothing.
pub(crate) fn segment_identity(person: &Tag) -> Vec<u8> {
    identity(b"segment", &[person])
}

impl Writing<'_> {
    /// Brings the segments in line with the notes that this transaction has changed.
    pub(crate) fn write_segments(&mut self) -> Result<(), Error> {
        for (person, changed) in std::mem::take(&mut self.search).0 {
            let Some(cipher) = self.cipher_of(&person)? else {
                continue;
            };
            let cipher = search_cipher(&cipher)?;
            self.remove_from_segments(&cipher, &person, changed.removed)?;
            self.add_segment(&cipher, &person, &changed.added)?;
        }
        Ok(())
    }

    /// Oldest segments first: it is old notes that go.
    fn remove_from_segments(
        &mut self,
        cipher: &Cipher,
        person: &Tag,
        mut removed: HashSet<Tag>,
    ) -> Result<(), Error> {
        for (number, _) in self.segments_of(person)? {
            if removed.is_empty() {
                return Ok(());
            }
            let opened = self.open_segment(cipher, person, number)?;
            let mut kept: Vec<[&[u8]; 3]> = Vec::new();
            let mut segment = Segment::new(&opened);
            let mut times = Vec::new();
            let mut notes = Vec::new();
            let mut changed = false;
            while let Some(entry) = segment.next()? {
                if removed.remove(&entry.note) {
                    changed = true;
                } else {
                    times.push(entry.time.to_be_bytes());
                    notes.push((entry.note, entry.text));
                }
            }
            if !changed {
                continue;
            }
            self.erased = true;
            kept.extend(
                notes
                    .iter()
                    .zip(&times)
                    .map(|((note, text), time)| [&note[..], &time[..], text]),
            );
            if kept.is_empty() {
                self.drop_segment(number)?;
            } else {
                let packed = pack(kept.as_flattened())?;
                let body = cipher.seal(&segment_identity(person), &packed)?;
                self.execute(
                    "change a segment",
                    "UPDATE segments SET body = ?2 WHERE number = ?1",
                    params![number, body],
                )?;
            }
        }
        Ok(())
    }

    fn add_segment(&mut self, cipher: &Cipher, person: &Tag, added: &[Entry]) -> Result<(), Error> {
        if added.is_empty() {
            return Ok(());
        }
        let fields: Vec<&[u8]> = added
            .iter()
            .flat_map(|entry| [&entry.note[..], &entry.time[..], entry.text.as_bytes()])
            .collect();
        let new = pack(&fields)?;
        let mut segments = self.segments_of(person)?;
        let mut together = Vec::new();
        let mut length = new.len();
        while length < FULL {
            let alike = |segment: &&(i64, usize)| {
                segment.1 < FULL && size_class(segment.1) <= size_class(length)
            };
            let run = segments.iter().rev().take_while(alike).count();
            if run + 1 < TOGETHER {
                break;
            }
            let joined = segments.split_off(segments.len() - run);
            length += joined.iter().map(|(_, length)| length).sum::<usize>();
            together.splice(0..0, joined);
        }
        let mut parts = Vec::with_capacity(together.len());
        for (number, _) in &together {
            parts.push(self.open_segment(cipher, person, *number)?);
            self.drop_segment(*number)?;
        }
        // Packed fields one after the other are packed fields.
        let length = parts.iter().map(|part| part.len()).sum::<usize>() + new.len();
        let mut packed = Zeroizing::new(Vec::with_capacity(length));
        parts.iter().for_each(|part| packed.extend_from_slice(part));
        packed.extend_from_slice(&new);
        let body = cipher.seal(&segment_identity(person), &packed)?;
        self.execute(
            "store a segment",
            "INSERT INTO segments (person, body) VALUES (?1, ?2)",
            params![person, body],
        )
    }

    /// Number and sealed length of a person's segments, oldest first.
    fn segments_of(&self, person: &Tag) -> Result<Vec<(i64, usize)>, Error> {
        self.transaction
            .prepare_cached(
                "SELECT number, length(body) FROM segments WHERE person = ?1 ORDER BY number",
            )
            .and_then(|mut query| {
                query
                    .query_map([person], |row| Ok((row.get(0)?, row.get(1)?)))?
                    .collect()
            })
            .map_err(Error::database("list a person's segments"))
    }

    pub(crate) fn open_segment(
        &self,
        cipher: &Cipher,
        person: &Tag,
        number: i64,
    ) -> Result<Zeroizing<Vec<u8>>, Error> {
        let sealed: Vec<u8> = self
            .transaction
            .prepare_cached("SELECT body FROM segments WHERE number = ?1")
            .and_then(|mut query| query.query_row([number], |row| row.get(0)))
            .map_err(Error::database("read a segment"))?;
        cipher.open(&segment_identity(person), &sealed)
    }

    fn drop_segment(&self, number: i64) -> Result<(), Error> {
        self.execute(
            "drop a segment",
            "DELETE FROM segments WHERE number = ?1",
            params![number],
        )
    }
}

/// Segments whose lengths have the same power of [`TOGETHER`] are of one class.
const fn size_class(length: usize) -> u32 {
    // A power of four is two powers of two.
    length.ilog2() / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_searched_keeps_its_parts_apart() {
        let named = |name: &str| Attachment {
            name: crate::Personal::new(name),
            ..Attachment::default()
        };
        let folded = searched("発\0熱", "佐藤 花子", "看護師", &[named("胸部Ｘ線.jpg")]);
        assert_eq!(&*folded, "発熱\0佐藤花子\0看護師\0胸部x線.jpg");
    }
}
