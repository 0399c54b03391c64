//! How the checks of Articles 25 to 28 stand, as the pages show it. The daemon's [`ReportDesk`] brings it; nothing is
//! judged here.

use gateway_policy::{Check, DeviceId, Effect, Source, Timestamp};

use crate::{Answer, Message};

/// What the compliance pages ask for.
pub trait ReportDesk: Send + Sync + 'static {
    /// How every check stands now.
    fn report(&self) -> Answer<'_, Result<Report, Message>>;

    /// The signed channel and the antivirus, for two rows of the home page.
    fn machinery(&self) -> Answer<'_, Machinery>;
}

/// How everything stands at one moment.
#[derive(Clone, Debug)]
pub struct Report {
    /// When it was put together.
    pub made: Timestamp,
    /// The facility's name, if the box holds a certificate.
    pub facility: Option<String>,
    /// One line for each check of each subject, in any order.
    pub lines: Vec<Line>,
}

/// One check of one subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Whom it is about.
    pub about: About,
    /// Which check.
    pub check: Check,
    /// How it stands.
    pub mark: Mark,
    /// What it does to traffic now.
    pub effect: Effect,
    /// What it will do next if nothing changes, and when.
    pub next: Option<(Effect, Timestamp)>,
    /// Since when it stands so.
    pub since: Timestamp,
    /// When it was last looked at; `None`: never.
    pub looked: Option<Timestamp>,
    /// Who says so; `None` while nobody has.
    pub source: Option<Source>,
    /// An exception is in force until then.
    pub waived_until: Option<Timestamp>,
    /// Why, as whoever made it wrote it.
    pub waived_for: Option<String>,
    /// A few Japanese words on what was found, if the source says more than the mark.
    pub detail: Option<String>,
}

/// Whom a line is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum About {
    /// This box.
    Box,
    /// The facility: its registers and declarations.
    Facility,
    /// A registered device.
    Device {
        /// Its pseudonym.
        id: DeviceId,
        /// What the manager calls it.
        name: String,
    },
}

/// How a check stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mark {
    /// It does not concern this subject.
    NotApplicable,
    /// As it should be.
    Pass,
    /// Not as it should be, and time is left.
    Warn,
    /// Nothing is known.
    Unknown,
    /// Not as it should be.
    Fail,
}

/// The signed channel and the antivirus.
#[derive(Clone, Debug, Default)]
pub struct Machinery {
    /// `None`: not part of this box.
    pub channel: Option<Channel>,
    /// `None`: not part of this box.
    pub antivirus: Option<Engine>,
}

/// The city's signed channel.
#[derive(Clone, Debug, Default)]
pub struct Channel {
    /// The version that runs.
    pub running: String,
    /// A newer one that is waiting for the facility's window.
    pub waiting: Option<String>,
    /// When the channel was last found in order.
    pub checked: Option<Timestamp>,
    /// What of it was refused at the last look, if anything was.
    pub refused: Option<Refusal>,
    /// The version of the city's signed policy; `None`: the built-in one is in force.
    pub policy: Option<u64>,
}

/// Something on the signed channel that was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The stable name of the reason, for the telephone.
    pub code: String,
    /// Why, in one Japanese sentence.
    pub sentence: String,
    /// Since when.
    pub since: Timestamp,
}

/// The antivirus.
#[derive(Clone, Debug, Default)]
pub struct Engine {
    /// Its version.
    pub version: Option<String>,
    /// The name of the loaded database.
    pub database: Option<String>,
    /// When the database was built.
    pub built: Option<Timestamp>,
    /// When the canary was last caught.
    pub canary: Option<Timestamp>,
    /// When the self-test through the data path was last passed.
    pub self_test: Option<Timestamp>,
}
