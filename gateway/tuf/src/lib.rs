//! The city's signed channel: software releases, policy and antivirus databases, believed only when signed.
//!
//! It is a client of The Update Framework (TUF specification 1.0.34). Signatures, thresholds, versions and expiry are checked
//! by the core of `sigstore-tuf`, which does no I/O; what is around it is ours: where files come from ([`City`], [`Line`], [`Medium`]),
//! how slowly and how much ([`Limits`]), and a store that survives a power cut and never forgets ([`Store`]).
//!
//! It does not: act on what it brings (a policy is read by `gateway-policy`, a database tried by `gateway-antivirus`), read
//! the clock (`now` is an argument), or make anything up when its store cannot be read.

mod city;
mod client;
mod clock;
mod fetch;
pub mod form;
mod line;
mod medium;
mod names;
mod pace;
mod refused;
mod store;
mod transport;
mod trusted;

pub use city::City;
pub use client::{Client, Duties, Limits};
pub use clock::{TOLERANCE, agreed_time};
pub use fetch::Unchecked;
pub use line::Line;
pub use medium::Medium;
pub use names::{UnsafeName, check_metadata_name, check_target_name, encode_role};
pub use pace::Pace;
pub use refused::Refused;
pub use store::{Directory, Disk, Store};
pub use transport::{Body, Fetching, Pieces, Transport, TransportError};
pub use trusted::{Target, Trusted, Versions};
