//! Attachments on their way out: the file behind an id, whole or in one range (RFC 9110 section 14).
//!
//! Does not ask whether the client may have it; several ranges at once are answered with the whole.

use crate::city::{City, ascii};
use crate::failure::Cut;
use crate::problem::Problem;
use crate::store::people::Attachment;
use axum::body::Body;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures_util::StreamExt as _;
use serde::Deserialize;
use std::io::SeekFrom;
use std::path::Path;
use std::sync::PoisonError;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};

/// Bytes read at a time.
const CHUNK: u64 = 64 * 1024;

/// What a Range header asks for, given the size.
#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    Whole,
    Part { first: u64, last: u64 },
    Impossible,
}

fn wanted(headers: &HeaderMap, etag: &str, size: u64) -> Wanted {
    // RFC 9110 section 13.1.5: a range of another version is a request for the whole.
    if headers
        .get(header::IF_RANGE)
        .is_some_and(|value| value.as_bytes() != etag.as_bytes())
    {
        return Wanted::Whole;
    }
    let range = headers
        .get(header::RANGE)
        .and_then(|value| value.to_str().ok());
    let Some(spec) = range.and_then(|range| range.strip_prefix("bytes=")) else {
        return Wanted::Whole;
    };
    let Some((first, last)) = spec.split_once('-') else {
        return Wanted::Whole;
    };
    match (first.trim().parse::<u64>(), last.trim().parse::<u64>()) {
        (Ok(first), _) if first >= size => Wanted::Impossible,
        (Ok(first), Ok(last)) if last >= first => Wanted::Part {
            first,
            last: last.min(size - 1),
        },
        (Ok(first), Err(_)) if last.trim().is_empty() => Wanted::Part {
            first,
            last: size - 1,
        },
        (Err(_), Ok(0)) if first.trim().is_empty() => Wanted::Impossible,
        (Err(_), Ok(length)) if first.trim().is_empty() && size > 0 => Wanted::Part {
            first: size.saturating_sub(length),
            last: size - 1,
        },
        // RFC 9110 section 14.2: an invalid or multiple range may be ignored.
        _ => Wanted::Whole,
    }
}

/// Sends a file.
///
/// # Errors
/// 416 for a range beyond the end; 500 if the file cannot be read.
pub async fn send(
    file: &Attachment,
    path: &Path,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let size = u64::try_from(file.size).unwrap_or_default();
    let etag = format!("\"{}\"", file.sha256);
    if headers
        .get(header::IF_NONE_MATCH)
        .is_some_and(|value| value.as_bytes() == etag.as_bytes())
    {
        return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, ascii(&etag))]).into_response());
    }
    let (status, first, length, content_range) = match wanted(headers, &etag, size) {
        Wanted::Whole => (StatusCode::OK, 0, size, None),
        Wanted::Part { first, last } => {
            let content_range = format!("bytes {first}-{last}/{size}");
            (
                StatusCode::PARTIAL_CONTENT,
                first,
                last - first + 1,
                Some(content_range),
            )
        }
        Wanted::Impossible => {
            let range = [(header::CONTENT_RANGE, ascii(&format!("bytes */{size}")))];
            return Ok((StatusCode::RANGE_NOT_SATISFIABLE, range).into_response());
        }
    };
    let body = read_part(path, first, length)
        .await
        .map_err(|error| Problem::internal(&error))?;
    let mut response = (status, body).into_response();
    let out = response.headers_mut();
    // What a browser may show inside the page; everything else is only ever saved.
    let shown = matches!(
        file.media_type.as_str(),
        "image/png" | "image/jpeg" | "image/webp" | "application/pdf"
    );
    let place = if shown { "inline" } else { "attachment" };
    let disposition = format!("{place}; filename*=UTF-8''{}", percent_encoded(&file.name));
    out.insert(header::CONTENT_DISPOSITION, ascii(&disposition));
    out.insert(header::CONTENT_TYPE, ascii(&file.media_type));
    out.insert(header::CONTENT_LENGTH, length.into());
    out.insert(header::ACCEPT_RANGES, ascii("bytes"));
    out.insert(header::ETAG, ascii(&etag));
    out.insert(header::CACHE_CONTROL, ascii("private, no-cache"));
    if let Some(range) = content_range {
        out.insert(header::CONTENT_RANGE, ascii(&range));
    }
    Ok(response)
}

/// How one attachment is handed out when a test wants it otherwise than as a plain file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Delivery {
    /// The attachment.
    pub id: String,
    /// The coding that its bytes are in already.
    #[serde(default)]
    pub content_encoding: Option<String>,
    /// Without a length: in chunks over HTTP/1.1.
    #[serde(default)]
    pub without_length: bool,
    /// The connection is cut after so many bytes of each answer.
    #[serde(default)]
    pub cut_after: Option<u64>,
    /// Other bytes than the file's are sent.
    #[serde(default)]
    pub wrong: bool,
    /// Milliseconds before each piece of 64 KiB.
    #[serde(default)]
    pub pause_ms: Option<u64>,
    /// Refused with this status.
    #[serde(default)]
    pub status: Option<u16>,
    /// Seconds that a refusal asks to wait.
    #[serde(default)]
    pub retry_after: Option<u32>,
    /// How often this happens; then it is a plain file again.
    #[serde(default)]
    pub times: Option<u32>,
}

