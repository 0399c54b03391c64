//! The roles of the city's channel and what each may name.
//!
//! It holds no keys.

use gateway_tuf::form::{ANTIVIRUS, POLICY, RELEASES};

/// A role that signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// Says whose keys count. City and contractor together, offline.
    Root,
    /// Says who may name what. City and contractor together, offline.
    Targets,
    /// Software of the box.
    Releases,
    /// The city's policy.
    Policy,
    /// Antivirus databases.
    Antivirus,
    /// Which versions belong together. Online.
    Snapshot,
    /// That this is the newest. Online, renewed daily.
    Timestamp,
}

/// The roles that `targets` delegates to.
pub const DELEGATED: [Role; 3] = [Role::Releases, Role::Policy, Role::Antivirus];

impl Role {
    /// Every role, offline ones first.
    pub const ALL: [Self; 7] = [
        Self::Root,
        Self::Targets,
        Self::Releases,
        Self::Policy,
        Self::Antivirus,
        Self::Snapshot,
        Self::Timestamp,
    ];

    /// Its name in metadata and in file names.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Targets => "targets",
            Self::Releases => RELEASES,
            Self::Policy => POLICY,
            Self::Antivirus => ANTIVIRUS,
            Self::Snapshot => "snapshot",
            Self::Timestamp => "timestamp",
        }
    }

    /// The role of a name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }

    /// True for a role that `targets` delegates to.
    #[must_use]
    pub fn is_delegated(self) -> bool {
        DELEGATED.contains(&self)
    }

    /// What a delegated role may name (TUF specification §4.5; a star does not cross a slash).
    pub(crate) fn paths(self) -> Vec<String> {
        let name = self.name();
        vec![format!("{name}/*"), format!("{name}/*/*")]
    }

    /// The member `_type`: a delegated role is of the type `targets`.
    pub(crate) fn kind(self) -> &'static str {
        if self.is_delegated() {
            "targets"
        } else {
            self.name()
        }
    }
}
