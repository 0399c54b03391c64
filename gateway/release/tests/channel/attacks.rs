//! Each attack that the specification names (§1.5.2), and those on our own rules, refused by name.

use std::sync::Arc;
use std::time::Duration;

use gateway_policy::Timestamp;
use gateway_release::Role;
use gateway_tuf::{Client, Duties, Limits, Medium, Refused, Store};
use serde_json::json;

use crate::offer::{Offer, Way};
use crate::town::{DAY, HOUR, NOON, Town, at, key, limits, now, policy};

const POLICY: &str = "policy/policy.json";

async fn refused(client: &Client) -> &'static str {
    match client.refresh(now()).await {
        Err(refused) => refused.id(),
        Ok(_) => "taken",
    }
}

fn store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    (folder, store)
}

#[tokio::test]
async fn a_policy_named_by_its_role_is_taken() {
    let town = Town::new();
    town.publish_policy(7, NOON);
    let (_folder, store) = store();
    let client = town.client(store, town.medium());
    let mut trusted = client.refresh(now()).await.unwrap();
    let target = trusted.target(POLICY).await.unwrap();
    assert_eq!(
        (target.role.as_str(), target.custom["version"].as_u64()),
        ("policy", Some(7))
    );
    assert_eq!(trusted.read(&target, 4096).await.unwrap(), policy(7));
}

#[tokio::test]
async fn nothing_new_is_no_fault_and_asks_for_two_files_only() {
    let town = Town::new();
    let (_folder, store) = store();
    let offer = Arc::new(Offer::new(town.repository.directory()));
    let client = town.client(store, Arc::clone(&offer) as _);
    client.refresh(now()).await.unwrap();
    offer.asked.lock().unwrap().clear();
    client.refresh(now()).await.unwrap();
    assert_eq!(
        *offer.asked.lock().unwrap(),
        ["2.root.json", "timestamp.json"]
    );
}

#[tokio::test]
async fn an_older_state_is_refused_as_a_rollback() {
    let town = Town::new();
    let old = town.copy();
    town.publish_policy(1, NOON);
    let (_folder, store) = store();
    town.client(store.clone(), town.medium())
        .refresh(now())
        .await
        .unwrap();
    let client = town.client(store, Arc::new(Medium::new(old.path())));
    assert_eq!(refused(&client).await, "TUF-ROLLBACK");
}

#[tokio::test]
async fn an_older_snapshot_under_a_new_timestamp_is_refused_as_a_rollback() {
    let town = Town::new();
    town.publish_policy(1, NOON);
    let (_folder, store) = store();
    let client = town.client(store, town.medium());
    client.refresh(now()).await.unwrap();
    town.publish_timestamp_for(1, NOON);
    assert_eq!(refused(&client).await, "TUF-ROLLBACK");
}

#[tokio::test]
async fn a_role_taken_back_stays_refused_on_every_further_attempt() {
    // Whoever holds both online keys can sign snapshots, and must not be able to take policies back. The new timestamp is
    // stored before the snapshot is judged, so a second attempt starts with a timestamp that names the forged snapshot.
    let town = Town::new();
    town.publish_policy(1, NOON);
    let old = town.repository.published(Role::Policy).unwrap().unwrap();
    town.publish_policy(2, NOON);
    let (_folder, store) = store();
    let client = town.client(store, town.medium());
    client.refresh(now()).await.unwrap();
    let old = serde_json::to_vec(&old).unwrap();
    town.publish_forged(&[(Role::Policy, old)], None, NOON);
    for attempt in 1..=3 {
        assert_eq!(refused(&client).await, "TUF-ROLLBACK", "attempt {attempt}");
    }
}

#[tokio::test]
async fn a_role_taken_out_of_the_snapshot_is_refused_as_a_rollback() {
    let town = Town::new();
    let (_folder, store) = store();
    let client = town.client(store, town.medium());
    client.refresh(now()).await.unwrap();
    town.publish_forged(&[], Some(Role::Antivirus), NOON);
    for _ in 0..2 {
        assert_eq!(refused(&client).await, "TUF-ROLLBACK");
    }
}

#[tokio::test]
async fn an_expired_timestamp_is_refused_as_a_freeze() {
    let town = Town::new();
    let (_folder, store) = store();
    let client = town.client(store, town.medium());
    client.refresh(now()).await.unwrap();
    let later = client.refresh(Timestamp(NOON + 4 * DAY)).await.unwrap_err();
    assert_eq!(later.id(), "TUF-FREEZE");
    // And it goes on as soon as the city renews.
    town.repository
        .renew_timestamp(&town.online().timestamp, at(NOON + 4 * DAY))
        .unwrap();
    client.refresh(Timestamp(NOON + 4 * DAY)).await.unwrap();
}

