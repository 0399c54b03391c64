//! The register of devices at work: what follows from it is carried to the evidence board and the data path, and requests
//! of programs on devices are carried to it. Decides nothing.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use gateway_audit::{DeviceChange, Event};
use gateway_devices::{
    ApiRequest, Beforehand, Config, Devices, Effects, Error, Loosening, Platform, Presence,
    Standards, Version,
};
use gateway_policy::{DeviceId, DeviceLists, DeviceStanding, OperatingSystem, Subject};
use gateway_proxy::{DeviceTrust, LocalRequest, LocalResponse};
use gateway_tpm::KeyVault;
use http::{HeaderMap, Response, StatusCode, header};
use rustls::pki_types::CertificateDer;

use crate::audit::loosening;
use crate::certificates::{Certificates, chain};
use crate::posture::{self, Posture};
use crate::registers::KeptRegisters;

/// The directory below the box's state.
const DIRECTORY: &str = "devices";

/// How often what time brings is looked at: reports that are missing, PCs left on, declarations that end.
const TICK: Duration = Duration::from_secs(15);

/// See the module.
pub(crate) struct KeptDevices {
    /// `None`: the register cannot be opened, so every device is a stranger.
    devices: Option<Arc<Devices>>,
    posture: Arc<Posture>,
    /// The data path, once it runs.
    certificates: OnceLock<Arc<Certificates>>,
}

impl std::fmt::Debug for KeptDevices {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeptDevices(..)")
    }
}

impl KeptDevices {
    /// Opens the register below the box's state directory and tells the board who is in it.
    ///
    /// One that cannot be opened is left as it is: the gate then knows nobody, which refuses.
    pub(crate) fn open(
        state_dir: &Path,
        anchors: Vec<CertificateDer<'static>>,
        vault: Arc<dyn KeyVault>,
        posture: &Arc<Posture>,
    ) -> Arc<Self> {
        let config = Config {
            directory: state_dir.join(DIRECTORY),
            // Whatever the city's root stands behind, a manager decides on; the root is not told apart by what it is for.
            city_authorities: anchors.clone(),
            anchors,
        };
        let devices = match Devices::open(config, vault) {
            Ok(devices) => Some(Arc::new(devices.written_down_by(beforehand(posture)))),
            Err(error) => {
                tracing::error!(event = "device-register", error = %chain(&error), "the register of devices cannot be opened; it is left as it is, and no device is known");
                None
            }
        };
        let this = Arc::new(Self {
            devices,
            posture: Arc::clone(posture),
            certificates: OnceLock::new(),
        });
        this.carry_out();
        this
    }

    /// The register, if it is open.
    pub(crate) fn register(&self) -> Option<&Arc<Devices>> {
        self.devices.as_ref()
    }

    /// The data path runs: connections can be cut from now on.
    pub(crate) fn serve_through(&self, certificates: Arc<Certificates>) {
        let _ = self.certificates.set(certificates);
        self.carry_out();
    }

    /// How the data path tells devices apart.
    pub(crate) async fn trust(self: &Arc<Self>) -> DeviceTrust {
        let Some(devices) = self.devices.clone() else {
            return DeviceTrust::nobody();
        };
        self.ready_authority().await;
        let identities = devices.identities();
        let presence = devices.presence();
        let authorities = self.with(|devices| devices.authorities()).await;
        DeviceTrust {
            authorities: authorities.unwrap_or_default(),
            identify: Arc::new(move |chain| identities.identify(chain, posture::now())),
            seen: Arc::new(move |device, by_person| seen(&presence, device, by_person)),
        }
    }

    /// Makes the authority as soon as the TPM is there, so that the first device need not wait for it.
    async fn ready_authority(self: &Arc<Self>) {
        let ready = self.with(|devices| devices.ready_authority(posture::now()));
        if let Err(Unusable::Devices(error)) = ready.await {
            tracing::warn!(event = "device-authority", error = %chain(&error), "no device certificate can be made yet");
        }
    }

