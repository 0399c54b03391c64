//! How signed files are written: canonical JSON, the names of our own members.
//!
//! It signs nothing and checks nothing.

use serde_json::Value;

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
