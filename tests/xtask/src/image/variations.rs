//! Releases that differ from the one after the factory's in one thing: bad ones, for trying whether a box comes back from them by
//! itself, and one that tells what runs in it. For trying only.
//!
//! They are signed like any other; nothing of a bad one differs to the updater.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use test_harness::{appliance, binaries};

use super::keys::Keys;
use super::{Site, bill, disk, kernel, put, root, tools};

/// One release.
struct Variation {
    /// The folder's name, below `target/image/trial`.
    name: &'static str,
    version: &'static str,
    change: Change,
}

enum Change {
    /// More of the kernel's command line.
    Line(&'static str),
    /// A program that is a file without content.
    Emptied(&'static str),
    /// One program more, which tells what runs and listens. This release comes as a disk of its own too.
    Observed,
}

const VARIATIONS: [Variation; 4] = [
    // No first process: the kernel panics.
    Variation {
        name: "panics",
        version: "0.2.1",
        change: Change::Line("rdinit=/nothing init=/nothing"),
    },
    Variation {
        name: "does-not-start",
        version: "0.2.2",
        change: Change::Emptied("usr/bin/gatewayd"),
    },
    // The gateway starts, but nothing finds the canary.
    Variation {
        name: "is-not-well",
        version: "0.2.3",
        change: Change::Emptied("usr/sbin/clamd"),
    },
    Variation {
        name: "observed",
        version: "0.2.4",
        change: Change::Observed,
    },
];

/// The unit of the program that tells what runs. It may see everything; nothing of it is in a release for boxes.
const OBSERVER: &str = "[Unit]
Description=Tells what runs and listens (for trying only)

[Service]
ExecStart=/usr/bin/observer
StandardOutput=tty
TTYPath=/dev/ttyS0
";

/// Makes them from the tree of `site`'s release.
pub(super) fn make(site: &Site, keys: &Keys) -> Result<(), String> {
    for variation in VARIATIONS {
        let varied = Site {
            tree: "varied",
            version: variation.version.to_owned(),
            ..site.clone()
        };
        let tree = site.work.join("out/varied");
        copy(&site.work.join("out").join(site.tree), &tree)?;
        variation.apply(&tree, &site.version)?;
        for folder in ["release", "disk", "build/esp", "build/repart"] {
            let path = site.work.join(folder);
            let _ = fs::remove_dir_all(&path);
            if !folder.starts_with("build") {
                fs::create_dir_all(&path)
                    .map_err(|error| format!("{}: {error}", path.display()))?;
            }
        }
        bill::write(&varied)?;
        let root_hash = root::make(&varied)?;
        let line = match variation.change {
            Change::Line(line) => line,
            _ => "",
        };
        kernel::make(&varied, &root_hash, line)?;
        if matches!(variation.change, Change::Observed) {
            disk::make(&varied, keys)?;
        }
        let out = appliance::trial().join(variation.name);
        put(&site.work.join("disk"), &out)?;
        put(&site.work.join("release"), &out.join("release"))?;
        let _ = fs::remove_dir_all(&tree);
    }
    Ok(())
}

impl Variation {
    fn apply(&self, tree: &Path, version: &str) -> Result<(), String> {
        let os_release = tree.join("usr/lib/os-release");
        let failed = |error: std::io::Error| format!("{}: {error}", os_release.display());
        let text = fs::read_to_string(&os_release).map_err(failed)?;
        fs::write(&os_release, text.replace(version, self.version)).map_err(failed)?;
        match self.change {
            Change::Line(_) => Ok(()),
            Change::Emptied(program) => {
                let path = tree.join(program);
                if !path.is_file() {
                    return Err(format!("{} is not in the tree", path.display()));
                }
                fs::write(&path, b"").map_err(|error| format!("{}: {error}", path.display()))
            }
            Change::Observed => observe(tree),
        }
    }
}

fn observe(tree: &Path) -> Result<(), String> {
    let built = binaries::ours("observer").map_err(|error| error.to_string())?;
    let failed = |error: std::io::Error| format!("observer: {error}");
    fs::copy(built, tree.join("usr/bin/observer")).map_err(failed)?;
    let units = tree.join("usr/lib/systemd/system");
    fs::write(units.join("observer.service"), OBSERVER).map_err(failed)?;
    let wants = units.join("multi-user.target.wants");
    fs::create_dir_all(&wants).map_err(failed)?;
    symlink("../observer.service", wants.join("observer.service")).map_err(failed)
}

fn copy(from: &Path, to: &Path) -> Result<(), String> {
    let _ = fs::remove_dir_all(to);
    tools::run(Command::new("cp").arg("--archive").args([from, to])).map(drop)
}
