//! The storage root key: found at its handle or derived again, and held against the Name pinned at the first start. It is
//! never used before that, and nothing here decides what to do when it is not the pinned one.

use crate::{
    KeyBlob, VaultError,
    chip::{flush_leaked, handles_from},
    fault::{Class, Fault},
    key_file::SRK_HANDLE,
    pin::SrkName,
    template,
};
use aws_lc_rs::digest::{SHA256, digest};
use tss_esapi::{
    Context,
    handles::{KeyHandle, ObjectHandle, PersistentTpmHandle, TpmHandle},
    interface_types::{
        dynamic_handles::Persistent,
        resource_handles::{Hierarchy, Provision},
        session_handles::AuthSession,
    },
    structures::{Private, Public},
    traits::{Marshall, UnMarshall},
};

/// Finds the SRK, or makes it persistent when absent, and holds it against the pinned Name.
pub(crate) fn open(
    context: &mut Context,
    pinned: Option<SrkName>,
    has_resource_manager: bool,
) -> Result<KeyHandle, Fault> {
    let persistent = PersistentTpmHandle::new(SRK_HANDLE).map_err(Fault::tss("name the SRK"))?;
    let handle = TpmHandle::Persistent(persistent);
    if !handles_from(context, SRK_HANDLE, 1)?.contains(&handle) {
        return restore_storage_root(context, pinned, persistent, has_resource_manager);
    }
    let srk = KeyHandle::from(
        context
            .execute_without_session(|c| c.tr_from_tpm_public(handle))
            .map_err(Fault::tss("read the SRK"))?,
    );
    let found = name_of(context, srk)?;
    match pinned {
        Some(pinned) if pinned == found => Ok(srk),
        // Something else lies there. Ask the TPM which SRK its seed gives, to tell an exchanged object from an exchanged
        // (or cleared) TPM. Neither is ever used.
        Some(pinned) => Err(match derived_name(context, has_resource_manager) {
            Ok(derived) if derived == pinned => VaultError::SrkChanged.into(),
            Ok(_) => VaultError::KeyLost.into(),
            Err(fault) if fault.class() == Class::Auth => VaultError::SrkChanged.into(),
            Err(fault) => fault,
        }),
        None => match derived_name(context, has_resource_manager) {
            Ok(derived) if derived == found => Ok(srk),
            Ok(_) => Err(VaultError::SrkChanged.into()),
            // The owner hierarchy is closed to us; trust on first use what is at the TCG's handle, if it is an SRK.
            Err(fault) if fault.class() == Class::Auth && is_storage_root(context, srk)? => Ok(srk),
            Err(fault) => Err(fault),
        },
    }
}

/// Derives the SRK again and makes it persistent. The derivation is deterministic, so an evicted SRK comes back the same;
/// a cleared or exchanged TPM gives another, and then every key under the pinned one is lost.
fn restore_storage_root(
    context: &mut Context,
    pinned: Option<SrkName>,
    persistent: PersistentTpmHandle,
    has_resource_manager: bool,
) -> Result<KeyHandle, Fault> {
    let transient = with_room(context, has_resource_manager, create_srk)?;
    let kept = (|| {
        if pinned.is_some_and(|pinned| name_of(context, transient).is_ok_and(|name| name != pinned))
        {
            return Err(VaultError::KeyLost.into());
        }
        context
            .execute_with_session(Some(AuthSession::Password), |c| {
                c.evict_control(
                    Provision::Owner,
                    transient.into(),
                    Persistent::Persistent(persistent),
                )
            })
            .map_err(Fault::tss("make the SRK persistent"))
    })();
    let flushed = context
        .flush_context(transient.into())
        .map_err(Fault::tss("flush the SRK"));
    let srk = KeyHandle::from(kept?);
    flushed?;
    Ok(srk)
}

fn create_srk(context: &mut Context) -> Result<KeyHandle, Fault> {
    let template = template::srk().map_err(Fault::tss("describe the SRK"))?;
    context
        .execute_with_session(Some(AuthSession::Password), |c| {
            c.create_primary(Hierarchy::Owner, template, None, None, None, None)
        })
        .map(|created| created.key_handle)
        .map_err(Fault::tss("derive the SRK"))
}

/// The Name of the SRK that this TPM's owner seed gives.
fn derived_name(context: &mut Context, has_resource_manager: bool) -> Result<SrkName, Fault> {
    let srk = with_room(context, has_resource_manager, create_srk)?;
    let name = name_of(context, srk);
    context
        .flush_context(srk.into())
        .map_err(Fault::tss("flush the SRK"))?;
    name
}

/// Runs a step that needs a free slot, and once more after flushing what dead processes left in a simulator.
fn with_room<T>(
    context: &mut Context,
    has_resource_manager: bool,
    step: impl Fn(&mut Context) -> Result<T, Fault>,
) -> Result<T, Fault> {
    match step(context) {
        Err(fault) if fault.class() == Class::Memory && !has_resource_manager => {
            flush_leaked(context)?;
            step(context)
        }
        outcome => outcome,
    }
}

/// The Name the ESYS layer keeps for an object; it is what commands are bound to.
pub(crate) fn name_of(context: &mut Context, object: KeyHandle) -> Result<SrkName, Fault> {
    let name = context
        .tr_get_name(ObjectHandle::from(object))
        .map_err(Fault::tss("name a key"))?;
    SrkName::try_from(name.value()).map_err(|_| VaultError::SrkChanged.into())
}

/// Does this object have the SRK template's algorithms and attributes, and the Name its public area demands?
fn is_storage_root(context: &mut Context, srk: KeyHandle) -> Result<bool, Fault> {
    let (public, name, _) = context
        .execute_without_session(|c| c.read_public(srk))
        .map_err(Fault::tss("read the SRK"))?;
    let template = template::srk().map_err(Fault::tss("describe the SRK"))?;
    let same_shape = match (&public, &template) {
        (
            Public::Ecc {
                object_attributes,
                parameters,
                auth_policy,
                name_hashing_algorithm,
                ..
            },
            Public::Ecc {
                object_attributes: wanted,
                parameters: shape,
                auth_policy: policy,
                name_hashing_algorithm: hash,
                ..
            },
        ) => {
            object_attributes == wanted
                && parameters == shape
                && auth_policy == policy
                && name_hashing_algorithm == hash
        }
        _ => false,
    };
    let marshalled = public.marshall().map_err(Fault::tss("read the SRK"))?;
    let expected = [&[0x00, 0x0b], digest(&SHA256, &marshalled).as_ref()].concat();
    // The second reading could be a forger's answer to us alone; the Name that sessions will use must be the same.
    Ok(same_shape && name.value() == expected && name_of(context, srk)?.as_slice() == expected)
}

/// Whether `key` loads under the SRK this TPM derives *now*, whatever lies at the SRK's handle: the disposal proof.
pub(crate) fn loads_under_current_seed(context: &mut Context, key: &KeyBlob) -> Result<(), Fault> {
    let srk = create_srk(context)?;
    let mut load = || {
        let public = Public::unmarshall(key.tpmt_public())?;
        let private = Private::try_from(key.private().to_vec())?;
        let handle = context.execute_with_session(Some(AuthSession::Password), |c| {
            c.load(srk, private, public)
        })?;
        context.flush_context(handle.into())
    };
    let loaded = load().map_err(Fault::tss("load a key"));
    context
        .flush_context(srk.into())
        .map_err(Fault::tss("flush a key"))?;
    loaded
}
