//! Who signs what, how many of them it takes, and for how long: what `init` is told.
//!
//! It makes no keys.

use std::collections::BTreeMap;

use crate::{PublicKey, ReleaseError, Role};

/// Keys and threshold of one role.
#[derive(Clone, Debug)]
pub struct RolePlan {
    /// Whose signatures count.
    pub keys: Vec<PublicKey>,
    /// How many it takes.
    pub threshold: usize,
}

/// For how many days each role's files are valid.
#[derive(Clone, Copy, Debug)]
pub struct Days;

impl Days {
    /// The default for a role. Long where people must meet to sign, short where a machine does.
    #[must_use]
    pub const fn of(role: Role) -> i64 {
        match role {
            Role::Root | Role::Targets => 365,
            Role::Releases | Role::Policy => 180,
            Role::Antivirus | Role::Snapshot => 14,
            // Over a weekend with a holiday on which nobody sees that the renewal has stopped.
            Role::Timestamp => 3,
        }
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Every role has a row.
    pub roles: BTreeMap<Role, RolePlan>,
}

impl Plan {
    /// Takes a plan in which every role has keys and a threshold that can be met.
    ///
    /// # Errors
    /// [`ReleaseError::BadThreshold`]. The root takes two signatures at least: a city alone, or a contractor alone, is not to
    /// be able to replace everybody's keys.
    pub fn new(roles: BTreeMap<Role, RolePlan>) -> Result<Self, ReleaseError> {
        for role in Role::ALL {
            let (threshold, keys) = roles
                .get(&role)
                .map_or((0, 0), |plan| (plan.threshold, distinct(&plan.keys)));
            check_threshold(role, threshold, keys)?;
        }
        Ok(Self { roles })
    }
}

pub(crate) fn check_threshold(
    role: Role,
    threshold: usize,
    keys: usize,
) -> Result<(), ReleaseError> {
    let least = if role == Role::Root { 2 } else { 1 };
    if threshold >= least && threshold <= keys {
        return Ok(());
    }
    Err(ReleaseError::BadThreshold {
        role: role.name().to_owned(),
        threshold,
        keys,
    })
}

fn distinct(keys: &[PublicKey]) -> usize {
    let mut ids: Vec<String> = keys.iter().map(PublicKey::id).collect();
    ids.sort();
    ids.dedup();
    ids.len()
}
