//! The ceremony against a real city and a real (software) TPM: what goes right, and every input that goes wrong.

mod stage;

use std::sync::Arc;

use gateway_provisioning::{Failure, Label, Outcome, Provisioner, State, quietly};
use gateway_tpm::Provenance;
use serde_json::json;
use stage::{Letter, Stage, enrol, state};
use time::{Duration, OffsetDateTime};

#[tokio::test]
async fn a_number_and_its_code_make_the_box_ready() {
    let stage = Stage::start();
    let provisioner = stage.provisioner();
    assert!(matches!(
        enrol(&provisioner, &stage.letter()).await,
        Ok(Outcome::Provisioned)
    ));
    assert_eq!(state(&provisioner).await, State::Provisioned);
    let identities = provisioner.identities().await.unwrap();
    let identity = &identities[0];
    assert_eq!(identity.facility_id, stage::FACILITY);
    assert!(!identity.facility_name.is_empty());
    assert_eq!(identity.provenance, Provenance::Generated);
    assert_eq!(identity.chain.len(), 2, "leaf and intermediate");
    provisioner.client_config(identity).unwrap();
    let lan = provisioner
        .lan_identity()
        .await
        .unwrap()
        .expect("a LAN certificate");
    assert_eq!(lan.names.len(), 2);
    rustls::sign::CertifiedKey::new(lan.chain, lan.key)
        .keys_match()
        .unwrap();
}

#[tokio::test]
async fn full_width_digits_and_other_hyphens_are_accepted() {
    let stage = Stage::start();
    let wide = |text: &str| -> String {
        text.chars()
            .map(|c| match c {
                '-' => 'ー',
                digit => char::from_u32(u32::from(digit) + 0xfee0).unwrap(),
            })
            .collect()
    };
    let letter = stage.letter();
    let typed = Letter {
        number: wide(&letter.number),
        code: wide(&letter.code),
    };
    assert!(matches!(
        enrol(&stage.provisioner(), &typed).await,
        Ok(Outcome::Provisioned)
    ));
}

#[tokio::test]
async fn a_wrong_code_is_told_with_the_attempts_left_and_the_right_one_still_works() {
    let stage = Stage::start();
    let provisioner = stage.provisioner();
    let letter = stage.letter();
    let wrong = letter.with_wrong_code();
    assert_eq!(
        enrol(&provisioner, &wrong).await.unwrap_err(),
        Failure::WrongNumberOrCode { times: 1 }
    );
    assert_eq!(
        enrol(&provisioner, &wrong).await.unwrap_err(),
        Failure::WrongNumberOrCode { times: 2 }
    );
    assert_eq!(state(&provisioner).await, State::KeyPending);
    assert!(matches!(
        enrol(&provisioner, &letter).await,
        Ok(Outcome::Provisioned)
    ));
}

#[tokio::test]
async fn an_unknown_number_sounds_exactly_like_a_wrong_code() {
    let stage = Stage::start();
    let unknown = Letter {
        number: "9999-9999-9999".into(),
        code: "1234-5678".into(),
    };
    let failure = enrol(&stage.provisioner(), &unknown).await.unwrap_err();
    assert_eq!(failure, Failure::WrongNumberOrCode { times: 1 });
}

#[tokio::test]
async fn a_401_is_never_retried_by_itself() {
    let stage = Stage::start();
    let provisioner = stage.provisioner();
    let letter = stage.letter();
    for times in 1..=5 {
        let failure = enrol(&provisioner, &letter.with_wrong_code())
            .await
            .unwrap_err();
        assert_eq!(
            failure,
            Failure::WrongNumberOrCode { times },
            "one attempt, one count at the city"
        );
    }
    assert_eq!(
        enrol(&provisioner, &letter.with_wrong_code())
            .await
            .unwrap_err(),
        Failure::NumberLocked
    );
}

