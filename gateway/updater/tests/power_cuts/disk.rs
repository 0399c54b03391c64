//! Partitions and folders that remember what is not yet on the medium, and can lose it.
//!
//! What a folder may lose follows vfat as measured on Linux 6.12: a new name comes with length 0, its length with the file's own metadata; so a
//! synchronised folder can hold an empty file, and a synchronised file can have its old name beside the new one.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;

use gateway_updater::device::Device;
use gateway_updater::folder::Folder;

use crate::chance::Chance;

const SECTOR: usize = 512;

/// The power: it goes off at one operation, and nothing works from then on.
#[derive(Debug, Default)]
pub(crate) struct Power {
    /// Operations so far.
    pub(crate) count: usize,
    /// The operation at which it goes off.
    pub(crate) until: Option<usize>,
}

pub(crate) type Wire = Rc<RefCell<Power>>;

/// Which synchronisation a faulty program would leave out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Omission {
    None,
    /// fsync(file) before a kernel's rename.
    FreshFile,
    /// fsync(file) after a kernel's rename.
    RenamedFile,
    /// fsync(directory) after kernels were removed, before the slot is written.
    Directory,
    /// The flush of the partitions.
    Device,
}

fn off() -> io::Error {
    io::Error::other("the power is off")
}

/// Counts an operation; an error when the power is off already. True when it goes off during this one.
fn tick(wire: &Wire) -> io::Result<bool> {
    let mut power = wire.borrow_mut();
    if power.until.is_some_and(|until| power.count > until) {
        return Err(off());
    }
    power.count += 1;
    Ok(power.until.is_some_and(|until| power.count > until))
}

/// What becomes of what is not on the medium.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    /// Nothing of it arrives.
    Nothing,
    /// All of it arrives.
    All,
    /// All but the last, which arrives torn by sectors.
    LastTorn,
    /// Only the one with this number.
    Only(usize),
    /// All but the one with this number.
    AllBut(usize),
    /// Any of it, each torn or not.
    Any,
}

