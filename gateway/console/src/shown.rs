//! The parts of pages that are the same for all who may read them, as the store keeps them for a short while, and what is put in
//! or left out for one reader.
//!
//! It decides and keeps nothing.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, LazyLock};

use askama::Template;
use gateway_notes::{Entry, PersonSummary, Showing, Shown, StoredNote, UNREAD_COUNTED};
use gateway_policy::Timestamp;
use zeroize::Zeroizing;

use crate::notes_views::{Day, Days, PersonView, days, unread};
use crate::reader::encode;

/// A note that is new to a reader, and what of it only such a reader sees. Nobody writes these words into a note: whatever
/// anybody wrote is escaped.
const NEW_NOTE: &str = "<article class=\"note new\">";
const NEW: Range<usize> = "<article class=\"note".len().."<article class=\"note new".len();
const NEW_BADGE: &str = "<span class=\"badge unread\">未読</span> ";

/// Behind this stands in a list how much is unread.
const BEFORE_BADGE: &str = "<span class=\"soft small\">";

/// Room for a usual page of notes, and for a person.
const OF_A_PAGE: usize = 48 * 1024;
const OF_A_PERSON: usize = 512;

#[derive(Template)]
#[template(path = "notes_days.html")]
struct AllDays<'a> {
    days: Vec<Day<'a>>,
}

#[derive(Template)]
#[template(path = "person_item.html")]
struct PersonItem {
    person: PersonView,
}

/// A page's notes by day.
pub(crate) fn notes(showing: &Showing<'_>) -> Shown {
    let unread_by_all = i64::MIN;
    let called = Days::From(Timestamp(showing.now));
    let days = days(
        &encode(showing.person),
        showing.notes,
        unread_by_all,
        showing.standings,
        called,
    );
    let text = wiped(&AllDays { days }, OF_A_PAGE);
    let unread_only = unread_only(&text, showing.notes);
    Shown::new(text, unread_only)
}

/// A person in the list, without how much is unread.
pub(crate) fn person(person: &PersonSummary) -> Shown {
    let item = PersonItem {
        person: PersonView::of_nothing_unread(person),
    };
    let text = wiped(&item, OF_A_PERSON);
    let place = text.find(BEFORE_BADGE).map(|at| at + BEFORE_BADGE.len());
    let place = place.unwrap_or_default();
    Shown::new(text, vec![(place..place, 0)])
}

/// Text that leaves no outgrown buffer behind in memory.
struct Wiped(Zeroizing<String>);

impl fmt::Write for Wiped {
    fn write_str(&mut self, more: &str) -> fmt::Result {
        if self.0.capacity() - self.0.len() < more.len() {
            let room = 2 * (self.0.capacity() + more.len());
            let mut larger = Zeroizing::new(String::with_capacity(room));
            larger.push_str(&self.0);
            self.0 = larger;
        }
        self.0.push_str(more);
        Ok(())
    }
}

fn wiped(template: &impl Template, room: usize) -> Zeroizing<String> {
    let mut text = Wiped(Zeroizing::new(String::with_capacity(room)));
    template
        .render_into(&mut text)
        .expect("a buffer in memory takes whatever is written to it");
    text.0
}

/// Which parts of a page are for whom the note of that number is new.
fn unread_only(text: &str, notes: &[StoredNote]) -> Vec<(Range<usize>, i64)> {
    let mut found = Vec::with_capacity(2 * notes.len());
    let mut from = 0;
    for note in notes {
        let mut next = |words: &str| {
            let at = from + text.get(from..)?.find(words)?;
            from = at + words.len();
            Some(at)
        };
        let (Some(article), Some(badge)) = (next(NEW_NOTE), next(NEW_BADGE)) else {
            break;
        };
        found.push((article + NEW.start..article + NEW.end, note.number));
        found.push((badge..badge + NEW_BADGE.len(), note.number));
    }
    found
}

/// A page's notes for whoever has read them up to some number.
pub(crate) struct ForReader {
    pub(crate) text: Arc<Shown>,
    pub(crate) read_upto: i64,
}

impl fmt::Display for ForReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut pieces = self.text.for_reader(self.read_upto);
        pieces.try_for_each(|piece| f.write_str(piece))
    }
}

/// The persons that one reader may read, each with how much is unread.
pub(crate) struct People(pub(crate) Arc<[Entry]>);

impl People {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for People {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for entry in self.0.iter() {
            let mut pieces = entry.text.for_reader(0);
            f.write_str(pieces.next().unwrap_or_default())?;
            f.write_str(badge(entry.unread))?;
            pieces.try_for_each(|piece| f.write_str(piece))?;
        }
        Ok(())
    }
}

/// How much is unread, as it stands in a list; made once for each number there is.
fn badge(count: u64) -> &'static str {
    static BADGES: LazyLock<Vec<String>> = LazyLock::new(|| {
        let badge = |count| match unread(count) {
            None => String::new(),
            Some(words) => format!("<span class=\"badge unread\">{words}</span>"),
        };
        (0..=UNREAD_COUNTED).map(badge).collect()
    });
    let number = usize::try_from(count.min(UNREAD_COUNTED)).unwrap_or_default();
    BADGES.get(number).map_or("", String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;
    use gateway_notes::Personal;

    const NOW: i64 = 1_795_476_300;

    fn note(number: i64) -> StoredNote {
        StoredNote {
            id: format!("n-{number}"),
            number,
            author: "u".into(),
            author_name: Personal::new(format!("{NEW_NOTE}{NEW_BADGE}")),
            role: NEW_BADGE.into(),
            // Three days.
            time: NOW - number * 20_000,
            text: Personal::new(format!("{number} {NEW_NOTE} {NEW_BADGE}")),
            attachments: vec![],
            signature: None,
            fetched: NOW,
        }
    }

    #[test]
    fn each_reader_sees_of_shared_text_what_would_be_rendered_for_them() {
        let stored: Vec<StoredNote> = [7, 3, 9, 4, 8].map(note).into();
        let text = Arc::new(notes(&Showing {
            person: "p",
            notes: &stored,
            standings: &[],
            now: NOW,
        }));
        for read_upto in 0..=10 {
            let called = Days::From(Timestamp(NOW));
            let days = days("p", &stored, read_upto, &[], called);
            let alone = AllDays { days }.render().unwrap();
            let text = Arc::clone(&text);
            assert_eq!(ForReader { text, read_upto }.to_string(), alone);
        }
    }

    #[test]
    fn no_notes_are_said_to_be_none() {
        let text = notes(&Showing {
            person: "p",
            notes: &[],
            standings: &[],
            now: NOW,
        });
        assert!(text.whole().contains("保存した連絡はありません"));
    }

    #[test]
    fn a_list_says_how_much_is_unread_as_the_page_of_a_search_does() {
        for (count, newest) in [
            (0, None),
            (1, Some(NOW)),
            (99, Some(NOW)),
            (100, Some(NOW)),
            (5000, None),
        ] {
            let summary = |unread| PersonSummary {
                id: "p 1".into(),
                display_name: Personal::new("<山田>"),
                unread,
                newest,
            };
            let alone = PersonItem {
                person: summary(count).into(),
            };
            let entry = Entry {
                text: Arc::new(person(&summary(7))),
                unread: count,
            };
            assert_eq!(People([entry].into()).to_string(), alone.render().unwrap());
        }
    }
}