#[tokio::test]
async fn a_locked_number_stays_locked_for_the_right_code_too() {
    let stage = Stage::start();
    let provisioner = stage.provisioner();
    let letter = stage.letter();
    for _ in 0..5 {
        enrol(&provisioner, &letter.with_wrong_code())
            .await
            .unwrap_err();
    }
    assert_eq!(
        enrol(&provisioner, &letter).await.unwrap_err(),
        Failure::NumberLocked
    );
    assert!(
        matches!(
            enrol(&provisioner, &stage.letter()).await,
            Ok(Outcome::Provisioned)
        ),
        "a new number works"
    );
}

#[tokio::test]
async fn a_number_used_by_another_box_is_refused() {
    let (stage, other) = (Stage::start(), tempfile::tempdir().unwrap());
    let letter = stage.letter();
    let first = stage.provisioner();
    enrol(&first, &letter).await.unwrap();
    let mut config = stage.config();
    config.state_dir = other.path().join("state");
    drop(first);
    let second = stage.provisioner_of(config);
    assert_eq!(
        enrol(&second, &letter).await.unwrap_err(),
        Failure::NumberUsed
    );
}

#[tokio::test]
async fn an_expired_number_is_refused_as_expired() {
    let stage = Stage::start();
    let letter = stage.letter_with(json!({ "facility": stage::FACILITY, "expired": true }));
    assert_eq!(
        enrol(&stage.provisioner(), &letter).await.unwrap_err(),
        Failure::NumberExpired
    );
}

#[tokio::test]
async fn approval_by_hand_is_waited_for_across_a_restart_with_the_same_key() {
    let stage = Stage::start();
    let letter = stage.letter_with(json!({ "facility": stage::FACILITY, "manual": true }));
    let provisioner = stage.provisioner();
    assert!(matches!(
        enrol(&provisioner, &letter).await,
        Ok(Outcome::WaitingForApproval { .. })
    ));
    assert!(matches!(state(&provisioner).await, State::Waiting { .. }));
    drop(provisioner);
    let provisioner = stage.provisioner();
    let error = provisioner
        .resume(&Label::main(), &quietly)
        .await
        .unwrap_err();
    assert_eq!(error.failure(), &Failure::EntryNeeded);
    stage
        .city
        .control("approve", &json!({ "number": letter.number }))
        .unwrap();
    assert!(matches!(
        enrol(&provisioner, &letter).await,
        Ok(Outcome::Provisioned)
    ));
}

#[tokio::test]
async fn nothing_secret_is_sent_to_a_server_that_is_not_the_city() {
    let (stage, other) = (Stage::start(), Stage::start());
    let mut config = stage.config();
    config.city.anchor = other.city.ca_file();
    let failure = enrol(&stage.provisioner_of(config), &stage.letter())
        .await
        .unwrap_err();
    assert_eq!(failure, Failure::NotTheCity);
}

fn with_clock(stage: &Stage, off: Duration) -> Provisioner {
    stage
        .provisioner()
        .with_clock(Arc::new(move || OffsetDateTime::now_utc() + off))
}

#[tokio::test]
async fn a_clock_years_behind_is_told_with_the_date_it_shows() {
    let stage = Stage::start();
    let failure = enrol(&with_clock(&stage, Duration::days(-3650)), &stage.letter())
        .await
        .unwrap_err();
    assert!(
        matches!(
            failure,
            Failure::ClockBehind {
                clock: Some(_),
                at_least: Some(_)
            }
        ),
        "{failure:?}"
    );
    assert!(failure.sentence_ja().contains("時計"));
}

#[tokio::test]
async fn a_clock_years_ahead_is_told_with_the_date_it_shows() {
    let stage = Stage::start();
    let failure = enrol(&with_clock(&stage, Duration::days(3650)), &stage.letter())
        .await
        .unwrap_err();
    assert!(
        matches!(
            failure,
            Failure::ClockAhead {
                clock: Some(_),
                at_most: Some(_)
            }
        ),
        "{failure:?}"
    );
}

#[tokio::test]
async fn a_clock_days_off_is_noticed_by_the_citys_own_date() {
    let stage = Stage::start();
    let failure = enrol(&with_clock(&stage, Duration::days(20)), &stage.letter())
        .await
        .unwrap_err();
    assert!(
        matches!(failure, Failure::ClockDiffers { .. }),
        "{failure:?}"
    );
}

