//! In construction.

pub mod wire;
