//! Break-glass as the console's pages see it: the box's own secrets and the policy's record put together.

use std::sync::Arc;

use gateway_audit::{BreakGlass as Written, Event};
use gateway_city::feed::FeedState;
use gateway_console::{
    Actor, Answer, BreakGlass, BreakGlassDesk, Entry, Key, Message, Opening, Reason,
};
use gateway_policy::{
    BOX_CHECKS, BreakGlass as Record, BreakGlassError, Effect, Emergency, Opener, Rule, Snapshot,
    Timestamp,
};
use tokio::sync::watch;

use crate::audit::loosening;
use crate::break_glass::{BreakGlassFile, Code, Pin, PinFault, Refused, Remark, Tried};
use crate::certificates::chain;
use crate::posture::{self, Posture};

/// The longest text of a review.
const LONGEST_REVIEW: usize = 300;

/// See the module.
#[derive(Debug)]
pub(crate) struct BreakGlassPages {
    /// Secrets and remarks.
    pub(crate) file: Arc<BreakGlassFile>,
    /// The record of emergencies, and what is stopped.
    pub(crate) posture: Arc<Posture>,
    /// Whether the city can be reached.
    pub(crate) feed: watch::Receiver<FeedState>,
    /// One declaration at a time: what is written down beforehand is what then happens.
    pub(crate) turn: tokio::sync::Mutex<()>,
}

impl BreakGlassPages {
    fn online(&self) -> bool {
        matches!(
            *self.feed.borrow(),
            FeedState::CatchingUp | FeedState::CaughtUp { .. }
        )
    }

    async fn prove(&self, tried: Tried) -> Result<Tried, Message> {
        let file = Arc::clone(&self.file);
        let proven =
            tokio::task::spawn_blocking(move || file.prove(&tried, posture::now()).map(|()| tried))
                .await;
        match proven {
            Ok(Ok(tried)) => Ok(tried),
            Ok(Err(refused)) => {
                tracing::warn!(target: "renraku::decision", decision = "break-glass", outcome = "refused", why = %refused, "break-glass was tried");
                Err(refusal(&refused))
            }
            Err(_) => Err(failed()),
        }
    }

    async fn declare(&self, tried: &Tried, reason: Reason, by: &Actor) -> Result<(), Message> {
        let _turn = self.turn.lock().await;
        let opener = match tried {
            Tried::Pin(_) => Opener::Manager,
            Tried::Code(code) => Opener::SealedCode(code.digest()),
        };
        let by_code = matches!(tried, Tried::Code(_));
        let reason_given = reason;
        let act = |record: &mut Record, now| {
            if record.open_until(now).is_some() && !by_code {
                return record.renew(now).map(|until| (false, until));
            }
            record
                .open(opener, reason_to(reason_given), now)
                .map(|until| (true, until))
        };
        // Tried on a copy, written down, and only then done.
        let mut record = self.posture.emergencies();
        let time = self.posture.snapshot().time(posture::now());
        let (opened, until) = act(&mut record, time).map_err(not_declared)?;
        let last = record.emergencies().last().ok_or_else(failed)?;
        let event = Event::BreakGlass {
            what: if opened {
                Written::Opened
            } else {
                Written::Renewed
            },
            number: last.number,
            reason: last.reason,
            until,
        };
        loosening::before(&self.posture, event)
            .await
            .map_err(|_| loosening::message())?;
        let declared = self.posture.break_glass(act);
        // It has to outlive a power cut before anybody relies on it.
        self.posture.flush();
        match declared {
            Ok((opened, until)) => {
                let record = self.posture.emergencies();
                if let (true, Some(last)) = (opened, record.emergencies().last()) {
                    self.file
                        .opened(last.number, by_code, by.user.clone(), by.device);
                }
                tracing::warn!(
                    target: "renraku::decision", decision = "break-glass",
                    outcome = if opened { "opened" } else { "renewed" },
                    reason = reason_given.code(), by_code, until = until.0,
                    device = by.device.map(tracing::field::display), "an emergency is declared",
                );
                Ok(())
            }
            Err(error) => Err(not_declared(error)),
        }
    }
}

impl BreakGlassDesk for BreakGlassPages {
    fn state(&self) -> BreakGlass {
        let (snapshot, record) = (self.posture.snapshot(), self.posture.emergencies());
        let standing = self.file.standing();
        let now = posture::now();
        // The record runs in the ledger's time; people read the clock's.
        let time = snapshot.time(now);
        let behind = now.0.saturating_sub(time.0);
        let opening = |emergency: &Emergency| {
            let remark = standing.remarks.get(&emergency.number);
            shown(emergency, remark, behind)
        };
        let is_open = record.open_until(time).is_some();
        let mut past: Vec<Opening> = record.emergencies().iter().rev().map(opening).collect();
        let open = if is_open && !past.is_empty() {
            Some(past.remove(0))
        } else {
            None
        };
        BreakGlass {
            pin_set: standing.pin_set,
            sealed_code: standing.sealed,
            locked_until: standing.locked_until,
            online: self.online(),
            would_help: would_help(&snapshot, now),
            open,
            uses_left: u32::try_from(record.uses_left(time)).unwrap_or(u32::MAX),
            past,
        }
    }

