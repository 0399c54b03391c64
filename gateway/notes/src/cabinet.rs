//! All that is stored at one place: the database that is read, the one that may be filled beside it, and the root above the
//! keys of both.
//!
//! It decides when keys move to a new root and when one database takes the other's place; what is in them is theirs.
//! Each step leaves the disk so that the next opening can go on from it, forwards, whatever the power does.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::allowance;
use crate::database::Database;
use crate::file::{self, make_directory};
use crate::key::{Keyring, Wrapping};
use crate::rekeying::Due;
use crate::{AttachmentPolicy, Error, Event, KeyRoots, Limits, Opened};

/// Names the database that is read and, after it, the one that is being filled.
const IN_USE: &str = "in-use";
const NAMES: [&str; 2] = ["a", "b"];
/// How long a keeper of roots that fails is left alone: each try may take its whole deadline, and readers wait.
const PAUSE: Duration = Duration::from_secs(60);

/// See the module.
pub(crate) struct Cabinet {
    pub(crate) current: Database,
    next: Option<Database>,
    roots: Arc<dyn KeyRoots>,
    directory: PathBuf,
    /// The keeper may still hold a root under which nothing is any more.
    old_root_left: bool,
    not_before: Option<Instant>,
    /// The time as last told, in Unix seconds.
    now: i64,
    #[cfg(test)]
    pub(crate) on_step: Option<Box<dyn FnMut(&'static str) + Send>>,
}

/// How far a database that is filled beside the one in use has come, and whether something is left to be forgotten.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rebuilding {
    /// Notes received so far by the database that is being filled; `None` when there is none.
    pub notes: Option<u64>,
    /// A key was destroyed here, a person's who is gone or one under which a deleted note was, but the root is yet to be
    /// renewed: until then a copy of the disk made earlier, together with this box, still opens what was under it.
    pub renewal_due: bool,
    /// The generation of the root, which is how often it was renewed.
    pub generation: u64,
}

/// Differs from one taken before if what can be read may have changed meanwhile.
#[derive(PartialEq, Eq)]
pub(crate) struct Trace {
    identity: u64,
    root: u64,
    destroyed: u64,
    /// Rows written on this connection, the only one that writes.
    rows: u64,
    limits: Limits,
    attachments: AttachmentPolicy,
}

impl Cabinet {
    /// See the type.
    pub(crate) fn trace(&self) -> Trace {
        let database = &self.current;
        Trace {
            identity: database.identity,
            root: database.keys.wrapping().generation(),
            destroyed: database.destroyed,
            rows: database.connection.total_changes(),
            limits: database.limits,
            attachments: database.attachments.clone(),
        }
    }

