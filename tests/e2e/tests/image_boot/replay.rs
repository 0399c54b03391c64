//! A power cut at any write of an update, with the writes that the real kernel, its vfat, the boot loader and the firmware made.
//!
//! A box installs a release and finds it good while everything that reaches its disk is recorded. Afterwards the disk is put
//! together as a cut would have left it, and it is worked out what the firmware would start. Nothing is booted for that: what the
//! boot loader takes is its documented rule (systemd-boot(7), "boot counting"), and a kernel that is not byte for byte one that was
//! signed counts as refused.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::Duration;

use test_harness::appliance::disk::partition;
use test_harness::appliance::writes::{Write, Writes};
use test_harness::appliance::{self, Appliance};

use super::stage::Stage;
use super::{NEXT, READY, START};

/// Random selections of what was not flushed, for each stretch between two flushes.
const RANDOM: u64 = 12;

/// Up to so many writes each one is left out alone, and is there alone.
const EACH: usize = 24;

/// A release as it was signed: its version and its files.
struct Signed {
    version: &'static str,
    slot: char,
    kernel: Vec<u8>,
    root: Vec<u8>,
    verity: Vec<u8>,
}

impl Signed {
    fn of(version: &'static str, slot: char, folder: &Path) -> Self {
        let file = |name: &str| fs::read(folder.join("release").join(name)).unwrap();
        Self {
            version,
            slot,
            kernel: file(&format!("uki-{slot}.efi")),
            root: file("root.img"),
            verity: file("root.verity"),
        }
    }
}

/// What starts, and whether its kernel still has a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Starts {
    version: &'static str,
    counted: bool,
}

/// The disk, as far as a cut let it come.
struct Disk<'a> {
    appliance: &'a Appliance,
    file: File,
    signed: [Signed; 2],
}

impl Disk<'_> {
    fn put(&self, writes: &Writes, chosen: &[Write]) {
        for write in chosen {
            self.file
                .write_all_at(&writes.bytes(write).unwrap(), write.at)
                .unwrap();
        }
    }

    /// Puts `chosen` on the disk for the time of `look`.
    fn with<T>(&self, writes: &Writes, chosen: &[Write], look: impl FnOnce() -> T) -> T {
        let before: Vec<(u64, Vec<u8>)> = chosen
            .iter()
            .map(|write| {
                let mut bytes = vec![0; usize::try_from(write.length).unwrap()];
                self.file.read_exact_at(&mut bytes, write.at).unwrap();
                (write.at, bytes)
            })
            .collect();
        self.put(writes, chosen);
        let seen = look();
        for (at, bytes) in before.iter().rev() {
            self.file.write_all_at(bytes, *at).unwrap();
        }
        seen
    }

    /// What firmware and boot loader start, unattended; `None` when they stop.
    fn starts(&self) -> Option<Starts> {
        let mut kernels: BTreeMap<String, Option<&Signed>> = BTreeMap::new();
        for name in self.appliance.kernels().unwrap() {
            if name.ends_with(".efi") {
                let content = self.appliance.kernel(&name).unwrap();
                let signed = self.signed.iter().find(|signed| signed.kernel == content);
                kernels.insert(name, signed);
            }
        }
        // Those with attempts or without a counter, newest first; each attempt that fails uses up the counter.
        for (name, signed) in kernels
            .iter()
            .rev()
            .filter(|(name, _)| !name.contains("+0"))
        {
            let counted = name.contains('+');
            match signed.filter(|signed| self.slot_is_right(signed)) {
                Some(signed) => {
                    return Some(Starts {
                        version: signed.version,
                        counted,
                    });
                }
                None if counted => {}
                None => return None,
            }
        }
        None
    }

    fn slot_is_right(&self, signed: &Signed) -> bool {
        [("root", &signed.root), ("verity", &signed.verity)]
            .iter()
            .all(|(kind, expected)| {
                let name = format!("renraku-{kind}-{}", signed.slot);
                let place = partition(&self.appliance.disk(), &name).unwrap();
                let mut found = vec![0; expected.len()];
                self.file.read_exact_at(&mut found, place.start).unwrap();
                found == **expected
            })
    }
}

/// What was tried.
#[derive(Debug, Default)]
struct Tried {
    states: usize,
    stopped: Vec<String>,
    downgraded: Vec<String>,
}

