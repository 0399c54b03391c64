//! Posting a note with attachments from the form, streamed to disk as it arrives.
//!
//! Looks at the first bytes of a file to name its type; does not scan it, which is the facility's part (Art. 27).

use super::persons;
use super::session::SignedIn;
use crate::city::City;
use crate::problem::Problem;
use crate::secrets::{self, hex};
use crate::store::people::{self, Attachment, Note};
use crate::times;
use aws_lc_rs::digest;
use axum::extract::multipart::{Field, MultipartError, MultipartRejection};
use axum::extract::{Multipart, Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Redirect, Response};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::io::AsyncWriteExt as _;

/// Largest attachment in bytes: 25 MB.
pub const LARGEST_FILE: u64 = 25_000_000;

/// Largest form in bytes: five attachments and what surrounds them.
pub const LARGEST_FORM: usize = 5 * 25_000_000 + 100_000;

/// Attachments of one note.
const MOST_FILES: usize = 5;

/// Longest text in characters.
const LONGEST_TEXT: usize = 4_000;

/// A file that is removed again unless the note it belongs to is stored.
struct Draft {
    path: PathBuf,
    about: Attachment,
}

impl Drop for Draft {
    fn drop(&mut self) {
        // After a successful post the file was moved away, and there is nothing to remove.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Takes the form.
///
/// # Errors
/// When the form is not this session's, its text is empty or too long, or a file is too large.
pub async fn post_note(
    State(city): State<Arc<City>>,
    who: SignedIn,
    Path(id): Path<String>,
    form: Result<Multipart, MultipartRejection>,
) -> Result<Response, Problem> {
    let mut form = form.map_err(|_| Problem::bad_request("書き込みの画面から送ってください。"))?;
    persons::readable(&city, &who, &id).await?;
    let mut text = None;
    let mut drafts = Vec::new();
    let mut trusted = false;
    while let Some(field) = form.next_field().await.map_err(|error| broken(&error))? {
        match field.name().unwrap_or_default() {
            "csrf" => {
                let token = field.text().await.map_err(|error| broken(&error))?;
                who.check_csrf(&token)?;
                trusted = true;
            }
            // The form sends its token first; without it not a byte of a file is written.
            _ if !trusted => who.check_csrf("")?,
            "text" => text = Some(field.text().await.map_err(|error| broken(&error))?),
            "attachment" if drafts.len() < MOST_FILES => {
                drafts.extend(receive(&city, field).await?)
            }
            "attachment" => return Err(Problem::bad_request("添付は5件までです。")),
            _ => return Err(Problem::bad_request("書き込みの画面から送ってください。")),
        }
    }
    let text = checked_text(&text.unwrap_or_default())?;
    let note = store(&city, &who, &id, text, drafts).await?;
    Ok(Redirect::to(&format!("/staff/persons/{id}#{}", note.id)).into_response())
}

/// Stores a note and moves its attachments to their place; the feeds and open pages learn of it.
///
/// # Errors
/// When the disk or the database fails.
async fn store(
    city: &Arc<City>,
    who: &SignedIn,
    person: &str,
    text: String,
    drafts: Vec<Draft>,
) -> Result<Note, Problem> {
    for draft in &drafts {
        let place = city.store.attachment_path(&draft.about.id);
        tokio::fs::rename(&draft.path, place)
            .await
            .map_err(|error| Problem::internal(&error))?;
    }
    let note = Note {
        id: secrets::identifier('n'),
        person: person.to_owned(),
        author: who.user.id.clone(),
        author_name: who.user.name.clone(),
        job: who.user.job.clone(),
        time: times::now(),
        text,
        attachments: drafts.iter().map(|draft| draft.about.clone()).collect(),
    };
    let stored = note.clone();
    city.store
        .run(move |c| people::add_note(c, &stored))
        .await?;
    Ok(note)
}

/// Stores a note without attachments.
///
/// # Errors
/// As the form, but for files.
pub async fn store_text(
    city: &Arc<City>,
    who: &SignedIn,
    person: &str,
    text: &str,
) -> Result<Note, Problem> {
    // A form's line ends are the browser's business; a program has to send plain line feeds.
    if text.contains('\r') || text.chars().count() > LONGEST_TEXT {
        return Err(Problem::bad_request(
            "改行はLFだけにし、4000文字までで書いてください。",
        ));
    }
    let text = checked_text(text)?;
    store(city, who, person, text, Vec::new()).await
}

/// A text of 1 to 4,000 characters, line ends as `\n`, without control characters.
fn checked_text(sent: &str) -> Result<String, Problem> {
    let text = sent.replace("\r\n", "\n").trim().to_owned();
    if text
        .chars()
        .any(|c| c.is_control() && c != '\n' && c != '\t')
    {
        return Err(Problem::bad_request("使えない文字が含まれています。"));
    }
    if (1..=LONGEST_TEXT).contains(&text.chars().count()) {
        Ok(text)
    } else {
        Err(Problem::bad_request(
            "記録は1文字以上4000文字までで書いてください。",
        ))
    }
}

/// Writes one file to disk; `None` for the empty part a browser sends if no file was chosen.
async fn receive(city: &Arc<City>, mut field: Field<'_>) -> Result<Option<Draft>, Problem> {
    let failed = |error: std::io::Error| Problem::internal(&error);
    let name = safe_name(field.file_name().unwrap_or_default());
    let declared = field.content_type().unwrap_or_default().to_owned();
    let id = secrets::identifier('a');
    let mut draft = Draft {
        path: city.incoming.join(&id),
        about: Attachment {
            id,
            name,
            media_type: String::new(),
            size: 0,
            sha256: String::new(),
        },
    };
    let mut file = tokio::fs::File::create(&draft.path).await.map_err(failed)?;
    let mut digest = digest::Context::new(&digest::SHA256);
    let (mut size, mut head) = (0_u64, Vec::new());
    while let Some(chunk) = field.chunk().await.map_err(|error| broken(&error))? {
        size += chunk.len() as u64;
        if size > LARGEST_FILE {
            return Err(too_large());
        }
        head.extend(
            chunk
                .iter()
                .copied()
                .take(16_usize.saturating_sub(head.len())),
        );
        digest.update(&chunk);
        file.write_all(&chunk).await.map_err(failed)?;
    }
    file.flush().await.map_err(failed)?;
    if size == 0 {
        return Ok(None);
    }
    draft.about.size = i64::try_from(size).unwrap_or(i64::MAX);
    draft.about.sha256 = hex(digest.finish().as_ref());
    draft.about.media_type = media_type(&declared, &head)?.to_owned();
    Ok(Some(draft))
}

/// The media type by the file's first bytes. A type that a browser would show must not be claimed by anything else.
fn media_type(declared: &str, head: &[u8]) -> Result<&'static str, Problem> {
    let found = match head {
        [0x89, b'P', b'N', b'G', 0x0d, 0x0a, 0x1a, 0x0a, ..] => Some("image/png"),
        [0xff, 0xd8, 0xff, ..] => Some("image/jpeg"),
        [
            b'R',
            b'I',
            b'F',
            b'F',
            _,
            _,
            _,
            _,
            b'W',
            b'E',
            b'B',
            b'P',
            ..,
        ] => Some("image/webp"),
        [b'%', b'P', b'D', b'F', b'-', ..] => Some("application/pdf"),
        _ => None,
    };
    let shown = ["image/png", "image/jpeg", "image/webp", "application/pdf"];
    match found {
        Some(found) => Ok(found),
        None if shown.contains(&declared) => Err(Problem::bad_request(
            "ファイルの中身が、その種類のものではありません。",
        )),
        None if declared == "text/plain" => Ok("text/plain; charset=utf-8"),
        None => Ok("application/octet-stream"),
    }
}

/// The last part of a file name, without control characters, at most 120 characters.
fn safe_name(sent: &str) -> String {
    let last = sent.rsplit(['/', '\\']).next().unwrap_or_default();
    let name: String = last.chars().filter(|c| !c.is_control()).take(120).collect();
    if name.is_empty() {
        "添付".to_owned()
    } else {
        name
    }
}

fn too_large() -> Problem {
    Problem::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "too-large",
        "送られたものが大きすぎます。",
        "ファイルは1件25MBまでです。小さくして、もう一度お試しください。",
    )
}

fn broken(error: &MultipartError) -> Problem {
    if error.status() == StatusCode::PAYLOAD_TOO_LARGE {
        return too_large();
    }
    Problem::bad_request("送信が途中で途切れました。もう一度お試しください。")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_what_it_begins_with_and_not_what_it_says() {
        assert_eq!(
            media_type("application/octet-stream", b"%PDF-1.4 and").unwrap(),
            "application/pdf"
        );
        assert!(media_type("image/png", b"<script>").is_err());
        assert_eq!(
            media_type("text/html", b"<script>").unwrap(),
            "application/octet-stream"
        );
    }

    #[test]
    fn a_file_name_keeps_only_its_last_part() {
        assert_eq!(safe_name("..\\..\\写真.png"), "写真.png");
        assert_eq!(safe_name("/"), "添付");
    }

    #[test]
    fn an_empty_or_overlong_text_is_refused() {
        assert!(checked_text("  \r\n ").is_err());
        assert!(checked_text(&"あ".repeat(4_001)).is_err());
        assert_eq!(checked_text("一行\r\n二行").unwrap(), "一行\n二行");
    }
}
