//! Finds out which site a request is for, and what part of it. Does not decide whether it may go there.

use std::{collections::HashMap, fmt::Write as _};

use bytes::Bytes;
use gateway_policy::{Area, Asked};
use http::{HeaderValue, Method, Request, header, uri::Authority};

use crate::{
    StartError,
    config::{ProxyConfig, RESERVED_PREFIX, Site},
    error::Failure,
};

/// Where a host name leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Console,
    Site(usize),
}

/// Host names to targets, and the rules of each site for its public part.
#[derive(Debug)]
pub(crate) struct Routes {
    hosts: HashMap<String, Target>,
    public: Vec<Vec<String>>,
}

/// What one authority means on one connection. Kept by the connection, since the next request will ask for the same.
#[derive(Debug)]
pub(crate) struct Route {
    /// As the client wrote it.
    pub(crate) host: HeaderValue,
    pub(crate) authority: Authority,
    pub(crate) target: Target,
    /// RFC 7239, ready to send.
    pub(crate) forwarded: HeaderValue,
}

impl Routes {
    pub(crate) fn new(config: &ProxyConfig) -> Result<Self, StartError> {
        let mut hosts = HashMap::new();
        let mut add = |host: &String, target| {
            let name = host.to_ascii_lowercase();
            let plain = name
                .parse::<Authority>()
                .is_ok_and(|a| a.as_str() == a.host());
            if !plain {
                return Err(StartError::HostName(host.clone()));
            }
            match hosts.insert(name, target) {
                None => Ok(()),
                Some(_) => Err(StartError::HostTwice(host.clone())),
            }
        };
        for (index, site) in config.sites.iter().enumerate() {
            for host in &site.hosts {
                add(host, Target::Site(index))?;
            }
        }
        for host in &config.console_hosts {
            add(host, Target::Console)?;
        }
        let public = config
            .sites
            .iter()
            .map(|site: &Site| site.public_paths.clone())
            .collect();
        Ok(Self { hosts, public })
    }

    /// The target of a host name without port, in any case.
    pub(crate) fn target(&self, host: &str) -> Option<Target> {
        if let Some(target) = self.hosts.get(host) {
            return Some(*target);
        }
        self.hosts.get(&host.to_ascii_lowercase()).copied()
    }

    /// What the request asks for, in the words of the policy.
    pub(crate) fn classify<B>(&self, target: Target, request: &Request<B>) -> Asked {
        let path = request.uri().path();
        let area = match target {
            Target::Console => Area::Box,
            Target::Site(_) if path.starts_with(RESERVED_PREFIX) => Area::Box,
            Target::Site(index) if self.is_public(index, path) => Area::Public,
            Target::Site(_) => Area::Staff,
        };
        let method = request.method();
        let writes = !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
        Asked {
            area,
            writes,
            transfers_file: writes && carries_file(request),
        }
    }

    fn is_public(&self, site: usize, path: &str) -> bool {
        let Some(rules) = self.public.get(site) else {
            return false;
        };
        !is_ambiguous(path) && rules.iter().any(|rule| matches(rule, path))
    }
}

