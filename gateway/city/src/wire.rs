//! The shapes that travel between city and box: feed events, problem documents, the `Renraku-Staff` field.
//!
//! It does not fetch anything and judges nothing beyond shape. Unknown JSON members are ignored, so that the city
//! may add some; an unknown *event* is kept as [`Event::Unknown`] for the same reason.

use http::HeaderValue;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::Personal;

/// `type` members of the problem documents the city answers with (RFC 9457).
pub mod problem_type {
    /// No client certificate was presented where one is required.
    pub const CERTIFICATE_REQUIRED: &str = "urn:renraku:problem:certificate-required";
    /// The presented facility certificate has been revoked.
    pub const CERTIFICATE_REVOKED: &str = "urn:renraku:problem:certificate-revoked";
    /// The whole facility is suspended (Art. 35).
    pub const FACILITY_SUSPENDED: &str = "urn:renraku:problem:facility-suspended";
    /// Too many wrong access codes: the certificate number is locked.
    pub const NUMBER_LOCKED: &str = "urn:renraku:problem:number-locked";
    /// The certificate number was used with another key.
    pub const NUMBER_USED: &str = "urn:renraku:problem:number-used";
    /// The certificate number was not used in time.
    pub const NUMBER_EXPIRED: &str = "urn:renraku:problem:number-expired";
}

/// The longest problem document, in bytes, that is read.
pub const MAX_PROBLEM: usize = 16 * 1024;

/// A problem document (RFC 9457), with the city's own `support_code` member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// A URN that names the kind of problem; `about:blank` when the city gave none.
    #[serde(rename = "type", default = "about_blank")]
    pub kind: String,
    /// One Japanese line for a person.
    #[serde(default)]
    pub title: String,
    /// The HTTP status, repeated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// More words for a person. May quote input, therefore never logged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<Personal<String>>,
    /// What the city's support needs to find the entry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub support_code: Option<String>,
}

fn about_blank() -> String {
    "about:blank".to_owned()
}

impl Problem {
    /// Parses a problem document; anything else (a proxy's HTML page) yields `None`.
    pub fn parse(media_type: &str, body: &[u8]) -> Option<Self> {
        let essence = media_type.split(';').next()?.trim();
        if !essence.eq_ignore_ascii_case("application/problem+json") || body.len() > MAX_PROBLEM {
            return None;
        }
        serde_json::from_slice(body).ok()
    }
}

/// A person in support (支援対象者) whose notebook this facility takes part in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Person {
    /// The city's id.
    pub id: String,
    /// The name as shown to permitted staff.
    pub display_name: Personal<String>,
    /// User ids permitted to read this person's notes.
    pub readers: Vec<String>,
    /// 支援中止 was declared (Art. 14).
    #[serde(default)]
    pub support_ended: bool,
}

/// What is attached to a note; the bytes come from `GET /gateway/v1/attachments/{id}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// The city's id.
    pub id: String,
    /// The file's name as its author gave it.
    pub name: Personal<String>,
    /// The media type as the city states it.
    pub media_type: String,
    /// Length in bytes.
    pub size: u64,
    /// SHA-256 of the bytes, lower-case hexadecimal.
    pub sha256: String,
}

/// One post in a person's notebook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// The city's id.
    pub id: String,
    /// Id of the person whose notebook it is in.
    pub person: String,
    /// User id of who wrote it.
    pub author: String,
    /// Their name as shown.
    pub author_name: Personal<String>,
    /// Their profession or role as shown.
    pub role: String,
    /// When it was posted.
    #[serde(with = "time::serde::rfc3339")]
    pub time: OffsetDateTime,
    /// The text, exactly as written.
    pub text: Personal<String>,
    /// Attached files.
    #[serde(default)]
    pub attachments: Vec<Attachment>,
    /// An electronic signature over the note, opaque to the box, which must not alter what it covers (Art. 16).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<String>,
}

/// What a staff member may do at the city.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// 事業所管理者
    Manager,
    /// 利用スタッフ
    Staff,
}

/// A user of this facility.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Staff {
    /// The user id.
    pub id: String,
    /// The name as shown.
    pub display_name: Personal<String>,
    /// Manager or staff.
    pub role: Role,
    /// May currently not use the service (Art. 31).
    #[serde(default)]
    pub suspended: bool,
}

