//! Nothing passes unseen: a real clamd, real sockets, and on the far side somebody who counts the bytes that arrive.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot be set up has failed"
)]
#![allow(
    unreachable_pub,
    dead_code,
    reason = "one binary of several files, some of them shared with another; nothing is exported"
)]

#[path = "data_path/client.rs"]
mod client;
#[path = "inspection/downloads.rs"]
mod downloads;
#[path = "inspection/files.rs"]
mod files;
#[path = "inspection/office.rs"]
mod office;
#[path = "data_path/origin.rs"]
mod origin;
#[path = "inspection/scanner.rs"]
mod scanner;
#[path = "inspection/site.rs"]
mod site;
#[path = "data_path/stand.rs"]
mod stand;
#[path = "inspection/together.rs"]
mod together;
#[path = "inspection/two_hundred.rs"]
mod two_hundred;
#[path = "inspection/uploads.rs"]
mod uploads;
#[path = "inspection/waiting.rs"]
mod waiting;
