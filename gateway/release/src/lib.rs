//! The city's side of the signed channel: keys, signatures, and the directory that boxes read.
//!
//! It needs no server and talks to none: what it writes is a directory of files that any web server and any USB stick
//! carries. Keys of people are used where those people are; nothing here asks for two of them at once.
//!
//! It does not decide what is released, and it does not keep a passphrase.

mod authority;
mod content;
mod error;
mod image;
mod key;
mod manifest;
mod plan;
mod prune;
mod repository;
mod roles;
mod show;
mod staging;

pub use error::ReleaseError;
pub use image::ImageError;
pub use key::{Algorithm, Cost, Passphrase, PublicKey, SecretKey};
pub use manifest::{AntivirusRelease, Canary, Listed, SoftwareRelease, Wave};
pub use plan::{Days, Plan, RolePlan};
pub use prune::Pruned;
pub use repository::{OnlineKeys, Repository};
pub use roles::{DELEGATED, Role};
pub use show::{Shown, ShownRole};
pub use staging::Signed;
