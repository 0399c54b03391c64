//! The city's side of the boxes' audit logs: reads a checkpoint, checks its signature, countersigns it.
//!
//! Written from `docs/audit.md` and not from the gateway's code, so that the two hold each other to it. Does not keep
//! anything; `store::audit` does.

use crate::ca::Ca;
use crate::store::audit::{Checkpoint, Refusal};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};

const CHECKPOINT: &[u8] = b"renraku-gateway audit checkpoint v1\0";
const RECEIPT: &[u8] = b"renraku-gateway audit receipt v1\0";

/// Bytes of a checkpoint's fixed fields: sequence 8, count 8, head 32, log 16, boot 16, time 8, key 32, length 1.
const FIXED: usize = 121;

/// A P-256 SubjectPublicKeyInfo has exactly this form before its 65 bytes of point (RFC 5480).
const P256: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// A checkpoint in a status report, base64.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Handed {
    checkpoint: Bytes,
    signature: Bytes,
    key: Bytes,
}

#[derive(Debug, Clone)]
struct Bytes(Vec<u8>);

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = STANDARD
            .decode(&text)
            .map_err(|_| serde::de::Error::custom("not base64"))?;
        if (1..=1026).contains(&bytes.len()) {
            Ok(Self(bytes))
        } else {
            Err(serde::de::Error::custom("does not fit"))
        }
    }
}

impl Handed {
    /// The checkpoint, if it is one of this facility, signed by the key that came with it.
    ///
    /// # Errors
    /// The refusal, as the interface words it.
    pub fn read(&self, facility: &str) -> Result<Checkpoint, Refusal> {
        let message = &self.checkpoint.0;
        let (fixed, named) = message
            .strip_prefix(CHECKPOINT)
            .and_then(|body| body.split_at_checked(FIXED))
            .filter(|(fixed, named)| usize::from(fixed[FIXED - 1]) == named.len())
            .ok_or(Refusal::Signature)?;
        let key = &self.key.0;
        let signed = key.len() == 91
            && key.starts_with(&P256)
            && fixed[88..120] == crate::secrets::sha256(key)
            && UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &key[26..])
                .verify(message, &self.signature.0)
                .is_ok();
        if !signed {
            return Err(Refusal::Signature);
        }
        if named != facility.as_bytes() {
            return Err(Refusal::OtherFacility);
        }
        Ok(Checkpoint {
            sequence: number(&fixed[..8]).ok_or(Refusal::Signature)?,
            count: number(&fixed[8..16]).ok_or(Refusal::Signature)?,
            head: fixed[16..48].to_vec(),
            log: fixed[48..64].to_vec(),
            key: key.clone(),
            message: message.clone(),
            signature: self.signature.0.clone(),
        })
    }

    /// The signed bytes, for a fault that is kept.
    #[must_use]
    pub fn message(&self) -> &[u8] {
        &self.checkpoint.0
    }
}

fn number(bytes: &[u8]) -> Option<i64> {
    i64::try_from(u64::from_be_bytes(bytes.try_into().ok()?)).ok()
}

/// The countersignature: the city's time, and its signature over that time, the checkpoint and its signature.
///
/// # Errors
/// When the authority cannot sign.
pub fn countersign(
    ca: &Ca,
    checkpoint: &Checkpoint,
    now: i64,
) -> Result<Value, crate::ca::CaError> {
    let mut message = RECEIPT.to_vec();
    message.extend(now.to_be_bytes());
    for part in [&checkpoint.message, &checkpoint.signature] {
        message.extend(u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
        message.extend(part);
    }
    let (signature, chain) = ca.receipt(&message)?;
    Ok(json!({
        "accepted": true,
        "time": now,
        "countersignature": STANDARD.encode(signature),
        "certificates": chain.iter().map(|der| STANDARD.encode(der)).collect::<Vec<_>>(),
    }))
}
