//! Text that was made of opened notes, kept for a minute at most for whoever asks for the same page next.
//!
//! It opens and decides nothing. What stands here is of one *epoch*, the time between two changes of what is stored: who was
//! found to be a reader of a person is one until the epoch ends. Nobody who was not found stands here, so what is out of reach
//! takes the same work as ever. With the epoch, at a lock and after its minute everything goes, and is wiped.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::shown::{Entry, Named, Shown, ShownNotes};
use crate::{Cursor, Opening};

/// How long anything is kept.
const LIFE: Duration = Duration::from_secs(60);
/// How often it is looked whether that is over, where nobody asks.
const LOOK: Duration = Duration::from_secs(10);
/// Bytes of text at most; the page that was asked for longest ago makes room.
const BYTES: usize = 4 << 20;
/// Staff members for whom something stands here.
const READERS: usize = 256;

/// See the module.
pub(crate) struct Kept {
    /// Even while the thread that writes is idle, odd while it works.
    epoch: AtomicU64,
    inner: Mutex<Inner>,
    /// Its end ends the thread that looks whether life is over.
    _alive: mpsc::Sender<()>,
}

#[derive(Default)]
struct Inner {
    epoch: u64,
    since: Option<Instant>,
    readers: HashMap<Box<str>, Reader>,
    pages: HashMap<Box<str>, Page>,
    entries: HashMap<Box<str>, Arc<Shown>>,
    bytes: usize,
    /// Counts questions, to tell what was asked for longest ago.
    asked: u64,
}

/// What the store has found of one staff member.
struct Reader {
    opening: Opening,
    /// How the persons stand whose notes they have read.
    persons: HashMap<Box<str>, Stand>,
    list: Option<Arc<[Entry]>>,
}

#[derive(Clone, Copy)]
struct Stand {
    read_upto: i64,
    newest_number: i64,
    unread: u64,
}

/// The newest notes of one person.
struct Page {
    wanted: Wanted,
    name: Named,
    text: Arc<Shown>,
    older: Option<Cursor>,
    asked: u64,
}

/// Which page of a person's notes, and on which day it is looked at: days are called by it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) limit: usize,
    pub(crate) day: i64,
}

