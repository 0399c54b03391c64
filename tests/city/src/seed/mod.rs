//! Fills an empty city with invented data that is the same on every start but for the days it is dated to.
//!
//! Touches nothing in a city that already has facilities.

pub mod documents;
pub mod files;
pub mod many;
pub mod words;

use crate::city::City;
use crate::secrets::{SaltedHash, hex, sha256};
use crate::store::people::{self, Attachment, Facility, Note, Notice, Person, User};
use crate::store::{StoreError, numbers};
use crate::times;
use serde_json::{Value, json};
use std::sync::Arc;

/// Notes in the seeded city.
pub const NOTES: usize = 60;

/// A seeded certificate number: number, access code, facility, kind (`plain`, `manual` approval, `expired`, `pkcs12`).
/// The first is the one the demo uses, the second its spare.
pub const NUMBERS: [[&str; 4]; 14] = [
    ["1001-2026-0001", "4827-1935", "tkh-1001", "plain"],
    ["1001-2026-0002", "7316-2048", "tkh-1001", "plain"],
    ["1001-2026-0003", "5590-8172", "tkh-1001", "plain"],
    ["1001-2026-0004", "2461-9037", "tkh-1001", "plain"],
    ["1001-2026-0005", "8053-6614", "tkh-1001", "plain"],
    ["1001-2026-0006", "3748-1520", "tkh-1001", "plain"],
    ["1001-2026-0007", "6192-4085", "tkh-1001", "plain"],
    ["1001-2026-0008", "9274-3306", "tkh-1001", "plain"],
    ["1001-2026-0101", "1357-2468", "tkh-1001", "manual"],
    ["1001-2026-0102", "8642-7531", "tkh-1001", "expired"],
    ["1001-2026-0103", "7410-8520", "tkh-1001", "pkcs12"],
    ["1002-2026-0001", "5083-7261", "tkh-1002", "plain"],
    ["1002-2026-0002", "2915-6478", "tkh-1002", "plain"],
    ["1002-2026-0003", "6630-1294", "tkh-1002", "plain"],
];

