//! What the caller decides before the data path starts. Does not read files.

use std::{net::SocketAddr, num::NonZeroUsize};

use rustls::pki_types::CertificateDer;

use crate::Limits;

/// The one path prefix on a relayed origin that is the box's own.
pub const RESERVED_PREFIX: &str = "/.well-known/renraku-gateway/";

/// The protocol spoken with a site.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// Whatever the site prefers (ALPN).
    #[default]
    Auto,
    /// HTTP/1.1 only.
    Http1,
    /// HTTP/2 only.
    Http2,
}

/// Where a site lives.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// Name that is resolved and that the site's certificate must carry.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Dial this address instead of resolving the name.
    pub connect: Option<SocketAddr>,
}

/// One HTTPS site that is relayed.
#[derive(Clone, Debug)]
pub struct Site {
    /// Host names by which browsers ask for it, without port.
    pub hosts: Vec<String>,
    /// Where it lives.
    pub upstream: Upstream,
    /// What is open to everybody (第17条). `/a` and `/a/` match that path and everything below it; `/` alone matches only the
    /// root itself. A path that could be read in two ways (dot segments, encoded slashes) is never public.
    pub public_paths: Vec<String>,
    /// Protocol towards it.
    pub protocol: Protocol,
    /// Whose it is.
    pub owner: Owner,
}

/// Whose a site is, and so what the box shows it and believes of it.
#[derive(Clone, Debug, Default)]
pub enum Owner {
    /// The city's: trusted by [`ProxyConfig::roots`], shown the facility certificate, believed about staff sessions.
    #[default]
    City,
    /// Somebody else's: trusted by these authorities alone, never shown the facility certificate, and what it says of staff
    /// is removed unread (else any relayed site could sign somebody in to the stored notes).
    Other {
        /// Its trust anchors.
        roots: Vec<CertificateDer<'static>>,
    },
}

/// Who answers questions (第12条), as the box's pages name them.
#[derive(Clone, Debug, Default)]
pub struct Support {
    /// The office.
    pub office: String,
    /// Its telephone number; the city's signed policy may name another.
    pub phone: String,
}

/// What the data path must know before it starts.
#[derive(Clone, Debug)]
pub struct ProxyConfig {
    /// The relayed sites.
    pub sites: Vec<Site>,
    /// Host names (or address literals) of the box's own pages, without port.
    pub console_hosts: Vec<String>,
    /// Trust anchors for the city's sites.
    pub roots: Vec<CertificateDer<'static>>,
    /// Worker threads.
    pub workers: NonZeroUsize,
    /// Port of the HTTPS listener as clients see it; the plain listener redirects there.
    pub https_port: u16,
    /// `host:port` of the plain listener as clients see it, for the PAC file.
    pub proxy_authority: String,
    /// Ports besides `https_port` that CONNECT may name.
    pub connect_ports: Vec<u16>,
    /// Who answers questions.
    pub support: Support,
    /// Bounds.
    pub limits: Limits,
}
