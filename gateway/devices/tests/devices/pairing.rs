//! Letting devices in, telling them apart, and cutting them off.

use std::process::Command;
use std::sync::Arc;

use gateway_devices::{Kind, Name, PairingState};
use gateway_policy::Timestamp;
use p12_keystore::KeyStore;
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use serde_json::json;

use crate::office::{Ask, Office, certificates, request};

const YEAR: i64 = 365 * 86_400;

#[test]
fn a_device_with_a_key_of_its_own_is_let_in_by_its_code_and_recognised_by_its_certificate() {
    let office = Office::open();
    let (_, csr) = request();
    let wish = json!({"name": "事務室1", "kind": "windows", "csr": csr});
    let (token, code) = office.ask_to_be_let_in(&wish);
    let state = |bearer: &str| {
        office.json(&Ask {
            bearer: Some(bearer),
            ..Ask::get("/device/v1/pair")
        })
    };
    assert_eq!(state(&token).1["state"], "waiting");
    assert_eq!(state(&code).0, 404);
    let collect = |bearer: &str| {
        office.json(&Ask {
            bearer: Some(bearer),
            ..Ask::post("/device/v1/pair/collect", b"")
        })
    };
    assert_eq!(collect(&token).0, 404, "not approved yet");
    let id = office.approve(&code);
    assert_eq!(state(&token).1["state"], "approved");
    let (status, first) = collect(&token);
    assert_eq!(status, 200);
    // A line that breaks costs nothing, and makes no second certificate.
    assert_eq!(collect(&token).1, first);
    let chain = certificates(first["certificate"].as_str().unwrap());
    let identities = office.devices.identities();
    assert_eq!(identities.identify(&chain, office.now), Some(id));
    assert_eq!(identities.identify(&chain[1..], office.now), None);
    assert_eq!(identities.identify(&[], office.now), None);
    for outside in [office.now.plus(2 * YEAR), Timestamp(0)] {
        assert_eq!(identities.identify(&chain, outside), None);
    }
    let device = office.devices.device(id).unwrap().unwrap();
    assert_eq!(
        (device.name.as_str(), device.kind),
        ("事務室1", Kind::Windows)
    );
    assert_eq!(device.approved_by, "m-1");
}

#[test]
fn a_chain_made_by_anybody_else_identifies_nobody() {
    let office = Office::open();
    let (id, leaf) = office.registered("windows", None);
    let key = KeyPair::generate().unwrap();
    let mut forged = CertificateParams::default();
    forged
        .distinguished_name
        .push(rcgen::DnType::CommonName, id.to_string());
    let forged = forged.self_signed(&key).unwrap();
    let root = office.devices.authorities().unwrap().pop().unwrap();
    let identities = office.devices.identities();
    assert_eq!(
        identities.identify(&[forged.der().clone(), root], office.now),
        None
    );
    let mut changed = leaf.to_vec();
    *changed.last_mut().unwrap() ^= 1;
    assert_eq!(identities.identify(&[changed.into()], office.now), None);
    assert_eq!(identities.identify(&[leaf], office.now), Some(id));
}

#[test]
fn a_browser_gets_a_file_that_opens_with_the_password_on_its_own_page() {
    let office = Office::open();
    for (kind, legacy) in [
        (Kind::Windows, false),
        (Kind::Chromebook, false),
        (Kind::Mac, true),
    ] {
        let name = Name::parse("受付").unwrap();
        let peer = [192, 0, 2, u8::try_from(kind as usize).unwrap()].into();
        let ticket = office
            .devices
            .start_pairing(name, kind, peer, office.now)
            .unwrap()
            .unwrap();
        let id = office.approve(&ticket.code);
        let PairingState::Approved { password, .. } =
            office.devices.pairing(&ticket.token, office.now)
        else {
            panic!("it is approved")
        };
        let password = password.unwrap();
        let file = office
            .devices
            .certificate_file(&ticket.token, office.now)
            .unwrap();
        let again = office.devices.certificate_file(&ticket.token, office.now);
        assert_eq!(
            *again.unwrap().content,
            *file.content,
            "fetched twice, made once"
        );
        assert!(KeyStore::from_pkcs12(&file.content, "another").is_err());
        let store = KeyStore::from_pkcs12(&file.content, &password).unwrap();
        let (_, chain) = store.private_key_chain().unwrap();
        let leaf = chain.chain()[0].as_der().to_vec().into();
        let identities = office.devices.identities();
        assert_eq!(
            identities.identify(&[leaf], office.now),
            Some(id),
            "{kind:?}"
        );
        opens_with_openssl(&office, &file.content, &password, legacy);
    }
}

