//! The vault as the rest of the product sees it: the trait, its data, and the implementation over the owner thread. It
//! decides *what may be signed*; how the TPM is kept alive is the owner's business.

use crate::{
    Config, Evidence, ImportKey, KeyBlob, SealedBlob, VaultError, attest,
    chip::{self, Identity},
    csr, device_ca,
    fault::{Class, Fault},
    key_root,
    owner::Queue,
    pin, storage_root, tls,
};
use aws_lc_rs::digest::{SHA256, digest};
use std::{
    fmt,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};
use zeroize::Zeroizing;

/// The longest secret that can be sealed, in bytes (TPM 2.0 Part 2, MAX_SYM_DATA).
pub const MAX_SECRET: usize = 128;

/// Where the private keys are. All methods block, at most for the configured deadlines: call them from blocking contexts
/// (the signer of [`crate::rustls_key`] takes care of itself on a multi-thread tokio runtime).
pub trait KeyVault: Send + Sync + fmt::Debug {
    /// Makes a new P-256 key in the TPM. Nothing is stored: keep the blob ([`crate::KeySlots`]) before using it.
    ///
    /// # Errors
    ///
    /// See [`VaultError`]; on none of them has anything been left behind.
    fn generate(&self) -> Result<KeyBlob, VaultError>;

    /// Brings a private key into the TPM (PKCS#12 path). The blob says [`crate::Provenance::Imported`].
    ///
    /// # Errors
    ///
    /// See [`VaultError`].
    fn import(&self, key: ImportKey) -> Result<KeyBlob, VaultError>;

    /// Signs a DER CertificationRequestInfo (RFC 2986 section 4.1) with ECDSA-SHA256; returns ECDSA-Sig-Value, DER.
    ///
    /// # Errors
    ///
    /// [`VaultError::RefusedToSign`] unless the bytes are exactly that and ask for a certificate for `key` itself.
    fn sign_csr(
        &self,
        key: &KeyBlob,
        certification_request_info: &[u8],
    ) -> Result<Vec<u8>, VaultError>;

    /// Signs a DER TBSCertificate (RFC 5280 section 4.1) of the facility's device authority with ECDSA-SHA256; returns
    /// ECDSA-Sig-Value, DER.
    ///
    /// # Errors
    ///
    /// [`VaultError::RefusedToSign`] unless the issuer is the device authority of `key` itself (common name
    /// [`crate::DEVICE_CA_NAME`], serialNumber [`crate::authority_serial`]) and the certificate is its own (pathLen 0) or a
    /// device's (clientAuth only, at most [`crate::MAX_DEVICE_DAYS`]).
    fn sign_device_certificate(
        &self,
        key: &KeyBlob,
        tbs_certificate: &[u8],
    ) -> Result<Vec<u8>, VaultError>;

    /// Signs a TLS 1.3 client CertificateVerify content (RFC 8446 section 4.4.3) with ecdsa_secp256r1_sha256.
    ///
    /// # Errors
    ///
    /// [`VaultError::RefusedToSign`] for any other bytes, TLS 1.2 transcripts and server signatures included.
    fn sign_tls13(&self, key: &KeyBlob, message: &[u8]) -> Result<Vec<u8>, VaultError>;

    /// Encrypts 1 to [`MAX_SECRET`] bytes so that only this TPM opens them.
    ///
    /// # Errors
    ///
    /// [`VaultError::SecretLength`], or see [`VaultError`].
    fn seal(&self, secret: &Secret) -> Result<SealedBlob, VaultError>;

    /// Opens what [`KeyVault::seal`] made.
    ///
    /// # Errors
    ///
    /// [`VaultError::KeyLost`] when the TPM was cleared or exchanged since.
    fn unseal(&self, blob: &SealedBlob) -> Result<Secret, VaultError>;

    /// Evidence that `key` was made in this TPM, bound to `qualifying_data`.
    ///
    /// # Errors
    ///
    /// See [`VaultError`]; evidence is optional, so callers go on without it.
    fn attest(&self, key: &KeyBlob, qualifying_data: &[u8; 32]) -> Result<Evidence, VaultError>;

    /// Asks the TPM whether it is there, and tells what has been done with it.
    ///
    /// # Errors
    ///
    /// [`VaultError::Unavailable`] when it does not answer; [`VaultError::KeyLost`] or [`VaultError::SrkChanged`] when it
    /// is not the TPM this box was set up with.
    fn health(&self) -> Result<Health, VaultError>;

    /// Has the TPM unwrap `key` afresh: `Ok` when it does.
    ///
    /// # Errors
    ///
    /// [`VaultError::KeyLost`] when the TPM no longer opens it. The TPM is really asked, even when the loss is known: a
    /// disposal record rests on this answer.
    fn prove_loadable(&self, key: &KeyBlob) -> Result<(), VaultError>;

