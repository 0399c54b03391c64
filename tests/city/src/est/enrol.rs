//! Who may have a certificate: number and access code, one-time use per key, locks, approval by hand, renewal.
//!
//! Does not read requests (`csr`) and does not speak HTTP beyond wording its refusals.

use super::csr::Csr;
use crate::ca::{FacilitySubject, Issued};
use crate::city::City;
use crate::problem::Problem;
use crate::secrets::{SaltedHash, bare};
use crate::store::access::{self, Registered};
use crate::store::numbers::{self, NumberRow, SAME_KEY_SECONDS, WRONG_CODES};
use crate::store::people;
use crate::times;
use axum::http::StatusCode;
use rusqlite::OptionalExtension as _;
use std::net::IpAddr;
use std::sync::Arc;
use zeroize::Zeroizing;

/// How soon a box that waits for approval may ask again, in seconds.
pub const APPROVAL_RETRY: u64 = 5;

/// A number and an access code as they came in.
pub struct Credentials {
    /// The certificate number.
    pub number: Zeroizing<String>,
    /// The access code.
    pub code: Zeroizing<String>,
}

/// The key a certificate is wanted for.
#[derive(Debug, Clone)]
pub struct WantedKey {
    /// Public key, DER.
    pub spki_der: Vec<u8>,
    /// SHA-256 of it.
    pub spki: Vec<u8>,
    /// URIs that the request names; only the facility's own is fitting.
    pub uris: Vec<String>,
    /// Whether attestation evidence came along.
    pub evidence: bool,
    /// Recorded with the certificate: `number` or `pkcs12`.
    pub origin: &'static str,
}

/// What became of an application.
#[derive(Debug)]
pub enum Outcome {
    /// The certificate, DER.
    Certificate(Vec<u8>),
    /// Someone at the city has to approve first.
    Waiting,
}

/// Grants or refuses a facility certificate for a number and its code.
///
/// # Errors
/// A problem for every refusal; unknown number and wrong code are the same one.
pub async fn with_number(
    city: &Arc<City>,
    from: IpAddr,
    credentials: &Credentials,
    wanted: WantedKey,
) -> Result<Outcome, Problem> {
    if city.too_many_wrong(from) {
        return Err(too_many());
    }
    let key = city.lookup.of_number(&credentials.number);
    let number = check_code(city, from, &key, credentials).await?;
    let now = times::now();
    let own = format!("urn:renraku:facility:{}", number.facility);
    if wanted.uris.iter().any(|uri| *uri != own) {
        return Err(foreign_name());
    }
    match (&number.spki, number.used) {
        (Some(spki), Some(used)) if *spki == wanted.spki && now - used < SAME_KEY_SECONDS => {
            let certificate = number.certificate.ok_or_else(used_up)?;
            return Ok(Outcome::Certificate(certificate));
        }
        (Some(spki), None) if *spki == wanted.spki => {}
        (None, None) => {}
        _ => return Err(used_up()),
    }
    if number.expires <= now {
        return Err(Problem::new(
            StatusCode::FORBIDDEN,
            "number-expired",
            "この電子証明書取得用番号は期限が切れています。",
            "市に新しい番号の発行を依頼してください。",
        ));
    }
    if number.manual && !number.approved {
        let spki = wanted.spki;
        city.store
            .run(move |c| numbers::bind(c, &key, &spki))
            .await?;
        return Ok(Outcome::Waiting);
    }
    let subject = subject_of(city, &number.facility).await?;
    let issued = sign(city, &wanted.spki_der, &subject)?;
    let spent = city
        .store
        .run(move |c| {
            let certificate = Registered {
                issued: &issued,
                facility: &subject.id,
                purpose: "facility",
                spki: &wanted.spki,
                origin: wanted.origin,
                evidence: wanted.evidence,
            };
            numbers::spend(c, &key, &certificate, times::now())
        })
        .await?;
    spent
        .map(|issued| Outcome::Certificate(issued.der))
        .ok_or_else(used_up)
}

/// Finds the number and compares the code; every path hashes once, so that time does not tell them apart.
async fn check_code(
    city: &Arc<City>,
    from: IpAddr,
    key: &[u8],
    credentials: &Credentials,
) -> Result<NumberRow, Problem> {
    let looked_up = key.to_vec();
    let (found, failures) = city
        .store
        .run(move |c| {
            Ok((
                numbers::find(c, &looked_up)?,
                numbers::failures(c, &looked_up)?,
            ))
        })
        .await?;
    if failures >= WRONG_CODES {
        return Err(Problem::new(
            StatusCode::FORBIDDEN,
            "number-locked",
            "アクセスコードの間違いが続いたため、この番号は使えなくなりました。",
            "市に新しい電子証明書取得用番号の発行を依頼してください。",
        ));
    }
    let hash = found
        .as_ref()
        .map_or_else(SaltedHash::of_nothing, |row| row.code.clone());
    let code = bare(&credentials.code);
    let right = tokio::task::spawn_blocking(move || hash.matches(&code))
        .await
        .unwrap_or(false);
    let key = key.to_vec();
    match found {
        Some(row) if right => {
            city.store
                .run(move |c| numbers::clear_failures(c, &key))
                .await?;
            Ok(row)
        }
        _ => {
            city.count_wrong(from);
            city.store
                .run(move |c| numbers::count_failure(c, &key, times::now()))
                .await?;
            Err(unauthorised())
        }
    }
}

