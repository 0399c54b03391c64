//! The last contact with the city on the disk, and the latest time that the city told: each sealed by the TPM, replaced as a
//! whole. It decides nothing.
//!
//! An older copy that somebody puts back opens too. It is an older contact, so the time without the city comes out longer.

use std::path::{Path, PathBuf};

use gateway_policy::Timestamp;
use gateway_policy::offline::{Contact, OfflineRules, TpmClock};
use gateway_provisioning::durable;
use gateway_tpm::{KeyVault, SealedBlob, Secret, VaultError};

const FILE: &str = "contact.sealed";
/// Outlives the contact, which is forgotten when the city refuses the facility.
const FLOOR: &str = "floor.sealed";

/// Tells our content from whatever else the TPM has sealed.
const MAGIC: &[u8; 8] = b"RGCNTCT1";
const SIZE: usize = 8 + 8 + 8 + 4 + 8 + 4 + 1;
const FLOOR_MAGIC: &[u8; 8] = b"RGFLOOR1";

/// Why the contact could not be read or kept.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ContactError {
    /// The file.
    #[error("cannot use {0}")]
    File(PathBuf, #[source] std::io::Error),
    /// The TPM.
    #[error("the TPM does not answer for the time")]
    Vault(#[from] VaultError),
}

/// What was kept, if it is whole and of this TPM; the contact, and the latest moment the city had signed.
///
/// # Errors
/// [`ContactError`], worth another try.
pub(super) fn read(
    directory: &Path,
    vault: &dyn KeyVault,
) -> Result<Option<(Contact, Timestamp)>, ContactError> {
    let secret = unsealed(&directory.join(FILE), vault)?;
    Ok(secret.and_then(|secret| decode(secret.as_bytes())))
}

/// The latest time of the city that was kept.
///
/// # Errors
/// [`ContactError`], worth another try.
pub(super) fn read_floor(
    directory: &Path,
    vault: &dyn KeyVault,
) -> Result<Option<Timestamp>, ContactError> {
    let secret = unsealed(&directory.join(FLOOR), vault)?;
    Ok(secret.and_then(|secret| decode_floor(secret.as_bytes())))
}

fn unsealed(path: &Path, vault: &dyn KeyVault) -> Result<Option<Secret>, ContactError> {
    let read = durable::read(path);
    let Some(bytes) = read.map_err(|error| ContactError::File(path.to_owned(), error))? else {
        return Ok(None);
    };
    match SealedBlob::from_bytes(&bytes).and_then(|blob| vault.unseal(&blob)) {
        Ok(secret) => Ok(Some(secret)),
        Err(error) if error.is_permanent() => {
            tracing::warn!(event = "offline-time", %error, "what was kept of the city's time is lost; without the city, nothing is read");
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// Keeps the contact.
///
/// # Errors
/// [`ContactError`]; the old one is then still there.
pub(super) fn write(
    directory: &Path,
    vault: &dyn KeyVault,
    contact: &Contact,
    floor: Timestamp,
) -> Result<(), ContactError> {
    seal(directory, FILE, vault, encode(contact, floor))
}

/// Keeps the latest time of the city.
///
/// # Errors
/// [`ContactError`]; the old one is then still there.
pub(super) fn write_floor(
    directory: &Path,
    vault: &dyn KeyVault,
    floor: Timestamp,
) -> Result<(), ContactError> {
    let bytes = [FLOOR_MAGIC.as_slice(), &floor.0.to_be_bytes()].concat();
    seal(directory, FLOOR, vault, bytes)
}

fn seal(
    directory: &Path,
    name: &str,
    vault: &dyn KeyVault,
    bytes: Vec<u8>,
) -> Result<(), ContactError> {
    let file = |error| ContactError::File(directory.to_owned(), error);
    durable::create_directory(directory).map_err(file)?;
    let blob = vault.seal(&Secret::new(bytes))?;
    durable::write(&directory.join(name), &blob.to_bytes()).map_err(file)
}

/// Forgets it: without the city nothing is read, until there is a contact again.
///
/// # Errors
/// [`ContactError`]; it may then still be there.
pub(super) fn forget(directory: &Path) -> Result<(), ContactError> {
    let path = directory.join(FILE);
    let forgotten = match std::fs::remove_file(&path) {
        Ok(()) => std::fs::File::open(directory).and_then(|directory| directory.sync_all()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    };
    forgotten.map_err(|error| ContactError::File(path, error))
}

fn encode(contact: &Contact, floor: Timestamp) -> Vec<u8> {
    let Contact { at, tpm, granted } = contact;
    let flags =
        u8::from(granted.store) | u8::from(granted.sessions) << 1 | u8::from(granted.pin) << 2;
    [
        MAGIC.as_slice(),
        &at.0.to_be_bytes(),
        &tpm.milliseconds.to_be_bytes(),
        &tpm.resets.to_be_bytes(),
        &floor.0.to_be_bytes(),
        &granted.hours.to_be_bytes(),
        &[flags],
    ]
    .concat()
}

fn decode(bytes: &[u8]) -> Option<(Contact, Timestamp)> {
    if bytes.len() != SIZE {
        return None;
    }
    let mut rest = bytes.strip_prefix(MAGIC)?;
    let at = i64::from_be_bytes(take(&mut rest)?);
    let milliseconds = u64::from_be_bytes(take(&mut rest)?);
    let resets = u32::from_be_bytes(take(&mut rest)?);
    let floor = i64::from_be_bytes(take(&mut rest)?);
    let hours = u32::from_be_bytes(take(&mut rest)?);
    let [flags] = take::<1>(&mut rest)?;
    let contact = Contact {
        at: Timestamp(at),
        tpm: TpmClock {
            milliseconds,
            resets,
        },
        granted: OfflineRules {
            store: flags & 1 != 0,
            hours,
            sessions: flags & 2 != 0,
            pin: flags & 4 != 0,
        },
    };
    Some((contact, Timestamp(floor)))
}

fn decode_floor(bytes: &[u8]) -> Option<Timestamp> {
    let floor = bytes.strip_prefix(FLOOR_MAGIC)?.try_into().ok()?;
    Some(Timestamp(i64::from_be_bytes(floor)))
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_at_checked(N)?;
    *rest = tail;
    head.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_floor_comes_back_and_anything_else_is_none() {
        let bytes = [FLOOR_MAGIC.as_slice(), &1_800_000_000_i64.to_be_bytes()].concat();
        assert_eq!(decode_floor(&bytes), Some(Timestamp(1_800_000_000)));
        assert_eq!(decode_floor(&bytes[1..]), None);
        assert_eq!(decode_floor(&[&bytes[..], b"x"].concat()), None);
        assert_eq!(decode_floor(&[7; SIZE]), None);
    }

    #[test]
    fn a_contact_comes_back_and_anything_else_is_none() {
        for flags in 0..8_u8 {
            let contact = Contact {
                at: Timestamp(1_800_000_000),
                tpm: TpmClock {
                    milliseconds: 77_000,
                    resets: 9,
                },
                granted: OfflineRules {
                    store: flags & 1 != 0,
                    hours: 24,
                    sessions: flags & 2 != 0,
                    pin: flags & 4 != 0,
                },
            };
            let bytes = encode(&contact, Timestamp(1_800_000_005));
            assert!(bytes.len() == SIZE && SIZE <= gateway_tpm::MAX_SECRET);
            assert_eq!(decode(&bytes), Some((contact, Timestamp(1_800_000_005))));
            assert_eq!(decode(&bytes[1..]), None);
            assert_eq!(decode(&[&bytes[..], b"x"].concat()), None);
        }
        // The store's key was 32 bytes.
        assert_eq!(decode(&[7; 32]), None);
        assert_eq!(decode(&[7; SIZE]), None);
    }
}