    /// Does something with the register on a thread that may wait for the disk and the TPM, and carries out what follows.
    ///
    /// # Errors
    /// [`Unusable`].
    pub(crate) async fn with<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Devices) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Unusable> {
        let devices = self.devices.clone().ok_or(Unusable::NotOpen)?;
        let this = Arc::clone(self);
        let done = tokio::task::spawn_blocking(move || {
            let done = work(&devices);
            this.carry_out();
            done
        });
        Ok(done.await.map_err(|_| Unusable::NotOpen)??)
    }

    fn carry_out(&self) {
        let Some(devices) = &self.devices else {
            return;
        };
        let Effects {
            observed,
            devices_changed,
            authorities_changed,
            seen,
            cut,
        } = devices.take_effects();
        if devices_changed {
            self.tell_standings(devices);
        }
        for device in seen {
            self.posture.device_seen(device);
        }
        for (device, observed) in observed {
            self.posture.observe(Subject::Device(device), observed);
        }
        let Some(certificates) = self.certificates.get() else {
            return;
        };
        if authorities_changed && let Ok(authorities) = devices.authorities() {
            certificates.ask_devices_for(&authorities);
        }
        // After the board knows: whoever comes back at once is judged as what it now is.
        for device in cut {
            certificates.cut(device);
        }
    }

    fn tell_standings(&self, devices: &Devices) {
        match devices.list_ever() {
            Ok(all) => {
                let standings: Vec<DeviceStanding> = all
                    .into_iter()
                    .map(|device| DeviceStanding {
                        id: device.id,
                        revoked: device.revoked.map(|(at, _)| at),
                        manager: device.manager,
                    })
                    .collect();
                self.posture.set_devices(&standings);
            }
            Err(error) => {
                tracing::error!(event = "device-register", error = %chain(&error), "the devices cannot be listed");
            }
        }
    }

    /// Looks at what time brings. Never ends.
    pub(crate) async fn keep(self: Arc<Self>) {
        let mut told = false;
        loop {
            tokio::time::sleep(TICK).await;
            let ticked = self.with(|devices| devices.tick(posture::now())).await;
            match ticked {
                Ok(()) => told = false,
                Err(error) if !told => {
                    tracing::error!(event = "device-register", error = %chain(&error), "the register of devices failed");
                    told = true;
                }
                Err(_) => {}
            }
        }
    }

    /// Holds what PCs report against the city's lists and the facility's register of media. Never ends.
    ///
    /// The register has no field for a serial number: what is written on the medium is its label, and a label that holds the
    /// serial number as a word makes it known.
    pub(crate) async fn follow_standards(self: Arc<Self>, registers: Arc<KeptRegisters>) {
        let mut policies = self.posture.policies();
        let mut media = BTreeSet::new();
        loop {
            let labels = registers.with(|registers| {
                let state = registers.state();
                let live = state.media().filter(|medium| !medium.has_ended());
                Ok(live
                    .map(|medium| medium.what.label.clone())
                    .collect::<Vec<_>>())
            });
            // A register that cannot be read keeps no policy of the city waiting.
            if let Ok(labels) = labels.await {
                media = serial_numbers(&labels);
            }
            let standards = standards(&policies.borrow_and_update().devices, media.clone());
            // A failure is told where the register of devices is looked after.
            let _ = self
                .with(move |devices| devices.set_standards(standards, posture::now()))
                .await;
            // Another policy at once; the register of media now and then.
            tokio::select! {
                () = tokio::time::sleep(TICK) => {}
                _ = policies.changed() => {}
            }
        }
    }

    /// Answers a request of a program on a device.
    pub(crate) fn respond(
        self: &Arc<Self>,
        request: LocalRequest,
        runtime: &tokio::runtime::Handle,
    ) -> LocalResponse {
        let this = Arc::clone(self);
        // Off the data threads, which have a runtime of their own.
        let answered = runtime.spawn(async move {
            this.with(move |devices| Ok(answer(devices, &request)))
                .await
        });
        Box::pin(async move {
            match answered.await {
                Ok(Ok(response)) => response,
                _ => {
                    let mut closed = Response::default();
                    *closed.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
                    closed
                }
            }
        })
    }
}

/// What lets a device do more is on the disk of the audit log before it takes effect.
fn beforehand(posture: &Arc<Posture>) -> Beforehand {
    let posture = Arc::clone(posture);
    Arc::new(move |device, what| {
        let event = Event::Device {
            device,
            what: match what {
                Loosening::Registered => DeviceChange::Registered,
                Loosening::Restored => DeviceChange::Restored,
                Loosening::ManagerGranted => DeviceChange::ManagerGranted,
                Loosening::Declared => DeviceChange::Declared,
            },
            digest: None,
        };
        loosening::before_blocking(&posture, event).is_ok()
    })
}

/// The register cannot be used now.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unusable {
    /// It was not opened.
    #[error("the register of devices is not open")]
    NotOpen,
    /// It refused, or the disk or the TPM did.
    #[error(transparent)]
    Devices(#[from] Error),
}

