//! The data path over real sockets: real clients in front, real origins behind.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot be set up has failed"
)]
#![allow(
    unreachable_pub,
    reason = "one binary of several files; nothing is exported"
)]

mod bounds;
mod client;
mod devices;
mod early_hints;
mod events;
mod lan;
mod lifecycle;
mod messages;
mod nginx;
mod origin;
mod owner;
mod relay;
mod stand;
mod upstream;
mod websocket;
