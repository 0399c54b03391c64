//! How signed files are written: canonical JSON, the names of our own members.
//!
//! It signs nothing.

use serde_json::Value;

use crate::Refused;

/// A member of `signed` beside the standard's: when the file was made, RFC 3339 in UTC. TUF has no such member and lets a
/// repository add its own (TUF specification §4); it is what a box with a clock that runs behind is recognised by.
pub const ISSUED: &str = "x-renraku-issued";

/// The role for policies.
pub const POLICY: &str = "policy";
/// The role for antivirus databases.
pub const ANTIVIRUS: &str = "antivirus";
/// The role for software releases.
pub const RELEASES: &str = "releases";

/// The target that holds the facility policy in force.
pub const POLICY_TARGET: &str = "policy/policy.json";
/// The target that names the antivirus database in force.
pub const ANTIVIRUS_TARGET: &str = "antivirus/current.json";
/// The target that names the newest software release.
pub const RELEASE_TARGET: &str = "releases/current.json";

/// A value that canonical JSON cannot express: a number that is not an integer.
#[derive(Debug, thiserror::Error)]
#[error("signed files hold whole numbers only")]
pub struct NotCanonical;

/// The bytes that signatures cover (TUF specification §4.2: canonical JSON as securesystemslib writes it).
///
/// # Errors
/// When the value holds a number that is not an integer.
pub fn canonical(value: &Value) -> Result<Vec<u8>, NotCanonical> {
    sigstore_tuf::canonical_json::to_canonical_bytes(value).map_err(|_| NotCanonical)
}

/// How many of `ids` have a good signature on a signed file, counted exactly as a box counts them.
///
/// `keys` is an object of key objects by id, as in a root or a delegation.
///
/// # Errors
/// [`Refused::Malformed`] when a box would not understand the file.
pub fn signatures(bytes: &[u8], keys: &Value, ids: &[String]) -> Result<usize, Refused> {
    use sigstore_tuf::metadata::{Metadata, Role, Root, Snapshot, Targets, Timestamp};

    fn count<R: Role>(bytes: &[u8], keys: &Value, ids: &[String]) -> sigstore_tuf::Result<usize> {
        let keys = serde_json::from_value(keys.clone())?;
        // A threshold that cannot be met: the answer is how many there are.
        let role = serde_json::from_value(serde_json::json!({
            "keyids": ids, "threshold": ids.len() + 1,
        }))?;
        match Metadata::<R>::from_slice(bytes)?.verify_threshold(&keys, &role, R::TYPE) {
            Err(sigstore_tuf::Error::ThresholdNotMet { found, .. }) => Ok(found),
            Err(other) => Err(other),
            Ok(()) => Ok(ids.len()),
        }
    }

    let malformed = |source: sigstore_tuf::Error| Refused::Malformed {
        file: "the signed file".to_owned(),
        source: Some(source.into()),
    };
    let value: Value = serde_json::from_slice(bytes).map_err(|error| malformed(error.into()))?;
    match value["signed"]["_type"].as_str() {
        Some("root") => count::<Root>(bytes, keys, ids),
        Some("targets") => count::<Targets>(bytes, keys, ids),
        Some("snapshot") => count::<Snapshot>(bytes, keys, ids),
        _ => count::<Timestamp>(bytes, keys, ids),
    }
    .map_err(malformed)
}
