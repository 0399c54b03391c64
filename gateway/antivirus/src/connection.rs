//! One connection to clamd, for one command. Measured: keeping a session open gains nothing; having the next connection accepted
//! before there is anything to ask does (0.38 instead of 0.42 ms for 10 KB).
//!
//! It does not interpret answers and knows no time limit; its caller sets one around it.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, connect, getsockopt,
    recv, sendmsg, socket, sockopt::PeerCredentials,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::reply::LONGEST;
use crate::{SealedBody, Unavailable};

/// Measured: larger chunks gain nothing.
const CHUNK: usize = 64 * 1024;

/// The command, and the byte that comes with the descriptor (clamd(8)).
const FILDES: &[u8] = b"zFILDES\0\0";

/// An open connection that has not been given a command. It belongs to no runtime yet.
#[derive(Debug)]
pub(crate) struct Connection(UnixStream);

impl Connection {
    /// Never waits: a local socket is connected at once or not at all.
    pub(crate) fn open(path: &Path) -> Result<Self, Unavailable> {
        let connected = || -> nix::Result<UnixStream> {
            let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
            let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
            connect(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
            Ok(UnixStream::from(socket))
        };
        match connected() {
            Ok(stream) => Ok(Self(stream)),
            Err(error) => Err(Unavailable::Connect(io::Error::from(error).kind())),
        }
    }

    /// The process that listens (`SO_PEERCRED`); 0 when the kernel does not say.
    pub(crate) fn listener(&self) -> i32 {
        getsockopt(&self.0, PeerCredentials).map_or(0, |peer| peer.pid())
    }

    /// Whether clamd has neither closed it nor said anything, which it does to one that it has waited for long enough.
    pub(crate) fn is_quiet(&self) -> bool {
        let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
        recv(self.0.as_raw_fd(), &mut [0], flags) == Err(Errno::EAGAIN)
    }

    fn in_use(self) -> Result<InUse, Unavailable> {
        tokio::net::UnixStream::from_std(self.0)
            .map(InUse)
            .map_err(|error| Unavailable::Connect(error.kind()))
    }

    /// A command without a body; its raw answer.
    pub(crate) async fn ask(self, command: &[u8]) -> Result<Vec<u8>, Unavailable> {
        let mut asked = self.in_use()?;
        asked.0.write_all(command).await.map_err(send)?;
        asked.answer().await
    }

    /// `FILDES`: hands over the descriptor itself, so that clamd neither copies the body nor writes it to a file. What is to be
    /// done `meanwhile` is done while clamd looks.
    pub(crate) async fn pass_descriptor(
        self,
        body: &SealedBody,
        meanwhile: impl FnOnce(),
    ) -> Result<Vec<u8>, Unavailable> {
        self.send_descriptor(body.as_fd()).map_err(send)?;
        meanwhile();
        self.in_use()?.answer().await
    }

    /// Command and descriptor in one message: sent apart they would wake clamd twice. Never waits: nothing was sent before, and a
    /// socket takes so little whole.
    fn send_descriptor(&self, descriptor: BorrowedFd<'_>) -> io::Result<()> {
        // The byte after the command is the one that clamd expects to travel with the descriptor; it ignores its value.
        let sent = sendmsg::<()>(
            self.0.as_raw_fd(),
            &[IoSlice::new(FILDES)],
            &[ControlMessage::ScmRights(&[descriptor.as_raw_fd()])],
            MsgFlags::MSG_NOSIGNAL,
            None,
        )?;
        if sent == FILDES.len() {
            Ok(())
        } else {
            Err(io::ErrorKind::WriteZero.into())
        }
    }

    /// `INSTREAM`: (length as big-endian u32, bytes) until a length of zero.
    pub(crate) async fn stream(self, body: &SealedBody) -> Result<Vec<u8>, Unavailable> {
        let mut streamed = self.in_use()?;
        match streamed.send_chunks(body).await {
            Ok(()) => streamed.answer().await,
            // clamd stops reading what exceeds its limit and says so: the answer is there although sending failed.
            Err(error) => match streamed.answer().await {
                Ok(answer) if !answer.is_empty() => Ok(answer),
                _ => Err(send(error)),
            },
        }
    }
}

/// A connection that is being given its command, or has been.
struct InUse(tokio::net::UnixStream);

impl InUse {
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
