//! People at different places sign, and only what enough of them have signed is published.

use gateway_release::{AntivirusRelease, OnlineKeys, ReleaseError, Repository, Role};
use gateway_tuf::Store;

use crate::town::{NOON, Town, again, at, copy_folder, key, now, policy};

#[test]
fn nothing_is_published_while_a_signature_is_missing() {
    let town = Town::new();
    town.repository.renew(Role::Root, 365, at(NOON)).unwrap();
    let timestamp = town.metadata("timestamp.json");
    town.repository.sign(&town.keys[&Role::Root][0]).unwrap();
    let refused = town
        .repository
        .publish(&town.online(), at(NOON))
        .unwrap_err();
    assert!(
        matches!(&refused, ReleaseError::Threshold { role, found: 1, threshold: 2 } if role == "root"),
        "{refused}"
    );
    assert_eq!(town.metadata("timestamp.json"), timestamp);
    town.repository.sign(&town.keys[&Role::Root][2]).unwrap();
    town.publish(NOON);
}

#[tokio::test]
async fn two_people_sign_copies_at_two_places() {
    let town = Town::new();
    town.repository.add_policy(&policy(1), at(NOON)).unwrap();
    town.repository.renew(Role::Root, 365, at(NOON)).unwrap();
    town.repository.sign(&town.keys[&Role::Policy][0]).unwrap();
    for holder in [&town.keys[&Role::Root][1], &town.keys[&Role::Root][2]] {
        let stick = tempfile::tempdir().unwrap();
        copy_folder(town.repository.directory(), stick.path());
        let elsewhere = Repository::open(stick.path()).unwrap();
        assert_eq!(elsewhere.sign(holder).unwrap(), [Role::Root]);
        town.repository.assemble(stick.path()).unwrap();
    }
    town.publish(NOON);
    let folder = tempfile::tempdir().unwrap();
    let client = town.client(Store::open(folder.path()).unwrap(), town.medium());
    let trusted = client.refresh(now()).await.unwrap();
    assert_eq!(trusted.versions().root, 2);
}

#[test]
fn a_copy_of_something_else_is_not_assembled() {
    let (town, other) = (Town::new(), Town::new());
    for town in [&town, &other] {
        town.repository.renew(Role::Root, 365, at(NOON)).unwrap();
    }
    let refused = town.repository.assemble(other.repository.directory());
    assert!(matches!(refused, Err(ReleaseError::Malformed(_))));
}

#[test]
fn a_strangers_key_signs_nothing() {
    let town = Town::new();
    town.repository.renew(Role::Root, 365, at(NOON)).unwrap();
    let refused = town.repository.sign(&key(true));
    assert!(matches!(refused, Err(ReleaseError::NothingToSign)));
    let wrong = OnlineKeys {
        snapshot: vec![key(true)],
        timestamp: vec![again(&town.keys[&Role::Timestamp][0])],
    };
    town.sign_everything();
    let refused = town.repository.publish(&wrong, at(NOON)).unwrap_err();
    assert!(matches!(refused, ReleaseError::NotTheKey("snapshot")));
}

#[tokio::test]
async fn a_key_holder_leaves_and_another_comes() {
    let mut town = Town::new();
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    town.client(store.clone(), town.medium())
        .refresh(now())
        .await
        .unwrap();
    let fresh = key(false);
    let gone = town.keys[&Role::Root][0].public().id();
    town.repository
        .rotate(
            Role::Root,
            &[fresh.public()],
            &[gone[..8].to_owned()],
            None,
            at(NOON),
        )
        .unwrap();
    // Signed by two of the old holders (one of them the one who leaves) and by two of the new ones.
    town.sign_everything();
    town.repository.sign(&fresh).unwrap();
    town.publish(NOON);
    town.client(store.clone(), town.medium())
        .refresh(now())
        .await
        .unwrap();
    let kept = town.keys.get_mut(&Role::Root).unwrap();
    kept.remove(0);
    kept.push(fresh);
    town.repository.renew(Role::Root, 365, at(NOON)).unwrap();
    town.sign_everything();
    town.publish(NOON);
    let trusted = town
        .client(store, town.medium())
        .refresh(now())
        .await
        .unwrap();
    assert_eq!(trusted.versions().root, 3);
}

#[tokio::test]
async fn a_delegated_roles_key_is_replaced_and_its_file_signed_anew() {
    let mut town = Town::new();
    town.publish_policy(1, NOON);
    let fresh = key(true);
    let gone = town.keys[&Role::Policy][0].public().id();
    town.repository
        .rotate(Role::Policy, &[fresh.public()], &[gone], None, at(NOON))
        .unwrap();
    town.sign_everything();
    // The published policy file still has the old signature: the tool says so instead of publishing what boxes refuse.
    let refused = town
        .repository
        .publish(&town.online(), at(NOON))
        .unwrap_err();
    assert!(
        matches!(&refused, ReleaseError::Threshold { role, .. } if role == "policy"),
        "{refused}"
    );
    town.keys.insert(Role::Policy, vec![fresh]);
    town.repository.renew(Role::Policy, 180, at(NOON)).unwrap();
    town.sign_everything();
    town.publish(NOON);
    let folder = tempfile::tempdir().unwrap();
    let client = town.client(Store::open(folder.path()).unwrap(), town.medium());
    let mut trusted = client.refresh(now()).await.unwrap();
    trusted.target("policy/policy.json").await.unwrap();
}