/// An announcement of the city.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// The city's id.
    pub id: String,
    /// Its heading.
    pub title: String,
    /// Its text.
    pub text: String,
    /// Only for signed-in members (Art. 19), not for the public portal.
    #[serde(default)]
    pub members_only: bool,
    /// Not to be shown after this moment.
    #[serde(
        default,
        with = "time::serde::rfc3339::option",
        skip_serializing_if = "Option::is_none"
    )]
    pub until: Option<OffsetDateTime>,
}

/// This facility itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facility {
    /// The city's id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Suspended as a whole (Art. 35).
    #[serde(default)]
    pub suspended: bool,
}

/// What the box should refresh from the signed channel now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HintKind {
    /// New software.
    Releases,
    /// A new signed policy.
    Policy,
    /// New antivirus databases.
    Antivirus,
    /// The city asks for a part of the log of accesses.
    AccessLog,
    /// A kind this version does not know.
    #[serde(other)]
    Unknown,
}

/// A hint that something can be refreshed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hint {
    /// What.
    pub what: HintKind,
}

/// Names only an id (`note-deleted`, `person-ended`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Named {
    id: String,
}

/// One event of the feed, decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A person, new or changed.
    Person(Person),
    /// A note, new or changed.
    Note(Note),
    /// The note with this id is gone: purge it at once.
    NoteDeleted(String),
    /// The person with this id is gone (支援中止): purge at once (Art. 14).
    PersonEnded(String),
    /// A user, new or changed.
    Staff(Staff),
    /// A notice, new or changed.
    Notice(Notice),
    /// This facility, changed.
    Facility(Facility),
    /// Something to refresh.
    Hint(Hint),
    /// The box is level with the city.
    CaughtUp,
    /// An event this version does not know, by name.
    Unknown(String),
}

impl Event {
    /// Decodes an event from its SSE name and data.
    ///
    /// # Errors
    /// When the name is known but the data is not what it should be. Skipping such an event could mean missing a
    /// deletion, so callers must not.
    pub fn decode(name: &str, data: &str) -> Result<Self, serde_json::Error> {
        Ok(match name {
            "person" => Self::Person(serde_json::from_str(data)?),
            "note" => Self::Note(serde_json::from_str(data)?),
            "note-deleted" => Self::NoteDeleted(serde_json::from_str::<Named>(data)?.id),
            "person-ended" => Self::PersonEnded(serde_json::from_str::<Named>(data)?.id),
            "staff" => Self::Staff(serde_json::from_str(data)?),
            "notice" => Self::Notice(serde_json::from_str(data)?),
            "facility" => Self::Facility(serde_json::from_str(data)?),
            "hint" => Self::Hint(serde_json::from_str(data)?),
            "caught-up" => Self::CaughtUp,
            other => Self::Unknown(other.to_owned()),
        })
    }

    /// The event's name on the wire; safe to log.
    pub fn name(&self) -> &str {
        match self {
            Self::Person(_) => "person",
            Self::Note(_) => "note",
            Self::NoteDeleted(_) => "note-deleted",
            Self::PersonEnded(_) => "person-ended",
            Self::Staff(_) => "staff",
            Self::Notice(_) => "notice",
            Self::Facility(_) => "facility",
            Self::Hint(_) => "hint",
            Self::CaughtUp => "caught-up",
            Self::Unknown(name) => name,
        }
    }
}

/// What the city says about the session whose cookie it sets in the same response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RenrakuStaff {
    /// `"<user id>"; role=manager|staff; cookie="<name>"; until=<unix seconds>`
    SignedIn {
        /// The user id.
        user_id: String,
        /// Manager or staff.
        role: Role,
        /// Name of the session cookie in this response.
        cookie: String,
        /// End of the session, unix seconds.
        until: i64,
    },
    /// `?0`: that session has ended.
    Ended,
}

impl RenrakuStaff {
    /// The field's name, lower case.
    pub const FIELD: &'static str = "renraku-staff";

