//! A witness for tests that are not about witnesses.

use std::pin::Pin;

use gateway_notes::{NotRecorded, Reading, Witness};

/// Records nothing and refuses nothing.
pub(crate) struct Anybody;

impl Witness for Anybody {
    fn recorded(
        &self,
        _: Reading,
    ) -> Pin<Box<dyn Future<Output = Result<(), NotRecorded>> + Send + '_>> {
        Box::pin(async { Ok(()) })
    }
}
