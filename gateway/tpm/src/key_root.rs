//! The root of the store's key tree: 32 random bytes and a generation, kept in NV memory of the TPM and nowhere else, so
//! that a purge can destroy what a copy of the disk would need. It does not know what hangs from the root.
//!
//! Two indices are used in turn. A renewal writes the new root into the other index; only when its caller has moved
//! everything over is the old one overwritten. A power cut leaves one root or both, never none.

mod auth;

use crate::{
    TpmVault, VaultError,
    chip::{Chip, Protect, handles_from},
    fault::{Class, Fault},
};
use aws_lc_rs::{
    digest::{Context as Hash, SHA256},
    rand,
};
use std::{fmt, path::Path};
use tss_esapi::{
    Context,
    attributes::{NvIndexAttributes, NvIndexAttributesBuilder},
    constants::NvIndexType,
    handles::{NvIndexHandle, NvIndexTpmHandle, ObjectHandle, TpmHandle},
    interface_types::{
        algorithm::HashingAlgorithm,
        resource_handles::{NvAuth, Provision},
        session_handles::AuthSession,
    },
    structures::{MaxNvBuffer, NvPublic},
};
use zeroize::Zeroizing;

pub(crate) use auth::forget_auth;
use auth::{IndexAuth, new_auth, read_auth};

/// Bytes of a root.
const KEY: usize = 32;
/// Generation (u64, big-endian), root, and the start of a SHA-256 over both, which tells a torn write.
const CHECK: usize = 16;
const SIZE: usize = 8 + KEY + CHECK;
/// Where roots may lie: in the owner's range, away from where the TCG and the usual tools put things. Two are used; the
/// others are there in case somebody else's data lies in the way, which is never touched.
const FIRST: u32 = 0x0181_5a70;
const CANDIDATES: u32 = 4;
const SLOTS: usize = 2;

/// A root of keys as it is in the TPM. Wiped when dropped.
pub struct Root {
    generation: u64,
    key: Zeroizing<[u8; KEY]>,
}

impl Root {
    /// Rises by one with each renewal; never 0.
    #[must_use]
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// The bytes from which keys are derived; not to be kept anywhere.
    #[must_use]
    pub fn key(&self) -> &[u8; KEY] {
        &self.key
    }

    fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(SIZE));
        bytes.extend_from_slice(&self.generation.to_be_bytes());
        bytes.extend_from_slice(self.key.as_slice());
        let check = check(&bytes);
        bytes.extend_from_slice(&check);
        bytes
    }

    /// `None` for an index that was never written, was overwritten, or whose writing was cut.
    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (content, found) = bytes.split_at_checked(8 + KEY)?;
        let (generation, key) = content.split_first_chunk::<8>()?;
        let generation = u64::from_be_bytes(*generation);
        (generation != 0 && found == check(content)).then(|| {
            let mut root = Self {
                generation,
                key: Zeroizing::new([0; KEY]),
            };
            root.key.copy_from_slice(key);
            root
        })
    }
}

impl fmt::Debug for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Root")
            .field("generation", &self.generation)
            .finish_non_exhaustive()
    }
}

fn check(content: &[u8]) -> [u8; CHECK] {
    let mut hash = Hash::new(&SHA256);
    hash.update(b"renraku-gateway key root v1\0");
    hash.update(content);
    let mut check = [0; CHECK];
    check.copy_from_slice(&hash.finish().as_ref()[..CHECK]);
    check
}

/// The part of a vault in which the root of the store's keys lives. Blocks, as [`KeyVault`](crate::KeyVault) does.
///
/// Writes are never repeated blindly: after a lost connection the TPM is asked first what it holds.
pub trait RootVault: Send + Sync + fmt::Debug {
    /// The roots there are, oldest first: none, one, or two while a renewal is under way.
    ///
    /// # Errors
    /// See [`VaultError`]. A TPM that was cleared or that never held a root is no error: there is none.
    fn roots(&self) -> Result<Vec<Root>, VaultError>;