impl Kept {
    /// Nothing yet, and a thread that lets go of what is too old.
    pub(crate) fn start() -> std::io::Result<Arc<Self>> {
        let (alive, ended) = mpsc::channel();
        let kept = Arc::new(Self {
            epoch: AtomicU64::new(0),
            inner: Mutex::default(),
            _alive: alive,
        });
        let looked_after = Arc::downgrade(&kept);
        thread::Builder::new()
            .name("notes-kept".to_owned())
            .spawn(move || {
                while ended.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
                    if let Some(kept) = looked_after.upgrade() {
                        kept.inner().drop_if_old();
                    }
                }
            })?;
        Ok(kept)
    }

    /// The thread that writes begins to work: until it says what came of it, nothing is answered from here.
    pub(crate) fn work_begins(&self) {
        self.epoch.fetch_add(1, Ordering::SeqCst);
    }

    /// It is done. To be called before whoever asked for the change is told that it was made.
    pub(crate) fn work_ends(&self, changed: bool) {
        if changed {
            self.epoch.fetch_add(1, Ordering::SeqCst);
            self.forget();
        } else {
            self.epoch.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// The epoch, unless something may just be changing. To be asked before anything is read that is to be kept.
    pub(crate) fn epoch(&self) -> Option<u64> {
        Some(self.epoch.load(Ordering::SeqCst)).filter(|epoch| epoch % 2 == 0)
    }

    /// Lets go of everything.
    pub(crate) fn forget(&self) {
        self.inner().clear();
    }

    /// The page, if it is here and this user was found to be a reader of this person.
    pub(crate) fn notes(
        &self,
        user: &str,
        person: &str,
        wanted: Wanted,
    ) -> Option<(Opening, ShownNotes)> {
        let mut inner = self.of(self.epoch()?)?;
        inner.asked += 1;
        let asked = inner.asked;
        let Inner { readers, pages, .. } = &mut *inner;
        let reader = readers.get(user)?;
        let stand = reader.persons.get(person)?;
        let page = pages.get_mut(person)?;
        if page.wanted != wanted {
            return None;
        }
        page.asked = asked;
        let shown = ShownNotes {
            name: page.name.clone(),
            text: Arc::clone(&page.text),
            older: page.older,
            read_upto: stand.read_upto,
            newest_number: stand.newest_number,
            unread: stand.unread,
        };
        Some((reader.opening.again(), shown))
    }

    /// The list of persons, if it is here for this user.
    pub(crate) fn list(&self, user: &str) -> Option<(Opening, Arc<[Entry]>)> {
        let inner = self.of(self.epoch()?)?;
        let reader = inner.readers.get(user)?;
        Some((reader.opening.again(), Arc::clone(reader.list.as_ref()?)))
    }

    /// The entries of these persons in lists, as far as they are here; all of them are of `epoch`.
    pub(crate) fn entries<'a>(
        &self,
        epoch: Option<u64>,
        persons: impl Iterator<Item = &'a str>,
    ) -> Vec<Option<Arc<Shown>>> {
        let inner = epoch.and_then(|epoch| self.of(epoch));
        let known = |person| inner.as_ref()?.entries.get(person).map(Arc::clone);
        persons.map(known).collect()
    }

    /// Keeps what was read in `epoch`, if that has not ended.
    pub(crate) fn keep_notes(
        &self,
        epoch: Option<u64>,
        (user, person): (&str, &str),
        wanted: Wanted,
        opening: &Opening,
        shown: &ShownNotes,
    ) {
        let Some(mut inner) = epoch.and_then(|epoch| self.of(epoch)) else {
            return;
        };
        let stand = Stand {
            read_upto: shown.read_upto,
            newest_number: shown.newest_number,
            unread: shown.unread,
        };
        let Some(reader) = inner.reader(user, opening) else {
            return;
        };
        reader.persons.insert(person.into(), stand);
        inner.remove_page(person);
        if inner.make_room(shown.text.bytes()) {
            inner.bytes += shown.text.bytes();
            inner.asked += 1;
            let page = Page {
                wanted,
                name: shown.name.clone(),
                text: Arc::clone(&shown.text),
                older: shown.older,
                asked: inner.asked,
            };
            inner.pages.insert(person.into(), page);
        }
    }

    /// Keeps a list that was read in `epoch`, if that has not ended.
    pub(crate) fn keep_list(
        &self,
        epoch: Option<u64>,
        user: &str,
        opening: &Opening,
        (persons, list): (&[String], &Arc<[Entry]>),
    ) {
        let Some(mut inner) = epoch.and_then(|epoch| self.of(epoch)) else {
            return;
        };
        for (person, entry) in persons.iter().zip(list.iter()) {
            if !inner.entries.contains_key(person.as_str()) && inner.make_room(entry.text.bytes()) {
                inner.bytes += entry.text.bytes();
                let text = Arc::clone(&entry.text);
                inner.entries.insert(person.as_str().into(), text);
            }
        }
        if let Some(reader) = inner.reader(user, opening) {
            reader.list = Some(Arc::clone(list));
        }
    }

    /// What is here, all of it of `epoch`; `None` when that has ended.
    fn of(&self, epoch: u64) -> Option<MutexGuard<'_, Inner>> {
        let mut inner = self.inner();
        // Under the lock: whoever ends the epoch empties this afterwards.
        if self.epoch() != Some(epoch) {
            return None;
        }
        inner.drop_if_old();
        if inner.epoch != epoch {
            inner.clear();
            inner.epoch = epoch;
        }
        inner.since.get_or_insert_with(Instant::now);
        Some(inner)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // A panic in between leaves a count of bytes that is too high until all goes.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn clear(&mut self) {
        *self = Self::default();
    }

    fn drop_if_old(&mut self) {
        if self.since.is_some_and(|since| since.elapsed() >= LIFE) {
            self.clear();
        }
    }

    /// `None` when there are too many.
    fn reader(&mut self, user: &str, opening: &Opening) -> Option<&mut Reader> {
        if !self.readers.contains_key(user) {
            if self.readers.len() >= READERS {
                return None;
            }
            let reader = Reader {
                opening: opening.again(),
                persons: HashMap::new(),
                list: None,
            };
            self.readers.insert(user.into(), reader);
        }
        self.readers.get_mut(user)
    }

    fn remove_page(&mut self, person: &str) {
        if let Some(page) = self.pages.remove(person) {
            self.bytes -= page.text.bytes();
        }
    }

    /// `false` when so much would not fit even if all pages went.
    fn make_room(&mut self, bytes: usize) -> bool {
        while self.bytes + bytes > BYTES {
            let oldest = self.pages.iter().min_by_key(|(_, page)| page.asked);
            let Some(person) = oldest.map(|(person, _)| person.clone()) else {
                return false;
            };
            self.remove_page(&person);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Personal, Role, Staff};

    const TODAY: Wanted = Wanted { limit: 50, day: 7 };

    fn opening() -> Opening {
        Opening {
            staff: Staff {
                display_name: Personal::new("staff"),
                role: Role::Staff,
            },
            level: Some(1),
        }
    }

    fn notes(length: usize) -> ShownNotes {
        ShownNotes {
            name: Named::new("name"),
            text: Arc::new(Shown::new("x".repeat(length), vec![])),
            older: None,
            read_upto: 0,
            newest_number: 3,
            unread: 3,
        }
    }

    fn keep(kept: &Kept, user: &str, person: &str, length: usize) {
        let epoch = kept.epoch();
        kept.keep_notes(epoch, (user, person), TODAY, &opening(), &notes(length));
    }

    fn is_kept(kept: &Kept, user: &str, person: &str) -> bool {
        kept.notes(user, person, TODAY).is_some()
    }

    #[test]
    fn a_page_is_for_whom_the_store_has_found_to_be_its_reader() {
        let kept = Kept::start().unwrap();
        keep(&kept, "u", "p", 10);
        assert!(is_kept(&kept, "u", "p"));
        keep(&kept, "v", "q", 10);
        assert!(!is_kept(&kept, "v", "p") && !is_kept(&kept, "u", "q"));
        for other in [Wanted { limit: 49, ..TODAY }, Wanted { day: 8, ..TODAY }] {
            assert!(kept.notes("u", "p", other).is_none());
        }
    }

    #[test]
    fn what_was_read_before_a_change_is_neither_kept_nor_answered_after_it() {
        let kept = Kept::start().unwrap();
        let before = kept.epoch();
        keep(&kept, "u", "p", 10);
        kept.work_begins();
        assert!(!is_kept(&kept, "u", "p"), "something may be changing");
        assert_eq!(kept.epoch(), None);
        kept.work_ends(false);
        assert!(is_kept(&kept, "u", "p"), "nothing has changed");
        kept.work_begins();
        kept.work_ends(true);
        assert!(!is_kept(&kept, "u", "p"));
        // Somebody read it before and is late.
        kept.keep_notes(before, ("u", "p"), TODAY, &opening(), &notes(10));
        assert!(!is_kept(&kept, "u", "p"));
        keep(&kept, "u", "p", 10);
        assert!(is_kept(&kept, "u", "p"));
        kept.forget();
        assert!(!is_kept(&kept, "u", "p"));
    }

    #[test]
    fn what_has_been_here_for_its_minute_goes() {
        let kept = Kept::start().unwrap();
        keep(&kept, "u", "p", 10);
        kept.inner().drop_if_old();
        assert!(is_kept(&kept, "u", "p"));
        kept.inner().since = Some(Instant::now().checked_sub(LIFE).unwrap());
        assert!(!is_kept(&kept, "u", "p"));
        assert_eq!(kept.inner().bytes, 0);
    }

    #[test]
    fn text_is_bounded_and_the_page_asked_for_longest_ago_makes_room() {
        let kept = Kept::start().unwrap();
        let length = BYTES / 4;
        for person in ["a", "b", "c", "d"] {
            keep(&kept, "u", person, length);
        }
        assert!(is_kept(&kept, "u", "a"));
        keep(&kept, "u", "e", length);
        assert!(is_kept(&kept, "u", "a") && is_kept(&kept, "u", "e"));
        assert!(!is_kept(&kept, "u", "b"));
        // The same page again takes the place of the one before.
        keep(&kept, "u", "e", length);
        assert!(is_kept(&kept, "u", "a"));
        keep(&kept, "u", "f", BYTES + 1);
        assert!(!is_kept(&kept, "u", "f"));
        assert!(kept.inner().bytes <= BYTES);
    }
}
