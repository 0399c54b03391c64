//! The two slots, and the names of their kernels in the firmware's partition with the boot loader's counters.
//!
//! It reads and renames nothing. The names are those of systemd-sysupdate, and the counters those of the Boot Loader Specification
//! (§"Boot counting"): `renraku-gateway_1.2_b+1-0.efi` has one attempt left and none made.

use std::cmp::Ordering;
use std::fmt;

use gateway_policy::version::compare;

const PREFIX: &str = "renraku-gateway_";
const ENDING: &str = ".efi";
/// What a kernel is called while it is being written: no name that the boot loader looks at.
pub const UNFINISHED: &str = ".tmp";

/// One of the two places for a system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Slot {
    /// The first.
    A,
    /// The second.
    B,
}

impl Slot {
    /// Both.
    pub const ALL: [Self; 2] = [Self::A, Self::B];

    /// The one beside it.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    /// Its letter in file names.
    #[must_use]
    pub const fn letter(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::B => "b",
        }
    }

    /// Its kernel in a release's folder.
    #[must_use]
    pub const fn kernel(self) -> &'static str {
        match self {
            Self::A => "uki-a.efi",
            Self::B => "uki-b.efi",
        }
    }
}

/// The boot loader's counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tries {
    /// Attempts that are left.
    pub left: u32,
    /// Attempts that were made.
    pub done: u32,
}

impl Tries {
    /// One attempt: with more, a kernel that the firmware refuses stops the box before the old one is tried.
    pub const ONE: Self = Self { left: 1, done: 0 };
}

/// The name of a kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelName {
    /// The version it belongs to.
    pub version: String,
    /// The slot it starts.
    pub slot: Slot,
    /// Its counters; `None` once it is known to be good.
    pub tries: Option<Tries>,
}

impl KernelName {
    /// Reads a file's name; `None` when it is not one of ours, or not a finished one.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let stem = name.strip_prefix(PREFIX)?.strip_suffix(ENDING)?;
        let (stem, tries) = match stem.split_once('+') {
            Some((stem, counters)) => (stem, Some(counted(counters)?)),
            None => (stem, None),
        };
        let (version, letter) = stem.rsplit_once('_')?;
        let slot = Slot::ALL.into_iter().find(|slot| slot.letter() == letter)?;
        check_version(version).then(|| Self {
            version: version.to_owned(),
            slot,
            tries,
        })
    }

    /// The same kernel with other counters.
    #[must_use]
    pub fn with(&self, tries: Option<Tries>) -> Self {
        Self {
            tries,
            ..self.clone()
        }
    }

    /// True when its attempts are used up: the boot loader takes it only when there is nothing else.
    #[must_use]
    pub fn is_given_up(&self) -> bool {
        self.tries.is_some_and(|tries| tries.left == 0)
    }

    /// Which of two kernels the boot loader prefers (greater is preferred).
    #[must_use]
    pub fn preference(&self, other: &Self) -> Ordering {
        other
            .is_given_up()
            .cmp(&self.is_given_up())
            .then_with(|| compare(&self.version, &other.version))
            .then_with(|| self.slot.letter().cmp(other.slot.letter()))
    }
}

impl fmt::Display for KernelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}_{}", self.version, self.slot.letter())?;
        if let Some(tries) = self.tries {
            write!(f, "+{}-{}", tries.left, tries.done)?;
        }
        f.write_str(ENDING)
    }
}

/// True for a version that can stand in a file's name and in a target's: letters, digits, `.`, `~`, `-`; at most 40.
#[must_use]
pub fn check_version(version: &str) -> bool {
    version.len() <= 40
        && version.starts_with(|first: char| first.is_ascii_alphanumeric())
        && version
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b".~-".contains(&byte))
}

/// `+LEFT` or `+LEFT-DONE`.
fn counted(counters: &str) -> Option<Tries> {
    let number = |text: &str| {
        (text.len() <= 4 && text.bytes().all(|byte| byte.is_ascii_digit()))
            .then(|| text.parse().ok())
            .flatten()
    };
    let (left, done) = counters.split_once('-').unwrap_or((counters, "0"));
    Some(Tries {
        left: number(left)?,
        done: number(done)?,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_says_version_slot_and_attempts() {
        let name = KernelName::parse("renraku-gateway_1.2_b+1-0.efi").unwrap();
        assert_eq!(
            (name.version.as_str(), name.slot, name.tries),
            ("1.2", Slot::B, Some(Tries::ONE))
        );
        assert_eq!(name.with(None).to_string(), "renraku-gateway_1.2_b.efi");
        for other in [
            "renraku-gateway_1.2_b.efi.tmp",
            "renraku-gateway_1.2_c.efi",
            "renraku-gateway_1.2_b+x.efi",
            "renraku-gateway_1.2_b+1-0+1.efi",
            "renraku-gateway__b.efi",
            "renraku-gateway_1/2_b.efi",
            "other_1.2_b.efi",
        ] {
            assert_eq!(KernelName::parse(other), None, "{other}");
        }
    }

    #[test]
    fn a_kernel_that_was_given_up_comes_after_an_older_one() {
        let name = |text: &str| KernelName::parse(text).unwrap();
        let old = name("renraku-gateway_1.9_a.efi");
        let new = name("renraku-gateway_1.10_b+1-0.efi");
        let tried = name("renraku-gateway_1.10_b+0-1.efi");
        assert_eq!(new.preference(&old), Ordering::Greater);
        assert_eq!(tried.preference(&old), Ordering::Less);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(
            version in "[0-9a-z][0-9a-z.~-]{0,20}",
            b in any::<bool>(),
            tries in proptest::option::of((0u32..10_000, 0u32..10_000)),
        ) {
            let name = KernelName {
                version,
                slot: if b { Slot::B } else { Slot::A },
                tries: tries.map(|(left, done)| Tries { left, done }),
            };
            prop_assert_eq!(KernelName::parse(&name.to_string()), Some(name));
        }

        #[test]
        fn no_name_makes_it_panic(text in ".{0,60}") {
            let _ = KernelName::parse(&text);
        }
    }
}
