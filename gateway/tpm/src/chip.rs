//! One live connection to the TPM: the ESYS context, the checked SRK and the keys loaded through it. It repeats nothing and
//! recovers from nothing; a connection that failed is thrown away by its owner.

use crate::{
    Config, Evidence, ImportKey, KeyBlob, SealedBlob, Secret, VaultError, ecdsa,
    fault::Fault,
    import,
    key_file::BlobId,
    pin::{self, SrkName},
    storage_root, template,
    vault::Counters,
};
use std::{str::FromStr, sync::Arc};
use tss_esapi::{
    Context,
    attributes::SessionAttributesBuilder,
    constants::{
        CapabilityType, PropertyTag, SessionType,
        tss::{TPM2_RH_NULL, TPM2_ST_HASHCHECK},
    },
    handles::{AuthHandle, KeyHandle, SessionHandle, TpmHandle},
    interface_types::{algorithm::HashingAlgorithm, session_handles::AuthSession},
    structures::{
        CapabilityData, Digest, EncryptedSecret, HashcheckTicket, Private, Public, SensitiveData,
        Signature, SignatureScheme, SymmetricDefinition, SymmetricDefinitionObject,
    },
    tcti_ldr::TctiNameConf,
    traits::{Marshall, UnMarshall},
    tss2_esys::TPMT_TK_HASHCHECK,
};

/// A TPM without resource manager has room for three transient objects, and using the persistent SRK as a parent takes one
/// of them for the moment.
pub(crate) const MAX_LOADED: usize = 2;

/// First transient handle (Part 2 section 7.5).
const TRANSIENT_FIRST: u32 = 0x8000_0000;
/// First handle of loaded sessions, as GetCapability lists them.
const LOADED_SESSION_FIRST: u32 = 0x0200_0000;

/// What the TPM says of itself.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    /// Four letters registered with the TCG.
    pub(crate) manufacturer: String,
    /// The vendor strings joined.
    pub(crate) vendor: String,
    /// Not a chip: a simulator or a hypervisor's virtual TPM.
    pub(crate) software: bool,
}

/// Which first parameters a session encrypts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protect {
    /// The command's.
    Command,
    /// The response's.
    Response,
    /// Both.
    Both,
}

/// See the module.
pub(crate) struct Chip {
    pub(crate) context: Context,
    pub(crate) srk: KeyHandle,
    pub(crate) identity: Identity,
    /// Least recently used first.
    loaded: Vec<(BlobId, KeyHandle)>,
    has_resource_manager: bool,
    counters: Arc<Counters>,
}

impl Chip {
    /// Connects, refuses software TPMs unless allowed, and checks the SRK against `pinned` (filling it the first time).
    pub(crate) fn open(
        config: &Config,
        pinned: &mut Option<SrkName>,
        counters: &Arc<Counters>,
    ) -> Result<Self, Fault> {
        let mut context = connect(config)?;
        let identity = identify(&mut context, config)?;
        if identity.software && !config.allow_software_tpm {
            let manufacturer = format!(
                "{} {}",
                identity.manufacturer.trim_end(),
                identity.vendor.trim_end()
            );
            return Err(VaultError::SoftwareTpm { manufacturer }.into());
        }
        let has_resource_manager = !config.is_simulator();
        let srk = storage_root::open(&mut context, *pinned, has_resource_manager)?;
        if pinned.is_none() {
            let name = storage_root::name_of(&mut context, srk)?;
            pin::write(&config.state_dir, &name)?;
            *pinned = Some(name);
        }
        Ok(Self {
            context,
            srk,
            identity,
            loaded: Vec::new(),
            has_resource_manager,
            counters: Arc::clone(counters),
        })
    }

    /// Loads a key, or finds it loaded; evicts the least recently used one when there is no room.
    pub(crate) fn load(&mut self, key: &KeyBlob) -> Result<KeyHandle, Fault> {
        if let Some(at) = self.loaded.iter().position(|(id, _)| id == key.id()) {
            let entry = self.loaded.remove(at);
            self.loaded.push(entry);
            return Ok(entry.1);
        }
        let handle = self.load_wrapped(key.tpmt_public(), key.private())?;
        self.loaded.push((*key.id(), handle));
        Ok(handle)
    }

