//! The registers as the console's pages see them: other names for the same things, and a sentence for each refusal.

use std::sync::Arc;

use bytes::Bytes;
use gateway_audit::{Event, RegisterChange};
use gateway_console::{
    Answer, DeclarationState, DeclarationTopic, Declarations, HeldTraining, MadeDeclaration, Media,
    Medium, MediumChange, MediumHistory, MediumKind, MediumState, Message, Method, NewMedium,
    Recorded, Register, RegistersDesk, Staff, Training, Trainings,
};
use gateway_policy::Timestamp;
use gateway_registers::{Change, Disposal, Error, Field, Kind, Place, Refused, Registers, Topic};

use crate::audit::loosening;
use crate::certificates::chain;
use crate::posture::{self, Posture};
use crate::registers::{KeptRegisters, Unusable};

const DAY: i64 = 86_400;
/// How long a review and a declaration are good, and a training. The same as the thresholds of MEDIA, DECL and TRAINING.
const REVIEW_GOOD: i64 = 90 * DAY;
const TRAINING_GOOD: i64 = 365 * DAY;

/// See the module.
#[derive(Debug)]
pub(crate) struct RegisterPages(pub(crate) Arc<KeptRegisters>, pub(crate) Arc<Posture>);

impl RegisterPages {
    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Registers) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Message> {
        self.0.with(work).await.map_err(|error| message(&error))
    }

    async fn record<T: Send + 'static>(
        &self,
        what: &'static str,
        work: impl FnOnce(&Registers, Timestamp) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Message> {
        let now = posture::now();
        let done = self.read(move |registers| work(registers, now)).await;
        if done.is_ok() {
            tracing::info!(event = "registers", what, "an entry was recorded");
            // What loosens stands in the audit log already.
            if let Some(what) = audited(what) {
                self.1.record(Event::Register { what });
            }
            self.0.changed();
        }
        done
    }
}

impl RegistersDesk for RegisterPages {
    fn media(&self) -> Answer<'_, Result<Media, Message>> {
        Box::pin(self.read(|registers| {
            let state = registers.state();
            let mut media: Vec<Medium> = state.media().cloned().map(medium).collect();
            media.sort_by_key(|medium| (is_over(&medium.state), medium.number));
            let reviewed = state.reviewed();
            Ok(Media {
                media,
                reviewed,
                review_by: reviewed.map(|at| at.plus(REVIEW_GOOD)),
            })
        }))
    }

    fn medium(&self, number: u64) -> Answer<'_, Result<Option<MediumHistory>, Message>> {
        Box::pin(self.read(move |registers| {
            let found = registers.history(number)?;
            Ok(found.map(|history| MediumHistory {
                medium: medium(history.medium),
                events: history
                    .events
                    .into_iter()
                    .map(|event| Recorded {
                        at: event.at,
                        by: event.by,
                        what: event.what,
                    })
                    .collect(),
            }))
        }))
    }

    fn enter_medium(&self, new: NewMedium, by: Staff) -> Answer<'_, Result<u64, Message>> {
        let what = gateway_registers::NewMedium {
            kind: kind_to(new.kind),
            label: new.label,
            purpose: new.purpose,
            owner: new.owner,
            place: new.place,
        };
        Box::pin(self.record("medium-entered", move |registers, now| {
            registers.enter(what, &by.user, now)
        }))
    }

    fn change_medium(
        &self,
        number: u64,
        asked: MediumChange,
        by: Staff,
    ) -> Answer<'_, Result<(), Message>> {
        let (what, change) = change(asked);
        Box::pin(self.record(what, move |registers, now| {
            registers.change(number, change, &by.user, now)
        }))
    }

    fn review_media(
        &self,
        seen: Vec<u64>,
        missing: Vec<u64>,
        by: Staff,
    ) -> Answer<'_, Result<(), Message>> {
        Box::pin(self.record("media-reviewed", move |registers, now| {
            registers.review(seen, missing, &by.user, now)
        }))
    }

    fn trainings(&self) -> Answer<'_, Result<Trainings, Message>> {
        Box::pin(self.read(|registers| {
            let state = registers.state();
            let mut held: Vec<_> = state
                .trainings()
                .iter()
                .map(|held| HeldTraining {
                    training: Training {
                        day: held.training.day,
                        topic: held.training.topic.clone(),
                        participants: held.training.participants,
                    },
                    at: held.at,
                    by: held.by.clone(),
                })
                .collect();
            held.sort_by_key(|held| std::cmp::Reverse((held.training.day, held.at)));
            let last = state.last_training();
            Ok(Trainings {
                held,
                due: last.map(|at| at.plus(TRAINING_GOOD)),
            })
        }))
    }

    fn record_training(&self, held: Training, by: Staff) -> Answer<'_, Result<(), Message>> {
        let training = gateway_registers::Training {
            day: held.day,
            topic: held.topic,
            participants: held.participants,
        };
        Box::pin(self.record("training-recorded", move |registers, now| {
            registers.train(training, &by.user, now)
        }))
    }

    fn declarations(&self) -> Answer<'_, Result<Declarations, Message>> {
        Box::pin(self.read(|registers| {
            let state = registers.state();
            Ok(Declarations {
                topics: Topic::ALL
                    .map(|topic| {
                        let declared = state.declared(topic);
                        DeclarationState {
                            topic: topic_from(topic),
                            declared,
                            until: declared.map(|at| at.plus(REVIEW_GOOD)),
                        }
                    })
                    .to_vec(),
                made: state
                    .declarations()
                    .iter()
                    .rev()
                    .map(|made| MadeDeclaration {
                        topic: topic_from(made.topic),
                        at: made.at,
                        by: made.by.clone(),
                        until: made.at.plus(REVIEW_GOOD),
                        remark: made.remark.clone(),
                    })
                    .collect(),
            })
        }))
    }

    fn declare(
        &self,
        topic: DeclarationTopic,
        remark: String,
        by: Staff,
    ) -> Answer<'_, Result<(), Message>> {
        let topic = match topic {
            DeclarationTopic::Paper => Topic::Paper,
            DeclarationTopic::Tablets => Topic::Tablets,
        };
        Box::pin(self.record("declared", move |registers, now| {
            registers.declare(topic, &remark, &by.user, now)
        }))
    }

    fn export(&self, register: Register) -> Answer<'_, Result<Bytes, Message>> {
        let register = match register {
            Register::Media => gateway_registers::Register::Media,
            Register::Trainings => gateway_registers::Register::Trainings,
            Register::Declarations => gateway_registers::Register::Declarations,
        };
        Box::pin(async move {
            let text = self.read(move |registers| registers.csv(register)).await?;
            Ok(Bytes::from(text))
        })
    }
}

