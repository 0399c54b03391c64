//! One side of a WebSocket: what it says, and saying something to it. Does not decide what is passed on.

use std::{
    collections::VecDeque,
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};

use super::relay::Ending;
use crate::{
    Limits,
    incoming::Transport,
    inspect::Room,
    messages::{
        assembly::{Assembly, Said},
        frame::{Head, LONGEST_CONTROL, LONGEST_HEAD, Opcode, Sender, mask},
    },
};

/// What is read at once: little while nothing is said, more as soon as there is more.
const GLANCE: usize = 2 * 1024;
const CHUNK: usize = 16 * 1024;
/// A message up to this size is not counted: the reading buffer is as large.
const UNCOUNTED: usize = CHUNK;
/// Messages are not written in smaller frames than this, however small those were that they came in.
const SMALLEST_PIECE: usize = 16 * 1024;

/// The transport of one side.
pub(super) type Io = Box<dyn Transport>;

/// Hears what one side says.
pub(super) struct Ear {
    io: ReadHalf<Io>,
    buffer: BytesMut,
    assembly: Assembly,
    room: Room,
    sounds: Arc<Sounds>,
    eager: bool,
}

impl Ear {
    fn new(io: ReadHalf<Io>, assembly: Assembly, room: Room, sounds: Arc<Sounds>) -> Self {
        Self {
            io,
            buffer: BytesMut::new(),
            assembly,
            room,
            sounds,
            eager: false,
        }
    }

    /// The next thing said; `None` when the transport has ended.
    pub(super) async fn hear(&mut self) -> Result<Option<Said>, Ending> {
        loop {
            let said = self.assembly.next(&mut self.buffer);
            if let Some(said) = said.map_err(Ending::Violation)? {
                return Ok(Some(said));
            }
            let held = self.assembly.held();
            if held > UNCOUNTED {
                let counted = self.room.hold(held as u64).await;
                counted.map_err(|_| Ending::NoRoom)?;
            }
            if self.read().await? == 0 {
                return Ok(None);
            }
        }
    }

    async fn read(&mut self) -> io::Result<usize> {
        if self.buffer.is_empty() && !self.eager {
            self.buffer = BytesMut::new();
        }
        self.buffer.reserve(if self.eager { CHUNK } else { GLANCE });
        let read = self.io.read_buf(&mut self.buffer).await?;
        self.eager = read >= GLANCE;
        self.sounds.now();
        Ok(read)
    }

    /// Gives back the memory of the last message, by taking `none` instead.
    pub(super) fn forget(&mut self, none: Room) {
        self.room = none;
    }

    /// Reads until the other side has ended too, so that it is not cut off while it takes in what was said last.
    pub(super) async fn linger(&mut self) {
        while !matches!(self.read().await, Ok(0) | Err(_)) {
            self.buffer.clear();
        }
    }
}

/// Speaks to one side.
pub(super) struct Mouth {
    io: WriteHalf<Io>,
    /// Whole frames that are still to be written; the first may have been begun.
    queue: VecDeque<Bytes>,
    /// We speak as a client.
    masks: bool,
    closed: bool,
    /// How long the side may refuse to take anything.
    stall: Duration,
}

impl Mouth {
    fn new(io: WriteHalf<Io>, masks: bool, stall: Duration) -> Self {
        Self {
            io,
            queue: VecDeque::new(),
            masks,
            closed: false,
            stall,
        }
    }

    /// Says a whole message, in frames no longer than those it came in.
    pub(super) async fn message(
        &mut self,
        text: bool,
        payload: BytesMut,
        longest_frame: u64,
    ) -> io::Result<()> {
        let piece = usize::try_from(longest_frame)
            .unwrap_or(usize::MAX)
            .max(SMALLEST_PIECE);
        let mut left = payload;
        let mut opcode = if text { Opcode::Text } else { Opcode::Binary };
        loop {
            let now = left.split_to(left.len().min(piece));
            self.frame(left.is_empty(), opcode, now)?;
            opcode = Opcode::Continuation;
            if left.is_empty() {
                return self.flush().await;
            }
        }
    }

