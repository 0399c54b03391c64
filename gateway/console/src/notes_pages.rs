//! The reader: persons, their notes, one note, what is printed, and a place to draft in an outage.
//!
//! What may be read is decided by the store, at each read. Nothing here writes a note, and nothing looks like it did: a draft
//! stays in its browser tab.

use std::sync::LazyLock;

use gateway_notes::{Cursor, Moment, Opening, ShownNotes, Standing, StoredNote};
use gateway_policy::Timestamp;
use gateway_policy::calendar::Date;
use http::{HeaderValue, StatusCode};

use crate::console::{Console, Verb, get, method};
use crate::moment::minute;
use crate::notes_views::{Day, Days, Draft, Notes, OneNote, Persons, Print, days, unread};
use crate::reader::{Reading, cursor, decode, encode};
use crate::response::{Fault, Page, Referrer, content_policy, html, see_other};
use crate::shown::{self, ForReader, People};
use crate::{ConsoleRequest, form};

/// Notes on one page.
const PAGE: usize = 50;
/// Notes printed at once.
const PRINTED: usize = 500;
/// For how many days back notes are printed; the first unless one is chosen.
const SPANS: [i64; 3] = [7, 3, 30];
const DAY: i64 = 86_400;

/// What a sealed number of a note is for. Anybody may send it: it marks nothing that its sender may not read.
const UPTO: &str = "the newest note on a page";

/// Keeps a draft in its tab.
const DRAFT_SCRIPT: &str = include_str!("../templates/draft.js");
static DRAFT_POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    HeaderValue::from_str(&content_policy(&[DRAFT_SCRIPT]))
        .expect("a policy of fixed words and base64 is a header value")
});

impl Console {
    /// Everything below `/notes`; `rest` is what follows it.
    pub(crate) async fn notes_pages(
        &self,
        request: &ConsoleRequest,
        rest: &str,
    ) -> Result<Page, Fault> {
        if rest.is_empty() {
            return self.persons(get(request)?).await;
        }
        if let Some(id) = rest.strip_prefix("/attachment/") {
            return self.attachment(request, id).await;
        }
        let mut segments = rest.strip_prefix('/').ok_or(Fault::NotFound)?.split('/');
        let first = segments.next().unwrap_or_default();
        let person = decode(first)?;
        match (segments.next(), segments.next(), segments.next()) {
            (None, ..) => self.notes(get(request)?, &person).await,
            // A person of that name at the city would lose the pages below; the city's ids are not words.
            (Some(id), None, _) if first == "attachment" => self.attachment(request, id).await,
            (Some("note"), Some(note), None) => {
                self.one_note(get(request)?, &person, &decode(note)?).await
            }
            (Some("print"), None, _) => self.print(get(request)?, &person).await,
            (Some("draft"), None, _) => self.draft(get(request)?, &person).await,
            (Some("read"), None, _) => match method(request, "POST")? {
                Verb::Read => Err(Fault::Method("POST")),
                Verb::Post => self.mark_read(request, &person).await,
            },
            _ => Err(Fault::NotFound),
        }
    }

    async fn persons(&self, request: &ConsoleRequest) -> Result<Page, Fault> {
        let mut reading = match self.at_the_door(request)? {
            Ok(reading) => reading,
            Err(page) => return Ok(page),
        };
        let found = reading
            .store
            .shown_persons(reading.user(), shown::person)
            .await;
        let Some((opening, persons)) = found.map_err(Fault::Store)? else {
            return self.nothing_to_read();
        };
        self.let_in(&mut reading, opening).await;
        let page = Persons {
            frame: self
                .frame_for("保存した連絡", "notes", request, reading.known.take())
                .await,
            banner: reading.banner,
            persons: People(persons),
        };
        // It has a form: the words to search for.
        self.form_page(StatusCode::OK, &page)
    }

    async fn notes(&self, request: &ConsoleRequest, person: &str) -> Result<Page, Fault> {
        let before = cursor(request.query.as_deref())?;
        let mut reading = match self.at_the_door(request)? {
            Ok(reading) => reading,
            Err(page) => return Ok(page),
        };
        let now = self.desk.now();
        let found = match before {
            None => {
                let (at, show) = (moment(now), shown::notes);
                let store = &reading.store;
                let found = store
                    .shown_notes(reading.user(), person, PAGE, at, show)
                    .await;
                found.map_err(Fault::Store)?
            }
            Some(before) => self.older_notes(&reading, person, before, now).await?,
        };
        let Some((opening, page)) = found else {
            return self.nothing_to_read();
        };
        // The same for a person that does not exist and one that this reader may not read.
        let page = page.ok_or(Fault::NotFound)?;
        self.let_in(&mut reading, opening).await;
        let path = format!("/notes/{}", encode(person));
        let view = Notes {
            frame: self
                .frame_for("支援対象者の連絡", "notes", request, reading.known.take())
                .await,
            name: page.name.reveal(),
            older: page.older.map(|cursor| format!("{path}?before={cursor}")),
            days: ForReader {
                text: page.text,
                read_upto: page.read_upto,
            },
            unread: unread(page.unread),
            upto: match page.unread {
                // Then there is no form.
                0 => String::new(),
                _ => self.sealed_number(page.newest_number)?,
            },
            first_page: before.is_none(),
            banner: reading.banner,
            path,
        };
        self.form_page(StatusCode::OK, &view)
    }

    /// A page that few ask for: made anew each time.
    async fn older_notes(
        &self,
        reading: &Reading,
        person: &str,
        before: Cursor,
        now: Timestamp,
    ) -> Result<Option<(Opening, Option<ShownNotes>)>, Fault> {
        let found = reading
            .store
            .page_of_notes(reading.user(), person, PAGE, Some(before))
            .await;
        let Some((opening, page)) = found.map_err(Fault::Store)? else {
            return Ok(None);
        };
        let Some(page) = page else {
            return Ok(Some((opening, None)));
        };
        let standings = self.standings(reading, person, &page.notes).await?;
        let shown = page.shown(person, &standings, now.0, shown::notes);
        Ok(Some((opening, Some(shown))))
    }

