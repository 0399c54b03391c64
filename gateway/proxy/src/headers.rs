//! Which header fields pass and which are the box's business (RFC 9110 section 7.6, RFC 9113 section 8.2.2).
//! Does not read bodies and does not decide who may pass.

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Version,
    header::{self, Entry},
};
use http_body::Frame;

/// Our name in `Via`, `Cache-Status` and `Proxy-Status`.
pub(crate) const PSEUDONYM: &str = "renraku-gateway";

const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
const BYPASSED: HeaderValue = HeaderValue::from_static("renraku-gateway; fwd=bypass");
const VIA_1_1: HeaderValue = HeaderValue::from_static("1.1 renraku-gateway");
const VIA_2: HeaderValue = HeaderValue::from_static("2.0 renraku-gateway");
const TRAILERS: HeaderValue = HeaderValue::from_static("trailers");
/// What the city tells the box about a session.
pub(crate) const STAFF: HeaderName = HeaderName::from_static("renraku-staff");

/// Fields that concern one connection only.
fn is_hop_by_hop(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "keep-alive"
            | "proxy-connection"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "te"
            | "transfer-encoding"
            | "upgrade"
            | "http2-settings"
    )
}

/// Fields by which a client could pretend to be the box, or to come from elsewhere.
fn is_claimed(name: &str) -> bool {
    match name.as_bytes()[0] {
        b'f' => name == "forwarded",
        b'x' => {
            name.starts_with("x-forwarded")
                || matches!(name, "x-real-ip" | "x-client-ip" | "x-cluster-client-ip")
        }
        b'r' => name.starts_with("renraku-"),
        b'c' => matches!(name, "client-ip" | "cf-connecting-ip"),
        b't' => name == "true-client-ip",
        _ => false,
    }
}

/// Removes the fields that `doomed` names, and those that `Connection` lists.
fn strip(headers: &mut HeaderMap, doomed: fn(&str) -> bool) {
    let mut names: Vec<HeaderName> = headers
        .keys()
        .filter(|name| doomed(name.as_str()))
        .cloned()
        .collect();
    for value in headers.get_all(header::CONNECTION) {
        let Ok(listed) = value.to_str() else { continue };
        for option in listed.split(',').map(str::trim) {
            // What nearly all say: options without a field of that name, or removed above.
            if option.eq_ignore_ascii_case("close") || option.eq_ignore_ascii_case("keep-alive") {
                continue;
            }
            if let Ok(name) = HeaderName::try_from(option) {
                // Listing an end-to-end field does not let a client smuggle a request past its Host.
                if name != header::HOST {
                    names.push(name);
                }
            }
        }
    }
    for name in names {
        headers.remove(name);
    }
}

/// Prepares a client's header for the site: ours instead of what the client may have claimed.
pub(crate) fn towards_site(headers: &mut HeaderMap, forwarded: HeaderValue, received: Version) {
    let trailers = wants_trailers(headers);
    strip(headers, |name| is_hop_by_hop(name) || is_claimed(name));
    if trailers {
        // The site may send trailers: both this box and the client take them.
        headers.insert(header::TE, TRAILERS);
    }
    headers.insert(header::FORWARDED, forwarded);
    if let Some(hops) = hops_left(headers) {
        headers.insert(
            header::MAX_FORWARDS,
            HeaderValue::from(hops.saturating_sub(1)),
        );
    }
    add_via(headers, received);
    join_cookies(headers);
}

/// What HTTP/1.1 needs on top: `TE` counts only when `Connection` names it (RFC 9110 section 10.1.4).
pub(crate) fn for_http1(headers: &mut HeaderMap, host: &HeaderValue) {
    headers.insert(header::HOST, host.clone());
    if headers.contains_key(header::TE) {
        headers.insert(header::CONNECTION, HeaderValue::from_static("te"));
    }
}

fn wants_trailers(headers: &HeaderMap) -> bool {
    headers.get_all(header::TE).iter().any(|value| {
        value
            .as_bytes()
            .split(|byte| *byte == b',')
            .any(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"trailers"))
    })
}

fn add_via(headers: &mut HeaderMap, received: Version) {
    let ours = if received == Version::HTTP_2 {
        VIA_2
    } else {
        VIA_1_1
    };
    match headers.entry(header::VIA) {
        Entry::Vacant(entry) => {
            entry.insert(ours);
        }
        Entry::Occupied(mut entry) => {
            entry.append(ours);
        }
    }
}

/// Whether a person caused this request: opened a page or sent something. What a page left open asks for by itself is
/// neither; a page that reloads itself cannot be told from a person (Fetch Metadata, Sec-Fetch-Mode).
pub(crate) fn is_by_person(method: &Method, headers: &HeaderMap) -> bool {
    !method.is_safe()
        || headers
            .get("sec-fetch-mode")
            .is_some_and(|mode| mode.as_bytes() == b"navigate")
}

/// Whether this request has been here before.
pub(crate) fn is_loop(headers: &HeaderMap) -> bool {
    headers.get_all(header::VIA).iter().any(|value| {
        value
            .to_str()
            .is_ok_and(|via| via.split(',').any(|hop| hop.trim().ends_with(PSEUDONYM)))
    })
}

/// Whether an OPTIONS request has come as far as it was meant to (RFC 9110 section 7.6.2).
pub(crate) fn is_for_us(method: &Method, headers: &HeaderMap) -> bool {
    method == Method::OPTIONS && hops_left(headers) == Some(0)
}

fn hops_left(headers: &HeaderMap) -> Option<u32> {
    headers
        .get(header::MAX_FORWARDS)?
        .to_str()
        .ok()?
        .parse()
        .ok()
}

