//! Why a body was not passed on. Does not write the sentences a person reads: that is `words`.

use std::sync::Arc;

use gateway_antivirus::{Kind, Unavailable, Unscannable};
use gateway_policy::DeviceId;
use http::StatusCode;

use super::{gather::Ungathered, reading::Unreadable, views::Opaque};

/// Which way a body was going.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Upload,
    Download,
}

impl Direction {
    /// The same in the policy's words.
    pub(crate) const fn in_policy(self) -> gateway_policy::content::Direction {
        match self {
            Self::Upload => gateway_policy::content::Direction::Upload,
            Self::Download => gateway_policy::content::Direction::Download,
        }
    }
}

/// What was the matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// The scanner found something.
    Infected,
    /// It is of a kind that is not passed (第25条).
    Forbidden(Kind),
    /// Nobody can look into it.
    Unscannable(Cause),
    /// It is larger than what can be looked into.
    TooLarge,
    /// The scanner does not answer.
    Unavailable(&'static str),
    /// Too many bodies are held already.
    NoRoom,
}

/// Why nobody can look into a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    Coding,
    MediaType,
    Partial,
    UnpackedSize,
    TooManyParts,
    TooDeep,
    Gzip,
    Multipart,
    Limit,
    Encrypted,
    Unreadable,
}

impl Cause {
    const fn word(self) -> &'static str {
        match self {
            Self::Coding => "coding",
            Self::MediaType => "media-type",
            Self::Partial => "partial",
            Self::UnpackedSize => "unpacked-size",
            Self::TooManyParts => "too-many-parts",
            Self::TooDeep => "too-deep",
            Self::Gzip => "gzip",
            Self::Multipart => "multipart",
            Self::Limit => "limit",
            Self::Encrypted => "encrypted",
            Self::Unreadable => "unreadable",
        }
    }
}

/// A body that was stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stopped {
    pub(crate) direction: Direction,
    pub(crate) why: Why,
    /// The name of the signature, if one matched.
    pub(crate) signature: Option<Box<str>>,
    /// SHA-256 of the body, or of the file inside it that was the matter, where it was whole.
    pub(crate) digest: Option<Box<[u8; 32]>>,
}

impl Stopped {
    pub(crate) const fn new(direction: Direction, why: Why) -> Self {
        Self {
            direction,
            why,
            signature: None,
            digest: None,
        }
    }

    /// Of this body, unless it is known already of which one inside it. That the box could not look is nothing about the
    /// body: then it is not hashed.
    pub(crate) fn of(mut self, digest: impl FnOnce() -> [u8; 32]) -> Self {
        let of_the_box = matches!(self.why, Why::Unavailable(_) | Why::NoRoom);
        if self.digest.is_none() && !of_the_box {
            self.digest = Some(Box::new(digest()));
        }
        self
    }

    pub(crate) fn infected(direction: Direction, signature: String) -> Self {
        Self {
            direction,
            why: Why::Infected,
            signature: Some(signature.into()),
            digest: None,
        }
    }

    pub(crate) const fn status(&self) -> StatusCode {
        match (self.why, self.direction) {
            (Why::Infected | Why::Forbidden(_), _) => StatusCode::FORBIDDEN,
            (Why::TooLarge, Direction::Upload) => StatusCode::PAYLOAD_TOO_LARGE,
            (Why::Unscannable(_), Direction::Upload) => StatusCode::UNPROCESSABLE_ENTITY,
            // The answer is of a kind that this proxy does not relay.
            (Why::Unscannable(_) | Why::TooLarge, Direction::Download) => StatusCode::BAD_GATEWAY,
            (Why::Unavailable(_) | Why::NoRoom, _) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// The outcome in the journal.
    pub(crate) const fn token(&self) -> &'static str {
        match self.why {
            Why::Infected => "infected",
            Why::Forbidden(_) => "forbidden-kind",
            Why::Unscannable(_) => "unscannable",
            Why::TooLarge => "too-large",
            Why::Unavailable(_) => "scanner-unavailable",
            Why::NoRoom => "no-memory",
        }
    }

    /// More of it, in fixed words.
    pub(crate) const fn detail(&self) -> &'static str {
        match self.why {
            Why::Unscannable(cause) => cause.word(),
            Why::Unavailable(word) => word,
            Why::Forbidden(kind) => kind.id(),
            _ => "",
        }
    }

