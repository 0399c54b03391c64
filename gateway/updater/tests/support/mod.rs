//! Releases for tests: images with their hash trees, and signed kernels that start them.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::panic,
    reason = "shared by several tests, of which each uses a part; what a test cannot do is its failure"
)]

pub(crate) mod kernel;
pub(crate) mod release;
