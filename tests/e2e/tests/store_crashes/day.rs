//! The scripted day: what the city says to the box, and what may be read at its end.
//!
//! It asserts nothing.

use std::collections::BTreeSet;

use gateway_e2e::visiting::Visitor;
use serde_json::{Value, json};
use test_harness::Result;
use test_harness::city::City;
use test_harness::facility::Facility;

/// Who reads.
pub(crate) const READER: &str = "sakura-01";

/// The person whose support ends; 91歳の例示 ウメ of the seeded city.
pub(crate) const ENDED: &str = "p-1003";
/// The one who is withdrawn from the reader.
const WITHDRAWN: &str = "p-1002";
/// The one who stays.
const STAYS: &str = "p-1001";

/// A word that stands in one note only and in nothing else that the box ever writes.
pub(crate) fn word(number: usize) -> String {
    format!("目印{number:03}ことば")
}

/// The words stored before the day begins, by number.
const BEFORE: [(usize, &str); 9] = [
    (1, STAYS),
    (2, STAYS),
    (3, WITHDRAWN),
    (4, WITHDRAWN),
    (5, ENDED),
    (6, ENDED),
    (7, ENDED),
    (8, STAYS),
    (9, STAYS),
];

/// The note that is deleted during the day: one of [`BEFORE`].
const DELETED: usize = 9;

/// The last note of the day: once it can be read, the box is level with the city.
pub(crate) const LAST: usize = 40;

/// What may be read when the day is over.
pub(crate) fn readable() -> BTreeSet<usize> {
    [1, 2, 8, 20, 21, 30, 31, LAST].into()
}

/// Everything that was ever said, readable or not.
pub(crate) fn all() -> impl Iterator<Item = usize> {
    1..=LAST
}

fn note(city: &City, number: usize, person: &str) -> Result<Value> {
    // An attachment to every other note: a file of a kilobyte or two, of an ordinary kind.
    let attachments = if number.is_multiple_of(2) {
        json!([{
            "name": format!("{}.txt", word(number)),
            "media_type": "text/plain",
            "base64": text_file(number),
        }])
    } else {
        json!([])
    };
    city.control(
        "note",
        &json!({ "person": person, "author": READER, "text": format!("{}。変わりなし。", word(number)), "attachments": attachments }),
    )
}

fn text_file(number: usize) -> String {
    use base64::Engine as _;
    let text = format!("{}\r\n", word(number)).repeat(60);
    base64::engine::general_purpose::STANDARD.encode(text)
}

/// What is there before the day: nine notes of three persons.
pub(crate) fn prepare(facility: &Facility) -> String {
    let mut deleted = String::new();
    for (number, person) in BEFORE {
        let said = note(&facility.city, number, person).unwrap();
        if number == DELETED {
            said["id"].as_str().unwrap().clone_into(&mut deleted);
        }
    }
    deleted
}

/// The city's part of the day, at the city's own pace: it does not wait for the box.
pub(crate) fn happen(city: &City, deleted: &str) -> Result<()> {
    note(city, 20, STAYS)?;
    note(city, 21, STAYS)?;
    city.control("note-deleted", &json!({ "id": deleted }))?;
    city.control(
        "permit",
        &json!({ "person": WITHDRAWN, "user_id": READER, "permitted": false }),
    )?;
    note(city, 22, WITHDRAWN)?;
    note(city, 23, ENDED)?;
    city.control("person-ended", &json!({ "id": ENDED }))?;
    note(city, 30, STAYS)?;
    city.control("suspend-user", &json!({ "id": "sakura-02" }))?;
    city.control(
        "notice",
        &json!({ "title": "お知らせ", "text": "試験のお知らせです。", "members_only": true }),
    )?;
    note(city, 31, STAYS)?;
    Ok(())
}

/// The city forgets its old events, so that the box has to begin again from nothing; then the last note.
pub(crate) fn end(city: &City) -> Result<()> {
    city.control("forget-events", &json!({}))?;
    note(city, LAST, STAYS).map(drop)
}

/// The words that `visitor` finds on all pages of stored notes, following every link among them. `None` while the pages
/// cannot be had.
pub(crate) fn read_everything(facility: &Facility, visitor: &Visitor) -> Option<BTreeSet<usize>> {
    let first = visitor.stored(&facility.gateway);
    if first.status != 200 {
        return None;
    }
    let console = facility.gateway.console_url();
    let mut seen = BTreeSet::from(["/notes".to_owned()]);
    let mut waiting = links(&first.body);
    let mut text = first.body;
    while let Some(link) = waiting.pop() {
        if !seen.insert(link.clone()) {
            continue;
        }
        let page = visitor.open(&format!("{}{link}", console.trim_end_matches('/')));
        if page.status != 200 {
            return None;
        }
        waiting.extend(links(&page.body));
        text += &page.body;
    }
    Some(
        all()
            .filter(|number| text.contains(&word(*number)))
            .collect(),
    )
}

/// Links to pages of notes; not to attachments, whose names hold the words too.
fn links(page: &str) -> Vec<String> {
    page.split("href=\"")
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
        .filter(|link| link.starts_with("/notes/") && !link.contains("attachment"))
        .map(|link| link.replace("&amp;", "&"))
        .collect()
}
