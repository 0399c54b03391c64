//! Files in the notebook, up and down through the running box (第25条, 第27条): what must not pass does not, whatever it is
//! wrapped in, and what is ordinary does. gatewayd, clamd and city are the real ones, started once for all of it; each case
//! looks at both ends: at what the city counts and keeps, and at the bytes that came to the browser.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what a test cannot do is its failure"
)]
#![allow(
    unreachable_pub,
    dead_code,
    reason = "one binary of several files, some of them shared with another; nothing is exported"
)]

#[path = "../../../../gateway/proxy/tests/inspection/files.rs"]
mod files;
mod incoming;
mod office;
mod open_page;
mod ordinary;
mod outgoing;
#[path = "../../../../gateway/proxy/tests/inspection/two_hundred.rs"]
mod two_hundred;

/// In archives within archives, each beside something ordinary.
fn nested(depth: usize, innermost: &[u8]) -> Vec<u8> {
    (0..depth).fold(innermost.to_vec(), |inside, level| {
        files::zip(&[
            ("メモ.txt", "記録".as_bytes()),
            (&format!("{level}.zip"), &inside),
        ])
    })
}

/// Larger than anything that is looked into, with the virus in front.
fn oversize(virus: &[u8]) -> Vec<u8> {
    let mut large = virus.to_vec();
    large.resize(51 << 20, 0);
    large
}

/// Both protocols, in curl's words.
const BOTH: [&str; 2] = ["--http1.1", "--http2"];