const fn is_over(state: &MediumState) -> bool {
    matches!(
        state,
        MediumState::Disposed { .. } | MediumState::WrittenOff { .. }
    )
}

fn medium(medium: gateway_registers::Medium) -> Medium {
    Medium {
        number: medium.number,
        what: NewMedium {
            kind: kind_from(medium.what.kind),
            label: medium.what.label,
            purpose: medium.what.purpose,
            owner: medium.what.owner,
            place: medium.what.place,
        },
        state: match medium.place {
            Place::Kept => MediumState::Kept,
            Place::Lent { to, place, due } => MediumState::Lent { to, place, due },
            Place::Missing => MediumState::Missing,
            Place::Disposed { method, witness } => MediumState::Disposed {
                method: method_from(method),
                witness,
            },
            Place::WrittenOff { report } => MediumState::WrittenOff { report },
        },
        since: medium.since,
        seen: medium.seen,
    }
}

/// The journal's words in those of the audit log, of what is written down after it was done: what does not loosen.
fn audited(what: &str) -> Option<RegisterChange> {
    Some(match what {
        "medium-entered" | "medium-found" | "media-reviewed" | "training-recorded" | "declared" => {
            return None;
        }
        "medium-lent" => RegisterChange::MediumLent,
        "medium-returned" => RegisterChange::MediumReturned,
        "medium-moved" => RegisterChange::MediumMoved,
        "medium-missing" => RegisterChange::MediumMissing,
        "medium-written-off" => RegisterChange::MediumWrittenOff,
        "medium-disposed-of" => RegisterChange::MediumDisposed,
        _ => RegisterChange::Other,
    })
}

/// The change, and its name in the journal.
fn change(asked: MediumChange) -> (&'static str, Change) {
    match asked {
        MediumChange::Lend { to, place, due } => ("medium-lent", Change::Lend { to, place, due }),
        MediumChange::Return => ("medium-returned", Change::Return),
        MediumChange::Move { owner, place } => ("medium-moved", Change::Move { owner, place }),
        MediumChange::Lose => ("medium-missing", Change::Lose),
        MediumChange::Found => ("medium-found", Change::Found),
        MediumChange::WriteOff { report } => ("medium-written-off", Change::WriteOff { report }),
        MediumChange::Dispose { method, witness } => {
            let method = method_to(method);
            ("medium-disposed-of", Change::Dispose { method, witness })
        }
    }
}

const fn kind_from(kind: Kind) -> MediumKind {
    match kind {
        Kind::UsbMemory => MediumKind::UsbMemory,
        Kind::Disk => MediumKind::Disk,
        Kind::Card => MediumKind::Card,
        Kind::Optical => MediumKind::Optical,
        Kind::Tape => MediumKind::Tape,
        Kind::Paper => MediumKind::Paper,
        Kind::Other => MediumKind::Other,
    }
}

