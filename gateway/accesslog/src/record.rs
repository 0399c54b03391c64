//! What one record says, as it stands in its sealed part. Seals nothing.

use gateway_policy::DeviceId;
use serde::{Deserialize, Serialize};

/// Longer ids than the city gives are kept by their beginning; a record must fit into a line.
const LONGEST_ID: usize = 256;

/// What was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// The list of persons.
    List,
    /// A page of a person's notes.
    Notes,
    /// One note.
    Note,
    /// A search. What for is nowhere.
    Search,
    /// An attachment.
    Attachment,
    /// A person's notes for printing.
    Print,
    /// This log, on the console.
    Log,
}

/// Where the request came from, when no registered device says more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Peer {
    /// The box itself.
    Box,
    /// An address of a local network.
    Lan,
    /// Any other address.
    Other,
}

impl Peer {
    /// The class of an address; the address itself is kept nowhere.
    #[must_use]
    pub fn of(address: std::net::IpAddr) -> Self {
        let local = match address.to_canonical() {
            std::net::IpAddr::V4(v4) => v4.is_private() || v4.is_link_local(),
            std::net::IpAddr::V6(v6) => v6.is_unique_local() || v6.is_unicast_link_local(),
        };
        match address.to_canonical().is_loopback() {
            true => Self::Box,
            false if local => Self::Lan,
            false => Self::Other,
        }
    }
}

/// One access, at its beginning.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Access {
    /// The staff member's user id at the city.
    pub user: String,
    /// The person's id at the city, if it was about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub person: Option<String>,
    /// What.
    pub what: What,
    /// Something was shown; a refusal names no person.
    pub shown: bool,
    /// The registered device.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "device")]
    pub device: Option<DeviceId>,
    /// Where from.
    pub peer: Peer,
    /// The city could not be reached at the time.
    pub outage: bool,
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Access")
            .field("what", &self.what)
            .finish_non_exhaustive()
    }
}

impl Access {
    /// The same with ids of a length that fits.
    #[must_use]
    pub(crate) fn bounded(mut self) -> Self {
        cut(&mut self.user);
        if let Some(person) = &mut self.person {
            cut(person);
        }
        self
    }
}

fn cut(id: &mut String) {
    let end = (0..=LONGEST_ID.min(id.len()))
        .rev()
        .find(|at| id.is_char_boundary(*at))
        .unwrap_or(0);
    id.truncate(end);
}

/// How an access came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum End {
    /// The page said that it was left.
    Left,
    /// Another page was asked for in the session, or it was signed out.
    Next,
    /// Nothing came for so long as a session may be idle; it may have been shorter.
    Idle,
    /// The box stopped.
    Stopped,
}

/// The end of an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ending {
    /// Number of the access's entry.
    pub of: u64,
    /// How long it lasted.
    pub seconds: u64,
    /// How it ended.
    pub end: End,
}

mod device {
    //! A device's pseudonym as 32 hexadecimal digits.
    use gateway_policy::DeviceId;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(
        device: &Option<DeviceId>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        match device {
            Some(device) => to.collect_str(device),
            None => to.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<DeviceId>, D::Error> {
        let text = Option::<String>::deserialize(from)?;
        text.map(|text| {
            gateway_audit::Id::parse(&text)
                .map(|id| DeviceId(id.0))
                .ok_or_else(|| D::Error::custom("not a device"))
        })
        .transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_access_reads_back_and_shows_nobody_when_debugged() {
        let access = Access {
            user: "u-1".into(),
            person: Some("p-1".into()),
            what: What::Notes,
            shown: true,
            device: Some(DeviceId([0xab; 16])),
            peer: Peer::Lan,
            outage: true,
        };
        let text = serde_json::to_string(&access).unwrap();
        assert_eq!(serde_json::from_str::<Access>(&text).unwrap(), access);
        let shown = format!("{access:?}");
        assert!(!shown.contains("u-1") && !shown.contains("p-1"), "{shown}");
    }

    #[test]
    fn an_address_becomes_a_class_and_an_endless_id_fits() {
        let class = |text: &str| Peer::of(text.parse().unwrap());
        assert_eq!(class("127.0.0.1"), Peer::Box);
        assert_eq!(class("::ffff:192.168.1.9"), Peer::Lan);
        assert_eq!(class("fd00::1"), Peer::Lan);
        assert_eq!(class("198.51.100.7"), Peer::Other);
        let mut id = "あ".repeat(5000);
        cut(&mut id);
        assert_eq!(id.len(), 255);
    }
}
