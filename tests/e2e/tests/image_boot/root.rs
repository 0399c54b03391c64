//! What is in the root file system, seen without starting it.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use test_harness::{appliance, binaries};

#[test]
fn the_root_has_the_programs_that_are_named_and_nothing_that_changes_its_user() {
    let tree = appliance::root_tree();
    let named = named(&binaries::workspace().join("image/system/programs.txt"));
    let (mut programs, mut files) = (BTreeSet::new(), Vec::new());
    walk(&tree, &mut files);
    assert!(files.len() > 500, "{} is no root", tree.display());
    for file in files {
        let data = fs::symlink_metadata(&file).unwrap();
        let name = file
            .strip_prefix(&tree)
            .unwrap()
            .to_string_lossy()
            .into_owned();
        assert!(
            data.is_symlink() || data.mode() & 0o6000 == 0,
            "{name} changes its user"
        );
        assert!(
            !name.contains("usb-storage") && !name.contains("/uas.ko"),
            "{name}"
        );
        let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
        if [
            "usr/bin",
            "usr/sbin",
            "usr/local/bin",
            "usr/local/sbin",
            "usr/libexec",
        ]
        .contains(&folder)
        {
            programs.insert(name);
        }
    }
    assert_eq!(programs, named);
    for shell in [
        "sh", "bash", "dash", "busybox", "perl", "python3", "apt", "dpkg", "su", "login",
    ] {
        assert!(
            !named
                .iter()
                .any(|name| name.ends_with(&format!("/{shell}")))
        );
    }
    let units: BTreeSet<String> =
        fs::read_dir(tree.join("etc/systemd/system/multi-user.target.wants"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
    assert_eq!(
        units.iter().map(String::as_str).collect::<Vec<_>>(),
        [
            "clamav-daemon.service",
            "gateway-factory-reset.path",
            "gateway-health.service",
            "gateway-update.path",
            "gatewayd.service",
            "systemd-networkd.service"
        ]
    );
}

/// The lines of a list that are no comments.
pub(crate) fn named(list: &Path) -> BTreeSet<String> {
    fs::read_to_string(list)
        .unwrap()
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(str::to_owned)
        .collect()
}

fn walk(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            walk(&entry.path(), into);
        } else {
            into.push(entry.path());
        }
    }
}
