//! The kernels on the firmware's partition: removing, adding and blessing them in the one order that survives a power cut there.
//!
//! vfat writes a renamed file's new directory entry with length 0 first and the length only with the file's own metadata. Measured: a rename
//! followed by fsync(directory) can leave an empty kernel, fsync(file) before fsync(directory) cannot. A kernel's content is judged
//! elsewhere; here it is compared with what it should be.

use std::io;

use crate::UpdateError;
use crate::folder::Folder;
use crate::hex;
use crate::index::sha256;
use crate::slot::{KernelName, Slot, UNFINISHED};
use crate::uki::LARGEST;

/// The finished kernels.
///
/// # Errors
/// [`UpdateError::Esp`].
pub fn list(esp: &impl Folder) -> Result<Vec<KernelName>, UpdateError> {
    let names = esp.names().map_err(UpdateError::Esp)?;
    Ok(names
        .iter()
        .filter_map(|name| KernelName::parse(name))
        .collect())
}

/// Removes what the boot loader could start in a slot, and what an attempt before left unfinished. When this returns, no power cut brings a
/// kernel of that slot back, and the slot may be written.
///
/// # Errors
/// [`UpdateError::Esp`].
pub fn clear(esp: &mut impl Folder, slot: Slot) -> Result<(), UpdateError> {
    let of_slot = |name: &KernelName| name.slot == slot;
    let names = esp.names().map_err(UpdateError::Esp)?;
    for name in names {
        if unfinished(&name) || KernelName::parse(&name).as_ref().is_some_and(of_slot) {
            esp.remove(&name).map_err(UpdateError::Esp)?;
        }
    }
    esp.sync_names().map_err(UpdateError::Esp)
}

/// Adds a kernel with one attempt. Under its name it is only once it was read back as it should be.
///
/// # Errors
/// [`UpdateError::KernelReadBack`], [`UpdateError::Esp`].
pub fn add(esp: &mut impl Folder, name: &KernelName, bytes: &[u8]) -> Result<(), UpdateError> {
    let to = name.to_string();
    let fresh = format!("{}{UNFINISHED}", name.with(None));
    esp.write(&fresh, bytes)
        .and_then(|()| esp.sync(&fresh))
        .map_err(UpdateError::Esp)?;
    if read(esp, &fresh)?.as_deref() != Some(bytes) {
        return Err(UpdateError::KernelReadBack(fresh));
    }
    rename(esp, &fresh, &to)?;
    if read(esp, &to)?.as_deref() != Some(bytes) {
        return Err(UpdateError::KernelReadBack(to));
    }
    Ok(())
}

/// Takes the counter from a kernel's name, so that the boot loader starts it from now on. One without counter stays as it is.
///
/// # Errors
/// [`UpdateError::NoKernel`] when there is neither, [`UpdateError::KernelReadBack`], [`UpdateError::Esp`].
pub fn bless(esp: &mut impl Folder, version: &str, slot: Slot) -> Result<(), UpdateError> {
    let of_it = |name: &KernelName| name.version == version && name.slot == slot;
    let mut found: Vec<KernelName> = list(esp)?.into_iter().filter(of_it).collect();
    // Without counter first.
    found.sort_by_key(|name| name.tries.is_some());
    let Some(first) = found.first() else {
        return Err(UpdateError::NoKernel);
    };
    let good = first.with(None).to_string();
    if first.tries.is_some() {
        let before = read(esp, &first.to_string())?.filter(|bytes| !bytes.is_empty());
        let before = before.ok_or(UpdateError::NoKernel)?;
        rename(esp, &first.to_string(), &good)?;
        if read(esp, &good)? != Some(before) {
            return Err(UpdateError::KernelReadBack(good));
        }
        return Ok(());
    }
    if read(esp, &good)?.is_none_or(|bytes| bytes.is_empty()) {
        return Err(UpdateError::KernelReadBack(good));
    }
    // A cut between the two halves of a rename leaves both names; with both, "good" would mean nothing to the boot loader's counting.
    for counted in &found[1..] {
        esp.remove(&counted.to_string()).map_err(UpdateError::Esp)?;
    }
    // Also when nothing was removed: the name may be known only in memory since a cut of this program alone.
    esp.sync(&good)
        .and_then(|()| esp.sync_names())
        .map_err(UpdateError::Esp)
}

/// Clears up after a cut: unfinished files, kernels without content, and one of `slot` that is not what it should be. Returns the kernel of `version`
/// in `slot` when it is there whole, with the SHA-256 `digest` (hexadecimal).
///
/// # Errors
/// [`UpdateError::Esp`].
pub fn tidy(
    esp: &mut impl Folder,
    slot: Slot,
    wanted: Option<(&str, &str)>,
) -> Result<Option<KernelName>, UpdateError> {
    let mut whole = None;
    let mut removed = false;
    for file in esp.names().map_err(UpdateError::Esp)? {
        let name = KernelName::parse(&file);
        let is_rest = match &name {
            None => unfinished(&file),
            Some(name) if name.slot == slot => {
                let bytes = read(esp, &file)?.unwrap_or_default();
                match wanted.filter(|(version, _)| *version == name.version) {
                    Some((_, digest)) if hex::of(&sha256(&bytes)) == digest => {
                        whole = Some(name.clone());
                        false
                    }
                    Some(_) => true,
                    None => bytes.is_empty(),
                }
            }
            Some(_) => false,
        };
        if is_rest {
            esp.remove(&file).map_err(UpdateError::Esp)?;
            removed = true;
        }
    }
    if removed {
        esp.sync_names().map_err(UpdateError::Esp)?;
    }
    Ok(whole)
}

fn unfinished(name: &str) -> bool {
    let stem = name.strip_suffix(UNFINISHED);
    stem.is_some_and(|stem| KernelName::parse(stem).is_some())
}

/// The order that matters; see the module.
fn rename(esp: &mut impl Folder, from: &str, to: &str) -> Result<(), UpdateError> {
    esp.rename(from, to)
        .and_then(|()| esp.sync(to))
        .and_then(|()| esp.sync_names())
        .map_err(UpdateError::Esp)
}

fn read(esp: &impl Folder, name: &str) -> Result<Option<Vec<u8>>, UpdateError> {
    match esp.read(name, LARGEST) {
        Ok(bytes) => Ok(bytes),
        // Larger than any kernel: not one of ours, and not what it should be.
        Err(error) if error.kind() == io::ErrorKind::FileTooLarge => Ok(Some(Vec::new())),
        Err(error) => Err(UpdateError::Esp(error)),
    }
}
