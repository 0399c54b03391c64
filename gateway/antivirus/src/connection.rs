//! One connection to clamd, for one command. Measured: keeping a session open gains nothing.
//!
//! It does not interpret answers and knows no time limit; its caller sets one around it.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::Path;

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::UnixStream;

use crate::reply::LONGEST;
use crate::{SealedBody, Unavailable};

/// Measured: larger chunks gain nothing.
const CHUNK: usize = 64 * 1024;

/// The command, and the byte that comes with the descriptor (clamd(8)).
const FILDES: &[u8] = b"zFILDES\0\0";

/// An open connection that has not been given a command.
pub(crate) struct Connection(UnixStream);

impl Connection {
    pub(crate) async fn open(socket: &Path) -> Result<Self, Unavailable> {
        match UnixStream::connect(socket).await {
            Ok(stream) => Ok(Self(stream)),
            Err(error) => Err(Unavailable::Connect(error.kind())),
        }
    }

    /// The process that listens (`SO_PEERCRED`); 0 when the kernel does not say.
    pub(crate) fn listener(&self) -> i32 {
        let peer = self.0.peer_cred().ok();
        peer.and_then(|peer| peer.pid()).unwrap_or(0)
    }

    /// A command without a body; its raw answer.
    pub(crate) async fn ask(mut self, command: &[u8]) -> Result<Vec<u8>, Unavailable> {
        self.0.write_all(command).await.map_err(send)?;
        self.answer().await
    }

    /// `FILDES`: hands over the descriptor itself, so that clamd neither copies the body nor writes it to a file.
    pub(crate) async fn pass_descriptor(
        mut self,
        body: &SealedBody,
    ) -> Result<Vec<u8>, Unavailable> {
        self.send_descriptor(body.as_fd()).await.map_err(send)?;
        self.answer().await
    }

    /// Command and descriptor in one message: sent apart they would wake clamd twice.
    async fn send_descriptor(&self, descriptor: BorrowedFd<'_>) -> io::Result<()> {
        loop {
            self.0.writable().await?;
            let sent = self.0.try_io(Interest::WRITABLE, || {
                // The byte after the command is the one that clamd expects to travel with the descriptor; it ignores its value.
                sendmsg::<()>(
                    self.0.as_raw_fd(),
                    &[IoSlice::new(FILDES)],
                    &[ControlMessage::ScmRights(&[descriptor.as_raw_fd()])],
                    MsgFlags::MSG_NOSIGNAL,
                    None,
                )
                .map_err(io::Error::from)
            });
            match sent {
                // A stream socket takes so little whole or not at all.
                Ok(sent) if sent == FILDES.len() => return Ok(()),
                Ok(_) => return Err(io::ErrorKind::WriteZero.into()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// `INSTREAM`: (length as big-endian u32, bytes) until a length of zero.
    pub(crate) async fn stream(mut self, body: &SealedBody) -> Result<Vec<u8>, Unavailable> {
        match self.send_chunks(body).await {
            Ok(()) => self.answer().await,
            // clamd stops reading what exceeds its limit and says so: the answer is there although sending failed.
            Err(error) => match self.answer().await {
                Ok(answer) if !answer.is_empty() => Ok(answer),
                _ => Err(send(error)),
            },
        }
    }

    async fn send_chunks(&mut self, body: &SealedBody) -> io::Result<()> {
        self.0.write_all(b"zINSTREAM\0").await?;
        let mut frame = vec![0; 4 + CHUNK];
        let mut offset = 0;
        loop {
            let read = body.read_at(&mut frame[4..], offset)?;
            let length = u32::try_from(read).map_err(io::Error::other)?;
            frame[..4].copy_from_slice(&length.to_be_bytes());
            self.0.write_all(&frame[..4 + read]).await?;
            if read == 0 {
                return Ok(());
            }
            offset += u64::from(length);
        }
    }

    /// Everything up to and including the terminator, or up to the end; bounded.
    async fn answer(&mut self) -> Result<Vec<u8>, Unavailable> {
        let mut answer = Vec::with_capacity(128);
        while answer.len() < LONGEST && !matches!(answer.last(), Some(0 | b'\n')) {
            let read = self.0.read_buf(&mut answer).await;
            match read {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => break,
                Err(error) => return Err(Unavailable::Receive(error.kind())),
            }
        }
        Ok(answer)
    }
}

fn send(error: io::Error) -> Unavailable {
    Unavailable::Send(error.kind())
}
