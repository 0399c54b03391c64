//! A signed file while it is being made: content, and the signatures that have come so far.
//!
//! It does not know who must sign.

use std::path::Path;

use gateway_tuf::form::{ISSUED, canonical};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::{ReleaseError, Role, SecretKey};

/// The specification's version that the files claim.
const SPEC_VERSION: &str = "1.0.31";

/// One signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Signature {
    pub(crate) keyid: String,
    pub(crate) sig: String,
}

/// A file of metadata (TUF specification §4.2).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Signed {
    pub(crate) signatures: Vec<Signature>,
    pub(crate) signed: Value,
}

impl Signed {
    /// The first version of a role's file, with `more` as its own members.
    pub(crate) fn new(role: Role, now: OffsetDateTime, days: i64, more: Value) -> Self {
        let mut signed = json!({
            "_type": role.kind(),
            "spec_version": SPEC_VERSION,
            "version": 1,
        });
        if let (Some(signed), Value::Object(more)) = (signed.as_object_mut(), more) {
            signed.extend(more);
        }
        let mut fresh = Self {
            signatures: Vec::new(),
            signed,
        };
        fresh.date(now, days);
        fresh
    }

    /// The same content as the next version, without signatures.
    pub(crate) fn next(&self, now: OffsetDateTime, days: i64) -> Self {
        let mut next = Self {
            signatures: Vec::new(),
            signed: self.signed.clone(),
        };
        next.signed["version"] = json!(self.version() + 1);
        next.date(now, days);
        next
    }

    /// Sets when it was made and until when it is valid; earlier signatures are void then.
    pub(crate) fn date(&mut self, now: OffsetDateTime, days: i64) {
        self.signed[ISSUED] = json!(rfc3339(now));
        self.signed["expires"] = json!(rfc3339(now + time::Duration::days(days)));
        self.signatures.clear();
    }

    /// The version.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.signed["version"].as_u64().unwrap_or_default()
    }

    /// Until when it is valid, RFC 3339.
    #[must_use]
    pub fn expires(&self) -> &str {
        self.signed["expires"].as_str().unwrap_or_default()
    }

    /// Adds a key's signature, in place of an earlier one of the same key.
    pub(crate) fn sign(&mut self, key: &SecretKey) -> Result<(), ReleaseError> {
        let malformed = |_| ReleaseError::Malformed("metadata".to_owned());
        let sig = key.sign(&canonical(&self.signed).map_err(malformed)?)?;
        let keyid = key.public().id();
        self.signatures.retain(|signature| signature.keyid != keyid);
        self.signatures.push(Signature { keyid, sig });
        Ok(())
    }

    /// Takes over the signatures of a copy of the same file that somebody else has signed.
    pub(crate) fn merge(&mut self, copy: &Self) -> bool {
        if copy.signed != self.signed {
            return false;
        }
        for signature in &copy.signatures {
            if !self
                .signatures
                .iter()
                .any(|held| held.keyid == signature.keyid)
            {
                self.signatures.push(signature.clone());
            }
        }
        true
    }

    pub(crate) fn read(path: &Path) -> Result<Self, ReleaseError> {
        let bytes =
            std::fs::read(path).map_err(|error| ReleaseError::File(path.to_owned(), error))?;
        serde_json::from_slice(&bytes)
            .map_err(|_| ReleaseError::Malformed(path.display().to_string()))
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut text = serde_json::to_vec_pretty(self).unwrap_or_default();
        text.push(b'\n');
        text
    }
}

pub(crate) fn rfc3339(at: OffsetDateTime) -> String {
    at.replace_nanosecond(0)
        .unwrap_or(at)
        .to_offset(time::UtcOffset::UTC)
        .format(&Rfc3339)
        .unwrap_or_default()
}