    /// Opens what is there, completes what was cut, or starts afresh where there is nothing, or nothing usable.
    pub(crate) fn open(
        directory: &Path,
        roots: Arc<dyn KeyRoots>,
        limits: Limits,
    ) -> Result<(Self, Opened), Error> {
        make_directory(directory)?;
        // Earlier versions had one database, here.
        file::erase(directory)?;
        let names = read_names(directory)?;
        for name in NAMES.iter().filter(|name| !names.contains(name)) {
            erase(&directory.join(name))?;
        }
        let wrappings = wrappings(&*roots)?;
        let newest = wrappings.last().map_or(0, |root| root.generation());
        let usable =
            |name: &&'static str| match Database::open(&directory.join(name), &wrappings, limits) {
                Err(error) if error.is_damage() => Ok(Err(error)),
                opened => opened.map(Ok),
            };
        let found = names.iter().map(usable).collect::<Result<Vec<_>, _>>()?;
        let damaged = found.iter().any(Result::is_err);
        let mut found = found.into_iter().filter_map(|found| found.ok().flatten());
        let (current, opened) = match found.next() {
            Some(current) if damaged => (current, Opened::StartedAfresh),
            Some(current) => (current, Opened::Resumed),
            None => {
                // What an earlier store left under the root of today must not open any more.
                let root = Arc::new(Wrapping::of(&roots.renew(newest)?)?);
                let keys = Keyring::generate(root)?;
                let current = Database::create(&directory.join(NAMES[0]), keys, limits)?;
                let opened = if damaged {
                    Opened::StartedAfresh
                } else {
                    Opened::New
                };
                (current, opened)
            }
        };
        let next = found.next();
        let mut cabinet = Self {
            current,
            next,
            roots,
            directory: directory.to_owned(),
            old_root_left: true,
            not_before: None,
            now: 0,
            #[cfg(test)]
            on_step: None,
        };
        cabinet.write_names()?;
        cabinet.complete()?;
        Ok((cabinet, opened))
    }

    /// Goes on from wherever the power was cut.
    fn complete(&mut self) -> Result<(), Error> {
        let wrappings = wrappings(&*self.roots)?;
        if let Some(newest) = wrappings.last() {
            for database in self.databases() {
                if database.keys.wrapping().generation() < newest.generation() {
                    database.rewrap(newest)?;
                }
            }
        }
        self.old_root_left = wrappings.len() > 1;
        if self.renewal_due()?.is_some() {
            self.renew_or_leave_due()?;
        } else {
            self.forget_old_or_leave_it();
        }
        for database in self.databases() {
            database.finish_purge()?;
        }
        if let Some(next) = &self.next
            && next.is_caught_up()?
        {
            self.switch()?;
        }
        Ok(())
    }

    /// Where the feed goes on: in the database that is being filled.
    pub(crate) fn position(&self) -> Result<Option<String>, Error> {
        self.next.as_ref().unwrap_or(&self.current).position()
    }

    /// Applies events that follow the one with the id `after`.
    ///
    /// A person that ends is gone in this order: its keys on this disk; the root under which a copy of the disk has them;
    /// its rows and files. A note that is deleted goes, and its person gets another key, in one step before the root is
    /// renewed. Many in one call cost one renewal.
    pub(crate) fn apply(
        &mut self,
        after: Option<&str>,
        events: &[Event],
        now: i64,
    ) -> Result<(), Error> {
        if self.position()?.as_deref() != after {
            return Err(Error::OutOfStep);
        }
        self.now = now;
        let mut destroyed = false;
        for database in self.databases() {
            destroyed |= database.forget(events, now)?;
        }
        self.step("keys destroyed");
        if destroyed || self.unfinished()? {
            self.renew_when_allowed(now)?;
        }
        let Some(next) = &mut self.next else {
            self.current.apply(events, now)?;
            self.step("applied");
            return Ok(());
        };
        // First where it is read, so that nobody reads what the position already says is gone.
        self.current.restrict(events, now)?;
        next.limits = self.current.limits;
        next.attachments.clone_from(&self.current.attachments);
        next.apply(events, now)?;
        let complete = next.is_caught_up()?;
        self.step("applied");
        if complete { self.switch() } else { Ok(()) }
    }

    /// Drops what has grown too old, and renews a root whose renewal is due.
    pub(crate) fn tidy(&mut self, now: i64) -> Result<(), Error> {
        self.now = now;
        if self.unfinished()? {
            self.renew_when_allowed(now)?;
        }
        for database in self.databases() {
            database.tidy(now)?;
        }
        Ok(())
    }

    /// The feed has to be followed from the beginning: a second database is filled beside the one that is read. Whatever had
    /// been filled so far is erased.
    pub(crate) fn begin_rebuild(&mut self) -> Result<(), Error> {
        if self.next.is_none() && self.current.position()?.is_none() {
            // Nothing has come from the feed yet.
            return Ok(());
        }
        if self.current.limits.days == 0 {
            self.start_afresh()?;
            return self.current.remember_whether_off();
        }
        self.abandon_next()?;
        let name = NAMES
            .into_iter()
            .find(|name| !self.current.directory.ends_with(name))
            .expect("there are two names");
        let keys = self.current.keys.beside()?;
        let directory = self.directory.join(name);
        let mut next = Database::create(&directory, keys, self.current.limits)?;
        next.attachments = self.current.attachments.clone();
        self.step("beside");
        self.next = Some(next);
        self.write_names()?;
        self.step("rebuilding");
        Ok(())
    }

    /// The database that was filled takes the place of the one that was read.
    fn switch(&mut self) -> Result<(), Error> {
        let Some(mut next) = self.next.take() else {
            return Ok(());
        };
        // Marks are worth no failure: without them everything is unread. A damaged database may have none to give.
        if let Err(error) = self.current.carry_marks_over(&mut next) {
            tracing::warn!(event = "store", %error, "marks of what was read are lost");
        }
        if let Err(error) = next.adopt_attachments(&self.current) {
            // They are fetched again.
            tracing::warn!(%error, "attachments could not be carried over");
        }
        // What is only in the old one was taken back by the city; copies of it go with the root.
        next.set_renewal_due()?;
        allowance::carry_over(&self.current.connection)(&next.connection)?;
        let old = std::mem::replace(&mut self.current, next);
        self.step("switching");
        self.write_names()?;
        self.step("switched");
        let directory = old.directory.clone();
        drop(old);
        erase(&directory)?;
        self.step("old erased");
        self.renew_when_allowed(self.now)
    }

    fn abandon_next(&mut self) -> Result<(), Error> {
        let Some(next) = self.next.take() else {
            return Ok(());
        };
        self.write_names()?;
        let directory = next.directory.clone();
        drop(next);
        erase(&directory)
    }

    /// Erases everything and begins with an empty database under a new root. The city still has it all.
    pub(crate) fn start_afresh(&mut self) -> Result<(), Error> {
        self.abandon_next()?;
        let wrapping = Arc::clone(self.current.keys.wrapping());
        let carry_over = allowance::carry_over(&self.current.connection);
        self.current.start_afresh(Keyring::generate(wrapping)?)?;
        carry_over(&self.current.connection)?;
        self.current.set_renewal_due()?;
        self.step("afresh");
        self.renew_when_allowed(self.now)
    }

    /// Puts new bounds in force; answers whether the feed has to be followed from the beginning.
    pub(crate) fn set_bounds(
        &mut self,
        limits: Limits,
        attachments: AttachmentPolicy,
        now: i64,
    ) -> Result<bool, Error> {
        self.now = now;
        if self.current.set_bounds(limits, attachments, now)? {
            self.start_afresh()?;
            self.current.remember_whether_off()?;
            return Ok(true);
        }
        Ok(false)
    }

    /// One more than the notes that the database beside has; 0 without one.
    pub(crate) fn beside(&self) -> u64 {
        let of = |next: &Database| u64::try_from(next.totals.notes).unwrap_or_default() + 1;
        self.next.as_ref().map_or(0, of)
    }

    /// How the rebuilding and the root stand.
    pub(crate) fn rebuilding(&self) -> Result<Rebuilding, Error> {
        Ok(Rebuilding {
            notes: self.beside().checked_sub(1),
            renewal_due: self.unfinished()?,
            generation: self.current.keys.wrapping().generation(),
        })
    }

    /// After damage: what is still whole goes on, the rest is filled again.
    pub(crate) fn recover(&mut self) -> Result<(), Error> {
        let whole = self
            .next
            .as_ref()
            .is_some_and(|next| file::is_whole(&next.connection));
        if whole {
            // The damage is where it was read; what has been filled so far takes its place.
            return self.switch();
        }
        let current_is_whole = file::is_whole(&self.current.connection);
        if self.next.is_some() && current_is_whole {
            return self.abandon_next();
        }
        self.start_afresh()
    }

    fn databases(&mut self) -> impl Iterator<Item = &mut Database> {
        std::iter::once(&mut self.current).chain(&mut self.next)
    }

    fn renewal_due(&self) -> Result<Option<Due>, Error> {
        let of_next = self.next.as_ref().map(Database::renewal_due).transpose()?;
        Ok(self.current.renewal_due()?.max(of_next.flatten()))
    }

    fn unfinished(&self) -> Result<bool, Error> {
        Ok(self.old_root_left || self.renewal_due()?.is_some())
    }

    /// Renews the root, unless that happens too often for the keeper's memory, which wears: then several purges wait for
    /// one renewal. Their keys are destroyed on this disk all the same.
    fn renew_when_allowed(&mut self, now: i64) -> Result<(), Error> {
        if self
            .not_before
            .is_some_and(|moment| Instant::now() < moment)
        {
            return Ok(());
        }
        let Some(due) = self.renewal_due()? else {
            self.forget_old_or_leave_it();
            return Ok(());
        };
        if allowance::take(&self.current.connection, due, now)? {
            self.renew_or_leave_due()?;
        }
        Ok(())
    }

    /// A keeper that fails does not stop the feed: what is due stays due, durably.
    fn renew_or_leave_due(&mut self) -> Result<(), Error> {
        match self.renew() {
            Err(Error::Root(fault)) => {
                tracing::error!(error = %fault, reason = %fault.source, "the root of the keys could not be renewed; to be tried again");
                self.not_before = Some(Instant::now() + PAUSE);
                Ok(())
            }
            outcome => outcome,
        }
    }

    fn renew(&mut self) -> Result<(), Error> {
        let from = self.current.keys.wrapping().generation();
        // An old root that could not be forgotten has to be before a newer one is made: there are two places.
        let root = self.roots.renew(from)?;
        self.step("renewed");
        let wrapping = Arc::new(Wrapping::of(&root)?);
        drop(root);
        // Forgotten only when nothing is under it any more.
        self.old_root_left = true;
        self.current.rewrap(&wrapping)?;
        self.step("rewrapped");
        if let Some(next) = &mut self.next {
            next.rewrap(&wrapping)?;
            self.step("rewrapped");
        }
        self.roots.keep_only(wrapping.generation())?;
        self.old_root_left = false;
        self.not_before = None;
        self.step("forgotten");
        Ok(())
    }

    fn forget_old_or_leave_it(&mut self) {
        if !self.old_root_left {
            return;
        }
        match self
            .roots
            .keep_only(self.current.keys.wrapping().generation())
        {
            Ok(()) => self.old_root_left = false,
            Err(fault) => {
                tracing::error!(error = %fault, reason = %fault.source, "an old root of the keys could not be forgotten; to be tried again");
                self.not_before = Some(Instant::now() + PAUSE);
            }
        }
    }

    /// Says, durably and in one step, which databases are in use.
    fn write_names(&self) -> Result<(), Error> {
        let names: Vec<&str> = std::iter::once(&self.current)
            .chain(&self.next)
            .filter_map(|database| {
                NAMES
                    .into_iter()
                    .find(|name| database.directory.ends_with(name))
            })
            .collect();
        let path = self.directory.join(IN_USE);
        let content = names.join("\n");
        if fs::read_to_string(&path).is_ok_and(|there| there == content) {
            return Ok(());
        }
        replace(&self.directory, &path, content.as_bytes())
            .map_err(|source| Error::Directory { path, source })
    }

    #[cfg(test)]
    fn step(&mut self, name: &'static str) {
        if let Some(on_step) = &mut self.on_step {
            on_step(name);
        }
    }

    #[cfg(not(test))]
    #[inline]
    #[allow(clippy::unused_self, reason = "a test looks at the disk here")]
    const fn step(&self, _: &'static str) {}
}

fn wrappings(roots: &dyn KeyRoots) -> Result<Vec<Arc<Wrapping>>, Error> {
    let roots = roots.roots()?;
    roots
        .iter()
        .map(|root| Wrapping::of(root).map(Arc::new))
        .collect()
}

/// The names in use, the one that is read first. A file that says anything else says nothing.
fn read_names(directory: &Path) -> Result<Vec<&'static str>, Error> {
    let path = directory.join(IN_USE);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::InvalidData
            ) =>
        {
            String::new()
        }
        Err(source) => return Err(Error::Directory { path, source }),
    };
    let names: Vec<_> = text
        .lines()
        .filter_map(|line| NAMES.into_iter().find(|name| *name == line))
        .collect();
    Ok(names)
}

fn replace(directory: &Path, path: &Path, content: &[u8]) -> io::Result<()> {
    let fresh = path.with_extension("new");
    let mut file = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&fresh)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&fresh, path)?;
    File::open(directory)?.sync_all()
}

fn erase(directory: &Path) -> Result<(), Error> {
    if !directory.exists() {
        return Ok(());
    }
    file::erase(directory)?;
    fs::remove_dir_all(directory).map_err(|source| Error::Erase {
        path: directory.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests;
