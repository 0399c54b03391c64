//! Antivirus databases: staged, loaded beside the running engine, switched at once, proven through the live socket, or
//! taken back (`docs/decisions/0010`).
//!
//! It does not fetch anything and believes no signature: who calls it has verified where a release comes from. It does
//! not judge how old a database may be.

mod durable;
mod generation;
mod manifest;
mod official;
mod refused;
mod release;
mod store;
mod test_load;
mod updater;

pub use generation::{Generation, Origin};
pub use manifest::{Canary, FileEntry, Manifest, ManifestError};
pub use official::{Described, describe};
pub use refused::Refused;
pub use release::Release;
pub use store::{Store, StoreError};
pub use test_load::TestLoad;
pub use updater::{Loaded, Step, Updater, loaded_by, quietly};

/// The file that names a release, beside the files it names.
pub const MANIFEST: &str = "manifest.json";
