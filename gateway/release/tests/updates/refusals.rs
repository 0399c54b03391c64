//! What is refused, each with its reason; and before anything is written, but for a block that turns out wrong when it comes.

use gateway_release::{Role, SoftwareRelease};
use gateway_updater::hex;
use gateway_updater::index::BlockIndex;
use gateway_updater::slot::Slot;
use serde_json::json;

use crate::appliance::Appliance;
use crate::support::kernel::{Signer, command_line, image};
use crate::support::release::{Release, noise};
use crate::town::{DAY, NOON, Town, key, rfc3339};

/// Refused with `id`, and nothing on the disk has changed.
async fn is_refused(it: &Appliance, id: &str) {
    let before = it.disk();
    let refused = it.check().await.unwrap_err();
    assert_eq!(refused.id(), id, "{refused:?}");
    assert_eq!(it.disk(), before, "{id}");
    assert!(!it.restarted());
}

async fn with(version: &str) -> (Appliance, Release) {
    let it = Appliance::new().await;
    let new = it.made(version);
    it.publish(&new);
    (it, new)
}

#[tokio::test]
async fn an_expired_channel_is_refused() {
    let (mut it, _) = with("1.2").await;
    it.now = NOON + 4 * DAY;
    is_refused(&it, "TUF-FREEZE").await;
}

#[tokio::test]
async fn an_older_release_is_refused() {
    let (it, _) = with("1.0").await;
    is_refused(&it, "UPD-OLDER").await;
}

#[tokio::test]
async fn a_release_below_the_floor_is_refused_even_when_what_runs_is_older_still() {
    let (it, new) = with("1.3").await;
    it.check().await.unwrap();
    it.restarted();
    it.boots(&new, Slot::B);
    it.judge(true).await.unwrap();
    // The old system runs, as it does when somebody picks it in the boot menu.
    it.runs(&it.old, Slot::A);
    it.publish(&it.made("1.2"));
    is_refused(&it, "UPD-FLOOR").await;
}

#[tokio::test]
async fn a_release_for_other_hardware_is_refused() {
    let it = Appliance::new().await;
    let new = it.made("1.2");
    let described = SoftwareRelease {
        hardware: "box-2".to_owned(),
        ..Appliance::described(&new)
    };
    it.publish_as(&new, &described);
    is_refused(&it, "UPD-HARDWARE").await;
}

#[tokio::test]
async fn a_release_that_its_role_has_not_signed_is_refused() {
    let (it, _) = with("1.2").await;
    let version = it
        .town
        .repository
        .published(Role::Releases)
        .unwrap()
        .unwrap()
        .version();
    let mut signed = it.town.metadata(&format!("{version}.releases.json"))["signed"].clone();
    signed["version"] = json!(version + 1);
    for keys in [vec![], vec![key(true)]] {
        let keys: Vec<_> = keys.iter().collect();
        let forged = Town::forge(&signed, &keys);
        it.town
            .publish_forged(&[(Role::Releases, forged)], None, NOON);
        is_refused(&it, "TUF-SIGNER").await;
        signed["version"] = json!(signed["version"].as_u64().unwrap() + 1);
    }
}

#[tokio::test]
async fn a_release_named_by_another_role_is_refused() {
    let it = Appliance::new().await;
    it.town.publish_antivirus(1, b"database", NOON);
    let version = it
        .town
        .repository
        .published(Role::Targets)
        .unwrap()
        .unwrap()
        .version();
    let mut signed = it.town.metadata(&format!("{version}.targets.json"))["signed"].clone();
    signed["version"] = json!(version + 1);
    signed["expires"] = json!(rfc3339(NOON + 300 * DAY));
    signed["targets"]["releases/current.json"] =
        json!({ "length": 2, "hashes": { "sha256": "00".repeat(32) } });
    let keys: Vec<_> = it.town.keys[&Role::Targets].iter().collect();
    let forged = Town::forge(&signed, &keys);
    it.town
        .publish_forged(&[(Role::Targets, forged)], None, NOON);
    is_refused(&it, "TUF-ROLE").await;
}

#[tokio::test]
async fn a_release_without_an_image_is_refused() {
    let it = Appliance::new().await;
    let folder = it.path("plain");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("notes.txt"), b"no image").unwrap();
    let release = SoftwareRelease::new("1.2", "box-1");
    let repository = &it.town.repository;
    repository
        .add_release(&folder, &release, crate::town::at(NOON))
        .unwrap();
    it.town.sign_everything();
    it.town.publish(NOON);
    is_refused(&it, "UPD-MANIFEST").await;
}

