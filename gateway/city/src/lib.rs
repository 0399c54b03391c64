//! The city interface as the box sees it: wire types, one dialled HTTPS connection, and the followed feed.
//!
//! It does not decide anything (that is `gateway-policy`), does not keep anything (that is `gateway-notes`), and
//! does not know where the facility certificate's key lives: it is handed a finished [`rustls::ClientConfig`].
//!
//! # Runtime
//!
//! A client key inside a TPM signs *synchronously* in the middle of a TLS handshake and may take 100 ms or more.
//! Every handshake therefore runs on tokio's blocking pool (see [`https::dial`]); callers may use either runtime
//! flavour and need not take precautions of their own.

mod answer;
pub mod api;
pub mod backoff;
mod error;
pub mod feed;
pub mod https;
mod observed;
mod personal;
pub mod sse;
pub mod tls;
pub mod wire;

pub use error::{CityError, Revocation};
pub use https::{Endpoint, HttpsConnection, Timeouts};
pub use personal::Personal;
