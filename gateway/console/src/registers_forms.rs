//! What the forms of the registers say, read into what is to be recorded. Whether it can be recorded the desk decides.

use gateway_policy::calendar::Date;

use crate::form::Fields;
use crate::moment::parse_iso;
use crate::registers::{DeclarationTopic, MediumChange, MediumKind, Method, NewMedium, Training};
use crate::{Message, response::Fault};

/// What was typed, or the sentence for a field that cannot be read.
pub(crate) type Typed<T> = Result<T, Message>;

fn message(sentence: &str, next_step: &str, code: &str) -> Message {
    Message {
        sentence: sentence.into(),
        next_step: next_step.into(),
        code: code.into(),
    }
}

pub(crate) fn medium(fields: &Fields) -> Typed<NewMedium> {
    let chosen = fields.value("kind");
    let kind = MediumKind::ALL
        .into_iter()
        .find(|kind| kind.label() == chosen)
        .ok_or_else(|| {
            message(
                "媒体の種類が選ばれていません。",
                "種類を選んでから、登録してください。",
                "R-KIND",
            )
        })?;
    Ok(NewMedium {
        kind,
        label: fields.value("label").to_owned(),
        purpose: fields.value("purpose").to_owned(),
        owner: fields.value("owner").to_owned(),
        place: fields.value("place").to_owned(),
    })
}

/// The change that a medium's page asks for. `Err` of the outer kind: no page of ours asks so.
pub(crate) fn change(fields: &Fields) -> Result<Typed<MediumChange>, Fault> {
    let text = |name: &str| fields.value(name).to_owned();
    Ok(Ok(match fields.value("action") {
        "lend" => MediumChange::Lend {
            to: text("to"),
            place: text("place"),
            due: match fields.value("due") {
                "" => None,
                due => match date(due) {
                    Ok(due) => Some(due),
                    Err(told) => return Ok(Err(told)),
                },
            },
        },
        "return" => MediumChange::Return,
        "move" => MediumChange::Move {
            owner: text("owner"),
            place: text("place"),
        },
        "lose" => MediumChange::Lose,
        "found" => MediumChange::Found,
        "write-off" => MediumChange::WriteOff {
            report: text("report"),
        },
        "dispose" => {
            let chosen = fields.value("method");
            let Some(method) = Method::ALL
                .into_iter()
                .find(|method| method.label() == chosen)
            else {
                return Ok(Err(message(
                    "廃棄の方法が選ばれていません。",
                    "方法を選んでから、記録してください。",
                    "R-METHOD",
                )));
            };
            MediumChange::Dispose {
                method,
                witness: text("witness"),
            }
        }
        _ => return Err(Fault::BadRequest),
    }))
}

/// Numbers of media seen, and of those missing.
type Found = (Vec<u64>, Vec<u64>);

/// What the review says of each medium on the page.
pub(crate) fn review(fields: &Fields) -> Result<Typed<Found>, Fault> {
    let listed: Option<Vec<u64>> = fields
        .values("listed")
        .map(|number| number.parse().ok())
        .collect();
    let listed = listed.ok_or(Fault::BadRequest)?;
    let (mut seen, mut missing) = (Vec::new(), Vec::new());
    for number in listed {
        match fields.value(&format!("found-{number}")) {
            "yes" => seen.push(number),
            "no" => missing.push(number),
            _ => {
                return Ok(Err(message(
                    "「ある」か「ない」かが選ばれていない媒体があります。",
                    "すべての媒体について選んでから、点検を記録してください。",
                    "R-REVIEW",
                )));
            }
        }
    }
    Ok(Ok((seen, missing)))
}

pub(crate) fn training(fields: &Fields) -> Typed<Training> {
    let participants = number(fields.value("participants")).ok_or_else(|| {
        message(
            "参加人数を読み取れません。",
            "人数を数字で入力してください。",
            "R-PARTICIPANTS",
        )
    })?;
    Ok(Training {
        day: date(fields.value("day"))?,
        topic: fields.value("topic").to_owned(),
        participants,
    })
}

pub(crate) fn topic(fields: &Fields) -> Result<DeclarationTopic, Fault> {
    let chosen = fields.value("topic");
    DeclarationTopic::ALL
        .into_iter()
        .find(|topic| topic.label() == chosen)
        .ok_or(Fault::BadRequest)
}

fn date(text: &str) -> Typed<Date> {
    parse_iso(&ascii(text)).ok_or_else(|| {
        message(
            "日付を読み取れません。",
            "日付を選び直してください（例：2026-11-24）。",
            "R-DATE",
        )
    })
}

fn number(text: &str) -> Option<u32> {
    let text = ascii(text);
    let digits = text.trim().trim_end_matches('名').trim_end_matches('人');
    digits.parse().ok()
}

/// Full-width digits, as a Japanese input method leaves them, and other separators of a date as hyphens.
fn ascii(text: &str) -> String {
    text.chars()
        .map(|character| match character {
            '０'..='９' => {
                char::from_u32(u32::from(character) - u32::from('０') + u32::from('0'))
                    .unwrap_or(character)
            }
            '/' | '／' | '－' | 'ー' => '-',
            other => other,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(encoded: &str) -> Fields {
        Fields::read(encoded.as_bytes()).unwrap()
    }

    #[test]
    fn days_and_numbers_are_read_in_either_width() {
        let day = Date {
            year: 2026,
            month: 4,
            day: 1,
        };
        for text in ["2026-04-01", "２０２６／０４／０１", "2026/4/1"] {
            assert_eq!(date(text), Ok(day), "{text}");
        }
        assert!(date("2026-02-30").is_err() && date("").is_err());
        assert_eq!(number("１２名"), Some(12));
        assert_eq!(number("about 12"), None);
    }

    #[test]
    fn a_review_answers_for_each_medium_listed() {
        let complete = fields("listed=1&listed=2&found-1=yes&found-2=no");
        assert_eq!(review(&complete).unwrap(), Ok((vec![1], vec![2])));
        assert!(
            review(&fields("listed=1&listed=2&found-1=yes"))
                .unwrap()
                .is_err()
        );
        assert_eq!(review(&fields("")).unwrap(), Ok((vec![], vec![])));
        assert!(review(&fields("listed=x")).is_err());
    }

    #[test]
    fn only_changes_that_our_pages_offer_are_read() {
        assert!(change(&fields("action=explode")).is_err());
        assert_eq!(
            change(&fields("action=return")).unwrap(),
            Ok(MediumChange::Return)
        );
        assert!(change(&fields("action=dispose&method=x")).unwrap().is_err());
        assert!(
            change(&fields("action=lend&to=a&place=b&due=2026-13-01"))
                .unwrap()
                .is_err()
        );
    }
}
