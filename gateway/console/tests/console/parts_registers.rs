//! The registers as a test arranges them.

use bytes::Bytes;
use gateway_console::{
    Answer, DeclarationState, DeclarationTopic, Declarations, HeldTraining, MadeDeclaration, Media,
    MediumChange, MediumHistory, Message, NewMedium, Recorded, Register, RegistersDesk, Staff,
    Training, Trainings,
};
use gateway_policy::calendar::Date;

use crate::desk::{DAY, NOW};
use crate::parts::Parts;

impl RegistersDesk for Parts {
    fn media(&self) -> Answer<'_, Result<Media, Message>> {
        let media = self.0.lock().unwrap().media.clone();
        Box::pin(async {
            Ok(Media {
                media,
                reviewed: Some(NOW.plus(-50 * DAY)),
                review_by: Some(NOW.plus(40 * DAY)),
            })
        })
    }

    fn medium(&self, number: u64) -> Answer<'_, Result<Option<MediumHistory>, Message>> {
        let media = self.0.lock().unwrap().media.clone();
        let found = media.into_iter().find(|medium| medium.number == number);
        Box::pin(async {
            Ok(found.map(|medium| MediumHistory {
                medium,
                events: vec![
                    Recorded {
                        at: NOW.plus(-90 * DAY),
                        by: "kanri".into(),
                        what: "登録（責任者 佐藤、保管場所 事務室の鍵付き棚）".into(),
                    },
                    Recorded {
                        at: NOW.plus(-50 * DAY),
                        by: "kanri".into(),
                        what: "点検：あることを確認".into(),
                    },
                ],
            }))
        })
    }

    fn enter_medium(&self, medium: NewMedium, by: Staff) -> Answer<'_, Result<u64, Message>> {
        let done = self.ask(format!("enter {} by {}", medium.label, by.user));
        Box::pin(async { done.map(|()| 4) })
    }

    fn change_medium(
        &self,
        number: u64,
        change: MediumChange,
        _: Staff,
    ) -> Answer<'_, Result<(), Message>> {
        let done = self.ask(format!("change {number} {change:?}"));
        Box::pin(async { done })
    }

    fn review_media(
        &self,
        seen: Vec<u64>,
        missing: Vec<u64>,
        _: Staff,
    ) -> Answer<'_, Result<(), Message>> {
        let done = self.ask(format!("review {seen:?} {missing:?}"));
        Box::pin(async { done })
    }

    fn trainings(&self) -> Answer<'_, Result<Trainings, Message>> {
        Box::pin(async {
            Ok(Trainings {
                held: vec![HeldTraining {
                    training: Training {
                        day: Date {
                            year: 2026,
                            month: 4,
                            day: 10,
                        },
                        topic: "パスワードの扱い、端末をなくしたとき".into(),
                        participants: 12,
                    },
                    at: NOW.plus(-200 * DAY),
                    by: "kanri".into(),
                }],
                due: Some(NOW.plus(130 * DAY)),
            })
        })
    }

    fn record_training(&self, training: Training, _: Staff) -> Answer<'_, Result<(), Message>> {
        let done = self.ask(format!(
            "train {} {}",
            training.topic, training.participants
        ));
        Box::pin(async { done })
    }

    fn declarations(&self) -> Answer<'_, Result<Declarations, Message>> {
        Box::pin(async {
            Ok(Declarations {
                topics: vec![
                    DeclarationState {
                        topic: DeclarationTopic::Paper,
                        declared: Some(NOW.plus(-10 * DAY)),
                        until: Some(NOW.plus(80 * DAY)),
                    },
                    DeclarationState {
                        topic: DeclarationTopic::Tablets,
                        declared: None,
                        until: None,
                    },
                ],
                made: vec![MadeDeclaration {
                    topic: DeclarationTopic::Paper,
                    at: NOW.plus(-10 * DAY),
                    by: "kanri".into(),
                    until: NOW.plus(80 * DAY),
                    remark: String::new(),
                }],
            })
        })
    }

    fn declare(
        &self,
        topic: DeclarationTopic,
        remark: String,
        _: Staff,
    ) -> Answer<'_, Result<(), Message>> {
        let done = self.ask(format!("declare {topic:?} {remark}"));
        Box::pin(async { done })
    }

    fn export(&self, _: Register) -> Answer<'_, Result<Bytes, Message>> {
        Box::pin(async { Ok(Bytes::from_static("\u{feff}\"日時\"\r\n".as_bytes())) })
    }
}
