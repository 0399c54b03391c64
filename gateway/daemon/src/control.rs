//! The control socket: what `gatewayctl` asks. Read-only: nothing that is asked here changes anything.
//!
//! A UNIX socket, mode 0660. A request is one line of JSON of at most 4 KiB, `{"version":1,"ask":"status"}`, `"report"`,
//! `"accesses"`, `"notes"` or `"health"`; the answer is one line, `{"version":1,"status":{…}}`, `{"version":1,"report":{…}}`, …, or `{"version":1,"error":"…"}`.

mod answers;

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;

pub(crate) use answers::Answers;

const VERSION: u64 = 1;
const LONGEST_REQUEST: u64 = 4096;
const PATIENCE: Duration = Duration::from_secs(5);
/// Requests answered at one time.
const AT_ONCE: usize = 4;

/// Where a socket is: in the service's runtime directory, or in the state directory when not started by systemd.
#[must_use]
pub(crate) fn socket(state_dir: &Path, name: &str) -> PathBuf {
    // RuntimeDirectory= in the unit; several would be separated by colons (systemd.exec(5)).
    let runtime = std::env::var_os("RUNTIME_DIRECTORY").map(PathBuf::from);
    runtime.unwrap_or_else(|| state_dir.to_owned()).join(name)
}

/// Makes the socket, in place of one that a daemon before left behind; the state's lock says that none is running.
///
/// # Errors
/// When the system refuses; the box works without.
pub(crate) fn open(path: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
    Ok(listener)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    version: u64,
    ask: Ask,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Ask {
    Status,
    Report,
    Accesses,
    Notes,
    Health,
}

/// Answers until the process ends.
pub(crate) async fn serve(listener: UnixListener, answers: Arc<Answers>) {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return std::future::pending().await;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let answers = Arc::clone(&answers);
                tokio::spawn(async move {
                    let _place = place;
                    let _ = tokio::time::timeout(PATIENCE, answer(stream, &answers)).await;
                });
            }
            Err(error) => {
                tracing::warn!(event = "control", %error, "the control socket");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

async fn answer(stream: UnixStream, answers: &Answers) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut line = Vec::new();
    BufReader::new(read.take(LONGEST_REQUEST))
        .read_until(b'\n', &mut line)
        .await?;
    let mut text = reply(&line, answers).await.to_string();
    text.push('\n');
    write.write_all(text.as_bytes()).await
}

async fn reply(line: &[u8], answers: &Answers) -> Value {
    match serde_json::from_slice(line) {
        Ok(Request {
            version: VERSION,
            ask: Ask::Status,
        }) => {
            json!({ "version": VERSION, "status": answers.status().await })
        }
        Ok(Request {
            version: VERSION,
            ask: Ask::Report,
        }) => {
            json!({ "version": VERSION, "report": answers.report().await })
        }
        Ok(Request {
            version: VERSION,
            ask: Ask::Accesses,
        }) => {
            json!({ "version": VERSION, "accesses": answers.accesses().await })
        }
        Ok(Request {
            version: VERSION,
            ask: Ask::Notes,
        }) => {
            json!({ "version": VERSION, "notes": answers.progress.for_control().await })
        }
        Ok(Request {
            version: VERSION,
            ask: Ask::Health,
        }) => {
            json!({ "version": VERSION, "health": answers.health().await })
        }
        Ok(_) => json!({ "version": VERSION, "error": "another version of the protocol" }),
        Err(_) => json!({ "version": VERSION, "error": "not a request" }),
    }
}
