//! Another program with access to the same TPM, which does what the box must survive.

use super::Bench;
use std::{mem, str::FromStr};
use tss_esapi::{
    Context, TctiNameConf,
    attributes::{NvIndexAttributesBuilder, ObjectAttributesBuilder},
    constants::{
        CapabilityType,
        tss::{TPM2_RH_NULL, TPM2_ST_HASHCHECK},
    },
    handles::{
        AuthHandle, KeyHandle, NvIndexHandle, NvIndexTpmHandle, PersistentTpmHandle, TpmHandle,
    },
    interface_types::{
        algorithm::{HashingAlgorithm, PublicAlgorithm},
        dynamic_handles::Persistent,
        ecc::EccCurve,
        resource_handles::{Hierarchy, NvAuth, Provision},
        session_handles::AuthSession,
    },
    structures::{
        Auth, CapabilityData, Digest, EccPoint, EccScheme, HashScheme, KeyDerivationFunctionScheme,
        MaxNvBuffer, NvPublic, Public, PublicBuilder, PublicEccParametersBuilder, SignatureScheme,
        SymmetricDefinitionObject,
    },
    tss2_esys::TPMT_TK_HASHCHECK,
};

const SRK: u32 = 0x8100_0001;

pub struct Neighbour {
    context: Context,
}

impl Neighbour {
    pub fn of(bench: &Bench) -> Self {
        let tcti = TctiNameConf::from_str(&bench.tpm.tcti()).expect("TCTI");
        Self {
            context: Context::new(tcti).expect("connect"),
        }
    }

    fn with_password<T>(
        &mut self,
        command: impl FnOnce(&mut Context) -> tss_esapi::Result<T>,
    ) -> tss_esapi::Result<T> {
        self.context
            .execute_with_session(Some(AuthSession::Password), command)
    }

    /// A storage key; `unique` makes it another than the TCG's.
    fn storage_key(&mut self) -> KeyHandle {
        let attributes = ObjectAttributesBuilder::new()
            .with_fixed_tpm(true)
            .with_fixed_parent(true)
            .with_sensitive_data_origin(true)
            .with_user_with_auth(true)
            .with_restricted(true)
            .with_decrypt(true)
            .build()
            .expect("attributes");
        let parameters = PublicEccParametersBuilder::new_restricted_decryption_key(
            SymmetricDefinitionObject::AES_128_CFB,
            EccCurve::NistP256,
        )
        .build()
        .expect("parameters");
        let template = public(attributes, parameters);
        self.with_password(|c| c.create_primary(Hierarchy::Owner, template, None, None, None, None))
            .expect("a primary key")
            .key_handle
    }

    /// Takes every transient slot and dies without giving them back.
    pub fn leak_every_slot(mut self) {
        for _ in 0..3 {
            self.storage_key();
        }
        mem::forget(self.context);
    }

    /// Uses a wrong authorisation until the TPM locks its dictionary-attack-protected objects.
    pub fn lock_the_tpm(mut self) {
        let attributes = ObjectAttributesBuilder::new()
            .with_fixed_tpm(true)
            .with_fixed_parent(true)
            .with_sensitive_data_origin(true)
            .with_user_with_auth(true)
            .with_sign_encrypt(true)
            .build()
            .expect("attributes");
        let parameters = PublicEccParametersBuilder::new()
            .with_ecc_scheme(EccScheme::EcDsa(HashScheme::new(HashingAlgorithm::Sha256)))
            .with_curve(EccCurve::NistP256)
            .with_key_derivation_function_scheme(KeyDerivationFunctionScheme::Null)
            .with_is_signing_key(true)
            .with_is_decryption_key(false)
            .with_restricted(false)
            .build()
            .expect("parameters");
        let template = public(attributes, parameters);
        let auth = Auth::try_from(vec![1; 32]).expect("auth");
        let key = self
            .with_password(|c| {
                c.create_primary(Hierarchy::Owner, template, Some(auth), None, None, None)
            })
            .expect("a primary key")
            .key_handle;
        let mut last = String::new();
        for _ in 0..5 {
            self.context
                .tr_set_auth(key.into(), Auth::try_from(vec![9; 32]).expect("auth"))
                .expect("set");
            let ticket = TPMT_TK_HASHCHECK {
                tag: TPM2_ST_HASHCHECK,
                hierarchy: TPM2_RH_NULL,
                digest: Default::default(),
            };
            let digest = Digest::try_from(vec![7; 32]).expect("digest");
            let outcome = self.with_password(|c| {
                c.sign(
                    key,
                    digest,
                    SignatureScheme::Null,
                    ticket.try_into().expect("ticket"),
                )
            });
            last = format!("{:?}", outcome.expect_err("a wrong authorisation"));
        }
        assert!(
            last.contains("2337"),
            "the TPM is in lockout (TPM_RC_LOCKOUT is 2337): {last}"
        );
    }

