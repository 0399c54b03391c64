//! A stored note's attachment on its way to its reader: saved, never shown inside a page of ours.
//!
//! Whether it may be read is decided by the store, at each piece. The bytes are clean, but whatever a browser could make
//! of them, it must not make it on this origin: another media type than an ordinary document's or picture's is not said,
//! nothing is sniffed, and even opened it may run nothing (CSP sandbox).

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use gateway_notes::StoredAttachment;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};

use crate::ConsoleRequest;
use crate::console::{Console, get};
use crate::reader::decode;
use crate::response::{Fault, Page};

/// Media types that are said as they are.
const SAID: [&str; 14] = [
    "application/msword",
    "application/pdf",
    "application/vnd.ms-excel",
    "application/vnd.ms-powerpoint",
    "application/vnd.openxmlformats-officedocument.presentationml.presentation",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "image/gif",
    "image/heic",
    "image/jpeg",
    "image/png",
    "image/webp",
    "text/csv",
    "text/plain",
];

/// The body of a page that is read piece by piece while it is sent; in the page's extensions, beside an empty body.
#[derive(Clone)]
pub struct Streamed(Arc<Mutex<Option<StreamedBody>>>);

/// What is left to be sent.
#[derive(Debug)]
pub struct StreamedBody {
    attachment: StoredAttachment,
    next: u64,
    end: u64,
}

impl fmt::Debug for Streamed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Streamed(..)")
    }
}

impl Streamed {
    /// The body, once.
    #[must_use]
    pub fn take(&self) -> Option<StreamedBody> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl StreamedBody {
    /// Bytes left.
    #[must_use]
    pub const fn left(&self) -> u64 {
        self.end - self.next
    }

    /// The next piece. `None` at the end, and where its reader may read no further or the file is lost: then bytes are left.
    pub async fn next(&mut self) -> Option<Bytes> {
        if self.left() == 0 {
            return None;
        }
        let piece = self.attachment.piece(self.next).await.ok()??;
        let wanted = usize::try_from(self.left()).unwrap_or(usize::MAX);
        let piece = piece.get(..piece.len().min(wanted))?;
        self.next += piece.len() as u64;
        (!piece.is_empty()).then(|| Bytes::copy_from_slice(piece))
    }
}

/// What of a file is asked for.
#[derive(Debug, PartialEq, Eq)]
enum Asked {
    Whole,
    Part { first: u64, end: u64 },
    Beyond,
}

/// One range (RFC 9110 section 14.1.2); several, or what is no range, is a request for the whole.
fn asked(request: &ConsoleRequest, tag: &HeaderValue, size: u64) -> Asked {
    let field = |name: HeaderName| request.headers.get(name);
    if field(header::IF_RANGE).is_some_and(|condition| condition != tag) {
        return Asked::Whole;
    }
    let range = field(header::RANGE).and_then(|value| value.to_str().ok());
    let Some((first, last)) = range
        .and_then(|range| range.strip_prefix("bytes="))
        .and_then(|range| range.split_once('-'))
    else {
        return Asked::Whole;
    };
    let number = |text: &str| text.trim().parse::<u64>();
    match (
        first.trim().is_empty(),
        number(first),
        last.trim().is_empty(),
        number(last),
    ) {
        (false, Ok(first), ..) if first >= size => Asked::Beyond,
        (false, Ok(first), true, _) => Asked::Part { first, end: size },
        (false, Ok(first), false, Ok(last)) if last >= first => Asked::Part {
            first,
            end: size.min(last.saturating_add(1)),
        },
        (true, _, false, Ok(0)) => Asked::Beyond,
        (true, _, false, Ok(length)) if size > 0 => Asked::Part {
            first: size.saturating_sub(length),
            end: size,
        },
        _ => Asked::Whole,
    }
}

impl Console {
    /// One attachment, whole or in one range.
    pub(crate) async fn attachment(
        &self,
        request: &ConsoleRequest,
        segment: &str,
    ) -> Result<Page, Fault> {
        let request = get(request)?;
        let id = decode(segment)?;
        let reading = match self.open(request).await? {
            Ok(reading) => reading,
            Err(page) => return Ok(page),
        };
        let found = reading.store.attachment(reading.user(), &id).await;
        // The same for one that does not exist, that is not here, and that this reader may not read.
        let attachment = found.map_err(Fault::Store)?.ok_or(Fault::NotFound)?;
        respond(request, attachment)
    }
}

fn respond(request: &ConsoleRequest, attachment: StoredAttachment) -> Result<Page, Fault> {
    let value = |text: String| HeaderValue::from_str(&text).map_err(|_| Fault::BadRequest);
    let size = attachment.size;
    let tag = value(format!("\"{}\"", attachment.sha256))?;
    let mut page = Response::new(Bytes::new());
    let (first, end) = match asked(request, &tag, size) {
        Asked::Whole => (0, size),
        Asked::Part { first, end } => {
            *page.status_mut() = StatusCode::PARTIAL_CONTENT;
            let range = value(format!("bytes {first}-{}/{size}", end - 1))?;
            page.headers_mut().insert(header::CONTENT_RANGE, range);
            (first, end)
        }
        Asked::Beyond => {
            *page.status_mut() = StatusCode::RANGE_NOT_SATISFIABLE;
            let range = value(format!("bytes */{size}"))?;
            page.headers_mut().insert(header::CONTENT_RANGE, range);
            (size, size)
        }
    };
    let media_type = attachment.media_type.split(';').next().unwrap_or_default();
    let said = SAID.into_iter().find(|said| media_type.trim() == *said);
    let fields = [
        (
            header::CONTENT_TYPE,
            said.unwrap_or("application/octet-stream"),
        ),
        (header::ACCEPT_RANGES, "bytes"),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; sandbox",
        ),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
    ];
    let headers = page.headers_mut();
    for (name, field) in fields {
        headers.insert(name, HeaderValue::from_static(field));
    }
    headers.insert(header::ETAG, tag);
    headers.insert(header::CONTENT_LENGTH, (end - first).into());
    let disposition = format!(
        "attachment; filename*=UTF-8''{}",
        extended(attachment.name.reveal())
    );
    headers.insert(header::CONTENT_DISPOSITION, value(disposition)?);
    page.extensions_mut()
        .insert(Streamed(Arc::new(Mutex::new(Some(StreamedBody {
            attachment,
            next: first,
            end,
        })))));
    Ok(page)
}