#[test]
fn a_power_cut_at_any_write_of_an_update_leaves_a_box_that_starts() {
    let stage = Stage::new();
    let mut appliance = Appliance::new("replayed", &stage.release).unwrap();
    appliance.switch_on_once(stage.city.port()).unwrap();
    appliance.wait_until_off(START).unwrap();
    appliance.switch_on(stage.city.port()).unwrap();
    appliance.wait_for(&[READY], START).unwrap();
    stage.provision(&appliance);
    appliance.cut_power();
    appliance.keep().unwrap();

    let next = appliance::trial().join("next");
    stage.publish(NEXT, &next);
    appliance.switch_on_logged(stage.city.port()).unwrap();
    appliance
        .wait_until_off(Duration::from_secs(1_200))
        .unwrap();
    let installing = appliance.written("installing").unwrap();
    appliance.switch_on_logged(stage.city.port()).unwrap();
    appliance
        .wait_for(&["Finished gateway-health.service"], START + START)
        .unwrap();
    appliance.cut_power();
    let judging = appliance.written("judging").unwrap();

    // From here on the box's disk is what a cut has left.
    fs::rename(appliance.kept_disk(), appliance.disk()).unwrap();
    let file = File::options()
        .read(true)
        .write(true)
        .open(appliance.disk())
        .unwrap();
    let disk = Disk {
        appliance: &appliance,
        file,
        signed: [
            Signed::of("0.1.0", 'a', &stage.release),
            Signed::of(NEXT, 'b', &next),
        ],
    };
    let old = Starts {
        version: "0.1.0",
        counted: false,
    };
    let good = Starts {
        version: NEXT,
        counted: false,
    };
    assert_eq!(disk.starts(), Some(old));
    let mut tried = Tried::default();
    replay(&disk, &installing, "installing", &mut tried);
    let installed = Starts {
        version: NEXT,
        counted: true,
    };
    assert_eq!(disk.starts(), Some(installed));
    replay(&disk, &judging, "judging", &mut tried);
    assert_eq!(disk.starts(), Some(good));
    println!(
        "{} states of what the kernel, the boot loader and the firmware wrote: {} unbootable, {} downgraded",
        tried.states,
        tried.stopped.len(),
        tried.downgraded.len()
    );
    assert!(tried.states > 100, "{tried:?}");
    assert!(
        tried.stopped.is_empty() && tried.downgraded.is_empty(),
        "{tried:?}"
    );
}

/// Tries every cut of a recording, and leaves the disk as it was at the recording's end.
fn replay(disk: &Disk<'_>, writes: &Writes, what: &str, tried: &mut Tried) {
    let place = |name: &str| partition(&disk.appliance.disk(), name).unwrap();
    let firmware = place("renraku-esp");
    let [other_root, other_tree] = [place("renraku-root-b"), place("renraku-verity-b")];
    // The copy of the table is in the last 33 sectors (UEFI 2.10 §5.3.2).
    let end = disk.file.metadata().unwrap().len() - 33 * 512;
    let data = other_tree.end.max(other_root.end)..end;
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut last = disk.starts().unwrap();
    for (index, stretch) in writes.stretches().iter().enumerate() {
        let touches = |write: &Write, place: &std::ops::Range<u64>| place.contains(&write.at);
        for write in stretch {
            let known = touches(write, &firmware)
                || touches(write, &other_root)
                || touches(write, &other_tree)
                || touches(write, &data);
            assert!(
                known,
                "{what}: something writes to the running slot or the table: {write:?}"
            );
        }
        let matters: Vec<Write> = stretch
            .iter()
            .filter(|write| touches(write, &firmware))
            .copied()
            .collect();
        if !matters.is_empty() {
            for (which, chosen) in cuts(&matters, &mut random) {
                let seen = disk.with(writes, &chosen, || disk.starts());
                tried.states += 1;
                let name = format!("{what}, flush {index}, {which}: {seen:?} after {last:?}");
                match seen {
                    None => tried.stopped.push(name),
                    // Once a release was found good on the medium, no cut brings the one before it back.
                    Some(starts) if last.version == NEXT && !last.counted && starts != last => {
                        tried.downgraded.push(name);
                    }
                    Some(_) => {}
                }
            }
        }
        disk.put(writes, stretch);
        if !matters.is_empty() {
            last = disk.starts().unwrap_or(last);
        }
    }
}

/// What of a stretch may be on the medium: prefixes, each write alone, all but each, and random selections.
fn cuts(stretch: &[Write], random: &mut u64) -> Vec<(String, Vec<Write>)> {
    let mut cuts = vec![
        ("nothing".to_owned(), Vec::new()),
        ("all".to_owned(), stretch.to_vec()),
    ];
    let step = stretch.len().div_ceil(EACH);
    for index in (0..stretch.len()).step_by(step) {
        cuts.push((format!("the first {index}"), stretch[..index].to_vec()));
        cuts.push((format!("{index} alone"), vec![stretch[index]]));
        let mut others = stretch.to_vec();
        others.remove(index);
        cuts.push((format!("all but {index}"), others));
    }
    for round in 0..RANDOM {
        let chosen = stretch.iter().filter(|_| {
            // xorshift64 (Marsaglia 2003): the same selections in every run.
            *random ^= *random << 13;
            *random ^= *random >> 7;
            *random ^= *random << 17;
            *random & 1 == 1
        });
        cuts.push((format!("selection {round}"), chosen.copied().collect()));
    }
    cuts
}