    /// The root that follows generation `from` (0: there is none). Made unless it is there already, from an earlier
    /// renewal that was not completed; the root of `from` itself stays until [`RootVault::keep_only_root`].
    ///
    /// # Errors
    /// [`VaultError::NoNvSpace`], [`VaultError::OwnerAuth`] when the indices have yet to be defined, or see
    /// [`VaultError`]. Afterwards the new root is there or not; calling again is right in both cases.
    fn renew_root(&self, from: u64) -> Result<Root, VaultError>;

    /// Overwrites every root but that of `generation`, for good.
    ///
    /// # Errors
    /// [`VaultError::KeyLost`] when that root is not there (then nothing is overwritten), or see [`VaultError`].
    fn keep_only_root(&self, generation: u64) -> Result<(), VaultError>;

    /// Removes the roots and their indices, and proves that none is left.
    ///
    /// # Errors
    /// See [`VaultError`]; calling again is harmless.
    fn destroy_roots(&self) -> Result<(), VaultError>;
}

impl RootVault for TpmVault {
    fn roots(&self) -> Result<Vec<Root>, VaultError> {
        let state_dir = self.state_dir().to_owned();
        self.command(move |chip| {
            let auth = read_auth(&state_dir)?;
            let mut roots: Vec<Root> = slots(chip, auth.as_ref())?
                .into_iter()
                .filter_map(|slot| slot.root)
                .collect();
            roots.sort_by_key(Root::generation);
            Ok(roots)
        })
    }

    fn renew_root(&self, from: u64) -> Result<Root, VaultError> {
        let state_dir = self.state_dir().to_owned();
        self.command(move |chip| renew(chip, &state_dir, from))
    }

    fn keep_only_root(&self, generation: u64) -> Result<(), VaultError> {
        let state_dir = self.state_dir().to_owned();
        self.command(move |chip| {
            let Some(auth) = read_auth(&state_dir)? else {
                return Err(VaultError::KeyLost.into());
            };
            keep_only(chip, &auth, generation)
        })
    }

    fn destroy_roots(&self) -> Result<(), VaultError> {
        let state_dir = self.state_dir().to_owned();
        self.command(move |chip| destroy(chip, &state_dir))
    }
}

fn renew(chip: &mut Chip, state_dir: &Path, from: u64) -> Result<Root, Fault> {
    let auth = match read_auth(state_dir)? {
        Some(auth) => auth,
        None => new_auth(state_dir)?,
    };
    let mut slots = defined(chip, &auth)?;
    let newest = slots
        .iter()
        .filter_map(|slot| slot.root.as_ref())
        .map(Root::generation)
        .max()
        .unwrap_or_default();
    let target = slots
        .iter_mut()
        .filter(|slot| slot.generation() != from || from == 0)
        .min_by_key(|slot| slot.generation())
        .ok_or(VaultError::NoNvSpace)?;
    if newest > from {
        let under_way = slots
            .into_iter()
            .filter_map(|slot| slot.root)
            .find(|root| root.generation == newest);
        return under_way.ok_or_else(|| VaultError::KeyLost.into());
    }
    let root = Root {
        generation: from.checked_add(1).ok_or(VaultError::KeyLost)?,
        key: fresh_key(chip)?,
    };
    let index = target.index;
    write(chip, &auth, index, &root.to_bytes())?;
    Ok(root)
}

fn keep_only(chip: &mut Chip, auth: &IndexAuth, generation: u64) -> Result<(), Fault> {
    let slots = slots(chip, Some(auth))?;
    if slots.iter().all(|slot| slot.generation() != generation) {
        return Err(VaultError::KeyLost.into());
    }
    for slot in slots {
        if slot.filled && slot.generation() != generation {
            write(chip, auth, slot.index, &[0; SIZE])?;
        }
    }
    Ok(())
}