    /// `TPM2_Clear`: every key, sealed secret and key root of this TPM, ours and others', is gone for good; that no root
    /// is left is proven. The roots go first, also where clearing itself is then refused. For decommissioning. The
    /// vault answers [`VaultError::KeyLost`] from then on; open a new one to set the box up again.
    ///
    /// # Errors
    ///
    /// [`VaultError::OwnerAuth`] when lockout authorisation is set, [`VaultError::ClearDisabled`] when clearing is
    /// disabled. After [`VaultError::Unavailable`] the TPM may have been cleared or not; calling again is harmless.
    fn clear(&self) -> Result<(), VaultError>;
}

/// Bytes that are wiped when dropped and never printed.
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Takes the bytes over.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes; do not copy them to where they are not wiped.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// The TPM's state and what this process has done with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// The TPM's manufacturer as registered with the TCG, such as `IFX` or `IBM`.
    pub manufacturer: String,
    /// The manufacturer's own description.
    pub vendor: String,
    /// A simulator or virtual TPM, not a chip.
    pub software: bool,
    /// Signatures made since the start.
    pub signatures: u64,
    /// Keys loaded into the TPM since the start.
    pub key_loads: u64,
    /// Times the connection to the TPM was built anew after it had been lost.
    pub rebuilds: u64,
    /// Attempts to connect, failed ones included.
    pub connections: u64,
    /// Writes to NV memory since the start, which wears: some TPMs promise no more than 100,000 for an index.
    pub nv_writes: u64,
}

/// A number that only grows.
#[derive(Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn increment(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Shared between the thread and its callers.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) signatures: Counter,
    pub(crate) key_loads: Counter,
    pub(crate) rebuilds: Counter,
    pub(crate) connections: Counter,
    pub(crate) nv_writes: Counter,
    /// The connection is being built; tells a late answer from an absent TPM.
    pub(crate) down: AtomicBool,
}

/// The vault over a real TPM. Cheap to clone; the thread ends with the last clone.
#[derive(Clone)]
pub struct TpmVault(Arc<Shared>);

struct Shared {
    queue: Queue,
    config: Config,
    counters: Arc<Counters>,
    identity: Mutex<Identity>,
}

impl TpmVault {
    /// Starts the owner thread and connects: checks the TCTI string, refuses a software TPM unless allowed, finds the SRK
    /// or makes it, and holds it against the Name pinned in `<state_dir>/tpm/srk.name` (pinning it the first time).
    ///
    /// # Errors
    ///
    /// [`VaultError::Tcti`], [`VaultError::SoftwareTpm`], [`VaultError::SrkChanged`], [`VaultError::KeyLost`] (the TPM was
    /// cleared or exchanged: see [`crate::forget_srk`] for setting up anew), [`VaultError::OwnerAuth`],
    /// [`VaultError::Unavailable`] after [`Config::deadline`], [`VaultError::StateFile`].
    pub fn open(config: Config) -> Result<Self, VaultError> {
        config.check_tcti()?;
        let counters = Arc::<Counters>::default();
        let queue = Queue::start(config.clone(), Arc::clone(&counters))?;
        let identity = queue.call(config.deadline, |owner, deadline| {
            owner.run(deadline, |c| Ok(c.identity.clone()))
        })?;
        tracing::info!(
            manufacturer = %identity.manufacturer, vendor = %identity.vendor, software = identity.software, "TPM opened"
        );
        Ok(Self(Arc::new(Shared {
            queue,
            config,
            counters,
            identity: Mutex::new(identity),
        })))
    }

    /// Disables `TPM2_Clear` by lockout authorisation, or enables it again.
    ///
    /// While it is enabled, any process that may open the TPM device can destroy the keys in one command; while it is
    /// disabled, [`KeyVault::clear`] fails too, and a PC re-enables it only from its firmware setup: platform
    /// authorisation, which `set_clear_disabled(false)` needs, is normally closed before the operating system starts.
    ///
    /// # Errors
    ///
    /// [`VaultError::OwnerAuth`] when the authorisation needed is not empty.
    pub fn set_clear_disabled(&self, disabled: bool) -> Result<(), VaultError> {
        self.command(move |chip| chip.clear_control(disabled))
    }

    pub(crate) fn config(&self) -> &Config {
        &self.0.config
    }

    pub(crate) fn state_dir(&self) -> &Path {
        &self.0.config.state_dir
    }

    pub(crate) fn command<T: Send + 'static>(
        &self,
        steps: impl FnMut(&mut chip::Chip) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, VaultError> {
        self.0
            .queue
            .call(self.0.config.deadline, |owner, deadline| {
                owner.run(deadline, steps)
            })
    }

    /// The only way to a signature, and private: what is signed has been judged by the caller.
    fn sign(&self, key: &KeyBlob, message: &[u8]) -> Result<Vec<u8>, VaultError> {
        let hash: [u8; 32] = digest(&SHA256, message)
            .as_ref()
            .try_into()
            .expect("SHA-256 has 32 bytes");
        let key = key.clone();
        self.0
            .queue
            .call(self.0.config.sign_deadline, move |owner, deadline| {
                owner.run_with_key(deadline, &key, |chip| {
                    let handle = chip.load(&key)?;
                    chip.sign(handle, hash)
                })
            })
    }
}

