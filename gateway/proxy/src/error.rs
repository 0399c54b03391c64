//! What can go wrong with a request, and whose fault it is. Does not write the sentence a person reads: that is `pages`.

use std::{error::Error as StdError, io};

use gateway_policy::Refusal;
use http::StatusCode;
use rustls::AlertDescription;

use crate::{inspect::Stopped, live::Ended};

/// Why the data path could not start or be reconfigured.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A listening socket cannot be used.
    #[error("cannot use a listening socket")]
    Listen(#[source] io::Error),
    /// A runtime cannot be built.
    #[error("cannot build a runtime")]
    Runtime(#[source] io::Error),
    /// A thread cannot be started.
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
    /// The LAN certificate cannot be used.
    #[error("cannot use the LAN certificate")]
    LanCertificate(#[source] rustls::Error),
    /// A trust anchor cannot be used.
    #[error("cannot use a trust anchor")]
    TrustAnchor(#[source] rustls::Error),
    /// The ticket key cannot be made.
    #[error("cannot make a ticket key")]
    Tickets(#[source] rustls::Error),
    /// The TLS configuration is not possible.
    #[error("cannot configure TLS")]
    Tls(#[source] rustls::Error),
    /// A configured name is no host name.
    #[error("{0:?} is not a host name")]
    HostName(String),
    /// One host name belongs to two sites.
    #[error("{0:?} is configured twice")]
    HostTwice(String),
    /// A configured value cannot be used in a header field.
    #[error("{0:?} cannot be used in a header field")]
    Header(String),
    /// No randomness.
    #[error("no randomness from the system")]
    Random,
}

/// What happened on the city's side of the box.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FaultKind {
    /// The name cannot be resolved.
    NameUnknown,
    NameTimeout,
    /// Nothing listens there.
    Refused,
    /// No way there.
    Unreachable,
    ConnectTimeout,
    HandshakeTimeout,
    /// The site's certificate is not the expected city's.
    WrongAuthority,
    /// The site does not accept the facility certificate.
    CertificateRefused,
    /// The facility key could not sign.
    KeyUnavailable,
    /// TLS failed in another way.
    Tls,
    /// The site closed or reset the connection before answering.
    Closed,
    /// The site does not speak HTTP as it should.
    Protocol,
    FirstByteTimeout,
    /// Too many requests wait already.
    Busy,
    /// The site failed repeatedly and is given a pause.
    BreakerOpen,
    /// The request came back to the box.
    Loop,
    /// The box is shutting down.
    Stopping,
}

impl FaultKind {
    /// The `error` parameter of `Proxy-Status` (RFC 9209 section 2.3).
    pub(crate) const fn token(self) -> &'static str {
        match self {
            Self::NameUnknown => "dns_error",
            Self::NameTimeout => "dns_timeout",
            Self::Refused => "connection_refused",
            Self::Unreachable | Self::BreakerOpen => "destination_unavailable",
            Self::ConnectTimeout | Self::HandshakeTimeout => "connection_timeout",
            Self::WrongAuthority => "tls_certificate_error",
            Self::CertificateRefused => "tls_alert_received",
            Self::KeyUnavailable | Self::Stopping => "proxy_internal_error",
            Self::Tls => "tls_protocol_error",
            Self::Closed => "connection_terminated",
            Self::Protocol => "http_protocol_error",
            Self::FirstByteTimeout => "http_response_timeout",
            Self::Busy => "connection_limit_reached",
            Self::Loop => "proxy_loop_detected",
        }
    }

    pub(crate) const fn status(self) -> StatusCode {
        match self {
            Self::ConnectTimeout
            | Self::HandshakeTimeout
            | Self::FirstByteTimeout
            | Self::NameTimeout => StatusCode::GATEWAY_TIMEOUT,
            Self::Busy | Self::BreakerOpen | Self::Stopping | Self::KeyUnavailable => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::Loop => StatusCode::LOOP_DETECTED,
            _ => StatusCode::BAD_GATEWAY,
        }
    }

    pub(crate) const fn is_stopping(self) -> bool {
        matches!(self, Self::Stopping)
    }

    /// Whether the same request may do better on another connection.
    pub(crate) const fn may_differ_elsewhere(self) -> bool {
        matches!(self, Self::Closed)
    }
}

/// A fault with what is known about it. Carries nothing of the request.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    pub(crate) kind: FaultKind,
    /// The connection had answered before; then a closed one is only the usual race with the site's idle timer.
    pub(crate) proven: bool,
    detail: Option<std::sync::Arc<str>>,
}

impl Fault {
    pub(crate) const fn new(kind: FaultKind) -> Self {
        Self {
            kind,
            proven: false,
            detail: None,
        }
    }

    fn with(kind: FaultKind, detail: &dyn std::fmt::Display) -> Self {
        Self {
            kind,
            proven: false,
            detail: Some(detail.to_string().into()),
        }
    }

    pub(crate) const fn first_byte_timeout() -> Self {
        Self::new(FaultKind::FirstByteTimeout)
    }

    /// The technical reason, for the journal.
    pub(crate) fn detail(&self) -> &str {
        self.detail.as_deref().unwrap_or("")
    }

    pub(crate) fn connect(error: &io::Error) -> Self {
        let kind = match error.kind() {
            io::ErrorKind::ConnectionRefused => FaultKind::Refused,
            io::ErrorKind::TimedOut => FaultKind::ConnectTimeout,
            _ => FaultKind::Unreachable,
        };
        Self::with(kind, error)
    }

    pub(crate) fn io(error: &io::Error) -> Self {
        Self::with(FaultKind::Closed, error)
    }

    /// A TLS handshake that failed.
    pub(crate) fn handshake(error: &io::Error, signing_failed: bool) -> Self {
        if signing_failed {
            return Self::with(FaultKind::KeyUnavailable, error);
        }
        match find::<rustls::Error>(error) {
            Some(tls) => Self::tls(tls),
            None => Self::with(FaultKind::Closed, error),
        }
    }

    fn tls(error: &rustls::Error) -> Self {
        let kind = match error {
            rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented => {
                FaultKind::WrongAuthority
            }
            rustls::Error::AlertReceived(
                AlertDescription::CertificateRevoked
                | AlertDescription::CertificateExpired
                | AlertDescription::CertificateUnknown
                | AlertDescription::CertificateRequired
                | AlertDescription::BadCertificate
                | AlertDescription::UnsupportedCertificate
                | AlertDescription::UnknownCA
                | AlertDescription::AccessDenied,
            ) => FaultKind::CertificateRefused,
            _ => FaultKind::Tls,
        };
        Self::with(kind, error)
    }

    /// An exchange on an established connection that failed.
    pub(crate) fn exchange(error: &hyper::Error) -> Self {
        if let Some(tls) = find::<rustls::Error>(error) {
            return Self::tls(tls);
        }
        let kind = if error.is_parse() {
            FaultKind::Protocol
        } else {
            FaultKind::Closed
        };
        // The outermost text says what hyper was doing; the innermost, why.
        let mut cause: &dyn StdError = error;
        while let Some(next) = cause.source() {
            cause = next;
        }
        Self::with(kind, &format_args!("{error}: {cause}"))
    }
}

/// Looks for a type in a chain of sources, also inside `io::Error`, which hides its payload from `source`.
fn find<'a, E: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<E>() {
            return Some(found);
        }
        if let Some(inner) = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref)
        {
            next = Some(inner);
        } else {
            next = error.source();
        }
    }
    None
}