    /// Loads a key although it may be loaded already: a proof that this TPM still unwraps it.
    pub(crate) fn load_afresh(&mut self, key: &KeyBlob) -> Result<(), Fault> {
        if let Some(at) = self.loaded.iter().position(|(id, _)| id == key.id()) {
            let (_, handle) = self.loaded.remove(at);
            self.flush(handle)?;
        }
        self.load(key).map(drop)
    }

    /// Loads a wrapped object; the caller flushes or records the handle.
    pub(crate) fn load_wrapped(
        &mut self,
        tpmt_public: &[u8],
        private: &[u8],
    ) -> Result<KeyHandle, Fault> {
        while self.loaded.len() >= MAX_LOADED {
            let (_, oldest) = self.loaded.remove(0);
            self.flush(oldest)?;
        }
        let public = Public::unmarshall(tpmt_public).map_err(Fault::tss("read a public area"))?;
        let private =
            Private::try_from(private.to_vec()).map_err(Fault::tss("read a private area"))?;
        let srk = self.srk;
        let handle = self
            .context
            .execute_with_session(Some(AuthSession::Password), |c| {
                c.load(srk, private, public)
            })
            .map_err(Fault::tss("load a key"))?;
        self.counters.key_loads.increment();
        Ok(handle)
    }

    /// Signs a SHA-256 digest, DER-encoded.
    pub(crate) fn sign(&mut self, key: KeyHandle, digest: [u8; 32]) -> Result<Vec<u8>, Fault> {
        let digest = Digest::try_from(digest.to_vec()).map_err(Fault::tss("sign"))?;
        let ticket = no_ticket()?;
        // A password session: the digest of a handshake is not secret and the authorisation value is empty, so an HMAC
        // session would cost seven times as much (2.4 ms for 0.34 ms) to protect nothing.
        let signature = self
            .context
            .execute_with_session(Some(AuthSession::Password), |c| {
                c.sign(key, digest, SignatureScheme::Null, ticket)
            })
            .map_err(Fault::tss("sign"))?;
        self.counters.signatures.increment();
        ecdsa_der(&signature)
    }

    /// Makes a facility key. In the salted session, so that a public key exchanged on the bus is noticed.
    pub(crate) fn generate(&mut self) -> Result<KeyBlob, Fault> {
        let template = template::generated_key().map_err(Fault::tss("describe a key"))?;
        let srk = self.srk;
        let created = self.in_salted_session("create a key", |c| {
            c.create(srk, template, None, None, None, None)
        })?;
        let public = created
            .out_public
            .marshall()
            .map_err(Fault::tss("create a key"))?;
        Ok(KeyBlob::new(public, created.out_private.value().to_vec())?)
    }

    /// Brings a private key in; see [`import`].
    pub(crate) fn import(&mut self, key: &ImportKey) -> Result<KeyBlob, Fault> {
        let wrapped = import::wrap(key)?;
        let public = wrapped
            .public
            .marshall()
            .map_err(Fault::tss("import a key"))?;
        let srk = self.srk;
        let private = self.in_salted_session("import a key", move |c| {
            c.import(
                srk.into(),
                Some(wrapped.encryption_key),
                wrapped.public,
                wrapped.duplicate,
                EncryptedSecret::default(),
                SymmetricDefinitionObject::AES_128_CFB,
            )
        })?;
        Ok(KeyBlob::new(public, private.value().to_vec())?)
    }

    /// Seals a secret under the SRK.
    pub(crate) fn seal(&mut self, secret: &Secret) -> Result<SealedBlob, Fault> {
        let template = template::sealed_data().map_err(Fault::tss("describe a sealed object"))?;
        let data =
            SensitiveData::try_from(secret.as_bytes().to_vec()).map_err(Fault::tss("seal"))?;
        let srk = self.srk;
        let created = self.in_salted_session("seal", |c| {
            c.create(srk, template, None, Some(data), None, None)
        })?;
        let public = created.out_public.marshall().map_err(Fault::tss("seal"))?;
        Ok(SealedBlob::new(&public, created.out_private.value()))
    }

    /// Opens a sealed secret.
    pub(crate) fn unseal(&mut self, blob: &SealedBlob) -> Result<Secret, Fault> {
        let handle = self.load_wrapped(&blob.tpmt_public, &blob.private)?;
        let outcome = self.in_salted_session("unseal", |c| c.unseal(handle.into()));
        let flushed = self.flush(handle);
        let data = outcome?;
        flushed?;
        Ok(Secret::new(data.value().to_vec()))
    }

