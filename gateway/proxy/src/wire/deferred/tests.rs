//! The wrapper by itself, and below a real hyper HTTP/2 server connection.

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, DuplexStream};

use super::*;

/// A transport that counts writes, and takes no more than it is told.
#[derive(Debug)]
struct Counting {
    io: DuplexStream,
    writes: Arc<AtomicUsize>,
    broken: bool,
}

impl Counting {
    fn new(io: DuplexStream) -> (Self, Arc<AtomicUsize>) {
        let writes = Arc::new(AtomicUsize::new(0));
        let counting = Self {
            io,
            writes: Arc::clone(&writes),
            broken: false,
        };
        (counting, writes)
    }
}

impl AsyncRead for Counting {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for Counting {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.broken {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let written = ready!(Pin::new(&mut self.io).poll_write(cx, buf))?;
        self.writes.fetch_add(1, Ordering::Relaxed);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.io).poll_write_vectored(cx, bufs))?;
        self.writes.fetch_add(1, Ordering::Relaxed);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// Answers `/<n>` with n bytes.
#[derive(Clone, Copy)]
struct Lengths;

impl hyper::service::Service<Request<Incoming>> for Lengths {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Self::Response, Infallible>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let length = request.uri().path()[1..].parse().expect("a number");
        std::future::ready(Ok(Response::new(Full::from(vec![b'x'; length]))))
    }
}

type Connection<T> = hyper::server::conn::http2::Connection<TokioIo<T>, Lengths, TokioExecutor>;

fn connection<T: AsyncRead + AsyncWrite + Unpin>(io: T) -> Connection<T> {
    hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(io), Lengths)
}

type Client = hyper::client::conn::http2::SendRequest<Empty<Bytes>>;

async fn client(io: DuplexStream) -> Client {
    let (client, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(io))
            .await
            .expect("a handshake");
    tokio::spawn(connection);
    client
}

async fn get(mut client: Client, length: usize) -> usize {
    let request = Request::get(format!("http://a/{length}"))
        .body(Empty::new())
        .expect("a request");
    let response = client.send_request(request).await.expect("a response");
    response
        .into_body()
        .collect()
        .await
        .expect("a body")
        .to_bytes()
        .len()
}

/// Fifty responses of 1 KiB, asked for at once.
async fn fifty(client: &Client) {
    let asked: Vec<_> = (0..50)
        .map(|_| tokio::spawn(get(client.clone(), 1024)))
        .collect();
    for response in asked {
        assert_eq!(response.await.expect("no panic"), 1024);
    }
}

#[tokio::test]
async fn small_responses_share_a_write() {
    let (ours, theirs) = tokio::io::duplex(1 << 20);
    let (counting, plain) = Counting::new(ours);
    let undeferred = tokio::spawn(connection(counting));
    fifty(&client(theirs).await).await;
    drop(undeferred);

    let (ours, theirs) = tokio::io::duplex(1 << 20);
    let (counting, deferred) = Counting::new(ours);
    let (io, handle) = Deferred::new(counting);
    tokio::spawn(drive(handle, connection(io)));
    fifty(&client(theirs).await).await;

    let (plain, deferred) = (
        plain.load(Ordering::Relaxed),
        deferred.load(Ordering::Relaxed),
    );
    assert!(plain >= 50, "hyper writes once per response: {plain}");
    assert!(
        deferred <= plain / 5,
        "{deferred} writes where hyper alone makes {plain}"
    );
}

#[tokio::test]
async fn a_large_body_passes_whole_through_a_narrow_transport() {
    let (ours, theirs) = tokio::io::duplex(3000);
    let (counting, _) = Counting::new(ours);
    let (io, handle) = Deferred::new(counting);
    tokio::spawn(drive(handle, connection(io)));
    let client = client(theirs).await;
    assert_eq!(get(client.clone(), 3_000_000).await, 3_000_000);
    assert_eq!(get(client, 0).await, 0);
}