/// A path rule covers itself and what lies below; the root covers only itself.
fn matches(rule: &str, path: &str) -> bool {
    if rule == "/" {
        return path == "/";
    }
    let rule = rule.strip_suffix('/').unwrap_or(rule);
    path.strip_prefix(rule)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// A path that a site may read differently from what it looks like: `/public/../staff`, `/public/%2e%2e/staff`, `/public/..;/staff`.
fn is_ambiguous(path: &str) -> bool {
    let bytes = path.as_bytes();
    path.contains("//")
        || path.contains("/.")
        || bytes.contains(&b'\\')
        || bytes.contains(&b';')
        || bytes.windows(3).any(|escape| {
            escape[0] == b'%'
                && matches!(
                    [escape[1], escape[2].to_ascii_lowercase()],
                    // . / \ ; % and NUL
                    [b'2', b'e' | b'f' | b'5'] | [b'5', b'c'] | [b'3', b'b'] | [b'0', b'0']
                )
        })
}

fn carries_file<B>(request: &Request<B>) -> bool {
    let Some(media_type) = request.headers().get(header::CONTENT_TYPE) else {
        return false;
    };
    let media_type = media_type.as_bytes();
    let essence = media_type
        .split(|byte| *byte == b';')
        .next()
        .unwrap_or_default()
        .trim_ascii();
    // Everything that is not plainly a form or a message of the web application itself.
    ![
        b"application/x-www-form-urlencoded".as_slice(),
        b"application/json",
        b"text/plain",
    ]
    .iter()
    .any(|plain| essence.eq_ignore_ascii_case(plain))
}

impl Route {
    /// Reads the authority of a request and finds its target.
    ///
    /// # Errors
    /// [`Failure::Malformed`] when the request does not name exactly one authority, [`Failure::Misdirected`] when that is not served
    /// here or not on a connection opened for `sni`.
    pub(crate) fn find<B>(
        routes: &Routes,
        request: &Request<B>,
        sni: Option<&str>,
        node: &str,
    ) -> Result<Self, Failure> {
        let (host, authority) = authority_of(request)?;
        let name = authority.host();
        if sni.is_some_and(|sni| !sni.eq_ignore_ascii_case(name)) {
            return Err(Failure::Misdirected);
        }
        let target = routes.target(name).ok_or(Failure::Misdirected)?;
        let mut forwarded = String::with_capacity(96);
        // Quoted, because a port's colon is not allowed in a token (RFC 7239 section 4). The authority has no quotes in it.
        let _ = write!(
            forwarded,
            "for={node};proto=https;host=\"{}\"",
            authority.as_str()
        );
        let forwarded = HeaderValue::from_maybe_shared(Bytes::from(forwarded))
            .map_err(|_| Failure::Malformed("host"))?;
        Ok(Self {
            host,
            authority,
            target,
            forwarded,
        })
    }
}

/// The one authority of a request (RFC 9112 section 3.2, RFC 9113 section 8.3.1).
pub(crate) fn authority_of<B>(request: &Request<B>) -> Result<(HeaderValue, Authority), Failure> {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(Failure::Malformed("host-twice"));
    }
    let authority = match (host, request.uri().authority()) {
        (None, None) => return Err(Failure::Malformed("no-host")),
        // HTTP/1.1 demands Host even next to an absolute target; HTTP/2 does not.
        (None, Some(_)) if request.version() != http::Version::HTTP_2 => {
            return Err(Failure::Malformed("no-host"));
        }
        (None, Some(authority)) => authority.clone(),
        (Some(host), named) => {
            let authority = Authority::from_maybe_shared(Bytes::copy_from_slice(host.as_bytes()))
                .map_err(|_| Failure::Malformed("host"))?;
            if named.is_some_and(|named| named != &authority) {
                return Err(Failure::Malformed("authority-is-not-host"));
            }
            authority
        }
    };
    if authority.as_str().contains('@') || authority.host().is_empty() || !port_is_valid(&authority)
    {
        return Err(Failure::Malformed("host"));
    }
    let host = HeaderValue::from_str(authority.as_str()).map_err(|_| Failure::Malformed("host"))?;
    Ok((host, authority))
}

fn port_is_valid(authority: &Authority) -> bool {
    match authority.as_str().strip_prefix(authority.host()) {
        Some("") => true,
        Some(port) => port
            .strip_prefix(':')
            .is_some_and(|digits| digits.parse::<u16>().is_ok_and(|port| port != 0)),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn public(rules: &[&str], path: &str) -> bool {
        let routes = Routes {
            hosts: HashMap::new(),
            public: vec![rules.iter().map(ToString::to_string).collect()],
        };
        routes.is_public(0, path)
    }

    #[test]
    fn the_root_rule_opens_only_the_root() {
        assert!(public(&["/"], "/"));
        assert!(!public(&["/"], "/staff/notes"));
    }

    #[test]
    fn a_rule_covers_what_lies_below_it_but_not_its_namesakes() {
        for rule in ["/portal", "/portal/"] {
            assert!(public(&[rule], "/portal"));
            assert!(public(&[rule], "/portal/a/b"));
            assert!(!public(&[rule], "/portals"));
        }
    }

    #[test]
    fn no_spelling_of_a_staff_path_becomes_public() {
        for path in [
            "/portal/../staff",
            "/portal/%2e%2e/staff",
            "/portal/..%2fstaff",
            "/portal/.%2E/staff",
            "/portal//staff",
            "/portal/..;/staff",
            "/portal/..\\staff",
            "/portal/%252e%252e/staff",
            "/portal/%5c../staff",
            "/portal/%00",
        ] {
            assert!(!public(&["/portal"], path), "{path}");
        }
    }

    fn request(uri: &str, hosts: &[&str]) -> Request<()> {
        let mut builder = Request::builder().uri(uri);
        for host in hosts {
            builder = builder.header("host", *host);
        }
        builder.body(()).unwrap()
    }

    #[test]
    fn a_request_names_exactly_one_authority() {
        assert!(authority_of(&request("/", &["a.example:8443"])).is_ok());
        for refused in [
            request("/", &[]),
            request("/", &["a.example", "a.example"]),
            request("/", &["user@a.example"]),
            request("/", &["a.example:0"]),
            request("/", &["a.example:99999"]),
            request("/", &["a.example:"]),
            request("/", &[""]),
            request("https://b.example/", &["a.example"]),
            request("https://a.example/", &[]),
        ] {
            assert!(
                matches!(authority_of(&refused), Err(Failure::Malformed(_))),
                "{refused:?}"
            );
        }
    }
}
