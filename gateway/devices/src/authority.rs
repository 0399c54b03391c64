//! The facility's device authority (この施設の端末認証局): its key is in the TPM, its certificates are made here.
//!
//! It does not ask whether a device may have one; and the vault refuses to sign anything but the two profiles made here.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use gateway_policy::{DeviceId, Timestamp};
use gateway_tpm::{
    DEVICE_CA_NAME, DeviceCaSigner, KeyBlob, KeyVault, MAX_AUTHORITY_DAYS, MAX_DEVICE_DAYS,
    VaultError, authority_serial,
};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyUsagePurpose, PublicKeyData, SerialNumber,
};
use rustls::pki_types::CertificateDer;

use crate::secret::random;
use crate::{Error, Kind};

const DAY: i64 = 86_400;

/// Devices whose clock is a little behind are not refused on the first day.
const BACKDATED: i64 = 3_600;

/// A certificate made for a device.
#[derive(Clone, Debug)]
pub struct Issued {
    /// The device's certificate, then the authority's.
    pub chain: Vec<CertificateDer<'static>>,
    /// Begin of its validity.
    pub not_before: Timestamp,
    /// End of its validity.
    pub not_after: Timestamp,
}

/// An authority that can issue.
#[derive(Clone)]
pub struct Authority {
    vault: Arc<dyn KeyVault>,
    key: KeyBlob,
    root: CertificateDer<'static>,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

impl Authority {
    /// Makes a new key in the TPM and the authority's own certificate. Nothing is stored.
    ///
    /// # Errors
    /// [`Error::Vault`] and [`Error::Certificate`].
    pub fn make(vault: Arc<dyn KeyVault>, now: Timestamp) -> Result<(Self, KeyBlob), Error> {
        let key = vault.generate()?;
        let signer = DeviceCaSigner::new(Arc::clone(&vault), key.clone());
        let root = params(&key, now)?
            .self_signed(&signer)
            .map_err(Error::Certificate)?;
        let authority = Self {
            vault,
            key: key.clone(),
            root: root.der().clone(),
        };
        Ok((authority, key))
    }

    /// The authority whose key and certificate are stored, if the TPM still opens the key.
    ///
    /// # Errors
    /// [`VaultError::KeyLost`] above all: then another has to be made.
    pub fn open(
        vault: Arc<dyn KeyVault>,
        key: KeyBlob,
        root: CertificateDer<'static>,
    ) -> Result<Self, VaultError> {
        vault.prove_loadable(&key)?;
        Ok(Self { vault, key, root })
    }

    /// Its own certificate.
    #[must_use]
    pub const fn root(&self) -> &CertificateDer<'static> {
        &self.root
    }

    /// Makes a certificate for a device's public key. Blocks on the TPM.
    ///
    /// # Errors
    /// [`Error::Certificate`] when the TPM does not sign.
    pub fn issue(
        &self,
        device: DeviceId,
        kind: Kind,
        key: &impl PublicKeyData,
        now: Timestamp,
    ) -> Result<Issued, Error> {
        let (not_before, not_after) = (now.plus(-BACKDATED), now.plus(life(kind)));
        let mut leaf = CertificateParams::default();
        leaf.distinguished_name = DistinguishedName::new();
        leaf.distinguished_name
            .push(DnType::CommonName, device.to_string());
        leaf.serial_number = Some(serial()?);
        leaf.not_before = time(not_before);
        leaf.not_after = time(not_after);
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        leaf.use_authority_key_identifier_extension = true;
        let signer = DeviceCaSigner::new(Arc::clone(&self.vault), self.key.clone());
        let issuer = Issuer::new(params(&self.key, now)?, signer);
        let leaf = leaf.signed_by(key, &issuer).map_err(Error::Certificate)?;
        Ok(Issued {
            chain: vec![leaf.der().clone(), self.root.clone()],
            not_before,
            not_after,
        })
    }
}

/// A program renews its certificate by itself, a person has to be asked: that is done every two years only.
const fn life(kind: Kind) -> i64 {
    if kind.reports() {
        397 * DAY
    } else {
        #[expect(clippy::cast_possible_wrap, reason = "two years of days")]
        let longest = MAX_DEVICE_DAYS as i64;
        (longest - 1) * DAY
    }
}

fn params(key: &KeyBlob, now: Timestamp) -> Result<CertificateParams, Error> {
    #[expect(clippy::cast_possible_wrap, reason = "twenty years of days")]
    let life = MAX_AUTHORITY_DAYS as i64 * DAY;
    let mut root = CertificateParams::default();
    root.distinguished_name = DistinguishedName::new();
    root.distinguished_name
        .push(DnType::CommonName, DEVICE_CA_NAME);
    // X.520 serialNumber: tells the authorities of two facilities, and two of one facility, apart.
    root.distinguished_name.push(
        DnType::CustomDnType(vec![2, 5, 4, 5]),
        authority_serial(key),
    );
    root.serial_number = Some(serial()?);
    root.not_before = time(now.plus(-BACKDATED));
    root.not_after = time(now.plus(life - BACKDATED));
    root.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    root.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    Ok(root)
}

/// 127 random bits: positive, and never short.
fn serial() -> Result<SerialNumber, Error> {
    let mut bytes = random::<16>()?;
    bytes[0] = bytes[0] & 0x7f | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

fn time(at: Timestamp) -> time::OffsetDateTime {
    let epoch = time::OffsetDateTime::UNIX_EPOCH;
    let seconds = u64::try_from(at.0).unwrap_or_default();
    epoch
        .checked_add(Duration::from_secs(seconds).try_into().unwrap_or_default())
        .unwrap_or(epoch)
}
