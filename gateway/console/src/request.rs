//! A request as the pages get it, and what is read from its header. It does not read bodies.

use std::fmt;
use std::net::IpAddr;

use bytes::Bytes;
use gateway_notes::Role;
use gateway_policy::{DeviceId, Timestamp};
use http::{HeaderMap, Method, header};

use crate::ViewId;

/// A request for one of the box's own pages, read completely.
pub struct ConsoleRequest {
    /// Method.
    pub method: Method,
    /// Path, still percent-encoded.
    pub path: String,
    /// Query, still percent-encoded, without the question mark.
    pub query: Option<String>,
    /// The authority asked for, as the client wrote it: host, and port where there is one.
    pub host: String,
    /// Header fields.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
    /// The client's address.
    pub peer: IpAddr,
    /// Who asks, if the city has said so of one of the notebook's cookies.
    pub staff: Option<Staff>,
    /// The registered device it comes from, by the client certificate of the connection.
    pub device: Option<DeviceId>,
    /// Names the page that this request opens; made anew for each request when it is answered.
    pub view: ViewId,
}

impl fmt::Debug for ConsoleRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Bodies carry access codes, headers cookies, paths ids of persons.
        f.debug_struct("ConsoleRequest")
            .field("method", &self.method)
            .finish_non_exhaustive()
    }
}

/// A staff member whom the city has signed in.
#[derive(Clone, PartialEq, Eq)]
pub struct Staff {
    /// The user id at the city.
    pub user: String,
    /// The role at the facility.
    pub role: Role,
    /// The end of the session at the city.
    pub until: Timestamp,
}

impl fmt::Debug for Staff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Staff(..)")
    }
}

impl ConsoleRequest {
    /// Whether answering takes next to no time of the thread that asks: what pages of stored notes need is opened and made
    /// elsewhere, or was before. All others belong on a thread that may take its time.
    #[must_use]
    pub fn is_light(&self) -> bool {
        let read = matches!(self.method, Method::GET | Method::HEAD) && self.query.is_none();
        let rest = self.path.strip_prefix("/notes");
        read && rest.is_some_and(|rest| {
            rest.is_empty() || rest.strip_prefix('/').is_some_and(|id| !id.contains('/'))
        })
    }

    /// The host without its port, lower case; of `[::1]:8443` that is `::1`.
    pub(crate) fn host_name(&self) -> String {
        let name = match self
            .host
            .strip_prefix('[')
            .and_then(|rest| rest.split_once(']'))
        {
            Some((literal, _)) => literal,
            None => self.host.split(':').next().unwrap_or_default(),
        };
        name.to_ascii_lowercase()
    }

    /// The port with its colon, or nothing.
    pub(crate) fn port_suffix(&self) -> &str {
        let after = self.host.rfind(']').map_or(0, |at| at + 1);
        let rest = self.host.get(after..).unwrap_or_default();
        let suffix = rest
            .find(':')
            .and_then(|at| rest.get(at..))
            .unwrap_or_default();
        let digits = suffix.get(1..).unwrap_or_default();
        let is_port = !digits.is_empty() && digits.parse::<u16>().is_ok();
        if is_port { suffix } else { "" }
    }

    /// The first value of a cookie.
    pub(crate) fn cookie(&self, name: &str) -> Option<&str> {
        self.headers
            .get_all(header::COOKIE)
            .iter()
            .filter_map(|line| line.to_str().ok())
            .flat_map(|line| line.split(';'))
            .filter_map(|pair| pair.trim().split_once('='))
            .find_map(|(key, value)| (key == name).then_some(value))
    }

    /// Whether the request was made by one of our own pages. Browsers of the last years say so themselves
    /// (Sec-Fetch-Site); older ones at least name the page's origin.
    pub(crate) fn is_from_our_own_page(&self) -> bool {
        let text = |name: &str| {
            self.headers
                .get(name)
                .map(|value| value.to_str().unwrap_or("unreadable"))
        };
        match (text("sec-fetch-site"), text("origin")) {
            (Some(site), _) => site == "same-origin",
            (None, Some(origin)) => origin
                .strip_prefix("https://")
                .is_some_and(|authority| authority.eq_ignore_ascii_case(&self.host)),
            (None, None) => false,
        }
    }

    /// Whether a person follows a link, as opposed to a page loading a picture or a frame.
    pub(crate) fn is_navigation(&self) -> bool {
        self.headers
            .get("sec-fetch-dest")
            .is_none_or(|dest| dest == "document")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn request(host: &str, headers: &[(&'static str, &str)]) -> ConsoleRequest {
        let headers = headers
            .iter()
            .map(|(name, value)| {
                (
                    http::HeaderName::from_static(name),
                    HeaderValue::from_str(value).unwrap(),
                )
            })
            .collect();
        ConsoleRequest {
            method: Method::POST,
            path: "/".into(),
            query: None,
            host: host.into(),
            headers,
            body: Bytes::new(),
            peer: IpAddr::from([127, 0, 0, 1]),
            staff: None,
            device: None,
            view: ViewId::default(),
        }
    }

    #[test]
    fn hosts_come_apart_with_and_without_ports() {
        for (host, name, port) in [
            ("Box.example", "box.example", ""),
            ("box.example:8443", "box.example", ":8443"),
            ("192.0.2.1:443", "192.0.2.1", ":443"),
            ("[::1]:8443", "::1", ":8443"),
            ("[::1]", "::1", ""),
            ("box:99999", "box", ""),
            ("box:1\"2", "box", ""),
            ("", "", ""),
        ] {
            let request = request(host, &[]);
            assert_eq!(
                (request.host_name().as_str(), request.port_suffix()),
                (name, port),
                "{host}"
            );
        }
    }

    #[test]
    fn light_are_lists_and_newest_notes_and_nothing_else() {
        let light = |method: Method, path: &str, query: Option<&str>| {
            let mut request = request("box", &[]);
            (request.method, request.path) = (method, path.into());
            request.query = query.map(str::to_owned);
            request.is_light()
        };
        for path in ["/notes", "/notes/", "/notes/p%2F1"] {
            assert!(light(Method::GET, path, None) && light(Method::HEAD, path, None));
            assert!(!light(Method::POST, path, None));
            assert!(!light(Method::GET, path, Some("before=1.00")));
        }
        for path in [
            "/",
            "/search",
            "/notesp",
            "/notes/p/print",
            "/notes/attachment/a",
        ] {
            assert!(!light(Method::GET, path, None), "{path}");
        }
    }

    #[test]
    fn only_our_own_pages_may_change_something() {
        let own = |headers: &[(&'static str, &str)]| {
            request("box.example:8443", headers).is_from_our_own_page()
        };
        assert!(own(&[("sec-fetch-site", "same-origin")]));
        assert!(own(&[("origin", "https://box.example:8443")]));
        assert!(!own(&[]));
        assert!(!own(&[("sec-fetch-site", "same-site")]));
        assert!(!own(&[
            ("sec-fetch-site", "cross-site"),
            ("origin", "https://box.example:8443")
        ]));
        assert!(!own(&[("sec-fetch-site", "none")]));
        assert!(!own(&[("origin", "null")]));
        assert!(!own(&[("origin", "http://box.example:8443")]));
        assert!(!own(&[("origin", "https://box.example")]));
    }

    #[test]
    fn cookies_are_found_by_their_whole_name() {
        let request = request(
            "box",
            &[("cookie", "a=1; __Host-box=token; x__Host-box=no")],
        );
        assert_eq!(request.cookie("__Host-box"), Some("token"));
        assert_eq!(request.cookie("box"), None);
    }
}
