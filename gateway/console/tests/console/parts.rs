//! The parts of a box that have pages of their own, as a test arranges them, and what was asked of them.

use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use gateway_console::{
    About, Actor, Admission, Answer, BreakGlass, BreakGlassDesk, CertificateFile, Channel, Console,
    Days, Desks, Device, DeviceDetail, DeviceKind, Devices, DevicesDesk, Engine, Entry, Key,
    Leaving, LeavingDesk, LeavingReason, Line, Machinery, Mark, Medium, MediumKind, MediumState,
    Message, NewMedium, NewWaiver, Opening, Pairing, PairingId, Possible, Reason, RecoveryDesk,
    RecoveryKey, Refusal, Report, ReportDesk, Staff, Ticket, Waiting, Waivers, WaiversDesk,
};
use gateway_policy::calendar::Date;
use gateway_policy::{Check, DeviceId, Effect, Source, Timestamp};

use crate::desk::{NOW, TestDesk, console_with_notes};

const DAY: i64 = 86_400;
/// A PC of the office, and the manager's.
pub(crate) const PC: DeviceId = DeviceId([0x11; 16]);
pub(crate) const MANAGERS: DeviceId = DeviceId([0x22; 16]);
pub(crate) const REVOKED: DeviceId = DeviceId([0x33; 16]);

/// What a test arranges, and what it looks at afterwards.
pub(crate) struct Arranged {
    /// Devices have to be registered.
    pub(crate) strict: bool,
    pub(crate) waiting: Vec<Waiting>,
    pub(crate) pairing: fn() -> Pairing,
    pub(crate) lines: Vec<Line>,
    pub(crate) media: Vec<Medium>,
    pub(crate) break_glass: BreakGlass,
    pub(crate) recovery: RecoveryKey,
    pub(crate) leaving: Leaving,
    pub(crate) made_anew: bool,
    pub(crate) refused: Option<Refusal>,
    pub(crate) days: Days,
    pub(crate) waivers: Waivers,
    /// What the next change is answered with.
    pub(crate) answer: Result<(), Message>,
    /// What was asked for, in words.
    pub(crate) asked: Vec<String>,
}

/// All parts in one.
#[derive(Clone)]
pub(crate) struct Parts(pub(crate) Arc<Mutex<Arranged>>);

impl Parts {
    pub(crate) fn arrange(&self, change: impl FnOnce(&mut Arranged)) {
        change(&mut self.0.lock().unwrap());
    }

    pub(crate) fn asked(&self) -> Vec<String> {
        self.0.lock().unwrap().asked.clone()
    }

    pub(crate) fn ask(&self, what: String) -> Result<(), Message> {
        let mut arranged = self.0.lock().unwrap();
        arranged.asked.push(what);
        arranged.answer.clone()
    }
}

fn line(about: About, check: Check, mark: Mark, effect: Effect, source: Source) -> Line {
    Line {
        about,
        check,
        mark,
        effect,
        next: None,
        since: NOW.plus(-3 * DAY),
        looked: Some(NOW.plus(-600)),
        source: Some(source),
        waived_until: None,
        waived_for: None,
        detail: None,
    }
}

fn of(id: DeviceId, name: &str) -> About {
    About::Device {
        id,
        name: name.into(),
    }
}

/// A facility in good order.
pub(crate) fn good_lines() -> Vec<Line> {
    let mut lines = Vec::new();
    for check in [
        Check::AvAlive,
        Check::AvDb,
        Check::AvSelf,
        Check::AvConf,
        Check::UsbBox,
        Check::Clock,
        Check::Upd,
    ] {
        lines.push(line(
            About::Box,
            check,
            Mark::Pass,
            Effect::Allow,
            Source::Measured,
        ));
    }
    for check in [Check::Media, Check::Decl, Check::Training] {
        lines.push(line(
            About::Facility,
            check,
            Mark::Pass,
            Effect::Allow,
            Source::Declared,
        ));
    }
    for (id, name, source) in [
        (PC, "事務室ノートPC 1", Source::Agent),
        (MANAGERS, "管理者のPC", Source::Script),
    ] {
        for check in [Check::PcAv, Check::PcSig, Check::PcOs, Check::PcLock] {
            lines.push(line(of(id, name), check, Mark::Pass, Effect::Allow, source));
        }
    }
    lines
}

/// The same with the usual troubles.
pub(crate) fn troubled_lines() -> Vec<Line> {
    let mut lines = good_lines();
    for line in &mut lines {
        match (line.check, &line.about) {
            (Check::Media, _) => (line.mark, line.effect) = (Mark::Warn, Effect::Warn),
            (Check::PcSig, About::Device { id, .. }) if *id == PC => {
                (line.mark, line.effect) = (Mark::Warn, Effect::Warn);
                line.next = Some((Effect::Restrict, NOW.plus(2 * DAY)));
            }
            (Check::AvDb, _) => (line.mark, line.effect) = (Mark::Warn, Effect::Warn),
            _ => {}
        }
    }
    lines.push(Line {
        source: None,
        looked: None,
        ..line(
            of(PC, "事務室ノートPC 1"),
            Check::PcRpt,
            Mark::Unknown,
            Effect::Allow,
            Source::Agent,
        )
    });
    lines
}

