//! Exceptions as the console's pages see them: from which checks, for how long and why is the policy's to allow; what is made
//! is in the audit log before it takes effect.

use std::fmt;
use std::sync::Arc;

use gateway_audit::{Digest, Event, WaiverChange};
use gateway_console::{Answer, Message, NewWaiver, Possible, Staff, WaiversDesk};
use gateway_policy::{
    Authority, Check, DEVICE_CHECKS, DeviceId, Snapshot, State, Subject, Timestamp, Waiver,
    WaiverError,
};

use crate::audit::loosening;
use crate::desk_report::Names;
use crate::posture::{self, Posture};

/// See the module.
pub(crate) struct WaiverPages {
    /// The evidence board.
    pub(crate) posture: Arc<Posture>,
    /// What devices are called.
    pub(crate) names: Names,
    /// One change at a time: what is written down beforehand is what then happens.
    pub(crate) turn: tokio::sync::Mutex<()>,
}

impl fmt::Debug for WaiverPages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WaiverPages(..)")
    }
}

impl WaiverPages {
    fn all(&self) -> gateway_console::Waivers {
        let (snapshot, now) = (self.posture.snapshot(), posture::now());
        let time = snapshot.time(now);
        let behind = now.0.saturating_sub(time.0);
        let mut made: Vec<gateway_console::Waiver> = self
            .posture
            .waivers()
            .into_iter()
            .filter(|(subject, ..)| still_there(&snapshot, *subject))
            .map(|(subject, check, waiver)| gateway_console::Waiver {
                device: device_of(subject),
                name: self.name(subject),
                check,
                by_city: waiver.by == Authority::City,
                runs: time < waiver.until,
                in_order: snapshot
                    .entry(subject, check)
                    .is_some_and(|entry| !is_trouble(entry.state(waiver.until.max(time)))),
                reason: waiver.reason,
                until: waiver.until.plus(behind),
            })
            .collect();
        made.sort_by_key(|waiver| std::cmp::Reverse(waiver.until));
        gateway_console::Waivers {
            made,
            possible: self.possible(&snapshot, time),
        }
    }

    /// What the manager may except and what is not in order.
    fn possible(&self, snapshot: &Snapshot, time: Timestamp) -> Vec<Possible> {
        let devices = snapshot.devices().iter();
        devices
            .filter(|device| device.revoked.is_none())
            .flat_map(|device| {
                DEVICE_CHECKS.into_iter().filter_map(|check| {
                    let longest = Authority::Manager.may_waive(check)?;
                    let state = device.check(check)?.state(time);
                    matches!(state, State::Grace | State::Failing).then(|| Possible {
                        device: device.id,
                        name: self.name(Subject::Device(device.id)),
                        check,
                        longest,
                    })
                })
            })
            .collect()
    }

    fn name(&self, subject: Subject) -> String {
        match subject {
            Subject::Box => "この装置".to_owned(),
            Subject::Facility => "事業所".to_owned(),
            Subject::Device(id) => (self.names)(id).unwrap_or_else(|| id.to_string()),
        }
    }

    async fn waive(&self, wish: NewWaiver) -> Result<(), Message> {
        let _turn = self.turn.lock().await;
        let (snapshot, now) = (self.posture.snapshot(), posture::now());
        let behind = now.0.saturating_sub(snapshot.time(now).0);
        let subject = Subject::Device(wish.device);
        let waiver = Waiver {
            by: Authority::Manager,
            until: wish.until.plus(-behind),
            reason: one_line(&wish.reason),
        };
        if wish.until <= now {
            return Err(told(
                "過ぎた日付は選べません。",
                "きょう以降の日付を選んでください。",
                "W-PAST",
            ));
        }
        // Refused for what it is before anything is written down.
        waiver
            .permitted(wish.check, snapshot.time(now))
            .map_err(message)?;
        let in_use = snapshot
            .device(wish.device)
            .is_some_and(|device| device.revoked.is_none());
        if !in_use {
            return Err(message(WaiverError::NoSubject));
        }
        loosening::before(
            &self.posture,
            event(WaiverChange::Made, subject, wish.check, &waiver),
        )
        .await
        .map_err(|_| loosening::message())?;
        self.posture
            .waive(subject, wish.check, waiver)
            .map_err(message)?;
        self.posture.flush();
        tracing::warn!(
            target: "renraku::decision", decision = "waiver", outcome = "made", rule = wish.check.id(),
            device = %wish.device, until = wish.until.0, "the manager makes an exception",
        );
        Ok(())
    }

