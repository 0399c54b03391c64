//! The pages about persons: the list, one person's notes, attachments, 支援中止; and the notices for members.
//!
//! Does not write notes; that is `upload`.

use super::session::SignedIn;
use crate::city::City;
use crate::control::forget_files;
use crate::files;
use crate::pages::{self, Frame, ShownNotice};
use crate::problem::Problem;
use crate::store::people::{self, Attachment, Note, Person};
use crate::times;
use askama::Template;
use axum::extract::rejection::FormRejection;
use axum::extract::{Form, Path, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse as _, Redirect, Response};
use serde::Deserialize;
use std::sync::Arc;

/// Notes shown on a page.
const SHOWN: u32 = 200;

struct ShownPerson {
    id: String,
    name: String,
    reading: String,
    about: String,
    notes: i64,
    newest: Option<String>,
}

impl From<Person> for ShownPerson {
    fn from(person: Person) -> Self {
        Self {
            newest: person.newest.map(times::shown),
            id: person.id,
            name: person.name,
            reading: person.reading,
            about: person.about,
            notes: person.notes,
        }
    }
}

struct ShownNote {
    id: String,
    author_name: String,
    job: String,
    stamp: String,
    shown: String,
    text: String,
    attachments: Vec<Attachment>,
}

impl From<Note> for ShownNote {
    fn from(note: Note) -> Self {
        Self {
            stamp: times::rfc3339(note.time),
            shown: times::shown(note.time),
            id: note.id,
            author_name: note.author_name,
            job: note.job,
            text: note.text,
            attachments: note.attachments,
        }
    }
}

#[derive(Template)]
#[template(path = "persons.html")]
struct PersonsPage {
    frame: Frame,
    persons: Vec<ShownPerson>,
}

/// The list.
///
/// # Errors
/// When the database fails.
pub async fn list(State(city): State<Arc<City>>, who: SignedIn) -> Result<Response, Problem> {
    let user = who.user.id.clone();
    let persons = city.store.run(move |c| people::persons(c, &user)).await?;
    let persons = persons.into_iter().map(ShownPerson::from).collect();
    Ok(pages::page(&PersonsPage {
        frame: who.frame("支援対象者"),
        persons,
    }))
}

/// A person the user may read.
///
/// # Errors
/// 404 for one that does not exist, that the user may not read, or whose support has ended; they are answered alike.
pub async fn readable(city: &Arc<City>, who: &SignedIn, id: &str) -> Result<Person, Problem> {
    let (user, id) = (who.user.id.clone(), id.to_owned());
    city.store
        .run(move |c| people::person(c, &user, &id))
        .await?
        .ok_or_else(Problem::not_found)
}

#[derive(Template)]
#[template(path = "person.html")]
struct PersonPage {
    frame: Frame,
    csrf: String,
    person: ShownPerson,
    notes: Vec<ShownNote>,
}

/// One person with notes, newest first.
///
/// # Errors
/// 404 as [`readable`].
pub async fn show(
    State(city): State<Arc<City>>,
    who: SignedIn,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let person = readable(&city, &who, &id).await?;
    let notes = city
        .store
        .run(move |c| people::notes(c, &id, SHOWN))
        .await?;
    Ok(pages::page(&PersonPage {
        frame: who.frame(&person.name),
        csrf: who.session.csrf.clone(),
        person: person.into(),
        notes: notes.into_iter().map(ShownNote::from).collect(),
    }))
}

/// One attachment.
///
/// # Errors
/// 404 if the user may not read its person.
pub async fn attachment(
    State(city): State<Arc<City>>,
    who: SignedIn,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let found = city
        .store
        .run(move |c| people::attachment_for_user(c, &who.user.id, &id))
        .await?;
    let file = found.ok_or_else(Problem::not_found)?;
    let mut response = files::send(&file, &city.store.attachment_path(&file.id), &headers).await?;
    files::dress(&city, &file.id, &mut response);
    Ok(response)
}

#[derive(Template)]
#[template(path = "end_support.html")]
struct EndPage {
    frame: Frame,
    csrf: String,
    person: ShownPerson,
}

/// Asks before support is ended.
///
/// # Errors
/// 404 as [`readable`].
pub async fn end_form(
    State(city): State<Arc<City>>,
    who: SignedIn,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let person = readable(&city, &who, &id).await?;
    Ok(pages::page(&EndPage {
        frame: who.frame("支援中止"),
        csrf: who.session.csrf.clone(),
        person: person.into(),
    }))
}

/// The confirmation.
#[derive(Deserialize)]
pub struct Confirmation {
    csrf: String,
    confirmed: String,
}

/// Ends support (Art. 14): the record, its attachments and every feed's copy go at once.
///
/// # Errors
/// 404 as [`readable`]; 403 for a form that is not this session's.
pub async fn end(
    State(city): State<Arc<City>>,
    who: SignedIn,
    Path(id): Path<String>,
    form: Result<Form<Confirmation>, FormRejection>,
) -> Result<Response, Problem> {
    let Form(form) = form.map_err(|_| Problem::bad_request("確認の欄に印を付けてください。"))?;
    who.check_csrf(&form.csrf)?;
    if form.confirmed != "yes" {
        return Err(Problem::bad_request("確認の欄に印を付けてください。"));
    }
    readable(&city, &who, &id).await?;
    tracing::info!(person = id, user = who.user.id, "support ended");
    let files = city.store.run(move |c| people::end_support(c, &id)).await?;
    forget_files(&city, files.as_deref().unwrap_or_default());
    Ok(Redirect::to("/staff/").into_response())
}

#[derive(Template)]
#[template(path = "notices.html")]
struct NoticesPage {
    frame: Frame,
    notices: Vec<ShownNotice>,
}

/// All notices in force, those for members too (Art. 19).
///
/// # Errors
/// When the database fails.
pub async fn notices(State(city): State<Arc<City>>, who: SignedIn) -> Result<Response, Problem> {
    let notices = city
        .store
        .run(|c| people::notices(c, times::now(), true))
        .await?;
    let notices = notices.into_iter().map(ShownNotice::from).collect();
    Ok(pages::page(&NoticesPage {
        frame: who.frame("お知らせ"),
        notices,
    }))
}
