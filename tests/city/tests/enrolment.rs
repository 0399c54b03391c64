//! Enrolment with curl and openssl as the box: what is granted, and everything that is refused.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

mod running_city;

use running_city::{EST, GATEWAY, RunningCity, certificates_of, leaf_of, openssl};
use serde_json::json;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Command, Stdio};

const ENROLL: &str = "/.well-known/est/simpleenroll";
const REENROLL: &str = "/.well-known/est/simplereenroll";
const LAN: &str = "/.well-known/est/lan/simpleenroll";

fn body(file: &std::path::Path) -> [String; 4] {
    let data = format!("@{}", file.display());
    [
        "-H".into(),
        "content-type: application/pkcs10".into(),
        "--data-binary".into(),
        data,
    ]
}

fn refs(arguments: &[String; 4]) -> [&str; 4] {
    arguments.each_ref().map(String::as_str)
}

#[test]
fn a_number_and_its_code_give_a_facility_certificate_that_chains_to_the_anchor() {
    let city = RunningCity::start();
    let ready = city.ready().clone();
    let (_, csr) = city.request("box", &[]);
    let number = ready["certificate_number"].as_str().unwrap();
    let answer = city.enroll(&csr, number, ready["access_code"].as_str().unwrap());
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.header("content-type").unwrap(),
        "application/pkcs7-mime; smime-type=certs-only"
    );
    assert_eq!(
        answer.text().trim().lines().count(),
        1,
        "base64 on one line"
    );
    let all = certificates_of(&answer.body);
    assert_eq!(all.len(), 2, "the leaf and its authority");
    let chain = city.path("chain.pem");
    std::fs::write(&chain, all.concat()).unwrap();
    let leaf = leaf_of(&answer.body);
    let verify = [
        "verify",
        "-purpose",
        "sslclient",
        "-CAfile",
        city.ca_file(),
        "-untrusted",
        chain.to_str().unwrap(),
    ];
    openssl(&verify, leaf.as_bytes());
    let text = String::from_utf8(openssl(&["x509", "-noout", "-text"], leaf.as_bytes())).unwrap();
    assert!(text.contains("URI:urn:renraku:facility:tkh-1001"));
    assert!(
        text.contains("TLS Web Client Authentication")
            && !text.contains("TLS Web Server Authentication")
    );
    let authorities = city.curl(EST, "/.well-known/est/cacerts", &[]);
    assert_eq!(certificates_of(&authorities.body).len(), 3);
}

#[test]
fn the_same_key_gets_the_same_certificate_and_another_key_is_refused() {
    let city = RunningCity::start();
    let (number, code) = city.number("tkh-1001", false, false);
    let (_, csr) = city.request("one", &[]);
    let first = city.enroll(&csr, &number, &code);
    let (_, again) = city.request("one", &[]);
    let second = city.enroll(&again, &number, &code);
    assert_eq!(leaf_of(&first.body), leaf_of(&second.body));
    let (_, other) = city.request("two", &[]);
    let third = city.enroll(&other, &number, &code);
    assert_eq!(
        (third.status, third.problem().as_str()),
        (403, "number-used")
    );
}

#[test]
fn hyphens_in_number_and_code_are_of_no_meaning() {
    let city = RunningCity::start();
    let (number, code) = city.number("tkh-1001", false, false);
    let (_, csr) = city.request("box", &[]);
    assert_eq!(
        city.enroll(&csr, &number.replace('-', ""), &code.replace('-', ""))
            .status,
        200
    );
}

#[test]
fn an_unknown_number_and_a_wrong_code_are_answered_alike() {
    let city = RunningCity::start();
    let (number, _) = city.number("tkh-1001", false, false);
    let (_, csr) = city.request("box", &[]);
    let wrong = city.enroll(&csr, &number, "0000-0000");
    let unknown = city.enroll(&csr, "9999-9999-9999", "0000-0000");
    assert_eq!((wrong.status, unknown.status), (401, 401));
    assert!(
        wrong
            .header("www-authenticate")
            .unwrap()
            .starts_with("Basic")
    );
    let but_code = |answer: &running_city::Answer| {
        let mut problem = answer.json();
        problem["support_code"] = json!(null);
        problem
    };
    assert_eq!(but_code(&wrong), but_code(&unknown));
}

#[test]
fn five_wrong_codes_lock_a_number_and_an_unknown_number_locks_alike() {
    let city = RunningCity::start();
    let (number, code) = city.number("tkh-1001", false, false);
    let (_, csr) = city.request("box", &[]);
    for name in [number.as_str(), "9999-9999-9999"] {
        for _ in 0..5 {
            assert_eq!(city.enroll(&csr, name, "0000-0000").status, 401);
        }
        let locked = city.enroll(&csr, name, &code);
        assert_eq!(
            (locked.status, locked.problem().as_str()),
            (403, "number-locked")
        );
    }
}

