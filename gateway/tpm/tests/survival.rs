//! What happens to a TPM in the field: power cuts, resets, neighbours, exchange, clearing, slowness. Each test is one of them.

mod support;

use gateway_tpm::{Config, ImportKey, KeyBlob, KeyVault, Secret, TpmVault, VaultError, forget_srk};
use std::{
    thread,
    time::{Duration, Instant},
};
use support::{Bench, assert_signs, certificate_verify, neighbour::Neighbour, tap::Tap};
use zeroize::Zeroizing;

/// The TPM's count of suspicious failures (TPM_PT_LOCKOUT_COUNTER).
fn lockout_counter(bench: &Bench) -> u32 {
    const GET_CAPABILITY: [u8; 22] = [
        0x80, 0x01, 0, 0, 0, 22, 0, 0, 0x01, 0x7a, 0, 0, 0, 6, 0, 0, 0x02, 0x0e, 0, 0, 0, 1,
    ];
    let response = bench.tpm.command(&GET_CAPABILITY).expect("capability");
    u32::from_be_bytes(response[23..27].try_into().expect("four bytes"))
}

#[test]
fn five_power_cuts_without_shutdown_neither_lock_the_tpm_nor_lose_the_key() {
    let mut bench = Bench::new();
    let vault = bench.vault();
    let key = vault.generate().expect("generate");
    for cuts in 1..=5 {
        assert_signs(&vault, &key);
        bench.tpm.kill();
        bench.tpm.restart().expect("restart");
        assert_eq!(lockout_counter(&bench), 0, "after {cuts} power cuts");
    }
    assert_signs(&vault, &key);
    // The box lost power too: a new process finds the same.
    drop(vault);
    bench.tpm.restart().expect("restart");
    assert_signs(&bench.vault(), &key);
}

#[test]
fn a_reset_between_two_commands_is_repaired_without_an_error() {
    let mut bench = Bench::new();
    let vault = bench.vault();
    let key = vault.generate().expect("generate");
    assert_signs(&vault, &key);
    for resets in 1..=3 {
        bench.tpm.restart().expect("restart");
        assert_signs(&vault, &key);
        assert_eq!(vault.health().expect("health").rebuilds, resets);
    }
}

#[test]
fn a_neighbours_lockout_does_not_stop_our_key() {
    let bench = Bench::new();
    let vault = bench.vault();
    let key = vault.generate().expect("generate");
    let blob = vault.seal(&Secret::new(b"secret".to_vec())).expect("seal");
    Neighbour::of(&bench).lock_the_tpm();
    assert_signs(&vault, &key);
    assert_eq!(vault.unseal(&blob).expect("unseal").as_bytes(), b"secret");
    drop(vault);
    assert_signs(&bench.vault(), &key);
}

#[test]
fn handles_that_a_dead_process_left_are_given_back() {
    let bench = Bench::new();
    Neighbour::of(&bench).leak_every_slot();
    let vault = bench.vault();
    let key = vault
        .generate()
        .expect("generate with every slot taken before");
    assert_signs(&vault, &key);
    drop(vault);
    let vault = bench.vault();
    Neighbour::of(&bench).leak_every_slot();
    assert_signs(&vault, &key);
    let blob = vault.seal(&Secret::new(b"secret".to_vec())).expect("seal");
    assert_eq!(vault.unseal(&blob).expect("unseal").as_bytes(), b"secret");
}

#[test]
fn a_cleared_tpm_says_key_lost_at_once_and_is_not_asked_again() {
    let bench = Bench::new();
    let tap = Tap::before(bench.tpm.port());
    let vault = TpmVault::open(Config {
        tcti: tap.tcti(),
        ..bench.config()
    })
    .expect("open");
    let key = vault.generate().expect("generate");
    assert_signs(&vault, &key);
    bench.tpm.clear().expect("a neighbour clears the TPM");

    let (before, start) = (tap.commands(), Instant::now());
    let loss = vault
        .sign_tls13(&key, &certificate_verify(7))
        .expect_err("cleared");
    assert!(
        matches!(loss, VaultError::KeyLost) && loss.is_permanent(),
        "{loss:?}"
    );
    assert!(
        start.elapsed() < Duration::from_secs(1),
        "at once, not after {:?}",
        start.elapsed()
    );
    let asked = tap.commands() - before;
    assert!(asked < 20, "one rebuild, not a loop: {asked} commands");

    let before = tap.commands();
    for _ in 0..20 {
        assert!(matches!(
            vault.sign_tls13(&key, &certificate_verify(7)),
            Err(VaultError::KeyLost)
        ));
        assert!(matches!(vault.health(), Err(VaultError::KeyLost)));
    }
    assert_eq!(tap.commands(), before, "a lost TPM is left alone");
    assert!(matches!(
        vault.prove_loadable(&key),
        Err(VaultError::KeyLost)
    ));
    assert!(
        tap.commands() > before,
        "a disposal record rests on the TPM's own word"
    );

    drop(vault);
    assert!(
        matches!(TpmVault::open(bench.config()), Err(VaultError::KeyLost)),
        "and after a restart"
    );
    forget_srk(&bench.state_dir()).expect("the person in charge sets up anew");
    let vault = bench.vault();
    assert!(matches!(
        vault.sign_tls13(&key, &certificate_verify(7)),
        Err(VaultError::KeyLost)
    ));
    assert_signs(&vault, &vault.generate().expect("a new key"));
}

