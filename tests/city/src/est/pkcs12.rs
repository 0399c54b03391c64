//! PKCS#12 for cities that make the key themselves: certificate, chain and P-256 key under a password.
//!
//! Such a key was outside a TPM once; nothing here pretends otherwise.

use super::enrol::{self, Credentials, Outcome, WantedKey};
use crate::city::City;
use crate::problem::Problem;
use crate::secrets::{random, sha256};
use p12_keystore::{Certificate, KeyStore, KeyStoreEntry, PrivateKeyChain};
use rcgen::{KeyPair, PublicKeyData as _};
use std::net::IpAddr;
use std::sync::Arc;
use zeroize::Zeroizing;

/// Why a PKCS#12 file could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Pkcs12Error {
    /// The key could not be made.
    #[error("the key could not be made")]
    Key(#[from] rcgen::Error),
    /// The file could not be written.
    #[error("the PKCS#12 file could not be put together")]
    Write(#[from] p12_keystore::error::Error),
}

/// Spends a number on a key made here and returns the PKCS#12 file.
///
/// # Errors
/// As [`enrol::with_number`]; a number that waits for approval is refused, for its key would be lost.
pub async fn for_number(
    city: &Arc<City>,
    from: IpAddr,
    credentials: &Credentials,
    password: &str,
) -> Result<Vec<u8>, Problem> {
    let key = KeyPair::generate().map_err(|error| Problem::internal(&error))?;
    let spki_der = key.subject_public_key_info();
    let wanted = WantedKey {
        spki: sha256(&spki_der),
        spki_der,
        uris: Vec::new(),
        evidence: false,
        origin: "pkcs12",
    };
    match enrol::with_number(city, from, credentials, wanted).await? {
        Outcome::Certificate(der) => {
            pack(city, &key, &der, password).map_err(|error| Problem::internal(&error))
        }
        Outcome::Waiting => Err(Problem::new(
            http::StatusCode::FORBIDDEN,
            "approval-needed",
            "この番号には市の承認が必要です。",
            "市にお問い合わせください。",
        )),
    }
}

/// Puts key, certificate and facility CA into a PKCS#12 file.
fn pack(
    city: &City,
    key: &KeyPair,
    certificate: &[u8],
    password: &str,
) -> Result<Vec<u8>, Pkcs12Error> {
    let chain = [certificate, city.ca.facility_ca()]
        .into_iter()
        .map(Certificate::from_der)
        .collect::<Result<Vec<_>, _>>()?;
    let private = Zeroizing::new(key.serialize_der());
    let entry = PrivateKeyChain::new(private.as_slice(), random::<20>(), chain);
    let mut store = KeyStore::new();
    store.add_entry("facility", KeyStoreEntry::PrivateKeyChain(entry));
    Ok(store.writer(password).write()?)
}
