//! The city's certification authority: one root, a server CA and a facility CA below it, kept in the city's directory.
//!
//! Does not decide who gets a certificate and does not revoke; that is `est` and `store`.

use crate::secrets::{hex, random};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType, SerialNumber,
    SubjectPublicKeyInfo,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use time::{Duration, OffsetDateTime};

/// What can go wrong with the authority.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// A file of the authority could not be read or written.
    #[error("the authority's file {name} could not be read or written")]
    File {
        /// File name below the city's directory.
        name: String,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// A key or certificate could not be made or understood.
    #[error("a certificate could not be made")]
    Make(#[from] rcgen::Error),
    /// A stored certificate is not PEM.
    #[error("a stored certificate is not PEM")]
    Pem,
    /// A name in a certificate is not one that DER can carry.
    #[error("a name cannot stand in a certificate")]
    Name,
}

/// One authority below the root, ready to sign.
struct Authority {
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

/// The whole hierarchy.
pub struct Ca {
    root: CertificateDer<'static>,
    server: Authority,
    facility: Authority,
    receipts: (CertificateDer<'static>, KeyPair),
}

impl std::fmt::Debug for Ca {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ca(…)")
    }
}

/// A certificate that was just signed.
#[derive(Debug, Clone)]
pub struct Issued {
    /// The certificate itself.
    pub der: Vec<u8>,
    /// Its serial number, lower-case hexadecimal without leading zeros.
    pub serial: String,
    /// End of validity, Unix seconds.
    pub not_after: i64,
}

/// What a facility certificate says about its holder.
#[derive(Debug, Clone)]
pub struct FacilitySubject {
    /// Facility id, such as `tkh-1001`: the common name and the last part of the SAN URI.
    pub id: String,
    /// Facility name: the organisation.
    pub name: String,
}

impl FacilitySubject {
    /// The URI in the subject alternative name.
    #[must_use]
    pub fn uri(&self) -> String {
        format!("urn:renraku:facility:{}", self.id)
    }

    fn distinguished_name(&self) -> DistinguishedName {
        let mut name = DistinguishedName::new();
        name.push(DnType::OrganizationName, self.name.as_str());
        name.push(DnType::CommonName, self.id.as_str());
        name
    }
}

impl Ca {
    /// Opens the hierarchy in `dir`, making it if this is the first start. Writes `dir/ca.pem`, the trust anchor.
    ///
    /// # Errors
    /// When a file cannot be read or written or is damaged.
    pub fn open(dir: &Path) -> Result<Self, CaError> {
        let keys = dir.join("authority");
        if !keys.join("complete").exists() {
            make_hierarchy(&keys)?;
        }
        let root = read_certificate(&keys, "root.pem")?;
        let pem = read(&keys, "root.pem")?;
        write_public(dir, "ca.pem", &pem)?;
        let server = open_authority(&keys, "server")?;
        if !keys.join("receipts.pem").exists() {
            make_receipt_key(&keys, &server)?;
        }
        let receipts = (
            read_certificate(&keys, "receipts.pem")?,
            KeyPair::from_pem(&read(&keys, "receipts.key")?)?,
        );
        Ok(Self {
            root,
            server,
            facility: open_authority(&keys, "facility")?,
            receipts,
        })
    }

    /// Signs a countersignature under a checkpoint of an audit log; with the certificates that speak for it, leaf first.
    ///
    /// # Errors
    /// When signing fails.
    pub fn receipt(&self, message: &[u8]) -> Result<(Vec<u8>, [Vec<u8>; 2]), CaError> {
        let (certificate, key) = &self.receipts;
        let signature = rcgen::SigningKey::sign(key, message)?;
        let chain = [certificate, &self.server.certificate].map(|der| der.to_vec());
        Ok((signature, chain))
    }

    /// The root, the box's and the browsers' trust anchor.
    #[must_use]
    pub fn root(&self) -> &CertificateDer<'static> {
        &self.root
    }

    /// The authority that signs facility certificates.
    #[must_use]
    pub fn facility_ca(&self) -> &CertificateDer<'static> {
        &self.facility.certificate
    }

    /// The authority that signs server certificates, the city's own and those for the facilities' networks.
    #[must_use]
    pub fn server_ca(&self) -> &CertificateDer<'static> {
        &self.server.certificate
    }

    /// A fresh certificate and key for the city's own listener, valid for 90 days; the chain is leaf, server CA.
    ///
    /// # Errors
    /// When signing fails.
    pub fn own_server(
        &self,
        names: &[String],
    ) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), CaError> {
        let key = KeyPair::generate()?;
        let mut params = leaf(Duration::days(90), ExtendedKeyUsagePurpose::ServerAuth);
        params.distinguished_name = common_name(names.first().map_or("city", String::as_str));
        params.subject_alt_names = dns_names(names)?;
        let certificate = params.signed_by(&key, &self.server.issuer)?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        Ok((
            vec![certificate.der().clone(), self.server.certificate.clone()],
            key,
        ))
    }

    /// Signs a facility certificate (clientAuth) for the key in `spki_der`, valid for `days`.
    ///
    /// # Errors
    /// When the key is not understood or signing fails.
    pub fn facility_certificate(
        &self,
        spki_der: &[u8],
        subject: &FacilitySubject,
        valid: Duration,
    ) -> Result<Issued, CaError> {
        let mut params = leaf(valid, ExtendedKeyUsagePurpose::ClientAuth);
        params.distinguished_name = subject.distinguished_name();
        params.subject_alt_names = vec![SanType::URI(
            subject.uri().try_into().map_err(|_| CaError::Name)?,
        )];
        sign(params, spki_der, &self.facility)
    }

    /// Signs a server certificate for a facility's own network (serverAuth), valid for 90 days.
    ///
    /// # Errors
    /// When the key is not understood or signing fails.
    pub fn lan_certificate(
        &self,
        spki_der: &[u8],
        subject: &FacilitySubject,
        names: &[String],
    ) -> Result<Issued, CaError> {
        let mut params = leaf(Duration::days(90), ExtendedKeyUsagePurpose::ServerAuth);
        params.distinguished_name = subject.distinguished_name();
        params.subject_alt_names = dns_names(names)?;
        sign(params, spki_der, &self.server)
    }
}

