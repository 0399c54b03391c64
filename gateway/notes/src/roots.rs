//! Where the root of all keys comes from, in the store's own words: somewhere that can forget for good, which a disk cannot.
//!
//! It knows no TPM; whoever opens the store says what keeps the roots.

use std::error::Error as Source;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use zeroize::Zeroizing;

use crate::Error;
use crate::key::{KEY, random};

/// The root of all keys of a store. Whoever has it and the files can read them.
pub struct Root {
    generation: u64,
    key: Zeroizing<[u8; KEY]>,
}

impl Root {
    /// Takes a copy of the key; the caller's own is the caller's to wipe.
    #[must_use]
    pub fn new(generation: u64, key: &[u8; KEY]) -> Self {
        Self {
            generation,
            key: Zeroizing::new(*key),
        }
    }

    /// Rises with each renewal; never 0.
    #[must_use]
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    pub(crate) const fn key(&self) -> &Zeroizing<[u8; KEY]> {
        &self.key
    }
}

impl fmt::Debug for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Root")
            .field("generation", &self.generation)
            .finish_non_exhaustive()
    }
}

/// Why a root could not be had or forgotten.
#[derive(Debug, thiserror::Error)]
#[error("whoever keeps the roots of the keys could not {action} one")]
pub struct RootFault {
    /// What was tried, as a verb.
    pub action: &'static str,
    /// Why it failed.
    #[source]
    pub source: Box<dyn Source + Send + Sync>,
}

/// Keeps roots where they survive a power cut and can be forgotten for good. Blocks, within bounds.
pub trait KeyRoots: Send + Sync + fmt::Debug {
    /// All there are, oldest first: none, one, or two while a renewal is under way.
    ///
    /// # Errors
    /// [`RootFault`]; that there is none is no error.
    fn roots(&self) -> Result<Vec<Root>, RootFault>;

    /// The root after generation `from` (0: none), durably; made unless it is there already. That of `from` stays.
    ///
    /// # Errors
    /// [`RootFault`]; it was made or not, and calling again is right in both cases.
    fn renew(&self, from: u64) -> Result<Root, RootFault>;

    /// Forgets every root but that of `generation`, for good.
    ///
    /// # Errors
    /// [`RootFault`]; calling again is right.
    fn keep_only(&self, generation: u64) -> Result<(), RootFault>;
}

/// Roots that live as long as this value, for tests: a store under them is lost with the process.
#[derive(Default)]
pub struct RootsInMemory(Mutex<Vec<(u64, Zeroizing<[u8; KEY]>)>>);

impl RootsInMemory {
    fn held(&self) -> std::sync::MutexGuard<'_, Vec<(u64, Zeroizing<[u8; KEY]>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same roots as now, from here on apart: what a second look at the machine would find.
    #[must_use]
    pub fn snapshot(&self) -> Self {
        Self(Mutex::new(self.held().clone()))
    }
}

impl fmt::Debug for RootsInMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RootsInMemory")
    }
}

impl KeyRoots for RootsInMemory {
    fn roots(&self) -> Result<Vec<Root>, RootFault> {
        let held = self.held();
        Ok(held.iter().map(|(at, key)| Root::new(*at, key)).collect())
    }

    fn renew(&self, from: u64) -> Result<Root, RootFault> {
        let mut held = self.held();
        if let Some((at, key)) = held.iter().find(|(at, _)| *at > from) {
            return Ok(Root::new(*at, key));
        }
        let key = random().map_err(|error: Error| RootFault {
            action: "make",
            source: Box::new(error),
        })?;
        held.retain(|(at, _)| *at == from);
        held.push((from + 1, key));
        let (at, key) = held.last().expect("pushed just above");
        Ok(Root::new(*at, key))
    }

    fn keep_only(&self, generation: u64) -> Result<(), RootFault> {
        self.held().retain(|(at, _)| *at == generation);
        Ok(())
    }
}