    async fn one_note(
        &self,
        request: &ConsoleRequest,
        person: &str,
        note: &str,
    ) -> Result<Page, Fault> {
        let mut reading = match self.open(request).await? {
            Ok(reading) => reading,
            Err(page) => return Ok(page),
        };
        let found = reading
            .store
            .note_of(reading.user(), person, note)
            .await
            .map_err(Fault::Store)?
            .ok_or(Fault::NotFound)?;
        let notes = [found.note];
        // Whether it was read says the list; here it is being read.
        let days = self
            .days(
                &reading,
                person,
                &notes,
                i64::MAX,
                Days::From(self.desk.now()),
            )
            .await?;
        let view = OneNote {
            frame: self
                .frame_for("1件の連絡", "notes", request, reading.known.take())
                .await,
            name: found.display_name,
            day: days.into_iter().next().ok_or(Fault::NotFound)?,
            path: format!("/notes/{}", encode(person)),
            banner: reading.banner,
        };
        self.page(&view)
    }

    async fn print(&self, request: &ConsoleRequest, person: &str) -> Result<Page, Fault> {
        let query = request.query.as_deref().unwrap_or_default();
        let span = match form::field(query.as_bytes(), "days") {
            None => SPANS[0],
            Some(days) => SPANS
                .into_iter()
                .find(|span| span.to_string() == *days)
                .ok_or(Fault::BadRequest)?,
        };
        let mut reading = match self.open(request).await? {
            Ok(reading) => reading,
            Err(page) => return Ok(page),
        };
        let now = self.desk.now();
        let page = reading
            .store
            .notes_to_print(reading.user(), person, now.0 - span * DAY, PRINTED)
            .await
            .map_err(Fault::Store)?
            .ok_or(Fault::NotFound)?;
        let mut spans = SPANS;
        spans.sort_unstable();
        let view = Print {
            frame: self
                .frame_for("印刷用の連絡", "notes", request, reading.known.take())
                .await,
            name: page.display_name,
            days: self
                .days(&reading, person, &page.notes, i64::MAX, Days::InFull)
                .await?,
            path: format!("/notes/{}", encode(person)),
            span,
            spans,
            more: page.older.is_some(),
            printed: minute(now),
            banner: reading.banner,
        };
        self.page(&view)
    }

    async fn draft(&self, request: &ConsoleRequest, person: &str) -> Result<Page, Fault> {
        let mut reading = match self.open(request).await? {
            Ok(reading) => reading,
            Err(page) => return Ok(page),
        };
        let page = reading
            .store
            .notes_of(reading.user(), person, 0, None)
            .await
            .map_err(Fault::Store)?
            .ok_or(Fault::NotFound)?;
        let session = self.session(request).ok_or(Fault::NotFound)?;
        let view = Draft {
            frame: self
                .frame_for("下書き", "notes", request, reading.known.take())
                .await,
            name: page.display_name,
            path: format!("/notes/{}", encode(person)),
            session: format!("{:016x}", u64::from_be_bytes(session.0)),
            banner: reading.banner,
            keeper: DRAFT_SCRIPT,
        };
        let body = askama::Template::render(&view)?;
        Ok(html(StatusCode::OK, &DRAFT_POLICY, Referrer::Own, body))
    }

    /// The number of a note in a form, unreadable: the store counts all notes together, so that two numbers would tell how many
    /// were written meanwhile about others. All are of one length.
    fn sealed_number(&self, number: i64) -> Result<String, Fault> {
        Ok(self.searches.seal(UPTO, &format!("{number:020}"))?)
    }

    async fn mark_read(&self, request: &ConsoleRequest, person: &str) -> Result<Page, Fault> {
        let upto = form::field(&request.body, "upto")
            .and_then(|upto| self.searches.open(UPTO, &upto)?.parse().ok())
            .ok_or(Fault::BadRequest)?;
        let reading = match self.open(request).await? {
            Ok(reading) => reading,
            Err(page) => return Ok(page),
        };
        let marked = reading
            .store
            .mark_read(reading.user(), person, upto)
            .await
            .map_err(Fault::Store)?;
        if !marked {
            return Err(Fault::NotFound);
        }
        see_other("/notes")
    }

    /// Notes by day, with how their attachments stand.
    async fn days<'a>(
        &self,
        reading: &Reading,
        person: &str,
        notes: &'a [StoredNote],
        read_upto: i64,
        called: Days,
    ) -> Result<Vec<Day<'a>>, Fault> {
        let standings = self.standings(reading, person, notes).await?;
        Ok(days(&encode(person), notes, read_upto, &standings, called))
    }

    async fn standings(
        &self,
        reading: &Reading,
        person: &str,
        notes: &[StoredNote],
    ) -> Result<Vec<Standing>, Fault> {
        let ids: Vec<String> = notes
            .iter()
            .flat_map(|note| &note.attachments)
            .map(|attachment| attachment.id.clone())
            .collect();
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let now = self.desk.now();
        let standings = reading
            .store
            .attachment_standings(reading.user(), person, ids, now.0)
            .await
            .map_err(Fault::Store)?;
        Ok(standings.unwrap_or_default())
    }
}

/// This moment, and its day in Japan.
fn moment(now: Timestamp) -> Moment {
    let Date { year, month, day } = Date::in_japan(now);
    let day = year * 10_000 + i64::from(month) * 100 + i64::from(day);
    Moment { now: now.0, day }
}