    /// Who has to act.
    pub(crate) const fn whose(&self) -> &'static str {
        match (self.why, self.direction) {
            (Why::Unavailable(_) | Why::NoRoom, _) => "box",
            (_, Direction::Upload) => "client",
            (_, Direction::Download) => "city",
        }
    }

    /// The article it rests on.
    pub(crate) const fn article(&self) -> u8 {
        match self.why {
            Why::Forbidden(_) => 25,
            _ => 27,
        }
    }

    /// The `error` parameter of `Proxy-Status` (RFC 9209 section 2.3).
    pub(crate) const fn proxy_error(&self) -> &'static str {
        match (self.why, self.direction) {
            (Why::TooLarge, Direction::Download) => "http_response_body_size",
            (Why::Unscannable(Cause::Coding), Direction::Download) => {
                "http_response_content_coding"
            }
            (Why::Unavailable(_) | Why::NoRoom, _) => "proxy_internal_error",
            _ => "http_request_denied",
        }
    }
}

/// Told of every body that was stopped.
pub type Witness = Arc<dyn Fn(&StoppedBody) + Send + Sync>;

/// What may be known of a body that was stopped: no name, no word of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoppedBody {
    /// Which way it was going.
    pub direction: gateway_policy::content::Direction,
    /// Why.
    pub why: StopReason,
    /// On a connection of which registered device.
    pub device: Option<DeviceId>,
    /// SHA-256 of the body as it was sent, or of the file in it that was found. `None` where it never was whole (too large,
    /// cut off) or nobody looked.
    pub digest: Option<[u8; 32]>,
    /// What the antivirus calls what it found.
    pub signature: Option<Box<str>>,
}

/// Why a body was stopped, for whoever keeps account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// The scanner found something.
    Infected,
    /// A program, an archive of programs, a shortcut.
    Program,
    /// A script.
    Script,
    /// A document with macros.
    Macro,
    /// Encrypted.
    Encrypted,
    /// Nested, packed or coded so that nobody looks into it.
    Opaque,
    /// Larger than what is looked into.
    TooLarge,
    /// The scanner does not answer, or there is no room.
    NotScanned,
}

impl Stopped {
    pub(crate) fn told(&self, device: Option<DeviceId>) -> StoppedBody {
        StoppedBody {
            direction: self.direction.in_policy(),
            why: match self.why {
                Why::Infected => StopReason::Infected,
                Why::Forbidden(Kind::Script) => StopReason::Script,
                Why::Forbidden(Kind::Macro) => StopReason::Macro,
                Why::Forbidden(_) => StopReason::Program,
                Why::Unscannable(Cause::Encrypted) => StopReason::Encrypted,
                Why::Unscannable(_) => StopReason::Opaque,
                Why::TooLarge => StopReason::TooLarge,
                Why::Unavailable(_) | Why::NoRoom => StopReason::NotScanned,
            },
            device,
            digest: self.digest.as_deref().copied(),
            signature: self.signature.clone(),
        }
    }
}

impl From<Unreadable> for Why {
    fn from(why: Unreadable) -> Self {
        Self::Unscannable(match why {
            Unreadable::Coding => Cause::Coding,
            Unreadable::Type => Cause::MediaType,
            Unreadable::Partial => Cause::Partial,
        })
    }
}

impl From<Opaque> for Why {
    fn from(why: Opaque) -> Self {
        Self::Unscannable(match why {
            Opaque::TooLarge => Cause::UnpackedSize,
            Opaque::TooMany => Cause::TooManyParts,
            Opaque::TooDeep => Cause::TooDeep,
            Opaque::Gzip => Cause::Gzip,
            Opaque::Multipart => Cause::Multipart,
        })
    }
}

impl From<Unscannable> for Why {
    fn from(why: Unscannable) -> Self {
        match why {
            Unscannable::TooLarge => Self::TooLarge,
            Unscannable::LimitExceeded(_) => Self::Unscannable(Cause::Limit),
            Unscannable::Encrypted(_) => Self::Unscannable(Cause::Encrypted),
            Unscannable::Unreadable(_) => Self::Unscannable(Cause::Unreadable),
        }
    }
}

impl From<Unavailable> for Why {
    fn from(why: Unavailable) -> Self {
        Self::Unavailable(match why {
            Unavailable::Connect(_) => "no-connection",
            Unavailable::TimedOut => "timed-out",
            Unavailable::Busy => "busy",
            Unavailable::Exhausted(_) => "exhausted",
            _ => "broken-off",
        })
    }
}

impl<E> Ungathered<E> {
    /// Why, unless it was the sender.
    pub(crate) fn why(self) -> Result<Why, E> {
        match self {
            Self::Source(error) => Err(error),
            Self::TooLarge => Ok(Why::TooLarge),
            Self::NoRoom => Ok(Why::NoRoom),
            Self::Memory(error) => {
                tracing::error!(target: "renraku::content", error = %error, "a body cannot be held");
                Ok(Why::NoRoom)
            }
        }
    }
}
