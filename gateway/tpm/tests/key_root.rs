//! The root of the store's keys in the NV memory of a real (software) TPM: renewed, cut at every command, full, foreign,
//! locked, cleared.

mod support;

use gateway_tpm::{Config, KeyVault, Root, RootVault, TpmVault, VaultError, forget_srk};
use std::{thread, time::Duration};
use support::{Bench, neighbour::Neighbour, tap::Tap};

/// Where the product keeps its roots.
const FIRST: u32 = 0x0181_5a70;
const COUNT: u32 = 4;
const SIZE: u16 = 56;

/// Patient: a dozen software TPMs at one time are slow on a busy machine.
fn config(bench: &Bench) -> Config {
    Config {
        deadline: Duration::from_secs(60),
        ..bench.config()
    }
}

fn open(bench: &Bench) -> TpmVault {
    TpmVault::open(config(bench)).expect("the vault opens")
}

fn generations(vault: &dyn RootVault) -> Vec<u64> {
    let roots = vault.roots().expect("roots");
    roots.iter().map(Root::generation).collect()
}

fn the_root(vault: &dyn RootVault) -> Root {
    let mut roots = vault.roots().expect("roots");
    assert_eq!(roots.len(), 1, "{roots:?}");
    roots.remove(0)
}

fn index_auth(bench: &Bench) -> Vec<u8> {
    std::fs::read(bench.state_dir().join("tpm/root.auth")).expect("the authorisation value")
}

#[test]
fn a_root_is_renewed_in_two_steps_and_the_old_one_is_gone_after_the_second() {
    let bench = Bench::new();
    let vault = open(&bench);
    assert!(generations(&vault).is_empty());
    let first = vault.renew_root(0).expect("a first root");
    assert_eq!(generations(&vault), [1]);
    let second = vault.renew_root(1).expect("the next");
    assert_eq!((first.generation(), second.generation()), (1, 2));
    assert_ne!(first.key(), second.key());
    let both = vault.roots().expect("both");
    assert_eq!((both[0].key(), both[1].key()), (first.key(), second.key()));
    // A renewal that is under way is the one that goes on.
    let again = vault.renew_root(1).expect("the same");
    assert_eq!(again.key(), second.key());
    vault.keep_only_root(2).expect("forget the old");
    vault.keep_only_root(2).expect("again, harmlessly");
    assert_eq!(the_root(&vault).key(), second.key());
    assert_eq!(
        vault.renew_root(2).expect("in turn").generation(),
        3,
        "the first index is used again"
    );
    vault.keep_only_root(3).expect("forget");
    drop(vault);
    assert_eq!(the_root(&open(&bench)).generation(), 3);
}

#[test]
fn writes_to_nv_memory_are_counted_and_few() {
    let bench = Bench::new();
    let vault = open(&bench);
    vault.renew_root(0).expect("a first root");
    let before = vault.health().expect("health").nv_writes;
    vault.renew_root(1).expect("renew");
    vault.keep_only_root(2).expect("forget");
    let health = vault.health().expect("health");
    assert_eq!(health.nv_writes - before, 2, "one for each index");
    for _ in 0..10 {
        vault.roots().expect("reading wears nothing");
    }
    assert_eq!(vault.health().expect("health").nv_writes - before, 2);
}

#[test]
fn roots_survive_power_cuts_between_the_steps() {
    let mut bench = Bench::new();
    let vault = open(&bench);
    for generation in 0..4 {
        let root = vault.renew_root(generation).expect("renew");
        bench.tpm.restart().expect("power returns");
        let newest = vault.roots().expect("roots").pop().expect("the new one");
        assert_eq!(newest.key(), root.key());
        vault.keep_only_root(generation + 1).expect("forget");
        bench.tpm.restart().expect("power returns");
        assert_eq!(the_root(&vault).key(), root.key());
    }
}

