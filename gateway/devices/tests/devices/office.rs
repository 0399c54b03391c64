//! A register on a TPM of its own, a clock, and a client that sends what devices send.

use std::net::IpAddr;
use std::sync::Arc;

use gateway_devices::{ApiRequest, ApiResponse, Config, Devices};
use gateway_policy::{Check, DeviceId, Observation, Observed, Timestamp};
use gateway_tpm::TpmVault;
use http::Method;
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::CertificateDer;
use serde_json::Value;
use tempfile::TempDir;
use test_harness::swtpm::Swtpm;

/// A register that is open.
pub(crate) struct Office {
    pub(crate) devices: Devices,
    pub(crate) now: Timestamp,
    pub(crate) vault: Arc<TpmVault>,
    pub(crate) directory: TempDir,
    pub(crate) tpm: Swtpm,
}

/// One request; everything else is the ordinary case.
pub(crate) struct Ask<'a> {
    pub(crate) method: Method,
    pub(crate) path: &'a str,
    pub(crate) body: &'a [u8],
    pub(crate) content_type: Option<&'a str>,
    pub(crate) coding: Option<&'a str>,
    pub(crate) bearer: Option<&'a str>,
    pub(crate) device: Option<DeviceId>,
}

impl Ask<'_> {
    pub(crate) fn get(path: &str) -> Ask<'_> {
        Ask {
            method: Method::GET,
            path,
            body: b"",
            content_type: None,
            coding: None,
            bearer: None,
            device: None,
        }
    }

    pub(crate) fn post<'a>(path: &'a str, body: &'a [u8]) -> Ask<'a> {
        Ask {
            method: Method::POST,
            body,
            content_type: Some("application/json"),
            ..Ask::get(path)
        }
    }
}

impl Office {
    pub(crate) fn open() -> Self {
        Self::open_with(Vec::new())
    }

    pub(crate) fn open_with(city_authorities: Vec<CertificateDer<'static>>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let tpm = Swtpm::start(&directory.path().join("tpm")).unwrap();
        let config = gateway_tpm::Config::new(tpm.tcti(), directory.path().join("state"));
        let vault = Arc::new(TpmVault::open(config.allow_software_tpm()).unwrap());
        let config = Config {
            directory: directory.path().join("devices"),
            city_authorities: city_authorities.clone(),
            anchors: city_authorities,
        };
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap();
        Self {
            devices: Devices::open(config, Arc::clone(&vault) as _).unwrap(),
            now: Timestamp(i64::try_from(now.as_secs()).unwrap()),
            vault,
            directory,
            tpm,
        }
    }

    pub(crate) fn ask(&self, ask: &Ask<'_>) -> ApiResponse {
        let authorization = ask.bearer.map(|token| format!("Bearer {token}"));
        self.devices.handle(
            &ApiRequest {
                method: &ask.method,
                path: ask.path,
                authority: "box.takahagi.localhost:8443",
                content_type: ask.content_type,
                content_encoding: ask.coding,
                authorization: authorization.as_deref(),
                body: ask.body,
                device: ask.device,
                peer: IpAddr::from([192, 0, 2, 7]),
            },
            self.now,
        )
    }

    pub(crate) fn json(&self, ask: &Ask<'_>) -> (u16, Value) {
        let answer = self.ask(ask);
        (
            answer.status.as_u16(),
            serde_json::from_slice(&answer.body).unwrap_or(Value::Null),
        )
    }

    /// Asks with a key of its own; answers with token and code.
    pub(crate) fn ask_to_be_let_in(&self, wish: &Value) -> (String, String) {
        let (status, ticket) =
            self.json(&Ask::post("/device/v1/pair", wish.to_string().as_bytes()));
        assert_eq!(status, 201, "{ticket}");
        let text = |key: &str| ticket[key].as_str().unwrap().to_owned();
        (text("token"), text("code"))
    }

    /// What a manager does who has read the code off the screen.
    pub(crate) fn approve(&self, code: &str) -> DeviceId {
        let waiting = self.devices.pairing_with_code(code, self.now).unwrap();
        self.devices
            .approve(&waiting.id, false, "m-1", self.now)
            .unwrap()
    }

    /// A device that is registered and holds a certificate.
    pub(crate) fn registered(
        &self,
        kind: &str,
        hardware: Option<&str>,
    ) -> (DeviceId, CertificateDer<'static>) {
        let (_, csr) = request();
        let wish = serde_json::json!({"name": "事務室1", "kind": kind, "csr": csr, "hardware_uuid": hardware});
        let (token, code) = self.ask_to_be_let_in(&wish);
        let id = self.approve(&code);
        let collect = Ask {
            bearer: Some(&token),
            ..Ask::post("/device/v1/pair/collect", b"")
        };
        let (status, answer) = self.json(&collect);
        assert_eq!(status, 200, "{answer}");
        let chain = certificates(answer["certificate"].as_str().unwrap());
        (id, chain[0].clone())
    }

    /// What was observed since this was asked last, of one check of one device.
    pub(crate) fn observed(&self, id: DeviceId) -> Vec<Observed> {
        let effects = self.devices.take_effects();
        effects
            .observed
            .into_iter()
            .filter(|(device, _)| *device == id)
            .map(|(_, observed)| observed)
            .collect()
    }

    pub(crate) fn last(&self, id: DeviceId, check: Check) -> Option<Observation> {
        self.observed(id)
            .into_iter()
            .filter(|observed| observed.check == check)
            .map(|observed| observed.observation)
            .next_back()
    }
}

/// A key and a request for it, PEM.
pub(crate) fn request() -> (KeyPair, String) {
    let key = KeyPair::generate().unwrap();
    let request = CertificateParams::default()
        .serialize_request(&key)
        .unwrap();
    let pem = request.pem().unwrap();
    (key, pem)
}

pub(crate) fn certificates(pem: &str) -> Vec<CertificateDer<'static>> {
    use rustls::pki_types::pem::PemObject as _;
    CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .unwrap()
}
