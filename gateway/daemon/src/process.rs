//! What this process forbids itself before it touches a secret.

use nix::sys::resource::{Resource, setrlimit};

/// No core dump may ever hold a key, a code or a note: the limit is zero and the process is not dumpable, which also
/// keeps other processes of the same user from reading its memory (prctl(2) `PR_SET_DUMPABLE`).
///
/// # Errors
/// The system call that failed. The caller must not go on then.
pub(crate) fn forbid_core_dumps() -> nix::Result<()> {
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    nix::sys::prctl::set_dumpable(false)
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_process_that_forbids_core_dumps_is_not_dumpable() {
        super::forbid_core_dumps().unwrap();
        assert!(!nix::sys::prctl::get_dumpable().unwrap());
    }
}
