//! The register of devices as the console's pages see it: other names for the same things, and a sentence for each refusal.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use gateway_audit::{DeviceChange, Event};
use gateway_console::{
    Admission, Answer, CertificateFile, Days, DeviceDetail, DeviceKind, DevicesDesk, Entry, Line,
    Message, Night, Pairing, PairingId, Staff, Ticket, Today, Waiting,
};
use gateway_devices::{Devices, Error, Kind, Name, Origin, PairingState};
use gateway_policy::calendar::Date;
use gateway_policy::{Check, DeviceId, Snapshot, Timestamp, UnknownDevices};
use zeroize::Zeroizing;

use crate::audit::loosening;
use crate::certificates::chain;
use crate::desk_report::{Names, device_lines};
use crate::devices::{KeptDevices, Unusable};
use crate::posture::{self, Posture};

/// Nights on the daily list.
const NIGHTS: i64 = 7;

/// See the module.
pub(crate) struct DevicePages {
    /// The register.
    pub(crate) devices: Arc<KeptDevices>,
    /// The evidence board.
    pub(crate) posture: Arc<Posture>,
    /// What unknown devices get.
    pub(crate) unknown: UnknownDevices,
}

impl fmt::Debug for DevicePages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DevicePages(..)")
    }
}

impl DevicePages {
    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Devices, Timestamp) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Message> {
        let done = self.devices.with(|devices| work(devices, posture::now()));
        done.await.map_err(|error| message(&error))
    }

    /// Writes down what was done and does not loosen.
    fn record(&self, device: DeviceId, what: DeviceChange) {
        self.posture.record(Event::Device {
            device,
            what,
            digest: None,
        });
    }
}

/// The pages on devices, and what devices are called on all others.
pub(crate) fn pages(
    devices: &Arc<KeptDevices>,
    posture: &Arc<Posture>,
    unknown: UnknownDevices,
) -> (Arc<dyn DevicesDesk>, Names) {
    let pages = DevicePages {
        devices: Arc::clone(devices),
        posture: Arc::clone(posture),
        unknown,
    };
    (Arc::new(pages), names(devices))
}

fn names(devices: &Arc<KeptDevices>) -> Names {
    let devices = Arc::clone(devices);
    Arc::new(move |id| {
        let device = devices.register()?.device(id).ok().flatten()?;
        Some(device.name.as_str().to_owned())
    })
}

impl DevicesDesk for DevicePages {
    fn admission(&self, device: Option<DeviceId>) -> Admission {
        let snapshot = self.posture.snapshot();
        match (device.and_then(|id| snapshot.device(id)), self.unknown) {
            (Some(entry), _) if entry.revoked.is_some() => Admission::Revoked,
            (Some(entry), _) => Admission::Registered {
                manager: entry.manager,
            },
            (None, UnknownDevices::Warn) => Admission::Tolerated,
            (None, UnknownDevices::RefuseOnceOneIsRegistered)
                if snapshot
                    .devices()
                    .iter()
                    .all(|known| known.revoked.is_some()) =>
            {
                Admission::Tolerated
            }
            (None, UnknownDevices::RefuseOnceOneIsRegistered | UnknownDevices::Refuse) => {
                Admission::Unknown
            }
        }
    }