#[tokio::test]
async fn a_graceful_shutdown_answers_what_was_asked_and_ends() {
    let (ours, theirs) = tokio::io::duplex(2000);
    let (counting, _) = Counting::new(ours);
    let (io, handle) = Deferred::new(counting);
    let mut driven = drive(handle, connection(io));
    let served = tokio::spawn(async move {
        let ask = tokio::time::sleep(Duration::from_millis(30));
        tokio::select! {
            _ = &mut driven => return Err(io::ErrorKind::UnexpectedEof.into()),
            () = ask => driven.connection().graceful_shutdown(),
        }
        driven.await
    });
    let client = client(theirs).await;
    let asked = tokio::spawn(get(client.clone(), 500_000));
    assert_eq!(asked.await.expect("no panic"), 500_000);
    let outcome = tokio::time::timeout(Duration::from_secs(5), served).await;
    match outcome.expect("it ends").expect("no panic") {
        Ok(outcome) => outcome.expect("a clean end"),
        // Told that the server goes, the client may be gone first.
        Err(error) => assert_eq!(error.kind(), io::ErrorKind::BrokenPipe),
    }
}

/// A context for polling by hand.
fn poll<R>(mut step: impl FnMut(&mut Context<'_>) -> Poll<R>) -> Poll<R> {
    step(&mut Context::from_waker(std::task::Waker::noop()))
}

#[tokio::test]
async fn no_more_than_the_capacity_gathers_and_then_a_write_waits() {
    let (ours, mut theirs) = tokio::io::duplex(1000);
    let (counting, _) = Counting::new(ours);
    let (mut io, handle) = Deferred::new(counting);
    let piece = vec![7; 10_000];
    let mut accepted = 0;
    while let Poll::Ready(written) = poll(|cx| Pin::new(&mut io).poll_write(cx, &piece)) {
        accepted += written.expect("the transport holds");
        assert!(handle.0.lock().waiting.len() <= CAPACITY);
        assert!(accepted <= CAPACITY + 1000);
    }
    assert_eq!(accepted, CAPACITY + 1000);
    let slices = [IoSlice::new(&piece), IoSlice::new(&piece)];
    assert!(poll(|cx| Pin::new(&mut io).poll_write_vectored(cx, &slices)).is_pending());

    // Room for a little lets a little in.
    let mut read = vec![0; 600];
    theirs.read_exact(&mut read).await.expect("bytes");
    match poll(|cx| Pin::new(&mut io).poll_write_vectored(cx, &slices)) {
        Poll::Ready(written) => assert_eq!(written.expect("the transport holds"), 600),
        Poll::Pending => unreachable!("there is room for 600 bytes"),
    }
    assert!(handle.0.lock().waiting.len() <= CAPACITY);
}

#[tokio::test]
async fn a_flush_writes_nothing_and_a_shutdown_everything() {
    let (ours, mut theirs) = tokio::io::duplex(100_000);
    let (counting, writes) = Counting::new(ours);
    let (mut io, handle) = Deferred::new(counting);
    for _ in 0..10 {
        assert!(poll(|cx| Pin::new(&mut io).poll_write(cx, b"hello ")).is_ready());
        assert!(poll(|cx| Pin::new(&mut io).poll_flush(cx)).is_ready());
    }
    assert_eq!(writes.load(Ordering::Relaxed), 0);
    assert!(poll(|cx| Pin::new(&mut io).poll_shutdown(cx)).is_ready());
    assert_eq!(writes.load(Ordering::Relaxed), 1);
    let mut all = String::new();
    drop((io, handle));
    theirs.read_to_string(&mut all).await.expect("bytes");
    assert_eq!(all, "hello ".repeat(10));
}

#[tokio::test]
async fn an_idle_connection_keeps_no_buffer() {
    let (ours, _theirs) = tokio::io::duplex(100_000);
    let (counting, _) = Counting::new(ours);
    let (mut io, handle) = Deferred::new(counting);
    assert!(poll(|cx| Pin::new(&mut io).poll_write(cx, b"hello ")).is_ready());
    assert!(handle.0.lock().waiting.capacity() > 0);
    assert!(poll(|cx| handle.0.lock().poll_drain(cx)).is_ready());
    assert_eq!(handle.0.lock().waiting.capacity(), 0);
}

#[tokio::test]
async fn an_error_of_the_transport_ends_the_connection() {
    let (ours, _theirs) = tokio::io::duplex(100_000);
    let (mut counting, _) = Counting::new(ours);
    counting.broken = true;
    let (io, handle) = Deferred::new(counting);
    let error = drive(handle, connection(io))
        .await
        .expect_err("the settings cannot be written");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}
