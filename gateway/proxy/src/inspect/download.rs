//! The step *scan download*: what a site answers is collected and judged before the client sees a byte of it, its head
//! included.
//!
//! Event streams never end and are passed on as they are; their messages are another module's.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, atomic::AtomicU64},
};

use gateway_policy::{Asked, Permit, Refusal};
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header, response::Parts,
};
use http_body::Body as _;

use super::{
    Cause, Direction, Held, Inspector, Stopped, Terms, Why, files_are_refused,
    gather::gather,
    held::Whole,
    kind::{self, Kinds},
    range::{self, Wanted},
    reading::{self, Reading},
    upload, waiting,
};
use crate::{
    body::{Reply, ReplyError},
    connection::Connection,
    error::{Failure, Fault, FaultKind},
    event_stream,
    incoming::Incoming,
};

/// The media type of event streams.
const EVENTS: &[u8] = b"text/event-stream";

/// What the request said that its response is judged by.
pub(crate) struct Expected {
    terms: Terms,
    /// What each event of an event stream is judged by.
    asked: Asked,
    /// Set where a file must not be passed at all.
    no_files: Option<Refusal>,
    /// `EventSource` asked, or another that can read its streams.
    events: bool,
    /// What only some requests have.
    more: Option<Box<More>>,
}

struct More {
    range: Option<Wanted>,
    /// A person clicked on a link or opened an address.
    navigates: bool,
    /// What the address claims the file to be.
    named: Kinds,
    owner: waiting::Owner,
}

impl Expected {
    pub(crate) fn of(
        permit: &Permit,
        connection: &Connection,
        staff: Option<&str>,
        request: &Request<Incoming>,
    ) -> Self {
        let headers = request.headers();
        let is = |name: &str, value: &str| headers.get(name).is_some_and(|found| found == value);
        let get = *request.method() == Method::GET;
        let range = if get { Wanted::of(headers) } else { None };
        let navigates = is("sec-fetch-mode", "navigate");
        let more = (range.is_some() || navigates).then(|| {
            let path = request.uri().path().as_bytes();
            let last = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
            Box::new(More {
                range,
                navigates: navigates && get,
                named: kind::of_name(&reading::percent_decoded(last)).into(),
                owner: waiting::Owner::of(connection, staff, headers),
            })
        });
        Self {
            terms: Terms::of(permit),
            asked: Asked {
                area: permit.area(),
                writes: false,
                transfers_file: false,
            },
            no_files: files_are_refused(permit),
            events: get && accepts_events(headers),
            more,
        }
    }

    fn navigates(&self) -> bool {
        self.more.as_ref().is_some_and(|more| more.navigates)
    }
}

/// What is done with a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Disposition {
    /// It has no content.
    Empty,
    /// It is collected and judged.
    Hold,
    /// It is an event stream for a script that asked for one: it does not end, and is judged message by message.
    Stream,
}

impl Disposition {
    fn of(expected: &Expected, response: &Response<Reply>) -> Self {
        if response.body().is_end_stream() {
            return Self::Empty;
        }
        let headers = response.headers();
        let stream = expected.events
            && response.status() == StatusCode::OK
            && essence(headers).eq_ignore_ascii_case(EVENTS)
            && !headers.contains_key(header::CONTENT_ENCODING)
            && !headers.contains_key(header::CONTENT_DISPOSITION);
        if stream { Self::Stream } else { Self::Hold }
    }
}

/// Inspects a response.
pub(crate) async fn download(
    connection: &Connection,
    expected: Expected,
    response: Response<Reply>,
) -> Result<Response<Reply>, Failure> {
    match Disposition::of(&expected, &response) {
        Disposition::Empty => return Ok(response),
        Disposition::Stream => {
            let asked = expected.asked;
            return Ok(response.map(|body| event_stream::inspected(body, connection, asked)));
        }
        Disposition::Hold => {}
    }
    let stop = |why: Why| Failure::Content(Stopped::new(Direction::Download, why));
    if response.status() == StatusCode::PARTIAL_CONTENT {
        // Nobody asked for it: the request's range stays at the box.
        return Err(stop(Why::Unscannable(Cause::Partial)));
    }
    let headers = response.headers();
    let reading = Reading::of(headers).map_err(|why| stop(why.into()))?;
    // Only for those it makes a difference to.
    let matters = expected.no_files.is_some() || expected.more.is_some();
    let file = matters && is_file(headers, expected.navigates());
    if let (Some(refusal), true) = (expected.no_files, file) {
        return Err(Failure::Refused(refusal));
    }
    let mut named = upload::names(headers);
    if let (Some(more), true) = (&expected.more, file) {
        named = named.and(more.named);
    }
    let inspector = Arc::clone(connection.worker.shared.inspection.inspector());
    let watched = expected.navigates() && file;
    let arrived = watched.then(|| Arc::new(AtomicU64::new(0)));
    let total = response.body().size_hint().exact();
    let work = collect(
        Arc::clone(&inspector),
        response,
        reading,
        named,
        expected.terms,
        arrived.clone(),
    );
    let (head, whole) = match (arrived, &expected.more) {
        (Some(arrived), Some(more)) => {
            let work: Work = Box::pin(work);
            let waiting = inspector.waiting.while_it_lasts(
                work,
                more.owner.clone(),
                arrived,
                total,
                inspector.limits.person_waits,
            );
            match Box::pin(waiting).await {
                waiting::Ended::InTime(done) => done?,
                waiting::Ended::Later(page) => return Ok(page),
            }
        }
        _ => work.await?,
    };
    let wanted = expected.more.and_then(|more| more.range);
    Ok(answer(head, Arc::new(whole), wanted.as_ref()))
}

