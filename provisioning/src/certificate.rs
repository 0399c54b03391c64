//! Judging the certificates that come back: for our key, from the city, for this use, for this facility, valid now.
//!
//! It does not fetch or keep them.

use std::sync::Arc;

use der::{Decode as _, Encode as _};
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use time::OffsetDateTime;
use x509_cert::Certificate;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::name::Name;

use crate::failure::{Failure, ProvisioningError};

const FACILITY_URN: &str = "urn:renraku:facility:";
const SUBJECT_ALT_NAME: der::oid::ObjectIdentifier =
    der::oid::ObjectIdentifier::new_unwrap("2.5.29.17");
const ORGANIZATION: der::oid::ObjectIdentifier = der::oid::ObjectIdentifier::new_unwrap("2.5.4.10");

/// What a certificate says, as far as this crate needs it.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(crate) spki_der: Vec<u8>,
    pub(crate) serial: String,
    pub(crate) not_before: OffsetDateTime,
    pub(crate) not_after: OffsetDateTime,
    pub(crate) subject: Name,
    pub(crate) issuer: Name,
    /// The subjectAltName extension's content, DER.
    pub(crate) subject_alt_name: Option<Vec<u8>>,
    pub(crate) facility_id: Option<String>,
    pub(crate) facility_name: String,
    pub(crate) dns_names: Vec<String>,
}

impl Facts {
    pub(crate) fn read(der: &[u8]) -> der::Result<Self> {
        let certificate = Certificate::from_der(der)?.tbs_certificate;
        let moment = |time: x509_cert::time::Time| {
            let seconds = i64::try_from(time.to_unix_duration().as_secs()).unwrap_or(i64::MAX);
            OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH)
        };
        let subject_alt_name = certificate
            .extensions
            .iter()
            .flatten()
            .find(|extension| extension.extn_id == SUBJECT_ALT_NAME)
            .map(|extension| extension.extn_value.as_bytes().to_vec());
        let names = match &subject_alt_name {
            Some(content) => SubjectAltName::from_der(content)?.0,
            None => Vec::new(),
        };
        let facility_id = names.iter().find_map(|name| match name {
            GeneralName::UniformResourceIdentifier(uri) => {
                uri.as_str().strip_prefix(FACILITY_URN).map(str::to_owned)
            }
            _ => None,
        });
        let dns_names = names
            .iter()
            .filter_map(|name| match name {
                GeneralName::DnsName(name) => Some(name.as_str().to_ascii_lowercase()),
                _ => None,
            })
            .collect();
        Ok(Self {
            spki_der: certificate.subject_public_key_info.to_der()?,
            serial: hex(certificate.serial_number.as_bytes()),
            not_before: moment(certificate.validity.not_before),
            not_after: moment(certificate.validity.not_after),
            facility_name: organization(&certificate.subject).unwrap_or_default(),
            subject: certificate.subject,
            issuer: certificate.issuer,
            subject_alt_name,
            facility_id: facility_id.filter(|id| !id.is_empty()),
            dns_names,
        })
    }
}

fn organization(name: &Name) -> Option<String> {
    let attribute = name
        .0
        .iter()
        .flat_map(|set| set.0.iter())
        .find(|attribute| attribute.oid == ORGANIZATION)?;
    String::from_utf8(attribute.value.value().to_vec()).ok()
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
            // Writing to a String cannot fail.
            let _ = write!(out, "{byte:02x}");
            out
        })
}

/// A chain that passed, leaf first.
#[derive(Clone, Debug)]
pub(crate) struct Checked {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) facts: Facts,
}

/// The two kinds of certificate this box holds.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Use<'a> {
    /// Client authentication towards the city.
    Facility,
    /// Server authentication on the LAN, for all of these names.
    Lan(&'a [String]),
}

