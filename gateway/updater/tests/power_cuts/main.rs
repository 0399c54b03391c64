//! A power cut at every single operation of an update: of the writing, of the blessing, and of the recovery from a cut before.
//!
//! Each cut is tried with nothing, all, the last torn by sectors, each one alone, all but each one, and random parts of what was not yet on the
//! medium. Afterwards a system must start whose kernel is whole and whose slot is what it stands for, nothing below the floor may start, the
//! record must be readable, and going on must end with the new version.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "what a test cannot do is its failure; the counts are printed"
)]

mod chance;
mod disk;
#[path = "../support/mod.rs"]
mod support;
mod world;

use std::collections::HashSet;

use chance::Chance;
use disk::{Loss, Omission};
use world::{Lived, Town, World, fingerprint};

/// What was tried and what was found.
#[derive(Default)]
struct Tally {
    /// Cuts, each with one way of losing what was not yet on the medium.
    points: usize,
    /// Different states of the media among them; the same one is not tried twice.
    states: usize,
    unbootable: usize,
    downgraded: usize,
    stuck: usize,
    examples: Vec<String>,
}

impl Tally {
    fn note(&mut self, found: Result<(), String>, at: &str) {
        let Err(what) = found else { return };
        let counter = match &what {
            what if what.starts_with("downgraded") => &mut self.downgraded,
            what if what.starts_with("stuck") => &mut self.stuck,
            _ => &mut self.unbootable,
        };
        *counter += 1;
        if self.examples.len() < 5 {
            self.examples.push(format!("{at}: {what}"));
        }
    }

    fn bad(&self) -> usize {
        self.unbootable + self.downgraded + self.stuck
    }
}

/// Ways of losing what is owed.
fn losses(owed: usize, random: u64) -> Vec<(Loss, u64)> {
    let mut out = vec![
        (Loss::Nothing, 0),
        (Loss::All, 0),
        (Loss::LastTorn, 1),
        (Loss::LastTorn, 2),
    ];
    for one in 0..owed {
        out.extend([(Loss::Only(one), 0), (Loss::AllBut(one), 0)]);
    }
    out.extend((0..random).map(|seed| (Loss::Any, seed)));
    out
}

/// Starts the box again and again until the new version is good.
fn go_on(town: &Town, mut world: World) -> Result<(), String> {
    for _ in 0..6 {
        let system = world.boot(town)?;
        let running = world.power_on(None, Omission::None);
        let lived = running
            .live(town, system)
            .map_err(|error| format!("stuck: {error}: {}", error.id()))?;
        world = running.power_off(Loss::All, &mut Chance::new(0));
        world.hold(town)?;
        if lived == Lived::Done {
            return match world.floor()? {
                Some(floor) if floor == town.new.version => Ok(()),
                other => Err(format!("stuck: done, and the floor is {other:?}")),
            };
        }
    }
    Err("stuck: it does not end".to_owned())
}

/// The lives of a box from `world` on, each with its beginning and its number of operations.
fn lives(town: &Town, mut world: World) -> Vec<(World, usize)> {
    let mut out = Vec::new();
    for _ in 0..6 {
        let before = world.clone();
        let system = world.boot(town).unwrap();
        let running = world.power_on(None, Omission::None);
        let lived = running.live(town, system).unwrap();
        let count = running.wire.borrow().count;
        out.push((before, count));
        world = running.power_off(Loss::All, &mut Chance::new(0));
        if lived == Lived::Done {
            return out;
        }
    }
    panic!("it does not end");
}

/// Cuts each life at each operation and hands every state that can follow to `then`.
fn cut_everywhere(
    town: &Town,
    lives: &[(World, usize)],
    omission: Omission,
    random: u64,
    then: &mut dyn FnMut(World, String),
) {
    for (life, (before, count)) in lives.iter().enumerate() {
        for operation in 0..*count {
            let mut world = before.clone();
            let system = world.boot(town).unwrap();
            let running = world.power_on(Some(operation), omission);
            let outcome = running.live(town, system);
            assert!(outcome.is_err(), "the power went off at {operation}");
            for (loss, seed) in losses(running.owed(), random) {
                let mut chance = Chance::new(seed * 1009 + operation as u64);
                let after = running.power_off(loss, &mut chance);
                then(
                    after,
                    format!("life {life}, operation {operation}, {loss:?}"),
                );
            }
        }
    }
}

