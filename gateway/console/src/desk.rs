//! What the pages need from the rest of the box. The daemon implements it; nothing is decided here.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;
use gateway_notes::Store;
use gateway_policy::{Snapshot, Timestamp, Verdict};
use zeroize::Zeroizing;

use crate::{SessionId, ViewId, Visit};

/// An answer that may take a while.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The rest of the box, as the pages see it.
pub trait Desk: Send + Sync + 'static {
    /// The time.
    fn now(&self) -> Timestamp;

    /// How the box stands.
    fn status(&self) -> Answer<'_, BoxStatus>;

    /// Whether the city can be reached; as [`Desk::status`] says it, without all the rest.
    fn city(&self) -> Answer<'_, Link> {
        Box::pin(async { self.status().await.city })
    }

    /// How setting up stands.
    fn setup(&self) -> Answer<'_, SetupStatus>;

    /// Starts fetching a certificate. Answers as soon as it runs; how it goes on is in [`Desk::setup`].
    /// An error says why it was not even started.
    fn provision(&self, number: Entry, access_code: Entry) -> Answer<'_, Result<(), Message>>;

    /// Starts importing a certificate and key from a PKCS#12 file, likewise.
    fn import(&self, file: Bytes, passphrase: Entry) -> Answer<'_, Result<(), Message>>;

    /// Whether `code` is the set-up code printed on this box's label. Counting and slowing wrong ones is the desk's.
    /// Only asked where [`SetupStatus::code_required`].
    fn is_setup_code(&self, code: Entry) -> Answer<'_, bool>;

    /// The store of notes; `None` while there is none. Persons and notes cannot be read through this handle.
    fn store(&self) -> Option<Store>;

    /// How far storing has got; `None` where nobody keeps count.
    fn progress(&self) -> Answer<'_, Option<Progress>> {
        Box::pin(async { None })
    }

    /// The store for one visit: what is read through this handle is recorded first, and not answered when it cannot be.
    fn reading(&self, visit: Visit) -> Option<Store>;

    /// Somebody in this session asks for another page: what it looked at before is over.
    fn moves_on(&self, session: SessionId);

    /// A page was left.
    fn left(&self, session: SessionId, view: ViewId);
}

/// How far the box has got with storing what the city has; numbers only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Events received since the box was started.
    pub received: u64,
    /// The notes are level with the city.
    pub caught_up: bool,
    /// Stored notes.
    pub notes: u64,
    /// Attachments that are readable, or refused for good.
    pub attachments_done: u64,
    /// Attachments that are to be stored.
    pub attachments_total: u64,
    /// Of those done, refused.
    pub attachments_refused: u64,
    /// Of the readable ones, those that the scanner's newest database has yet to see.
    pub attachments_unseen: u64,
    /// Notes received so far by a second store that is filled beside the one that is read; `None` while there is none.
    pub rebuilding: Option<u64>,
    /// Bytes of notes and attachments.
    pub bytes: u64,
    /// Since when the disk has no room for more.
    pub disk_full: Option<Timestamp>,
    /// Attachments wait for a scanner that works.
    pub waits_for_scanner: bool,
}

/// Something a person typed that must not be kept: wiped when dropped, shown nowhere.
pub struct Entry(Zeroizing<String>);

impl Entry {
    /// Takes what was typed, or what is to be shown once.
    #[must_use]
    pub const fn new(text: Zeroizing<String>) -> Self {
        Self(text)
    }

    /// The text as it was typed.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Entry(..)")
    }
}

/// What happened, in one Japanese sentence, and the one next step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// What happened.
    pub sentence: String,
    /// What to do now.
    pub next_step: String,
    /// A short stable code for the telephone.
    pub code: String,
}

/// How setting up stands.
#[derive(Clone, Debug, Default)]
pub struct SetupStatus {
    /// The box can work.
    pub ready: bool,
    /// While something runs: what, in one sentence.
    pub running: Option<String>,
    /// How the last attempt ended, unless it ended well.
    pub outcome: Option<Message>,
    /// Whoever sets up must type the set-up code from the box's label too.
    pub code_required: bool,
    /// All certificates, the one in use first.
    pub certificates: Vec<Certificate>,
}

/// One facility certificate.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// Its name on this box, as people are to read it.
    pub label: String,
    /// Where it stands, in a few Japanese words.
    pub state: String,
    /// It may be used now.
    pub usable: bool,
    /// The facility's name.
    pub holder: String,
    /// The facility's id.
    pub facility_id: String,
    /// Serial number, hexadecimal.
    pub serial: String,
    /// Where its key was made.
    pub provenance: Provenance,
    /// Begin of its validity.
    pub not_before: Timestamp,
    /// End of its validity.
    pub not_after: Timestamp,
    /// A warning about its end.
    pub warning: Option<String>,
}

/// Where a key was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provenance {
    /// In the TPM, which it never left.
    Generated,
    /// Elsewhere; a copy may exist.
    Imported,
}

impl Provenance {
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Generated => "TPM内で生成",
            Self::Imported => "取り込み",
        }
    }
}

/// How the box stands.
#[derive(Clone, Debug)]
pub struct BoxStatus {
    /// The newest evidence.
    pub snapshot: Snapshot,
    /// What the gate makes of it.
    pub verdict: Verdict,
    /// The line to the Internet.
    pub line: Link,
    /// The city.
    pub city: Link,
}

/// Whether something can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// It answers.
    Up,
    /// It does not.
    Down {
        /// Since when.
        since: Timestamp,
    },
    /// It has not been tried yet.
    Unknown,
}
