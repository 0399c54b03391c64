//! Updates from both ends: what `gateway-release` publishes and what the box's updater makes of it, from the refresh to the higher floor.
//!
//! Plain files stand for partitions, a directory for the firmware's; gatewayd's health is answered by the test. Everything else is the
//! real thing: keys, signatures, repository, the updater's commands.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what a test cannot do is its failure"
)]

mod appliance;
mod publishing;
mod refusals;
#[path = "../../../updater/tests/support/mod.rs"]
mod support;
#[allow(dead_code, reason = "shared with the tests of the channel")]
#[path = "../channel/town.rs"]
mod town;
mod whole;