    fn devices(&self) -> Answer<'_, Result<gateway_console::Devices, Message>> {
        Box::pin(async {
            let (all, waiting) = self
                .with(|devices, now| Ok((devices.list()?, devices.waiting(now))))
                .await?;
            let snapshot = self.posture.snapshot();
            let now = posture::now();
            Ok(gateway_console::Devices {
                registered: all
                    .into_iter()
                    .map(|device| shown(device, &snapshot, now))
                    .collect(),
                waiting: waiting.into_iter().map(waits).collect(),
            })
        })
    }

    fn device(&self, id: DeviceId) -> Answer<'_, Result<Option<DeviceDetail>, Message>> {
        Box::pin(async move {
            let found = self
                .with(move |devices, now| {
                    let Some(device) = devices.device(id)? else {
                        return Ok(None);
                    };
                    let media = devices.unregistered_media(id)?;
                    Ok(Some((device, devices.declarations(id, now)?, media)))
                })
                .await?;
            Ok(found.map(|(device, declared, media)| {
                let mut device = shown(device, &self.posture.snapshot(), posture::now());
                if let Some(line) = device
                    .lines
                    .iter_mut()
                    .find(|line| line.check == Check::PcUsb)
                    && !media.is_empty()
                {
                    let serials: Vec<&str> =
                        media.iter().map(|(serial, _)| serial.as_str()).collect();
                    line.detail = Some(format!("台帳にない媒体: {}", serials.join("、")));
                }
                DeviceDetail {
                    device,
                    declarable: declared
                        .into_iter()
                        .map(|(check, made)| (check, made.map(|made| made.until)))
                        .collect(),
                }
            }))
        })
    }

    fn pairing_of(&self, code: Entry, _: Staff) -> Answer<'_, Result<Waiting, Message>> {
        Box::pin(async move {
            let found =
                self.with(move |devices, now| devices.pairing_with_code(code.as_str(), now));
            found.await.map(waits)
        })
    }

    fn approve(
        &self,
        pairing: PairingId,
        manager: bool,
        by: Staff,
    ) -> Answer<'_, Result<(), Message>> {
        Box::pin(async move {
            self.with(move |devices, now| {
                devices
                    .approve(&pairing.0, manager, &by.user, now)
                    .map(drop)
            })
            .await
        })
    }

    fn refuse(&self, pairing: PairingId, _: Staff) -> Answer<'_, Result<(), Message>> {
        Box::pin(async move {
            self.with(move |devices, now| devices.refuse(&pairing.0, now))
                .await
        })
    }

    fn revoke(&self, id: DeviceId, _: Staff) -> Answer<'_, Result<(), Message>> {
        Box::pin(async move { self.with(move |devices, now| devices.revoke(id, now)).await })
    }

    fn reactivate(&self, id: DeviceId, _: Staff) -> Answer<'_, Result<(), Message>> {
        Box::pin(async move { self.with(move |devices, _| devices.reactivate(id)).await })
    }

    fn set_manager(
        &self,
        id: DeviceId,
        manager: bool,
        _: Staff,
    ) -> Answer<'_, Result<(), Message>> {
        Box::pin(async move {
            self.with(move |devices, _| devices.set_manager(id, manager))
                .await?;
            if !manager {
                self.record(id, DeviceChange::ManagerWithdrawn);
            }
            Ok(())
        })
    }

    fn rename(&self, id: DeviceId, name: String, _: Staff) -> Answer<'_, Result<(), Message>> {
        Box::pin(async move {
            let name = parsed(&name)?;
            self.with(move |devices, _| devices.rename(id, &name))
                .await?;
            self.record(id, DeviceChange::Renamed);
            Ok(())
        })
    }

    fn forget(&self, id: DeviceId, _: Staff) -> Answer<'_, Result<(), Message>> {
        Box::pin(async move {
            self.with(move |devices, now| devices.forget(id, now))
                .await?;
            self.record(id, DeviceChange::Forgotten);
            Ok(())
        })
    }

    fn days(&self) -> Answer<'_, Result<Days, Message>> {
        Box::pin(self.with(|devices, now| {
            let in_use = devices.list()?;
            let in_use: Vec<_> = in_use
                .into_iter()
                .filter(|device| device.revoked.is_none())
                .collect();
            let mut today = Vec::with_capacity(in_use.len());
            for device in &in_use {
                let report = devices.report(device.id)?;
                today.push(Today {
                    id: device.id,
                    name: device.name.as_str().to_owned(),
                    seen: device.last_seen,
                    reported: report.map(|(at, ..)| at),
                    owes_report: device.kind.reports(),
                });
            }
            today.sort_by(|one, other| one.name.cmp(&other.name));
            let midnight = Date::in_japan(now).midnight_in_japan();
            let mut nights: Vec<Night> = Vec::new();
            for found in devices.left_on(midnight.plus(-NIGHTS * 86_400))? {
                let Some(device) = in_use.iter().find(|device| device.id == found.device) else {
                    continue;
                };
                let left = (device.name.as_str().to_owned(), found.first, found.last);
                match nights.iter_mut().find(|night| night.evening == found.night) {
                    Some(night) => night.left_on.push(left),
                    None => nights.push(Night {
                        evening: found.night,
                        left_on: vec![left],
                    }),
                }
            }
            nights.sort_by_key(|night| std::cmp::Reverse(night.evening));
            Ok(Days { today, nights })
        }))
    }

    fn start_with_certificate(
        &self,
        name: String,
        kind: DeviceKind,
        certificate: String,
        peer: IpAddr,
        _: Staff,
    ) -> Answer<'_, Result<Waiting, Message>> {
        Box::pin(async move {
            let (name, kind) = (parsed(&name)?, inner(kind));
            let opened = self.devices.with(move |devices| {
                devices.start_with_certificate(name, kind, &certificate, peer, posture::now())
            });
            match opened.await {
                Ok(Some(waiting)) => Ok(waits(waiting)),
                Ok(None) => Err(too_many()),
                Err(Unusable::Devices(Error::Unfit(_))) => Err(said(
                    "市が発行した、有効な証明書ではありません。",
                    "市から受け取ったPEM形式のファイルを選び直してください。中間証明書も続けて入れてください。",
                    "certificate-unfit",
                )),
                Err(error) => Err(message(&error)),
            }
        })
    }

    fn declare(
        &self,
        id: DeviceId,
        checks: Vec<Check>,
        by: Staff,
    ) -> Answer<'_, Result<(), Message>> {
        Box::pin(async move {
            self.with(move |devices, now| devices.declare(id, &checks, &by.user, now))
                .await
        })
    }

    fn start_pairing(
        &self,
        name: String,
        kind: DeviceKind,
        peer: IpAddr,
    ) -> Answer<'_, Result<Ticket, Message>> {
        Box::pin(async move {
            let name = parsed(&name)?;
            let kind = inner(kind);
            let ticket = self
                .with(move |devices, now| devices.start_pairing(name, kind, peer, now))
                .await?;
            let ticket = ticket.ok_or_else(too_many)?;
            Ok(Ticket {
                token: Entry::new(ticket.token),
            })
        })
    }

    fn pairing(&self, token: Entry) -> Answer<'_, Pairing> {
        Box::pin(async move {
            let state = self
                .with(move |devices, now| Ok(devices.pairing(token.as_str(), now)))
                .await;
            match state {
                Ok(PairingState::Waiting { code, until, kind }) => Pairing::Waiting {
                    code: Entry::new(code),
                    until,
                    kind: outer(kind),
                },
                Ok(PairingState::Approved {
                    password,
                    until,
                    kind,
                }) => Pairing::Approved {
                    password: Entry::new(password.unwrap_or_else(|| Zeroizing::new(String::new()))),
                    until,
                    kind: outer(kind),
                },
                Ok(PairingState::Refused) => Pairing::Refused,
                Ok(PairingState::Gone) | Err(_) => Pairing::Gone,
            }
        })
    }

    fn certificate_file(&self, token: Entry) -> Answer<'_, Result<CertificateFile, Message>> {
        Box::pin(async move {
            let file = self
                .with(move |devices, now| devices.certificate_file(token.as_str(), now))
                .await?;
            Ok(CertificateFile {
                name: file.kind.file_name().to_owned(),
                content: Bytes::from(file.content.to_vec()),
                media_type: file.kind.media_type(),
            })
        })
    }
}

