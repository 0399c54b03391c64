//! The signed policy: put in force, kept for the next start, and never an older version than one that was in force.
//!
//! It verifies no signature (that is done when it gets here) and judges no content (the policy crate does).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use gateway_audit::{Digest, Event, PolicyChange};
use gateway_policy::{Policy, PolicyContext, PolicyError, VersionFloor};
use gateway_provisioning::Provisioner;
use gateway_tuf::Refused;
use gateway_tuf::form::POLICY_TARGET;

use super::staging;
use crate::audit::loosening::{self, NotWrittenDown};
use crate::posture::{self, Posture};

/// The highest version that was ever in force, in decimal digits.
const FLOOR: &str = "policy-floor";

/// Why something that came was not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum Untaken {
    /// On the way.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// For what it says.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// It could not be written down before it would be in force.
    #[error(transparent)]
    NotWrittenDown(#[from] NotWrittenDown),
}

/// See the module.
pub(super) struct Policies {
    directory: PathBuf,
    posture: Arc<Posture>,
    provisioner: Arc<Provisioner>,
    in_force: Option<String>,
}

impl Policies {
    pub(super) fn new(
        directory: &Path,
        posture: Arc<Posture>,
        provisioner: Arc<Provisioner>,
    ) -> Self {
        Self {
            directory: directory.to_owned(),
            posture,
            provisioner,
            in_force: None,
        }
    }

    /// Puts the policy in force that was when the box was switched off. An expired one is not; the built-in one is then.
    pub(super) async fn take_up(&mut self) {
        if let Some(stored) = staging::stored_policy(&self.directory) {
            match self.parse(&stored.bytes).await {
                Ok(policy) => {
                    self.posture.set_policy(policy);
                    self.in_force = Some(stored.sha256);
                }
                Err(error) => tracing::warn!(
                    event = "signed-channel-refused",
                    reason = "TUF-POLICY-FAULT",
                    what = "policy",
                    error = crate::certificates::chain(&error),
                    "the policy of before is not in force any more"
                ),
            }
        }
    }

    /// Whether this very document is in force already.
    pub(super) fn has(&self, sha256: Option<&str>) -> bool {
        sha256.is_some() && self.in_force.as_deref() == sha256
    }

    /// Puts a verified document in force and keeps it. Returns its version.
    pub(super) async fn take(&mut self, bytes: &[u8]) -> Result<u64, Untaken> {
        let policy = self.parse(bytes).await?;
        let version = policy.version;
        let disk = |source| Refused::Disk {
            file: POLICY_TARGET.to_owned(),
            source,
        };
        // Written down before it can have any effect; without that the policy of before stays.
        let applied = Event::Policy {
            what: PolicyChange::Applied,
            version,
            digest: Some(Digest::of(&[bytes])),
        };
        loosening::before(&self.posture, applied).await?;
        // The floor first: after a power cut between the two, the older document is below it.
        let floor = self.floor()?.raised(&policy).version();
        staging::write(&self.directory, FLOOR, floor.to_string().as_bytes()).map_err(disk)?;
        self.posture.set_policy(policy);
        staging::keep_policy(&self.directory, bytes).map_err(disk)?;
        self.in_force = Some(staging::hex(bytes));
        Ok(version)
    }

    async fn parse(&self, bytes: &[u8]) -> Result<Policy, Untaken> {
        let floor = self.floor()?;
        // Before there is a certificate the box belongs to no facility, and takes what is for all of them.
        let identities = self.provisioner.identities().await.unwrap_or_default();
        let facility = identities
            .first()
            .map(|identity| identity.facility_id.as_str());
        let context = PolicyContext {
            now: posture::now(),
            floor,
            facility: facility.unwrap_or_default(),
        };
        Ok(Policy::parse(bytes, &context)?)
    }

    /// The floor; one that is there and cannot be read is damage, and no policy is taken.
    fn floor(&self) -> Result<VersionFloor, Refused> {
        let torn = |source| Refused::TornStore {
            file: FLOOR.to_owned(),
            source,
        };
        match std::fs::read_to_string(self.directory.join(FLOOR)) {
            Ok(text) => text.parse().map(VersionFloor::kept).map_err(|_| torn(None)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Ok(VersionFloor::default())
            }
            Err(error) => Err(torn(Some(error))),
        }
    }
}
