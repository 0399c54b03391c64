//! Exclusive use of the state directory by one process at a time: `gatewayd` or `gateway-provision`.
//!
//! It does not wait: a second process is told at once, in a sentence.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::durable;
use crate::failure::{Failure, ProvisioningError};

/// The lock on `<state_dir>/lock`, held until dropped. The kernel releases it when the process dies, however it dies.
#[derive(Debug)]
pub struct StateLock(#[expect(dead_code, reason = "held for its drop")] Flock<File>);

impl StateLock {
    /// Takes the lock, creating the state directory when it is not there yet.
    ///
    /// # Errors
    /// [`Failure::InUse`] when another process holds it; disk failures.
    pub fn acquire(state_dir: &Path) -> Result<Self, ProvisioningError> {
        durable::create_directory(state_dir).map_err(ProvisioningError::disk)?;
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(state_dir.join("lock"))
            .map_err(ProvisioningError::disk)?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Self(lock)),
            Err((_, Errno::EWOULDBLOCK)) => Err(Failure::InUse.into()),
            Err((_, errno)) => Err(ProvisioningError::disk(io::Error::from(errno))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holder_is_refused_until_the_first_lets_go() {
        let directory = tempfile::tempdir().unwrap();
        let first = StateLock::acquire(directory.path()).unwrap();
        let refused = StateLock::acquire(directory.path()).unwrap_err();
        assert_eq!(refused.failure(), &Failure::InUse);
        drop(first);
        StateLock::acquire(directory.path()).unwrap();
    }
}
