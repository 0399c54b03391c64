//! Streams that never end on their own, cut into what can be looked at: the messages of a WebSocket, the events of an event
//! stream. Strict: what two readers could understand in two ways is refused, not repaired.
//!
//! Nothing here reads from a socket or asks a scanner; `tunnel` and `event_stream` do.

pub mod assembly;
pub mod events;
pub mod frame;