#[test]
fn an_expired_number_is_refused_only_after_its_code_was_right() {
    let city = RunningCity::start();
    let (number, code) = city.number("tkh-1001", false, true);
    let (_, csr) = city.request("box", &[]);
    assert_eq!(city.enroll(&csr, &number, "0000-0000").status, 401);
    assert_eq!(
        city.enroll(&csr, &number, &code).problem(),
        "number-expired"
    );
}

#[test]
fn a_number_that_needs_approval_waits_for_it_and_stays_with_the_first_key() {
    let city = RunningCity::start();
    let (number, code) = city.number("tkh-1001", true, false);
    let (_, csr) = city.request("box", &[]);
    let waiting = city.enroll(&csr, &number, &code);
    assert_eq!(waiting.status, 202);
    assert!(
        waiting
            .header("retry-after")
            .unwrap()
            .parse::<u32>()
            .unwrap()
            > 0
    );
    let (_, other) = city.request("other", &[]);
    assert_eq!(city.enroll(&other, &number, &code).problem(), "number-used");
    city.control("approve", &json!({ "number": number }));
    assert_eq!(city.enroll(&csr, &number, &code).status, 200);
}

#[test]
fn a_suspended_facility_gets_no_certificate_and_its_number_is_not_burnt() {
    let city = RunningCity::start();
    let (number, code) = city.number("tkh-1001", false, false);
    let (_, csr) = city.request("box", &[]);
    city.control("suspend-facility", &json!({ "id": "tkh-1001" }));
    assert_eq!(
        city.enroll(&csr, &number, &code).problem(),
        "facility-suspended"
    );
    city.control(
        "suspend-facility",
        &json!({ "id": "tkh-1001", "suspended": false }),
    );
    assert_eq!(city.enroll(&csr, &number, &code).status, 200);
}

#[test]
fn a_request_with_foreign_content_is_refused_and_does_not_burn_the_number() {
    let city = RunningCity::start();
    let (number, code) = city.number("tkh-1001", false, false);
    let foreign: [&[&str]; 5] = [
        &["-addext", "basicConstraints=CA:TRUE"],
        &["-addext", "extendedKeyUsage=serverAuth"],
        &["-addext", "subjectAltName=DNS:renraku.takahagi.localhost"],
        &[
            "-addext",
            "subjectAltName=URI:urn:renraku:facility:tkh-1002",
        ],
        &["-addext", "1.2.3.4=ASN1:UTF8String:x"],
    ];
    for (number_of, more) in foreign.iter().enumerate() {
        let (_, csr) = city.request(&format!("foreign{number_of}"), more);
        let answer = city.enroll(&csr, &number, &code);
        assert_eq!(
            (answer.status, answer.problem().as_str()),
            (400, "csr-refused"),
            "{more:?}"
        );
    }
    let own = [
        "-addext",
        "subjectAltName=URI:urn:renraku:facility:tkh-1001",
    ];
    let (_, csr) = city.request("own", &own);
    assert_eq!(city.enroll(&csr, &number, &code).status, 200);
}

/// A request with a challengePassword, which openssl takes from a configuration file only.
fn request_with_challenge(city: &RunningCity, name: &str, challenge: &str) -> std::path::PathBuf {
    let config = city.path(&format!("{name}.cnf"));
    let text = format!(
        "[req]\nattributes=a\ndistinguished_name=d\nprompt=no\n[d]\nCN=box\n[a]\nchallengePassword={challenge}\n"
    );
    std::fs::write(&config, text).unwrap();
    city.request(name, &["-config", config.to_str().unwrap()]).1
}

#[test]
fn a_challenge_password_that_is_not_of_this_connection_is_refused() {
    let city = RunningCity::start();
    let (number, code) = city.number("tkh-1001", false, false);
    let csr = request_with_challenge(&city, "bound", "c29tZXRoaW5n");
    let answer = city.enroll(&csr, &number, &code);
    assert_eq!(
        (answer.status, answer.problem().as_str()),
        (403, "channel-binding")
    );
}