    /// Parses the field value (an RFC 9651 item). `None` for anything but the two exact shapes: a session must never
    /// be believed on half an assertion.
    pub fn parse(value: &HeaderValue) -> Option<Self> {
        let item: sfv::Item = sfv::Parser::new(value.as_bytes()).parse().ok()?;
        if item.bare_item.as_boolean() == Some(false) && item.params.is_empty() {
            return Some(Self::Ended);
        }
        let user_id = item.bare_item.as_string()?.as_str();
        let parameter = |name: &str| {
            item.params
                .iter()
                .find(|(key, _)| key.as_str() == name)
                .map(|(_, value)| value)
        };
        let role = match parameter("role")?.as_token()?.as_str() {
            "manager" => Role::Manager,
            "staff" => Role::Staff,
            _ => return None,
        };
        let cookie = parameter("cookie")?.as_string()?.as_str();
        let until = i64::from(parameter("until")?.as_integer()?);
        if user_id.is_empty() || cookie.is_empty() {
            return None;
        }
        Some(Self::SignedIn {
            user_id: user_id.to_owned(),
            role,
            cookie: cookie.to_owned(),
            until,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(value: &str) -> Option<RenrakuStaff> {
        RenrakuStaff::parse(&HeaderValue::from_str(value).expect("a header value"))
    }

    #[test]
    fn a_signed_in_staff_field_is_understood() {
        let parsed = parse(r#""u-17"; role=manager; cookie="sid"; until=1790000000"#);
        let expected = RenrakuStaff::SignedIn {
            user_id: "u-17".into(),
            role: Role::Manager,
            cookie: "sid".into(),
            until: 1_790_000_000,
        };
        assert_eq!(parsed, Some(expected));
        assert_eq!(parse("?0"), Some(RenrakuStaff::Ended));
    }

    #[test]
    fn half_an_assertion_is_no_assertion() {
        for value in [
            "?1",
            "?0; role=staff",
            r#""u-17""#,
            r#""u-17"; role=admin; cookie="sid"; until=1"#,
            r#""u-17"; role=staff; cookie="sid""#,
            r#""u-17"; role=staff; until=1"#,
            r#""u-17"; role="staff"; cookie="sid"; until=1"#,
            r#"""; role=staff; cookie="sid"; until=1"#,
            r#""u-17"; role=staff; cookie="sid"; until=1, "u-18""#,
            "u-17; role=staff",
            "",
        ] {
            assert_eq!(parse(value), None, "{value}");
        }
    }

    #[test]
    fn a_note_event_shows_no_personal_data_when_debugged() {
        let data = r#"{"id":"n1","person":"p1","author":"u1","author_name":"鈴木 一郎","role":"看護師",
            "time":"2026-11-20T10:00:00+09:00","text":"発熱あり","attachments":[{"id":"a1","name":"写真.jpg",
            "media_type":"image/jpeg","size":3,"sha256":"00"}],"later_member":1}"#;
        let event = Event::decode("note", data).expect("decodes");
        let shown = format!("{event:?}");
        for personal in ["鈴木", "発熱", "写真"] {
            assert!(!shown.contains(personal), "{shown}");
        }
        let Event::Note(note) = event else {
            panic!("a note")
        };
        assert_eq!(note.text.reveal(), "発熱あり");
    }

    #[test]
    fn every_event_of_the_interface_is_decoded_by_name() {
        let cases = [
            (
                "person",
                r#"{"id":"p","display_name":"x","readers":["u"],"support_ended":false}"#,
            ),
            ("note-deleted", r#"{"id":"n"}"#),
            ("person-ended", r#"{"id":"p"}"#),
            (
                "staff",
                r#"{"id":"u","display_name":"x","role":"staff","suspended":true}"#,
            ),
            (
                "notice",
                r#"{"id":"i","title":"t","text":"x","members_only":true,"until":"2026-12-01T00:00:00Z"}"#,
            ),
            ("facility", r#"{"id":"f","name":"n","suspended":false}"#),
            ("hint", r#"{"what":"antivirus"}"#),
            ("caught-up", "{}"),
        ];
        for (name, data) in cases {
            let event = Event::decode(name, data).expect(name);
            assert_eq!(event.name(), name);
            assert!(!matches!(event, Event::Unknown(_)));
        }
        assert_eq!(
            Event::decode("weather", "{}").expect("kept"),
            Event::Unknown("weather".into())
        );
        assert!(Event::decode("person-ended", r#"{"person":"p"}"#).is_err());
        let hint = Event::decode("hint", r#"{"what":"tomorrow"}"#).expect("decodes");
        assert_eq!(
            hint,
            Event::Hint(Hint {
                what: HintKind::Unknown
            })
        );
    }

    #[test]
    fn only_problem_json_is_read_as_a_problem() {
        let body = br#"{"type":"urn:renraku:problem:number-locked","title":"x","status":403,"detail":"12"}"#;
        let problem =
            Problem::parse("application/problem+json; charset=utf-8", body).expect("parses");
        assert_eq!(problem.kind, problem_type::NUMBER_LOCKED);
        assert!(!format!("{problem:?}").contains("12"));
        assert!(Problem::parse("text/html", body).is_none());
        assert!(Problem::parse("application/problem+json", b"<html>").is_none());
    }
}