/// HTTP/2 allows a cookie to come in pieces (RFC 9113 section 8.2.3); a site may see only one field.
fn join_cookies(headers: &mut HeaderMap) {
    let mut pieces = headers.get_all(header::COOKIE).iter();
    if pieces.next().is_none() || pieces.next().is_none() {
        return;
    }
    let joined = headers
        .get_all(header::COOKIE)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect::<Vec<_>>()
        .join(b"; ".as_slice());
    if let Ok(mut value) = HeaderValue::from_maybe_shared(Bytes::from(joined)) {
        value.set_sensitive(true);
        headers.insert(header::COOKIE, value);
    }
}

/// Prepares a site's header for the client.
pub(crate) fn towards_client(headers: &mut HeaderMap) {
    strip(headers, |name| {
        // `Alt-Svc` would lead the browser around the box.
        is_hop_by_hop(name) || name.starts_with("renraku-") || name == "alt-svc"
    });
    headers.append(CACHE_STATUS, BYPASSED);
}

/// Prepares an interim response of a site for the client. It has no content, and so no framing (RFC 9110 section 8.6).
pub(crate) fn interim(headers: &mut HeaderMap) {
    strip(headers, |name| {
        is_hop_by_hop(name)
            || name.starts_with("renraku-")
            || matches!(name, "alt-svc" | "content-length" | "trailer")
    });
}

/// Takes out of a response of the box's own what HTTP/2 has no place for (RFC 9113 section 8.2.2).
pub(crate) fn for_http2(headers: &mut HeaderMap) {
    strip(headers, is_hop_by_hop);
}

/// Takes out of a trailer section what could change how the message is framed, routed or authenticated
/// (RFC 9110 section 6.5.1).
pub(crate) fn trailers(frame: Frame<Bytes>) -> Frame<Bytes> {
    match frame.into_trailers() {
        Err(data) => data,
        Ok(mut fields) => {
            strip(&mut fields, |name| {
                is_hop_by_hop(name)
                    || is_claimed(name)
                    || matches!(
                        name,
                        "content-length"
                            | "host"
                            | "trailer"
                            | "authorization"
                            | "cookie"
                            | "set-cookie"
                            | "content-encoding"
                            | "content-type"
                            | "content-range"
                            | "cache-control"
                            | "expect"
                            | "max-forwards"
                            | "range"
                            | "vary"
                            | "via"
                    )
            });
            Frame::trailers(fields)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        fields
            .iter()
            .map(|(name, value)| {
                (
                    HeaderName::from_static(name),
                    HeaderValue::from_static(value),
                )
            })
            .collect()
    }

    fn sent(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = map(fields);
        towards_site(
            &mut headers,
            HeaderValue::from_static("for=_x"),
            Version::HTTP_11,
        );
        headers
    }

    #[test]
    fn fields_listed_in_connection_do_not_pass() {
        let headers = sent(&[
            ("connection", "close, X-Secret"),
            ("x-secret", "1"),
            ("accept", "*/*"),
        ]);
        assert!(!headers.contains_key("x-secret"));
        assert!(!headers.contains_key("connection"));
        assert!(headers.contains_key("accept"));
    }

    #[test]
    fn host_cannot_be_removed_through_connection() {
        assert!(sent(&[("connection", "host"), ("host", "a")]).contains_key("host"));
    }

    #[test]
    fn a_client_cannot_claim_another_origin_or_identity() {
        let headers = sent(&[
            ("forwarded", "for=1.2.3.4"),
            ("x-forwarded-for", "1.2.3.4"),
            ("x-real-ip", "1.2.3.4"),
            ("renraku-staff", "\"u1\""),
        ]);
        assert_eq!(headers["forwarded"], "for=_x");
        assert_eq!(headers.len(), 2, "forwarded and via only");
    }

    #[test]
    fn only_trailers_survives_in_te() {
        assert_eq!(sent(&[("te", "gzip, trailers")])["te"], "trailers");
        assert!(!sent(&[("te", "gzip")]).contains_key("te"));
    }

    #[test]
    fn cookie_pieces_are_joined() {
        let mut headers = map(&[("cookie", "a=1")]);
        headers.append("cookie", HeaderValue::from_static("b=2"));
        towards_site(
            &mut headers,
            HeaderValue::from_static("for=_x"),
            Version::HTTP_2,
        );
        assert_eq!(headers["cookie"], "a=1; b=2");
        assert_eq!(headers["via"], "2.0 renraku-gateway");
    }

    #[test]
    fn framing_fields_in_trailers_are_dropped() {
        let trailer = map(&[
            ("content-length", "3"),
            ("transfer-encoding", "chunked"),
            ("host", "evil"),
            ("digest", "x"),
        ]);
        let kept = trailers(Frame::trailers(trailer)).into_trailers().unwrap();
        assert_eq!(kept.len(), 1);
        assert!(kept.contains_key("digest"));
    }

    #[test]
    fn what_the_city_tells_the_box_is_not_told_to_the_browser() {
        let mut headers = map(&[("renraku-staff", "\"u1\""), ("alt-svc", "h3=\":443\"")]);
        towards_client(&mut headers);
        assert_eq!(headers.len(), 1, "cache-status only");
    }

    #[test]
    fn a_request_that_was_here_before_is_recognised() {
        assert!(is_loop(&map(&[("via", "1.1 a, 2.0 renraku-gateway")])));
        assert!(!is_loop(&map(&[("via", "1.1 a")])));
    }
}