/// Another implementation reads it, and says which algorithms are in it.
fn opens_with_openssl(office: &Office, file: &[u8], password: &str, legacy: bool) {
    let path = office.directory.path().join("device.p12");
    std::fs::write(&path, file).unwrap();
    let output = Command::new("openssl")
        .args(["pkcs12", "-info", "-noout", "-passin"])
        .arg(format!("pass:{password}"))
        .arg("-in")
        .arg(&path)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    let algorithm = if legacy {
        "pbeWithSHA1And3-KeyTripleDES-CBC"
    } else {
        "AES-256-CBC"
    };
    assert!(said.contains(algorithm), "{said}");
}

#[test]
fn an_ipad_gets_a_profile_without_the_password_in_it() {
    let key = KeyPair::generate().unwrap();
    let anchor = CertificateParams::default().self_signed(&key).unwrap();
    let office = Office::open_with(vec![anchor.der().clone()]);
    let name = Name::parse("訪問用A").unwrap();
    let ticket = office
        .devices
        .start_pairing(name, Kind::Ipad, [192, 0, 2, 9].into(), office.now)
        .unwrap()
        .unwrap();
    office.approve(&ticket.code);
    let PairingState::Approved { password, .. } = office.devices.pairing(&ticket.token, office.now)
    else {
        panic!("it is approved")
    };
    let file = office
        .devices
        .certificate_file(&ticket.token, office.now)
        .unwrap();
    assert_eq!(file.kind.media_type(), "application/x-apple-aspen-config");
    let text = String::from_utf8(file.content.to_vec()).unwrap();
    assert!(text.contains("com.apple.security.pkcs12") && text.contains("com.apple.security.root"));
    assert!(!text.contains(password.unwrap().as_str()) && !text.contains("訪問用"));
}

#[test]
fn a_certificate_of_the_city_is_taken_once_a_manager_approved_it_and_no_other() {
    let authority = |name: &str| {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        (certificate, Issuer::new(params, key))
    };
    let (city, city_issuer) = authority("city");
    let (_, other_issuer) = authority("city");
    let office = Office::open_with(vec![city.der().clone()]);
    let issue = |issuer: &Issuer<'_, KeyPair>, purpose| {
        let mut params = CertificateParams::default();
        params.extended_key_usages = vec![purpose];
        let key = KeyPair::generate().unwrap();
        params.signed_by(&key, issuer).unwrap()
    };
    let wish =
        |pem: String| json!({"name": "市のPC", "kind": "windows", "certificate": pem}).to_string();
    for foreign in [
        issue(&other_issuer, ExtendedKeyUsagePurpose::ClientAuth),
        issue(&city_issuer, ExtendedKeyUsagePurpose::ServerAuth),
    ] {
        let body = wish(foreign.pem());
        let (status, problem) = office.json(&Ask::post("/device/v1/pair", body.as_bytes()));
        assert_eq!(status, 409, "{problem}");
    }
    let issued = issue(&city_issuer, ExtendedKeyUsagePurpose::ClientAuth);
    let chain = [issued.der().clone()];
    let identities = office.devices.identities();
    let (token, code) =
        office.ask_to_be_let_in(&serde_json::from_str(&wish(issued.pem())).unwrap());
    assert_eq!(identities.identify(&chain, office.now), None, "not before");
    let id = office.approve(&code);
    assert_eq!(identities.identify(&chain, office.now), Some(id));
    let device = office.devices.device(id).unwrap().unwrap();
    assert_eq!(device.origin, gateway_devices::Origin::City);
    let collect = Ask {
        bearer: Some(&token),
        ..Ask::post("/device/v1/pair/collect", b"")
    };
    assert!(office.json(&collect).1["certificate"].is_null());
}

