//! One question to gatewayd over its control socket. The answer is bounded in size and time.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

const VERSION: u64 = 1;
const LONGEST_ANSWER: u64 = 4 << 20;
const PATIENCE: Duration = Duration::from_secs(10);

/// Why gatewayd did not answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SocketError {
    /// There is no socket, or nobody behind it.
    #[error("gatewaydは動いていません / gatewayd is not running ({})", .0.display())]
    NotRunning(PathBuf),
    /// The socket is not for this user.
    #[error("この操作の権限がありません / no permission: be root or a member of renraku-gateway ({})", .0.display())]
    NotPermitted(PathBuf),
    /// It broke off or took too long.
    #[error("gatewaydが応答しません / gatewayd does not answer")]
    NoAnswer(#[source] io::Error),
    /// It speaks another version.
    #[error("gatewaydの応答を読めません / gatewayd's answer cannot be read: {0}")]
    Answer(String),
}

/// Asks for `what` and returns that member of the answer.
///
/// # Errors
/// [`SocketError`].
pub(crate) fn ask(socket: &Path, what: &str) -> Result<Value, SocketError> {
    let mut stream = UnixStream::connect(socket).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            SocketError::NotRunning(socket.to_owned())
        }
        io::ErrorKind::PermissionDenied => SocketError::NotPermitted(socket.to_owned()),
        _ => SocketError::NoAnswer(error),
    })?;
    let exchange = || -> io::Result<Vec<u8>> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let request = json!({ "version": VERSION, "ask": what });
        stream.write_all(format!("{request}\n").as_bytes())?;
        let mut line = Vec::new();
        BufReader::new(stream.take(LONGEST_ANSWER)).read_until(b'\n', &mut line)?;
        Ok(line)
    };
    let line = exchange().map_err(SocketError::NoAnswer)?;
    let mut answer: Value =
        serde_json::from_slice(&line).map_err(|error| SocketError::Answer(error.to_string()))?;
    if let Some(error) = answer["error"].as_str() {
        return Err(SocketError::Answer(error.to_owned()));
    }
    if answer["version"] != VERSION || answer[what].is_null() {
        return Err(SocketError::Answer("another version".to_owned()));
    }
    Ok(answer[what].take())
}