    fn set_pin(&self, typed: Entry, _: Actor) -> Answer<'_, Result<(), Message>> {
        Box::pin(async move {
            if !self.online() {
                return Err(offline());
            }
            let pin = Pin::parse(typed.as_str()).map_err(pin_fault)?;
            pin.check_strength().map_err(pin_fault)?;
            let file = Arc::clone(&self.file);
            let set = tokio::task::spawn_blocking(move || file.set_pin(&pin)).await;
            tracing::info!(target: "renraku::decision", decision = "break-glass", outcome = "pin-set", "the manager's PIN was set");
            set.map_err(|_| failed())?.map_err(|error| refusal(&error))
        })
    }

    fn make_sealed_code(&self, _: Actor) -> Answer<'_, Result<Entry, Message>> {
        Box::pin(async {
            if !self.online() {
                return Err(offline());
            }
            let code = self
                .file
                .make_code(posture::now())
                .map_err(|error| refusal(&error))?;
            let digest = code.digest();
            let _ = self.posture.break_glass(|record, _| {
                record.seal_code(digest);
                Ok(())
            });
            self.posture.flush();
            tracing::info!(target: "renraku::decision", decision = "break-glass", outcome = "code-made", "a code for the safe was made");
            Ok(Entry::new(code.shown()))
        })
    }

    fn open(&self, key: Key, reason: Reason, by: Actor) -> Answer<'_, Result<(), Message>> {
        Box::pin(async move {
            let tried = match key {
                Key::Pin(typed) => match Pin::parse(typed.as_str()) {
                    Ok(pin) => Tried::Pin(pin),
                    Err(fault) => return Err(pin_fault(fault)),
                },
                Key::SealedCode(typed) => match Code::parse(typed.as_str()) {
                    Some(code) => Tried::Code(code),
                    None => return Err(no_code()),
                },
            };
            let tried = self.prove(tried).await?;
            self.declare(&tried, reason, &by).await
        })
    }

    fn close(&self, by: Actor) -> Answer<'_, Result<(), Message>> {
        Box::pin(async move {
            let closed = self.posture.break_glass(gateway_policy::BreakGlass::close);
            self.posture.flush();
            if closed.is_ok() {
                tracing::info!(
                    target: "renraku::decision", decision = "break-glass", outcome = "closed",
                    device = by.device.map(tracing::field::display), "the emergency was ended",
                );
            }
            // Closing what has just ended by itself is no mistake of anybody's.
            Ok(())
        })
    }

    fn review(&self, opening: u64, text: String, _: Actor) -> Answer<'_, Result<(), Message>> {
        Box::pin(async move {
            let text: String = text
                .chars()
                .filter(|letter| !letter.is_control() || *letter == '\n')
                .collect();
            if text.is_empty() || text.chars().count() > LONGEST_REVIEW {
                return Err(told(
                    "振り返りが空か、長すぎます。",
                    "300文字以内で書いてください。",
                    "B-REVIEW",
                ));
            }
            let now = posture::now();
            let time = self.posture.snapshot().time(now);
            let is_over = |past: &Emergency| past.number == opening && past.until <= time;
            if !self.posture.emergencies().emergencies().iter().any(is_over) {
                return Err(told(
                    "この解除の記録が見つかりません。",
                    "画面を開き直してください。",
                    "B-NONE",
                ));
            }
            self.file
                .reviewed(opening, text)
                .map_err(|error| refusal(&error))?;
            let _ = self.posture.break_glass(|record, now| {
                record.review(opening, now);
                Ok(())
            });
            self.posture.flush();
            tracing::info!(target: "renraku::decision", decision = "break-glass", outcome = "reviewed", number = opening, "an emergency was reviewed");
            Ok(())
        })
    }
}

fn shown(emergency: &Emergency, remark: Option<&Remark>, behind: i64) -> Opening {
    let review = remark.and_then(|remark| remark.review.clone());
    Opening {
        id: emergency.number,
        since: emergency.opened.plus(behind),
        until: emergency.until.plus(behind),
        at_most: emergency.at_most().plus(behind),
        reason: reason_from(emergency.reason),
        by_sealed_code: emergency.by_code,
        review: review.or_else(|| emergency.reviewed.map(|_| "記録済み".to_owned())),
        review_by: emergency.review_due().plus(behind),
    }
}

