//! What programs on devices ask over HTTP. The data path carries requests here and answers back; no page is made here.
//!
//! | path below `/device/` | who | what |
//! |---|---|---|
//! | `POST v1/pair` | anybody | asks to be let in |
//! | `GET v1/pair` | whoever asked, by the secret it was given | how that stands |
//! | `POST v1/pair/collect` | the same | the certificate, once a manager has approved |
//! | `GET v1/ca.pem` | anybody | the authority's certificates |
//! | `GET v1/windows.ps1` | anybody | the script for Windows |
//! | `GET v1/osquery.flags` | anybody | osquery's flags |
//! | `GET v1/queries.json` | anybody | everything osquery is ever asked: staff may read it |
//! | `POST v1/renew` | registered device | another certificate |
//! | `GET v1/nonce`, `POST v1/report` | registered device | the script's report |
//! | `POST osquery/v1/{enroll,config,log}` | registered device | osquery |

mod answer;

use std::net::IpAddr;

use gateway_policy::{DeviceId, Source, Timestamp};
use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use zeroize::Zeroizing;

pub use answer::ApiResponse;
use answer::Problem;

use crate::certificate_request::pem;
use crate::devices::pair::Wish;
use crate::pairing::{Collected, PairingState};
use crate::{CertificateRequest, Devices, Error, Kind, Name, osquery, script};

/// A body without gzip: a report with all programs has some hundred kilobytes.
const LARGEST_BODY: usize = 1 << 20;

/// A pairing carries a certificate request or a chain.
const LARGEST_PAIRING: usize = 32 * 1024;

/// A request as this API reads it.
#[derive(Clone)]
pub struct ApiRequest<'a> {
    /// Method.
    pub method: &'a Method,
    /// Path, still percent-encoded.
    pub path: &'a str,
    /// Host and port as the client wrote them: what it is to use again.
    pub authority: &'a str,
    /// `Content-Type`.
    pub content_type: Option<&'a str>,
    /// `Content-Encoding`.
    pub content_encoding: Option<&'a str>,
    /// `Authorization`.
    pub authorization: Option<&'a str>,
    /// Body.
    pub body: &'a [u8],
    /// The device whose certificate was shown.
    pub device: Option<DeviceId>,
    /// Its address.
    pub peer: IpAddr,
}

impl std::fmt::Debug for ApiRequest<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiRequest")
            .field("method", &self.method)
            .field("device", &self.device)
            .finish_non_exhaustive()
    }
}