/// Why seeding failed.
#[derive(Debug, thiserror::Error)]
pub enum SeedError {
    /// The database failed.
    #[error("the seed could not be stored")]
    Store(#[from] StoreError),
    /// An attachment could not be written.
    #[error("an attachment could not be written")]
    File(#[from] std::io::Error),
}

/// Seeds the city if it is empty.
///
/// # Errors
/// When the database or the disk fails.
pub async fn seed(city: &Arc<City>) -> Result<(), SeedError> {
    if city
        .store
        .run(|c| {
            c.query_row("SELECT EXISTS (SELECT 1 FROM facilities)", [], |row| {
                row.get(0)
            })
        })
        .await?
    {
        return Ok(());
    }
    let samples = Sample::all();
    let notes = notes(times::now(), &samples);
    for note in &notes {
        for file in &note.attachments {
            let of_its_kind = samples
                .iter()
                .find(|sample| sample.media_type == file.media_type);
            if let Some(sample) = of_its_kind {
                std::fs::write(city.store.attachment_path(&file.id), &sample.bytes)?;
            }
        }
    }
    let passwords: Vec<SaltedHash> = words::USERS
        .iter()
        .map(|user| SaltedHash::of(user[5]))
        .collect();
    let numbers: Vec<numbers::NewNumber> = NUMBERS
        .iter()
        .map(|number| new_number(city, number))
        .collect();
    city.store
        .run(move |c| {
            for [id, name, kind, address, phone] in words::FACILITIES {
                let facility = Facility {
                    id: id.into(),
                    name: name.into(),
                    kind: kind.into(),
                    address: address.into(),
                    phone: phone.into(),
                    suspended: false,
                };
                people::add_facility(c, &facility)?;
            }
            for ([id, facility, name, role, job, _], password) in
                words::USERS.iter().zip(&passwords)
            {
                let user = User {
                    id: (*id).into(),
                    facility: (*facility).into(),
                    name: (*name).into(),
                    role: (*role).into(),
                    job: (*job).into(),
                    suspended: false,
                };
                people::add_user(c, &user, password)?;
            }
            for ([id, name, reading, about], readers) in words::PERSONS {
                let person = Person {
                    id: id.into(),
                    name: name.into(),
                    reading: reading.into(),
                    about: about.into(),
                    newest: None,
                    notes: 0,
                };
                people::add_person(c, &person, readers)?;
            }
            for note in &notes {
                people::add_note(c, note)?;
            }
            for ((id, title, text, members_only), days) in words::NOTICES.iter().zip([9, 5, 3, 1]) {
                let notice = Notice {
                    id: (*id).into(),
                    title: (*title).into(),
                    text: (*text).into(),
                    members_only: *members_only,
                    time: times::now() - days * DAY,
                    until: None,
                };
                people::add_notice(c, &notice)?;
            }
            numbers
                .iter()
                .try_for_each(|number| numbers::add(c, number))
        })
        .await?;
    Ok(())
}

const DAY: i64 = 86_400;

fn new_number(city: &City, [number, code, facility, kind]: &[&str; 4]) -> numbers::NewNumber {
    let expires = if *kind == "expired" {
        times::now() - DAY
    } else {
        times::now() + 90 * DAY
    };
    numbers::NewNumber {
        key: city.lookup.of_number(number),
        code: SaltedHash::of(&crate::secrets::bare(code)),
        facility: (*facility).into(),
        expires,
        manual: *kind == "manual",
    }
}

/// A file of an ordinary kind.
struct Sample {
    name: &'static str,
    media_type: &'static str,
    bytes: Vec<u8>,
}

impl Sample {
    /// Two pictures, then two documents.
    fn all() -> [Self; 4] {
        [
            Self {
                name: "処置後の写真.png",
                media_type: "image/png",
                bytes: files::png(),
            },
            Self {
                name: "処置後の写真.jpg",
                media_type: "image/jpeg",
                bytes: documents::jpeg(),
            },
            Self {
                name: "ケアプラン見直し案.pdf",
                media_type: "application/pdf",
                bytes: files::pdf(),
            },
            Self {
                name: "ケアプラン見直し案.docx",
                media_type: "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
                bytes: documents::docx(),
            },
        ]
    }
}

/// Sixty notes over the last ten days, oldest first: each author writes in turn about each person it may read.
fn notes(now: i64, samples: &[Sample; 4]) -> Vec<Note> {
    let mut notes = Vec::new();
    let (mut round, mut attached) = (0, 0);
    while notes.len() < NOTES {
        for (turn, (author, texts)) in words::NOTES.iter().enumerate() {
            let Some([_, _, name, _, job, _]) = words::USERS.iter().find(|user| user[0] == *author)
            else {
                continue;
            };
            let readable: Vec<&str> = words::PERSONS
                .iter()
                .filter(|(_, readers)| readers.contains(author))
                .map(|(person, _)| person[0])
                .collect();
            if notes.len() == NOTES || readable.is_empty() {
                continue;
            }
            let number = notes.len() + 1;
            let text = texts[round % texts.len()];
            notes.push(Note {
                id: format!("n-{number:04}"),
                person: readable[(round + turn) % readable.len()].to_owned(),
                author: (*author).into(),
                author_name: (*name).into(),
                job: (*job).into(),
                time: now - 10 * DAY + i64::try_from(number).unwrap_or(0) * 4 * 3_600 - 1_800,
                text: text.to_owned(),
                attachments: attachments(&mut attached, text, samples),
            });
        }
        round += 1;
    }
    notes
}

fn attachments(attached: &mut usize, text: &str, samples: &[Sample; 4]) -> Vec<Attachment> {
    let [one, other] = if text.contains("写真を添付") {
        [&samples[0], &samples[1]]
    } else if text.contains("案を添付") {
        [&samples[2], &samples[3]]
    } else {
        return Vec::new();
    };
    // In turn, beginning with the first.
    let sample = if attached.is_multiple_of(2) {
        one
    } else {
        other
    };
    *attached += 1;
    vec![Attachment {
        id: format!("a-{attached:04}"),
        name: sample.name.to_owned(),
        media_type: sample.media_type.to_owned(),
        size: i64::try_from(sample.bytes.len()).unwrap_or(i64::MAX),
        sha256: hex(&sha256(&sample.bytes)),
    }]
}

/// What the ready file tells of the seed: the first number, its spare, all pairs with their kinds, and the users.
#[must_use]
pub fn described() -> Value {
    let users: Vec<Value> = words::USERS
        .iter()
        .map(|[id, facility, name, role, job, password]| {
            json!({
                "user_id": id, "name": name, "password": password, "role": role, "job": job, "facility": facility,
            })
        })
        .collect();
    let numbers: Vec<Value> = NUMBERS
        .iter()
        .map(|[number, code, facility, kind]| {
            json!({ "number": number, "code": code, "facility": facility, "kind": kind })
        })
        .collect();
    let [first, spare] = [&NUMBERS[0], &NUMBERS[1]];
    json!({
        "certificate_number": first[0], "access_code": first[1],
        "spare_number": spare[0], "spare_code": spare[1],
        "numbers": numbers, "users": users,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seed_has_sixty_notes_in_order_and_about_every_person() {
        let notes = notes(2_000_000_000, &Sample::all());
        assert_eq!(notes.len(), NOTES);
        assert!(notes.windows(2).all(|two| two[0].time < two[1].time));
        assert!(notes.last().unwrap().time < 2_000_000_000);
        for (person, _) in words::PERSONS {
            assert!(
                notes.iter().filter(|note| note.person == person[0]).count() >= 4,
                "{}",
                person[0]
            );
        }
        assert!(notes.iter().any(|note| !note.attachments.is_empty()));
    }

    #[test]
    fn every_seeded_author_may_read_the_person_it_writes_about() {
        for note in notes(2_000_000_000, &Sample::all()) {
            let (_, readers) = words::PERSONS
                .iter()
                .find(|(person, _)| person[0] == note.person)
                .unwrap();
            assert!(readers.contains(&note.author.as_str()));
        }
    }
}