    /// Defines an index of `size` bytes that the owner reads and writes; false when there is no room.
    pub fn define_index(&mut self, at: u32, size: usize) -> bool {
        let attributes = NvIndexAttributesBuilder::new()
            .with_owner_read(true)
            .with_owner_write(true)
            .build()
            .expect("attributes");
        let public = NvPublic::builder()
            .with_nv_index(NvIndexTpmHandle::new(at).expect("an index"))
            .with_index_name_algorithm(HashingAlgorithm::Sha256)
            .with_index_attributes(attributes)
            .with_data_area_size(size)
            .build()
            .expect("a description");
        self.with_password(|c| c.nv_define_space(Provision::Owner, None, public))
            .is_ok()
    }

    fn index(&mut self, at: u32) -> NvIndexHandle {
        let index = NvIndexTpmHandle::new(at).expect("an index");
        self.context
            .execute_without_session(|c| c.tr_from_tpm_public(TpmHandle::NvIndex(index)))
            .expect("it is there")
            .into()
    }

    pub fn undefine_index(&mut self, at: u32) {
        let index = self.index(at);
        self.with_password(|c| c.nv_undefine_space(Provision::Owner, index))
            .expect("undefine");
    }

    /// The index's size and what reading `size` bytes with this authorisation gives.
    pub fn read_index(&mut self, at: u32, size: u16, auth: Option<&[u8]>) -> Option<Vec<u8>> {
        let index = self.index(at);
        let authority = match auth {
            Some(auth) => {
                let auth = Auth::try_from(auth).expect("auth");
                self.context.tr_set_auth(index.into(), auth).expect("set");
                NvAuth::NvIndex(index)
            }
            None => NvAuth::Owner,
        };
        self.with_password(|c| c.nv_read(authority, index, size, 0))
            .ok()
            .map(|content| content.value().to_vec())
    }

    /// Writes with the index's own authorisation value.
    pub fn write_index(&mut self, at: u32, content: &[u8], auth: &[u8]) {
        let index = self.index(at);
        let auth = Auth::try_from(auth).expect("auth");
        self.context.tr_set_auth(index.into(), auth).expect("set");
        let content = MaxNvBuffer::try_from(content).expect("small");
        self.with_password(|c| c.nv_write(NvAuth::NvIndex(index), index, content, 0))
            .expect("write");
    }

    /// Indices that are defined between two handles.
    pub fn indices(&mut self, first: u32, count: u32) -> Vec<u32> {
        let (data, _) = self
            .context
            .execute_without_session(|c| c.get_capability(CapabilityType::Handles, first, count))
            .expect("list");
        let CapabilityData::Handles(handles) = data else {
            return Vec::new();
        };
        let handles = handles.into_inner().into_iter().map(u32::from);
        handles
            .filter(|handle| (first..first + count).contains(handle))
            .collect()
    }

    fn persistent_srk() -> PersistentTpmHandle {
        PersistentTpmHandle::new(SRK).expect("a persistent handle")
    }

    /// Removes the SRK from its persistent handle.
    pub fn evict_the_srk(&mut self) {
        let handle = Self::persistent_srk();
        let srk = self
            .context
            .tr_from_tpm_public(TpmHandle::Persistent(handle))
            .expect("an SRK is there");
        self.with_password(|c| {
            c.evict_control(Provision::Owner, srk, Persistent::Persistent(handle))
        })
        .expect("evicted");
    }

    /// Puts a storage key of its own where the SRK was.
    pub fn substitute_the_srk(&mut self) {
        self.evict_the_srk();
        let own = self.storage_key();
        let handle = Self::persistent_srk();
        self.with_password(|c| {
            c.evict_control(Provision::Owner, own.into(), Persistent::Persistent(handle))
        })
        .expect("made persistent");
    }

    /// Sets an owner password.
    pub fn own_the_tpm(&mut self) {
        let auth = Auth::try_from(b"somebody else's".to_vec()).expect("auth");
        self.with_password(|c| c.hierarchy_change_auth(AuthHandle::Owner, auth))
            .expect("changed");
    }
}

fn public(
    attributes: tss_esapi::attributes::ObjectAttributes,
    parameters: tss_esapi::structures::PublicEccParameters,
) -> Public {
    PublicBuilder::new()
        .with_public_algorithm(PublicAlgorithm::Ecc)
        .with_name_hashing_algorithm(HashingAlgorithm::Sha256)
        .with_object_attributes(attributes)
        .with_ecc_parameters(parameters)
        .with_ecc_unique_identifier(EccPoint::default())
        .build()
        .expect("a template")
}