#[test]
fn a_revoked_device_is_recognised_as_such_gets_nothing_and_its_connections_are_cut() {
    let office = Office::open();
    let (id, leaf) = office.registered("windows", None);
    let _ = office.devices.take_effects();
    office.devices.revoke(id, office.now).unwrap();
    let effects = office.devices.take_effects();
    assert!(effects.devices_changed);
    assert_eq!(effects.cut, [id]);
    let identities = office.devices.identities();
    assert_eq!(identities.identify(&[leaf], office.now), Some(id));
    let (_, csr) = request();
    let renew = json!({ "csr": csr }).to_string();
    for ask in [
        Ask::post("/device/v1/renew", renew.as_bytes()),
        Ask::get("/device/v1/nonce"),
    ] {
        let answer = office.ask(&Ask {
            device: Some(id),
            ..ask
        });
        assert_eq!(answer.status, 403);
    }
    office.devices.reactivate(id).unwrap();
    let renewed = office.ask(&Ask {
        device: Some(id),
        ..Ask::post("/device/v1/renew", renew.as_bytes())
    });
    assert_eq!(renewed.status, 200);
}

#[test]
fn renewing_keeps_the_pseudonym_and_the_old_certificate_until_its_end() {
    let office = Office::open();
    let (id, old) = office.registered("linux", None);
    let (_, csr) = request();
    let body = json!({ "csr": csr }).to_string();
    let (status, answer) = office.json(&Ask {
        device: Some(id),
        ..Ask::post("/device/v1/renew", body.as_bytes())
    });
    assert_eq!(status, 200, "{answer}");
    let new = certificates(answer["certificate"].as_str().unwrap());
    let identities = office.devices.identities();
    for chain in [&new[..], &[old]] {
        assert_eq!(identities.identify(chain, office.now), Some(id));
    }
    let strange = office.ask(&Ask::post("/device/v1/renew", body.as_bytes()));
    assert_eq!(strange.status, 403);
}

#[test]
fn a_tablet_renews_its_file_with_a_new_password() {
    let office = Office::open();
    let (id, _) = office.registered("chromebook", None);
    let (status, answer) = office.json(&Ask {
        device: Some(id),
        ..Ask::post("/device/v1/renew", b"{}")
    });
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["media_type"], "application/x-pkcs12");
    assert!(answer["password"].as_str().unwrap().len() > 20);
}

#[test]
fn the_authority_outlives_a_restart_and_a_lost_key_costs_nobody_a_certificate() {
    let mut office = Office::open();
    let (id, leaf) = office.registered("windows", None);
    let roots = office.devices.authorities().unwrap();
    let reopen = |office: &Office| {
        let config = gateway_devices::Config {
            directory: office.directory.path().join("devices"),
            city_authorities: Vec::new(),
            anchors: Vec::new(),
        };
        gateway_devices::Devices::open(config, Arc::clone(&office.vault) as _).unwrap()
    };
    office.devices = reopen(&office);
    office.registered("windows", None);
    assert_eq!(office.devices.authorities().unwrap(), roots);

    // The TPM is cleared and set up anew, as at a change of manager.
    gateway_tpm::KeyVault::clear(&*office.vault).unwrap();
    let config = gateway_tpm::Config::new(office.tpm.tcti(), office.directory.path().join("state"));
    office.vault = Arc::new(gateway_tpm::TpmVault::open(config.allow_software_tpm()).unwrap());
    office.devices = reopen(&office);
    let (new, new_leaf) = office.registered("windows", None);
    assert_eq!(office.devices.authorities().unwrap().len(), 2);
    let identities = office.devices.identities();
    assert_eq!(identities.identify(&[leaf], office.now), Some(id));
    assert_eq!(identities.identify(&[new_leaf], office.now), Some(new));
}

#[test]
fn the_same_hardware_is_the_same_device_after_it_was_forgotten() {
    const UUID: &str = "4C4C4544-0043-3010-8052-B4C04F564231";
    let office = Office::open();
    let (id, _) = office.registered("windows", Some(UUID));
    office.devices.forget(id, office.now).unwrap();
    assert!(office.devices.list().unwrap().is_empty());
    let (again, _) = office.registered("windows", Some(&UUID.to_lowercase()));
    assert_eq!(again, id);
}

