//! The server certificate for the LAN: its key is made here in software, sealed to the TPM, and otherwise lives in memory
//! only.
//!
//! It is not a TPM key because it signs for every PC that connects, far more often than a TPM can. It does not serve
//! anything: the proxy does.

use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::encoding::{AsBigEndian as _, EcPrivateKeyBin};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use der::{Decode as _, Encode as _};
use gateway_tpm::{KeyVault, SealedBlob, Secret};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::SigningKey;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use zeroize::{Zeroize as _, Zeroizing};

use crate::certificate::{self, Checked, Facts, Use};
use crate::csr::{self, Wanted};
use crate::durable;
use crate::est::{Answer, Est};
use crate::failure::{Failure, ProvisioningError};
use crate::folder::{Held, Label};
use crate::provisioner::{Desk, Provisioner, report};
use crate::renewal;
use crate::status::{Progress, Step};

/// One file, so that key and certificate change together or not at all.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LanFile {
    version: u32,
    /// [`SealedBlob`], base64.
    sealed: String,
    /// Leaf first, DER, base64.
    chain: Vec<String>,
}

/// What is on disk.
pub(crate) struct StoredLan {
    sealed: SealedBlob,
    chain: Vec<CertificateDer<'static>>,
    pub(crate) facts: Facts,
}

/// The LAN server certificate with its key, unsealed: for `rustls::sign::CertifiedKey`.
#[derive(Clone)]
pub struct LanIdentity {
    /// Leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// Signs for TLS 1.2 and 1.3.
    pub key: Arc<dyn SigningKey>,
    /// DNS names it is good for.
    pub names: Vec<String>,
    /// End of validity.
    pub not_after: OffsetDateTime,
}

impl std::fmt::Debug for LanIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (names, not_after) = (&self.names, &self.not_after);
        f.debug_struct("LanIdentity")
            .field("names", names)
            .field("not_after", not_after)
            .finish_non_exhaustive()
    }
}

pub(crate) fn path(root: &Path) -> std::path::PathBuf {
    root.join("lan.json")
}

pub(crate) fn stored(root: &Path) -> Result<Option<StoredLan>, ProvisioningError> {
    let Some(content) = durable::read(&path(root)).map_err(ProvisioningError::disk)? else {
        return Ok(None);
    };
    let damaged = |error: Box<dyn std::error::Error + Send + Sync>| {
        ProvisioningError::because(Failure::JournalDamaged, error)
    };
    let file: LanFile = serde_json::from_slice(&content).map_err(|error| damaged(error.into()))?;
    let decode = |text: &String| STANDARD.decode(text).map_err(|error| damaged(error.into()));
    let chain = file
        .chain
        .iter()
        .map(|der| decode(der).map(CertificateDer::from))
        .collect::<Result<Vec<_>, _>>()?;
    let leaf = chain.first().ok_or(Failure::JournalDamaged)?;
    let facts = Facts::read(leaf).map_err(|error| damaged(error.into()))?;
    let sealed = SealedBlob::from_bytes(&decode(&file.sealed)?)?;
    Ok(Some(StoredLan {
        sealed,
        chain,
        facts,
    }))
}