/// Renews a certificate for a new key; the old certificate stays in force until it ends or is revoked.
///
/// # Errors
/// When the key is known already, or the request names another subject.
pub async fn renew(
    city: &Arc<City>,
    old: &crate::tls::ClientCertificate,
    csr: &Csr,
) -> Result<Vec<u8>, Problem> {
    // RFC 7030 section 4.2.2: subject and subjectAltName must be those of the certificate being renewed.
    if !csr.subject.0.is_empty() && !super::csr::same_name(&csr.subject, &old.subject) {
        return Err(refused(
            "更新では、今の電子証明書と同じ名義だけを求められます。",
        ));
    }
    if let Some(before) = renewed_before(city, &old.facility, &csr.spki).await? {
        return Ok(before);
    }
    let spki = csr.spki.clone();
    if city.store.run(move |c| access::key_known(c, &spki)).await? {
        return Err(refused("更新には、新しく作った鍵が必要です。"));
    }
    let subject = subject_of(city, &old.facility).await?;
    let issued = sign(city, &csr.spki_der, &subject)?;
    let der = issued.der.clone();
    let (spki, evidence) = (csr.spki.clone(), csr.evidence);
    let before = old.serial.clone();
    city.store
        .run(move |c| {
            let certificate = Registered {
                issued: &issued,
                facility: &subject.id,
                purpose: "facility",
                spki: &spki,
                origin: "renewal",
                evidence,
            };
            access::register(c, &certificate, times::now())?;
            access::succeeds(c, &issued.serial, &before)
        })
        .await?;
    Ok(der)
}

/// The same new key asking again within a day gets the same certificate: a power cut must not cost a renewal.
async fn renewed_before(
    city: &Arc<City>,
    facility: &str,
    spki: &[u8],
) -> Result<Option<Vec<u8>>, Problem> {
    let (facility, spki) = (facility.to_owned(), spki.to_vec());
    let oldest = times::now() - SAME_KEY_SECONDS;
    let found = city
        .store
        .run(move |c| {
            c.query_row(
                "SELECT der FROM certificates WHERE spki = ?1 AND facility = ?2 AND origin = 'renewal'
                 AND issued > ?3 AND revoked IS NULL",
                rusqlite::params![spki, facility, oldest],
                |row| row.get(0),
            )
            .optional()
        })
        .await?;
    Ok(found)
}

/// Signs a server certificate for a facility's own network.
///
/// # Errors
/// When the request names anything but the allowed hosts, or reuses the facility certificate's key.
pub async fn lan(
    city: &Arc<City>,
    holder: &crate::tls::ClientCertificate,
    csr: &Csr,
    allowed: &[&str],
) -> Result<Vec<u8>, Problem> {
    let fitting = |name: &String| allowed.contains(&name.as_str());
    if csr.dns_names.is_empty() || !csr.uris.is_empty() || !csr.dns_names.iter().all(fitting) {
        return Err(refused(
            "この証明書に入れられる名前は、市のサイトと施設の箱の名前だけです。",
        ));
    }
    if csr.spki == holder.spki {
        return Err(refused("電子証明書とは別の鍵を作ってください。"));
    }
    let subject = subject_of(city, &holder.facility).await?;
    let issued = city
        .ca
        .lan_certificate(&csr.spki_der, &subject, &csr.dns_names)
        .map_err(|error| Problem::internal(&error))?;
    let der = issued.der.clone();
    let spki = csr.spki.clone();
    city.store
        .run(move |c| {
            let certificate = Registered {
                issued: &issued,
                facility: &subject.id,
                purpose: "lan",
                spki: &spki,
                origin: "lan",
                evidence: false,
            };
            access::register(c, &certificate, times::now())
        })
        .await?;
    Ok(der)
}

/// The subject of a facility's certificates; refuses a suspended facility.
///
/// # Errors
/// When the facility is suspended.
pub async fn subject_of(city: &Arc<City>, facility: &str) -> Result<FacilitySubject, Problem> {
    let id = facility.to_owned();
    match city.store.run(move |c| people::facility(c, &id)).await? {
        Some(facility) if !facility.suspended => Ok(FacilitySubject {
            id: facility.id,
            name: facility.name,
        }),
        _ => Err(crate::staff::guard::facility_suspended()),
    }
}

fn sign(city: &Arc<City>, spki_der: &[u8], subject: &FacilitySubject) -> Result<Issued, Problem> {
    let valid =
        time::Duration::try_from(city.settings.facility_validity).unwrap_or(time::Duration::DAY);
    city.ca
        .facility_certificate(spki_der, subject, valid)
        .map_err(|error| Problem::internal(&error))
}

/// The one answer to an unknown number and to a wrong code.
#[must_use]
pub fn unauthorised() -> Problem {
    Problem::new(
        StatusCode::UNAUTHORIZED,
        "number-or-code",
        "電子証明書取得用番号またはアクセスコードが違います。",
        "市から届いた書類をご確認のうえ、もう一度入力してください。",
    )
}

fn used_up() -> Problem {
    Problem::new(
        StatusCode::FORBIDDEN,
        "number-used",
        "この電子証明書取得用番号は、すでに使われています。",
        "市に新しい番号の発行を依頼してください。",
    )
}

/// Too many wrong answers from one address.
#[must_use]
pub fn too_many() -> Problem {
    Problem::new(
        StatusCode::TOO_MANY_REQUESTS,
        "too-many",
        "間違いが続いたため、しばらく受け付けられません。",
        "1分ほど待ってから、もう一度お試しください。",
    )
    .retry_after(60)
}

/// A request that asks for what it may not.
#[must_use]
pub fn refused(detail: &'static str) -> Problem {
    Problem::new(
        StatusCode::BAD_REQUEST,
        "csr-refused",
        "証明書の申請を受け付けられません。",
        detail,
    )
}

/// A request that names what is not the applicant's.
#[must_use]
pub fn foreign_name() -> Problem {
    refused("申請に、入れられない名前が含まれています。")
}
