//! A disk of a few megabytes, for tests of a full one.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Gone when dropped.
#[derive(Debug)]
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts one, which takes root.
    ///
    /// # Panics
    /// When it cannot be mounted.
    #[must_use]
    pub fn mount(at: &Path, size: &str) -> Self {
        std::fs::create_dir_all(at).expect("a test's directory can be made");
        let mounted = Command::new("mount")
            .args([
                "-t",
                "tmpfs",
                "-o",
                &format!("size={size},mode=0700"),
                "tmpfs",
            ])
            .arg(at)
            .status()
            .expect("mount is on every Debian");
        assert!(mounted.success(), "a small disk needs root");
        Self(at.to_owned())
    }

    /// Takes what room there is, and gives it back by its path.
    ///
    /// # Panics
    /// When no file can be made.
    #[must_use]
    pub fn fill(&self) -> PathBuf {
        let ballast = self.0.join("ballast");
        let mut file = std::fs::File::create(&ballast).expect("a full disk takes a name");
        let page = [0x5a; 4096];
        while std::io::Write::write_all(&mut file, &page).is_ok() {}
        ballast
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}