/// Why a request is answered by the box with an error.
#[derive(Clone, Debug)]
pub(crate) enum Failure {
    /// The client's request is not valid HTTP, or ambiguous.
    Malformed(&'static str),
    /// The name asked for is not served here, or not on this connection.
    Misdirected,
    /// CONNECT to a place that is not the city's.
    NotRelayed,
    /// TRACE and the like.
    Method,
    /// An upgrade to something other than a WebSocket.
    Upgrade,
    UriTooLong,
    HeaderTooLarge,
    BodyTooLarge,
    /// The client sends its body too slowly.
    TooSlow,
    /// The client went away in the middle of its body; nobody will read the answer.
    Gone,
    /// The gate did not let it through.
    Refused(Refusal),
    /// The inspection did not let its body through.
    Content(Stopped),
    /// The city's side failed.
    Upstream(Fault),
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self::Upstream(fault)
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Ended> for Failure {
    fn from(ended: Ended) -> Self {
        match ended {
            Ended::Refused(refusal) => Self::Refused(refusal),
            Ended::Cut => Self::Gone,
        }
    }
}

impl Failure {
    pub(crate) const fn status(&self) -> StatusCode {
        match self {
            Self::Malformed(_) | Self::Gone => StatusCode::BAD_REQUEST,
            Self::Misdirected => StatusCode::MISDIRECTED_REQUEST,
            Self::NotRelayed | Self::Refused(_) => StatusCode::FORBIDDEN,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::Upgrade => StatusCode::NOT_IMPLEMENTED,
            Self::UriTooLong => StatusCode::URI_TOO_LONG,
            Self::HeaderTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::Content(stopped) => stopped.status(),
            Self::Upstream(fault) => fault.kind.status(),
        }
    }

    /// A short word for the journal.
    pub(crate) const fn token(&self) -> &'static str {
        match self {
            Self::Malformed(what) => what,
            Self::Misdirected => "misdirected",
            Self::NotRelayed => "not-relayed",
            Self::Method => "method",
            Self::Upgrade => "upgrade",
            Self::UriTooLong => "uri-too-long",
            Self::HeaderTooLarge => "header-too-large",
            Self::BodyTooLarge => "body-too-large",
            Self::TooSlow => "too-slow",
            Self::Gone => "gone",
            Self::Refused(refusal) => refusal.rule.id(),
            Self::Content(stopped) => stopped.token(),
            Self::Upstream(fault) => fault.kind.token(),
        }
    }

    /// Who has to act.
    pub(crate) const fn whose(&self) -> &'static str {
        match self {
            Self::Malformed(_)
            | Self::Misdirected
            | Self::NotRelayed
            | Self::Method
            | Self::Upgrade
            | Self::UriTooLong
            | Self::HeaderTooLarge
            | Self::BodyTooLarge
            | Self::TooSlow
            | Self::Gone => "client",
            Self::Refused(_) => "facility",
            Self::Content(stopped) => stopped.whose(),
            Self::Upstream(fault) => match fault.kind {
                FaultKind::KeyUnavailable | FaultKind::Stopping | FaultKind::Loop => "box",
                FaultKind::CertificateRefused => "facility",
                FaultKind::NameUnknown | FaultKind::NameTimeout | FaultKind::Unreachable => "line",
                _ => "city",
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alert_inside_an_io_error_is_found() {
        let alert = rustls::Error::AlertReceived(AlertDescription::CertificateRevoked);
        let error = io::Error::new(io::ErrorKind::InvalidData, alert);
        assert_eq!(
            Fault::handshake(&error, false).kind,
            FaultKind::CertificateRefused
        );
    }

    #[test]
    fn a_key_that_does_not_sign_is_not_blamed_on_the_city() {
        let error = io::Error::other(rustls::Error::General("no".into()));
        assert_eq!(
            Fault::handshake(&error, true).kind,
            FaultKind::KeyUnavailable
        );
    }
}
