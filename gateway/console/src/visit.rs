//! Who reads, from where, and on which page: what the log of accesses is told. Records nothing itself.

use std::fmt;
use std::net::IpAddr;

use aws_lc_rs::rand;
use gateway_policy::DeviceId;

use crate::{ConsoleRequest, Staff};

/// A reader's session, by a keyed hash of its cookie; good for nothing but telling sessions apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SessionId(pub [u8; 8]);

/// One page as it was opened once. The page carries it, and sends it back when it is left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ViewId(u64);

impl ViewId {
    /// Another one for each request.
    #[must_use]
    pub fn new() -> Self {
        let mut bytes = [0; 8];
        // Without randomness all are alike: a page that is left then ends the one opened after it, on record only.
        let _ = rand::fill(&mut bytes);
        Self(u64::from_be_bytes(bytes))
    }

    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let digits = text.len() == 16 && text.bytes().all(|digit| digit.is_ascii_hexdigit());
        digits.then(|| u64::from_str_radix(text, 16).ok().map(Self))?
    }
}

impl fmt::Display for ViewId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A signed-in person's request for something personal.
#[derive(Clone)]
pub struct Visit {
    /// Who.
    pub staff: Staff,
    /// In which session.
    pub session: SessionId,
    /// On which page.
    pub view: ViewId,
    /// From which registered device.
    pub device: Option<DeviceId>,
    /// From which address.
    pub peer: IpAddr,
}

impl fmt::Debug for Visit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Visit(..)")
    }
}

impl Visit {
    pub(crate) fn new(request: &ConsoleRequest, staff: Staff, session: SessionId) -> Self {
        Self {
            staff,
            session,
            view: request.view,
            device: request.device,
            peer: request.peer,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_comes_back_as_it_was_sent_and_nothing_else_is_one() {
        let view = ViewId::new();
        assert_eq!(ViewId::parse(view.to_string().as_bytes()), Some(view));
        for other in [
            "",
            "1",
            "00000000000000zz",
            "+000000000000001",
            "00000000000000000",
        ] {
            assert_eq!(ViewId::parse(other.as_bytes()), None, "{other}");
        }
    }
}
