//! Renewal, revocation, expiry and loss, against a real city and TPM.

mod stage;

use std::sync::Arc;
use std::time::Duration;

use gateway_provisioning::{
    Failure, Outcome, Provisioner, Renewal, State, open_vault_anew, quietly,
};
use serde_json::json;
use stage::{Stage, enrol, state};
use test_harness::city;
use time::OffsetDateTime;

/// Certificates of one hour, so that the city's own server certificate outlives them.
fn short_lived() -> Stage {
    let facility_validity = Some(Duration::from_secs(3600));
    Stage::start_with(city::Options {
        facility_validity,
        ..city::Options::default()
    })
}

fn later(stage: &Stage, minutes: i64) -> Provisioner {
    let off = time::Duration::minutes(minutes);
    stage
        .provisioner()
        .with_clock(Arc::new(move || OffsetDateTime::now_utc() + off))
}

async fn renew(provisioner: &Provisioner) -> Renewal {
    provisioner
        .renew_if_due(&quietly)
        .await
        .expect("the state can be read")
        .certificates
        .remove(0)
        .1
}

#[tokio::test]
async fn a_certificate_is_renewed_with_a_new_key_after_two_thirds_of_its_life_and_not_before() {
    let stage = short_lived();
    let provisioner = stage.provisioner();
    enrol(&provisioner, &stage.letter()).await.unwrap();
    let old = provisioner.identities().await.unwrap().remove(0);
    assert!(matches!(renew(&provisioner).await, Renewal::NotDue { .. }));
    drop(provisioner);
    let provisioner = later(&stage, 55);
    assert!(matches!(renew(&provisioner).await, Renewal::Renewed));
    let new = provisioner.identities().await.unwrap().remove(0);
    assert_ne!(new.serial, old.serial);
    assert_ne!(new.key.spki_der(), old.key.spki_der(), "a new key");
    assert_eq!(
        (new.facility_id, new.facility_name),
        (old.facility_id, old.facility_name)
    );
    assert!(new.not_after > old.not_after - time::Duration::minutes(1));
}

#[tokio::test]
async fn an_expired_certificate_needs_a_new_number_and_takes_one() {
    let stage = short_lived();
    let provisioner = stage.provisioner();
    enrol(&provisioner, &stage.letter()).await.unwrap();
    drop(provisioner);
    let provisioner = later(&stage, 70);
    assert_eq!(state(&provisioner).await, State::Expired);
    let Renewal::Failed(error) = renew(&provisioner).await else {
        panic!("failed")
    };
    assert_eq!(error.failure(), &Failure::Expired);
    // By this clock a new one is expired too, so go back to the real time, where the label is in good standing again.
    drop(provisioner);
    assert_eq!(state(&stage.provisioner()).await, State::Provisioned);
}

#[tokio::test]
async fn a_revoked_certificate_is_not_renewed_and_is_replaced_by_a_new_number() {
    let stage = Stage::start();
    let provisioner = stage.provisioner();
    enrol(&provisioner, &stage.letter()).await.unwrap();
    let old = stage::serial(&provisioner).await;
    stage
        .city
        .control("revoke", &json!({ "serial": old }))
        .unwrap();
    let renewals = provisioner.renew_now(&quietly).await.unwrap();
    let Renewal::Failed(error) = &renewals.certificates[0].1 else {
        panic!("failed")
    };
    assert_eq!(stage::explained(error), Failure::Revoked);
    assert_eq!(state(&provisioner).await, State::Revoked);
    assert!(
        provisioner.identities().await.unwrap().is_empty(),
        "it may not be used"
    );
    let renewals = provisioner.renew_if_due(&quietly).await.unwrap();
    assert!(
        matches!(&renewals.certificates[0].1, Renewal::Failed(error) if error.failure() == &Failure::Revoked)
    );
    assert!(matches!(
        enrol(&provisioner, &stage.letter()).await,
        Ok(Outcome::Provisioned)
    ));
    assert_ne!(stage::serial(&provisioner).await, old);
    assert_eq!(state(&provisioner).await, State::Provisioned);
}

