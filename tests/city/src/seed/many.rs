//! A large city: as many invented persons, notes and attachments as a benchmark or a load test asks for.
//!
//! It is added to a seeded city through the tests' hand; nothing in it is random, so two cities of one size are alike.

use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

use super::{DAY, words};
use crate::city::City;
use crate::problem::Problem;
use crate::secrets::{hex, sha256};
use crate::store::people::{self, Attachment, Note, Person};
use crate::times;

/// How large.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Size {
    /// Persons; their ids are `q-00001` and so on.
    pub persons: usize,
    /// Notes, spread evenly over the persons; their ids are `m-0000001` and so on.
    pub notes: usize,
    /// How many of the notes have an attachment of about 20 KB, evenly spread.
    #[serde(default)]
    pub attachments: usize,
    /// Over how many days before now the notes are spread.
    pub days: i64,
    /// Who may read all of them.
    pub readers: Vec<String>,
}

/// The route of the tests' hand.
pub fn routes(city: Arc<City>) -> Router {
    Router::new()
        .route("/control/many", post(many))
        .with_state(city)
}

async fn many(
    State(city): State<Arc<City>>,
    Json(size): Json<Size>,
) -> Result<Json<Value>, Problem> {
    if size.persons == 0 || size.readers.is_empty() || size.attachments > size.notes {
        return Err(Problem::bad_request("人と読む職員が要ります。"));
    }
    let files = files(&city, size.attachments).map_err(|error| Problem::internal(&error))?;
    let answer =
        json!({ "persons": size.persons, "notes": size.notes, "attachments": files.len() });
    city.store
        .run(move |connection| {
            let readers: Vec<&str> = size.readers.iter().map(String::as_str).collect();
            for number in 0..size.persons {
                people::add_person(connection, &person(number), &readers)?;
            }
            let author = people::user(connection, readers[0])?
                .ok_or(rusqlite::Error::QueryReturnedNoRows)?;
            let mut files = files.into_iter();
            for number in 0..size.notes {
                let attached = has_attachment(number, &size)
                    .then(|| files.next())
                    .flatten();
                people::add_note(
                    connection,
                    &Note {
                        id: format!("m-{number:07}"),
                        person: format!("q-{:05}", number % size.persons),
                        author: author.id.clone(),
                        author_name: author.name.clone(),
                        job: author.job.clone(),
                        time: time(number, &size, times::now()),
                        text: text(number),
                        attachments: attached.into_iter().collect(),
                    },
                )?;
            }
            Ok(())
        })
        .await?;
    Ok(Json(answer))
}

fn person(number: usize) -> Person {
    Person {
        id: format!("q-{number:05}"),
        name: format!("架空 {number:05}番"),
        reading: format!("かくう {number:05}ばん"),
        about: "80歳・要介護2".to_owned(),
        newest: None,
        notes: 0,
    }
}

/// A text as long as staff write them, of the seeded words, with the note's own number in it.
fn text(number: usize) -> String {
    let all: Vec<&str> = words::NOTES
        .iter()
        .flat_map(|(_, texts)| texts.iter().copied())
        .collect();
    format!(
        "{}{}（記録{number:07}）",
        all[number % all.len()],
        all[(number / all.len() + 1) % all.len()]
    )
}

/// Oldest first, evenly over the days.
fn time(number: usize, size: &Size, now: i64) -> i64 {
    let span = size.days.saturating_mul(DAY);
    let part = i128::from(span) * (number as i128 + 1) / (size.notes as i128).max(1);
    now - span + i64::try_from(part).unwrap_or(span)
}

/// Evenly spread: the running share of attachments passes a whole number at this note.
fn has_attachment(number: usize, size: &Size) -> bool {
    number * size.attachments / size.notes.max(1)
        != (number + 1) * size.attachments / size.notes.max(1)
}

/// Text files of about 20 KB, each different, in the city's folder of attachments.
fn files(city: &City, count: usize) -> std::io::Result<Vec<Attachment>> {
    (0..count)
        .map(|number| {
            let id = format!("b-{number:05}");
            let bytes = format!("添付{number:05}　バイタル 36.5度 128/74 72回。\r\n")
                .repeat(330)
                .into_bytes();
            std::fs::write(city.store.attachment_path(&id), &bytes)?;
            Ok(Attachment {
                id,
                name: format!("記録{number:05}.txt"),
                media_type: "text/plain".to_owned(),
                size: i64::try_from(bytes.len()).unwrap_or(i64::MAX),
                sha256: hex(&sha256(&bytes)),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(notes: usize, attachments: usize) -> Size {
        Size {
            persons: 3,
            notes,
            attachments,
            days: 20,
            readers: vec!["sakura-01".to_owned()],
        }
    }

    #[test]
    fn as_many_notes_have_attachments_as_were_asked_for() {
        for (notes, attachments) in [(10, 0), (10, 3), (10, 10), (100_000, 2_000)] {
            let size = size(notes, attachments);
            let count = (0..notes)
                .filter(|number| has_attachment(*number, &size))
                .count();
            assert_eq!(count, attachments);
        }
    }

    #[test]
    fn times_rise_to_now_and_texts_differ() {
        let size = size(100, 0);
        let times: Vec<i64> = (0..100)
            .map(|number| time(number, &size, 1_000_000_000))
            .collect();
        assert!(times.is_sorted());
        assert_eq!(times[99], 1_000_000_000);
        assert!(times[0] > 1_000_000_000 - 21 * DAY);
        assert_ne!(text(1), text(2));
    }
}
