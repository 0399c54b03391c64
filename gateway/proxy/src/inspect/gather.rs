//! Collects a body to its end before anybody else sees a byte of it: in memory, large ones in a file without a name.
//!
//! It does not inspect. Memory is bounded for each body and for all together; a body over its bound is given up at once.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    sync::atomic::{AtomicU64, Ordering},
};

use bytes::{Bytes, BytesMut};
use gateway_antivirus::{Body as Spill, BodyError};
use http_body::Body;

use super::{
    fingerprint::{Fingerprint, Hashing, Key},
    held::{Storage, Whole},
    room::{NoRoom, Room},
};

/// Pieces smaller than this are copied together: a piece has costs of its own, and a sender can make millions of them.
const SMALL: usize = 4096;
/// What is asked for at once when the length is not known.
const STEP: u64 = 256 * 1024;

/// Why a body was not collected.
#[derive(Debug)]
pub(crate) enum Ungathered<E> {
    /// Its sender broke off.
    Source(E),
    /// It is larger than what is inspected.
    TooLarge,
    /// All memory for bodies is taken.
    NoRoom,
    /// The file without a name cannot be had.
    Memory(BodyError),
}

impl<E> From<NoRoom> for Ungathered<E> {
    fn from(NoRoom: NoRoom) -> Self {
        Self::NoRoom
    }
}

/// Bounds of one collection.
pub(crate) struct Bounds {
    /// The largest body.
    pub(crate) largest: u64,
    /// What is kept in memory as it came.
    pub(crate) in_memory: u64,
}

/// A whole body and what it is recognised by.
pub(crate) struct Gathered {
    pub(crate) whole: Whole,
    pub(crate) fingerprint: Fingerprint,
}

/// Reads `body` to its end. `arrived` counts the bytes for whoever watches.
pub(crate) async fn gather<B>(
    mut body: B,
    bounds: &Bounds,
    key: &Key,
    room: Room,
    arrived: Option<Arc<AtomicU64>>,
) -> Result<Gathered, Ungathered<B::Error>>
where
    B: Body<Data = Bytes> + Unpin,
{
    let hint = body.size_hint();
    if hint.lower() > bounds.largest {
        return Err(Ungathered::TooLarge);
    }
    let mut growing = Growing::new(key, room);
    // All at once if the length is known: bodies that are each half there must not wait for one another.
    growing.room.hold(hint.exact().unwrap_or(0)).await?;
    if hint.exact().is_some_and(|length| length > bounds.in_memory) {
        growing.spill(bounds)?;
    }
    let mut trailers = None;
    while let Some(frame) = next(&mut body).await {
        let data = match frame.map_err(Ungathered::Source)?.into_data() {
            Ok(data) => data,
            Err(frame) => {
                trailers = frame.into_trailers().ok();
                continue;
            }
        };
        let length = growing.length + data.len() as u64;
        if length > bounds.largest {
            return Err(Ungathered::TooLarge);
        }
        if !growing.room.try_hold(length) {
            growing
                .room
                .hold((length + STEP).min(bounds.largest))
                .await?;
        }
        growing.push(data, bounds)?;
        if let Some(arrived) = &arrived {
            arrived.store(growing.length, Ordering::Relaxed);
        }
        // An HTTP/1.1 connection is free for the next request as soon as it is known that nothing follows.
        if body.is_end_stream() {
            break;
        }
    }
    growing.end(key, trailers)
}

async fn next<B: Body<Data = Bytes> + Unpin>(
    body: &mut B,
) -> Option<Result<http_body::Frame<Bytes>, B::Error>> {
    poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await
}

struct Growing<'a> {
    pieces: Vec<Bytes>,
    first: Option<Bytes>,
    tail: BytesMut,
    spill: Option<Spill>,
    hashing: Option<Hashing>,
    key: &'a Key,
    length: u64,
    room: Room,
}

impl<'a> Growing<'a> {
    fn new(key: &'a Key, room: Room) -> Self {
        Self {
            pieces: Vec::new(),
            first: None,
            tail: BytesMut::new(),
            spill: None,
            hashing: None,
            key,
            length: 0,
            room,
        }
    }

    fn push<E>(&mut self, data: Bytes, bounds: &Bounds) -> Result<(), Ungathered<E>> {
        if data.is_empty() {
            return Ok(());
        }
        self.length += data.len() as u64;
        if self.length == data.len() as u64 && self.spill.is_none() {
            // The only one, perhaps: then it is neither copied nor hashed in parts.
            self.first = Some(data);
            return Ok(());
        }
        if let Some(first) = self.first.take() {
            self.keep(first)?;
        }
        if self.spill.is_none() && self.length > bounds.in_memory {
            self.spill(bounds)?;
        }
        self.keep(data)
    }