impl<'a> ApiRequest<'a> {
    /// The secret of a pairing, `Authorization: Bearer …` (RFC 6750 section 2.1).
    fn bearer(&self) -> Result<&'a str, Problem> {
        self.authorization
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, token)| token.trim())
            .ok_or(Problem::NoSuchPairing)
    }

    fn device(&self) -> Result<DeviceId, Problem> {
        self.device.ok_or(Problem::NotRegistered)
    }

    /// A page of another site can make a browser send a form, but not this type without asking first (CORS).
    fn json<T: Deserialize<'a>>(&self, largest: usize) -> Result<T, Problem> {
        let is_json = self
            .content_type
            .and_then(|value| value.split(';').next())
            .is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"));
        if !is_json {
            return Err(Problem::MediaType);
        }
        if self.body.len() > largest {
            return Err(Problem::TooLarge);
        }
        serde_json::from_slice(self.body).map_err(|_| Problem::Malformed)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PairWish {
    name: String,
    kind: String,
    csr: Option<String>,
    certificate: Option<String>,
    hardware_uuid: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RenewWish {
    csr: Option<String>,
}

impl Devices {
    /// Whether a path is this API's.
    #[must_use]
    pub fn serves(path: &str) -> bool {
        path.starts_with("/device/")
    }

    /// Answers one request. Blocks on the register and, where a certificate is made, on the TPM.
    #[must_use]
    pub fn handle(&self, request: &ApiRequest<'_>, now: Timestamp) -> ApiResponse {
        let path = request.path.strip_prefix("/device/").unwrap_or_default();
        if let Some(call) = path.strip_prefix("osquery/v1/") {
            return self.osquery(request, call, now);
        }
        self.route(request, path, now)
            .unwrap_or_else(|problem| problem.response())
    }

    fn route(
        &self,
        request: &ApiRequest<'_>,
        path: &str,
        now: Timestamp,
    ) -> Result<ApiResponse, Problem> {
        let (get, post) = (
            matches!(*request.method, Method::GET | Method::HEAD),
            *request.method == Method::POST,
        );
        match path {
            "v1/pair" if post => self.pair(request, now),
            "v1/pair" if get => self.pair_state(request, now),
            "v1/pair/collect" if post => self.pair_collect(request, now),
            "v1/renew" if post => self.renew_certificate(request, now),
            "v1/nonce" if get => self.give_nonce(request, now),
            "v1/report" if post => self.report_of_script(request, now),
            "v1/ca.pem" if get => self.authority_pem(now),
            "v1/windows.ps1" if get => Ok(answer::script(request.authority)),
            "v1/osquery.flags" if get => Ok(answer::flags(request.authority)),
            "v1/queries.json" if get => Ok(answer::json(
                StatusCode::OK,
                &json!({
                    "windows": osquery::schedule(Kind::Windows)["schedule"],
                    "macos": osquery::schedule(Kind::Mac)["schedule"],
                    "linux": osquery::schedule(Kind::Linux)["schedule"],
                }),
            )),
            "v1/pair" => Err(Problem::Method("GET, HEAD, POST")),
            "v1/pair/collect" | "v1/renew" | "v1/report" => Err(Problem::Method("POST")),
            "v1/nonce" | "v1/ca.pem" | "v1/windows.ps1" | "v1/osquery.flags"
            | "v1/queries.json" => Err(Problem::Method("GET, HEAD")),
            _ => Err(Problem::NotFound),
        }
    }

    fn pair(&self, request: &ApiRequest<'_>, now: Timestamp) -> Result<ApiResponse, Problem> {
        let wish: PairWish = request.json(LARGEST_PAIRING)?;
        let (Some(name), Some(kind)) = (Name::parse(&wish.name), Kind::parse(&wish.kind)) else {
            return Err(Problem::Malformed);
        };
        let ticket = self.ask(
            &Wish {
                name,
                kind,
                request: wish.csr.as_deref(),
                certificate: wish.certificate.as_deref(),
                hardware_uuid: wish.hardware_uuid.as_deref(),
                device: request.device,
                peer: request.peer,
            },
            now,
        )?;
        let ticket = ticket.ok_or(Problem::TooMany)?;
        Ok(answer::json(
            StatusCode::CREATED,
            &json!({
                "token": ticket.token.as_str(), "code": ticket.code.as_str(), "expires": ticket.until.0,
            }),
        ))
    }

    fn pair_state(&self, request: &ApiRequest<'_>, now: Timestamp) -> Result<ApiResponse, Problem> {
        let state = match self.pairing(request.bearer()?, now) {
            PairingState::Waiting { code, until, .. } => {
                json!({ "state": "waiting", "code": code.as_str(), "expires": until.0 })
            }
            PairingState::Approved {
                password, until, ..
            } => json!({
                "state": "approved", "expires": until.0,
                "password": password.as_ref().map(|password| password.as_str()),
            }),
            PairingState::Refused => json!({ "state": "refused" }),
            PairingState::Gone => return Err(Problem::NoSuchPairing),
        };
        Ok(answer::json(StatusCode::OK, &state))
    }

    fn pair_collect(
        &self,
        request: &ApiRequest<'_>,
        now: Timestamp,
    ) -> Result<ApiResponse, Problem> {
        let token = request.bearer()?;
        match self.collect(token, now)? {
            Collected::Chain(chain) => {
                // A program that has read the answer does not come again; one that has not, asks anew for ten minutes.
                let chain = pem("CERTIFICATE", chain.iter().map(AsRef::as_ref));
                Ok(answer::json(
                    StatusCode::OK,
                    &json!({ "certificate": chain }),
                ))
            }
            Collected::Bundle(bundle) => Ok(answer::file(
                bundle.kind.media_type(),
                bundle.kind.file_name(),
                bundle.content.to_vec(),
            )),
            Collected::Nothing => {
                self.end_pairing(token);
                Ok(answer::json(
                    StatusCode::OK,
                    &json!({ "certificate": null }),
                ))
            }
        }
    }

    fn renew_certificate(
        &self,
        request: &ApiRequest<'_>,
        now: Timestamp,
    ) -> Result<ApiResponse, Problem> {
        let device = request.device()?;
        let wish: RenewWish = request.json(LARGEST_PAIRING)?;
        match wish.csr {
            Some(csr) => {
                let csr = CertificateRequest::from_text(&csr).map_err(|_| Problem::Malformed)?;
                let issued = self.renew(device, &csr, now)?;
                let chain = pem("CERTIFICATE", issued.chain.iter().map(AsRef::as_ref));
                Ok(answer::json(
                    StatusCode::OK,
                    &json!({ "certificate": chain, "expires": issued.not_after.0 }),
                ))
            }
            None => {
                use base64::Engine as _;
                let (bundle, password) = self.renew_file(device, now)?;
                let content = base64::engine::general_purpose::STANDARD.encode(&*bundle.content);
                Ok(answer::json(
                    StatusCode::OK,
                    &json!({
                        "file": content, "media_type": bundle.kind.media_type(),
                        "name": bundle.kind.file_name(), "password": password.as_str(),
                    }),
                ))
            }
        }
    }

    fn authority_pem(&self, now: Timestamp) -> Result<ApiResponse, Problem> {
        self.ready_authority(now)?;
        let all = self.authorities()?;
        let text = pem("CERTIFICATE", all.iter().map(AsRef::as_ref));
        Ok(answer::text("application/x-pem-file", text))
    }

    fn give_nonce(&self, request: &ApiRequest<'_>, now: Timestamp) -> Result<ApiResponse, Problem> {
        let (nonce, counter) = self.nonce(request.device()?, now)?;
        Ok(answer::json(
            StatusCode::OK,
            &json!({ "nonce": nonce.as_str(), "counter": counter }),
        ))
    }

    fn report_of_script(
        &self,
        request: &ApiRequest<'_>,
        now: Timestamp,
    ) -> Result<ApiResponse, Problem> {
        let device = request.device()?;
        // Read as JSON twice, first for the type of the body only.
        let _: Value = request.json(LARGEST_BODY)?;
        let sent = script::read(request.body, now.0).ok_or(Problem::Malformed)?;
        if self.script_report(device, sent, now)? {
            Ok(ApiResponse::empty(StatusCode::NO_CONTENT))
        } else {
            Err(Problem::Replayed)
        }
    }

    /// Always JSON, and always 200: osquery looks at nothing else.
    fn osquery(&self, request: &ApiRequest<'_>, call: &str, now: Timestamp) -> ApiResponse {
        let answer = self
            .osquery_call(request, call, now)
            .unwrap_or_else(|error| {
                tracing::warn!(event = "device-agent", %error, "a request of osquery failed");
                None
            })
            .unwrap_or_else(osquery::node_invalid);
        answer::json(StatusCode::OK, &answer)
    }

    fn osquery_call(
        &self,
        request: &ApiRequest<'_>,
        call: &str,
        now: Timestamp,
    ) -> Result<Option<Value>, Error> {
        let (Some(device), true) = (request.device, *request.method == Method::POST) else {
            return Ok(None);
        };
        let Some(body) = osquery::unpack(request.content_encoding, request.body) else {
            return Ok(None);
        };
        let body = Zeroizing::new(body);
        match call {
            "enroll" => {
                let Some(enrolment) = osquery::read_enrolment(&body) else {
                    return Ok(None);
                };
                let key = self.enrol_node(device, &enrolment)?;
                Ok(key.map(|key| osquery::enrolled(&key)))
            }
            "config" => {
                let known = match osquery::read_config(&body) {
                    Some(key) => self.is_node(device, &key)?,
                    None => false,
                };
                if !known {
                    return Ok(None);
                }
                let kind = self.in_good_standing(device)?.kind;
                Ok(Some(osquery::schedule(kind)))
            }
            "log" => {
                let Some(log) = osquery::read_log(&body, now.0) else {
                    return Ok(None);
                };
                if !self.is_node(device, &log.node_key)? {
                    return Ok(None);
                }
                self.in_good_standing(device)?;
                self.take_report(device, log.report, Source::Agent, now)?;
                Ok(Some(osquery::taken()))
            }
            // No distributed queries, no carving: there is nobody to ask anything.
            _ => Ok(None),
        }
    }
}
