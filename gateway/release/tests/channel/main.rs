//! The signed channel from both ends: what `gateway-release` publishes and what the box's client makes of it, in order and
//! under attack. No server: transports of the tests hand out files, or misbehave with them.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what a test cannot do is its failure"
)]

mod attacks;
mod ceremony;
mod defects;
mod disk;
mod offer;
mod targets;
mod town;
