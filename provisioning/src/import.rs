//! Importing a PKCS#12 file that a city made: its P-256 key moves into the TPM, and the file's copy in memory is wiped.
//!
//! Such a key existed outside a TPM, and the box says so wherever it shows it (取り込み). RSA keys are refused: a TPM signs
//! RSA-PSS with another salt length than TLS 1.3 demands.

use gateway_tpm::ImportKey;
use p12_keystore::{KeyStore, KeyStoreEntry};
use rustls::pki_types::CertificateDer;
use zeroize::Zeroizing;

use crate::certificate::{self, Use};
use crate::failure::{Failure, ProvisioningError};
use crate::folder::{Label, OnItsWay};
use crate::journal::Purpose;
use crate::provisioner::{Provisioner, report};
use crate::status::{Outcome, Progress, Step};

/// The longest file that is read, in bytes.
const LONGEST_FILE: usize = 256 * 1024;

/// rsaEncryption, as it stands in a PKCS#8 key.
const RSA_ENCRYPTION: &[u8] = &[
    0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01,
];

/// The password of a PKCS#12 file. Wiped when dropped, never shown.
pub struct ImportPassword(Zeroizing<String>);

impl ImportPassword {
    /// Takes the text over as typed: unlike numbers, passwords are not normalised.
    pub fn new(typed: String) -> Self {
        Self(Zeroizing::new(typed))
    }
}

impl std::fmt::Debug for ImportPassword {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ImportPassword(redacted)")
    }
}

struct Opened {
    key: ImportKey,
    chain: Vec<CertificateDer<'static>>,
}

fn open(file: &[u8], password: &ImportPassword) -> Result<Opened, ProvisioningError> {
    if file.len() > LONGEST_FILE {
        return Err(Failure::ImportUnreadable.into());
    }
    // The library wipes neither its key store nor its intermediate buffers; they are freed here, and core dumps are off.
    let store = KeyStore::from_pkcs12(file, &password.0)
        .map_err(|error| ProvisioningError::because(Failure::ImportUnreadable, error))?;
    let mut entries = store.entries().filter_map(|(_, entry)| match entry {
        KeyStoreEntry::PrivateKeyChain(chain) => Some(chain),
        _ => None,
    });
    let (Some(entry), None) = (entries.next(), entries.next()) else {
        return Err(Failure::ImportUnsuitable.into());
    };
    if entry
        .key()
        .windows(RSA_ENCRYPTION.len())
        .any(|window| window == RSA_ENCRYPTION)
    {
        return Err(Failure::ImportRsa.into());
    }
    let key = ImportKey::from_private_key_der(entry.key())
        .map_err(|error| ProvisioningError::because(Failure::ImportUnsuitable, error))?;
    let chain = entry
        .chain()
        .iter()
        .map(|certificate| certificate.as_der().to_vec().into())
        .collect();
    Ok(Opened { key, chain })
}

impl Provisioner {
    /// Imports a PKCS#12 file under `label` and puts its certificate to use. `file` and `password` are wiped.
    ///
    /// # Errors
    /// Import, certificate, TPM, disk and network failures, each with its sentence.
    pub async fn import_p12(
        &self,
        label: &Label,
        file: Zeroizing<Vec<u8>>,
        password: ImportPassword,
        progress: Progress<'_>,
    ) -> Result<Outcome, ProvisioningError> {
        let _alone = self.busy.lock().await;
        let of = label.clone();
        let on_its_way = self
            .blocking(move |desk| {
                desk.ready_for_new(&of)?;
                let Opened { key, chain } = open(&file, &password)?;
                drop((file, password));
                let leaf = chain.first().ok_or(Failure::ImportUnsuitable)?;
                let facts = certificate::Facts::read(leaf).map_err(|error| {
                    ProvisioningError::because(Failure::ImportUnsuitable, error)
                })?;
                // Judged before the TPM is touched: a wrong file must leave nothing behind.
                let checked = certificate::check(
                    &chain,
                    &[],
                    &facts.spki_der,
                    Use::Facility,
                    &desk.anchors,
                    desk.now(),
                )?;
                let facility_id = checked
                    .facts
                    .facility_id
                    .as_deref()
                    .ok_or(Failure::CertificateForOtherFacility)?;
                desk.refuse_other_facility(facility_id)?;
                let key = desk.vault.import(key)?;
                if key.spki_der() != facts.spki_der {
                    return Err(Failure::ImportUnsuitable.into());
                }
                let folder = desk.folder(&of)?;
                folder.begin(Purpose::Import, &key)?;
                folder.receive(&checked.chain)?;
                folder
                    .on_its_way()?
                    .ok_or_else(|| Failure::JournalDamaged.into())
            })
            .await?;
        report(progress, Step::CertificateStored)?;
        debug_assert!(OnItsWay::has_certificate(&on_its_way));
        self.finish(label, on_its_way, progress).await
    }
}
