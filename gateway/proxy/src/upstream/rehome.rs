//! A TCP stream that can change its runtime: dialled on one thread, used on another. Does not speak any protocol.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use crate::wire;

/// Registered with the runtime it was last attached to, or parked between two.
#[derive(Debug)]
pub(crate) enum Rehome {
    Attached(TcpStream),
    Parked(std::net::TcpStream),
    /// Moving failed; every use reports it.
    Lost,
}

impl Rehome {
    /// Leaves the current runtime.
    pub(crate) fn park(&mut self) -> io::Result<()> {
        if let Self::Attached(stream) = std::mem::replace(self, Self::Lost) {
            *self = Self::Parked(stream.into_std()?);
        }
        Ok(())
    }

    /// Joins the current runtime.
    pub(crate) fn attach(&mut self) -> io::Result<()> {
        if let Self::Parked(stream) = std::mem::replace(self, Self::Lost) {
            *self = Self::Attached(TcpStream::from_std(stream)?);
        }
        Ok(())
    }

    fn stream(&mut self) -> io::Result<Pin<&mut TcpStream>> {
        match self {
            Self::Attached(stream) => Ok(Pin::new(stream)),
            Self::Parked(_) | Self::Lost => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}

impl AsyncRead for Rehome {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.get_mut().stream()?.poll_read(cx, buf)
    }
}

impl AsyncWrite for Rehome {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().stream()?.poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        wire::poll_write_pieces(self.get_mut().stream()?, cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().stream()?.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().stream()?.poll_shutdown(cx)
    }
}
