//! What can go wrong between box and city, in the classes that need different next steps.
//!
//! It does not choose words for people: provisioning and the pages do.

use std::io;
use std::time::Duration;

use http::StatusCode;
use rustls::{AlertDescription, CertificateError};
use time::OffsetDateTime;

use crate::wire::{Problem, problem_type};

/// How the city made known that it no longer accepts the presented facility certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revocation {
    /// A TLS alert: `certificate_revoked`, `bad_certificate` or `access_denied` (RFC 8446 §6.2).
    Alert(AlertDescription),
    /// A problem document of type [`problem_type::CERTIFICATE_REVOKED`].
    Problem,
}

/// A failed exchange with the city.
#[derive(Debug, thiserror::Error)]
pub enum CityError {
    /// The host name could not be resolved.
    #[error("could not resolve {host}")]
    Dns {
        /// The name asked for.
        host: String,
        /// What the resolver said.
        source: io::Error,
    },
    /// No TCP connection could be made.
    #[error("could not connect to {host}:{port}")]
    Connect {
        /// The host dialled.
        host: String,
        /// The port dialled.
        port: u16,
        /// What the system said.
        source: io::Error,
    },
    /// The connection broke while in use.
    #[error("the connection to {host} broke")]
    Broken {
        /// The host.
        host: String,
        /// What was observed.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A time limit passed.
    #[error("{host} did not {what} within {limit:?}")]
    Timeout {
        /// The host.
        host: String,
        /// What was waited for: `accept`, `finish the handshake`, `answer`, `send on`.
        what: &'static str,
        /// The limit that passed.
        limit: Duration,
    },
    /// The server's certificate does not lead to the city's trust anchor, or names another host.
    #[error("{host} did not prove to be the city")]
    Untrusted {
        /// The host.
        host: String,
        /// Why not.
        source: rustls::Error,
    },
    /// The server's certificate begins in the future: nearly always this box's clock is behind.
    #[error("the certificate of {host} is not valid yet by this clock")]
    NotValidYet {
        /// The host.
        host: String,
        /// This box's clock, when known.
        clock: Option<OffsetDateTime>,
        /// When the certificate begins, when known.
        not_before: Option<OffsetDateTime>,
    },
    /// The server's certificate has ended: the city forgot to renew, or this box's clock is ahead.
    #[error("the certificate of {host} has expired by this clock")]
    Expired {
        /// The host.
        host: String,
        /// This box's clock, when known.
        clock: Option<OffsetDateTime>,
        /// When the certificate ended, when known.
        not_after: Option<OffsetDateTime>,
    },
    /// The city no longer accepts this facility certificate. Retrying does not help.
    #[error("the city refuses the facility certificate as revoked")]
    Revoked {
        /// How it said so.
        by: Revocation,
    },
    /// The city refused the facility certificate for another reason (unknown issuer, expired …).
    #[error("the city refuses the facility certificate ({alert:?})")]
    CertificateRefused {
        /// The TLS alert received.
        alert: AlertDescription,
    },
    /// The city answered, and refused.
    #[error("{host} answered {status}")]
    Refused {
        /// The host.
        host: String,
        /// The HTTP status.
        status: StatusCode,
        /// The problem document, when there was one.
        problem: Option<Box<Problem>>,
        /// `Retry-After`, when there was one.
        retry_after: Option<Duration>,
    },
    /// The answer is longer than the limit for it.
    #[error("the answer of {host} is longer than {limit} bytes")]
    TooLarge {
        /// The host.
        host: String,
        /// The limit in bytes.
        limit: usize,
    },
    /// This box's own side of the handshake failed, for instance the TPM did not sign.
    #[error("this box could not do its part of the handshake with {host}")]
    Handshake {
        /// The host.
        host: String,
        /// What rustls said.
        source: rustls::Error,
    },
    /// The other side does not speak the protocol as agreed.
    #[error("{host} broke the protocol: {what}")]
    Protocol {
        /// The host.
        host: String,
        /// What was wrong; never quotes content.
        what: &'static str,
    },
}

impl CityError {
    /// True when the network, not the city, is the likely cause.
    pub const fn is_network(&self) -> bool {
        matches!(
            self,
            Self::Dns { .. } | Self::Connect { .. } | Self::Broken { .. } | Self::Timeout { .. }
        )
    }

