//! What came over the signed channel, on disk: the policy in force, and antivirus databases whole in directories.
//!
//! A database's list is written last: a directory with a list is whole. Whether it works is not known here.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{SHA256, digest};
use gateway_antivirus::database::MANIFEST;
use gateway_tuf::{Refused, Trusted};

const POLICY: &str = "policy.json";
const DATABASES: &str = "antivirus";

/// A verified antivirus database in a directory: `manifest.json` and the files it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Staged {
    /// Where.
    pub(crate) directory: PathBuf,
    /// Its serial.
    pub(crate) serial: u64,
}

/// A policy as it was when it was verified.
pub(super) struct StoredPolicy {
    pub(super) bytes: Vec<u8>,
    pub(super) sha256: String,
}

/// The part of a database's list that carrying it needs.
#[derive(serde::Deserialize)]
struct List {
    serial: u64,
    files: Vec<Listed>,
}

#[derive(serde::Deserialize)]
struct Listed {
    name: String,
    sha256: String,
    size: u64,
}

/// The directory of the channel, for its owner only.
pub(super) fn make(directory: &Path) -> io::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory.join(DATABASES))
}

pub(super) fn stored_policy(directory: &Path) -> Option<StoredPolicy> {
    let bytes = fs::read(directory.join(POLICY)).ok()?;
    let sha256 = hex(&bytes);
    Some(StoredPolicy { bytes, sha256 })
}

pub(super) fn keep_policy(directory: &Path, bytes: &[u8]) -> io::Result<()> {
    write(directory, POLICY, bytes)
}

/// The newest whole database in the channel's directory.
pub(super) fn newest(directory: &Path) -> Option<Staged> {
    let folder = directory.join(DATABASES);
    let serials = fs::read_dir(&folder).ok()?.filter_map(|entry| {
        let serial = entry.ok()?.file_name().to_str()?.parse::<u64>().ok()?;
        Some(Staged {
            directory: folder.join(serial.to_string()),
            serial,
        })
    });
    serials
        .filter(|staged| staged.directory.join(MANIFEST).is_file())
        .max_by_key(|staged| staged.serial)
}

/// Brings the files of the list, and then the list. `None` when that database is here already.
pub(super) async fn database(
    directory: &Path,
    trusted: &mut Trusted,
    manifest: &[u8],
    before: Option<&Staged>,
) -> Result<Option<Staged>, Refused> {
    let malformed = |source: serde_json::Error| Refused::Malformed {
        file: "antivirus/current.json".to_owned(),
        source: Some(source.into()),
    };
    let list: List = serde_json::from_slice(manifest).map_err(malformed)?;
    match before {
        Some(before) if before.serial == list.serial => return Ok(None),
        // The role may sign what it likes, but the serial is what everything else goes by.
        Some(before) if before.serial > list.serial => {
            return Err(Refused::Rollback {
                file: "antivirus/current.json".to_owned(),
                accepted: before.serial,
                offered: list.serial,
            });
        }
        _ => {}
    }
    let staged = Staged {
        directory: directory.join(DATABASES).join(list.serial.to_string()),
        serial: list.serial,
    };
    let disk = |source| Refused::Disk {
        file: "antivirus".to_owned(),
        source,
    };
    fs::create_dir_all(&staged.directory).map_err(disk)?;
    for file in &list.files {
        let name = format!("antivirus/{}/{}", list.serial, file.name);
        gateway_tuf::check_target_name(&name).map_err(|_| Refused::UnsafeFile {
            file: "antivirus/current.json".to_owned(),
        })?;
        let target = trusted.target(&name).await?;
        if target.length != file.size || target.sha256().as_deref() != Some(&file.sha256) {
            return Err(Refused::MixAndMatch { file: name });
        }
        trusted
            .fetch(&target, &staged.directory.join(&file.name))
            .await?;
    }
    write(&staged.directory, MANIFEST, manifest).map_err(disk)?;
    forget_older(directory, before, &staged);
    Ok(Some(staged))
}

/// Keeps the newest and the one before it, which may be in the middle of being installed.
fn forget_older(directory: &Path, before: Option<&Staged>, newest: &Staged) {
    let entries = fs::read_dir(directory.join(DATABASES))
        .into_iter()
        .flatten();
    for entry in entries.flatten() {
        let path = entry.path();
        let kept = path == newest.directory || before.is_some_and(|kept| kept.directory == path);
        if !kept {
            // What cannot be removed is tried again with the next release.
            let _ = fs::remove_dir_all(path);
        }
    }
}

/// Writes a file so that it is there whole or not at all.
pub(super) fn write(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let fresh = folder.join(format!("{name}.tmp"));
    let mut file = File::create(&fresh)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&fresh, folder.join(name))?;
    File::open(folder)?.sync_all()
}

/// SHA-256 in hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    let digest = digest(&SHA256, bytes);
    digest
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_database_is_found_again() {
        let folder = tempfile::tempdir().unwrap();
        make(folder.path()).unwrap();
        assert_eq!(newest(folder.path()), None);
        for serial in ["9", "10", "11", "x"] {
            fs::create_dir(folder.path().join("antivirus").join(serial)).unwrap();
        }
        for whole in ["9", "10"] {
            write(
                &folder.path().join("antivirus").join(whole),
                MANIFEST,
                b"{}",
            )
            .unwrap();
        }
        assert_eq!(newest(folder.path()).unwrap().serial, 10);
    }

    #[test]
    fn a_policy_is_kept_and_found_again() {
        let folder = tempfile::tempdir().unwrap();
        assert!(stored_policy(folder.path()).is_none());
        keep_policy(folder.path(), b"{}").unwrap();
        assert_eq!(stored_policy(folder.path()).unwrap().bytes, b"{}");
    }
}