fn shown(
    device: gateway_devices::Device,
    snapshot: &Snapshot,
    now: Timestamp,
) -> gateway_console::Device {
    let mut name = device.name.as_str().to_owned();
    if device.origin == Origin::City {
        name.push_str("（市発行）");
    }
    let called = name.clone();
    let names: Names = Arc::new(move |_| Some(called.clone()));
    let lines: Vec<Line> = snapshot
        .device(device.id)
        .map(|entry| device_lines(entry, &names, snapshot, now))
        .unwrap_or_default();
    gateway_console::Device {
        id: device.id,
        name,
        kind: outer(device.kind),
        manager: device.manager,
        registered: device.registered,
        revoked: device.revoked.map(|(at, _)| at),
        seen: device.last_seen,
        not_after: device.not_after,
        lines,
    }
}

fn waits(waiting: gateway_devices::Waiting) -> Waiting {
    let mut name = waiting.name.as_str().to_owned();
    if waiting.of_city {
        name.push_str("（市発行）");
    }
    Waiting {
        id: PairingId(waiting.id),
        name,
        kind: outer(waiting.kind),
        peer: waiting.peer,
        of_city: waiting.of_city,
        since: waiting.since,
        until: waiting.until,
    }
}

const fn inner(kind: DeviceKind) -> Kind {
    match kind {
        DeviceKind::Windows => Kind::Windows,
        DeviceKind::Mac => Kind::Mac,
        DeviceKind::Linux => Kind::Linux,
        DeviceKind::Ipad => Kind::Ipad,
        DeviceKind::Android => Kind::Android,
        DeviceKind::Chromebook => Kind::Chromebook,
    }
}

