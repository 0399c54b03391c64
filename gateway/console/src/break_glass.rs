//! Break-glass: care goes on when a check stops the box and nobody can repair it now. As the pages show it; who may
//! open it, for how long and how often is decided behind [`BreakGlassDesk`].

use gateway_policy::{DeviceId, Timestamp};

use crate::{Answer, Entry, Message};

/// What the break-glass pages ask for and set in motion. All of it works without the city, but [`BreakGlassDesk::set_pin`]
/// and [`BreakGlassDesk::make_sealed_code`].
pub trait BreakGlassDesk: Send + Sync + 'static {
    /// How it stands. Asked for every page, so it must not wait for anything.
    fn state(&self) -> BreakGlass;

    /// Sets the manager's PIN. Refused while the city cannot be reached, for then the role cannot be confirmed.
    fn set_pin(&self, pin: Entry, by: Actor) -> Answer<'_, Result<(), Message>>;

    /// Makes a new one-time code for the safe and forgets the old one. It is shown this once.
    fn make_sealed_code(&self, by: Actor) -> Answer<'_, Result<Entry, Message>>;

    /// Opens, or prolongs what is open.
    fn open(&self, key: Key, reason: Reason, by: Actor) -> Answer<'_, Result<(), Message>>;

    /// Closes before its time.
    fn close(&self, by: Actor) -> Answer<'_, Result<(), Message>>;

    /// Keeps what the manager writes afterwards about an opening.
    fn review(&self, opening: u64, text: String, by: Actor) -> Answer<'_, Result<(), Message>>;
}

/// Who acts: a user whom the city has signed in, the device used, or both. One of them is always known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Actor {
    /// The user id at the city.
    pub user: Option<String>,
    /// The registered device.
    pub device: Option<DeviceId>,
}

/// What opens it.
#[derive(Debug)]
pub enum Key {
    /// The manager's PIN.
    Pin(Entry),
    /// The one-time code from the safe.
    SealedCode(Entry),
}

/// Why it is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// A person's state changed suddenly.
    Emergency,
    /// Notes are needed for a visit or a handover at once.
    Handover,
    /// A hospital or an ambulance asks.
    Transfer,
    /// A disaster.
    Disaster,
}

impl Reason {
    /// All of them, as listed on the form.
    pub const ALL: [Self; 4] = [
        Self::Emergency,
        Self::Handover,
        Self::Transfer,
        Self::Disaster,
    ];

    /// The code in the journal and in forms.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Emergency => "emergency",
            Self::Handover => "handover",
            Self::Transfer => "transfer",
            Self::Disaster => "disaster",
        }
    }

    /// The reason with this code.
    #[must_use]
    pub fn parse(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.code() == code)
    }

    /// For people.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Emergency => "支援対象者の急変",
            Self::Handover => "訪問・申し送りに連絡がすぐ必要",
            Self::Transfer => "救急隊・病院への情報提供",
            Self::Disaster => "災害への対応",
        }
    }
}

/// How break-glass stands.
#[derive(Clone, Debug, Default)]
pub struct BreakGlass {
    /// A PIN is set.
    pub pin_set: bool,
    /// When the code in the safe was made.
    pub sealed_code: Option<Timestamp>,
    /// No PIN or code is tried before this moment: too many were wrong.
    pub locked_until: Option<Timestamp>,
    /// The city can be reached.
    pub online: bool,
    /// It would lower something now; of what is open: it does.
    pub would_help: bool,
    /// What is open.
    pub open: Option<Opening>,
    /// How often it may still be opened in these 30 days.
    pub uses_left: u32,
    /// Former openings, newest first.
    pub past: Vec<Opening>,
}

/// One opening.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    /// Its number.
    pub id: u64,
    /// When it was opened.
    pub since: Timestamp,
    /// When it ends, or ended.
    pub until: Timestamp,
    /// How far it may be prolonged in all.
    pub at_most: Timestamp,
    /// Why.
    pub reason: Reason,
    /// By the code from the safe, not by the PIN.
    pub by_sealed_code: bool,
    /// What the manager wrote about it afterwards.
    pub review: Option<String>,
    /// Until when that has to be written.
    pub review_by: Timestamp,
}