    /// True when the city refuses this certificate for good.
    pub const fn is_revoked(&self) -> bool {
        matches!(self, Self::Revoked { .. })
    }

    /// True when the city says that the whole facility is suspended (Art. 35).
    pub fn is_suspended(&self) -> bool {
        matches!(self, Self::Refused { problem: Some(problem), .. } if problem.kind == problem_type::FACILITY_SUSPENDED)
    }

    /// How long the city asked to be left alone, when it did.
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// Classifies an error of the TLS layer, during or after the handshake.
    pub(crate) fn from_io(host: &str, error: io::Error) -> Self {
        match error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<rustls::Error>())
        {
            Some(tls) => Self::from_tls(host, tls.clone()),
            None => Self::Broken {
                host: host.to_owned(),
                source: error.into(),
            },
        }
    }

    fn from_tls(host: &str, error: rustls::Error) -> Self {
        let host = host.to_owned();
        match error {
            rustls::Error::AlertReceived(alert) => Self::from_alert(&host, alert),
            rustls::Error::InvalidCertificate(CertificateError::NotValidYet) => Self::NotValidYet {
                host,
                clock: None,
                not_before: None,
            },
            rustls::Error::InvalidCertificate(CertificateError::NotValidYetContext {
                time,
                not_before,
            }) => Self::NotValidYet {
                host,
                clock: moment(time),
                not_before: moment(not_before),
            },
            rustls::Error::InvalidCertificate(CertificateError::Expired) => Self::Expired {
                host,
                clock: None,
                not_after: None,
            },
            rustls::Error::InvalidCertificate(CertificateError::ExpiredContext {
                time,
                not_after,
            }) => Self::Expired {
                host,
                clock: moment(time),
                not_after: moment(not_after),
            },
            source @ rustls::Error::InvalidCertificate(_) => Self::Untrusted { host, source },
            rustls::Error::PeerIncompatible(_) => Self::Protocol {
                host,
                what: "no TLS 1.3",
            },
            rustls::Error::PeerMisbehaved(_)
            | rustls::Error::InvalidMessage(_)
            | rustls::Error::InappropriateMessage { .. }
            | rustls::Error::InappropriateHandshakeMessage { .. }
            | rustls::Error::DecryptError => Self::Protocol { host, what: "TLS" },
            source => Self::Handshake { host, source },
        }
    }

    /// Classifies a fatal alert of the peer (RFC 8446 §6.2).
    pub(crate) fn from_alert(host: &str, alert: AlertDescription) -> Self {
        use AlertDescription as A;
        match alert {
            A::CertificateRevoked | A::BadCertificate | A::AccessDenied => Self::Revoked {
                by: Revocation::Alert(alert),
            },
            A::UnknownCA
            | A::CertificateUnknown
            | A::CertificateExpired
            | A::UnsupportedCertificate
            | A::CertificateRequired
            | A::DecryptError => Self::CertificateRefused { alert },
            A::ProtocolVersion | A::HandshakeFailure => Self::Protocol {
                host: host.to_owned(),
                what: "no TLS version or parameters in common",
            },
            _ => Self::Broken {
                host: host.to_owned(),
                source: rustls::Error::AlertReceived(alert).into(),
            },
        }
    }
}

fn moment(time: rustls::pki_types::UnixTime) -> Option<OffsetDateTime> {
    OffsetDateTime::from_unix_timestamp(i64::try_from(time.as_secs()).ok()?).ok()
}