/// The city's lists as devices are held against them. A platform of which the city names a release is the city's altogether;
/// for the others the built-in releases hold.
fn standards(lists: &DeviceLists, media: BTreeSet<String>) -> Standards {
    let built_in = Standards::default();
    let named: Vec<(Platform, Version)> = lists
        .systems
        .iter()
        .filter_map(|system| {
            let platform = match system.platform {
                OperatingSystem::Windows => Platform::Windows,
                OperatingSystem::Macos => Platform::Macos,
                OperatingSystem::Debian => Platform::Debian,
                OperatingSystem::Ubuntu => Platform::Ubuntu,
            };
            Some((platform, Version::from_numbers(&system.least)?))
        })
        .collect();
    let is_named = |platform: Platform| named.iter().any(|(known, _)| *known == platform);
    let kept = built_in.least.into_iter();
    let kept: Vec<_> = kept.filter(|(platform, _)| !is_named(*platform)).collect();
    Standards {
        least: kept.into_iter().chain(named).collect(),
        banned: lists.banned.clone(),
        approved: lists.approved.clone(),
        media,
        ..Standards::default()
    }
}

/// The words of labels that can be serial numbers, spelt as reports spell them.
fn serial_numbers(labels: &[String]) -> BTreeSet<String> {
    labels
        .iter()
        .flat_map(|label| label.split(|letter: char| !letter.is_ascii_graphic()))
        .filter(|word| word.len() >= 6)
        .map(str::to_ascii_uppercase)
        .collect()
}

fn seen(presence: &Presence, device: DeviceId, by_person: bool) {
    presence.seen(device, posture::now(), by_person);
}

fn answer(devices: &Devices, request: &LocalRequest) -> Response<Bytes> {
    let authority = request.uri.authority().map(http::uri::Authority::as_str);
    let answered = devices.handle(
        &ApiRequest {
            method: &request.method,
            path: request.uri.path(),
            authority: authority
                .or_else(|| text(&request.headers, &header::HOST))
                .unwrap_or(&request.host),
            content_type: text(&request.headers, &header::CONTENT_TYPE),
            content_encoding: text(&request.headers, &header::CONTENT_ENCODING),
            authorization: text(&request.headers, &header::AUTHORIZATION),
            body: &request.body,
            device: request.device,
            peer: request.peer,
        },
        posture::now(),
    );
    let mut response = Response::new(Bytes::from(answered.body));
    *response.status_mut() = answered.status;
    response.headers_mut().extend(answered.headers);
    response
}

fn text<'a>(headers: &'a HeaderMap, name: &header::HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

#[cfg(test)]
mod tests {
    use gateway_policy::LeastSystem;

    use super::*;

    #[test]
    fn a_platform_that_the_city_names_is_the_citys_and_the_others_stay() {
        let built_in = Standards::default();
        assert_eq!(
            standards(&DeviceLists::default(), BTreeSet::new()),
            built_in
        );
        let lists = DeviceLists {
            systems: vec![LeastSystem {
                platform: OperatingSystem::Windows,
                least: vec![10, 0, 26100, 4349],
            }],
            banned: vec!["µTorrent*".into()],
            approved: Some(vec!["LibreOffice*".into()]),
        };
        let merged = standards(&lists, BTreeSet::from(["4C53".into()]));
        let of = |standards: &Standards, platform| {
            let least = standards.least.iter();
            let of_it = least.filter(|(known, _)| *known == platform);
            of_it
                .map(|(_, version)| version.to_string())
                .collect::<Vec<_>>()
        };
        assert_eq!(of(&merged, Platform::Windows), ["10.0.26100.4349"]);
        for platform in [Platform::Macos, Platform::Debian, Platform::Ubuntu] {
            assert_eq!(of(&merged, platform), of(&built_in, platform));
        }
        assert_eq!(merged.banned, lists.banned);
        assert_eq!(merged.approved, lists.approved);
        assert_eq!(merged.media.len(), 1);
        assert_eq!(merged.lock_seconds, built_in.lock_seconds);
    }

    #[test]
    fn a_label_with_the_serial_number_in_it_makes_a_medium_known() {
        let labels = [
            "USBメモリー 4c530001230101119203".to_owned(),
            "A-1、赤".to_owned(),
        ];
        let known = serial_numbers(&labels);
        assert!(known.contains("4C530001230101119203"));
        assert_eq!(known.len(), 1, "{known:?}");
    }
}