pub(crate) fn medium(number: u64, label: &str, state: MediumState) -> Medium {
    Medium {
        number,
        what: NewMedium {
            kind: if number.is_multiple_of(2) {
                MediumKind::Paper
            } else {
                MediumKind::UsbMemory
            },
            label: label.into(),
            purpose: "国保連への提出".into(),
            owner: "佐藤".into(),
            place: "事務室の鍵付き棚".into(),
        },
        state,
        since: NOW.plus(-40 * DAY),
        seen: Some(NOW.plus(-50 * DAY)),
    }
}

/// A console over a working box with all parts; notes and their readers are those of [`console_with_notes`].
pub(crate) async fn whole_console() -> (Console, TestDesk, Parts, tempfile::TempDir) {
    let (console, desk, directory) = console_with_notes().await;
    let parts = Parts(Arc::new(Mutex::new(Arranged {
        strict: true,
        waiting: Vec::new(),
        pairing: || Pairing::Gone,
        lines: good_lines(),
        media: vec![
            medium(1, "USB-1", MediumState::Kept),
            medium(
                2,
                "訪問記録の綴り（2階）",
                MediumState::Lent {
                    to: "鈴木".into(),
                    place: "訪問先".into(),
                    due: Some(Date {
                        year: 2026,
                        month: 1,
                        day: 9,
                    }),
                },
            ),
            medium(3, "USB-2", MediumState::Missing),
        ],
        break_glass: BreakGlass {
            pin_set: true,
            sealed_code: Some(NOW.plus(-20 * DAY)),
            online: true,
            uses_left: 3,
            ..BreakGlass::default()
        },
        recovery: RecoveryKey::HandedOver,
        leaving: Leaving::InService,
        made_anew: true,
        refused: None,
        days: Days::default(),
        waivers: Waivers {
            made: Vec::new(),
            possible: vec![Possible {
                device: PC,
                name: "事務室ノートPC 1".into(),
                check: Check::PcLock,
                longest: 30 * DAY,
            }],
        },
        answer: Ok(()),
        asked: Vec::new(),
    })));
    let console = console.with(Desks {
        devices: Some(Arc::new(parts.clone())),
        registers: Some(Arc::new(parts.clone())),
        report: Some(Arc::new(parts.clone())),
        break_glass: Some(Arc::new(parts.clone())),
        recovery: Some(Arc::new(parts.clone())),
        leaving: Some(Arc::new(parts.clone())),
        waivers: Some(Arc::new(parts.clone())),
        ..Desks::default()
    });
    (console, desk, parts, directory)
}

pub(crate) fn opening(id: u64, since: Timestamp) -> Opening {
    Opening {
        id,
        since,
        until: since.plus(4 * 3600),
        at_most: since.plus(12 * 3600),
        reason: Reason::Emergency,
        by_sealed_code: false,
        review: None,
        review_by: since.plus(7 * DAY),
    }
}

pub(crate) fn waiting() -> Waiting {
    Waiting {
        id: PairingId("a1b2".into()),
        name: "訪問用タブレット A".into(),
        kind: DeviceKind::Ipad,
        peer: IpAddr::from([192, 0, 2, 31]),
        of_city: false,
        since: NOW.plus(-60),
        until: NOW.plus(540),
    }
}

fn entry(text: &str) -> Entry {
    Entry::new(text.to_owned().into())
}

pub(crate) fn waits() -> Pairing {
    Pairing::Waiting {
        code: entry("48291537"),
        until: NOW.plus(600),
        kind: DeviceKind::Windows,
    }
}

pub(crate) fn approved(kind: DeviceKind) -> Pairing {
    Pairing::Approved {
        password: entry("7KQM-2RXT-9WPA"),
        until: NOW.plus(600),
        kind,
    }
}

impl ReportDesk for Parts {
    fn report(&self) -> Answer<'_, Result<Report, Message>> {
        let report = Report {
            made: NOW,
            facility: Some("訪問看護ステーションさくら".into()),
            lines: self.0.lock().unwrap().lines.clone(),
        };
        Box::pin(async { Ok(report) })
    }

    fn machinery(&self) -> Answer<'_, Machinery> {
        let refused = self.0.lock().unwrap().refused.clone();
        Box::pin(async {
            Machinery {
                channel: Some(Channel {
                    running: "1.4.0".into(),
                    waiting: Some("1.4.1".into()),
                    checked: Some(NOW.plus(-3600)),
                    refused,
                    policy: Some(7),
                }),
                antivirus: Some(Engine {
                    version: Some("ClamAV 1.4.3".into()),
                    database: Some("27512".into()),
                    built: Some(NOW.plus(-7200)),
                    canary: Some(NOW.plus(-60)),
                    self_test: Some(NOW.plus(-40_000)),
                }),
            }
        })
    }
}