impl fmt::Debug for TpmVault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TpmVault")
            .field("tcti", &self.0.config.tcti)
            .finish_non_exhaustive()
    }
}

impl KeyVault for TpmVault {
    fn generate(&self) -> Result<KeyBlob, VaultError> {
        self.command(chip::Chip::generate)
    }

    fn import(&self, key: ImportKey) -> Result<KeyBlob, VaultError> {
        self.command(move |chip| {
            let blob = chip.import(&key)?;
            // The TPM checks a key pair when loading it; find out now and not at the first handshake.
            chip.load_afresh(&blob)?;
            Ok(blob)
        })
    }

    fn sign_csr(
        &self,
        key: &KeyBlob,
        certification_request_info: &[u8],
    ) -> Result<Vec<u8>, VaultError> {
        if !csr::requests_certificate_for(key, certification_request_info) {
            return Err(VaultError::RefusedToSign);
        }
        self.sign(key, certification_request_info)
    }

    fn sign_device_certificate(
        &self,
        key: &KeyBlob,
        tbs_certificate: &[u8],
    ) -> Result<Vec<u8>, VaultError> {
        if !device_ca::is_of_the_device_authority(key, tbs_certificate) {
            return Err(VaultError::RefusedToSign);
        }
        self.sign(key, tbs_certificate)
    }

    fn sign_tls13(&self, key: &KeyBlob, message: &[u8]) -> Result<Vec<u8>, VaultError> {
        if !tls::is_client_certificate_verify(message) {
            return Err(VaultError::RefusedToSign);
        }
        self.sign(key, message)
    }

    fn seal(&self, secret: &Secret) -> Result<SealedBlob, VaultError> {
        let length = secret.as_bytes().len();
        if !(1..=MAX_SECRET).contains(&length) {
            return Err(VaultError::SecretLength { length });
        }
        let secret = Secret::new(secret.as_bytes().to_vec());
        self.command(move |chip| chip.seal(&secret))
    }

    fn unseal(&self, blob: &SealedBlob) -> Result<Secret, VaultError> {
        let blob = blob.clone();
        self.command(move |chip| chip.unseal(&blob))
    }

    fn attest(&self, key: &KeyBlob, qualifying_data: &[u8; 32]) -> Result<Evidence, VaultError> {
        let (key, data) = (key.clone(), *qualifying_data);
        self.0
            .queue
            .call(self.0.config.deadline, move |owner, deadline| {
                let config = owner.config.clone();
                let mut ak = attest::stored_ak(&config);
                owner.run_with_key(deadline, &key, |chip| {
                    let usable = match &ak {
                        Some(ak) => ak.clone(),
                        None => ak.insert(attest::new_ak(chip, &config)?).clone(),
                    };
                    match chip.attest(&key, data, &usable) {
                        // Of another life of this TPM: replace it. A key that is lost itself fails again right away.
                        Err(fault) if fault.class() == Class::Integrity => {
                            let fresh = attest::new_ak(chip, &config)?;
                            chip.attest(&key, data, ak.insert(fresh))
                        }
                        outcome => outcome,
                    }
                })
            })
    }

    fn health(&self) -> Result<Health, VaultError> {
        let identity = self.command(|chip| {
            chip.ping()?;
            Ok(chip.identity.clone())
        })?;
        *self
            .0
            .identity
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = identity.clone();
        let counters = &self.0.counters;
        Ok(Health {
            manufacturer: identity.manufacturer,
            vendor: identity.vendor,
            software: identity.software,
            signatures: counters.signatures.get(),
            key_loads: counters.key_loads.get(),
            rebuilds: counters.rebuilds.get(),
            connections: counters.connections.get(),
            nv_writes: counters.nv_writes.get(),
        })
    }

    fn prove_loadable(&self, key: &KeyBlob) -> Result<(), VaultError> {
        let key = key.clone();
        self.0
            .queue
            .call(self.0.config.deadline, move |owner, deadline| {
                if owner.lost().is_none() {
                    return owner.run(deadline, |chip| chip.load_afresh(&key));
                }
                // The SRK is gone, so a connection in the ordinary sense cannot be had; ask under the SRK of today.
                owner.close();
                let asked = chip::connect(&owner.config).and_then(|mut context| {
                    storage_root::loads_under_current_seed(&mut context, &key)
                });
                asked.map_err(Fault::into_error)
            })
    }

    fn clear(&self) -> Result<(), VaultError> {
        self.0.queue.call(self.0.config.deadline, |owner, _| {
            // A bare connection: clearing must work whatever state the SRK is in, and must not be repeated by itself.
            owner.close();
            chip::connect(&owner.config)
                .and_then(|mut context| {
                    // First, and by owner authorisation: the root of the stored notes goes even where clearing is refused.
                    key_root::undefine_all(&mut context)?;
                    chip::clear(&mut context)?;
                    key_root::prove_none_left(&mut context)
                })
                .map_err(Fault::into_error)?;
            owner.everything_is_lost();
            key_root::forget_auth(&owner.config.state_dir)?;
            pin::forget_srk(&owner.config.state_dir)
        })
    }
}