fn store(
    root: &Path,
    sealed: &SealedBlob,
    chain: &[CertificateDer<'static>],
) -> Result<(), ProvisioningError> {
    let file = LanFile {
        version: 1,
        sealed: STANDARD.encode(sealed.to_bytes()),
        chain: chain.iter().map(|der| STANDARD.encode(der)).collect(),
    };
    let content = serde_json::to_vec_pretty(&file)
        .map_err(|error| ProvisioningError::because(Failure::DiskUnusable, error))?;
    durable::write(&path(root), &content).map_err(ProvisioningError::disk)
}

fn unseal(vault: &dyn KeyVault, stored: StoredLan) -> Result<LanIdentity, ProvisioningError> {
    let scalar = vault.unseal(&stored.sealed)?;
    let damaged = |error| ProvisioningError::because(Failure::JournalDamaged, error);
    let spki = spki::SubjectPublicKeyInfoOwned::from_der(&stored.facts.spki_der)
        .map_err(|error| ProvisioningError::because(Failure::JournalDamaged, error))?;
    let point = spki
        .subject_public_key
        .as_bytes()
        .ok_or(Failure::JournalDamaged)?;
    let pair = EcdsaKeyPair::from_private_key_and_public_key(
        &ECDSA_P256_SHA256_ASN1_SIGNING,
        scalar.as_bytes(),
        point,
    )
    .map_err(|error| ProvisioningError::because(Failure::JournalDamaged, error))?;
    // rustls takes keys as DER only; both copies are wiped, the working copy is in the cryptographic library.
    let document = pair
        .to_pkcs8v1()
        .map_err(|error| ProvisioningError::because(Failure::JournalDamaged, error))?;
    let mut der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(document.as_ref().to_vec()));
    let key = rustls::crypto::aws_lc_rs::sign::any_ecdsa_type(&der).map_err(damaged);
    der.zeroize();
    Ok(LanIdentity {
        key: key?,
        chain: stored.chain,
        names: stored.facts.dns_names,
        not_after: stored.facts.not_after,
    })
}

/// A fresh software key, on its way to being sealed.
struct FreshKey {
    pair: EcdsaKeyPair,
    spki_der: Vec<u8>,
}

impl FreshKey {
    fn generate() -> Result<Self, ProvisioningError> {
        // The system's random generator does not fail on a running Linux; if it did, nothing here could work.
        let failed = |error| ProvisioningError::because(Failure::TpmBusy, error);
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).map_err(failed)?;
        let point = pair.public_key().as_ref();
        let spki_der =
            spki_of(point).map_err(|error| ProvisioningError::because(Failure::TpmBusy, error))?;
        Ok(Self { pair, spki_der })
    }

    fn request(
        &self,
        names: &[String],
        channel_binding: &[u8; 32],
    ) -> Result<Vec<u8>, ProvisioningError> {
        let broken = |error| ProvisioningError::because(Failure::CertificateForOtherUse, error);
        let wanted = Wanted {
            subject_alt_name: Some(csr::dns_names(names).map_err(broken)?),
            ..Wanted::default()
        };
        let info = csr::request_info(&self.spki_der, &wanted, channel_binding).map_err(broken)?;
        let signature = self
            .pair
            .sign(&SystemRandom::new(), &info)
            .map_err(|error| ProvisioningError::because(Failure::TpmBusy, error))?;
        csr::assemble(&info, signature.as_ref()).map_err(broken)
    }

    fn scalar(&self) -> Result<Secret, ProvisioningError> {
        let failed = |error| ProvisioningError::because(Failure::TpmBusy, error);
        let scalar: EcPrivateKeyBin<'_> = self.pair.private_key().as_be_bytes().map_err(failed)?;
        Ok(Secret::new(
            Zeroizing::new(scalar.as_ref().to_vec()).to_vec(),
        ))
    }
}

/// SubjectPublicKeyInfo of a P-256 point (RFC 5480).
fn spki_of(point: &[u8]) -> der::Result<Vec<u8>> {
    use der::asn1::{Any, BitString, ObjectIdentifier};
    spki::SubjectPublicKeyInfo {
        algorithm: spki::AlgorithmIdentifier {
            oid: ObjectIdentifier::new_unwrap("1.2.840.10045.2.1"),
            parameters: Some(Any::from(&ObjectIdentifier::new_unwrap(
                "1.2.840.10045.3.1.7",
            ))),
        },
        subject_public_key: BitString::from_bytes(point)?,
    }
    .to_der()
}