#[test]
fn a_cleared_tpm_that_another_program_set_up_again_is_key_lost_too() {
    let bench = Bench::new();
    let vault = bench.vault();
    let key = vault.generate().expect("generate");
    bench.tpm.clear().expect("clear");
    let elsewhere = Config {
        state_dir: bench.dir.path().join("other"),
        ..bench.config()
    };
    drop(TpmVault::open(elsewhere).expect("another program makes its SRK"));
    assert!(matches!(
        vault.sign_tls13(&key, &certificate_verify(7)),
        Err(VaultError::KeyLost)
    ));
}

#[test]
fn a_private_key_cannot_be_loaded_into_another_tpm() {
    let (here, elsewhere) = (Bench::new(), Bench::new());
    let key = here.vault().generate().expect("generate");
    let tap = Tap::before(elsewhere.tpm.port());
    let thief = TpmVault::open(Config {
        tcti: tap.tcti(),
        ..elsewhere.config()
    })
    .expect("open");
    let stolen = KeyBlob::from_pem(&key.to_pem()).expect("a perfect copy of the file");
    assert!(matches!(
        thief.sign_tls13(&stolen, &certificate_verify(7)),
        Err(VaultError::KeyLost)
    ));
    let before = tap.commands();
    assert!(matches!(
        thief.sign_tls13(&stolen, &certificate_verify(7)),
        Err(VaultError::KeyLost)
    ));
    assert_eq!(
        tap.commands(),
        before,
        "a key known to be lost costs no command"
    );
    assert!(matches!(
        thief.prove_loadable(&stolen),
        Err(VaultError::KeyLost)
    ));
    assert_signs(
        &thief,
        &thief.generate().expect("its own keys are not affected"),
    );
    assert_signs(&here.vault(), &key);
}

#[test]
fn a_box_with_another_tpm_says_key_lost_when_it_starts() {
    let (bench, other) = (Bench::new(), Bench::new());
    drop(bench.vault());
    let exchanged = || Config {
        tcti: other.tpm.tcti(),
        ..bench.config()
    };
    assert!(
        matches!(TpmVault::open(exchanged()), Err(VaultError::KeyLost)),
        "a TPM without SRK"
    );
    drop(other.vault());
    assert!(
        matches!(TpmVault::open(exchanged()), Err(VaultError::KeyLost)),
        "a TPM with its own SRK"
    );
}

#[test]
fn a_substituted_srk_is_refused_at_the_start_and_at_a_rebuild() {
    let mut bench = Bench::new();
    let vault = bench.vault();
    let key = vault.generate().expect("generate");
    Neighbour::of(&bench).substitute_the_srk();
    bench.tpm.restart().expect("restart");
    let refusal = vault
        .sign_tls13(&key, &certificate_verify(7))
        .expect_err("rebuilt on another SRK");
    assert!(matches!(refusal, VaultError::SrkChanged), "{refusal:?}");
    assert!(
        matches!(
            vault.seal(&Secret::new(vec![1])),
            Err(VaultError::SrkChanged)
        ),
        "nothing is told to it"
    );
    drop(vault);
    assert!(matches!(
        TpmVault::open(bench.config()),
        Err(VaultError::SrkChanged)
    ));
    // Even a box that never pinned anything does not take a stranger's key for the SRK.
    let fresh = Config {
        state_dir: bench.dir.path().join("fresh"),
        ..bench.config()
    };
    assert!(matches!(TpmVault::open(fresh), Err(VaultError::SrkChanged)));
}

#[test]
fn an_evicted_srk_comes_back_the_same() {
    let mut bench = Bench::new();
    let vault = bench.vault();
    let key = vault.generate().expect("generate");
    Neighbour::of(&bench).evict_the_srk();
    bench.tpm.restart().expect("restart");
    assert_signs(&vault, &key);
}