fn destroy(chip: &mut Chip, state_dir: &Path) -> Result<(), Fault> {
    let auth = read_auth(state_dir)?;
    for slot in slots(chip, auth.as_ref())? {
        let undefined = undefine(&mut chip.context, slot.index);
        match (undefined, &auth) {
            (Ok(()), _) => {}
            // Somebody else owns the TPM: the index stays, but what is in it goes.
            (Err(fault), Some(auth)) if fault.class() == Class::Auth && slot.readable => {
                write(chip, auth, slot.index, &[0; SIZE])?;
            }
            (Err(fault), _) => return Err(fault),
        }
    }
    let left = slots(chip, auth.as_ref())?;
    if left.iter().any(|slot| slot.root.is_some()) {
        return Err(VaultError::Unavailable.into());
    }
    Ok(forget_auth(state_dir)?)
}

/// For clearing the whole TPM, on a bare connection: our indices go by owner authorisation, whatever else is refused later.
/// What cannot be undefined is left to `TPM2_Clear`.
pub(crate) fn undefine_all(context: &mut Context) -> Result<(), Fault> {
    for index in ours(context)? {
        if let Err(fault) = undefine(context, index) {
            tracing::warn!(?fault, "an index with a key root could not be undefined");
        }
    }
    Ok(())
}

/// After clearing: is really none left?
pub(crate) fn prove_none_left(context: &mut Context) -> Result<(), Fault> {
    if ours(context)?.is_empty() {
        Ok(())
    } else {
        Err(VaultError::Unavailable.into())
    }
}

/// One of our indices as it was found.
struct Slot {
    index: NvIndexTpmHandle,
    root: Option<Root>,
    /// Our authorisation value opens it.
    readable: bool,
    /// Holds something, if only half of a root.
    filled: bool,
}

impl Slot {
    fn generation(&self) -> u64 {
        self.root.as_ref().map_or(0, Root::generation)
    }
}

/// Both indices, defined when they are not, so that a renewal never needs room that is not there any more.
fn defined(chip: &mut Chip, auth: &IndexAuth) -> Result<Vec<Slot>, Fault> {
    let mut found = slots(chip, Some(auth))?;
    // Of an installation whose authorisation value is lost: nobody will ever read them again.
    for lost in found.iter().filter(|slot| !slot.readable) {
        undefine(&mut chip.context, lost.index)?;
    }
    found.retain(|slot| slot.readable);
    if found.len() >= SLOTS {
        return Ok(found);
    }
    let taken = candidates(&mut chip.context)?;
    for at in FIRST..FIRST + CANDIDATES {
        let index = index(at)?;
        if found.len() < SLOTS && !taken.contains(&index) {
            define(chip, auth, index)?;
            found.push(Slot {
                index,
                root: None,
                readable: true,
                filled: false,
            });
        }
    }
    if found.len() < SLOTS {
        return Err(VaultError::NoNvSpace.into());
    }
    Ok(found)
}

fn slots(chip: &mut Chip, auth: Option<&IndexAuth>) -> Result<Vec<Slot>, Fault> {
    let mut slots = Vec::new();
    for index in ours(&mut chip.context)? {
        let mut slot = Slot {
            index,
            root: None,
            readable: false,
            filled: false,
        };
        if let Some(auth) = auth {
            match read(chip, auth, index) {
                Ok(content) => {
                    slot.readable = true;
                    slot.filled = content.iter().any(|byte| *byte != 0);
                    slot.root = Root::from_bytes(&content);
                }
                Err(fault) if fault.class() == Class::Auth => {}
                Err(fault) => return Err(fault),
            }
        }
        slots.push(slot);
    }
    Ok(slots)
}

fn index(at: u32) -> Result<NvIndexTpmHandle, Fault> {
    NvIndexTpmHandle::new(at).map_err(Fault::tss("name an index"))
}

/// The candidates that are defined, by whomever.
fn candidates(context: &mut Context) -> Result<Vec<NvIndexTpmHandle>, Fault> {
    Ok(handles_from(context, FIRST, CANDIDATES)?
        .into_iter()
        .filter(|handle| (FIRST..FIRST + CANDIDATES).contains(&u32::from(*handle)))
        .filter_map(|handle| match handle {
            TpmHandle::NvIndex(index) => Some(index),
            _ => None,
        })
        .collect())
}