impl Provisioner {
    /// The LAN server certificate with its key, unsealed by the TPM; `None` before provisioning.
    ///
    /// # Errors
    /// [`Failure::KeyLost`] when the TPM no longer opens the key (the certificate is then fetched anew by
    /// [`Provisioner::renew_if_due`]); disk failures.
    pub async fn lan_identity(&self) -> Result<Option<LanIdentity>, ProvisioningError> {
        self.blocking(|desk| match stored(&desk.root())? {
            Some(stored) => unseal(&*desk.vault, stored).map(Some),
            None => Ok(None),
        })
        .await
    }

    /// Fetches a LAN server certificate with the identity of `label` when there is none or it is due; true when it did.
    pub(crate) async fn ensure_lan(
        &self,
        label: &Label,
        progress: Progress<'_>,
    ) -> Result<bool, ProvisioningError> {
        let of = label.clone();
        let wanted = self
            .blocking(move |desk| {
                if desk.lan_is_good()? {
                    return Ok(None);
                }
                Ok(Some(
                    desk.folder(&of)?.active()?.ok_or(Failure::NotProvisioned)?,
                ))
            })
            .await?;
        match wanted {
            Some(held) => self.fetch_lan(held, progress).await.map(|()| true),
            None => Ok(false),
        }
    }

    async fn fetch_lan(&self, held: Held, progress: Progress<'_>) -> Result<(), ProvisioningError> {
        let desk = &self.desk;
        let config = desk.identity_config(&held)?;
        let fresh = FreshKey::generate()?;
        let connected = Est::connect(&desk.config.city.est, config, desk.patience.timeouts).await;
        let mut est = match connected {
            Ok(est) => est,
            Err(error) => return Err(self.explain(error, &held.key).await),
        };
        let request = fresh.request(&desk.config.lan.names, est.channel_binding())?;
        let answered = async {
            let answer = est
                .enroll("/.well-known/est/lan/simpleenroll", &request, None)
                .await?;
            Ok::<_, gateway_city::CityError>((answer, est.cacerts().await?))
        };
        let (answer, candidates) = match answered.await {
            Ok(answered) => answered,
            Err(error) => return Err(self.explain(error, &held.key).await),
        };
        report(progress, Step::LanAnswered)?;
        let received = match answer {
            Answer::Certificates(received) => received,
            Answer::Wait(_) => return Err(Failure::CityBusy { support_code: None }.into()),
            Answer::Unauthorized => return Err(Failure::CertificateRefused.into()),
        };
        let usage = Use::Lan(&desk.config.lan.names);
        let checked = certificate::check(
            &received,
            &candidates,
            &fresh.spki_der,
            usage,
            &desk.anchors,
            desk.now(),
        )?;
        self.keep_lan(fresh, checked).await?;
        report(progress, Step::LanStored)
    }

    async fn keep_lan(&self, fresh: FreshKey, checked: Checked) -> Result<(), ProvisioningError> {
        self.blocking(move |desk| {
            let sealed = desk.vault.seal(&fresh.scalar()?)?;
            store(&desk.root(), &sealed, &checked.chain)
        })
        .await
    }
}

impl Desk {
    /// True when the LAN certificate is there, covers the configured names, opens, and is not due for renewal.
    fn lan_is_good(&self) -> Result<bool, ProvisioningError> {
        let Some(stored) = stored(&self.root()).unwrap_or_default() else {
            return Ok(false);
        };
        let facts = &stored.facts;
        let jitter = stored
            .chain
            .first()
            .map_or(0.0, |leaf| renewal::jitter_of(leaf));
        let due = renewal::due(facts.not_before, facts.not_after, jitter) <= self.now();
        let wanted = self
            .config
            .lan
            .names
            .iter()
            .map(|name| name.to_ascii_lowercase());
        if due
            || !wanted
                .into_iter()
                .all(|name| facts.dns_names.contains(&name))
        {
            return Ok(false);
        }
        match self.vault.unseal(&stored.sealed) {
            Ok(_) => Ok(true),
            Err(gateway_tpm::VaultError::KeyLost) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}
