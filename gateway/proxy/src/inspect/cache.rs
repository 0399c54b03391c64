//! Which bodies the present database has found clean. Bounded; forgets the least recently used of eight neighbours.
//!
//! Only clean verdicts are kept: what was stopped is scanned again, because the next database may think otherwise. One
//! lock for each set of eight entries, so that workers do not wait for one another.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicU32, Ordering},
};

use super::{fingerprint::Fingerprint, kind::Kinds};

const WAYS: usize = 8;

#[derive(Clone, Copy)]
struct Entry {
    fingerprint: Fingerprint,
    database: u64,
    kinds: Kinds,
    used: u32,
}

/// Clean bodies by fingerprint and database.
pub(crate) struct Clean {
    sets: Box<[Mutex<[Option<Entry>; WAYS]>]>,
    clock: AtomicU32,
}

impl Clean {
    /// Remembers about `entries` bodies, some sixty bytes each.
    pub(crate) fn new(entries: usize) -> Self {
        let sets = (entries / WAYS).max(1).next_power_of_two();
        Self {
            sets: (0..sets).map(|_| Mutex::new([None; WAYS])).collect(),
            clock: AtomicU32::new(0),
        }
    }

    fn set(&self, fingerprint: Fingerprint) -> &Mutex<[Option<Entry>; WAYS]> {
        let mask = self.sets.len() as u64 - 1;
        let index = usize::try_from(fingerprint.place() & mask).unwrap_or(0);
        &self.sets[index]
    }

    /// What kinds of content it holds, if it was found clean by this database.
    pub(crate) fn get(&self, fingerprint: Fingerprint, database: u64) -> Option<Kinds> {
        let mut set = self
            .set(fingerprint)
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let entry = set
            .iter_mut()
            .flatten()
            .find(|entry| entry.fingerprint == fingerprint && entry.database == database)?;
        // A tick is given at insertion only: reading must not write a line that all workers share.
        entry.used = self.clock.load(Ordering::Relaxed);
        Some(entry.kinds)
    }

    /// The same of the database that was in use last, before this one; for when the scanner has just stopped answering.
    pub(crate) fn before(&self, fingerprint: Fingerprint, database: u64) -> Option<Kinds> {
        let last = database.checked_sub(1)?;
        self.get(fingerprint, last)
    }

    pub(crate) fn insert(&self, fingerprint: Fingerprint, database: u64, kinds: Kinds) {
        let used = self.clock.fetch_add(1, Ordering::Relaxed);
        let entry = Entry {
            fingerprint,
            database,
            kinds,
            used,
        };
        let mut set = self
            .set(fingerprint)
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let same = set
            .iter()
            .position(|old| old.is_some_and(|old| old.fingerprint == fingerprint));
        let place = same.or_else(|| set.iter().position(Option::is_none));
        let place = place.unwrap_or_else(|| {
            let age = |entry: &Option<Entry>| entry.map_or(u32::MAX, |e| used.wrapping_sub(e.used));
            (0..WAYS).max_by_key(|way| age(&set[*way])).unwrap_or(0)
        });
        set[place] = Some(entry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inspect::fingerprint::Key;

    #[test]
    fn another_database_knows_nothing_of_what_the_first_found_clean() {
        let (key, clean) = (Key::new().unwrap(), Clean::new(64));
        let print = key.of(b"body");
        clean.insert(print, 1, Kinds::NONE);
        assert!(clean.get(print, 1).is_some());
        assert!(clean.get(print, 2).is_none());
        clean.insert(print, 2, Kinds::NONE);
        assert!(clean.get(print, 1).is_none(), "one entry for one body");
        assert!(clean.get(key.of(b"other"), 2).is_none());
    }

    #[test]
    fn it_forgets_what_was_not_asked_for_and_stays_within_bounds() {
        let (key, clean) = (Key::new().unwrap(), Clean::new(WAYS));
        let wanted = key.of(b"wanted");
        clean.insert(wanted, 1, Kinds::NONE);
        for number in 0_u32..100 {
            clean.insert(key.of(&number.to_le_bytes()), 1, Kinds::NONE);
            assert!(clean.get(wanted, 1).is_some());
        }
        let kept = (0_u32..100).filter(|n| clean.get(key.of(&n.to_le_bytes()), 1).is_some());
        assert_eq!(kept.count(), WAYS - 1);
    }
}