    /// See [`Evidence`].
    pub(crate) fn attest(
        &mut self,
        key: &KeyBlob,
        qualifying_data: [u8; 32],
        ak: &SealedBlob,
    ) -> Result<Evidence, Fault> {
        crate::attest::certify(self, key, qualifying_data, ak)
    }

    /// Asks for anything, to see whether the TPM answers.
    pub(crate) fn ping(&mut self) -> Result<(), Fault> {
        self.context
            .execute_without_session(|c| {
                c.get_capability(
                    CapabilityType::TpmProperties,
                    PropertyTag::Manufacturer.into(),
                    1,
                )
            })
            .map(drop)
            .map_err(Fault::tss("ask for its properties"))
    }

    /// `TPM2_ClearControl`: disabling needs lockout authorisation, enabling platform authorisation (Part 3 section 24.7).
    pub(crate) fn clear_control(&mut self, disable: bool) -> Result<(), Fault> {
        let authority = if disable {
            AuthHandle::Lockout
        } else {
            AuthHandle::Platform
        };
        self.context
            .execute_with_session(Some(AuthSession::Password), |c| {
                c.clear_control(authority, disable)
            })
            .map_err(Fault::tss("change whether clearing is allowed"))
    }

    /// Frees every slot we can: our own loaded keys and, where no resource manager keeps processes apart, what a process
    /// that died left behind.
    pub(crate) fn make_room(&mut self) -> Result<(), Fault> {
        for (_, handle) in std::mem::take(&mut self.loaded) {
            self.flush(handle)?;
        }
        if !self.has_resource_manager {
            flush_leaked(&mut self.context)?;
        }
        Ok(())
    }

    /// Runs one command in a fresh HMAC session salted to the pinned SRK, with parameters encrypted both ways.
    ///
    /// Salting is what keeps a listener on the bus out; the pinned Name is what keeps an active one out.
    pub(crate) fn in_salted_session<T>(
        &mut self,
        action: &'static str,
        command: impl FnOnce(&mut Context) -> tss_esapi::Result<T>,
    ) -> Result<T, Fault> {
        self.in_session(action, Protect::Both, command)
    }

    /// As [`Chip::in_salted_session`], for a command that has something to hide in one direction only: the TPM refuses to
    /// encrypt what is not there (Part 1 section 21.2).
    pub(crate) fn in_session<T>(
        &mut self,
        action: &'static str,
        protect: Protect,
        command: impl FnOnce(&mut Context) -> tss_esapi::Result<T>,
    ) -> Result<T, Fault> {
        let srk = self.srk;
        let session = self
            .context
            .execute_without_session(|c| {
                c.start_auth_session(
                    Some(srk),
                    None,
                    None,
                    SessionType::Hmac,
                    SymmetricDefinition::AES_128_CFB,
                    HashingAlgorithm::Sha256,
                )
            })
            .map_err(Fault::tss("start a session"))?
            .ok_or(Fault::Vault(VaultError::Unavailable))?;
        let (attributes, mask) = SessionAttributesBuilder::new()
            .with_continue_session(true)
            .with_decrypt(protect != Protect::Response)
            .with_encrypt(protect != Protect::Command)
            .build();
        let outcome = self
            .context
            .tr_sess_set_attributes(session, attributes, mask)
            .and_then(|()| self.context.execute_with_session(Some(session), command));
        // Flushed on every path: a TPM without resource manager has three sessions.
        let flushed = self
            .context
            .flush_context(SessionHandle::from(session).into());
        let value = outcome.map_err(Fault::tss(action))?;
        flushed.map_err(Fault::tss("flush a session"))?;
        Ok(value)
    }

    /// NV memory wears, so writes are counted.
    pub(crate) fn count_nv_write(&self) {
        self.counters.nv_writes.increment();
    }

    /// Gives a transient object's slot back.
    pub(crate) fn flush(&mut self, handle: KeyHandle) -> Result<(), Fault> {
        self.context
            .flush_context(handle.into())
            .map_err(Fault::tss("flush a key"))
    }
}

/// Opens an ESYS context, nothing more.
pub(crate) fn connect(config: &Config) -> Result<Context, Fault> {
    let tcti = TctiNameConf::from_str(&config.tcti).map_err(Fault::tss("read the TCTI string"))?;
    Context::new(tcti).map_err(Fault::tss("connect"))
}

