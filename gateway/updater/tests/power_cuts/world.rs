//! A whole box made of recorded partitions and folders, with a firmware that starts it, and what must hold of it after any power cut.

use std::cell::RefCell;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::rc::Rc;

use bytes::Bytes;
use gateway_policy::Timestamp;
use gateway_policy::version::compare;
use gateway_updater::UpdateError;
use gateway_updater::hex;
use gateway_updater::index::{Image, sha256};
use gateway_updater::install::{Judged, Machine, Parts, Trust, Verdict};
use gateway_updater::record::Record;
use gateway_updater::slot::{KernelName, Slot, Tries};
use gateway_updater::source::{Bucket, Pieces, Source};
use gateway_updater::state::{Found, Phase, System};
use gateway_updater::uki;
use gateway_updater::writer::Pair;

use crate::chance::Chance;
use crate::disk::{Kept, Loss, Omission, Platter, Power, Recorded, Shelf, Wire};
use crate::support::kernel::{Signer, partitions};
use crate::support::release::{Release, noise};

pub(crate) const ROOM: [usize; 2] = [5 * 65_536, 2 * 65_536];
const NOW: Timestamp = Timestamp(1_796_090_400);

/// The releases of a test: what runs, what was there before it, and what is new.
pub(crate) struct Town {
    pub(crate) signer: Signer,
    pub(crate) before: Release,
    pub(crate) old: Release,
    pub(crate) new: Release,
}

impl Town {
    pub(crate) fn new() -> Self {
        let signer = Signer::new("db");
        let old = noise(1, 3 * 65_536 + 8192);
        // Of the new image one block is the old one's, at another place; two are new.
        let mut new = noise(2, 65_536);
        new.extend(&old[..65_536]);
        new.extend(noise(3, 65_536 + 4096));
        Self {
            before: Release::new("1.0", noise(4, 2 * 65_536), &signer),
            old: Release::new("1.1", old, &signer),
            new: Release::new("1.2", new, &signer),
            signer,
        }
    }

    fn trust(&self, slot: Slot) -> Trust {
        Trust {
            partitions: partitions(slot),
            signer: self.signer.certificate.clone(),
        }
    }
}

/// The new release's images, from memory.
pub(crate) struct Offered<'a>(pub(crate) &'a Release);

pub(crate) struct Pieced(Vec<Bytes>);

impl Source for Offered<'_> {
    type Pieces = Pieced;

    async fn open(&self, image: Image, from: u64) -> Result<Pieced, UpdateError> {
        let bytes = match image {
            Image::Root => &self.0.root,
            Image::Verity => &self.0.verity,
        };
        let from = usize::try_from(from).unwrap();
        // In pieces that fit no block.
        let mut pieces: Vec<Bytes> = bytes[from..]
            .chunks(50_000)
            .map(Bytes::copy_from_slice)
            .collect();
        pieces.reverse();
        Ok(Pieced(pieces))
    }
}

impl Pieces for Pieced {
    async fn next(&mut self) -> Result<Option<Bytes>, UpdateError> {
        Ok(self.0.pop())
    }
}

/// What is on the media of a box.
#[derive(Clone)]
pub(crate) struct World {
    /// Slot a's root and tree, slot b's root and tree.
    platters: [Platter; 4],
    esp: Shelf,
    record: Shelf,
}

/// A box under power.
pub(crate) struct Running {
    platters: [Rc<RefCell<Platter>>; 4],
    esp: Rc<RefCell<Shelf>>,
    record: Rc<RefCell<Shelf>>,
    pub(crate) wire: Wire,
    omission: Omission,
}

impl World {
    /// The old release runs in slot a and was found to be good; slot b holds the one before.
    pub(crate) fn new(town: &Town) -> Self {
        let padded = |bytes: &[u8], room: usize| {
            let mut out = bytes.to_vec();
            out.resize(room, 0xee);
            Platter::new(out)
        };
        let platters = [
            padded(&town.old.root, ROOM[0]),
            padded(&town.old.verity, ROOM[1]),
            padded(&town.before.root, ROOM[0]),
            padded(&town.before.verity, ROOM[1]),
        ];
        let mut esp = BTreeMap::new();
        for (release, slot) in [(&town.old, Slot::A), (&town.before, Slot::B)] {
            let name = KernelName {
                version: release.version.clone(),
                slot,
                tries: None,
            };
            esp.insert(name.to_string(), release.kernels[&slot].clone());
        }
        let world = Self {
            platters,
            esp: Shelf::new(esp),
            record: Shelf::default(),
        };
        let running = world.power_on(None, Omission::None);
        let mut machine = running.machine(town.old.system(Slot::A)).unwrap();
        machine.start(NOW).unwrap();
        assert_eq!(machine.judge(Verdict::Good, NOW).unwrap(), Judged::Good);
        running.power_off(Loss::All, &mut Chance::new(0))
    }

