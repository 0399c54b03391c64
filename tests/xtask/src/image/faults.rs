//! Releases that are signed, and bad: for trying whether a box comes back from them by itself. For trying only.
//!
//! Each is the release after the one in the factory with one thing spoilt; nothing of it differs to the updater.

use std::fs;
use std::path::Path;
use std::process::Command;

use test_harness::appliance;

use super::{Site, bill, kernel, put, root, tools};

/// What is wrong with a release.
struct Fault {
    /// The folder's name, below `target/image/trial`.
    name: &'static str,
    version: &'static str,
    /// More of the kernel's command line.
    line: &'static str,
    /// A program that is a file without content.
    without: Option<&'static str>,
}

const FAULTS: [Fault; 3] = [
    // No first process: the kernel panics.
    Fault {
        name: "panics",
        version: "0.2.1",
        line: "rdinit=/nothing init=/nothing",
        without: None,
    },
    Fault {
        name: "does-not-start",
        version: "0.2.2",
        line: "",
        without: Some("usr/bin/gatewayd"),
    },
    // The gateway starts, but nothing finds the canary.
    Fault {
        name: "is-not-well",
        version: "0.2.3",
        line: "",
        without: Some("usr/sbin/clamd"),
    },
];

/// Makes them from the tree of `site`'s release.
pub(super) fn make(site: &Site) -> Result<(), String> {
    for fault in FAULTS {
        let spoilt = Site {
            tree: "spoilt",
            version: fault.version.to_owned(),
            ..site.clone()
        };
        let tree = site.work.join("out/spoilt");
        copy(&site.work.join("out").join(site.tree), &tree)?;
        fault.spoil(&tree, &site.version)?;
        for folder in ["release", "disk"] {
            let path = site.work.join(folder);
            let _ = fs::remove_dir_all(&path);
            fs::create_dir_all(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        }
        bill::write(&spoilt)?;
        let root_hash = root::make(&spoilt)?;
        kernel::make(&spoilt, &root_hash, fault.line)?;
        let out = appliance::trial().join(fault.name);
        put(&site.work.join("disk"), &out)?;
        put(&site.work.join("release"), &out.join("release"))?;
        let _ = fs::remove_dir_all(&tree);
    }
    Ok(())
}

impl Fault {
    fn spoil(&self, tree: &Path, version: &str) -> Result<(), String> {
        let os_release = tree.join("usr/lib/os-release");
        let failed = |error: std::io::Error| format!("{}: {error}", os_release.display());
        let text = fs::read_to_string(&os_release).map_err(failed)?;
        fs::write(&os_release, text.replace(version, self.version)).map_err(failed)?;
        if let Some(program) = self.without {
            let path = tree.join(program);
            if !path.is_file() {
                return Err(format!("{} is not in the tree", path.display()));
            }
            fs::write(&path, b"").map_err(|error| format!("{}: {error}", path.display()))?;
        }
        Ok(())
    }
}

fn copy(from: &Path, to: &Path) -> Result<(), String> {
    let _ = fs::remove_dir_all(to);
    tools::run(Command::new("cp").arg("--archive").args([from, to])).map(drop)
}
