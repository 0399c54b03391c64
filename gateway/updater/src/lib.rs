//! Updates of the box: a signed release into the other slot, one attempt, a verdict, and only then a higher floor.
//!
//! Everything between "there is a release" and "it runs and is good" is here, over traits for partitions and folders, so that every
//! single operation can be a power cut in a test. Signatures of the channel are checked by `gateway-tuf`, the kernel's by this crate itself.
//!
//! It does not: reach any network (the program that runs it has none), touch the running slot, or believe that something
//! is on a disk before it was read back.

pub mod authenticode;
pub mod channel;
pub mod config;
pub mod decide;
pub mod device;
mod error;
pub mod folder;
pub mod health;
pub mod hex;
pub mod index;
pub mod install;
pub mod kernels;
pub mod manifest;
pub mod record;
pub mod reset;
pub mod running;
pub mod schedule;
pub mod slot;
pub mod source;
pub mod state;
pub mod uki;
pub mod verity;
pub mod window;
pub mod work;
pub mod writer;

pub use error::UpdateError;
