//! Every check of a PC through the running gateway: what its agent reports, what the city's signed policy says of it, and the
//! one line in the journal for each step from compliant to restricted or blocked, and back.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what a test cannot do is its failure"
)]
#![allow(
    unreachable_pub,
    reason = "one binary of several files; nothing is exported"
)]

mod blocks;
mod ladder;
mod left_on;
mod office;