#[tokio::test]
async fn an_expired_policy_role_stops_the_policy_and_nothing_else() {
    let town = Town::new();
    town.publish_policy(1, NOON);
    town.repository.renew(Role::Policy, 1, at(NOON)).unwrap();
    town.sign_everything();
    town.publish(NOON);
    town.publish_antivirus(5, b"database", NOON);
    let (_folder, store) = store();
    let client = town.client(store, town.medium());
    let mut trusted = client.refresh(Timestamp(NOON + 2 * DAY)).await.unwrap();
    assert_eq!(trusted.target(POLICY).await.unwrap_err().id(), "TUF-FREEZE");
    trusted.target("antivirus/current.json").await.unwrap();
}

#[tokio::test]
async fn files_of_two_publications_do_not_mix() {
    let town = Town::new();
    town.publish_policy(1, NOON);
    // The policy role has signed two files of the same version; only one of them is what the snapshot names.
    let mut other = town.metadata("2.policy.json")["signed"].clone();
    other["targets"] = json!({});
    let forged = Town::forge(&other, &[&town.keys[&Role::Policy][0]]);
    let offer = Offer::new(town.repository.directory()).with("2.policy.json", Way::Instead(forged));
    let (_folder, store) = store();
    let mut trusted = town
        .client(store, Arc::new(offer))
        .refresh(now())
        .await
        .unwrap();
    assert_eq!(trusted.target(POLICY).await.unwrap_err().id(), "TUF-MIX");
}

#[tokio::test]
async fn data_without_end_is_cut_off() {
    let town = Town::new();
    for file in [
        "2.root.json",
        "timestamp.json",
        "1.snapshot.json",
        "1.targets.json",
    ] {
        let offer = Offer::new(town.repository.directory()).with(file, Way::Endless);
        let (_folder, store) = store();
        let client = town.client(store, Arc::new(offer));
        assert_eq!(refused(&client).await, "TUF-ENDLESS", "{file}");
    }
}

#[tokio::test]
async fn roots_without_end_are_cut_off() {
    let town = Town::new();
    for _ in 0..4 {
        town.repository.renew(Role::Root, 365, at(NOON)).unwrap();
        town.sign_everything();
        town.publish(NOON);
    }
    let (_folder, store) = store();
    let few = Limits {
        roots: 2,
        ..limits()
    };
    let client = Client::new(store, town.first_root(), town.medium(), few, Duties::City);
    assert_eq!(refused(&client).await, "TUF-ROOTS");
    // What was reached is kept, so that the next refresh goes on from there.
    assert_eq!(refused(&client).await, "TUF-ROOTS");
    assert_eq!(refused(&client).await, "taken");
}

#[tokio::test]
async fn a_repository_that_drips_is_refused_as_slow() {
    let town = Town::new();
    for way in [Way::Slowly(Duration::from_millis(60)), Way::Silent] {
        let offer = Offer::new(town.repository.directory()).with("timestamp.json", way);
        let (_folder, store) = store();
        let client = town.client(store, Arc::new(offer));
        let begun = std::time::Instant::now();
        assert_eq!(refused(&client).await, "TUF-SLOW");
        assert!(begun.elapsed() < Duration::from_secs(4));
    }
}

#[tokio::test]
async fn a_role_signed_with_anothers_key_is_refused_by_name() {
    let town = Town::new();
    town.publish_policy(1, NOON);
    let mut forged = town.metadata("2.policy.json")["signed"].clone();
    forged["version"] = json!(3);
    let forged = Town::forge(&forged, &[&town.keys[&Role::Antivirus][0]]);
    town.publish_forged(&[(Role::Policy, forged)], None, NOON);
    let (_folder, store) = store();
    let mut trusted = town
        .client(store, town.medium())
        .refresh(now())
        .await
        .unwrap();
    let refused = trusted.target(POLICY).await.unwrap_err();
    assert!(
        matches!(&refused, Refused::WrongSigner { file, found: 0, threshold: 1 } if file == "3.policy.json"),
        "{refused}"
    );
}

#[tokio::test]
async fn a_policy_named_by_the_antivirus_role_is_refused_by_name() {
    let town = Town::new();
    let mut forged = town.metadata("1.antivirus.json")["signed"].clone();
    forged["version"] = json!(2);
    forged["targets"][POLICY] = json!({ "length": 2, "hashes": { "sha256": "00" } });
    let forged = Town::forge(&forged, &[&town.keys[&Role::Antivirus][0]]);
    town.publish_forged(&[(Role::Antivirus, forged)], None, NOON);
    let (_folder, store) = store();
    let mut trusted = town
        .client(store, town.medium())
        .refresh(now())
        .await
        .unwrap();
    // Looked into, as a box does in each round.
    let _ = trusted.target("antivirus/current.json").await;
    let refused = trusted.target(POLICY).await.unwrap_err();
    assert!(
        matches!(&refused, Refused::WrongRole { role, duty, .. } if role == "antivirus" && duty == "policy"),
        "{refused}"
    );
}

