//! The programs that make an image, as Debian 13 ships them, in a tree of their own.
//!
//! Nothing of the machine's own version of them is used: Debian 12's mkosi, QEMU and systemd are too old for this image.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use test_harness::appliance::ENTER;
use test_harness::error::tail;

use crate::debian::mirror;

/// mkosi and what it calls, the parts of the boot chain, and what boots the image in tests.
const PACKAGES: [&str; 23] = [
    "mkosi",
    "apt",
    "systemd-ukify",
    "systemd-boot",
    "systemd-boot-efi",
    "systemd-repart",
    "systemd-cryptsetup",
    "dosfstools",
    "mtools",
    "erofs-utils",
    "e2fsprogs",
    "cryptsetup-bin",
    "sbsigntool",
    "openssl",
    "cpio",
    "kmod",
    "zstd",
    "ca-certificates",
    "swtpm",
    "swtpm-tools",
    "qemu-system-x86",
    "ovmf",
    "socat",
];

/// A Debian 13 tree with the tools in it.
#[derive(Clone, Debug)]
pub(super) struct Tools {
    /// The tree.
    pub(super) root: PathBuf,
    work: PathBuf,
}

impl Tools {
    /// Makes the tree if it is not there (root, mmdebstrap; a minute or two).
    pub(super) fn prepare(home: &Path) -> Result<Self, String> {
        let root = home.join("tools");
        let work = home.join("work");
        let made = root.join("made-of");
        let wanted = PACKAGES.join(",");
        if fs::read_to_string(&made).ok().as_deref() != Some(wanted.as_str()) {
            eprintln!(
                "making a Debian 13 tree with the tools in {}",
                root.display()
            );
            let _ = fs::remove_dir_all(&root);
            fs::create_dir_all(home).map_err(|error| format!("{}: {error}", home.display()))?;
            let output = Command::new("mmdebstrap")
                .arg("--variant=apt")
                .arg(format!("--include={wanted}"))
                .arg("trixie")
                .arg(&root)
                .arg(mirror()?)
                .output()
                .map_err(|error| format!("mmdebstrap: {error}"))?;
            if !output.status.success() {
                return Err(format!(
                    "mmdebstrap could not make the tree of tools:\n{}",
                    tail(&String::from_utf8_lossy(&output.stderr), 20)
                ));
            }
            fs::write(&made, &wanted).map_err(|error| format!("{}: {error}", made.display()))?;
        }
        for folder in [root.join("work"), work.clone()] {
            fs::create_dir_all(&folder)
                .map_err(|error| format!("{}: {error}", folder.display()))?;
        }
        Ok(Self { root, work })
    }

    /// A program of the tree, which sees the working directory as `/work`. Its mounts end with it.
    pub(super) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("unshare");
        command
            .args([
                "--mount",
                "--propagation",
                "private",
                "sh",
                "-c",
                ENTER,
                "sh",
            ])
            .arg(&self.root)
            .arg(&self.work)
            .arg(program);
        command
    }

    /// Runs a program of the tree and gives what it said.
    pub(super) fn run(&self, program: &str, arguments: &[&str]) -> Result<String, String> {
        run(self.command(program).args(arguments))
    }
}

/// Runs a command to its end and gives its standard output.
pub(super) fn run(command: &mut Command) -> Result<String, String> {
    let output = command
        .output()
        .map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = [output.stdout, output.stderr].concat();
    Err(format!(
        "{command:?}: {}\n{}",
        output.status,
        tail(&String::from_utf8_lossy(&said), 30)
    ))
}
