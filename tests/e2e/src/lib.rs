//! What the end-to-end tests share: a person's hands and eyes in a real browser, and at a device.
//!
//! It does not know any page; the tests in `tests/` do.

pub mod browsing;
pub mod managing;
pub mod releases;
pub mod seats;
pub mod signing_in;
pub mod small_disk;
pub mod visiting;