/// Finds the certificate for `spki_der` among what came back and judges it. `more` are further candidates for the
/// chain (from /cacerts); trust comes from `anchors` alone.
pub(crate) fn check(
    received: &[CertificateDer<'static>],
    more: &[CertificateDer<'static>],
    spki_der: &[u8],
    usage: Use<'_>,
    anchors: &Arc<RootCertStore>,
    now: OffsetDateTime,
) -> Result<Checked, ProvisioningError> {
    let parsed: Vec<_> = received
        .iter()
        .chain(more)
        .filter_map(|certificate| {
            Facts::read(certificate)
                .ok()
                .map(|facts| (certificate, facts))
        })
        .collect();
    let (leaf, facts) = parsed
        .iter()
        .find(|(_, facts)| facts.spki_der == spki_der)
        .ok_or(Failure::CertificateForOtherKey)?;
    // certs-only PKCS#7 is a SET: its order means nothing, so the chain is put together by names.
    let mut chain = vec![(*leaf).clone()];
    let mut last = facts;
    while let Some((next, next_facts)) = parsed.iter().find(|(_, candidate)| {
        candidate.subject == last.issuer
            && candidate.subject != candidate.issuer
            && candidate.spki_der != last.spki_der
    }) {
        if chain.len() == 6 {
            break;
        }
        chain.push((*next).clone());
        last = next_facts;
    }
    verify(&chain, usage, anchors, facts, now)?;
    match usage {
        Use::Facility if facts.facility_id.is_none() => {
            Err(Failure::CertificateForOtherFacility.into())
        }
        _ => Ok(Checked {
            chain,
            facts: facts.clone(),
        }),
    }
}

fn verify(
    chain: &[CertificateDer<'static>],
    usage: Use<'_>,
    anchors: &Arc<RootCertStore>,
    facts: &Facts,
    now: OffsetDateTime,
) -> Result<(), ProvisioningError> {
    use std::time::Duration;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let seconds = u64::try_from(now.unix_timestamp()).unwrap_or(0);
    let at = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
    let unusable = |error| ProvisioningError::because(Failure::AnchorUnusable, error);
    let judged = |error| ProvisioningError::because(judge(&error, facts, now), error);
    let (leaf, intermediates) = chain.split_first().ok_or(Failure::CertificateForOtherKey)?;
    match usage {
        Use::Facility => {
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::clone(anchors), provider)
                    .build()
                    .map_err(unusable)?;
            verifier
                .verify_client_cert(leaf, intermediates, at)
                .map_err(judged)?;
        }
        Use::Lan(names) => {
            let verifier =
                WebPkiServerVerifier::builder_with_provider(Arc::clone(anchors), provider)
                    .build()
                    .map_err(unusable)?;
            for name in names {
                let name = ServerName::try_from(name.as_str()).map_err(|error| {
                    ProvisioningError::because(Failure::CertificateForOtherUse, error)
                })?;
                verifier
                    .verify_server_cert(leaf, intermediates, &name, &[], at)
                    .map_err(judged)?;
            }
        }
    }
    Ok(())
}

fn judge(error: &rustls::Error, facts: &Facts, now: OffsetDateTime) -> Failure {
    use rustls::CertificateError as C;
    let rustls::Error::InvalidCertificate(error) = error else {
        return Failure::CertificateFromOtherIssuer;
    };
    match error {
        C::NotValidYet | C::NotValidYetContext { .. } => Failure::ClockBehind {
            clock: Some(now),
            at_least: Some(facts.not_before),
        },
        C::Expired | C::ExpiredContext { .. } => Failure::ClockAhead {
            clock: Some(now),
            at_most: Some(facts.not_after),
        },
        C::InvalidPurpose
        | C::InvalidPurposeContext { .. }
        | C::NotValidForName
        | C::NotValidForNameContext { .. } => Failure::CertificateForOtherUse,
        _ => Failure::CertificateFromOtherIssuer,
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{
        BasicConstraints, CertificateParams, CertifiedIssuer, DnType,
        ExtendedKeyUsagePurpose as Eku, IsCa, KeyPair, PublicKeyData as _, SanType,
    };
    use time::Duration;

    use super::*;

    struct City {
        issuer: CertifiedIssuer<'static, KeyPair>,
        anchors: Arc<RootCertStore>,
    }

    fn city(name: &str) -> City {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let mut anchors = RootCertStore::empty();
        anchors.add(issuer.der().clone()).unwrap();
        City {
            issuer,
            anchors: Arc::new(anchors),
        }
    }

    fn now() -> OffsetDateTime {
        OffsetDateTime::now_utc()
    }

    fn facility(
        city: &City,
        key: &KeyPair,
        change: impl FnOnce(&mut CertificateParams),
    ) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        params.not_before = now() - Duration::hours(1);
        params.not_after = now() + Duration::days(90);
        params
            .distinguished_name
            .push(DnType::OrganizationName, "花水木訪問看護");
        params.extended_key_usages = vec![Eku::ClientAuth];
        params.subject_alt_names = vec![SanType::URI(
            "urn:renraku:facility:tkh-1".try_into().unwrap(),
        )];
        change(&mut params);
        params.signed_by(key, &city.issuer).unwrap().der().clone()
    }

    fn judged(
        city: &City,
        key: &KeyPair,
        certificate: CertificateDer<'static>,
    ) -> Result<Checked, Failure> {
        check(
            &[certificate],
            &[],
            &key.subject_public_key_info(),
            Use::Facility,
            &city.anchors,
            now(),
        )
        .map_err(|error| error.failure().clone())
    }

    #[test]
    fn a_certificate_for_us_is_accepted_and_read() {
        let (city, key) = (city("A"), KeyPair::generate().unwrap());
        let checked = judged(&city, &key, facility(&city, &key, |_| {})).unwrap();
        assert_eq!(checked.facts.facility_id.as_deref(), Some("tkh-1"));
        assert_eq!(checked.facts.facility_name, "花水木訪問看護");
        assert_eq!(checked.chain.len(), 1);
    }

    #[test]
    fn a_certificate_for_another_key_is_refused() {
        let (city, key, other) = (
            city("A"),
            KeyPair::generate().unwrap(),
            KeyPair::generate().unwrap(),
        );
        let certificate = facility(&city, &other, |_| {});
        assert_eq!(
            judged(&city, &key, certificate).unwrap_err(),
            Failure::CertificateForOtherKey
        );
    }

    #[test]
    fn a_certificate_from_another_authority_is_refused() {
        let (ours, other, key) = (city("A"), city("A"), KeyPair::generate().unwrap());
        let certificate = facility(&other, &key, |_| {});
        assert_eq!(
            judged(&ours, &key, certificate).unwrap_err(),
            Failure::CertificateFromOtherIssuer
        );
    }

    #[test]
    fn a_server_certificate_is_refused_as_facility_certificate() {
        let (city, key) = (city("A"), KeyPair::generate().unwrap());
        let certificate = facility(&city, &key, |params| {
            params.extended_key_usages = vec![Eku::ServerAuth]
        });
        assert_eq!(
            judged(&city, &key, certificate).unwrap_err(),
            Failure::CertificateForOtherUse
        );
    }

    #[test]
    fn a_certificate_that_names_no_facility_is_refused() {
        let (city, key) = (city("A"), KeyPair::generate().unwrap());
        let certificate = facility(&city, &key, |params| params.subject_alt_names = vec![]);
        assert_eq!(
            judged(&city, &key, certificate).unwrap_err(),
            Failure::CertificateForOtherFacility
        );
    }

    #[test]
    fn a_certificate_from_the_future_points_at_the_clock() {
        let (city, key) = (city("A"), KeyPair::generate().unwrap());
        let certificate = facility(&city, &key, |params| {
            params.not_before = now() + Duration::days(3)
        });
        assert!(matches!(
            judged(&city, &key, certificate).unwrap_err(),
            Failure::ClockBehind { .. }
        ));
    }

    #[test]
    fn a_lan_certificate_must_carry_every_name() {
        let (city, key) = (city("A"), KeyPair::generate().unwrap());
        let mut params = CertificateParams::new(vec!["renraku.example".to_owned()]).unwrap();
        params.extended_key_usages = vec![Eku::ServerAuth];
        let certificate = params.signed_by(&key, &city.issuer).unwrap().der().clone();
        let spki = key.subject_public_key_info();
        let one = ["renraku.example".to_owned()];
        let two = ["renraku.example".to_owned(), "box.example".to_owned()];
        let chain = [certificate];
        check(&chain, &[], &spki, Use::Lan(&one), &city.anchors, now()).unwrap();
        let error = check(&chain, &[], &spki, Use::Lan(&two), &city.anchors, now()).unwrap_err();
        assert_eq!(error.failure(), &Failure::CertificateForOtherUse);
    }
}