/// A file name as RFC 8187 section 3.2 wants it, without what could lead out of a directory or hide its end.
fn extended(name: &str) -> String {
    let hidden = |character: &char| {
        // Controls, and marks that turn the direction of writing: with them `gpj.exe` can be shown as `exe.jpg`.
        character.is_control()
            || matches!(character, '\u{200e}' | '\u{200f}' | '\u{061c}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let plain: String = name
        .chars()
        .filter(|character| !hidden(character))
        .map(|character| {
            if matches!(character, '/' | '\\') {
                '_'
            } else {
                character
            }
        })
        .collect();
    plain.bytes().fold(String::new(), |text, byte| {
        if byte.is_ascii_alphanumeric() || b"!#$&+-.^_`|~".contains(&byte) {
            text + &char::from(byte).to_string()
        } else {
            text + &format!("%{byte:02X}")
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderMap, Method};

    fn of(fields: &[(HeaderName, &'static str)]) -> Asked {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.insert(name, HeaderValue::from_static(value));
        }
        let request = ConsoleRequest {
            method: Method::GET,
            path: String::new(),
            query: None,
            host: String::new(),
            headers,
            body: Bytes::new(),
            peer: [127, 0, 0, 1].into(),
            staff: None,
            device: None,
            view: crate::ViewId::default(),
        };
        asked(&request, &HeaderValue::from_static("\"t\""), 10)
    }

    #[test]
    fn one_range_is_understood_and_everything_else_is_the_whole() {
        let range = |text| of(&[(header::RANGE, text)]);
        assert_eq!(range("bytes=0-3"), Asked::Part { first: 0, end: 4 });
        assert_eq!(range("bytes=4-"), Asked::Part { first: 4, end: 10 });
        assert_eq!(range("bytes=-3"), Asked::Part { first: 7, end: 10 });
        assert_eq!(range("bytes=-30"), Asked::Part { first: 0, end: 10 });
        assert_eq!(range("bytes=5-99"), Asked::Part { first: 5, end: 10 });
        assert_eq!(
            range("bytes=9-18446744073709551615"),
            Asked::Part { first: 9, end: 10 }
        );
        assert_eq!(range("bytes=10-"), Asked::Beyond);
        assert_eq!(range("bytes=-0"), Asked::Beyond);
        for whole in [
            "bytes=3-1",
            "bytes=0-1,4-5",
            "lines=0-1",
            "bytes=a-b",
            "bytes=-",
        ] {
            assert_eq!(range(whole), Asked::Whole, "{whole}");
        }
        let other = [
            (header::RANGE, "bytes=0-3"),
            (header::IF_RANGE, "\"other\""),
        ];
        assert_eq!(of(&other), Asked::Whole);
    }

    #[test]
    fn a_file_name_cannot_lead_elsewhere_or_hide_its_end() {
        assert_eq!(extended("写真 1.png"), "%E5%86%99%E7%9C%9F%201.png");
        assert_eq!(extended("../a\\b\r\n\".pdf"), ".._a_b%22.pdf");
        assert_eq!(extended("photo\u{202e}gpj.exe"), "photogpj.exe");
    }
}