const fn kind_to(kind: MediumKind) -> Kind {
    match kind {
        MediumKind::UsbMemory => Kind::UsbMemory,
        MediumKind::Disk => Kind::Disk,
        MediumKind::Card => Kind::Card,
        MediumKind::Optical => Kind::Optical,
        MediumKind::Tape => Kind::Tape,
        MediumKind::Paper => Kind::Paper,
        MediumKind::Other => Kind::Other,
    }
}

const fn method_from(method: Disposal) -> Method {
    match method {
        Disposal::Destroyed => Method::Destroyed,
        Disposal::Shredded => Method::Shredded,
        Disposal::Contractor => Method::Contractor,
        Disposal::Erased => Method::Erased,
    }
}

const fn method_to(method: Method) -> Disposal {
    match method {
        Method::Destroyed => Disposal::Destroyed,
        Method::Shredded => Disposal::Shredded,
        Method::Contractor => Disposal::Contractor,
        Method::Erased => Disposal::Erased,
    }
}

const fn topic_from(topic: Topic) -> DeclarationTopic {
    match topic {
        Topic::Paper => DeclarationTopic::Paper,
        Topic::Tablets => DeclarationTopic::Tablets,
    }
}

fn told(sentence: impl Into<String>, next_step: &str, code: &str) -> Message {
    Message {
        sentence: sentence.into(),
        next_step: next_step.into(),
        code: code.into(),
    }
}

fn message(error: &Unusable) -> Message {
    match error {
        Unusable::Registers(Error::Refused(refused)) => refusal(*refused),
        Unusable::Registers(Error::NotWrittenDown) => loosening::message(),
        other => {
            tracing::error!(event = "registers", error = %chain(other), "the registers cannot be used");
            told(
                "台帳をいま読み書きできません。",
                "数分たってからもう一度お試しください。続くときは、下の問い合わせ先に電話してください。記録は消していません。",
                "R-STORE",
            )
        }
    }
}

fn refusal(refused: Refused) -> Message {
    let look = "画面の内容を確かめて、もう一度操作してください。";
    match refused {
        Refused::NoSuchMedium => told("この番号の媒体はありません。", look, "R-NONE"),
        Refused::LabelTaken => told(
            "同じ名前の媒体が、すでに登録されています。",
            "媒体に別の名前を書いて、その名前で登録してください。",
            "R-LABEL",
        ),
        Refused::NotKept | Refused::NotLent | Refused::NotMissing | Refused::Missing => told(
            "この媒体の状態が、ほかの操作で変わっています。",
            look,
            "R-STATE",
        ),
        Refused::Ended => told(
            "この媒体は、すでに廃棄または除却されています。",
            look,
            "R-ENDED",
        ),
        Refused::ReviewIncomplete => told(
            "点検の途中で、台帳の媒体が変わりました。",
            "新しい一覧で、もう一度選んでください。",
            "R-REVIEW",
        ),
        Refused::Empty(field) => told(
            format!("「{}」が入力されていません。", name(field)),
            "入力してから、もう一度お試しください。",
            "R-EMPTY",
        ),
        Refused::TooLong(field) => told(
            format!("「{}」が長すぎます。", name(field)),
            "100文字以内にしてください。",
            "R-LONG",
        ),
        Refused::NoText(field) => told(
            format!("「{}」に使えない文字があります。", name(field)),
            "改行や特別な記号を消してください。",
            "R-TEXT",
        ),
        Refused::NoSuchDay(field) | Refused::ImpossibleDay(field) => told(
            format!("「{}」の日付が正しくありません。", name(field)),
            "日付を選び直してください。",
            "R-DAY",
        ),
        Refused::Participants => told(
            "参加人数が正しくありません。",
            "1名から1000名までの人数を入力してください。",
            "R-PARTICIPANTS",
        ),
        Refused::Recorded => told(
            "同じ研修が、すでに記録されています。",
            "一覧を確かめてください。",
            "R-TWICE",
        ),
        Refused::Full => told(
            "台帳に登録できる数を超えています。",
            "下の問い合わせ先に電話してください。",
            "R-FULL",
        ),
    }
}

const fn name(field: Field) -> &'static str {
    match field {
        Field::Label => "媒体に書いてある名前",
        Field::Purpose => "使い道",
        Field::Owner => "責任者",
        Field::Place => "場所",
        Field::Borrower => "だれに",
        Field::Due => "返却予定日",
        Field::Witness => "立会人",
        Field::Report => "報告した日・相手・方法",
        Field::Day => "実施した日",
        Field::Topic => "内容",
        Field::Remark => "備考",
        Field::By => "記録者",
    }
}
