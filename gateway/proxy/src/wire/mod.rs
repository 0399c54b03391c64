//! The wire below hyper: strict HTTP/1 framing on what is read, few and large writes for HTTP/2, the cheapest call for each write.
//!
//! Nothing here knows of sites, permits or pages; it does not parse HTTP/2 (the `h2` crate is strict enough)
//! and it does not time anything out (hyper's `header_read_timeout` and the handler's timers do).

mod deferred;
mod fields;
pub mod framing;
mod guard;
mod single;

pub use deferred::{Deferred, Driven, Handle, drive};
pub use fields::has_padded_value;
pub use framing::Violation;
pub use guard::{Guarded, Watch};
pub(crate) use single::{Single, poll_write_pieces};
