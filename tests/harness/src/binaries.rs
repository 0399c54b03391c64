//! Finds the programs to run: our own beside the running test, Debian's on the path.
//!
//! It does not build or install anything; `cargo xtask` does that first.

use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// Names another directory of our binaries (the bench uses the release build).
pub const BINARY_DIRECTORY: &str = "RENRAKU_BIN_DIR";

/// The path of one of our own binaries, `gatewayd` for example.
///
/// # Errors
/// When it has not been built; the message says which command builds it.
pub fn ours(name: &str) -> Result<PathBuf> {
    let path = directory()?.join(name);
    if path.is_file() {
        return Ok(path);
    }
    Err(Error::new(format!(
        "{} is not built: run `cargo build --workspace` (`cargo xtask test` does it first)",
        path.display()
    )))
}

/// The directory of our binaries: `target/debug` when this runs from `target/debug` or `target/debug/deps`.
///
/// # Errors
/// When the running program's own path cannot be read.
pub fn directory() -> Result<PathBuf> {
    if let Some(directory) = std::env::var_os(BINARY_DIRECTORY) {
        return Ok(directory.into());
    }
    let own = std::env::current_exe()
        .map_err(|error| Error::new("the path of this program cannot be read").because(error))?;
    let beside = own.parent().unwrap_or(Path::new("."));
    let is_inner = beside
        .file_name()
        .is_some_and(|name| name == "deps" || name == "examples");
    Ok(if is_inner {
        beside.parent().unwrap_or(beside)
    } else {
        beside
    }
    .to_owned())
}

/// Whether somebody else has built our binaries and says where: then nothing is to be built again.
pub fn are_built() -> bool {
    std::env::var_os(BINARY_DIRECTORY).is_some()
}

/// The workspace's root directory, as it was when this was compiled.
pub fn workspace() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// The path of a program from Debian's `package`; looks into the system directories too, which a user's path leaves out.
///
/// # Errors
/// When it is not installed; the message names the package.
pub fn debian(name: &str, package: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/bin"].map(PathBuf::from))
        .map(|directory| directory.join(name))
        .find(|candidate| candidate.is_file())
        .ok_or_else(|| {
            Error::new(format!(
                "{name} is not installed: `apt-get install {package}` (`cargo xtask setup` does it)"
            ))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_not_installed_names_its_package() {
        let error = debian("no-such-program", "its-package").unwrap_err();
        assert!(error.to_string().contains("apt-get install its-package"));
    }

    #[test]
    fn a_binary_that_is_not_built_names_the_command_that_builds_it() {
        let error = ours("no-such-binary").unwrap_err();
        assert!(error.to_string().contains("cargo build --workspace"));
    }
}
