//! Four defects that the conformance suite does not look for and that another client was measured to have (decision 0011).

use std::sync::Arc;

use gateway_policy::Timestamp;
use gateway_release::Role;
use gateway_tuf::{Disk, Medium, Store};

use crate::disk::{FailingDisk, Loss};
use crate::town::{DAY, NOON, Town, at, key, now};

/// Cuts the power after each operation of the refresh from the second state to the third, in each way a disk may lose
/// what was not synchronised, and looks at what the box does then. Returns how many states were looked at.
async fn cut_everywhere(town: &Town, oldest: &std::path::Path, before: &FailingDisk) -> u32 {
    let mut looked_at = 0;
    for cut in 0.. {
        let disk = Arc::new(before.after(Loss::EVERY[5]));
        disk.cut_after(cut);
        let client = town.client(Store::on(Arc::clone(&disk) as Arc<dyn Disk>), town.medium());
        let whole = match client.refresh(now()).await {
            Ok(mut trusted) => trusted.target("policy/policy.json").await.is_ok(),
            Err(_) => false,
        };
        for loss in Loss::EVERY {
            looked_at += 1;
            let context = format!("cut after {cut} operations, {loss:?}");
            // Somebody offers the oldest state: it must not be taken.
            let found: Arc<dyn Disk> = Arc::new(disk.after(loss));
            let replay = Arc::new(Medium::new(oldest));
            let client = town.client(Store::on(found), replay);
            let refused = client.refresh(now()).await.expect_err(&context);
            assert!(
                ["TUF-ROLLBACK", "TUF-SIGNER"].contains(&refused.id()),
                "{context}: {refused}"
            );
            // The city's newest state is taken, whatever was offered meanwhile.
            let found: Arc<dyn Disk> = Arc::new(disk.after(loss));
            let client = town.client(Store::on(found), town.medium());
            let mut trusted = client.refresh(now()).await.expect(&context);
            trusted.target("policy/policy.json").await.expect(&context);
        }
        if whole {
            assert_eq!(disk.done(), cut.min(disk.done()), "the power was never cut");
            return looked_at;
        }
    }
    unreachable!("some number of operations is enough")
}

#[tokio::test]
async fn a_power_cut_at_any_write_never_loses_rollback_protection_and_never_sticks() {
    let town = Town::new();
    let oldest = town.copy();
    town.publish_policy(1, NOON);
    let disk = Arc::new(FailingDisk::default());
    let store = Store::on(Arc::clone(&disk) as Arc<dyn Disk>);
    town.client(store, town.medium())
        .refresh(now())
        .await
        .unwrap();
    // A new root, a new list, a new policy.
    town.repository.renew(Role::Root, 365, at(NOON)).unwrap();
    town.publish_policy(2, NOON);
    let looked_at = cut_everywhere(&town, oldest.path(), &disk).await;
    assert!(looked_at > 100, "{looked_at}");
}

#[tokio::test]
async fn a_power_cut_while_the_online_keys_are_replaced_never_sticks() {
    let mut town = Town::new();
    let oldest = town.copy();
    town.publish_policy(1, NOON);
    let disk = Arc::new(FailingDisk::default());
    let store = Store::on(Arc::clone(&disk) as Arc<dyn Disk>);
    town.client(store, town.medium())
        .refresh(now())
        .await
        .unwrap();
    for role in [Role::Timestamp, Role::Snapshot] {
        replace_key(&mut town, role);
    }
    town.publish_policy(2, NOON);
    let looked_at = cut_everywhere(&town, oldest.path(), &disk).await;
    assert!(looked_at > 100, "{looked_at}");
}

#[tokio::test]
async fn a_power_cut_during_the_very_first_refresh_never_sticks() {
    let town = Town::new();
    for cut in 0..40 {
        for loss in Loss::EVERY {
            let disk = Arc::new(FailingDisk::default());
            disk.cut_after(cut);
            let store = Store::on(Arc::clone(&disk) as Arc<dyn Disk>);
            let _ = town.client(store, town.medium()).refresh(now()).await;
            let found: Arc<dyn Disk> = Arc::new(disk.after(loss));
            let client = town.client(Store::on(found), town.medium());
            client.refresh(now()).await.expect("goes on");
        }
    }
}

fn replace_key(town: &mut Town, role: Role) {
    let fresh = key(true);
    let gone = town.keys[&role][0].public().id();
    town.repository
        .rotate(role, &[fresh.public()], &[gone], None, at(NOON))
        .unwrap();
    town.sign_everything();
    town.keys.insert(role, vec![fresh]);
}

#[tokio::test]
async fn starting_again_and_again_after_a_key_rotation_keeps_rollback_protection() {
    let mut town = Town::new();
    replace_key(&mut town, Role::Timestamp);
    town.publish(NOON);
    let folder = tempfile::tempdir().unwrap();
    let store = || Store::open(folder.path()).unwrap();
    town.publish_policy(1, NOON);
    let old = town.copy();
    town.publish_policy(2, NOON);
    // Each time a new client, each time with the shipped root of before the rotation.
    for _ in 0..3 {
        town.client(store(), town.medium())
            .refresh(now())
            .await
            .unwrap();
        let replay = town.client(store(), Arc::new(Medium::new(old.path())));
        assert_eq!(
            replay.refresh(now()).await.unwrap_err().id(),
            "TUF-ROLLBACK"
        );
    }
}

