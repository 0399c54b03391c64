//! What the feed says, in the store's own words, so that the store knows nothing of the wire.
//!
//! It does not parse.

use std::fmt;

use crate::Personal;

/// One event of the feed.
#[derive(Debug)]
pub struct Event {
    /// The feed's own opaque id; the feed is resumed after it.
    pub id: String,
    /// What it says.
    pub change: Change,
}

/// What one event says. `Debug` names the kind and nothing in it.
pub enum Change {
    /// A person (支援対象者) is there, or has changed.
    Person {
        /// The city's id.
        id: String,
        /// The name shown to those who may read.
        display_name: Personal,
        /// The user ids that may read this person's notes, all of them.
        readers: Vec<String>,
        /// Support has ended (支援中止): everything of this person goes.
        support_ended: bool,
    },
    /// A note is there, or has changed. Ignored when its person is not there.
    Note {
        /// The city's id.
        id: String,
        /// The person it is about.
        person: String,
        /// The author's user id.
        author: String,
        /// The author's name.
        author_name: Personal,
        /// The author's profession, as text.
        role: String,
        /// When it was written, in Unix seconds.
        time: i64,
        /// The text.
        text: Personal,
        /// What is attached; the store keeps the list, not the files.
        attachments: Vec<Attachment>,
        /// The electronic signature, if it is signed (第16条第2項).
        signature: Option<String>,
    },
    /// A note was deleted; it goes at once.
    NoteDeleted {
        /// The city's id.
        id: String,
    },
    /// Support has ended or the person's data was deleted; everything goes at once (第14条).
    PersonEnded {
        /// The city's id.
        id: String,
    },
    /// A staff member is there, or has changed.
    Staff {
        /// The user id.
        id: String,
        /// The name.
        display_name: Personal,
        /// The role.
        role: Role,
        /// Suspended (第31条): reads nothing any more.
        suspended: bool,
    },
    /// A notice is there, or has changed.
    Notice {
        /// The city's id.
        id: String,
        /// Its title.
        title: String,
        /// Its text.
        text: String,
        /// For staff only (第19条).
        members_only: bool,
        /// Not shown from this moment on, in Unix seconds.
        until: Option<i64>,
    },
    /// The facility is there, or has changed.
    Facility {
        /// The city's id.
        id: String,
        /// Its name.
        name: String,
        /// Suspended (第35条): nobody reads anything.
        suspended: bool,
    },
    /// Everything up to here is what the city has now.
    CaughtUp,
}

impl fmt::Debug for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Person { .. } => "Person",
            Self::Note { .. } => "Note",
            Self::NoteDeleted { .. } => "NoteDeleted",
            Self::PersonEnded { .. } => "PersonEnded",
            Self::Staff { .. } => "Staff",
            Self::Notice { .. } => "Notice",
            Self::Facility { .. } => "Facility",
            Self::CaughtUp => "CaughtUp",
        })
    }
}

/// The role of a staff member at the facility.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// 事業所管理者.
    Manager,
    /// 利用スタッフ.
    Staff,
}

/// A file attached to a note, by name only.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Attachment {
    /// The city's id.
    pub id: String,
    /// The file name; it may name a person.
    pub name: Personal,
    /// The media type.
    pub media_type: String,
    /// Bytes.
    pub size: u64,
    /// SHA-256, in hexadecimal as the feed gives it.
    pub sha256: String,
}
