//! What scanning adds to one file, measured in pairs: the same file through nginx, then by clamd asked directly, then through the
//! gateway, one after the other, file by file.
//!
//! Measured apart, the parts look faster than they are together: a clamd that does nothing but scan has its tables in the
//! processor's cache, and beside a relay it has not, whoever the relay is. In pairs all three find the cache as the others left it.

use std::fs::File;
use std::io::{IoSlice, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

use super::lab::HOST;
use super::report::median;
use super::scanning::Way;

/// Longer than any answer's head.
const HEAD: usize = 16 * 1024;

/// Medians over the files, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pair {
    pub(super) nginx: f64,
    pub(super) clamd: f64,
    pub(super) gateway: f64,
}

/// Measures the files, each of which neither clamd nor the gateway has seen.
pub(super) fn measure(
    files: &[std::path::PathBuf],
    way: Way,
    (nginx, gateway): (u16, u16),
    clamd: &Path,
) -> Result<Pair, String> {
    let failed = |error: std::io::Error| error.to_string();
    let mut relay = Line::open(nginx).map_err(failed)?;
    let mut ours = Line::open(gateway).map_err(failed)?;
    let mut times: [Vec<f64>; 3] = Default::default();
    for file in files {
        times[0].push(relay.exchange(way, file).map_err(failed)?);
        times[1].push(scan(clamd, file).map_err(failed)?);
        times[2].push(ours.exchange(way, file).map_err(failed)?);
    }
    // The first files pay for connections and first pages.
    let [nginx, clamd, gateway] = times.map(|times| median(times.into_iter().skip(2).collect()));
    Ok(Pair {
        nginx,
        clamd,
        gateway,
    })
}

/// clamd asked directly: the file's descriptor, on a connection for each, as the gateway does it; milliseconds.
pub(super) fn scan(socket: &Path, file: &Path) -> std::io::Result<f64> {
    let file = File::open(file)?;
    // The next file comes over the network first; a clamd that is never idle would look faster than it is.
    std::thread::sleep(Duration::from_micros(200));
    let start = Instant::now();
    let mut stream = UnixStream::connect(socket)?;
    let descriptors = [file.as_raw_fd()];
    sendmsg::<()>(
        stream.as_raw_fd(),
        &[IoSlice::new(b"zFILDES\0\0")],
        &[ControlMessage::ScmRights(&descriptors)],
        MsgFlags::empty(),
        None,
    )?;
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply)?;
    let time = start.elapsed().as_secs_f64() * 1000.0;
    if reply.ends_with(b": OK\0") {
        Ok(time)
    } else {
        Err(std::io::Error::other(
            String::from_utf8_lossy(&reply).into_owned(),
        ))
    }
}

/// One TLS connection that stays open, by `openssl s_client`, on the clients' processor.
struct Line {
    process: Child,
    to: ChildStdin,
    from: ChildStdout,
}

impl Line {
    fn open(port: u16) -> std::io::Result<Self> {
        let mut process = Command::new("taskset")
            .args([
                "-c",
                "1",
                "openssl",
                "s_client",
                "-quiet",
                "-servername",
                HOST,
            ])
            .args(["-connect", &format!("127.0.0.1:{port}")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let missing = || std::io::Error::other("openssl has no pipes");
        Ok(Self {
            to: process.stdin.take().ok_or_else(missing)?,
            from: process.stdout.take().ok_or_else(missing)?,
            process,
        })
    }

    /// One file up or down; milliseconds until the last byte of the answer.
    fn exchange(&mut self, way: Way, file: &Path) -> std::io::Result<f64> {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let request = match way {
            Way::Down => format!("GET /files/{name} HTTP/1.1\r\nHost: {HOST}\r\n\r\n").into_bytes(),
            Way::Up => {
                let body = std::fs::read(file)?;
                let head = format!(
                    "POST /sink HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/octet-stream\r\nContent-Length: {}\r\n\r\n",
                    body.len()
                );
                [head.into_bytes(), body].concat()
            }
        };
        let start = Instant::now();
        self.to.write_all(&request)?;
        self.answer()?;
        Ok(start.elapsed().as_secs_f64() * 1000.0)
    }

    fn answer(&mut self) -> std::io::Result<()> {
        let wrong = |what: &[u8]| std::io::Error::other(String::from_utf8_lossy(what).into_owned());
        let mut bytes = vec![0; HEAD];
        let mut have = 0;
        let (end, length) = loop {
            let read = self.from.read(&mut bytes[have..])?;
            if read == 0 {
                return Err(wrong(&bytes[..have]));
            }
            have += read;
            let head = bytes[..have]
                .windows(4)
                .position(|four| four == b"\r\n\r\n");
            if let Some(head) = head {
                let text = String::from_utf8_lossy(&bytes[..head]).to_ascii_lowercase();
                let length = text
                    .lines()
                    .find_map(|line| line.strip_prefix("content-length:"))
                    .and_then(|length| length.trim().parse::<usize>().ok());
                match length {
                    Some(length) if text.starts_with("http/1.1 200") => break (head + 4, length),
                    _ => return Err(wrong(&bytes[..have])),
                }
            }
        };
        let mut left = (end + length).saturating_sub(have);
        while left > 0 {
            let most = left.min(bytes.len());
            let read = self.from.read(&mut bytes[..most])?;
            if read == 0 {
                return Err(wrong(b"the answer ends early"));
            }
            left -= read;
        }
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