/// The candidates that are defined as we define them.
fn ours(context: &mut Context) -> Result<Vec<NvIndexTpmHandle>, Fault> {
    let mut ours = Vec::new();
    for index in candidates(context)? {
        let public = with_handle(context, index, "read about an index", |c, handle| {
            c.execute_without_session(|c| c.nv_read_public(handle))
        })?
        .0;
        if is_ours(&public) {
            ours.push(index);
        } else {
            tracing::warn!(
                "an index of the TPM that a key root could use belongs to somebody else"
            );
        }
    }
    Ok(ours)
}

fn is_ours(public: &NvPublic) -> bool {
    attributes().is_ok_and(|wanted| {
        let wanted = NvIndexAttributesBuilder::with_attributes(wanted)
            .with_written(public.attributes().written())
            .build();
        wanted.is_ok_and(|wanted| wanted == public.attributes())
    }) && public.data_size() == SIZE
        && public.name_algorithm() == HashingAlgorithm::Sha256
        && public.authorization_policy().value().is_empty()
}

/// Readable and writable with the index's own authorisation value only, the owner included; exempt from dictionary-attack
/// protection, because a neighbour's wrong guesses and every power cut would otherwise lock the store (0002).
fn attributes() -> Result<NvIndexAttributes, Fault> {
    NvIndexAttributesBuilder::new()
        .with_nv_index_type(NvIndexType::Ordinary)
        .with_auth_read(true)
        .with_auth_write(true)
        .with_no_da(true)
        .build()
        .map_err(Fault::tss("describe an index"))
}

fn define(chip: &mut Chip, auth: &IndexAuth, index: NvIndexTpmHandle) -> Result<(), Fault> {
    let public = NvPublic::builder()
        .with_nv_index(index)
        .with_index_name_algorithm(HashingAlgorithm::Sha256)
        .with_index_attributes(attributes()?)
        .with_data_area_size(SIZE)
        .build()
        .map_err(Fault::tss("describe an index"))?;
    let value = auth.value()?;
    let defined = chip.in_session("define an index", Protect::Command, move |c| {
        c.nv_define_space(Provision::Owner, Some(value), public)
    });
    match defined {
        Ok(handle) => {
            chip.count_nv_write();
            close(&mut chip.context, handle)?;
            write(chip, auth, index, &[0; SIZE])
        }
        Err(fault) if fault.class() == Class::NvSpace => Err(VaultError::NoNvSpace.into()),
        Err(fault) => Err(fault),
    }
}

fn undefine(context: &mut Context, index: NvIndexTpmHandle) -> Result<(), Fault> {
    let handle = handle_of(context, index)?;
    let undefined = context.execute_with_session(Some(AuthSession::Password), |c| {
        c.nv_undefine_space(Provision::Owner, handle)
    });
    if undefined.is_err() {
        close(context, handle)?;
    }
    undefined.map_err(Fault::tss("undefine an index"))
}

/// In one chunk, and read back: a write that the TPM did not keep must not be taken for a root.
fn write(
    chip: &mut Chip,
    auth: &IndexAuth,
    index: NvIndexTpmHandle,
    content: &[u8],
) -> Result<(), Fault> {
    let buffer = MaxNvBuffer::try_from(content).map_err(Fault::tss("write an index"))?;
    let value = auth.value()?;
    let handle = handle_of(&mut chip.context, index)?;
    let written = chip.in_session("write an index", Protect::Command, move |c| {
        c.tr_set_auth(handle.into(), value)?;
        c.nv_write(NvAuth::NvIndex(handle), handle, buffer, 0)
    });
    chip.count_nv_write();
    let closed = close(&mut chip.context, handle);
    written?;
    closed?;
    if read(chip, auth, index)?.as_slice() == content {
        Ok(())
    } else {
        Err(VaultError::Unavailable.into())
    }
}