    fn keep<E>(&mut self, data: Bytes) -> Result<(), Ungathered<E>> {
        let key = self.key;
        self.hashing.get_or_insert_with(|| key.begin()).add(&data);
        if let Some(spill) = &mut self.spill {
            return spill.append(&data).map_err(Ungathered::Memory);
        }
        if data.len() < SMALL {
            self.tail.extend_from_slice(&data);
        } else {
            self.close_tail();
            self.pieces.push(data);
        }
        Ok(())
    }

    fn close_tail(&mut self) {
        if !self.tail.is_empty() {
            self.pieces.push(self.tail.split().freeze());
        }
    }

    /// From now on into a file; what is there already goes first.
    fn spill<E>(&mut self, bounds: &Bounds) -> Result<(), Ungathered<E>> {
        let mut spill = Spill::new(bounds.largest).map_err(Ungathered::Memory)?;
        self.close_tail();
        for piece in self.pieces.drain(..) {
            spill.append(&piece).map_err(Ungathered::Memory)?;
        }
        self.spill = Some(spill);
        Ok(())
    }

    fn end<E>(
        mut self,
        key: &Key,
        trailers: Option<http::HeaderMap>,
    ) -> Result<Gathered, Ungathered<E>> {
        self.close_tail();
        let fingerprint = match (&self.hashing, &self.first) {
            (Some(hashing), _) => hashing.end(),
            (None, Some(first)) => key.of(first),
            (None, None) => key.of(b""),
        };
        let storage = match (self.spill, self.first) {
            (Some(spill), _) => Storage::Sealed(spill.seal().map_err(Ungathered::Memory)?),
            (None, Some(first)) => Storage::One(first),
            (None, None) if self.pieces.is_empty() => Storage::Nothing,
            (None, None) => Storage::Pieces(self.pieces),
        };
        let whole = Whole {
            storage,
            length: self.length,
            trailers: trailers.filter(|fields| !fields.is_empty()),
            _room: self.room,
        };
        Ok(Gathered { whole, fingerprint })
    }
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, time::Duration};

    use futures_util::stream;
    use http_body::Frame;
    use http_body_util::StreamBody;

    use super::*;
    use crate::inspect::room::Rooms;

    async fn collect(pieces: &[usize], bounds: Bounds) -> Result<Gathered, Ungathered<Infallible>> {
        let key = Key::fixed();
        let frames: Vec<_> = pieces
            .iter()
            .map(|length| Ok(Frame::data(Bytes::from(vec![b'x'; *length]))))
            .collect();
        let room = Rooms::new(1 << 20, Duration::from_millis(10)).none();
        gather(
            StreamBody::new(stream::iter(frames)),
            &bounds,
            &key,
            room,
            None,
        )
        .await
    }

    fn bounds(largest: u64, in_memory: u64) -> Bounds {
        Bounds { largest, in_memory }
    }

    #[tokio::test]
    async fn the_same_bytes_are_the_same_body_however_they_arrive() {
        for pieces in [&[9_000][..], &[1; 9_000], &[5_000, 4_000], &[0, 8_999, 1]] {
            for in_memory in [100, 1 << 20] {
                let gathered = collect(pieces, bounds(10_000, in_memory)).await.unwrap();
                assert_eq!(gathered.whole.length, 9_000);
                assert_eq!(gathered.whole.contiguous().unwrap(), vec![b'x'; 9_000]);
                assert!(gathered.fingerprint == Key::fixed().of(&vec![b'x'; 9_000]));
            }
        }
    }

    #[tokio::test]
    async fn many_tiny_pieces_are_kept_as_few() {
        let gathered = collect(&[1; 20_000], bounds(1 << 20, 1 << 20))
            .await
            .unwrap();
        let Storage::Pieces(pieces) = gathered.whole.storage else {
            panic!("in memory");
        };
        assert!(pieces.len() < 10);
    }

    #[tokio::test]
    async fn what_is_too_large_for_itself_or_for_all_is_given_up() {
        let over = collect(&[600, 600], bounds(1_000, 100)).await;
        assert!(matches!(over, Err(Ungathered::TooLarge)));
        let all = collect(&[1 << 20, 1 << 20], bounds(1 << 30, 100)).await;
        assert!(matches!(all, Err(Ungathered::NoRoom)));
    }
}