#[tokio::test]
async fn without_a_network_the_line_is_to_be_checked() {
    let stage = Stage::start();
    let mut config = stage.config();
    config.city.est.connect = Some(([127, 0, 0, 1], test_harness::ports::free().unwrap()).into());
    assert_eq!(
        enrol(&stage.provisioner_of(config), &stage.letter())
            .await
            .unwrap_err(),
        Failure::NoNetwork
    );
}

#[tokio::test]
async fn without_a_name_server_the_line_is_to_be_checked() {
    let stage = Stage::start();
    let mut config = stage.config();
    // RFC 6761 §6.4: never resolves.
    config.city.est.host = "est.city.invalid".into();
    config.city.est.connect = None;
    let failure = enrol(&stage.provisioner_of(config), &stage.letter())
        .await
        .unwrap_err();
    assert!(
        matches!(failure, Failure::NameNotFound | Failure::ConnectionLost),
        "{failure:?}"
    );
}

#[tokio::test]
async fn a_city_in_trouble_costs_only_time() {
    let stage = Stage::start();
    let provisioner = stage.provisioner();
    let letter = stage.letter();
    for (mode, expected) in [
        ("5xx", vec!["P-CITY-BUSY"]),
        ("hang", vec!["P-CONNECTION"]),
        ("cut-mid-body", vec!["P-CONNECTION", "P-CITY-PROTOCOL"]),
        ("down", vec!["P-NETWORK", "P-CONNECTION"]),
    ] {
        stage.city.fail(mode).unwrap();
        let failure = enrol(&provisioner, &letter).await.unwrap_err();
        assert!(
            expected.contains(&failure.code()),
            "{mode}: {}",
            failure.code()
        );
        stage.city.recover().unwrap();
    }
    assert!(matches!(
        enrol(&provisioner, &letter).await,
        Ok(Outcome::Provisioned)
    ));
}

#[tokio::test]
async fn a_certificate_that_could_not_be_tried_yet_needs_no_second_entry() {
    let stage = Stage::start();
    let provisioner = stage.provisioner();
    stage
        .city
        .control(
            "fail",
            &json!({ "mode": "5xx", "host": "gw.takahagi.localhost" }),
        )
        .unwrap();
    assert!(matches!(
        enrol(&provisioner, &stage.letter()).await,
        Ok(Outcome::AwaitingTrial(_))
    ));
    assert_eq!(state(&provisioner).await, State::CertificateReceived);
    stage.city.recover().unwrap();
    assert!(matches!(
        provisioner.resume(&Label::main(), &quietly).await,
        Ok(Outcome::Provisioned)
    ));
}

#[tokio::test]
async fn a_missing_lan_certificate_is_fetched_later_without_a_second_entry() {
    let stage = Stage::start();
    let provisioner = stage.provisioner();
    stage
        .city
        .control(
            "fail",
            &json!({ "mode": "5xx", "path": "/.well-known/est/lan" }),
        )
        .unwrap();
    assert!(matches!(
        enrol(&provisioner, &stage.letter()).await,
        Ok(Outcome::AwaitingLan(_))
    ));
    assert_eq!(state(&provisioner).await, State::AwaitingLan);
    assert!(provisioner.lan_identity().await.unwrap().is_none());
    stage.city.recover().unwrap();
    assert!(matches!(
        provisioner.resume(&Label::main(), &quietly).await,
        Ok(Outcome::Provisioned)
    ));
    assert!(provisioner.lan_identity().await.unwrap().is_some());
}

#[tokio::test]
async fn a_certificate_in_good_standing_is_never_overwritten() {
    let stage = Stage::start();
    let provisioner = stage.provisioner();
    enrol(&provisioner, &stage.letter()).await.unwrap();
    let before = stage::serial(&provisioner).await;
    assert_eq!(
        enrol(&provisioner, &stage.letter()).await.unwrap_err(),
        Failure::AlreadyProvisioned
    );
    assert_eq!(stage::serial(&provisioner).await, before);
}