#[test]
fn somebody_elses_owner_password_is_named_and_does_not_matter_once_the_srk_is_there() {
    let bench = Bench::new();
    drop(bench.vault());
    Neighbour::of(&bench).own_the_tpm();
    let vault = bench.vault();
    assert_signs(&vault, &vault.generate().expect("generate"));

    let fresh = Bench::new();
    Neighbour::of(&fresh).own_the_tpm();
    let refusal = TpmVault::open(fresh.config()).expect_err("no SRK and no owner authorisation");
    assert!(matches!(refusal, VaultError::OwnerAuth), "{refusal:?}");
}

#[test]
fn a_tpm_that_is_gone_is_unavailable_within_the_deadline_and_found_again_later() {
    let mut bench = Bench::new();
    let vault = TpmVault::open(Config {
        sign_deadline: Duration::from_millis(400),
        ..bench.config()
    })
    .expect("open");
    let key = vault.generate().expect("generate");
    bench.tpm.kill();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let start = Instant::now();
                let outcome = vault.sign_tls13(&key, &certificate_verify(7));
                assert!(
                    matches!(outcome, Err(VaultError::Unavailable)),
                    "{outcome:?}"
                );
                assert!(
                    start.elapsed() < Duration::from_millis(1000),
                    "{:?}",
                    start.elapsed()
                );
            });
        }
    });
    bench.tpm.restart().expect("restart");
    assert_signs(&vault, &key);
}

#[test]
fn commands_that_are_too_late_in_the_queue_never_reach_the_tpm() {
    let bench = Bench::new();
    let tap = Tap::before(bench.tpm.port());
    let config = Config {
        tcti: tap.tcti(),
        sign_deadline: Duration::from_millis(450),
        ..bench.config()
    };
    let vault = TpmVault::open(config).expect("open");
    let key = vault.generate().expect("generate");
    assert_signs(&vault, &key);
    tap.state().delay = Duration::from_millis(100);
    let before = tap.commands();
    let signed: usize = thread::scope(|scope| {
        let calls: Vec<_> = (0..12)
            .map(|_| {
                scope.spawn(|| {
                    let start = Instant::now();
                    let outcome = vault.sign_tls13(&key, &certificate_verify(7));
                    assert!(
                        start.elapsed() < Duration::from_millis(1000),
                        "{:?}",
                        start.elapsed()
                    );
                    match outcome {
                        Ok(_) => 1,
                        Err(VaultError::Deadline) => 0,
                        Err(other) => panic!("{other:?}"),
                    }
                })
            })
            .collect();
        calls
            .into_iter()
            .map(|call| call.join().expect("no panic"))
            .sum()
    });
    tap.state().delay = Duration::ZERO;
    thread::sleep(Duration::from_millis(300));
    let asked = tap.commands() - before;
    assert!((1..=5).contains(&signed), "{signed} fit into 450 ms");
    // One may have begun in time and ended too late for its caller.
    assert!(
        (signed..=signed + 1).contains(&asked),
        "{asked} commands for {signed} signatures"
    );
    assert_signs(&vault, &key);
}

#[test]
fn a_tpm_that_hangs_costs_a_caller_its_deadline_and_the_shutdown_a_second() {
    let bench = Bench::new();
    let open = || {
        let config = Config {
            sign_deadline: Duration::from_millis(300),
            ..bench.config()
        };
        TpmVault::open(config).expect("open")
    };
    let signal = |signal| {
        let pid = i32::try_from(bench.tpm.pid().expect("running")).expect("a process id");
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal).expect("signal");
    };
    let vault = open();
    let key = vault.generate().expect("generate");
    signal(nix::sys::signal::SIGSTOP);
    let start = Instant::now();
    for _ in 0..2 {
        let outcome = vault.sign_tls13(&key, &certificate_verify(7));
        assert!(matches!(outcome, Err(VaultError::Deadline)), "{outcome:?}");
    }
    assert!(
        start.elapsed() < Duration::from_secs(2),
        "{:?}",
        start.elapsed()
    );
    let clone = vault.clone();
    drop(vault);
    let start = Instant::now();
    drop(clone);
    assert!(
        start.elapsed() < Duration::from_secs(2),
        "{:?}",
        start.elapsed()
    );
    signal(nix::sys::signal::SIGCONT);
    assert_signs(&open(), &key);
}