    pub(crate) fn power_on(&self, until: Option<usize>, omission: Omission) -> Running {
        let wire = Rc::new(RefCell::new(Power { count: 0, until }));
        Running {
            platters: self.platters.clone().map(|it| Rc::new(RefCell::new(it))),
            esp: Rc::new(RefCell::new(self.esp.clone())),
            record: Rc::new(RefCell::new(self.record.clone())),
            wire,
            omission,
        }
    }

    /// Every kernel that the boot loader would start is whole, and its slot is what it stands for. What it would start in the end.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub(crate) fn check(&self, town: &Town) -> Result<System, String> {
        for (file, bytes) in &self.esp.files() {
            let Some(name) = KernelName::parse(file) else {
                continue;
            };
            // The boot loader skips an empty file; half a kernel it starts, and the firmware may stop at that.
            if !bytes.is_empty() {
                self.verified(town, &name, bytes)?;
            }
        }
        let mut copy = self.clone();
        copy.boot(town)
            .map_err(|error| format!("unbootable: {error}"))
    }

    fn verified(&self, town: &Town, name: &KernelName, bytes: &[u8]) -> Result<System, String> {
        let release = [&town.before, &town.old, &town.new]
            .into_iter()
            .find(|release| release.version == name.version)
            .ok_or(format!("{name} is of no release"))?;
        if *bytes != release.kernels[&name.slot] {
            return Err(format!("{name} is not whole"));
        }
        let starts = uki::starts(bytes).map_err(|error| error.to_string())?;
        let first = if name.slot == Slot::A { 0 } else { 2 };
        let parts = [(&release.root, first), (&release.verity, first + 1)];
        for (expected, number) in parts {
            if !self.platters[number].durable.starts_with(expected) {
                return Err(format!("{name} is whole, and its slot is not"));
            }
        }
        assert_eq!(starts.root_hash, hex::of(&release.root_hash));
        Ok(release.system(name.slot))
    }

    /// What the firmware and the boot loader do: the preferred kernel loses an attempt and starts.
    pub(crate) fn boot(&mut self, town: &Town) -> Result<System, String> {
        let mut files = self.esp.files();
        let mut kernels: Vec<KernelName> = files
            .iter()
            .filter(|(_, bytes)| !bytes.is_empty())
            .filter_map(|(file, _)| KernelName::parse(file))
            .collect();
        kernels.sort_by(KernelName::preference);
        let chosen = kernels.pop().ok_or("no kernel")?;
        let bytes = files[&chosen.to_string()].clone();
        if let Some(Tries { left, done }) = chosen.tries
            && left > 0
        {
            files.remove(&chosen.to_string());
            let tried = Tries {
                left: left - 1,
                done: done + 1,
            };
            files.insert(chosen.with(Some(tried)).to_string(), bytes.clone());
            self.esp = Shelf::new(files);
        }
        self.verified(town, &chosen, &bytes)
    }

    /// The floor as it stands on the medium.
    ///
    /// # Errors
    /// When there is no valid record.
    pub(crate) fn floor(&self) -> Result<Option<String>, String> {
        let folder = Kept {
            shelf: Rc::new(RefCell::new(self.record.clone())),
            wire: Wire::default(),
            omission: Omission::None,
        };
        let record = Record::open(folder).map_err(|error| format!("record: {error}"))?;
        Ok(record.state().floor().map(str::to_owned))
    }

    /// Everything that must hold after a power cut.
    ///
    /// # Errors
    /// What does not.
    pub(crate) fn hold(&self, town: &Town) -> Result<(), String> {
        let boots = self.check(town)?;
        let floor = self.floor()?.ok_or("downgraded: the floor was lost")?;
        if compare(&boots.version, &floor) == Ordering::Less {
            return Err(format!(
                "downgraded: {} boots, the floor is {floor}",
                boots.version
            ));
        }
        if compare(&floor, &town.old.version) == Ordering::Less {
            return Err(format!("downgraded: the floor sank to {floor}"));
        }
        let slot_a = self.platters[0].durable.starts_with(&town.old.root);
        if !slot_a {
            return Err("the running slot was touched".to_owned());
        }
        Ok(())
    }
}

