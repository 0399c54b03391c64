//! PKCS#12 files in, and boxes out of service.
#![allow(clippy::unwrap_used, reason = "what a test cannot do is its failure")]

mod stage;

use std::process::Command;
use std::sync::Arc;

use gateway_provisioning::{
    CityTold, Failure, ImportPassword, Label, Outcome, Provisioner, Reason, Renewal, State,
    StateLock, open_vault, provenance_ja, quietly,
};
use gateway_tpm::{Provenance, RootVault, TpmVault, VaultError};
use serde_json::json;
use stage::{Stage, enrol, state};
use zeroize::Zeroizing;

const PASSWORD: &str = "Hanamizuki-2026";

fn p12_of(stage: &Stage) -> Vec<u8> {
    let letter = stage.letter();
    let arguments = json!({ "number": letter.number, "code": letter.code, "password": PASSWORD });
    let made = stage
        .city
        .control("p12", &arguments)
        .expect("the city makes a file");
    std::fs::read(made["path"].as_str().expect("the city makes a file"))
        .expect("the city makes a file")
}

async fn import(
    provisioner: &Provisioner,
    file: Vec<u8>,
    password: &str,
) -> Result<Outcome, Failure> {
    provisioner
        .import_p12(
            &Label::main(),
            Zeroizing::new(file),
            ImportPassword::new(password.into()),
            &quietly,
        )
        .await
        .map_err(|error| stage::explained(&error))
}

#[tokio::test]
async fn a_pkcs12_file_works_and_is_shown_as_imported_until_it_is_renewed() {
    let stage = Stage::start();
    let provisioner = stage.provisioner();
    assert!(matches!(
        import(&provisioner, p12_of(&stage), PASSWORD).await,
        Ok(Outcome::Provisioned)
    ));
    let identity = provisioner.identities().await.unwrap().remove(0);
    assert_eq!(identity.provenance, Provenance::Imported);
    assert_eq!(provenance_ja(identity.provenance), "取り込み");
    drop(provisioner);
    let provisioner = stage.provisioner();
    assert_eq!(
        provisioner.identities().await.unwrap()[0].provenance,
        Provenance::Imported,
        "after a restart too"
    );
    let renewals = provisioner.renew_now(&quietly).await.unwrap();
    assert!(matches!(renewals.certificates[0].1, Renewal::Renewed));
    assert_eq!(
        provisioner.identities().await.unwrap()[0].provenance,
        Provenance::Generated
    );
}

#[tokio::test]
async fn a_wrong_password_or_a_damaged_file_is_refused_and_leaves_nothing_behind() {
    let stage = Stage::start();
    let provisioner = stage.provisioner();
    let file = p12_of(&stage);
    assert_eq!(
        import(&provisioner, file.clone(), "wrong")
            .await
            .unwrap_err(),
        Failure::ImportUnreadable
    );
    let half = file[..file.len() / 2].to_vec();
    assert_eq!(
        import(&provisioner, half, PASSWORD).await.unwrap_err(),
        Failure::ImportUnreadable
    );
    assert_eq!(
        import(&provisioner, b"hello".to_vec(), PASSWORD)
            .await
            .unwrap_err(),
        Failure::ImportUnreadable
    );
    assert_eq!(state(&provisioner).await, State::Unprovisioned);
    assert!(matches!(
        import(&provisioner, file, PASSWORD).await,
        Ok(Outcome::Provisioned)
    ));
}

fn openssl_p12(directory: &std::path::Path, key: &[&str]) -> Vec<u8> {
    let run = |arguments: &[&str]| {
        let output = Command::new("openssl")
            .args(arguments)
            .current_dir(directory)
            .output()
            .expect("openssl works");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    };
    let base = [
        "req", "-x509", "-nodes", "-days", "30", "-subj", "/CN=x", "-keyout", "key.pem", "-out",
        "cert.pem",
    ];
    run(&[&base, key].concat());
    let password = format!("pass:{PASSWORD}");
    run(&[
        "pkcs12", "-export", "-inkey", "key.pem", "-in", "cert.pem", "-out", "x.p12", "-passout",
        &password,
    ]);
    std::fs::read(directory.join("x.p12")).expect("openssl works")
}

#[tokio::test]
async fn an_rsa_key_is_refused_in_plain_words() {
    let stage = Stage::start();
    let file = openssl_p12(&stage.directory, &["-newkey", "rsa:2048"]);
    assert_eq!(
        import(&stage.provisioner(), file, PASSWORD)
            .await
            .unwrap_err(),
        Failure::ImportRsa
    );
}

#[tokio::test]
async fn a_key_on_another_curve_is_refused() {
    let stage = Stage::start();
    let curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384"];
    let file = openssl_p12(&stage.directory, &curve);
    assert_eq!(
        import(&stage.provisioner(), file, PASSWORD)
            .await
            .unwrap_err(),
        Failure::ImportUnsuitable
    );
}

#[tokio::test]
async fn a_file_of_another_authority_is_refused_before_the_tpm_is_touched() {
    let stage = Stage::start();
    let file = openssl_p12(
        &stage.directory,
        &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"],
    );
    let provisioner = stage.provisioner();
    assert_eq!(
        import(&provisioner, file, PASSWORD).await.unwrap_err(),
        Failure::CertificateFromOtherIssuer
    );
    assert_eq!(state(&provisioner).await, State::Unprovisioned);
}

