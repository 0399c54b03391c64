//! A small HTTP/1.1 client in clear text: one request, one connection. For control interfaces and chromedriver.
//!
//! It does not speak TLS, follow redirects or keep connections; tests of the product use real clients.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::{Error, Result};

/// An answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// Header names in lower case, with their values.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// When it is none.
    pub fn json(&self) -> Result<serde_json::Value> {
        serde_json::from_slice(&self.body).map_err(|error| {
            Error::new(format!(
                "not JSON (status {}): {}",
                self.status,
                self.text()
            ))
            .because(error)
        })
    }
}

/// Sends a request and reads the whole answer. A body is sent as JSON.
///
/// # Errors
/// When the server cannot be reached, does not answer within `limit`, or answers something that is not HTTP.
pub fn send(
    server: SocketAddr,
    method: &str,
    path: &str,
    body: Option<&serde_json::Value>,
    limit: Duration,
) -> Result<Answer> {
    exchange(server, method, path, body, limit).map_err(|error| {
        Error::new(format!("{method} http://{server}{path} failed")).because(error)
    })
}

fn exchange(
    server: SocketAddr,
    method: &str,
    path: &str,
    body: Option<&serde_json::Value>,
    limit: Duration,
) -> std::io::Result<Answer> {
    let mut stream = TcpStream::connect_timeout(&server, limit)?;
    stream.set_read_timeout(Some(limit))?;
    stream.set_write_timeout(Some(limit))?;
    let body = body.map(ToString::to_string).unwrap_or_default();
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )?;
    read_answer(&mut BufReader::new(stream))
}

fn read_answer(stream: &mut impl BufRead) -> std::io::Result<Answer> {
    let invalid =
        |what: &str| std::io::Error::new(std::io::ErrorKind::InvalidData, what.to_owned());
    let mut line = String::new();
    stream.read_line(&mut line)?;
    let status = line
        .split(' ')
        .nth(1)
        .and_then(|code| code.parse().ok())
        .ok_or_else(|| invalid("no status line"))?;
    let mut headers = Vec::new();
    loop {
        line.clear();
        stream.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let header = |name: &str| {
        headers
            .iter()
            .find(|(found, _)| found == name)
            .map(|(_, value)| value.clone())
    };
    let mut body = Vec::new();
    if header("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
        read_chunks(stream, &mut body)?;
    } else if let Some(length) = header("content-length") {
        let length = length
            .parse()
            .map_err(|_| invalid("a length that is no number"))?;
        stream.take(length).read_to_end(&mut body)?;
    } else if !matches!(status, 100..200 | 204 | 304) {
        stream.read_to_end(&mut body)?;
    }
    Ok(Answer {
        status,
        headers,
        body,
    })
}

fn read_chunks(stream: &mut impl BufRead, body: &mut Vec<u8>) -> std::io::Result<()> {
    loop {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        let digits = line.trim_end().split(';').next().unwrap_or_default();
        let size = u64::from_str_radix(digits, 16)
            .map_err(|error| std::io::Error::new(std::io::ErrorKind::InvalidData, error))?;
        stream.take(size).read_to_end(body)?;
        // The line end after the chunk; after the last one, trailers are not expected here.
        stream.read_line(&mut String::new())?;
        if size == 0 {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunked_body_is_put_together() {
        let wire = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n{\"a\"\r\n3\r\n:1}\r\n0\r\n\r\n";
        let answer = read_answer(&mut &wire[..]).unwrap();
        assert_eq!(
            (answer.status, answer.json().unwrap()["a"].as_i64()),
            (200, Some(1))
        );
    }

    #[test]
    fn an_answer_without_a_body_does_not_wait_for_one() {
        let answer = read_answer(&mut &b"HTTP/1.1 204 No Content\r\n\r\nrest"[..]).unwrap();
        assert_eq!((answer.status, answer.body.len()), (204, 0));
    }
}