impl DevicesDesk for Parts {
    fn admission(&self, device: Option<DeviceId>) -> Admission {
        match device {
            Some(MANAGERS) => Admission::Registered { manager: true },
            Some(PC) => Admission::Registered { manager: false },
            Some(REVOKED) => Admission::Revoked,
            _ if self.0.lock().unwrap().strict => Admission::Unknown,
            _ => Admission::Tolerated,
        }
    }

    fn devices(&self) -> Answer<'_, Result<Devices, Message>> {
        let arranged = self.0.lock().unwrap();
        let device = |id, name: &str, manager, revoked| Device {
            id,
            name: name.into(),
            kind: DeviceKind::Windows,
            manager,
            registered: NOW.plus(-100 * DAY),
            revoked,
            seen: Some(NOW.plus(-300)),
            not_after: Some(NOW.plus(265 * DAY)),
            lines: arranged
                .lines
                .iter()
                .filter(
                    |line| matches!(&line.about, About::Device { id: about, .. } if *about == id),
                )
                .cloned()
                .collect(),
        };
        let devices = Devices {
            registered: vec![
                device(PC, "事務室ノートPC 1", false, None),
                device(MANAGERS, "管理者のPC", true, None),
                device(REVOKED, "古いタブレット", false, Some(NOW.plus(-9 * DAY))),
            ],
            waiting: arranged.waiting.clone(),
        };
        Box::pin(async { Ok(devices) })
    }

    fn device(&self, id: DeviceId) -> Answer<'_, Result<Option<DeviceDetail>, Message>> {
        Box::pin(async move {
            let all = self.devices().await?.registered;
            let found = all.into_iter().find(|device| device.id == id);
            Ok(found.map(|device| DeviceDetail {
                device,
                declarable: vec![
                    (Check::PcLock, Some(NOW.plus(30 * DAY))),
                    (Check::PcEnc, None),
                ],
            }))
        })
    }

    fn pairing_of(&self, code: Entry, _: Staff) -> Answer<'_, Result<Waiting, Message>> {
        let found = if code.as_str() == "48291537" {
            Ok(waiting())
        } else {
            Err(Message {
                sentence: "この番号で待っている端末はありません。".into(),
                next_step: "端末の画面の番号を確かめて、もう一度入力してください。".into(),
                code: "D-CODE".into(),
            })
        };
        Box::pin(async { found })
    }

    fn approve(
        &self,
        pairing: PairingId,
        manager: bool,
        by: Staff,
    ) -> Answer<'_, Result<(), Message>> {
        let done = self.ask(format!("approve {} {manager} by {}", pairing.0, by.user));
        Box::pin(async { done })
    }

    fn refuse(&self, pairing: PairingId, _: Staff) -> Answer<'_, Result<(), Message>> {
        let done = self.ask(format!("refuse {}", pairing.0));
        Box::pin(async { done })
    }

    fn revoke(&self, id: DeviceId, _: Staff) -> Answer<'_, Result<(), Message>> {
        let done = self.ask(format!("revoke {id}"));
        Box::pin(async { done })
    }

    fn reactivate(&self, id: DeviceId, _: Staff) -> Answer<'_, Result<(), Message>> {
        let done = self.ask(format!("reactivate {id}"));
        Box::pin(async { done })
    }

    fn rename(&self, id: DeviceId, name: String, _: Staff) -> Answer<'_, Result<(), Message>> {
        let answer = self.ask(format!("rename {id} {name}"));
        Box::pin(async { answer })
    }

    fn forget(&self, id: DeviceId, _: Staff) -> Answer<'_, Result<(), Message>> {
        let answer = self.ask(format!("forget {id}"));
        Box::pin(async { answer })
    }

    fn days(&self) -> Answer<'_, Result<Days, Message>> {
        let days = self.0.lock().unwrap().days.clone();
        Box::pin(async { Ok(days) })
    }

    fn start_with_certificate(
        &self,
        name: String,
        _: DeviceKind,
        certificate: String,
        _: IpAddr,
        _: Staff,
    ) -> Answer<'_, Result<Waiting, Message>> {
        let answer = self.ask(format!("certificate {name} {}", certificate.len()));
        Box::pin(async {
            answer.map(|()| Waiting {
                of_city: true,
                ..waiting()
            })
        })
    }

    fn set_manager(
        &self,
        id: DeviceId,
        manager: bool,
        _: Staff,
    ) -> Answer<'_, Result<(), Message>> {
        let done = self.ask(format!("manager {id} {manager}"));
        Box::pin(async { done })
    }

    fn declare(
        &self,
        _: DeviceId,
        checks: Vec<Check>,
        _: Staff,
    ) -> Answer<'_, Result<(), Message>> {
        let done = self.ask(format!("declare {checks:?}"));
        Box::pin(async { done })
    }

    fn start_pairing(
        &self,
        name: String,
        kind: DeviceKind,
        _: IpAddr,
    ) -> Answer<'_, Result<Ticket, Message>> {
        let done = self.ask(format!("pair {name} {kind:?}"));
        Box::pin(async {
            done.map(|()| Ticket {
                token: entry("ticket"),
            })
        })
    }

    fn pairing(&self, token: Entry) -> Answer<'_, Pairing> {
        let pairing = self.0.lock().unwrap().pairing;
        let known = token.as_str() == "ticket";
        Box::pin(async move { if known { pairing() } else { Pairing::Gone } })
    }

    fn certificate_file(&self, _: Entry) -> Answer<'_, Result<CertificateFile, Message>> {
        Box::pin(async {
            Ok(CertificateFile {
                name: "renraku-device.p12".into(),
                content: Bytes::from_static(b"pkcs12"),
                media_type: "application/x-pkcs12",
            })
        })
    }
}