impl Running {
    fn machine(&self, running: System) -> Result<Machine<Recorded, Kept, Kept>, UpdateError> {
        let device = |number: usize| Recorded {
            platter: Rc::clone(&self.platters[number]),
            wire: Rc::clone(&self.wire),
            omission: self.omission,
        };
        let folder = |shelf: &Rc<RefCell<Shelf>>, omission| Kept {
            shelf: Rc::clone(shelf),
            wire: Rc::clone(&self.wire),
            omission,
        };
        let [a, b] = [0, 2].map(|first| Pair {
            root: device(first),
            verity: device(first + 1),
        });
        let (active, other) = match running.slot {
            Slot::A => (a, b),
            Slot::B => (b, a),
        };
        Ok(Machine {
            running,
            active,
            other,
            esp: folder(&self.esp, self.omission),
            record: Record::open(folder(&self.record, Omission::None))?,
        })
    }

    /// One life from the start of the system to the next restart. What runs then: nothing more to do, or the box was restarted.
    pub(crate) fn live(&self, town: &Town, running: System) -> Result<Lived, UpdateError> {
        let mut machine = self.machine(running.clone())?;
        let found = machine.start(NOW)?;
        if running.version == town.new.version {
            assert_eq!(machine.judge(Verdict::Good, NOW)?, Judged::Good);
            return Ok(Lived::Done);
        }
        if found == Found::CameBack {
            // The manager's word.
            let mut state = machine.record.state().clone();
            assert!(state.retry());
            machine.record.put(state)?;
        }
        machine.judge(Verdict::Good, NOW)?;
        if matches!(machine.record.state().phase(), Phase::Written(_)) {
            return Ok(Lived::Restarted);
        }
        let slot = running.slot.other();
        let parts = Parts {
            index: &town.new.index,
            lengths: [town.new.root.len() as u64, town.new.verity.len() as u64],
            kernel: &town.new.kernels[&slot],
        };
        let prepared = machine.prepare(&town.new.manifest(), parts, &town.trust(slot))?;
        let source = Offered(&town.new);
        let installing = async {
            machine
                .install(&prepared, &source, &mut Bucket::new(None))
                .await
        };
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap()
            .block_on(installing)?;
        Ok(Lived::Restarted)
    }

    /// A life in which the release that waits for its restart is taken back.
    pub(crate) fn take_back(&self, running: System) -> Result<(), UpdateError> {
        let mut machine = self.machine(running)?;
        machine.start(NOW)?;
        machine.withdraw()
    }

    /// How many writes are owed to the medium, at most by one part of it.
    pub(crate) fn owed(&self) -> usize {
        let platters = self.platters.iter().map(|it| it.borrow().pending.len());
        let shelves = [&self.esp, &self.record].map(|it| it.borrow().owes());
        platters.chain(shelves).max().unwrap_or(0)
    }

    pub(crate) fn power_off(&self, loss: Loss, chance: &mut Chance) -> World {
        World {
            platters: std::array::from_fn(|number| {
                self.platters[number].borrow().after(loss, chance)
            }),
            esp: self.esp.borrow().after(loss, chance),
            record: self.record.borrow().after(loss, chance),
        }
    }
}

/// How a life ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Lived {
    /// The new version is good.
    Done,
    /// The restart is due.
    Restarted,
}

/// A digest of the media, so that the same state is not tried twice.
pub(crate) fn fingerprint(world: &World) -> [u8; 32] {
    let mut bytes = Vec::new();
    for platter in &world.platters {
        bytes.extend(sha256(&platter.durable));
    }
    for shelf in [&world.esp, &world.record] {
        for (name, content) in &shelf.files() {
            bytes.extend(name.as_bytes());
            bytes.push(0);
            bytes.extend(sha256(content));
        }
        bytes.push(1);
    }
    sha256(&bytes)
}
