//! The register with a real TPM behind it, asked as devices ask: requests in, answers and observations out.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what a test cannot do is its failure"
)]

mod agent;
mod office;
mod pairing;
mod script;