/// An index that was defined and never written reads as zeros.
fn read(
    chip: &mut Chip,
    auth: &IndexAuth,
    index: NvIndexTpmHandle,
) -> Result<Zeroizing<Vec<u8>>, Fault> {
    let value = auth.value()?;
    let handle = handle_of(&mut chip.context, index)?;
    let size = u16::try_from(SIZE).expect("an index is small");
    let content = chip.in_session("read an index", Protect::Response, move |c| {
        c.tr_set_auth(handle.into(), value)?;
        c.nv_read(NvAuth::NvIndex(handle), handle, size, 0)
    });
    let closed = close(&mut chip.context, handle);
    let content = match content {
        Ok(content) => Zeroizing::new(content.value().to_vec()),
        Err(fault) if fault.class() == Class::Unwritten => Zeroizing::new(vec![0; SIZE]),
        Err(fault) => return Err(fault),
    };
    closed?;
    Ok(content)
}

fn handle_of(context: &mut Context, index: NvIndexTpmHandle) -> Result<NvIndexHandle, Fault> {
    context
        .execute_without_session(|c| c.tr_from_tpm_public(TpmHandle::NvIndex(index)))
        .map(NvIndexHandle::from)
        .map_err(Fault::tss("find an index"))
}

fn with_handle<T>(
    context: &mut Context,
    index: NvIndexTpmHandle,
    action: &'static str,
    command: impl FnOnce(&mut Context, NvIndexHandle) -> tss_esapi::Result<T>,
) -> Result<T, Fault> {
    let handle = handle_of(context, index)?;
    let outcome = command(context, handle).map_err(Fault::tss(action));
    close(context, handle)?;
    outcome
}

fn close(context: &mut Context, handle: NvIndexHandle) -> Result<(), Fault> {
    let mut handle = ObjectHandle::from(handle);
    context
        .tr_close(&mut handle)
        .map_err(Fault::tss("let go of an index"))
}

/// Mixed from the TPM's generator and the system's, so that the root is no worse than the better of the two.
fn fresh_key(chip: &mut Chip) -> Result<Zeroizing<[u8; KEY]>, Fault> {
    let mut of_system = Zeroizing::new([0; KEY]);
    rand::fill(of_system.as_mut_slice()).map_err(|_| VaultError::Unavailable)?;
    let of_tpm = chip.in_session("give random bytes", Protect::Response, |c| {
        c.get_random(KEY)
    })?;
    if of_tpm.value().len() != KEY {
        return Err(VaultError::Unavailable.into());
    }
    let mut hash = Hash::new(&SHA256);
    hash.update(b"renraku-gateway fresh key root\0");
    hash.update(of_system.as_slice());
    hash.update(of_tpm.value());
    let mut key = Zeroizing::new([0; KEY]);
    key.copy_from_slice(hash.finish().as_ref());
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> Root {
        Root {
            generation: 7,
            key: Zeroizing::new([0x5a; KEY]),
        }
    }

    #[test]
    fn a_root_comes_back_from_its_bytes_and_does_not_show() {
        let bytes = root().to_bytes();
        assert_eq!((bytes.len(), bytes.capacity()), (SIZE, SIZE));
        let back = Root::from_bytes(&bytes).expect("whole");
        assert_eq!((back.generation(), back.key()), (7, &[0x5a; KEY]));
        assert_eq!(format!("{back:?}"), "Root { generation: 7, .. }");
    }

    #[test]
    fn half_a_root_an_overwritten_one_and_a_changed_one_are_none() {
        let bytes = root().to_bytes();
        assert!(Root::from_bytes(&[0; SIZE]).is_none());
        assert!(Root::from_bytes(&[0xff; SIZE]).is_none());
        assert!(Root::from_bytes(&[]).is_none());
        for cut in 0..SIZE {
            for old in [0, 0xff] {
                let mut torn = bytes.to_vec();
                torn[cut..].fill(old);
                // What was there before may happen to be what is missing: then nothing is.
                let whole = torn == *bytes;
                assert_eq!(Root::from_bytes(&torn).is_some(), whole, "torn at {cut}");
            }
        }
        for at in 0..SIZE {
            let mut changed = bytes.to_vec();
            changed[at] ^= 1;
            assert!(Root::from_bytes(&changed).is_none());
        }
    }
}
