//! One message of a stream that does not end: a WebSocket message, an event. It is judged like a body without a header.
//!
//! It does not cut streams into messages; that is `messages`.

use bytes::Bytes;
use gateway_policy::Permit;

use super::{
    Direction, Inspector, Stopped, Storage, Terms, Whole, gather::Gathered, kind::Kinds,
    reading::Reading, room::Room,
};

impl Inspector {
    /// Whether a message may be passed on, by a permit that was given for it.
    ///
    /// # Errors
    /// Why it may not.
    pub(crate) async fn message(
        &self,
        permit: Permit,
        message: Bytes,
        direction: Direction,
    ) -> Result<(), Stopped> {
        if message.is_empty() {
            return Ok(());
        }
        let terms = Terms::of(&permit);
        let gathered = Gathered {
            fingerprint: self.key.of(&message),
            whole: Whole {
                length: message.len() as u64,
                storage: Storage::One(message),
                trailers: None,
                _room: self.room(),
            },
        };
        self.judge(gathered, &Reading::default(), Kinds::NONE, direction, terms)
            .await
            .map(drop)
    }

    /// Where the memory for a message is counted.
    pub(crate) fn message_room(&self) -> Room {
        self.room()
    }
}
