//! Where the repository's files come from: the line, gatewayd's relay of it, or a medium carried in by hand.
//!
//! A transport believes nothing and checks no signature. It bounds nothing either but its own patience: how much may come and
//! how slowly is judged by whoever reads (`pace`).

use std::fmt::Debug;
use std::pin::Pin;

use bytes::Bytes;

/// The future of a transport.
pub type Fetching<'a, T> = Pin<Box<dyn Future<Output = Result<T, TransportError>> + Send + 'a>>;

/// Why a file did not come.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// The city could not be asked, or refused.
    #[error("the city's repository cannot be asked")]
    City(#[source] gateway_city::CityError),
    /// There is no facility certificate to ask with.
    #[error("there is no facility certificate yet")]
    NoCertificate,
    /// The box's own relay cannot be asked.
    #[error("gatewayd's socket for the signed channel cannot be asked")]
    Line(#[source] std::io::Error),
    /// The box's own relay answered, and could not bring it.
    #[error("gatewayd could not bring it: {id}")]
    Relay {
        /// The id of its refusal.
        id: String,
    },
    /// The medium cannot be read.
    #[error("the medium cannot be read")]
    Medium(#[source] std::io::Error),
    /// A name that could lead elsewhere, or a symbolic link, device or pipe in a place of a file.
    #[error("{0} is not a plain file of a repository")]
    Unsafe(String),
    /// Another transport's failure.
    #[error("the repository cannot be read")]
    Other(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// A file on its way.
pub struct Body {
    /// The offset of the first byte: what was asked for, or 0 where ranges are not served.
    pub starts_at: u64,
    /// The whole file's length in bytes, where the copy says it.
    pub total: Option<u64>,
    /// The bytes, in pieces.
    pub pieces: Box<dyn Pieces>,
}

impl Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Body")
            .field("starts_at", &self.starts_at)
            .finish_non_exhaustive()
    }
}

/// The bytes of a file in the order they come.
pub trait Pieces: Send {
    /// The next piece; `None` at the end.
    fn next(&mut self) -> Fetching<'_, Option<Bytes>>;
}

/// A copy of the signed repository.
pub trait Transport: Send + Sync + Debug {
    /// Opens a metadata file by its name (`1.root.json`); `None` when there is none.
    fn metadata<'a>(&'a self, name: &'a str) -> Fetching<'a, Option<Body>>;

    /// Opens a target's file by its path, from the offset `from` where that can be had; `None` when there is none.
    fn target<'a>(&'a self, path: &'a str, from: u64) -> Fetching<'a, Option<Body>>;
}