/// Whether an emergency would lower something: a check that yields to it blocks, and nothing blocks that does not.
fn would_help(snapshot: &Snapshot, now: Timestamp) -> bool {
    let blocks = |rule: Rule| rule.judge(snapshot, now).effect == Effect::Block;
    let always = [Rule::Suspended, Rule::Cert, Rule::SnapshotStale];
    let of_the_box = BOX_CHECKS.map(Rule::Check);
    let stands = |rule: &Rule| !rule.yields_to_break_glass();
    if always
        .into_iter()
        .chain(of_the_box.into_iter().filter(stands))
        .any(blocks)
    {
        return false;
    }
    let time = snapshot.time(now);
    let a_device = snapshot.devices().iter().any(|device| {
        device.revoked.is_none()
            && gateway_policy::DEVICE_CHECKS.into_iter().any(|check| {
                device
                    .check(check)
                    .is_some_and(|entry| entry.effect(time) == Effect::Block)
            })
    });
    a_device || of_the_box.into_iter().any(blocks)
}

const fn reason_to(reason: Reason) -> gateway_policy::Reason {
    match reason {
        Reason::Emergency => gateway_policy::Reason::Emergency,
        Reason::Handover => gateway_policy::Reason::Handover,
        Reason::Transfer => gateway_policy::Reason::Transfer,
        Reason::Disaster => gateway_policy::Reason::Disaster,
    }
}

pub(crate) const fn reason_from(reason: gateway_policy::Reason) -> Reason {
    match reason {
        gateway_policy::Reason::Emergency => Reason::Emergency,
        gateway_policy::Reason::Handover => Reason::Handover,
        gateway_policy::Reason::Transfer => Reason::Transfer,
        gateway_policy::Reason::Disaster => Reason::Disaster,
    }
}

fn told(sentence: impl Into<String>, next_step: &str, code: &str) -> Message {
    Message {
        sentence: sentence.into(),
        next_step: next_step.into(),
        code: code.into(),
    }
}

fn refusal(refused: &Refused) -> Message {
    match refused {
        Refused::Wrong { left } => told(
            "暗証番号またはコードが違います。",
            &format!(
                "確かめて、もう一度入力してください。あと{left}回まちがえると、しばらく入力できなくなります。"
            ),
            "B-WRONG",
        ),
        Refused::Locked => told(
            "まちがいが続いたため、しばらく入力できません。",
            "表示された時刻まで待ってください。急ぎの連絡は電話でしてください。保存した連絡は読めます。",
            "B-LOCKED",
        ),
        Refused::NotSet => told(
            "暗証番号またはコードが設定されていません。",
            "保存した連絡を読み、急ぎの連絡は電話でしてください。",
            "B-NOT-SET",
        ),
        Refused::Disk(_) | Refused::Hash => {
            tracing::error!(event = "break-glass", error = %chain(refused), "break-glass cannot be used");
            failed()
        }
    }
}

fn not_declared(error: BreakGlassError) -> Message {
    match error {
        BreakGlassError::AlreadyOpen | BreakGlassError::NotOpen => told(
            "ほかの端末から、すでに操作されています。",
            "画面を開き直して、いまの状態を確かめてください。",
            "B-STATE",
        ),
        BreakGlassError::TooLong => told(
            "これ以上は延長できません（12時間まで）。",
            "下の問い合わせ先に電話してください。",
            "B-LONGEST",
        ),
        BreakGlassError::UsedUp { .. } => told(
            "この30日間に使える回数（3回）を使い切りました。",
            "下の問い合わせ先に電話して、市の確認を受けてください。",
            "B-USED-UP",
        ),
        BreakGlassError::ReviewOverdue => told(
            "前の解除の振り返りが、期限までに記録されていません。",
            "事業所管理者がこのページの下で振り返りを記録すると、使えるようになります。",
            "B-OVERDUE",
        ),
        BreakGlassError::Code => no_code(),
    }
}

fn no_code() -> Message {
    told(
        "コードの形が正しくありません。",
        "封筒の中の紙を見ながら、20文字をそのまま入力してください。",
        "B-CODE",
    )
}

fn pin_fault(fault: PinFault) -> Message {
    match fault {
        PinFault::Digits => told(
            "暗証番号は6桁以上の数字です。",
            "数字だけで、もう一度入力してください。",
            "B-DIGITS",
        ),
        PinFault::Guessable => told(
            "同じ数字や連番だけの暗証番号は使えません。",
            "ほかの人が思いつかない数字にしてください。",
            "B-GUESSABLE",
        ),
    }
}

fn offline() -> Message {
    told(
        "市につながっていないため、いまは設定できません。",
        "市につながってから、もう一度操作してください。",
        "B-OFFLINE",
    )
}

fn failed() -> Message {
    told(
        "装置の内部の問題で、操作できませんでした。",
        "少し待ってからもう一度お試しください。急ぎの連絡は電話でしてください。",
        "B-FAILED",
    )
}
