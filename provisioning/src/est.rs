//! The enrolment exchanges over one connection (EST: RFC 7030, clarified by 8951 and 9908).
//!
//! It does not decide what to ask for or what to make of the answers, and it never repeats a request by itself: every
//! repetition of a wrong code brings the number closer to its lock.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use cms::cert::CertificateChoices;
use cms::content_info::ContentInfo;
use cms::signed_data::SignedData;
use der::oid::ObjectIdentifier;
use der::{Decode as _, Encode as _};
use gateway_city::https::{self, HttpsConnection};
use gateway_city::{CityError, Endpoint, Timeouts};
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::Full;
use rustls::ClientConfig;
use rustls::pki_types::CertificateDer;
use time::OffsetDateTime;
use zeroize::Zeroizing;

/// The longest answer read, in bytes.
const MAX_ANSWER: usize = 256 * 1024;
/// When a 202 names no time (RFC 7030 §4.2.3 demands one).
const DEFAULT_WAIT: Duration = Duration::from_secs(60);

const SIGNED_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.2");
const EC_PUBLIC_KEY: &[u8] = &[0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const PRIME256V1: &[u8] = &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const RSA_ENCRYPTION: &[u8] = &[
    0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01,
];

/// What came back for a request.
#[derive(Debug)]
pub(crate) enum Answer {
    /// Certificates in no particular order.
    Certificates(Vec<CertificateDer<'static>>),
    /// 202: a person at the city approves first; ask again after this time.
    Wait(Duration),
    /// 401.
    Unauthorized,
}

/// One connection to the enrolment server.
#[derive(Debug)]
pub(crate) struct Est {
    connection: HttpsConnection,
    /// The city's clock, from the last answer's `Date`.
    pub(crate) date: Option<OffsetDateTime>,
}

impl Est {
    pub(crate) async fn connect(
        endpoint: &Endpoint,
        config: std::sync::Arc<ClientConfig>,
        timeouts: Timeouts,
    ) -> Result<Self, CityError> {
        Ok(Self {
            connection: HttpsConnection::connect(endpoint, config, timeouts).await?,
            date: None,
        })
    }

    /// What ties a request to this connection (RFC 9266).
    pub(crate) const fn channel_binding(&self) -> &[u8; 32] {
        self.connection.channel_binding()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.connection.is_closed()
    }

    /// `GET /cacerts` (RFC 7030 §4.1): candidates for chains. Never anchors: trust was shipped with the box.
    pub(crate) async fn cacerts(&mut self) -> Result<Vec<CertificateDer<'static>>, CityError> {
        let response = self.get("/.well-known/est/cacerts").await?;
        certificates(response.body()).ok_or_else(|| self.unintelligible("cacerts"))
    }

    /// `GET /csrattrs` (RFC 7030 §4.5, RFC 9908). This box makes ECDSA P-256 keys and no others; true when that is
    /// what the city wants, or when it states no wish.
    pub(crate) async fn wants_p256(&mut self) -> Result<bool, CityError> {
        match self.get("/.well-known/est/csrattrs").await {
            Ok(response) if response.body().is_empty() => Ok(true),
            Ok(response) => {
                let der = unwrap(response.body()).ok_or_else(|| self.unintelligible("csrattrs"))?;
                Ok(accepts_p256(&der))
            }
            // Both mean "no attributes" (§4.5.2).
            Err(CityError::Refused {
                status: StatusCode::NOT_FOUND | StatusCode::NO_CONTENT,
                ..
            }) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Posts a request (DER) to `path` below `/.well-known/est/`. `basic` is the finished `Authorization` value.
    pub(crate) async fn enroll(
        &mut self,
        path: &'static str,
        request_der: &[u8],
        basic: Option<Zeroizing<Vec<u8>>>,
    ) -> Result<Answer, CityError> {
        let mut request = Request::new(Full::new(Bytes::from(STANDARD.encode(request_der))));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = Uri::from_static(path);
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/pkcs10"));
        headers.insert(
            HeaderName::from_static("content-transfer-encoding"),
            HeaderValue::from_static("base64"),
        );
        headers.insert(ACCEPT, HeaderValue::from_static("application/pkcs7-mime"));
        if let Some(basic) = basic {
            // Not copied: the header borrows the wiped buffer, and "sensitive" keeps it out of HPACK's tables. What
            // HTTP and TLS write into their own buffers on the way out is beyond our reach; core dumps are off.
            let mut value = HeaderValue::from_maybe_shared(Bytes::from_owner(basic))
                .map_err(|_| self.unintelligible("credentials"))?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        let response = match self.connection.fetch(request, MAX_ANSWER).await {
            Ok(response) => response,
            Err(CityError::Refused {
                status: StatusCode::UNAUTHORIZED,
                ..
            }) => return Ok(Answer::Unauthorized),
            Err(error) => return Err(error),
        };
        self.date = https::date(&response).or(self.date);
        if response.status() == StatusCode::ACCEPTED {
            let now = self.date.unwrap_or_else(OffsetDateTime::now_utc);
            let wait = response
                .headers()
                .get(RETRY_AFTER)
                .and_then(|value| value.to_str().ok())
                .and_then(|value| gateway_city::backoff::parse_retry_after(value, now));
            return Ok(Answer::Wait(wait.unwrap_or(DEFAULT_WAIT)));
        }
        let certificates =
            certificates(response.body()).filter(|certificates| !certificates.is_empty());
        certificates
            .map(Answer::Certificates)
            .ok_or_else(|| self.unintelligible("certificates"))
    }

    async fn get(&mut self, path: &'static str) -> Result<Response<Bytes>, CityError> {
        let mut request = Request::new(Full::default());
        *request.uri_mut() = Uri::from_static(path);
        let response = self.connection.fetch(request, MAX_ANSWER).await?;
        self.date = https::date(&response).or(self.date);
        Ok(response)
    }

    fn unintelligible(&self, what: &'static str) -> CityError {
        CityError::Protocol {
            host: self.connection.endpoint().host.clone(),
            what,
        }
    }
}

/// Base64 with or without line breaks (RFC 8951 §3.1), or, from careless servers, raw DER.
fn unwrap(body: &[u8]) -> Option<Vec<u8>> {
    if body.first() == Some(&0x30) && body.get(1).is_some_and(|byte| *byte >= 0x80) {
        return Some(body.to_vec());
    }
    let text: Vec<u8> = body
        .iter()
        .copied()
        .filter(|byte| !byte.is_ascii_whitespace())
        .collect();
    STANDARD.decode(text).ok()
}

/// The certificates of a certs-only PKCS#7 (RFC 7030 §4.1.3, RFC 5652).
fn certificates(body: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    let content = ContentInfo::from_der(&unwrap(body)?).ok()?;
    if content.content_type != SIGNED_DATA {
        return None;
    }
    let signed: SignedData = content.content.decode_as().ok()?;
    let mut out = Vec::new();
    for choice in signed.certificates?.0.iter() {
        if let CertificateChoices::Certificate(certificate) = choice {
            out.push(CertificateDer::from(certificate.to_der().ok()?));
        }
    }
    Some(out)
}

/// True unless the attributes name key types and P-256 is not among them.
fn accepts_p256(der: &[u8]) -> bool {
    let names = |oid: &[u8]| der.windows(oid.len()).any(|window| window == oid);
    names(PRIME256V1) || (!names(EC_PUBLIC_KEY) && !names(RSA_ENCRYPTION))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn base64_is_read_whether_wrapped_or_not() {
        let der = [0x30, 0x03, 0x02, 0x01, 0x05];
        assert_eq!(
            unwrap(STANDARD.encode(der).as_bytes()).as_deref(),
            Some(&der[..])
        );
        assert_eq!(unwrap(b"MAM\r\nCAQ\nU=\r\n").as_deref(), Some(&der[..]));
        assert_eq!(unwrap("いろは".as_bytes()), None);
    }

    #[test]
    fn a_city_that_wants_other_keys_is_noticed() {
        assert!(accepts_p256(&[]));
        assert!(accepts_p256(&[EC_PUBLIC_KEY, PRIME256V1].concat()));
        assert!(!accepts_p256(EC_PUBLIC_KEY));
        assert!(!accepts_p256(RSA_ENCRYPTION));
        assert!(accepts_p256(&[RSA_ENCRYPTION, PRIME256V1].concat()));
    }

    proptest! {
        #[test]
        fn no_answer_makes_the_parser_panic(body in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = certificates(&body);
            let _ = certificates(STANDARD.encode(&body).as_bytes());
        }
    }
}
