//! Waiting for another process to reach a state, with a limit.
//!
//! It does not wait for anything by sleeping a guessed time.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::{Child, Error, Result};

/// How often a condition is looked at.
const INTERVAL: Duration = Duration::from_millis(20);

/// Calls `probe` until it answers `Some`, at most for `limit`.
///
/// # Errors
/// When the limit passes; the message names `what`.
pub fn until<T>(what: &str, limit: Duration, mut probe: impl FnMut() -> Option<T>) -> Result<T> {
    let end = Instant::now() + limit;
    loop {
        if let Some(value) = probe() {
            return Ok(value);
        }
        if Instant::now() >= end {
            return Err(Error::new(format!(
                "waited {} s in vain for {what}",
                limit.as_secs_f32()
            )));
        }
        std::thread::sleep(INTERVAL);
    }
}

/// Waits until `child` has written `file`; fails at once when the process ends before.
///
/// # Errors
/// When the process ends or the limit passes; the error carries the end of its output.
pub fn for_ready_file(child: &mut Child, file: &Path, limit: Duration) -> Result<()> {
    for_process(child, "its ready file", limit, || {
        file.exists().then_some(())
    })
}

/// Waits until `child` accepts TCP connections on `port` of 127.0.0.1.
///
/// # Errors
/// As [`for_ready_file`].
pub fn for_port(child: &mut Child, port: u16, limit: Duration) -> Result<()> {
    for_process(child, &format!("port {port}"), limit, || {
        std::net::TcpStream::connect(("127.0.0.1", port))
            .ok()
            .map(drop)
    })
}

pub(crate) fn for_process<T>(
    child: &mut Child,
    what: &str,
    limit: Duration,
    mut probe: impl FnMut() -> Option<T>,
) -> Result<T> {
    let name = child.name().to_owned();
    let outcome = until(&format!("{name} ({what})"), limit, || {
        if let Some(value) = probe() {
            return Some(Ok(value));
        }
        let status = child.exit_status()?;
        Some(Err(Error::new(format!(
            "{name} ended before it was ready: {status}"
        ))))
    });
    outcome
        .and_then(|inner| inner)
        .map_err(|error| error.with_output_of(child.output()))
}