#[tokio::test]
async fn the_root_is_there_and_whole_at_every_moment_while_it_is_replaced() {
    let town = Town::new();
    let disk = Arc::new(FailingDisk::default());
    let store = Store::on(Arc::clone(&disk) as Arc<dyn Disk>);
    town.client(store, town.medium())
        .refresh(now())
        .await
        .unwrap();
    town.repository.renew(Role::Root, 365, at(NOON)).unwrap();
    town.sign_everything();
    town.publish(NOON);
    for cut in 0..12 {
        let next = Arc::new(disk.after(Loss::EVERY[5]));
        next.cut_after(cut);
        let store = Store::on(Arc::clone(&next) as Arc<dyn Disk>);
        let _ = town.client(store, town.medium()).refresh(now()).await;
        for loss in Loss::EVERY {
            let root = next.after(loss).read("root.json").unwrap().expect("there");
            let root: serde_json::Value = serde_json::from_slice(&root).expect("whole");
            assert!([1, 2].contains(&root["signed"]["version"].as_u64().unwrap()));
        }
    }
}

#[tokio::test]
async fn one_check_with_a_clock_in_2090_changes_nothing_afterwards() {
    let town = Town::new();
    let folder = tempfile::tempdir().unwrap();
    let store = || Store::open(folder.path()).unwrap();
    let in_2090 = Timestamp(3_786_912_000);
    // On an empty store, and on one that is in use.
    for _ in 0..2 {
        let refused = town.client(store(), town.medium()).refresh(in_2090).await;
        assert_eq!(refused.unwrap_err().id(), "TUF-FREEZE");
        town.client(store(), town.medium())
            .refresh(now())
            .await
            .unwrap();
    }
    assert!(now().0 < NOON + DAY);
}

#[tokio::test]
async fn a_damaged_store_is_named_and_never_taken_for_an_empty_one() {
    let town = Town::new();
    let first = town.copy();
    town.publish_policy(1, NOON);
    let disk = Arc::new(FailingDisk::default());
    let store = Store::on(Arc::clone(&disk) as Arc<dyn Disk>);
    let client = town.client(store.clone(), town.medium());
    let mut trusted = client.refresh(now()).await.unwrap();
    trusted.target("policy/policy.json").await.unwrap();
    for file in [
        "root.json",
        "timestamp.json",
        "snapshot.json",
        "targets.json",
    ] {
        let whole = store.read(file).unwrap().unwrap();
        let mut changed = whole.clone();
        let digit = changed.iter().rposition(u8::is_ascii_digit).unwrap();
        changed[digit] = if changed[digit] == b'0' { b'1' } else { b'0' };
        for damage in [&b""[..], &whole[..whole.len() / 2], b"\0\0\0\0", &changed] {
            if file == "targets.json" && damage == changed {
                // Wrong but whole: no floor is in it, so it is fetched again.
                continue;
            }
            disk.damage(file, damage);
            let refused = client.refresh(now()).await.unwrap_err();
            assert_eq!(refused.id(), "TUF-STORE", "{file}: {refused}");
            // And an older state is not taken in its place.
            let replay = town.client(store.clone(), Arc::new(Medium::new(first.path())));
            let refused = replay.refresh(now()).await.unwrap_err();
            assert!(
                ["TUF-STORE", "TUF-ROLLBACK"].contains(&refused.id()),
                "{file}: {refused}"
            );
        }
        disk.damage(file, &whole);
    }
    client.refresh(now()).await.unwrap();
}

#[tokio::test]
async fn a_lost_root_beside_other_files_is_damage_too() {
    let town = Town::new();
    let disk = Arc::new(FailingDisk::default());
    let store = Store::on(Arc::clone(&disk) as Arc<dyn Disk>);
    let client = town.client(store, town.medium());
    client.refresh(now()).await.unwrap();
    disk.remove("root.json").unwrap();
    assert_eq!(client.refresh(now()).await.unwrap_err().id(), "TUF-STORE");
}

#[tokio::test]
async fn new_online_keys_from_the_city_heal_a_damaged_timestamp() {
    let mut town = Town::new();
    let disk = Arc::new(FailingDisk::default());
    let store = Store::on(Arc::clone(&disk) as Arc<dyn Disk>);
    let client = town.client(store, town.medium());
    client.refresh(now()).await.unwrap();
    disk.damage("timestamp.json", b"");
    assert_eq!(client.refresh(now()).await.unwrap_err().id(), "TUF-STORE");
    replace_key(&mut town, Role::Timestamp);
    town.publish(NOON);
    client.refresh(now()).await.unwrap();
}