#[test]
fn the_tpm_thread_has_every_signal_blocked() {
    let bench = Bench::new();
    let vault = bench.vault();
    let mut seen = 0;
    for task in std::fs::read_dir("/proc/self/task")
        .expect("tasks")
        .flatten()
    {
        let status = std::fs::read_to_string(task.path().join("status")).unwrap_or_default();
        if status.starts_with("Name:\ttpm\n") {
            let mask = status
                .lines()
                .find_map(|line| line.strip_prefix("SigBlk:\t"))
                .expect("a mask");
            let mask = u64::from_str_radix(mask, 16).expect("hexadecimal");
            // All but SIGKILL, SIGSTOP and the two that the C library keeps to itself.
            let can_be_blocked = 0x7fff_ffff & !(1 << 8) & !(1 << 18);
            assert_eq!(mask & can_be_blocked, can_be_blocked);
            seen += 1;
        }
    }
    assert!(seen >= 1, "a thread named tpm");
    drop(vault);
}

#[test]
fn decommissioning_clears_the_tpm_and_proves_it() {
    let bench = Bench::new();
    let vault = bench.vault();
    let (key, blob) = (
        vault.generate().expect("generate"),
        vault.seal(&Secret::new(vec![1])).expect("seal"),
    );
    vault.clear().expect("clear");
    assert!(matches!(
        vault.prove_loadable(&key),
        Err(VaultError::KeyLost)
    ));
    assert!(matches!(vault.unseal(&blob), Err(VaultError::KeyLost)));
    vault.clear().expect("clearing again is harmless");
    drop(vault);
    let vault = bench.vault();
    assert!(matches!(
        vault.prove_loadable(&key),
        Err(VaultError::KeyLost)
    ));
    assert_signs(
        &vault,
        &vault.generate().expect("the box can be set up again"),
    );
}

#[test]
fn clearing_can_be_disabled_for_everybody() {
    let bench = Bench::new();
    let vault = bench.vault();
    let key = vault.generate().expect("generate");
    vault.set_clear_disabled(true).expect("disable");
    bench.tpm.clear().expect_err("a neighbour");
    assert!(matches!(vault.clear(), Err(VaultError::ClearDisabled)));
    assert_signs(&vault, &key);
    vault
        .set_clear_disabled(false)
        .expect("swtpm's platform authorisation is empty");
    vault.clear().expect("clear");
}

/// Every operation, with the bus cut at each of its commands in turn, before and after the TPM executed it.
#[test]
fn a_transport_cut_at_any_command_of_any_operation_is_repaired() {
    let bench = Bench::new();
    let tap = Tap::before(bench.tpm.port());
    let vault = TpmVault::open(Config {
        tcti: tap.tcti(),
        ..bench.config()
    })
    .expect("open");
    let key = vault.generate().expect("generate");
    let sealed = vault.seal(&Secret::new(b"secret".to_vec())).expect("seal");
    let (scalar, point) = software_key();
    type Operation<'a> = (&'a str, Box<dyn Fn() -> Result<(), VaultError> + 'a>);
    let operations: [Operation<'_>; 7] = [
        (
            "sign",
            Box::new(|| vault.sign_tls13(&key, &certificate_verify(7)).map(drop)),
        ),
        ("generate", Box::new(|| vault.generate().map(drop))),
        (
            "seal",
            Box::new(|| vault.seal(&Secret::new(vec![1; 32])).map(drop)),
        ),
        ("unseal", Box::new(|| vault.unseal(&sealed).map(drop))),
        (
            "import",
            Box::new(|| {
                vault
                    .import(ImportKey::new(scalar.clone(), point)?)
                    .map(drop)
            }),
        ),
        (
            "attest",
            Box::new(|| vault.attest(&key, &[1; 32]).map(drop)),
        ),
        ("prove", Box::new(|| vault.prove_loadable(&key))),
    ];
    for (name, operation) in &operations {
        for executed in [false, true] {
            for at in 0.. {
                tap.state().cut = Some((at, executed));
                operation().unwrap_or_else(|error| panic!("{name} cut at command {at}: {error:?}"));
                let untouched = tap.state().cut.take().is_some();
                assert_signs(&vault, &key);
                if untouched {
                    assert!(at >= 1, "{name} has commands");
                    break;
                }
            }
        }
    }
}

fn software_key() -> (Zeroizing<[u8; 32]>, [u8; 65]) {
    use aws_lc_rs::{
        encoding::{AsBigEndian, EcPrivateKeyBin},
        signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair},
    };
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).expect("generate");
    let scalar: EcPrivateKeyBin<'_> = pair.private_key().as_be_bytes().expect("scalar");
    let scalar = Zeroizing::new(scalar.as_ref().try_into().expect("32 bytes"));
    (
        scalar,
        pair.public_key().as_ref().try_into().expect("65 bytes"),
    )
}