#[tokio::test]
async fn a_city_in_trouble_leaves_the_old_certificate_in_use() {
    let stage = Stage::start();
    let provisioner = stage.provisioner();
    enrol(&provisioner, &stage.letter()).await.unwrap();
    let old = stage::serial(&provisioner).await;
    stage.city.fail("5xx").unwrap();
    let renewals = provisioner.renew_now(&quietly).await.unwrap();
    assert!(
        matches!(&renewals.certificates[0].1, Renewal::Failed(error) if error.failure().code() == "P-CITY-BUSY")
    );
    assert_eq!(state(&provisioner).await, State::Renewing);
    assert_eq!(stage::serial(&provisioner).await, old);
    stage.city.recover().unwrap();
    assert!(matches!(renew(&provisioner).await, Renewal::Renewed));
}

#[tokio::test]
async fn a_cleared_tpm_ends_in_enrol_again_and_a_new_number_makes_the_box_ready() {
    let stage = Stage::start();
    let provisioner = stage.provisioner();
    enrol(&provisioner, &stage.letter()).await.unwrap();
    stage.tpm.clear().unwrap();
    let renewals = provisioner.renew_now(&quietly).await.unwrap();
    let Renewal::Failed(error) = &renewals.certificates[0].1 else {
        panic!("failed")
    };
    assert!(matches!(
        stage::explained(error),
        Failure::KeyLost | Failure::TpmExchanged
    ));
    drop(provisioner);
    let error = stage::open(stage.config()).unwrap_err();
    assert!(
        matches!(
            stage::explained(&error),
            Failure::KeyLost | Failure::TpmExchanged
        ),
        "{error:?}"
    );
    let config = stage.config();
    let lock = Arc::new(gateway_provisioning::StateLock::acquire(&config.state_dir).unwrap());
    let vault = open_vault_anew(&config, &lock).unwrap();
    let provisioner = Provisioner::new(config, vault, lock)
        .unwrap()
        .with_patience(stage::impatient());
    provisioner.check_keys().await.unwrap();
    assert_eq!(state(&provisioner).await, State::KeyLost);
    assert!(matches!(
        enrol(&provisioner, &stage.letter()).await,
        Ok(Outcome::Provisioned)
    ));
    assert!(
        provisioner.lan_identity().await.unwrap().is_some(),
        "with a new LAN key too"
    );
}

#[tokio::test]
async fn the_lan_certificate_follows_the_configured_names() {
    let stage = Stage::start();
    let mut config = stage.config();
    config.lan.names.truncate(1);
    let provisioner = stage.provisioner_of(config);
    enrol(&provisioner, &stage.letter()).await.unwrap();
    assert_eq!(
        provisioner
            .lan_identity()
            .await
            .unwrap()
            .unwrap()
            .names
            .len(),
        1
    );
    drop(provisioner);
    let provisioner = stage.provisioner();
    let renewals = provisioner.renew_if_due(&quietly).await.unwrap();
    assert!(renewals.lan_replaced && renewals.lan_failed.is_none());
    assert_eq!(
        provisioner
            .lan_identity()
            .await
            .unwrap()
            .unwrap()
            .names
            .len(),
        2
    );
    assert!(
        !provisioner
            .renew_if_due(&quietly)
            .await
            .unwrap()
            .lan_replaced,
        "only once"
    );
}

#[tokio::test]
async fn a_box_changes_hands_by_decommissioning_only() {
    let stage = Stage::start();
    let provisioner = stage.provisioner();
    enrol(&provisioner, &stage.letter()).await.unwrap();
    let identity = provisioner.identities().await.unwrap().remove(0);
    stage
        .city
        .control("revoke", &json!({ "serial": identity.serial }))
        .unwrap();
    provisioner.note_revoked(&identity).await.unwrap();
    assert_eq!(state(&provisioner).await, State::Revoked);
    let foreign = stage.letter_with(json!({ "facility": "tkh-1002" }));
    assert_eq!(
        enrol(&provisioner, &foreign).await.unwrap_err(),
        Failure::CertificateForOtherFacility
    );
    assert!(matches!(
        enrol(&provisioner, &stage.letter()).await,
        Ok(Outcome::Provisioned)
    ));
}
