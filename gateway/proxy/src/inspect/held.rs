//! A whole body on its way out after it was inspected, from memory or from the sealed file that was scanned.
//!
//! It does not know whether the body may pass; whoever makes one says so by making it.

use std::{io, ops::Range, sync::Arc};

use bytes::{Bytes, BytesMut};
use gateway_antivirus::SealedBody;
use http::HeaderMap;
use http_body::{Frame, SizeHint};

use super::room::Room;

/// What is read at once from a sealed body.
const BLOCK: usize = 64 * 1024;

/// Where the bytes are.
pub(crate) enum Storage {
    Nothing,
    /// Most bodies.
    One(Bytes),
    Pieces(Vec<Bytes>),
    Sealed(SealedBody),
}

/// A body that nobody changes any more.
pub(crate) struct Whole {
    pub(crate) storage: Storage,
    pub(crate) length: u64,
    pub(crate) trailers: Option<HeaderMap>,
    /// Given back with the last reader.
    pub(crate) _room: Room,
}

impl Whole {
    /// All of it in one place, copied only if it must be.
    pub(crate) fn contiguous(&self) -> io::Result<Bytes> {
        match &self.storage {
            Storage::Nothing => Ok(Bytes::new()),
            Storage::One(bytes) => Ok(bytes.clone()),
            Storage::Pieces(pieces) => Ok(Bytes::from(pieces.concat())),
            Storage::Sealed(sealed) => read(sealed, 0, usize::try_from(self.length).unwrap_or(0)),
        }
    }

    /// Its first bytes, at least `enough` of them if there are so many.
    pub(crate) fn start(&self, enough: usize) -> io::Result<Bytes> {
        match &self.storage {
            Storage::Nothing => Ok(Bytes::new()),
            Storage::One(bytes) => Ok(bytes.clone()),
            Storage::Pieces(pieces) => match pieces.first() {
                Some(first) if first.len() >= enough => Ok(first.clone()),
                _ => {
                    let mut start = Vec::with_capacity(enough);
                    for piece in pieces {
                        let left = enough - start.len();
                        start.extend_from_slice(&piece[..piece.len().min(left)]);
                    }
                    Ok(Bytes::from(start))
                }
            },
            Storage::Sealed(sealed) => {
                let length = usize::try_from(self.length).unwrap_or(usize::MAX);
                read(sealed, 0, length.min(enough))
            }
        }
    }
}

fn read(sealed: &SealedBody, from: u64, length: usize) -> io::Result<Bytes> {
    let mut bytes = BytesMut::zeroed(length);
    let mut done = 0;
    while done < length {
        match sealed.read_at(&mut bytes[done..], from + done as u64)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => done += read,
        }
    }
    Ok(bytes.freeze())
}

/// A reader of a whole body, or of one range of it.
pub(crate) struct Held {
    whole: Arc<Whole>,
    /// The next piece, if there are pieces.
    piece: usize,
    /// Where that piece begins.
    offset: u64,
    range: Range<u64>,
    trailers: bool,
}

impl Held {
    pub(crate) fn new(whole: Arc<Whole>) -> Self {
        Self {
            piece: 0,
            offset: 0,
            range: 0..whole.length,
            trailers: whole.trailers.is_some(),
            whole,
        }
    }

    /// Only these bytes, and no trailers: those speak of the whole.
    pub(crate) fn range(whole: Arc<Whole>, range: Range<u64>) -> Self {
        Self {
            range,
            trailers: false,
            ..Self::new(whole)
        }
    }

    pub(crate) fn has_trailers(&self) -> bool {
        self.trailers
    }

    pub(crate) fn is_at_end(&self) -> bool {
        self.range.is_empty() && !self.trailers
    }

    /// Bytes still to come.
    pub(crate) fn left(&self) -> u64 {
        self.range.end.saturating_sub(self.range.start)
    }

    /// Exact, unless trailers follow: HTTP/1.1 can only send those behind a body of unsaid length.
    pub(crate) fn size_hint(&self) -> SizeHint {
        if self.trailers {
            SizeHint::default()
        } else {
            SizeHint::with_exact(self.left())
        }
    }

    /// The next frame; never waits.
    pub(crate) fn next(&mut self) -> Option<io::Result<Frame<Bytes>>> {
        if self.range.is_empty() {
            if !self.trailers {
                return None;
            }
            self.trailers = false;
            return self
                .whole
                .trailers
                .clone()
                .map(|fields| Ok(Frame::trailers(fields)));
        }
        let data = match &self.whole.storage {
            Storage::Nothing => return None,
            Storage::One(bytes) => Ok(part(bytes, 0, &self.range)),
            Storage::Pieces(pieces) => {
                let piece = pieces.get(self.piece)?;
                let data = part(piece, self.offset, &self.range);
                self.piece += 1;
                self.offset += piece.len() as u64;
                if data.is_empty() {
                    return self.next();
                }
                Ok(data)
            }
            Storage::Sealed(sealed) => {
                let left = usize::try_from(self.left()).unwrap_or(BLOCK);
                read(sealed, self.range.start, left.min(BLOCK))
            }
        };
        if let Ok(data) = &data {
            self.range.start += data.len() as u64;
        }
        Some(data.map(Frame::data))
    }
}

/// What `range` takes of a piece that begins at `offset`.
fn part(piece: &Bytes, offset: u64, range: &Range<u64>) -> Bytes {
    let length = piece.len() as u64;
    let from = range.start.saturating_sub(offset).min(length);
    let to = range.end.saturating_sub(offset).min(length);
    let index = |at: u64| usize::try_from(at).unwrap_or(piece.len());
    piece.slice(index(from)..index(to.max(from)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::inspect::room::Rooms;

    fn whole(storage: Storage) -> Arc<Whole> {
        Arc::new(Whole {
            storage,
            length: 10,
            trailers: None,
            _room: Rooms::new(0, Duration::ZERO).none(),
        })
    }

    fn all(mut held: Held) -> Vec<u8> {
        let mut bytes = Vec::new();
        while let Some(frame) = held.next() {
            bytes.extend_from_slice(frame.unwrap().data_ref().unwrap());
        }
        assert!(held.is_at_end());
        bytes
    }

    #[test]
    fn every_range_of_every_storage_is_the_same_bytes() {
        let pieces = || {
            ["012", "", "3456", "789"]
                .map(|piece| Bytes::from_static(piece.as_bytes()))
                .to_vec()
        };
        let storages: [fn(Vec<Bytes>) -> Storage; 3] = [
            |pieces| Storage::One(Bytes::from(pieces.concat())),
            Storage::Pieces,
            |pieces| Storage::Sealed(SealedBody::from_bytes(&pieces.concat()).unwrap()),
        ];
        for storage in storages {
            let whole = whole(storage(pieces()));
            assert_eq!(all(Held::new(Arc::clone(&whole))), b"0123456789");
            assert_eq!(&whole.contiguous().unwrap()[..], b"0123456789");
            assert!(whole.start(4).unwrap().starts_with(b"0123"));
            for from in 0..10_u64 {
                for to in from..=10 {
                    let (start, end) =
                        (usize::try_from(from).unwrap(), usize::try_from(to).unwrap());
                    let held = Held::range(Arc::clone(&whole), from..to);
                    assert_eq!(held.left(), to - from);
                    assert_eq!(all(held), &b"0123456789"[start..end]);
                }
            }
        }
    }
}