/// Hands an attachment out as a test wants it.
pub fn dress(city: &City, id: &str, response: &mut Response) {
    let Some(delivery) = due(city, id) else {
        return;
    };
    if let Some(coding) = &delivery.content_encoding {
        let out = response.headers_mut();
        out.insert(header::CONTENT_ENCODING, ascii(coding));
    }
    if delivery.without_length {
        response.headers_mut().remove(header::CONTENT_LENGTH);
    }
    if let Some(status) = delivery.status {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        *response = Problem::new(
            status,
            "attachment-withheld",
            "渡せません。",
            "試験のためです。",
        )
        .into_response();
        if let Some(seconds) = delivery.retry_after {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, seconds.into());
        }
    } else if delivery.cut_after.is_some() || delivery.wrong || delivery.pause_ms.is_some() {
        let body = std::mem::take(response.body_mut());
        *response.body_mut() = disturbed(body, delivery);
    }
}

/// How this attachment is to be handed out this time.
fn due(city: &City, id: &str) -> Option<Delivery> {
    let mut deliveries = city
        .deliveries
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    let delivery = deliveries.get_mut(id)?;
    match &mut delivery.times {
        Some(0) => return None,
        Some(left) => *left -= 1,
        None => {}
    }
    Some(delivery.clone())
}

/// A body whose pieces are late, are other bytes, or break off.
fn disturbed(body: Body, delivery: Delivery) -> Body {
    let left = delivery.cut_after.unwrap_or(u64::MAX);
    let pieces = futures_util::stream::unfold(
        (body.into_data_stream(), left, delivery),
        |(mut body, left, delivery)| async move {
            let mut piece = match body.next().await? {
                Ok(piece) => piece,
                Err(error) => return Some((Err(error), (body, 0, delivery))),
            };
            if let Some(pause) = delivery.pause_ms {
                tokio::time::sleep(std::time::Duration::from_millis(pause)).await;
            }
            if left == 0 {
                return Some((Err(axum::Error::new(Cut)), (body, 0, delivery)));
            }
            piece.truncate(usize::try_from(left).unwrap_or(usize::MAX));
            if delivery.wrong {
                piece = piece.iter().map(|byte| !byte).collect();
            }
            let left = left - piece.len() as u64;
            Some((Ok(piece), (body, left, delivery)))
        },
    );
    Body::from_stream(pieces)
}

async fn read_part(path: &Path, first: u64, length: u64) -> std::io::Result<Body> {
    let mut file = tokio::fs::File::open(path).await?;
    file.seek(SeekFrom::Start(first)).await?;
    let stream = futures_util::stream::unfold((file, length), |(mut file, left)| async move {
        if left == 0 {
            return None;
        }
        let mut chunk = vec![0; usize::try_from(left.min(CHUNK)).ok()?];
        match file.read_exact(&mut chunk).await {
            Ok(read) => Some((Ok(Bytes::from(chunk)), (file, left - read as u64))),
            Err(error) => Some((Err(error), (file, 0))),
        }
    });
    Ok(Body::from_stream(stream))
}

/// RFC 8187: everything but attr-char is percent-encoded.
fn percent_encoded(name: &str) -> String {
    use std::fmt::Write as _;
    name.bytes().fold(String::new(), |mut text, byte| {
        if byte.is_ascii_alphanumeric() || b"!#$&+-.^_`|~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            write!(text, "%{byte:02X}").expect("writing to a String succeeds");
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(range: &str) -> Wanted {
        let mut headers = HeaderMap::new();
        headers.insert(header::RANGE, ascii(range));
        wanted(&headers, "\"x\"", 10)
    }

    #[test]
    fn ranges_are_read_as_rfc_9110_says() {
        assert_eq!(asked("bytes=0-3"), Wanted::Part { first: 0, last: 3 });
        assert_eq!(asked("bytes=4-"), Wanted::Part { first: 4, last: 9 });
        assert_eq!(asked("bytes=-3"), Wanted::Part { first: 7, last: 9 });
        assert_eq!(asked("bytes=-30"), Wanted::Part { first: 0, last: 9 });
        assert_eq!(asked("bytes=5-99"), Wanted::Part { first: 5, last: 9 });
        assert_eq!(asked("bytes=10-"), Wanted::Impossible);
        assert_eq!(asked("bytes=-0"), Wanted::Impossible);
        assert_eq!(asked("bytes=3-1"), Wanted::Whole);
        assert_eq!(asked("bytes=0-1,4-5"), Wanted::Whole);
        assert_eq!(asked("lines=0-1"), Wanted::Whole);
    }
}
