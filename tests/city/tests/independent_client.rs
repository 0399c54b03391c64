//! strongSwan's `pki`, an EST client that shares no code with this project.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

mod running_city;

use running_city::{RunningCity, openssl};
use std::process::Command;

#[test]
fn strongswans_pki_enrols_and_is_refused_with_a_used_number() {
    // `pki` asks the resolver for the host, which need not know `*.localhost`; hence the second name.
    let city = RunningCity::start_with(&["--est-alias", "localhost"]);
    let (number, code) = city.number("tkh-1001", false, false);
    let conf = city.path("strongswan.conf");
    // Without this the library stops at TLS 1.2, which enrolment does not accept.
    std::fs::write(&conf, "libtls {\n  version_max = 1.3\n}\n").unwrap();
    let pki = |arguments: &[&str]| {
        let out = Command::new("pki")
            .env("STRONGSWAN_CONF", &conf)
            .args(arguments)
            .output()
            .unwrap();
        (
            out.status.success(),
            out.stdout,
            String::from_utf8_lossy(&out.stderr).into_owned(),
        )
    };
    let url = format!("https://localhost:{}", city.port());
    let enrol = |name: &str| {
        let (key, csr) = (
            city.path(&format!("{name}.key")),
            city.path(&format!("{name}.csr")),
        );
        let (made, der, complaint) = pki(&["--gen", "--type", "ecdsa", "--size", "256"]);
        assert!(made, "{complaint}");
        std::fs::write(&key, der).unwrap();
        let request = [
            "--req",
            "--type",
            "ecdsa",
            "--in",
            key.to_str().unwrap(),
            "--dn",
            "CN=box",
        ];
        let (made, der, complaint) = pki(&request);
        assert!(made, "{complaint}");
        std::fs::write(&csr, der).unwrap();
        pki(&[
            "--est",
            "--url",
            &url,
            "--in",
            csr.to_str().unwrap(),
            "--cacert",
            city.ca_file(),
            "--userpass",
            &format!("{number}:{code}"),
            "--outform",
            "pem",
        ])
    };
    let (enrolled, pem, complaint) = enrol("first");
    assert!(enrolled, "{complaint}\n{}", city.log());
    let text = String::from_utf8(openssl(&["x509", "-noout", "-text"], &pem)).unwrap();
    assert!(text.contains("urn:renraku:facility:tkh-1001"), "{text}");
    let (enrolled, _, complaint) = enrol("second");
    assert!(!enrolled && complaint.contains("403"), "{complaint}");
}