/// `TPM2_Clear` with the empty lockout authorisation.
pub(crate) fn clear(context: &mut Context) -> Result<(), Fault> {
    context
        .execute_with_session(Some(AuthSession::Password), |c| {
            c.clear(AuthHandle::Lockout)
        })
        .map_err(Fault::tss("clear"))
}

/// Flushes every transient object and every session. Only where no resource manager keeps processes apart; there is one
/// user of such a TPM.
pub(crate) fn flush_leaked(context: &mut Context) -> Result<(), Fault> {
    for first in [TRANSIENT_FIRST, LOADED_SESSION_FIRST] {
        for handle in handles_from(context, first, 64)? {
            if u32::from(handle) >> 24 == first >> 24 {
                context
                    .execute_without_session(|c| {
                        let object = c.tr_from_tpm_public(handle)?;
                        c.flush_context(object)
                    })
                    .map_err(Fault::tss("flush a leaked object"))?;
            }
        }
    }
    Ok(())
}

/// Handles in use from `first` on, of its kind.
pub(crate) fn handles_from(
    context: &mut Context,
    first: u32,
    count: u32,
) -> Result<Vec<TpmHandle>, Fault> {
    let (data, _) = context
        .execute_without_session(|c| c.get_capability(CapabilityType::Handles, first, count))
        .map_err(Fault::tss("list its handles"))?;
    Ok(match data {
        CapabilityData::Handles(handles) => handles.into_inner(),
        _ => Vec::new(),
    })
}

fn identify(context: &mut Context, config: &Config) -> Result<Identity, Fault> {
    let (data, _) = context
        .execute_without_session(|c| {
            c.get_capability(
                CapabilityType::TpmProperties,
                PropertyTag::Manufacturer.into(),
                5,
            )
        })
        .map_err(Fault::tss("ask for its properties"))?;
    let text = |tag| match &data {
        CapabilityData::TpmProperties(list) => list
            .find(tag)
            .map(|property| letters(property.value()))
            .unwrap_or_default(),
        _ => String::new(),
    };
    let manufacturer = text(PropertyTag::Manufacturer);
    let vendor = [
        PropertyTag::VendorString1,
        PropertyTag::VendorString2,
        PropertyTag::VendorString3,
        PropertyTag::VendorString4,
    ]
    .map(text)
    .join(" ")
    .trim_end()
    .to_owned();
    // Manufacturers of simulators and virtual TPMs (TCG Vendor ID Registry): swtpm and libtpms say IBM, Microsoft's reference
    // code and Hyper-V say MSFT. The word is the TPM's own, so this refuses mistakes, not a determined attacker.
    let software = config.is_simulator()
        || matches!(
            manufacturer.as_str(),
            "IBM" | "MSFT" | "GOOG" | "VMW" | "AMZN"
        );
    Ok(Identity {
        manufacturer,
        vendor,
        software,
    })
}

/// A property of four letters, padded with blanks or zeros.
fn letters(value: u32) -> String {
    let printable = |byte: &u8| {
        if byte.is_ascii_graphic() {
            char::from(*byte)
        } else {
            ' '
        }
    };
    value
        .to_be_bytes()
        .iter()
        .map(printable)
        .collect::<String>()
        .trim_end()
        .to_owned()
}

/// An unrestricted key signs any digest; the ticket then says "not hashed by the TPM" (Part 3 section 20.2).
fn no_ticket() -> Result<HashcheckTicket, Fault> {
    TPMT_TK_HASHCHECK {
        tag: TPM2_ST_HASHCHECK,
        hierarchy: TPM2_RH_NULL,
        digest: Default::default(),
    }
    .try_into()
    .map_err(Fault::tss("sign"))
}

/// A TPM signature as ECDSA-Sig-Value.
pub(crate) fn ecdsa_der(signature: &Signature) -> Result<Vec<u8>, Fault> {
    let wrong = || {
        Fault::tss("sign")(tss_esapi::Error::WrapperError(
            tss_esapi::WrapperErrorKind::WrongValueFromTpm,
        ))
    };
    let Signature::EcDsa(numbers) = signature else {
        return Err(wrong());
    };
    ecdsa::signature_der(numbers.signature_r().value(), numbers.signature_s().value())
        .ok_or_else(wrong)
}