#[test]
fn a_challenge_password_that_is_the_tls_exporter_of_this_connection_is_accepted() {
    let city = RunningCity::start();
    let (number, code) = city.number("tkh-1001", false, false);
    let mut process = Command::new("openssl")
        .args([
            "s_client",
            "-nocommands",
            "-ign_eof",
            "-CAfile",
            city.ca_file(),
            "-verify_return_error",
        ])
        .args([
            "-connect",
            &format!("127.0.0.1:{}", city.port()),
            "-servername",
            EST,
        ])
        .args([
            "-keymatexport",
            "EXPORTER-Channel-Binding",
            "-keymatexportlen",
            "32",
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(process.stdout.take().unwrap());
    let mut line = String::new();
    while !line.contains("Keying material: ") {
        line.clear();
        assert!(out.read_line(&mut line).unwrap() > 0, "no keying material");
    }
    let hex = line.trim().strip_prefix("Keying material: ").unwrap();
    let exported: Vec<u8> = (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
        .collect();
    let challenge = String::from_utf8(openssl(&["base64", "-A"], &exported)).unwrap();
    let csr = std::fs::read_to_string(request_with_challenge(&city, "bound", &challenge)).unwrap();
    let basic = String::from_utf8(openssl(
        &["base64", "-A"],
        format!("{number}:{code}").as_bytes(),
    ))
    .unwrap();
    let request = format!(
        "POST {ENROLL} HTTP/1.1\r\nhost: {EST}\r\nauthorization: Basic {basic}\r\ncontent-type: application/pkcs10\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n{csr}",
        csr.len()
    );
    process
        .stdin
        .as_mut()
        .unwrap()
        .write_all(request.as_bytes())
        .unwrap();
    let mut answer = String::new();
    out.read_to_string(&mut answer).unwrap();
    process.wait().unwrap();
    assert!(answer.contains("HTTP/1.1 200"), "{answer}");
}

#[test]
fn no_credentials_wrong_media_type_and_nonsense_are_told_apart() {
    let city = RunningCity::start();
    let (_, csr) = city.request("box", &[]);
    let arguments = body(&csr);
    assert_eq!(city.curl(EST, ENROLL, &refs(&arguments)).status, 401);
    assert_eq!(
        city.curl(EST, ENROLL, &["-u", "a:b", "-d", "x"]).status,
        415
    );
    let nonsense = [
        "-u",
        "a:b",
        "-H",
        "content-type: application/pkcs10",
        "-d",
        "x",
    ];
    assert_eq!(city.curl(EST, ENROLL, &nonsense).problem(), "csr-refused");
    assert_eq!(city.curl(EST, ENROLL, &[]).status, 405);
    let large = city.path("large");
    std::fs::write(&large, vec![b'A'; 100_000]).unwrap();
    let arguments = body(&large);
    let all = [&["-u", "a:b"], refs(&arguments).as_slice()].concat();
    assert_eq!(city.curl(EST, ENROLL, &all).status, 413);
}

#[test]
fn enrolment_over_tls_1_2_is_refused() {
    let city = RunningCity::start();
    let answer = city.curl(EST, "/.well-known/est/cacerts", &["--tls-max", "1.2"]);
    assert_eq!(answer.problem(), "tls-version");
}

#[test]
fn a_renewal_needs_the_old_certificate_a_new_key_and_the_same_subject() {
    let city = RunningCity::start();
    let old = city.identity("tkh-1001", "old");
    let (_, same_key) = city.request("old", &[]);
    let arguments = body(&same_key);
    assert_eq!(
        city.curl(EST, REENROLL, &refs(&arguments)).problem(),
        "certificate-required"
    );
    assert_eq!(
        city.curl_as(&old, EST, REENROLL, &refs(&arguments))
            .problem(),
        "csr-refused"
    );
    let (_, other_name) = city.request("foreign", &["-subj", "/CN=tkh-1002"]);
    let arguments = body(&other_name);
    assert_eq!(
        city.curl_as(&old, EST, REENROLL, &refs(&arguments))
            .problem(),
        "csr-refused"
    );
    let (key, fresh) = city.request("new", &[]);
    let arguments = body(&fresh);
    let renewed = city.curl_as(&old, EST, REENROLL, &refs(&arguments));
    assert_eq!(renewed.status, 200, "{}", renewed.text());
    let new = city.keep(&renewed.body, key, "new");
    assert_ne!(new.serial, old.serial);
    let again = city.curl_as(&old, EST, REENROLL, &refs(&arguments));
    assert_eq!(
        leaf_of(&again.body),
        leaf_of(&renewed.body),
        "the same new key gets the same certificate"
    );
    for identity in [&old, &new] {
        let answer = city.curl_as(identity, GATEWAY, "/gateway/v1/attachments/none", &[]);
        assert_eq!(
            answer.status, 404,
            "both are in force until the old one ends"
        );
    }
}

#[test]
fn a_full_subject_as_in_the_old_certificate_renews_too() {
    let city = RunningCity::start();
    let old = city.identity("tkh-1001", "old");
    let (_, fresh) = city.request(
        "new",
        &[
            "-utf8",
            "-subj",
            "/O=さくら訪問看護ステーション（見本）/CN=tkh-1001",
        ],
    );
    let arguments = body(&fresh);
    assert_eq!(
        city.curl_as(&old, EST, REENROLL, &refs(&arguments)).status,
        200
    );
}

#[test]
fn a_certificate_for_the_facilitys_network_names_only_what_is_allowed() {
    let city = RunningCity::start();
    let holder = city.identity("tkh-1001", "box");
    let allowed = "subjectAltName=DNS:renraku.takahagi.localhost,DNS:box.takahagi.localhost";
    let (_, csr) = city.request("lan", &["-addext", allowed]);
    let arguments = body(&csr);
    assert_eq!(
        city.curl(EST, LAN, &refs(&arguments)).problem(),
        "certificate-required"
    );
    let answer = city.curl_as(&holder, EST, LAN, &refs(&arguments));
    assert_eq!(answer.status, 200, "{}", answer.text());
    let chain = city.path("lan-chain.pem");
    std::fs::write(&chain, certificates_of(&answer.body).concat()).unwrap();
    let leaf = leaf_of(&answer.body);
    let untrusted = chain.to_str().unwrap();
    let verify = [
        "verify",
        "-purpose",
        "sslserver",
        "-CAfile",
        city.ca_file(),
        "-untrusted",
        untrusted,
    ];
    openssl(&verify, leaf.as_bytes());
    for (number, names) in [
        "DNS:est.takahagi.localhost",
        "DNS:example.jp",
        "IP:127.0.0.1",
    ]
    .iter()
    .enumerate()
    {
        let san = format!("subjectAltName={names}");
        let (_, csr) = city.request(&format!("lan{number}"), &["-addext", &san]);
        let arguments = body(&csr);
        assert_eq!(
            city.curl_as(&holder, EST, LAN, &refs(&arguments)).problem(),
            "csr-refused",
            "{names}"
        );
    }
    let (_, own_key) = city.request("box", &["-addext", allowed]);
    let arguments = body(&own_key);
    assert_eq!(
        city.curl_as(&holder, EST, LAN, &refs(&arguments)).problem(),
        "csr-refused"
    );
}

#[test]
fn the_portal_hands_out_a_pkcs12_file_that_openssl_opens() {
    let city = RunningCity::start();
    let (number, code) = city.number("tkh-1001", false, false);
    let fields = [
        "--data-urlencode".to_owned(),
        format!("number={number}"),
        "--data-urlencode".to_owned(),
        format!("code={code}"),
        "--data-urlencode".to_owned(),
        "password=himitsu-2026".to_owned(),
    ];
    let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
    let answer = city.curl(running_city::RENRAKU, "/first-certificate", &fields);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let text = openssl(
        &["pkcs12", "-passin", "pass:himitsu-2026", "-nodes"],
        &answer.body,
    );
    let text = String::from_utf8_lossy(&text);
    assert_eq!(text.matches("BEGIN CERTIFICATE").count(), 2);
    assert!(text.contains("BEGIN PRIVATE KEY"));
    let again = city.curl(running_city::RENRAKU, "/first-certificate", &fields);
    assert_eq!(again.status, 403);
    assert!(again.text().contains("すでに使われています"));
    let (number, code) = city.number("tkh-1001", false, false);
    let made = city.control(
        "p12",
        &json!({ "number": number, "code": code, "password": "himitsu-2026" }),
    );
    let file = std::fs::read(made["path"].as_str().unwrap()).unwrap();
    openssl(&["pkcs12", "-passin", "pass:himitsu-2026", "-nodes"], &file);
}

#[test]
fn numbers_and_codes_appear_in_no_log_and_not_in_the_database() {
    let city = RunningCity::start();
    let (number, code) = city.number("tkh-1001", false, false);
    let (_, csr) = city.request("box", &[]);
    city.enroll(&csr, &number, "1234-9876");
    assert_eq!(city.enroll(&csr, &number, &code).status, 200);
    let mut written = city.log().into_bytes();
    for file in ["city/city.db", "city/city.db-wal"] {
        written.extend(std::fs::read(city.path(file)).unwrap_or_default());
    }
    for secret in [
        number.clone(),
        code.clone(),
        number.replace('-', ""),
        code.replace('-', ""),
        "1234-9876".into(),
    ] {
        let found = written
            .windows(secret.len())
            .any(|window| window == secret.as_bytes());
        assert!(!found, "{secret} was written down");
    }
}