#[tokio::test]
async fn a_kernel_with_another_root_hash_is_refused() {
    let (it, _) = with("1.2").await;
    let other = it.made("1.9").kernels[&Slot::B].clone();
    it.replace_targets(&[("releases/1.2/uki-b.efi", &other)]);
    is_refused(&it, "UPD-KERNEL-ROOTHASH").await;
}

#[tokio::test]
async fn a_kernel_for_the_other_slot_is_refused() {
    let (it, new) = with("1.2").await;
    it.replace_targets(&[("releases/1.2/uki-b.efi", &new.kernels[&Slot::A])]);
    is_refused(&it, "UPD-KERNEL-SLOT").await;
}

#[tokio::test]
async fn a_kernel_that_somebody_else_has_signed_is_refused() {
    let it = Appliance::new().await;
    let mut new = it.made("1.2");
    let line = command_line(&hex::of(&new.root_hash), Slot::B);
    let plain = image(&[(b".cmdline", line.as_bytes())]);
    new.kernels
        .insert(Slot::B, Signer::new("somebody").sign(&plain));
    it.publish(&new);
    is_refused(&it, "UPD-KERNEL-SIGNER").await;
    it.replace_targets(&[("releases/1.2/uki-b.efi", &plain)]);
    is_refused(&it, "UPD-KERNEL-SIGNER").await;
}

#[tokio::test]
async fn a_kernel_that_is_none_is_refused() {
    let (it, new) = with("1.2").await;
    let half = &new.kernels[&Slot::B][..700];
    it.replace_targets(&[("releases/1.2/uki-b.efi", half)]);
    let refused = it.check().await.unwrap_err();
    assert!(refused.id().starts_with("UPD-KERNEL"), "{refused:?}");
}

#[tokio::test]
async fn an_index_of_another_image_is_refused() {
    let (it, new) = with("1.2").await;
    let longer = [&new.root[..], &[0; 4096]].concat();
    let index = BlockIndex::build(&mut &longer[..], &mut &new.verity[..]).unwrap();
    it.replace_targets(&[("releases/1.2/root.index", &index.encode())]);
    is_refused(&it, "UPD-INDEX").await;
    it.replace_targets(&[("releases/1.2/root.index", b"no index")]);
    is_refused(&it, "UPD-INDEX").await;
}

#[tokio::test]
async fn an_index_of_other_blocks_leaves_no_kernel_and_the_running_slot_as_it_was() {
    let (it, new) = with("1.2").await;
    let other = noise(99, new.root.len());
    let index = BlockIndex::build(&mut &other[..], &mut &new.verity[..]).unwrap();
    it.replace_targets(&[("releases/1.2/root.index", &index.encode())]);
    let running = it.partition(Slot::A);
    assert_eq!(it.check().await.unwrap_err().id(), "UPD-BLOCK");
    assert_eq!(it.partition(Slot::A), running);
    assert_eq!(it.kernels(), ["renraku-gateway_1.1_a.efi"]);
}

#[tokio::test]
async fn an_image_that_does_not_come_to_the_signed_root_hash_gets_no_kernel() {
    let (it, new) = with("1.2").await;
    let other = noise(98, new.root.len());
    let index = BlockIndex::build(&mut &other[..], &mut &new.verity[..]).unwrap();
    it.replace_targets(&[
        ("releases/1.2/root.img", &other),
        ("releases/1.2/root.index", &index.encode()),
    ]);
    assert_eq!(it.check().await.unwrap_err().id(), "UPD-ROOTHASH");
    assert_eq!(it.kernels(), ["renraku-gateway_1.1_a.efi"]);
    assert!(!it.restarted());
}

#[tokio::test]
async fn an_image_that_is_larger_than_the_partition_is_refused() {
    let it = Appliance::new().await;
    it.publish(&Release::new("1.2", noise(5, 7 * 65_536), &it.signer));
    is_refused(&it, "UPD-ROOM").await;
}

#[tokio::test]
async fn a_damaged_record_stops_everything() {
    let (it, _) = with("1.2").await;
    for file in ["state-0.json", "state-1.json"] {
        let path = it.path("state/record").join(file);
        if path.exists() {
            std::fs::write(path, b"").unwrap();
        }
    }
    is_refused(&it, "UPD-RECORD").await;
}

#[tokio::test]
async fn the_channels_own_floor_is_kept_over_a_restart() {
    let (it, new) = with("1.2").await;
    let kept = it.town.copy();
    it.publish(&it.made("1.3"));
    it.check().await.unwrap();
    let medium = kept.path().to_owned();
    let (config, now) = (it.config(), it.now);
    let clock = || gateway_policy::Timestamp(now);
    let refused = gateway_updater::work::check(&config, Some(&medium), &clock).await;
    assert_eq!(refused.unwrap_err().id(), "TUF-ROLLBACK", "{}", new.version);
}
