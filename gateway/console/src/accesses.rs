//! What the page of accesses needs from the rest of the box: who looked at whose stored notes. Nothing is decided here.

use gateway_notes::Personal;
use gateway_policy::{DeviceId, Timestamp};

use crate::{Answer, Message, Visit};

/// The log of accesses, as the manager's page sees it.
pub trait AccessesDesk: Send + Sync + 'static {
    /// What was looked at in a time, newest first. Asking is recorded as an access of its own, before it is answered.
    fn looks(&self, visit: Visit, question: Question) -> Answer<'_, Result<Looks, Message>>;
}

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Question {
    /// From this moment.
    pub from: Timestamp,
    /// Up to and without this one.
    pub to: Timestamp,
    /// Only by this user.
    pub user: Option<String>,
    /// Only about this person.
    pub person: Option<String>,
}

/// What was found.
#[derive(Debug, Default)]
pub struct Looks {
    /// Newest first.
    pub rows: Vec<Look>,
    /// Records that cannot be read any more.
    pub unreadable: u64,
    /// There are more.
    pub more: bool,
}

/// One access.
#[derive(Debug)]
pub struct Look {
    /// When.
    pub at: Timestamp,
    /// Who.
    pub user: Named,
    /// About whom; `None` for a list.
    pub person: Option<Named>,
    /// What.
    pub what: LookedAt,
    /// Something was shown.
    pub shown: bool,
    /// The registered device it came from.
    pub device: Option<(DeviceId, Option<String>)>,
    /// What is known of a device that is not registered.
    pub place: &'static str,
    /// The city could not be reached.
    pub outage: bool,
    /// For how many seconds; and whether that is only known as a bound.
    pub lasted: Option<(u64, bool)>,
}

/// An id and what it is called, as far as whoever asks may know.
#[derive(Debug)]
pub struct Named {
    /// The city's id.
    pub id: String,
    /// The name.
    pub name: Option<Personal>,
}

/// What was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LookedAt {
    /// The list of persons.
    List,
    /// A page of notes.
    Notes,
    /// One note.
    Note,
    /// A search.
    Search,
    /// An attachment.
    Attachment,
    /// Notes for printing.
    Print,
    /// The log of accesses.
    Log,
}

impl LookedAt {
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::List => "一覧",
            Self::Notes => "連絡",
            Self::Note => "連絡（1件）",
            Self::Search => "検索",
            Self::Attachment => "添付",
            Self::Print => "印刷",
            Self::Log => "閲覧の記録",
        }
    }
}