/// A download under way.
pub(super) type Work = Pin<Box<dyn Future<Output = Result<(Parts, Whole), Failure>> + Send>>;

async fn collect(
    inspector: Arc<Inspector>,
    response: Response<Reply>,
    reading: Reading,
    named: Kinds,
    terms: Terms,
    arrived: Option<Arc<AtomicU64>>,
) -> Result<(Parts, Whole), Failure> {
    let (head, body) = response.into_parts();
    let key = inspector.key(&reading);
    let gathered = gather(body, &inspector.bounds(), &key, inspector.room(), arrived).await;
    let gathered = gathered.map_err(|failed| match failed.why() {
        Ok(why) => Failure::Content(Stopped::new(Direction::Download, why)),
        Err(error) => reply_failure(&error),
    })?;
    let judged = inspector.judge(gathered, &reading, named, Direction::Download, terms);
    let whole = judged.await.map_err(Failure::Content)?;
    Ok((head, whole))
}

/// The answer to the client: all of it, or the range it asked for.
pub(super) fn answer(
    mut head: Parts,
    whole: Arc<Whole>,
    wanted: Option<&Wanted>,
) -> Response<Reply> {
    let length = whole.length;
    let cut = match wanted {
        Some(wanted) if head.status == StatusCode::OK => wanted.cut(&head.headers, length),
        _ => None,
    };
    let held = match cut {
        Some(range) => {
            range::announce(&mut head, &range, length);
            Held::range(whole, range)
        }
        None => Held::new(whole),
    };
    if held.has_trailers() {
        head.headers.remove(header::CONTENT_LENGTH);
    }
    Response::from_parts(head, Reply::held(held))
}

/// Whether a request names event streams among what it accepts (RFC 9110 section 12.5.1). A range like `text/*` does not: a
/// script that means a stream says so, and a page that does not must not be given one.
fn accepts_events(headers: &HeaderMap) -> bool {
    let names = |range: &[u8]| {
        let mut parts = divided(range, b';').map(<[u8]>::trim_ascii);
        parts
            .next()
            .is_some_and(|name| name.eq_ignore_ascii_case(EVENTS))
            && !parts.any(is_weight_of_nothing)
    };
    headers
        .get_all(header::ACCEPT)
        .iter()
        .map(HeaderValue::as_bytes)
        .filter(|value| value.len() >= EVENTS.len())
        .any(|value| divided(value, b',').map(<[u8]>::trim_ascii).any(names))
}

/// `q=0`: not acceptable (RFC 9110 section 12.4.2).
fn is_weight_of_nothing(parameter: &[u8]) -> bool {
    match parameter {
        [b'q' | b'Q', b'=', b'0'] => true,
        [b'q' | b'Q', b'=', b'0', b'.', digits @ ..] => digits.iter().all(|digit| *digit == b'0'),
        _ => false,
    }
}

/// The parts between separators that are not inside a quoted string (RFC 9110 section 5.6.4).
fn divided(value: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let (mut quoted, mut escaped) = (false, false);
    value.split(move |byte| {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ => return !quoted && *byte == separator,
        }
        false
    })
}

fn essence(headers: &HeaderMap) -> &[u8] {
    headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.as_bytes().split(|byte| *byte == b';').next())
        .unwrap_or_default()
        .trim_ascii()
}

/// Whether a response is a file for a person, not a page or a part of one.
fn is_file(headers: &HeaderMap, navigates: bool) -> bool {
    let attachment = headers
        .get_all(header::CONTENT_DISPOSITION)
        .iter()
        .any(|value| {
            let word = value.as_bytes().trim_ascii_start();
            !word
                .get(..6)
                .is_some_and(|word| word.eq_ignore_ascii_case(b"inline"))
        });
    let kind = essence(headers).to_ascii_lowercase();
    let page = kind.is_empty()
        || kind.starts_with(b"text/")
        || kind.ends_with(b"json")
        || kind.ends_with(b"xml")
        || kind.ends_with(b"javascript")
        || kind == b"application/wasm";
    let embedded = [&b"image/"[..], b"font/", b"audio/", b"video/"]
        .iter()
        .any(|start| kind.starts_with(start));
    attachment || !(page || embedded && !navigates)
}

/// The failure behind a response that ended early: the client has seen nothing of it yet and can be told.
fn reply_failure(error: &ReplyError) -> Failure {
    match error {
        ReplyError::Cut(error) => Fault::exchange(error).into(),
        ReplyError::Stalled => Fault::first_byte_timeout().into(),
        ReplyError::Lost(_) => Fault::new(FaultKind::Stopping).into(),
        ReplyError::Ended | ReplyError::Stopped => Failure::Gone,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_stream_is_accepted_wherever_the_list_names_it_and_not_otherwise() {
        let accepts = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::ACCEPT, HeaderValue::from_static(value));
            }
            accepts_events(&headers)
        };
        for values in [
            &["text/event-stream"][..],
            &["Text/Event-Stream"],
            &["application/json, text/event-stream"],
            &["text/event-stream;q=0.9 , */*;q=0.1"],
            &["a/b;x=\"\\\",\",text/event-stream"],
            &["text/html", "text/event-stream"],
        ] {
            assert!(accepts(values), "{values:?}");
        }
        for values in [
            &[][..],
            &["*/*"],
            &["text/*"],
            &["text/event-streams"],
            &["text/event-stream;q=0"],
            &["text/event-stream; q=0.000"],
            &["a/b;x=\", text/event-stream\""],
        ] {
            assert!(!accepts(values), "{values:?}");
        }
    }
}
