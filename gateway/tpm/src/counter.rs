//! A counter in the TPM's NV memory that only goes up: what is kept on a disk names its number, and an older copy is told by
//! it. It does not know what is counted.

use crate::{
    TpmVault, VaultError,
    chip::{self, Chip, Protect},
    fault::{Class, Fault},
};
use std::fmt;
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
    structures::NvPublic,
};

/// In the owner's range, behind the candidates for key roots.
const INDEX: u32 = 0x0181_5a78;
const SIZE: usize = 8;

/// The part of a vault that counts. Blocks, as [`KeyVault`](crate::KeyVault) does.
///
/// A counter that is removed and made again begins above every value that any counter of this TPM ever had (TPM 2.0 Part 3,
/// `TPM2_NV_Increment`), so no number comes twice until the TPM is cleared.
pub trait CounterVault: Send + Sync + fmt::Debug {
    /// The counter's value; the counter is made when there is none.
    ///
    /// # Errors
    /// [`VaultError::NoNvSpace`] when it cannot be made or its place is taken, or see [`VaultError`].
    fn count(&self) -> Result<u64, VaultError>;

    /// Makes sure that the counter has reached `value`, by counting up at most once.
    ///
    /// # Errors
    /// [`VaultError::RefusedToSign`] when it is further away than that: what the caller keeps is not of this counter, or old.
    fn count_to(&self, value: u64) -> Result<(), VaultError>;
}

impl CounterVault for TpmVault {
    fn count(&self) -> Result<u64, VaultError> {
        self.command(|chip| {
            let index = opened(chip)?;
            let read = read(chip, index);
            close(&mut chip.context, index)?;
            read
        })
    }

    fn count_to(&self, value: u64) -> Result<(), VaultError> {
        // Repeated after a lost connection it finds what the first try did.
        self.command(move |chip| {
            let index = opened(chip)?;
            let counted = step_to(chip, index, value);
            close(&mut chip.context, index)?;
            counted
        })
    }
}

fn step_to(chip: &mut Chip, index: NvIndexHandle, value: u64) -> Result<(), Fault> {
    let refused = || Fault::from(VaultError::RefusedToSign);
    let found = read(chip, index)?;
    if found == value {
        return Ok(());
    }
    if found.checked_add(1) != Some(value) {
        return Err(refused());
    }
    increment(chip, index)?;
    // Read back in a session that covers the answer: somebody on the bus may have kept the command.
    if read(chip, index)? == value {
        Ok(())
    } else {
        Err(refused())
    }
}

fn increment(chip: &mut Chip, index: NvIndexHandle) -> Result<(), Fault> {
    chip.count_nv_write();
    chip.context
        .execute_with_session(Some(AuthSession::Password), |c| {
            c.nv_increment(NvAuth::NvIndex(index), index)
        })
        .map_err(Fault::tss("count"))
}

fn read(chip: &mut Chip, index: NvIndexHandle) -> Result<u64, Fault> {
    let size = u16::try_from(SIZE).expect("eight is small");
    let content = chip.in_session("read a counter", Protect::Response, move |c| {
        c.nv_read(NvAuth::NvIndex(index), index, size, 0)
    })?;
    let bytes = content
        .value()
        .try_into()
        .map_err(|_| Fault::from(VaultError::Unavailable))?;
    Ok(u64::from_be_bytes(bytes))
}

/// The index, made and started when there is none.
fn opened(chip: &mut Chip) -> Result<NvIndexHandle, Fault> {
    let name = NvIndexTpmHandle::new(INDEX).map_err(Fault::tss("name an index"))?;
    let taken = chip::handles_from(&mut chip.context, INDEX, 1)?
        .first()
        .is_some_and(|handle| u32::from(*handle) == INDEX);
    if !taken {
        let handle = define(chip, name)?;
        // A counter has no value before it was first counted up.
        increment(chip, handle)?;
        return Ok(handle);
    }
    let handle = chip
        .context
        .execute_without_session(|c| c.tr_from_tpm_public(TpmHandle::NvIndex(name)))
        .map(NvIndexHandle::from)
        .map_err(Fault::tss("find an index"))?;
    let (public, _) = chip
        .context
        .execute_without_session(|c| c.nv_read_public(handle))
        .map_err(Fault::tss("read about an index"))?;
    let as_ours = |written| {
        attributes(written).is_ok_and(|ours| {
            ours == public.attributes()
                && public.data_size() == SIZE
                && public.authorization_policy().value().is_empty()
        })
    };
    if as_ours(true) {
        Ok(handle)
    } else if as_ours(false) {
        increment(chip, handle)?;
        Ok(handle)
    } else {
        close(&mut chip.context, handle)?;
        Err(VaultError::NoNvSpace.into())
    }
}

/// With an empty authorisation: whoever may use the TPM can count up, which locks and opens nothing; nobody can count down.
fn attributes(written: bool) -> tss_esapi::Result<NvIndexAttributes> {
    NvIndexAttributesBuilder::new()
        .with_nv_index_type(NvIndexType::Counter)
        .with_auth_read(true)
        .with_auth_write(true)
        .with_no_da(true)
        .with_written(written)
        .build()
}

fn define(chip: &mut Chip, name: NvIndexTpmHandle) -> Result<NvIndexHandle, Fault> {
    let public = attributes(false)
        .and_then(|attributes| {
            NvPublic::builder()
                .with_nv_index(name)
                .with_index_name_algorithm(HashingAlgorithm::Sha256)
                .with_index_attributes(attributes)
                .with_data_area_size(SIZE)
                .build()
        })
        .map_err(Fault::tss("describe an index"))?;
    chip.count_nv_write();
    let defined = chip.in_session("define an index", Protect::Command, |c| {
        c.nv_define_space(Provision::Owner, None, public)
    });
    match defined {
        Err(fault) if fault.class() == Class::NvSpace => Err(VaultError::NoNvSpace.into()),
        outcome => outcome,
    }
}

fn close(context: &mut Context, handle: NvIndexHandle) -> Result<(), Fault> {
    let mut handle = ObjectHandle::from(handle);
    context
        .tr_close(&mut handle)
        .map_err(Fault::tss("let go of an index"))
}
