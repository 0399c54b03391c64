//! Writes one piece as one: `send` costs less than `writev` with a list of one piece. Does not join pieces.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// Writes `pieces` to a socket with the cheapest call that takes them.
pub(crate) fn poll_write_pieces(
    socket: Pin<&mut TcpStream>,
    cx: &mut Context<'_>,
    pieces: &[IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    match pieces {
        [piece] => socket.poll_write(cx, piece),
        pieces => socket.poll_write_vectored(cx, pieces),
    }
}

/// A socket below TLS, which hands over every write as a list of records.
#[derive(Debug)]
pub(crate) struct Single(pub(crate) TcpStream);

impl AsyncRead for Single {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Single {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        poll_write_pieces(Pin::new(&mut self.0), cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;

    #[tokio::test]
    async fn one_piece_and_many_arrive_as_they_were_written() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut near = Single(TcpStream::connect(address).await.unwrap());
        let (mut far, _) = listener.accept().await.unwrap();
        for pieces in [&["one"][..], &["two", "", "three"], &[""], &[]] {
            let pieces: Vec<IoSlice<'_>> = pieces
                .iter()
                .map(|piece| IoSlice::new(piece.as_bytes()))
                .collect();
            let length: usize = pieces.iter().map(|piece| piece.len()).sum();
            assert_eq!(near.write_vectored(&pieces).await.unwrap(), length);
        }
        near.shutdown().await.unwrap();
        let mut read = String::new();
        far.read_to_string(&mut read).await.unwrap();
        assert_eq!(read, "onetwothree");
    }
}
