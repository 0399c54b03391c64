//! An entry and its line in the file: `{"entry":{…},"hash":"…"}`, canonical JSON. Knows one line, not its neighbours.

use gateway_policy::Timestamp;
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::canonical::canonical;
use crate::{Digest, Event};

/// No entry comes near this; a longer line is not ours.
pub(crate) const LONGEST_LINE: usize = 4096;

/// Where an entry stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its number, from 1.
    pub number: u64,
    /// Its time.
    pub at: Timestamp,
    /// Hash of the entry before.
    pub previous: Digest,
}

/// What a log can hold. Written once and never asked again.
pub trait Record {
    /// A JSON object with the member `kind`, for this place; number and time are put in by the log. Its line must stay below
    /// 4 KiB.
    fn body(&self, place: &Place) -> Value;
}

impl Record for Event {
    fn body(&self, _: &Place) -> Value {
        serde_json::to_value(self).expect("an event is plain data")
    }
}

/// The line of entry `number`, with its line feed, and its hash.
pub(crate) fn line(
    number: u64,
    at: Timestamp,
    record: &impl Record,
    previous: Digest,
) -> (String, Digest) {
    let mut value = record.body(&Place {
        number,
        at,
        previous,
    });
    if let Value::Object(members) = &mut value {
        members.insert("n".to_owned(), number.into());
        members.insert("at".to_owned(), written(at).into());
    }
    let entry = canonical(&bounded(value)).expect("every number was bounded");
    let hash = Digest::of(&[&previous.0, entry.as_bytes()]);
    (format!("{{\"entry\":{entry},\"hash\":\"{hash}\"}}\n"), hash)
}

/// Numbers beyond what JSON keeps exactly are cut to the largest that it does: a log that refuses an entry for a silly
/// number would be worse.
fn bounded(value: Value) -> Value {
    const LARGEST: u64 = (1 << 53) - 1;
    match value {
        Value::Number(number) => match (number.as_u64(), number.as_i64()) {
            (Some(number), _) => number.min(LARGEST).into(),
            (None, Some(number)) => number.max(-(1 << 53) + 1).into(),
            (None, None) => Value::Null,
        },
        Value::Array(values) => values.into_iter().map(bounded).collect(),
        Value::Object(members) => members
            .into_iter()
            .map(|(name, value)| (name, bounded(value)))
            .collect(),
        other => other,
    }
}

/// RFC 3339, UTC, whole seconds.
pub(crate) fn written(at: Timestamp) -> String {
    OffsetDateTime::from_unix_timestamp(at.0)
        .unwrap_or(OffsetDateTime::UNIX_EPOCH)
        .format(&Rfc3339)
        .unwrap_or_default()
}

/// A line as it was read.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) number: u64,
    pub(crate) at: Option<Timestamp>,
    pub(crate) entry: Value,
    /// The canonical text of the entry, which the hash covers.
    text: String,
    pub(crate) hash: Digest,
}

impl Line {
    /// Reads one line, without its line feed. `None` for anything but the one canonical way to write it.
    pub(crate) fn read(line: &[u8]) -> Option<Self> {
        if line.len() > LONGEST_LINE {
            return None;
        }
        let text = std::str::from_utf8(line).ok()?;
        let value: Value = serde_json::from_str(text).ok()?;
        let members = value.as_object()?;
        let hash = Digest::parse(members.get("hash")?.as_str()?)?;
        let entry = members.get("entry")?;
        let entry_text = canonical(entry).ok()?;
        if format!("{{\"entry\":{entry_text},\"hash\":\"{hash}\"}}") != text {
            return None;
        }
        let number = entry.get("n")?.as_u64()?;
        let at = OffsetDateTime::parse(entry.get("at")?.as_str()?, &Rfc3339)
            .ok()
            .map(|at| Timestamp(at.unix_timestamp()));
        Some(Self {
            number,
            at,
            entry: entry.clone(),
            text: entry_text,
            hash,
        })
    }

    /// Whether its hash is the one that follows from the entry before.
    pub(crate) fn follows(&self, previous: Digest) -> bool {
        self.hash == Digest::of(&[&previous.0, self.text.as_bytes()])
    }

    pub(crate) fn kind(&self) -> &str {
        self.entry
            .get("kind")
            .and_then(Value::as_str)
            .unwrap_or_default()
    }

    pub(crate) fn number_of(&self, member: &str) -> Option<u64> {
        self.entry.get(member)?.as_u64()
    }

    pub(crate) fn digest_of(&self, member: &str) -> Option<Digest> {
        Digest::parse(self.entry.get(member)?.as_str()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Content, Direction, Version};
    use gateway_policy::DeviceId;

    fn sample() -> Event {
        Event::Content {
            what: Content::Infected,
            direction: Direction::Upload,
            device: Some(DeviceId([0xab; 16])),
            digest: None,
            signature: crate::Signature::of("Eicar-Test-Signature"),
        }
    }

    #[test]
    fn a_line_reads_back_and_follows_only_from_the_entry_before_it() {
        let (text, hash) = line(7, Timestamp(1_795_000_000), &sample(), Digest::ZERO);
        let read = Line::read(text.trim_end().as_bytes()).expect("own output");
        assert_eq!((read.number, read.hash, read.kind()), (7, hash, "content"));
        assert_eq!(read.at, Some(Timestamp(1_795_000_000)));
        assert!(read.follows(Digest::ZERO) && !read.follows(Digest([1; 32])));
        assert!(
            text.contains("\"device\":\"abababababababababababababababab\""),
            "{text}"
        );
    }

    #[test]
    fn a_number_beyond_what_json_keeps_is_cut_and_not_refused() {
        let event = Event::Checkpointed {
            sequence: u64::MAX,
            digest: Digest::ZERO,
        };
        let (text, _) = line(1, Timestamp(0), &event, Digest::ZERO);
        assert!(text.contains("\"sequence\":9007199254740991"), "{text}");
        assert!(Line::read(text.trim_end().as_bytes()).is_some());
    }

    #[test]
    fn any_other_way_to_write_the_same_line_is_refused() {
        let (text, _) = line(7, Timestamp(0), &sample(), Digest::ZERO);
        let text = text.trim_end();
        for other in [
            text.replace("\"hash\"", " \"hash\""),
            text.replace("\"n\":7", "\"n\":7.0"),
            text.replace("\"n\":7", "\"n\":7,\"n\":7"),
            text.replace("upload", "uplo\\u0061d"),
            format!("{text} "),
            text.to_uppercase(),
        ] {
            assert!(Line::read(other.as_bytes()).is_none(), "{other}");
        }
    }

    #[test]
    fn a_version_is_three_numbers_and_nothing_else_gets_in() {
        assert_eq!(Version::parse("0.1.0"), Some(Version(0, 1, 0)));
        assert_eq!(Version::parse("1.2.3-rc.1"), Some(Version(1, 2, 3)));
        assert_eq!(Version::parse("山田"), None);
        assert_eq!(Version::parse("1.2"), None);
    }
}
