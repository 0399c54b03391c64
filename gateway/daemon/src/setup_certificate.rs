//! The certificate the box shows on the LAN before the city has given it one: self-signed, its key in memory only.
//!
//! A browser warns about it, and rightly: nothing vouches for it but its fingerprint, which is written to
//! `<state>/setup/fingerprint` for whoever stands at the box. It is made anew at each start and never used once a LAN
//! certificate is there.

use std::path::Path;

use aws_lc_rs::digest::{SHA256, digest};
use gateway_provisioning::durable;
use rcgen::{CertificateParams, DnType, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::sockets;

/// A chain of one, and its key.
#[derive(Debug)]
pub(crate) struct SetupCertificate {
    /// The certificate alone.
    pub(crate) chain: Vec<CertificateDer<'static>>,
    /// Its key.
    pub(crate) key: PrivateKeyDer<'static>,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SetupCertificateError {
    /// Key or certificate could not be made.
    #[error("cannot make it")]
    Make(#[from] rcgen::Error),
    /// The fingerprint could not be written.
    #[error("cannot write its fingerprint")]
    Fingerprint(#[source] std::io::Error),
}

/// Makes it for `names` and for the addresses of this machine.
///
/// # Errors
/// [`SetupCertificateError`].
pub(crate) fn make(
    state: &Path,
    names: &[String],
) -> Result<SetupCertificate, SetupCertificateError> {
    let key = KeyPair::generate()?;
    let names: Vec<String> = names
        .iter()
        .cloned()
        .chain(sockets::own_addresses().iter().map(ToString::to_string))
        .collect();
    let mut params = CertificateParams::new(names)?;
    params
        .distinguished_name
        .push(DnType::CommonName, "施設ゲートウェイ（初期設定用）");
    let certificate = params.self_signed(&key)?;
    let fingerprint: Vec<String> = digest(&SHA256, certificate.der())
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02X}"))
        .collect();
    let directory = state.join("setup");
    durable::create_directory(&directory)
        .and_then(|()| {
            durable::write(
                &directory.join("fingerprint"),
                format!("{}\n", fingerprint.join(":")).as_bytes(),
            )
        })
        .map_err(SetupCertificateError::Fingerprint)?;
    Ok(SetupCertificate {
        chain: vec![certificate.der().clone()],
        key: PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der())),
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_fingerprint_of_the_setup_certificate_is_written_for_whoever_stands_at_the_box() {
        let state = tempfile::tempdir().unwrap();
        let made = super::make(state.path(), &["box.example".to_owned()]).unwrap();
        let written = std::fs::read_to_string(state.path().join("setup/fingerprint")).unwrap();
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &made.chain[0]);
        let expected: Vec<String> = digest
            .as_ref()
            .iter()
            .map(|byte| format!("{byte:02X}"))
            .collect();
        assert_eq!(written.trim(), expected.join(":"));
    }
}
