//! The PCs and tablets of one facility: which there are, how they prove who they are, and what they report (第25条–第29条).
//!
//! It does not judge what is reported (that is `gateway-policy`), serves no connection (the data path does), and shows no
//! pages (the console does). Everything here blocks on a small SQLite file or on the TPM: call it from blocking contexts,
//! all but [`Identities`] and [`Presence`], which the data path asks for every connection and request.
//!
//! Evidence comes from three sources, and each piece says from which: osquery on the device (its own TLS API: [`osquery`]),
//! our script on the device ([`script`]), or the manager's word ([`Declared`]). All three are claims of the device's
//! owner; a client certificate proves which device speaks, not that it speaks the truth.
#![forbid(unsafe_code)]

mod api;
mod authority;
mod bundle;
mod certificate_request;
mod database;
mod declaration;
mod device;
mod devices;
mod error;
mod identities;
mod judgement;
pub mod osquery;
mod pairing;
mod presence;
mod register;
mod report;
mod reports;
pub mod script;
mod secret;

pub use api::{ApiRequest, ApiResponse};
pub use authority::{Authority, Issued};
pub use bundle::{Bundle, BundleKind};
pub use certificate_request::{CertificateRequest, Unusable};
pub use declaration::{DECLARATION_DAYS, Declared};
pub use device::{Device, Kind, Name, Origin, RevokedFor};
pub use devices::{Beforehand, Config, Devices, Effects, Loosening};
pub use error::Error;
pub use identities::Identities;
pub use judgement::{Standards, Version, judge};
pub use pairing::{Asking, PairingState, Ticket, Waiting};
pub use presence::{LeftOn, Presence};
pub use report::{Antivirus, Fact, Lock, Os, Platform, Program, Report, Signatures, UsbStorage};