    /// Says a Ping, a Pong or a Close.
    pub(super) async fn control(&mut self, opcode: Opcode, payload: &[u8]) -> io::Result<()> {
        self.frame(true, opcode, BytesMut::from(payload))?;
        self.closed |= opcode == Opcode::Close;
        self.flush().await
    }

    fn frame(&mut self, fin: bool, opcode: Opcode, mut payload: BytesMut) -> io::Result<()> {
        let key = self.masks.then(masking_key).transpose()?;
        if let Some(key) = key {
            mask(&mut payload, key, 0);
        }
        let head = Head {
            fin,
            opcode,
            mask: key,
            length: payload.len() as u64,
        };
        let joined = payload.len() <= CHUNK;
        let room = LONGEST_HEAD + if joined { payload.len() } else { 0 };
        let mut bytes = BytesMut::with_capacity(room);
        head.write(&mut bytes);
        if joined {
            bytes.extend_from_slice(&payload);
            self.queue.push_back(bytes.freeze());
        } else {
            self.queue.extend([bytes.freeze(), payload.freeze()]);
        }
        Ok(())
    }

    /// Writes what is queued. Dropped in the middle, the rest stays queued.
    async fn flush(&mut self) -> io::Result<()> {
        let writing = async {
            while let Some(bytes) = self.queue.front_mut() {
                self.io.write_all_buf(bytes).await?;
                self.queue.pop_front();
            }
            self.io.flush().await
        };
        tokio::time::timeout(self.stall, writing)
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    /// Ends this direction.
    pub(super) async fn end(&mut self) -> io::Result<()> {
        self.flush().await?;
        self.io.shutdown().await
    }

    /// The last word, unless it was said already.
    pub(super) async fn close(&mut self, code: u16, reason: &str) -> io::Result<()> {
        if !self.closed {
            let mut payload = [0; LONGEST_CONTROL];
            let length = 2 + reason.len().min(LONGEST_CONTROL - 2);
            payload[..2].copy_from_slice(&code.to_be_bytes());
            payload[2..length].copy_from_slice(&reason.as_bytes()[..length - 2]);
            self.control(Opcode::Close, &payload[..length]).await?;
        }
        self.end().await
    }
}

/// Unpredictable, so that nobody can make the bytes on the wire look like something else (RFC 6455 section 10.3).
fn masking_key() -> io::Result<[u8; 4]> {
    let mut key = [0; 4];
    aws_lc_rs::rand::fill(&mut key).map_err(io::Error::other)?;
    Ok(key)
}

/// Takes one side apart.
pub(super) fn side(
    io: Io,
    sender: Sender,
    limits: &Limits,
    room: Room,
    sounds: &Arc<Sounds>,
) -> (Ear, Mouth) {
    let (read, write) = tokio::io::split(io);
    let assembly = Assembly::new(sender, limits.message_bytes);
    (
        Ear::new(read, assembly, room, Arc::clone(sounds)),
        Mouth::new(write, sender == Sender::Server, limits.write_stall),
    )
}

/// When anything was last heard of either side.
pub(super) struct Sounds {
    born: Instant,
    /// Milliseconds since `born`.
    last: AtomicU64,
}

impl Sounds {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            born: Instant::now(),
            last: AtomicU64::new(0),
        })
    }

    fn now(&self) {
        let elapsed = u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(elapsed, Ordering::Relaxed);
    }

    /// Resolves when nothing has been heard for so long.
    pub(super) async fn silent_for(&self, limit: Duration) {
        loop {
            let last = Duration::from_millis(self.last.load(Ordering::Relaxed));
            let until = self.born + last + limit;
            if until <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(until.into()).await;
        }
    }
}