const fn outer(kind: Kind) -> DeviceKind {
    match kind {
        Kind::Windows => DeviceKind::Windows,
        Kind::Mac => DeviceKind::Mac,
        Kind::Linux => DeviceKind::Linux,
        Kind::Ipad => DeviceKind::Ipad,
        Kind::Android => DeviceKind::Android,
        Kind::Chromebook => DeviceKind::Chromebook,
    }
}

fn parsed(name: &str) -> Result<Name, Message> {
    Name::parse(name).ok_or_else(|| {
        said(
            "この名前は使えません。",
            "40文字以内で入力してください。",
            "device-name",
        )
    })
}

fn too_many() -> Message {
    said(
        "登録の申し込みが多すぎます。",
        "10分ほど待ってから、もう一度申し込んでください。",
        "too-many-pairings",
    )
}

fn said(sentence: &str, next_step: &str, code: &str) -> Message {
    Message {
        sentence: sentence.to_owned(),
        next_step: next_step.to_owned(),
        code: code.to_owned(),
    }
}

fn message(error: &Unusable) -> Message {
    match error {
        Unusable::Devices(Error::NoSuchPairing) => said(
            "この番号の申し込みはありません。",
            "端末の画面に出ている8桁の番号を、もう一度確かめてください。番号は10分で変わります。",
            "pairing-gone",
        ),
        Unusable::Devices(Error::TooManyWrongCodes) => said(
            "違う番号が続けて入力されました。",
            "10分ほど待ってから、もう一度入力してください。",
            "too-many-codes",
        ),
        Unusable::Devices(Error::NoSuchDevice) => said(
            "この端末は登録されていません。",
            "端末の一覧を開き直してください。",
            "device-unknown",
        ),
        Unusable::Devices(Error::Full) => said(
            "登録できる端末の数に達しています。",
            "使わなくなった端末の登録を消してください。",
            "device-register-full",
        ),
        Unusable::Devices(Error::Unfit(_) | Error::Taken(_)) => said(
            "この端末は登録できません。",
            "利用を停止した端末なら、先に一覧から再開してください。そうでなければ市の窓口に問い合わせてください。",
            "device-unfit",
        ),
        Unusable::Devices(Error::Vault(_) | Error::Certificate(_)) => said(
            "いまは証明書を発行できません。安全チップ（TPM）が応答しません。",
            "少し待ってから、もう一度試してください。",
            "authority-unavailable",
        ),
        Unusable::Devices(Error::NotRecorded) => loosening::message(),
        other => {
            tracing::error!(event = "device-register", error = %chain(other), "the register of devices failed");
            said(
                "端末の登録簿を使えません。",
                "市の窓口に問い合わせてください。",
                "device-register",
            )
        }
    }
}