#[tokio::test]
async fn additional_certificates_live_side_by_side() {
    let stage = Stage::start();
    let provisioner = stage.provisioner();
    let annex: Label = "annex".parse().unwrap();
    enrol(&provisioner, &stage.letter()).await.unwrap();
    stage::enrol_as(&provisioner, &annex, &stage.letter())
        .await
        .unwrap();
    let identities = provisioner.identities().await.unwrap();
    assert_eq!(
        identities
            .iter()
            .map(|identity| identity.label.as_str())
            .collect::<Vec<_>>(),
        ["main", "annex"]
    );
    assert_ne!(identities[0].serial, identities[1].serial);
    assert_ne!(identities[0].key.spki_der(), identities[1].key.spki_der());
}

#[tokio::test]
async fn a_certificate_of_another_facility_is_not_taken_beside_ours() {
    let stage = Stage::start();
    let provisioner = stage.provisioner();
    enrol(&provisioner, &stage.letter()).await.unwrap();
    let foreign = stage.letter_with(json!({ "facility": "tkh-1002" }));
    let failure = stage::enrol_as(&provisioner, &"annex".parse().unwrap(), &foreign)
        .await
        .unwrap_err();
    assert_eq!(failure, Failure::CertificateForOtherFacility);
}

#[tokio::test]
async fn a_software_tpm_is_refused_unless_the_configuration_allows_it() {
    let stage = Stage::start();
    let mut config = stage.config();
    config.tpm.allow_software = false;
    assert_eq!(
        stage::explained(&stage::open(config).unwrap_err()),
        Failure::SoftwareTpm
    );
}

#[tokio::test]
async fn a_missing_tpm_is_told_as_such() {
    let mut stage = Stage::start();
    let config = stage.config();
    stage.tpm.kill();
    assert_eq!(
        stage::explained(&stage::open(config).unwrap_err()),
        Failure::TpmMissing
    );
}

#[tokio::test]
async fn a_tpm_that_dies_in_the_middle_costs_only_time() {
    let mut stage = Stage::start();
    let provisioner = stage.provisioner();
    let letter = stage.letter();
    stage.tpm.kill();
    let failure = enrol(&provisioner, &letter).await.unwrap_err();
    assert!(
        matches!(failure, Failure::TpmMissing | Failure::TpmBusy),
        "{failure:?}"
    );
    stage.tpm.restart().unwrap();
    assert!(matches!(
        enrol(&provisioner, &letter).await,
        Ok(Outcome::Provisioned)
    ));
}

#[tokio::test]
async fn a_full_disk_is_told_before_anything_is_sent() {
    let stage = Stage::start();
    let provisioner = stage.provisioner();
    let letter = stage.letter();
    let folder = stage.state_dir().join("provisioning/main");
    std::fs::create_dir_all(&folder).unwrap();
    // Writes to /dev/full fail as on a full disk.
    let trap = folder.join("journal.json.new");
    std::os::unix::fs::symlink("/dev/full", &trap).unwrap();
    assert_eq!(
        enrol(&provisioner, &letter).await.unwrap_err(),
        Failure::DiskFull
    );
    std::fs::remove_file(&trap).unwrap();
    assert!(matches!(
        enrol(&provisioner, &letter).await,
        Ok(Outcome::Provisioned)
    ));
}

#[tokio::test]
async fn a_disk_that_cannot_be_written_is_told_as_such() {
    let stage = Stage::start();
    let provisioner = stage.provisioner();
    std::fs::write(stage.state_dir().join("provisioning"), b"not a directory").unwrap();
    assert_eq!(
        enrol(&provisioner, &stage.letter()).await.unwrap_err(),
        Failure::DiskUnusable
    );
}

#[tokio::test]
async fn the_private_key_of_one_box_does_not_load_in_another_tpm() {
    let (stage, other) = (Stage::start(), Stage::start());
    let provisioner = stage.provisioner();
    enrol(&provisioner, &stage.letter()).await.unwrap();
    let key = provisioner.identities().await.unwrap()[0].key.clone();
    let elsewhere = gateway_provisioning::open_vault(&other.config()).unwrap();
    assert!(matches!(
        elsewhere.prove_loadable(&key),
        Err(gateway_tpm::VaultError::KeyLost)
    ));
}