/// The power fails at each command of each step in turn, before and after the TPM executed it: the root that the caller
/// depends on is there afterwards, and the step can be completed.
#[test]
fn a_power_cut_at_any_command_leaves_the_root_that_is_needed() {
    // Each case has a TPM of its own and mostly waits for a deadline, so several are tried at one time.
    const TOGETHER: usize = 4;
    for executed in [false, true] {
        for first in (0..).step_by(TOGETHER) {
            let cut: Vec<bool> = thread::scope(|scope| {
                let cases: Vec<_> = (first..first + TOGETHER)
                    .map(|at| scope.spawn(move || cut_a_renewal(at, executed)))
                    .collect();
                cases
                    .into_iter()
                    .map(|case| case.join().expect("no panic"))
                    .collect()
            });
            assert!(first > 0 || cut.iter().all(|cut| *cut));
            if cut.contains(&false) {
                break;
            }
        }
    }
}

/// False when there were fewer commands than that.
fn cut_a_renewal(at: usize, executed: bool) -> bool {
    let mut bench = Bench::new();
    let old = open(&bench).renew_root(0).expect("a first root");
    let cut = power_cut(&mut bench, at, executed, |vault| {
        vault.renew_root(1).map(drop)
    });
    let vault = open(&bench);
    let roots = vault.roots().expect("roots");
    assert_eq!(roots[0].key(), old.key(), "cut at {at}");
    let new = vault.renew_root(1).expect("completed");
    if let Some(there) = roots.get(1) {
        assert_eq!(there.key(), new.key(), "cut at {at}");
    }
    drop(vault);
    power_cut(&mut bench, at, executed, |vault| vault.keep_only_root(2));
    let vault = open(&bench);
    let newest = vault.roots().expect("roots").pop().expect("the new root");
    assert_eq!(newest.key(), new.key(), "cut at {at}");
    vault.keep_only_root(2).expect("completed");
    assert_eq!(the_root(&vault).key(), new.key());
    cut
}

/// Runs `step` with the power failing after `at` commands; true when it failed during the step.
fn power_cut(
    bench: &mut Bench,
    at: usize,
    executed: bool,
    step: fn(&TpmVault) -> Result<(), VaultError>,
) -> bool {
    let tap = Tap::before(bench.tpm.port());
    let vault = TpmVault::open(Config {
        tcti: tap.tcti(),
        ..config(bench)
    })
    .expect("open");
    {
        let mut state = tap.state();
        state.cut = Some((at, executed));
        state.stays_cut = true;
    }
    // Not waited for when the power fails: it would try until its deadline, and reach nobody.
    let running = thread::spawn(move || step(&vault));
    while !running.is_finished() && !tap.state().dead {
        thread::sleep(Duration::from_millis(5));
    }
    let cut = tap.state().dead;
    if !cut {
        running.join().expect("no panic").expect("not cut");
    }
    tap.state().dead = true;
    bench.tpm.restart().expect("power returns");
    cut
}

#[test]
fn a_lost_connection_at_any_command_is_repaired_without_a_second_root() {
    let bench = Bench::new();
    let tap = Tap::before(bench.tpm.port());
    let vault = TpmVault::open(Config {
        tcti: tap.tcti(),
        ..config(&bench)
    })
    .expect("open");
    let mut generation = vault.renew_root(0).expect("a first root").generation();
    for executed in [false, true] {
        for at in 0.. {
            tap.state().cut = Some((at, executed));
            let new = vault.renew_root(generation).expect("renewed");
            assert_eq!(generations(&vault), [generation, generation + 1]);
            vault.keep_only_root(generation + 1).expect("forgotten");
            let untouched = tap.state().cut.take().is_some();
            assert_eq!(the_root(&vault).key(), new.key());
            generation += 1;
            if untouched {
                break;
            }
        }
    }
}

#[test]
fn a_half_written_root_counts_as_none_and_is_written_over() {
    let bench = Bench::new();
    let vault = open(&bench);
    let old = vault.renew_root(0).expect("a first root");
    drop(vault);
    let mut neighbour = Neighbour::of(&bench);
    let auth = index_auth(&bench);
    let used: Vec<u32> = neighbour.indices(FIRST, COUNT);
    assert_eq!(used.len(), 2, "both indices are there from the start");
    let content = |neighbour: &mut Neighbour, at| neighbour.read_index(at, SIZE, Some(&auth));
    let empty = used
        .iter()
        .find(|at| content(&mut neighbour, **at).is_some_and(|bytes| bytes == [0; 56]))
        .expect("one is empty");
    neighbour.write_index(*empty, &[0, 0, 0, 0, 0, 0, 0, 9, 1, 2, 3], &auth);
    drop(neighbour);
    let vault = open(&bench);
    assert_eq!(the_root(&vault).key(), old.key());
    vault.keep_only_root(1).expect("wipes what is half");
    drop(vault);
    let mut neighbour = Neighbour::of(&bench);
    assert_eq!(content(&mut neighbour, *empty), Some(vec![0; 56]));
    drop(neighbour);
    let vault = open(&bench);
    assert_eq!(vault.renew_root(1).expect("renew").generation(), 2);
    assert_eq!(generations(&vault), [1, 2]);
}

