//! Evidence that a key was made in this TPM (`TPM2_Certify` by an attestation key); it judges no evidence, the city does.

use crate::{
    Config, KeyBlob, SealedBlob, VaultError,
    chip::{self, Chip},
    fault::Fault,
    key_file::sized,
    pin::replace_durably,
    template,
};
use std::{fs, io, path::PathBuf, sync::Arc};
use tss_esapi::{
    abstraction::{AsymmetricAlgorithmSelection, ek},
    handles::KeyHandle,
    interface_types::{ecc::EccCurve, key_bits::RsaKeyBits, session_handles::AuthSession},
    structures::{Data, SignatureScheme},
    traits::Marshall,
};

/// What the city gets to judge a key by (draft-ietf-lamps-csr-attestation, the TPM 2.0 case). Optional: a city that does not
/// know the TPM's maker gives a lower assurance, not a refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// TPMS_ATTEST of type TPM_ST_ATTEST_CERTIFY; its `extraData` is the qualifying data and its Name that of the key.
    pub attest: Vec<u8>,
    /// ECDSA-Sig-Value (DER) over SHA-256 of `attest`, by the attestation key.
    pub signature: Vec<u8>,
    /// TPMT_PUBLIC of the attestation key: a restricted signing key, which signs only what the TPM itself states.
    pub ak_public: Vec<u8>,
    /// TPMT_PUBLIC of the certified key.
    pub key_public: Vec<u8>,
    /// The TPM maker's endorsement certificate (DER) from NV index 0x01c0000a (ECC) or 0x01c00002 (RSA), if present.
    pub ek_certificate: Option<Vec<u8>>,
}

/// The attestation key stays the same from one start to the next, so that a city can recognise it.
fn ak_path(config: &Config) -> PathBuf {
    config.state_dir.join("tpm").join("ak.blob")
}

/// The stored attestation key, if there is one that can be read.
pub(crate) fn stored_ak(config: &Config) -> Option<SealedBlob> {
    ak_from_bytes(&fs::read(ak_path(config)).ok()?)
}

/// Makes an attestation key and stores it.
pub(crate) fn new_ak(chip: &mut Chip, config: &Config) -> Result<SealedBlob, Fault> {
    let template = template::attestation_key().map_err(Fault::tss("describe a key"))?;
    let srk = chip.srk;
    let created = chip.in_salted_session("create a key", |c| {
        c.create(srk, template, None, None, None, None)
    })?;
    let public = created
        .out_public
        .marshall()
        .map_err(Fault::tss("create a key"))?;
    let bytes = [sized(&public), sized(created.out_private.value())].concat();
    replace_durably(&ak_path(config), &bytes).map_err(|source: io::Error| {
        VaultError::StateFile {
            action: "write",
            path: ak_path(config),
            source: Arc::new(source),
        }
    })?;
    Ok(SealedBlob::new(&public, created.out_private.value()))
}

fn ak_from_bytes(bytes: &[u8]) -> Option<SealedBlob> {
    let mut fields = crate::public_area::Fields(bytes);
    let (public, private) = (fields.sized()?, fields.sized()?);
    fields.end()?;
    Some(SealedBlob::new(public, private))
}

/// Certifies `key` with the attestation key `ak`.
pub(crate) fn certify(
    chip: &mut Chip,
    key: &KeyBlob,
    qualifying_data: [u8; 32],
    ak: &SealedBlob,
) -> Result<Evidence, Fault> {
    // The key first: it stays in the cache as the most recently used one while the attestation key takes the other slot.
    let key_handle = chip.load(key)?;
    let ak_handle = chip.load_wrapped(&ak.tpmt_public, &ak.private)?;
    let outcome = certify_loaded(chip, key_handle, qualifying_data, ak_handle);
    let flushed = chip.flush(ak_handle);
    let (attest, signature) = outcome?;
    flushed?;
    Ok(Evidence {
        attest,
        signature,
        ak_public: ak.tpmt_public.to_vec(),
        key_public: key.tpmt_public().to_vec(),
        ek_certificate: ek_certificate(chip),
    })
}

fn certify_loaded(
    chip: &mut Chip,
    key: KeyHandle,
    qualifying_data: [u8; 32],
    ak: KeyHandle,
) -> Result<(Vec<u8>, Vec<u8>), Fault> {
    let data = Data::try_from(qualifying_data.to_vec()).map_err(Fault::tss("certify"))?;
    // Certify authorises both objects, hence two sessions.
    let sessions = (
        Some(AuthSession::Password),
        Some(AuthSession::Password),
        None,
    );
    let (attest, signature) = chip
        .context
        .execute_with_sessions(sessions, |c| {
            c.certify(key.into(), ak, data, SignatureScheme::Null)
        })
        .map_err(Fault::tss("certify"))?;
    Ok((
        attest.marshall().map_err(Fault::tss("certify"))?,
        chip::ecdsa_der(&signature)?,
    ))
}

/// Absent on many TPMs; then the evidence stands without it.
fn ek_certificate(chip: &mut Chip) -> Option<Vec<u8>> {
    // EK Credential Profile section 2.2.1.4: the certificates' NV indices.
    let kinds = [
        (
            0x01c0_000a,
            AsymmetricAlgorithmSelection::Ecc(EccCurve::NistP256),
        ),
        (
            0x01c0_0002,
            AsymmetricAlgorithmSelection::Rsa(RsaKeyBits::Rsa2048),
        ),
    ];
    kinds.into_iter().find_map(|(index, kind)| {
        // Looked up first, because the C library prints an error for an index that is not there.
        let listed = chip::handles_from(&mut chip.context, index, 1).ok()?;
        let present = listed
            .first()
            .is_some_and(|handle| u32::from(*handle) == index);
        if present {
            ek::retrieve_ek_pubcert(&mut chip.context, kind).ok()
        } else {
            None
        }
    })
}