impl BreakGlassDesk for Parts {
    fn state(&self) -> BreakGlass {
        self.0.lock().unwrap().break_glass.clone()
    }

    fn set_pin(&self, pin: Entry, _: Actor) -> Answer<'_, Result<(), Message>> {
        let done = self.ask(format!("pin of {}", pin.as_str().len()));
        Box::pin(async { done })
    }

    fn make_sealed_code(&self, _: Actor) -> Answer<'_, Result<Entry, Message>> {
        let done = self.ask("code".into());
        Box::pin(async { done.map(|()| entry("2345-6789-ABCD-EFGH-JKLM")) })
    }

    fn open(&self, key: Key, reason: Reason, by: Actor) -> Answer<'_, Result<(), Message>> {
        let key = match key {
            Key::Pin(_) => "pin",
            Key::SealedCode(_) => "code",
        };
        let done = self.ask(format!(
            "open {key} {} user={} device={}",
            reason.code(),
            by.user.is_some(),
            by.device.is_some()
        ));
        Box::pin(async { done })
    }

    fn close(&self, _: Actor) -> Answer<'_, Result<(), Message>> {
        let done = self.ask("close".into());
        Box::pin(async { done })
    }

    fn review(&self, opening: u64, text: String, _: Actor) -> Answer<'_, Result<(), Message>> {
        let done = self.ask(format!("review {opening} {text}"));
        Box::pin(async { done })
    }
}

impl RecoveryDesk for Parts {
    fn state(&self) -> RecoveryKey {
        self.0.lock().unwrap().recovery
    }

    fn show(&self) -> Answer<'_, Result<Entry, Message>> {
        let done = self.ask("show recovery key".into());
        Box::pin(async { done.map(|()| entry("0011-2233-4455-6677-8899-aabb-ccdd-eeff")) })
    }

    fn hand_over(&self) -> Answer<'_, Result<(), Message>> {
        let done = self.ask("forget recovery key".into());
        self.arrange(|arranged| arranged.recovery = RecoveryKey::HandedOver);
        Box::pin(async { done })
    }
}

impl LeavingDesk for Parts {
    fn state(&self) -> Leaving {
        self.0.lock().unwrap().leaving.clone()
    }

    fn makes_disk_anew(&self) -> bool {
        self.0.lock().unwrap().made_anew
    }

    fn leave(&self, reason: LeavingReason) -> Result<(), Message> {
        self.ask(format!("leave {}", reason.code()))
    }
}

impl WaiversDesk for Parts {
    fn waivers(&self) -> Answer<'_, Result<Waivers, Message>> {
        let waivers = self.0.lock().unwrap().waivers.clone();
        Box::pin(async { Ok(waivers) })
    }

    fn make(&self, wish: NewWaiver, _: Staff) -> Answer<'_, Result<(), Message>> {
        let NewWaiver {
            device,
            check,
            until,
            reason,
        } = wish;
        let answer = self.ask(format!(
            "waive {device} {} {} {reason}",
            check.id(),
            until.0
        ));
        Box::pin(async { answer })
    }

    fn withdraw(
        &self,
        device: DeviceId,
        check: Check,
        _: Staff,
    ) -> Answer<'_, Result<(), Message>> {
        let answer = self.ask(format!("withdraw {device} {}", check.id()));
        Box::pin(async { answer })
    }
}