#[test]
fn requests_that_are_not_meant_so_are_refused_with_a_problem() {
    let office = Office::open();
    let wish = br#"{"name": "a", "kind": "windows"}"#;
    for (ask, status) in [
        (
            Ask {
                content_type: Some("text/plain"),
                ..Ask::post("/device/v1/pair", wish)
            },
            415,
        ),
        (Ask::post("/device/v1/pair", b"{}"), 400),
        (
            Ask::post("/device/v1/pair", br#"{"name": "", "kind": "windows"}"#),
            400,
        ),
        (
            Ask::post("/device/v1/pair", br#"{"name": "a", "kind": "fridge"}"#),
            400,
        ),
        (
            Ask::post(
                "/device/v1/pair",
                br#"{"name": "a", "kind": "mac", "more": 1}"#,
            ),
            400,
        ),
        (Ask::post("/device/v1/pair", &vec![b' '; 40_000]), 413),
        (
            Ask::post(
                "/device/v1/pair",
                br#"{"name": "a", "kind": "windows", "csr": "x"}"#,
            ),
            409,
        ),
        (Ask::get("/device/v1/pair"), 404),
        (Ask::get("/device/v1/nonce"), 403),
        (Ask::get("/device/v1/report"), 405),
        (Ask::get("/device/v2/report"), 404),
    ] {
        let (path, answer) = (ask.path, office.ask(&ask));
        assert_eq!(answer.status.as_u16(), status, "{path}");
        let problem: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(problem["status"], status);
        assert_eq!(problem["support_code"].as_str().unwrap().len(), 8);
    }
}

#[test]
fn what_is_handed_out_names_this_box_and_no_secret() {
    let office = Office::open();
    let script = office.ask(&Ask::get("/device/v1/windows.ps1"));
    let text = String::from_utf8(script.body).unwrap();
    assert!(text.contains("box.takahagi.localhost:8443") && !text.contains("@BOX@"));
    let flags = office.ask(&Ask::get("/device/v1/osquery.flags"));
    let text = String::from_utf8(flags.body).unwrap();
    assert!(text.contains("--tls_hostname=box.takahagi.localhost:8443"));
    assert!(text.contains("--disable_distributed=true") && text.contains("--disable_carver=true"));
    let root = office.ask(&Ask::get("/device/v1/ca.pem"));
    assert_eq!(
        certificates(&String::from_utf8(root.body).unwrap()).len(),
        1
    );
}

#[test]
fn what_lets_a_device_do_more_is_written_down_first_or_not_done_and_cutting_off_asks_nobody() {
    use gateway_devices::{Error, Loosening};
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::{Arc, Mutex};

    let mut office = Office::open();
    let (works, said) = (
        Arc::new(AtomicBool::new(true)),
        Arc::new(Mutex::new(Vec::new())),
    );
    let (log, heard) = (Arc::clone(&works), Arc::clone(&said));
    let config = gateway_devices::Config {
        directory: office.directory.path().join("devices"),
        city_authorities: Vec::new(),
        anchors: Vec::new(),
    };
    office.devices = gateway_devices::Devices::open(config, Arc::clone(&office.vault) as _)
        .unwrap()
        .written_down_by(Arc::new(move |device, what| {
            heard.lock().unwrap().push((device, what));
            log.load(Ordering::Relaxed)
        }));
    let (id, leaf) = office.registered("ipad", None);
    assert_eq!(*said.lock().unwrap(), [(id, Loosening::Registered)]);

    works.store(false, Ordering::Relaxed);
    let refused = |result: Result<(), Error>| assert!(matches!(result, Err(Error::NotRecorded)));
    refused(office.devices.set_manager(id, true));
    refused(
        office
            .devices
            .declare(id, &[gateway_policy::Check::PcLock], "m-1", office.now),
    );
    // What tightens takes effect although nothing can be written.
    office.devices.set_manager(id, false).unwrap();
    office.devices.revoke(id, office.now).unwrap();
    refused(office.devices.reactivate(id));
    let device = office.devices.device(id).unwrap().unwrap();
    assert!(device.revoked.is_some() && !device.manager);
    // And nobody new is let in.
    let wish = serde_json::json!({"name": "事務室2", "kind": "ipad"});
    let (_, code) = office.ask_to_be_let_in(&wish);
    let waiting = office.devices.pairing_with_code(&code, office.now).unwrap();
    let answer = office
        .devices
        .approve(&waiting.id, false, "m-1", office.now);
    refused(answer.map(drop));
    assert_eq!(office.devices.list().unwrap().len(), 1);

    // The same request is let in as soon as it can be written down.
    works.store(true, Ordering::Relaxed);
    office
        .devices
        .approve(&waiting.id, false, "m-1", office.now)
        .unwrap();
    office.devices.reactivate(id).unwrap();
    assert_eq!(
        office.devices.identities().identify(&[leaf], office.now),
        Some(id)
    );
}