impl Loss {
    /// Whether operation `number` of `count` arrives, and whether torn.
    fn of(self, number: usize, count: usize, chance: &mut Chance) -> (bool, bool) {
        match self {
            Self::Nothing => (false, false),
            Self::All => (true, false),
            Self::LastTorn => (true, number + 1 == count),
            Self::Only(one) => (number == one, false),
            Self::AllBut(one) => (number != one, false),
            Self::Any => (chance.toss(), chance.toss()),
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Platter {
    pub(crate) durable: Vec<u8>,
    pub(crate) pending: Vec<(usize, Vec<u8>)>,
}

impl Platter {
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        Self {
            durable: bytes,
            pending: Vec::new(),
        }
    }

    /// What is on the medium after a power cut.
    pub(crate) fn after(&self, loss: Loss, chance: &mut Chance) -> Self {
        let mut durable = self.durable.clone();
        for (number, (at, bytes)) in self.pending.iter().enumerate() {
            let (arrives, torn) = loss.of(number, self.pending.len(), chance);
            if !arrives {
                continue;
            }
            for (sector, piece) in bytes.chunks(SECTOR).enumerate() {
                if !torn || chance.toss() {
                    let from = at + sector * SECTOR;
                    durable[from..from + piece.len()].copy_from_slice(piece);
                }
            }
        }
        Self::new(durable)
    }
}

/// A partition.
#[derive(Clone, Debug)]
pub(crate) struct Recorded {
    pub(crate) platter: Rc<RefCell<Platter>>,
    pub(crate) wire: Wire,
    pub(crate) omission: Omission,
}

impl Device for Recorded {
    fn length(&self) -> io::Result<u64> {
        Ok(self.platter.borrow().durable.len() as u64)
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let platter = self.platter.borrow();
        let at = usize::try_from(offset).unwrap();
        let end = at + buffer.len();
        let from = platter.durable.get(at..end);
        buffer.copy_from_slice(from.ok_or(io::ErrorKind::UnexpectedEof)?);
        for (start, bytes) in &platter.pending {
            let (low, high) = (at.max(*start), end.min(start + bytes.len()));
            if low < high {
                buffer[low - at..high - at].copy_from_slice(&bytes[low - start..high - start]);
            }
        }
        Ok(())
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let goes_off = tick(&self.wire)?;
        let at = usize::try_from(offset).unwrap();
        self.platter.borrow_mut().pending.push((at, bytes.to_vec()));
        if goes_off { Err(off()) } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        if tick(&self.wire)? {
            return Err(off());
        }
        if self.omission != Omission::Device {
            let mut platter = self.platter.borrow_mut();
            let all = platter.after(Loss::All, &mut Chance::new(0));
            *platter = all;
        }
        Ok(())
    }

    fn read_back(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.read(offset, buffer)
    }
}

/// One write to the medium that a folder still owes.
#[derive(Clone, Debug)]
struct Effect {
    /// The file it belongs to: fsync(file) brings it out.
    file: Option<u64>,
    /// Whether fsync(directory) brings it out.
    of_names: bool,
    what: What,
}

#[derive(Clone, Debug)]
enum What {
    /// The entry of a file is there, with length 0.
    Entry(String),
    /// A file's content is there.
    Content(Vec<u8>),
    /// The entry has the file's length.
    Length(String, usize),
    /// The entry is gone.
    Gone(String),
}

/// Entries with their file and length, and the files' content.
#[derive(Clone, Debug, Default)]
struct Medium {
    entries: BTreeMap<String, (u64, usize)>,
    contents: BTreeMap<u64, Vec<u8>>,
}

impl Medium {
    /// One write arrives; torn, when there is a chance of it. An entry is within one sector, and is not torn.
    fn take(&mut self, effect: &Effect, torn: Option<&mut Chance>) {
        let file = effect.file.unwrap_or_default();
        match &effect.what {
            What::Entry(name) => drop(self.entries.insert(name.clone(), (file, 0))),
            What::Length(name, length) => {
                self.entries.insert(name.clone(), (file, *length));
            }
            What::Gone(name) => drop(self.entries.remove(name)),
            What::Content(bytes) => {
                let mut bytes = bytes.clone();
                if let Some(chance) = torn {
                    for sector in bytes.chunks_mut(SECTOR) {
                        if chance.toss() {
                            sector.fill(0);
                        }
                    }
                }
                self.contents.insert(file, bytes);
            }
        }
    }

    /// The files as one would read them: what never arrived reads as zeros.
    fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let read = |(name, (file, length)): (&String, &(u64, usize))| {
            let mut bytes = self.contents.get(file).cloned().unwrap_or_default();
            bytes.resize(*length, 0);
            (name.clone(), bytes)
        };
        self.entries.iter().map(read).collect()
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Shelf {
    durable: Medium,
    /// As the system sees it: content and identity.
    current: BTreeMap<String, (u64, Vec<u8>)>,
    pending: Vec<Effect>,
    next: u64,
}

impl Shelf {
    pub(crate) fn new(files: BTreeMap<String, Vec<u8>>) -> Self {
        let mut shelf = Self::default();
        for (name, bytes) in files {
            let id = shelf.next;
            shelf.next += 1;
            shelf
                .durable
                .entries
                .insert(name.clone(), (id, bytes.len()));
            shelf.durable.contents.insert(id, bytes.clone());
            shelf.current.insert(name, (id, bytes));
        }
        shelf
    }

    /// What is on the medium.
    pub(crate) fn files(&self) -> BTreeMap<String, Vec<u8>> {
        self.durable.files()
    }

    pub(crate) fn owes(&self) -> usize {
        self.pending.len()
    }

    /// What is on the medium after a power cut.
    pub(crate) fn after(&self, loss: Loss, chance: &mut Chance) -> Self {
        let mut durable = self.durable.clone();
        for (number, effect) in self.pending.iter().enumerate() {
            let (arrives, torn) = loss.of(number, self.pending.len(), chance);
            if arrives {
                let torn = if torn { Some(&mut *chance) } else { None };
                durable.take(effect, torn);
            }
        }
        Self::new(durable.files())
    }

    fn bring_out(&mut self, which: impl Fn(&Effect) -> bool) {
        let (out, kept) = self.pending.drain(..).partition(|effect| which(effect));
        self.pending = kept;
        let out: Vec<Effect> = out;
        for effect in out {
            self.durable.take(&effect, None);
        }
    }

    fn owe(&mut self, file: Option<u64>, of_names: bool, what: What) {
        self.pending.push(Effect {
            file,
            of_names,
            what,
        });
    }
}

/// A folder.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    pub(crate) shelf: Rc<RefCell<Shelf>>,
    pub(crate) wire: Wire,
    pub(crate) omission: Omission,
}

impl Folder for Kept {
    fn names(&self) -> io::Result<Vec<String>> {
        Ok(self.shelf.borrow().current.keys().cloned().collect())
    }

    fn read(&self, name: &str, limit: u64) -> io::Result<Option<Vec<u8>>> {
        let shelf = self.shelf.borrow();
        let bytes = shelf.current.get(name).map(|(_, bytes)| bytes.clone());
        if bytes
            .as_ref()
            .is_some_and(|bytes| bytes.len() as u64 > limit)
        {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(bytes)
    }

    fn write(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let goes_off = tick(&self.wire)?;
        let mut shelf = self.shelf.borrow_mut();
        let next = shelf.next;
        let id = shelf.current.get(name).map_or(next, |(id, _)| *id);
        shelf.next += 1;
        shelf.current.insert(name.to_owned(), (id, bytes.to_vec()));
        shelf.owe(Some(id), true, What::Entry(name.to_owned()));
        shelf.owe(Some(id), false, What::Content(bytes.to_vec()));
        let length = What::Length(name.to_owned(), bytes.len());
        shelf.owe(Some(id), false, length);
        if goes_off { Err(off()) } else { Ok(()) }
    }

    fn sync(&mut self, name: &str) -> io::Result<()> {
        if tick(&self.wire)? {
            return Err(off());
        }
        let mut shelf = self.shelf.borrow_mut();
        let id = shelf.current.get(name).map(|(id, _)| *id);
        let id = id.ok_or(io::ErrorKind::NotFound)?;
        // A kernel under its final name was renamed just now.
        let renamed = name.ends_with(".efi");
        let left_out = match self.omission {
            Omission::FreshFile => !renamed,
            Omission::RenamedFile => renamed,
            _ => false,
        };
        if left_out {
            return Ok(());
        }
        shelf.bring_out(|effect| effect.file == Some(id));
        Ok(())
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        let goes_off = tick(&self.wire)?;
        let mut shelf = self.shelf.borrow_mut();
        let (id, bytes) = shelf.current.remove(from).ok_or(io::ErrorKind::NotFound)?;
        shelf.current.insert(to.to_owned(), (id, bytes.clone()));
        shelf.owe(Some(id), true, What::Entry(to.to_owned()));
        shelf.owe(None, true, What::Gone(from.to_owned()));
        shelf.owe(Some(id), false, What::Length(to.to_owned(), bytes.len()));
        if goes_off { Err(off()) } else { Ok(()) }
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        let goes_off = tick(&self.wire)?;
        let mut shelf = self.shelf.borrow_mut();
        if shelf.current.remove(name).is_some() {
            shelf.owe(None, true, What::Gone(name.to_owned()));
        }
        if goes_off { Err(off()) } else { Ok(()) }
    }

    fn sync_names(&mut self) -> io::Result<()> {
        if tick(&self.wire)? {
            return Err(off());
        }
        if self.omission != Omission::Directory {
            self.shelf.borrow_mut().bring_out(|effect| effect.of_names);
        }
        Ok(())
    }
}
