//! A site behind the box that takes HTTP/1.1 literally and remembers every request it got whole.
//! It does not forgive anything: whatever the box sends and this does not understand fails the test.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::stand::Pair;

/// A request as it came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrived {
    /// Without CRLF.
    pub line: String,
    /// Lower-case names.
    pub fields: Vec<(String, String)>,
    pub content: Vec<u8>,
    pub trailers: Vec<(String, String)>,
}

impl Arrived {
    pub fn field(&self, name: &str) -> Vec<&str> {
        self.fields
            .iter()
            .filter(|(other, _)| other == name)
            .map(|(_, value)| value.as_str())
            .collect()
    }
}

pub struct Site {
    pub address: SocketAddr,
    arrived: Arc<Mutex<Vec<Arrived>>>,
}

impl Site {
    pub async fn start(pair: &Pair) -> Self {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(pair.chain.clone(), pair.key.clone_key())
            .unwrap();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let arrived = Arc::new(Mutex::new(Vec::new()));
        let record = Arc::clone(&arrived);
        tokio::spawn(async move {
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                let (acceptor, record) = (acceptor.clone(), Arc::clone(&record));
                tokio::spawn(async move {
                    if let Ok(mut tls) = acceptor.accept(tcp).await {
                        serve(&mut tls, &record).await;
                        let _ = tls.shutdown().await;
                    }
                });
            }
        });
        Self { address, arrived }
    }

    /// What came in whole since the last call.
    pub fn take(&self) -> Vec<Arrived> {
        std::mem::take(&mut self.arrived.lock().unwrap())
    }
}

/// Serves one connection until it ends, or ends within a request.
async fn serve<T>(io: &mut T, record: &Mutex<Vec<Arrived>>)
where
    T: AsyncReadExt + AsyncWriteExt + Unpin,
{
    let mut bytes = Vec::new();
    loop {
        while let Some((request, length)) = parse(&bytes) {
            bytes.drain(..length);
            // HEAD and CONNECT do not come here.
            let reply = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
            record.lock().unwrap().push(request);
            if io.write_all(reply).await.is_err() || io.flush().await.is_err() {
                return;
            }
        }
        if io.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
            return;
        }
    }
}

/// The request at the start of `bytes` and its length, once it is all there.
fn parse(bytes: &[u8]) -> Option<(Arrived, usize)> {
    let (line, mut fields, mut at) = head(bytes)?;
    assert_eq!(
        line.split(' ').count(),
        3,
        "the box sent the request line {line:?}"
    );
    let request = |fields: &[(String, String)], content, trailers| Arrived {
        line: line.clone(),
        fields: fields.to_vec(),
        content,
        trailers,
    };
    let length = values(&fields, "content-length");
    let encoding = values(&fields, "transfer-encoding");
    assert_eq!(values(&fields, "host").len(), 1, "the box sent {fields:?}");
    match (&length[..], &encoding[..]) {
        ([], []) => Some((request(&fields, Vec::new(), Vec::new()), at)),
        ([length], []) => {
            let end = at
                + length
                    .parse::<usize>()
                    .expect("the box sent a content length that is no number");
            let content = bytes.get(at..end)?.to_vec();
            Some((request(&fields, content, Vec::new()), end))
        }
        ([], ["chunked"]) => {
            let mut content = Vec::new();
            loop {
                let (size, next) = line_at(bytes, at)?;
                let size = usize::from_str_radix(size, 16)
                    .expect("the box sent a chunk size that is no number");
                at = next;
                if size == 0 {
                    break;
                }
                content.extend_from_slice(bytes.get(at..at + size)?);
                assert_eq!(
                    bytes.get(at + size..at + size + 2)?,
                    b"\r\n",
                    "the box ended a chunk elsewhere"
                );
                at += size + 2;
            }
            let mut trailers = Vec::new();
            loop {
                let (line, next) = line_at(bytes, at)?;
                at = next;
                if line.is_empty() {
                    break;
                }
                trailers.push(field(line));
            }
            fields.sort();
            Some((request(&fields, content, trailers), at))
        }
        _ => panic!("the box sent content in two ways: {fields:?}"),
    }
}

type Head = (String, Vec<(String, String)>, usize);

fn head(bytes: &[u8]) -> Option<Head> {
    let (line, mut at) = line_at(bytes, 0)?;
    let mut fields = Vec::new();
    loop {
        let (line, next) = line_at(bytes, at)?;
        at = next;
        if line.is_empty() {
            break;
        }
        fields.push(field(line));
    }
    Some((line.to_owned(), fields, at))
}

fn field(line: &str) -> (String, String) {
    let (name, value) = line
        .split_once(": ")
        .unwrap_or_else(|| panic!("the box sent the field {line:?}"));
    assert!(
        !name.contains([' ', '\t']),
        "the box sent the field {line:?}"
    );
    (name.to_ascii_lowercase(), value.to_owned())
}

/// The line at `start`, without CRLF, and where the next begins.
fn line_at(bytes: &[u8], start: usize) -> Option<(&str, usize)> {
    let rest = &bytes[start..];
    let end = rest.iter().position(|&byte| byte == b'\n')?;
    let line = rest[..end]
        .strip_suffix(b"\r")
        .expect("the box sent LF without CR");
    assert!(
        !line
            .iter()
            .any(|&byte| byte != b'\t' && byte.is_ascii_control()),
        "the box sent a control character"
    );
    Some((
        std::str::from_utf8(line).expect("the box sent no text"),
        start + end + 1,
    ))
}

fn values<'a>(fields: &'a [(String, String)], name: &str) -> Vec<&'a str> {
    fields
        .iter()
        .filter(|(other, _)| other == name)
        .map(|(_, value)| value.as_str())
        .collect()
}