/// Asks the TPM in raw bytes, past all of the product: TPM2_GetCapability for handles from the first that a root of the
/// notes' keys may have.
fn indices_for_roots(stage: &Stage) -> usize {
    const ASK: [u8; 22] = [
        0x80, 0x01, 0, 0, 0, 22, 0, 0, 0x01, 0x7a, 0, 0, 0, 1, 0x01, 0x81, 0x5a, 0x70, 0, 0, 0, 4,
    ];
    let answer = stage.tpm.command(&ASK).unwrap();
    assert_eq!(answer[6..10], [0; 4]);
    answer[19..]
        .chunks_exact(4)
        .filter(|handle| handle.starts_with(&[0x01, 0x81, 0x5a]))
        .count()
}

#[tokio::test]
async fn decommissioning_revokes_clears_proves_and_erases_and_the_box_can_start_over() {
    let stage = Stage::start();
    {
        // What the store of notes keeps, in the middle of a renewal.
        let config = gateway_tpm::Config::new(stage.tpm.tcti(), stage.state_dir());
        let vault = TpmVault::open(config.allow_software_tpm()).unwrap();
        vault.renew_root(0).unwrap();
        vault.renew_root(1).unwrap();
    }
    assert_eq!(indices_for_roots(&stage), 2);
    let notes = stage.state_dir().join("notes/store/a");
    std::fs::create_dir_all(&notes).unwrap();
    std::fs::write(notes.join("notes.db"), b"sealed").unwrap();
    let provisioner = stage.provisioner();
    enrol(&provisioner, &stage.letter()).await.unwrap();
    stage::enrol_as(&provisioner, &"annex".parse().unwrap(), &stage.letter())
        .await
        .unwrap();
    let kept = provisioner.identities().await.unwrap();
    let config = provisioner.client_config(&kept[0]).unwrap();
    let record = provisioner.decommission(Reason::Leaving).await.unwrap();
    assert_eq!(record.certificates.len(), 2);
    assert!(
        record
            .certificates
            .iter()
            .all(|certificate| certificate.city == CityTold::Revoked),
        "{record:?}"
    );
    assert_eq!(record.keys_proven_lost, 2);
    assert_eq!(record.facility_id.as_deref(), Some(stage::FACILITY));
    let text = record.text_ja();
    for words in [
        "利用の廃止",
        "失効させました",
        "どれも使えない",
        &kept[0].serial,
    ] {
        assert!(text.contains(words), "{text}");
    }
    assert!(serde_json::from_str::<serde_json::Value>(&record.json()).is_ok());
    drop((provisioner, config));
    assert_eq!(indices_for_roots(&stage), 0, "the TPM itself is asked");
    let left: Vec<_> = stage::files(&stage.state_dir())
        .into_iter()
        .map(|(path, _)| path)
        .collect();
    for path in &left {
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(
            ["lock", "decommission-record.json"].contains(&name),
            "left behind: {left:?}"
        );
    }
    let vault = open_vault(&stage.config()).unwrap();
    for identity in &kept {
        assert!(
            matches!(
                vault.prove_loadable(&identity.key),
                Err(VaultError::KeyLost)
            ),
            "a kept copy is useless"
        );
    }
    drop(vault);
    let provisioner = stage.provisioner();
    assert_eq!(state(&provisioner).await, State::Unprovisioned);
    assert!(matches!(
        enrol(&provisioner, &stage.letter()).await,
        Ok(Outcome::Provisioned)
    ));
}

#[tokio::test]
async fn decommissioning_works_without_the_city_and_the_record_says_so() {
    let stage = Stage::start();
    let provisioner = stage.provisioner();
    enrol(&provisioner, &stage.letter()).await.unwrap();
    stage.city.fail("down").unwrap();
    let record = provisioner.decommission(Reason::Disposed).await.unwrap();
    assert!(matches!(record.certificates[0].city, CityTold::No { .. }));
    assert_eq!(record.keys_proven_lost, 1);
    assert!(
        record.text_ja().contains("市には届け出ていません"),
        "{}",
        record.text_ja()
    );
}

#[tokio::test]
async fn a_certificate_revoked_before_counts_as_told() {
    let stage = Stage::start();
    let provisioner = stage.provisioner();
    enrol(&provisioner, &stage.letter()).await.unwrap();
    stage
        .city
        .control(
            "revoke",
            &json!({ "serial": stage::serial(&provisioner).await }),
        )
        .unwrap();
    let record = provisioner.decommission(Reason::Replaced).await.unwrap();
    assert_eq!(record.certificates[0].city, CityTold::AlreadyRevoked);
}

#[tokio::test]
async fn a_decommissioning_that_was_cut_blocks_all_else_until_it_is_finished() {
    let mut stage = Stage::start();
    let provisioner = stage.provisioner();
    enrol(&provisioner, &stage.letter()).await.unwrap();
    // The TPM is gone in the middle: the city has been told, the clearing fails.
    let tell_only = {
        stage.tpm.kill();
        provisioner.decommission(Reason::Leaving).await.unwrap_err()
    };
    assert!(matches!(
        stage::explained(&tell_only),
        Failure::TpmMissing | Failure::TpmBusy
    ));
    stage.tpm.restart().unwrap();
    assert!(provisioner.status().await.unwrap().decommissioning);
    assert_eq!(
        enrol(&provisioner, &stage.letter()).await.unwrap_err(),
        Failure::Decommissioning
    );
    drop(provisioner);
    let config = stage.config();
    let lock = Arc::new(StateLock::acquire(&config.state_dir).unwrap());
    let vault = open_vault(&config).unwrap();
    let provisioner = Provisioner::new(config, vault, lock)
        .unwrap()
        .with_patience(stage::impatient());
    let record = provisioner.decommission(Reason::Leaving).await.unwrap();
    assert_eq!(record.keys_proven_lost, 1);
}