#[test]
fn nobody_reads_a_root_without_the_authorisation_value_and_nobody_hears_it_on_the_bus() {
    let bench = Bench::new();
    let tap = Tap::before(bench.tpm.port());
    let vault = TpmVault::open(Config {
        tcti: tap.tcti(),
        ..config(&bench)
    })
    .expect("open");
    let first = vault.renew_root(0).expect("a first root");
    let second = vault.renew_root(1).expect("the next");
    vault.roots().expect("both");
    let auth = index_auth(&bench);
    for secret in [&first.key()[..], &second.key()[..], &auth] {
        assert!(!tap.saw(secret));
    }
    drop(vault);
    let mut neighbour = Neighbour::of(&bench);
    for at in neighbour.indices(FIRST, COUNT) {
        assert_eq!(neighbour.read_index(at, SIZE, None), None, "the owner");
        for guess in [&[][..], &[0; 32]] {
            assert_eq!(neighbour.read_index(at, SIZE, Some(guess)), None);
        }
        assert!(neighbour.read_index(at, SIZE, Some(&auth)).is_some());
    }
}

#[test]
fn indices_whose_authorisation_value_is_lost_are_made_anew() {
    let bench = Bench::new();
    let lost = open(&bench).renew_root(0).expect("a first root");
    let file = bench.state_dir().join("tpm/root.auth");
    for damage in [None, Some("short")] {
        match damage {
            None => std::fs::remove_file(&file).expect("remove"),
            Some(text) => std::fs::write(&file, text).expect("damage"),
        }
        let vault = open(&bench);
        assert!(generations(&vault).is_empty(), "no root, and no crash");
        assert!(matches!(vault.keep_only_root(1), Err(VaultError::KeyLost)));
        let new = vault.renew_root(0).expect("a new one");
        assert_ne!(new.key(), lost.key());
        assert_eq!(the_root(&vault).key(), new.key());
        drop(vault);
        assert_eq!(Neighbour::of(&bench).indices(FIRST, COUNT).len(), 2);
    }
}

#[test]
fn an_index_of_somebody_else_in_the_way_is_left_alone() {
    let bench = Bench::new();
    drop(open(&bench));
    let mut neighbour = Neighbour::of(&bench);
    assert!(neighbour.define_index(FIRST, 100) && neighbour.define_index(FIRST + 1, 56));
    drop(neighbour);
    let vault = open(&bench);
    vault.renew_root(0).expect("beside it");
    vault.renew_root(1).expect("in turn");
    vault.keep_only_root(2).expect("forget");
    vault.destroy_roots().expect("only ours");
    drop(vault);
    let mut neighbour = Neighbour::of(&bench);
    assert_eq!(neighbour.indices(FIRST, COUNT), [FIRST, FIRST + 1]);
    assert!(neighbour.define_index(FIRST + 2, 100) && neighbour.define_index(FIRST + 3, 100));
    drop(neighbour);
    let refusal = open(&bench).renew_root(0).expect_err("no place");
    assert!(matches!(refusal, VaultError::NoNvSpace), "{refusal:?}");
}