/// Cuts a whole update; and, when `deeper`, whatever the box does after each cut once more.
fn explore(town: &Town, omission: Omission, deeper: bool) -> Tally {
    let mut tally = Tally::default();
    let all = lives(town, World::new(town));
    let mut cut = Vec::new();
    let mut seen = HashSet::new();
    cut_everywhere(town, &all, omission, 12, &mut |world, at| {
        tally.points += 1;
        if seen.insert(fingerprint(&world)) {
            let held = world.hold(town).and_then(|()| go_on(town, world.clone()));
            if held.is_ok() {
                cut.push((world, at.clone()));
            }
            tally.note(held, &at);
        }
    });
    if !deeper {
        tally.states = seen.len();
        return tally;
    }
    for (world, first) in cut {
        let lives = lives(town, world);
        cut_everywhere(town, &lives, omission, 2, &mut |world, at| {
            tally.points += 1;
            if seen.insert(fingerprint(&world)) {
                let at = format!("{first}; then {at}");
                tally.note(world.hold(town).and_then(|()| go_on(town, world)), &at);
            }
        });
    }
    tally.states = seen.len();
    tally
}

#[test]
fn a_power_cut_at_any_operation_leaves_a_box_that_starts_and_goes_on() {
    let town = Town::new();
    let tally = explore(&town, Omission::None, true);
    println!(
        "{} crash points ({} different states), {} unbootable, {} downgraded, {} stuck",
        tally.points, tally.states, tally.unbootable, tally.downgraded, tally.stuck
    );
    assert_eq!(tally.bad(), 0, "{:#?}", tally.examples);
    assert!(tally.points > 10_000, "{}", tally.points);
}

#[test]
fn a_power_cut_while_a_release_is_taken_back_leaves_it_startable_or_gone() {
    let town = Town::new();
    let mut world = World::new(&town);
    let old = world.boot(&town).unwrap();
    let running = world.power_on(None, Omission::None);
    running.live(&town, old.clone()).unwrap();
    // Installed and not restarted.
    let written = running.power_off(Loss::All, &mut Chance::new(0));
    let whole = written.power_on(None, Omission::None);
    whole.take_back(old.clone()).unwrap();
    let count = whole.wire.borrow().count;
    let mut tally = Tally::default();
    for operation in 0..count {
        let running = written.power_on(Some(operation), Omission::None);
        assert!(running.take_back(old.clone()).is_err());
        for (loss, seed) in losses(running.owed(), 12) {
            let mut chance = Chance::new(seed * 1009 + operation as u64);
            let after = running.power_off(loss, &mut chance);
            tally.points += 1;
            let held = after.hold(&town).and_then(|()| go_on(&town, after));
            tally.note(held, &format!("operation {operation}, {loss:?}"));
        }
    }
    println!(
        "taking back: {} crash points, {} unbootable, {} downgraded, {} stuck",
        tally.points, tally.unbootable, tally.downgraded, tally.stuck
    );
    assert_eq!(tally.bad(), 0, "{:#?}", tally.examples);
    // Once it is taken back, the old one starts.
    let mut after = whole.power_off(Loss::Nothing, &mut Chance::new(0));
    assert_eq!(after.boot(&town).unwrap(), old);
}

#[test]
fn the_search_finds_each_synchronisation_that_is_left_out() {
    let town = Town::new();
    for omission in [
        Omission::FreshFile,
        Omission::RenamedFile,
        Omission::Directory,
        Omission::Device,
    ] {
        let tally = explore(&town, omission, false);
        println!(
            "without {omission:?}: {} crash points, {} unbootable, {} downgraded, {} stuck; {:?}",
            tally.points,
            tally.unbootable,
            tally.downgraded,
            tally.stuck,
            tally.examples.first()
        );
        assert!(tally.bad() > 0, "{omission:?} is not missed");
    }
}
