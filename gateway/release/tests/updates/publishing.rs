//! Releases whose parts do not fit each other, refused before anybody signs.

use std::error::Error as _;

use gateway_release::{ReleaseError, SoftwareRelease, Wave};
use gateway_updater::index::BlockIndex;
use gateway_updater::slot::Slot;

use crate::appliance::Appliance;
use crate::support::release::Release;
use crate::town::{NOON, at, rfc3339};

fn refused(it: &Appliance, release: &Release, described: &SoftwareRelease) -> String {
    let folder = it.path(&format!("release-{}", release.version));
    let added = it.town.repository.add_release(&folder, described, at(NOON));
    let Err(error @ ReleaseError::Image(_)) = added else {
        panic!("{added:?}");
    };
    error.source().unwrap().to_string()
}

#[tokio::test]
async fn what_is_published_lists_the_parts_the_index_and_the_root_hash() {
    let it = Appliance::new().await;
    let new = it.made("1.2");
    let folder = it.release_folder(&new);
    let described = SoftwareRelease {
        schedule: vec![Wave {
            not_before: rfc3339(NOON),
            per_mille: 50,
        }],
        deadline: Some(rfc3339(NOON)),
        ..Appliance::described(&new)
    };
    let added = it
        .town
        .repository
        .add_release(&folder, &described, at(NOON))
        .unwrap();
    let names: Vec<&str> = added.files.iter().map(|file| file.name.as_str()).collect();
    let parts = [
        "root.img",
        "root.verity",
        "sbom.cdx.json",
        "uki-a.efi",
        "uki-b.efi",
        "root.index",
    ];
    assert_eq!(names, parts);
    let index = BlockIndex::parse(&new.index).unwrap().encode();
    assert_eq!(added.files[5].size, index.len() as u64);
    assert_eq!(added.root_hash, described.root_hash);
}

#[tokio::test]
async fn parts_that_do_not_fit_are_refused_before_anybody_signs() {
    let it = Appliance::new().await;
    let new = it.made("1.2");
    let described = Appliance::described(&new);
    let other = it.made("1.9");
    let folder = it.release_folder(&new);
    let put = |name: &str, bytes: &[u8]| std::fs::write(folder.join(name), bytes).unwrap();

    put("uki-b.efi", &other.kernels[&Slot::B]);
    assert!(refused(&it, &new, &described).starts_with("uki-b.efi のルートハッシュ"));
    put("uki-b.efi", &new.kernels[&Slot::A]);
    assert!(refused(&it, &new, &described).contains("both kernels"));
    put("uki-b.efi", b"MZ");
    assert!(refused(&it, &new, &described).starts_with("uki-b.efi を読めません"));
    put("uki-b.efi", &new.kernels[&Slot::B]);

    put("root.img", &other.root);
    assert!(refused(&it, &new, &described).contains("hash tree"));
    put("root.img", &new.root);

    std::fs::remove_file(folder.join("sbom.cdx.json")).unwrap();
    assert!(refused(&it, &new, &described).starts_with("sbom.cdx.json"));
    put("sbom.cdx.json", b"{}");

    put("root.index", &new.index);
    assert!(refused(&it, &new, &described).starts_with("root.index"));
    std::fs::remove_file(folder.join("root.index")).unwrap();

    let without = SoftwareRelease::new("1.2", "box-1");
    assert!(refused(&it, &new, &without).contains("--root-hash"));
    let upper = SoftwareRelease {
        root_hash: described.root_hash.as_ref().map(|hash| hash.to_uppercase()),
        ..described.clone()
    };
    assert!(refused(&it, &new, &upper).contains("小文字"));
    let too_many = SoftwareRelease {
        schedule: vec![Wave {
            not_before: rfc3339(NOON),
            per_mille: 1001,
        }],
        ..described.clone()
    };
    assert!(refused(&it, &new, &too_many).contains("説明"));
    it.town
        .repository
        .add_release(&folder, &described, at(NOON))
        .unwrap();
}