#[tokio::test]
async fn a_policy_named_by_the_targets_role_itself_is_refused_by_name() {
    let town = Town::new();
    let mut forged = town.metadata("1.targets.json")["signed"].clone();
    forged["version"] = json!(2);
    forged["targets"][POLICY] = json!({ "length": 2, "hashes": { "sha256": "00" } });
    let signers: Vec<_> = town.keys[&Role::Targets].iter().collect();
    let forged = Town::forge(&forged, &signers);
    town.publish_forged(&[(Role::Targets, forged)], None, NOON);
    let (_folder, store) = store();
    let mut trusted = town
        .client(store, town.medium())
        .refresh(now())
        .await
        .unwrap();
    let refused = trusted.target(POLICY).await.unwrap_err();
    assert!(
        matches!(&refused, Refused::WrongRole { role, .. } if role == "targets"),
        "{refused}"
    );
}

#[tokio::test]
async fn one_signature_is_not_a_threshold_of_two() {
    let town = Town::new();
    let mut root = town.metadata("1.root.json")["signed"].clone();
    root["version"] = json!(2);
    let one = &town.keys[&Role::Root][0];
    // The same key twice is one signer.
    for signers in [vec![one], vec![one, one]] {
        town.replace("2.root.json", &Town::forge(&root, &signers));
        let (_folder, store) = store();
        let client = town.client(store, town.medium());
        assert_eq!(refused(&client).await, "TUF-SIGNER");
    }
}

#[tokio::test]
async fn a_root_signed_only_by_its_own_new_keys_is_refused() {
    let town = Town::new();
    let mut root = town.metadata("1.root.json")["signed"].clone();
    root["version"] = json!(2);
    let (a, b) = (key(true), key(true));
    for key in [&a, &b] {
        root["keys"][key.public().id()] = json!(key.public());
    }
    root["roles"]["root"]["keyids"] = json!([a.public().id(), b.public().id()]);
    town.replace("2.root.json", &Town::forge(&root, &[&a, &b]));
    let (_folder, store) = store();
    let client = town.client(store, town.medium());
    assert_eq!(refused(&client).await, "TUF-SIGNER");
}

#[tokio::test]
async fn a_root_that_skips_a_version_is_refused() {
    let town = Town::new();
    let mut root = town.metadata("1.root.json")["signed"].clone();
    root["version"] = json!(3);
    let signers: Vec<_> = town.keys[&Role::Root].iter().collect();
    town.replace("2.root.json", &Town::forge(&root, &signers));
    let (_folder, store) = store();
    let client = town.client(store, town.medium());
    assert_eq!(refused(&client).await, "TUF-ROOT");
}

#[tokio::test]
async fn a_clock_before_the_last_signed_timestamp_is_refused() {
    let town = Town::new();
    let (_folder, store) = store();
    let client = town.client(store, town.medium());
    client.refresh(now()).await.unwrap();
    let behind = client.refresh(Timestamp(NOON - HOUR)).await.unwrap_err();
    assert_eq!(behind.id(), "TUF-CLOCK");
    client.refresh(now()).await.unwrap();
}

#[tokio::test]
async fn a_timestamp_from_the_future_is_refused_and_not_remembered() {
    let town = Town::new();
    let good = town.metadata("timestamp.json");
    town.publish_timestamp_for(1, NOON + 1000 * DAY);
    let (_folder, store) = store();
    let client = town.client(store, town.medium());
    assert_eq!(refused(&client).await, "TUF-CLOCK");
    town.replace("timestamp.json", &serde_json::to_vec(&good).unwrap());
    assert_eq!(refused(&client).await, "taken");
}

#[tokio::test]
async fn what_is_not_metadata_is_refused_and_nothing_of_it_is_kept() {
    let town = Town::new();
    let deep = b"[".repeat(100_000);
    for nonsense in [
        &b""[..],
        b"{}",
        b"\xff\xfe",
        b"null",
        &deep,
        br#"{"signed":{},"signatures":[]}"#,
    ] {
        let offer = Offer::new(town.repository.directory())
            .with("timestamp.json", Way::Instead(nonsense.to_vec()));
        let (folder, store) = store();
        let client = town.client(store, Arc::new(offer));
        assert!(["TUF-FORM", "TUF-ENDLESS"].contains(&refused(&client).await));
        assert!(!folder.path().join("timestamp.json").exists());
    }
}

#[tokio::test]
async fn a_missing_file_and_a_missing_target_are_two_things() {
    let town = Town::new();
    let offer = Offer::new(town.repository.directory()).with("1.snapshot.json", Way::Missing);
    let (_folder, store_of_one) = store();
    let client = town.client(store_of_one, Arc::new(offer));
    assert_eq!(refused(&client).await, "TUF-FILE");
    let (_folder, store) = store();
    let mut trusted = town
        .client(store, town.medium())
        .refresh(now())
        .await
        .unwrap();
    assert_eq!(trusted.target(POLICY).await.unwrap_err().id(), "TUF-TARGET");
    assert_eq!(
        trusted.target("elsewhere/x").await.unwrap_err().id(),
        "TUF-TARGET"
    );
}