#[test]
fn a_tpm_without_room_is_named_and_used_when_there_is_room_again() {
    let bench = Bench::new();
    drop(open(&bench));
    let mut neighbour = Neighbour::of(&bench);
    let mut taken = Vec::new();
    for size in [2048, 512, 64, 16] {
        while neighbour.define_index(0x0180_1000 + u32::try_from(taken.len()).expect("few"), size) {
            taken.push(0x0180_1000 + u32::try_from(taken.len()).expect("few"));
        }
    }
    drop(neighbour);
    let vault = open(&bench);
    let refusal = vault.renew_root(0).expect_err("the NV memory is full");
    assert!(matches!(refusal, VaultError::NoNvSpace), "{refusal:?}");
    assert!(refusal.is_permanent());
    assert!(generations(&vault).is_empty());
    drop(vault);
    Neighbour::of(&bench).undefine_index(taken[0]);
    let vault = open(&bench);
    vault.renew_root(0).expect("there is room again");
    drop(vault);
    // What is defined stays usable however full it gets.
    let mut neighbour = Neighbour::of(&bench);
    for size in [2048, 512, 64, 16] {
        while neighbour.define_index(0x0180_2000 + u32::try_from(taken.len()).expect("few"), size) {
            taken.push(0);
        }
    }
    drop(neighbour);
    let vault = open(&bench);
    vault.renew_root(1).expect("a renewal needs no room");
    vault.keep_only_root(2).expect("nor does forgetting");
}

#[test]
fn neither_a_lockout_nor_somebody_elses_owner_password_stops_renewals() {
    let bench = Bench::new();
    open(&bench).renew_root(0).expect("a first root");
    Neighbour::of(&bench).lock_the_tpm();
    let vault = open(&bench);
    vault.renew_root(1).expect("renew under lockout");
    vault.keep_only_root(2).expect("forget under lockout");
    drop(vault);
    Neighbour::of(&bench).own_the_tpm();
    let vault = open(&bench);
    vault.renew_root(2).expect("renew under another owner");
    vault.keep_only_root(3).expect("forget under another owner");
    // It cannot remove the indices, but what is in them.
    vault.destroy_roots().expect("destroy");
    assert!(generations(&vault).is_empty());

    let fresh = Bench::new();
    drop(open(&fresh));
    Neighbour::of(&fresh).own_the_tpm();
    let refusal = open(&fresh).renew_root(0).expect_err("no index yet");
    assert!(matches!(refusal, VaultError::OwnerAuth), "{refusal:?}");
}

#[test]
fn a_cleared_tpm_has_no_root_and_takes_a_new_one_when_it_is_set_up_again() {
    let bench = Bench::new();
    let lost = open(&bench).renew_root(0).expect("a first root");
    bench.tpm.clear().expect("a neighbour clears the TPM");
    assert!(matches!(
        TpmVault::open(config(&bench)),
        Err(VaultError::KeyLost)
    ));
    forget_srk(&bench.state_dir()).expect("set up anew");
    let vault = open(&bench);
    assert!(generations(&vault).is_empty());
    let new = vault.renew_root(1).expect("a new root");
    assert_eq!(new.generation(), 2);
    assert_ne!(new.key(), lost.key());
}

#[test]
fn decommissioning_destroys_both_indices_even_where_clearing_is_refused() {
    let bench = Bench::new();
    let vault = open(&bench);
    vault.renew_root(0).expect("a first root");
    vault.renew_root(1).expect("the next");
    vault.set_clear_disabled(true).expect("disable");
    assert!(matches!(vault.clear(), Err(VaultError::ClearDisabled)));
    drop(vault);
    assert!(Neighbour::of(&bench).indices(FIRST, COUNT).is_empty());

    let vault = open(&bench);
    vault.set_clear_disabled(false).expect("enable");
    vault.renew_root(0).expect("a first root");
    vault.renew_root(1).expect("the next");
    let before = generations(&vault);
    vault.clear().expect("clear");
    drop(vault);
    assert_eq!(before, [1, 2]);
    assert!(Neighbour::of(&bench).indices(FIRST, COUNT).is_empty());
    assert!(!bench.state_dir().join("tpm/root.auth").exists());
}

#[test]
fn destroyed_roots_are_gone_from_the_tpm_and_their_authorisation_value_from_the_disk() {
    let bench = Bench::new();
    let vault = open(&bench);
    vault.destroy_roots().expect("nothing to destroy");
    vault.renew_root(0).expect("a first root");
    vault.destroy_roots().expect("destroy");
    vault.destroy_roots().expect("again");
    assert!(generations(&vault).is_empty());
    drop(vault);
    assert!(Neighbour::of(&bench).indices(FIRST, COUNT).is_empty());
    assert!(!bench.state_dir().join("tpm/root.auth").exists());
}