#[test]
fn thresholds_that_cannot_be_met_or_protect_nothing_are_refused() {
    let town = Town::new();
    for (role, threshold) in [
        (Role::Policy, 2),
        (Role::Policy, 0),
        (Role::Root, 1),
        (Role::Root, 4),
    ] {
        let refused = town
            .repository
            .rotate(role, &[], &[], Some(threshold), at(NOON));
        assert!(
            matches!(refused, Err(ReleaseError::BadThreshold { .. })),
            "{role:?} {threshold}"
        );
    }
    let refused =
        town.repository
            .rotate(Role::Policy, &[], &["00000000".to_owned()], None, at(NOON));
    assert!(matches!(refused, Err(ReleaseError::NoSuchKey { .. })));
}

#[test]
fn a_policy_or_a_database_that_is_not_newer_is_refused_before_anybody_signs() {
    let town = Town::new();
    town.publish_policy(5, NOON);
    let refused = town
        .repository
        .add_policy(&policy(5), at(NOON))
        .unwrap_err();
    assert!(matches!(refused, ReleaseError::NotNewer { .. }));
    town.publish_antivirus(9, b"database", NOON);
    let folder = town.folder.path().join("database-9");
    let release = AntivirusRelease {
        serial: 9,
        built_at: "2026-11-22T00:00:00Z".to_owned(),
        expires: "2026-12-06T00:00:00Z".to_owned(),
        files: Vec::new(),
        canary: crate::town::canary(9),
    };
    let refused = town
        .repository
        .add_antivirus(&folder, &release, at(NOON))
        .unwrap_err();
    assert!(matches!(refused, ReleaseError::NotNewer { .. }));
}

#[test]
fn the_release_before_the_newest_stays_listed_and_older_ones_go() {
    let town = Town::new();
    for serial in [1, 2, 3] {
        town.publish_antivirus(serial, format!("database {serial}").as_bytes(), NOON);
    }
    let listed = town.metadata("4.antivirus.json")["signed"]["targets"].clone();
    let names: Vec<&String> = listed.as_object().unwrap().keys().collect();
    assert_eq!(
        names,
        [
            "antivirus/2/daily.cud",
            "antivirus/3/daily.cud",
            "antivirus/current.json"
        ]
    );
    assert_eq!(town.repository.check_targets().unwrap(), 3);
}

#[test]
fn what_is_shown_names_versions_thresholds_and_what_waits() {
    let town = Town::new();
    town.repository.renew(Role::Root, 365, at(NOON)).unwrap();
    town.repository.sign(&town.keys[&Role::Root][0]).unwrap();
    let shown = town.repository.show().unwrap();
    assert_eq!(shown.0[0].waiting, Some((2, 1, 2)));
    let text = shown.to_string();
    assert!(text.contains("2/3") && text.contains("署名待ち"), "{text}");
}

#[test]
fn a_repository_is_not_made_over_another() {
    let town = Town::new();
    let plan = gateway_release::Plan::new(
        Role::ALL
            .into_iter()
            .map(|role| {
                let keys = town.keys[&role]
                    .iter()
                    .map(gateway_release::SecretKey::public);
                let keys: Vec<_> = keys.collect();
                let threshold = if role == Role::Root { 2 } else { 1 };
                (role, gateway_release::RolePlan { keys, threshold })
            })
            .collect(),
    )
    .unwrap();
    let refused = Repository::init(town.repository.directory(), &plan, at(NOON));
    assert!(matches!(refused, Err(ReleaseError::Exists(_))));
}

#[test]
fn a_policy_that_a_box_would_refuse_is_refused_before_anybody_signs() {
    let town = Town::new();
    let mut faulty: serde_json::Value = serde_json::from_slice(&policy(1)).unwrap();
    faulty["set"] = serde_json::json!([{ "check": "NO-SUCH", "parameter": "x", "value": 1 }]);
    for document in [
        serde_json::to_vec(&faulty).unwrap(),
        b"{}".to_vec(),
        b"not json".to_vec(),
    ] {
        let refused = town.repository.add_policy(&document, at(NOON)).unwrap_err();
        assert!(matches!(refused, ReleaseError::Policy(_)), "{refused}");
    }
    assert!(town.repository.staged(Role::Policy).unwrap().is_none());
}