    async fn end(&self, device: DeviceId, check: Check) {
        let _turn = self.turn.lock().await;
        let subject = Subject::Device(device);
        let all = self.posture.waivers();
        let made = all.into_iter().find(|(whose, what, waiver)| {
            (*whose, *what) == (subject, check) && waiver.by == Authority::Manager
        });
        // What has ended or been withdrawn meanwhile is no mistake of anybody's.
        if let Some((_, _, waiver)) = made {
            self.posture.withdraw_waiver(subject, check);
            self.posture
                .record(event(WaiverChange::Withdrawn, subject, check, &waiver));
            tracing::info!(
                target: "renraku::decision", decision = "waiver", outcome = "withdrawn",
                rule = check.id(), device = %device, "the manager ends an exception",
            );
        }
    }
}

impl WaiversDesk for WaiverPages {
    fn waivers(&self) -> Answer<'_, Result<gateway_console::Waivers, Message>> {
        Box::pin(async { Ok(self.all()) })
    }

    fn make(&self, wish: NewWaiver, _: Staff) -> Answer<'_, Result<(), Message>> {
        Box::pin(self.waive(wish))
    }

    fn withdraw(
        &self,
        device: DeviceId,
        check: Check,
        _: Staff,
    ) -> Answer<'_, Result<(), Message>> {
        Box::pin(async move {
            self.end(device, check).await;
            Ok(())
        })
    }
}

fn event(what: WaiverChange, subject: Subject, check: Check, waiver: &Waiver) -> Event {
    Event::Waiver {
        what,
        subject,
        check,
        until: waiver.until,
        reason: Digest::of(&[waiver.reason.as_bytes()]),
    }
}

const fn device_of(subject: Subject) -> Option<DeviceId> {
    match subject {
        Subject::Device(id) => Some(id),
        Subject::Box | Subject::Facility => None,
    }
}

fn still_there(snapshot: &Snapshot, subject: Subject) -> bool {
    device_of(subject).is_none_or(|id| {
        let device = snapshot.device(id);
        device.is_some_and(|device| device.revoked.is_none())
    })
}

const fn is_trouble(state: State) -> bool {
    matches!(
        state,
        State::Grace | State::Failing | State::Unknown(_) | State::Waived
    )
}

/// A reason is shown in a table: no line breaks, nothing invisible.
fn one_line(text: &str) -> String {
    let visible = text
        .chars()
        .map(|letter| if letter.is_control() { ' ' } else { letter });
    visible.collect::<String>().trim().to_owned()
}

fn told(sentence: &str, next_step: &str, code: &str) -> Message {
    Message {
        sentence: sentence.into(),
        next_step: next_step.into(),
        code: code.into(),
    }
}

fn message(error: WaiverError) -> Message {
    match error {
        WaiverError::NotWaivable(_) => told(
            "この項目は、事業所では例外にできません。",
            "端末を直すか、下の問い合わせ先に電話してください。",
            "W-NOT",
        ),
        WaiverError::TooLong { longest, .. } => told(
            &format!("例外は{}日までです。", longest / 86_400),
            "もっと早い日付を選んでください。",
            "W-LONG",
        ),
        WaiverError::Reason => told(
            "理由が入力されていないか、長すぎます。",
            "120文字以内で、理由を入力してください。",
            "W-REASON",
        ),
        WaiverError::NoSubject => told(
            "この端末は、いま登録されていません。",
            "端末の一覧を開き直してください。",
            "W-NONE",
        ),
    }
}