fn sign(mut params: CertificateParams, spki_der: &[u8], by: &Authority) -> Result<Issued, CaError> {
    let mut serial = random::<16>();
    // RFC 5280 section 4.1.2.2: positive, at most 20 octets. The fixed bit also keeps every serial the same length.
    serial[0] = (serial[0] & 0x3f) | 0x40;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    let not_after = params.not_after.unix_timestamp();
    let key = SubjectPublicKeyInfo::from_der(spki_der)?;
    let certificate = params.signed_by(&key, &by.issuer)?;
    Ok(Issued {
        der: certificate.der().to_vec(),
        serial: hex(&serial),
        not_after,
    })
}

fn leaf(valid: Duration, usage: ExtendedKeyUsagePurpose) -> CertificateParams {
    let mut params = CertificateParams::default();
    let now = OffsetDateTime::now_utc();
    // A little in the past, so that a box whose clock is slightly slow can use the certificate at once.
    params.not_before = now - Duration::minutes(5);
    params.not_after = now + valid;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![usage];
    params.use_authority_key_identifier_extension = true;
    params
}

fn dns_names(names: &[String]) -> Result<Vec<SanType>, CaError> {
    names
        .iter()
        .map(|name| {
            Ok(SanType::DnsName(
                name.as_str().try_into().map_err(|_| CaError::Name)?,
            ))
        })
        .collect()
}

fn common_name(name: &str) -> DistinguishedName {
    let mut dn = DistinguishedName::new();
    dn.push(DnType::CommonName, name);
    dn
}

fn authority_params(common: &str, days: i64, path: u8) -> CertificateParams {
    let mut params = CertificateParams::default();
    let now = OffsetDateTime::now_utc();
    params.not_before = now - Duration::days(1);
    params.not_after = now + Duration::days(days);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(path));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = true;
    params.distinguished_name = common_name(common);
    params
        .distinguished_name
        .push(DnType::OrganizationName, "高萩市（参照実装）");
    params.distinguished_name.push(DnType::CountryName, "JP");
    params
}

fn make_hierarchy(keys: &Path) -> Result<(), CaError> {
    fs::create_dir_all(keys).map_err(|source| CaError::File {
        name: "authority".into(),
        source,
    })?;
    let root = CertifiedIssuer::self_signed(
        authority_params("高萩市 参照認証局", 3650, 1),
        KeyPair::generate()?,
    )?;
    for (file, common) in [
        ("server", "高萩市 サーバー認証局"),
        ("facility", "高萩市 利用事業所認証局"),
    ] {
        let key = KeyPair::generate()?;
        let certificate = authority_params(common, 3600, 0).signed_by(&key, &root)?;
        write_private(keys, &format!("{file}.key"), &key.serialize_pem())?;
        write_public(keys, &format!("{file}.pem"), &certificate.pem())?;
    }
    write_private(keys, "root.key", &root.key().serialize_pem())?;
    write_public(keys, "root.pem", &root.pem())?;
    // Written last: a start that was interrupted begins again instead of finding half a hierarchy.
    write_public(keys, "complete", "")
}

/// A key for countersignatures. Time stamping is what they are, and what no other certificate of the city is for.
fn make_receipt_key(keys: &Path, server: &Authority) -> Result<(), CaError> {
    let key = KeyPair::generate()?;
    let mut params = leaf(Duration::days(3500), ExtendedKeyUsagePurpose::TimeStamping);
    params.distinguished_name = common_name("高萩市 監査記録の確認");
    let certificate = params.signed_by(&key, &server.issuer)?;
    write_private(keys, "receipts.key", &key.serialize_pem())?;
    write_public(keys, "receipts.pem", &certificate.pem())
}

fn open_authority(keys: &Path, name: &str) -> Result<Authority, CaError> {
    let certificate = read_certificate(keys, &format!("{name}.pem"))?;
    let key = KeyPair::from_pem(&read(keys, &format!("{name}.key"))?)?;
    let issuer = Issuer::from_ca_cert_der(&certificate, key)?;
    Ok(Authority {
        certificate,
        issuer,
    })
}

fn read(dir: &Path, name: &str) -> Result<String, CaError> {
    fs::read_to_string(dir.join(name)).map_err(|source| CaError::File {
        name: name.into(),
        source,
    })
}

fn read_certificate(dir: &Path, name: &str) -> Result<CertificateDer<'static>, CaError> {
    CertificateDer::from_pem_slice(read(dir, name)?.as_bytes()).map_err(|_| CaError::Pem)
}

fn write_public(dir: &Path, name: &str, text: &str) -> Result<(), CaError> {
    fs::write(dir.join(name), text).map_err(|source| CaError::File {
        name: name.into(),
        source,
    })
}

fn write_private(dir: &Path, name: &str, text: &str) -> Result<(), CaError> {
    fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(dir.join(name))
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|source| CaError::File {
            name: name.into(),
            source,
        })
}
