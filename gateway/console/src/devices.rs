//! Registered PCs and tablets, as the pages show them and change them (第29条). The daemon's [`DevicesDesk`] does it.

use std::fmt;
use std::net::IpAddr;

use bytes::Bytes;
use gateway_policy::{Check, DeviceId, Timestamp};

use crate::report::Line;
use crate::{Answer, Entry, Message, Staff};

/// What the device pages ask for and set in motion.
pub trait DevicesDesk: Send + Sync + 'static {
    /// What a device may see. Asked at every request, so it must not wait for anything.
    fn admission(&self, device: Option<DeviceId>) -> Admission;

    /// All devices and the pairings that wait for a manager.
    fn devices(&self) -> Answer<'_, Result<Devices, Message>>;

    /// How the checks of one device stand; `None`: there is no such device.
    fn device(&self, id: DeviceId) -> Answer<'_, Result<Option<DeviceDetail>, Message>>;

    /// Finds the pairing of which a manager has read the code off a device's screen. Counting wrong ones is the desk's.
    fn pairing_of(&self, code: Entry, by: Staff) -> Answer<'_, Result<Waiting, Message>>;

    /// Lets a device in. `manager`: break-glass may be opened from it.
    fn approve(
        &self,
        pairing: PairingId,
        manager: bool,
        by: Staff,
    ) -> Answer<'_, Result<(), Message>>;

    /// Refuses a pairing.
    fn refuse(&self, pairing: PairingId, by: Staff) -> Answer<'_, Result<(), Message>>;

    /// Cuts a device off at once, open connections included.
    fn revoke(&self, id: DeviceId, by: Staff) -> Answer<'_, Result<(), Message>>;

    /// Lets a revoked device in again.
    fn reactivate(&self, id: DeviceId, by: Staff) -> Answer<'_, Result<(), Message>>;

    /// Calls a device something else.
    fn rename(&self, id: DeviceId, name: String, by: Staff) -> Answer<'_, Result<(), Message>>;

    /// Takes a device out of the register; its connections end.
    fn forget(&self, id: DeviceId, by: Staff) -> Answer<'_, Result<(), Message>>;

    /// Which devices were there today, which have reported, and which were left on at night.
    fn days(&self) -> Answer<'_, Result<Days, Message>>;

    /// Opens a request for a PC that has a certificate of the city's, PEM; it has only to be approved.
    fn start_with_certificate(
        &self,
        name: String,
        kind: DeviceKind,
        certificate: String,
        peer: IpAddr,
        by: Staff,
    ) -> Answer<'_, Result<Waiting, Message>>;

    /// Sets whether break-glass may be opened from this device.
    fn set_manager(
        &self,
        id: DeviceId,
        manager: bool,
        by: Staff,
    ) -> Answer<'_, Result<(), Message>>;

    /// The manager declares that these checks of a device were looked at and found good today.
    fn declare(
        &self,
        id: DeviceId,
        checks: Vec<Check>,
        by: Staff,
    ) -> Answer<'_, Result<(), Message>>;

    /// An unregistered device asks to be let in.
    fn start_pairing(
        &self,
        name: String,
        kind: DeviceKind,
        peer: IpAddr,
    ) -> Answer<'_, Result<Ticket, Message>>;

    /// How the pairing behind a ticket's token stands.
    fn pairing(&self, token: Entry) -> Answer<'_, Pairing>;

    /// The certificate file of an approved pairing, as often as asked for while [`Pairing::Approved`] is answered.
    fn certificate_file(&self, token: Entry) -> Answer<'_, Result<CertificateFile, Message>>;
}

/// What a device may see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// A registered device.
    Registered {
        /// Break-glass may be opened from it.
        manager: bool,
    },
    /// Not a registered device, and the box lets such in (`[devices] unknown = "warn"`).
    Tolerated,
    /// Not a registered device: the pairing page and what is public.
    Unknown,
    /// A device that was cut off.
    Revoked,
}

/// What kind of device it is; it decides how the certificate is installed and which checks there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names say it")]
pub enum DeviceKind {
    Windows,
    Mac,
    Linux,
    Ipad,
    Android,
    Chromebook,
}

impl DeviceKind {
    /// All of them, as listed on the form.
    pub const ALL: [Self; 6] = [
        Self::Windows,
        Self::Ipad,
        Self::Chromebook,
        Self::Android,
        Self::Mac,
        Self::Linux,
    ];

    /// For people; the value in forms too.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Windows => "Windowsパソコン",
            Self::Ipad => "iPad・iPhone",
            Self::Chromebook => "Chromebook",
            Self::Android => "Androidタブレット・スマートフォン",
            Self::Mac => "Mac",
            Self::Linux => "Linuxパソコン",
        }
    }
}

/// All devices.
#[derive(Clone, Debug, Default)]
pub struct Devices {
    /// Registered ones, revoked ones included.
    pub registered: Vec<Device>,
    /// Pairings that wait for a manager.
    pub waiting: Vec<Waiting>,
}

/// One registered device.
#[derive(Clone, Debug)]
pub struct Device {
    /// Its pseudonym.
    pub id: DeviceId,
    /// What the manager calls it.
    pub name: String,
    /// Which kind.
    pub kind: DeviceKind,
    /// Break-glass may be opened from it.
    pub manager: bool,
    /// Since when it is registered.
    pub registered: Timestamp,
    /// Since when it is cut off.
    pub revoked: Option<Timestamp>,
    /// When it was last seen.
    pub seen: Option<Timestamp>,
    /// When its certificate ends.
    pub not_after: Option<Timestamp>,
    /// How its checks stand.
    pub lines: Vec<Line>,
}

/// One registered device with what may be declared of it.
#[derive(Clone, Debug)]
pub struct DeviceDetail {
    /// The device.
    pub device: Device,
    /// Checks that the manager may declare, each with the end of the declaration in force.
    pub declarable: Vec<(Check, Option<Timestamp>)>,
}

/// The daily list.
#[derive(Clone, Debug, Default)]
pub struct Days {
    /// One for each device in use.
    pub today: Vec<Today>,
    /// The last nights, the newest first, each with the devices that were left on.
    pub nights: Vec<Night>,
}

/// One device today.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Today {
    /// Its pseudonym.
    pub id: DeviceId,
    /// What the manager calls it.
    pub name: String,
    /// When it was last seen, today or before.
    pub seen: Option<Timestamp>,
    /// When its newest report came.
    pub reported: Option<Timestamp>,
    /// A program on it has to report.
    pub owes_report: bool,
}

/// A night and the devices left on in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Night {
    /// Midnight, in Japan, of the day on which it began.
    pub evening: Timestamp,
    /// Each with the last thing a person did and when it was last seen.
    pub left_on: Vec<(String, Timestamp, Timestamp)>,
}

/// A pairing's name on the pages; unguessable, and no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PairingId(pub String);

/// A pairing that waits for a manager.
#[derive(Clone, Debug)]
pub struct Waiting {
    /// Its name.
    pub id: PairingId,
    /// What the device was called by whoever sits before it.
    pub name: String,
    /// Which kind.
    pub kind: DeviceKind,
    /// The address it asked from.
    pub peer: IpAddr,
    /// It has a certificate of the city's.
    pub of_city: bool,
    /// When it began.
    pub since: Timestamp,
    /// When it ends by itself.
    pub until: Timestamp,
}

/// A pairing just begun, for the device itself.
pub struct Ticket {
    /// What the device proves itself with when it asks how its pairing stands; goes into a cookie.
    pub token: Entry,
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ticket(..)")
    }
}

/// How a pairing stands, for the device itself.
#[derive(Debug)]
pub enum Pairing {
    /// It waits for a manager.
    Waiting {
        /// Eight digits to be read to the manager.
        code: Entry,
        /// When it ends by itself.
        until: Timestamp,
        /// Which kind.
        kind: DeviceKind,
    },
    /// The certificate can be fetched.
    Approved {
        /// The password of the certificate file, good for this one file.
        password: Entry,
        /// How long it can be fetched.
        until: Timestamp,
        /// Which kind.
        kind: DeviceKind,
    },
    /// A manager has refused it.
    Refused,
    /// It ended by itself, was used up, or never was.
    Gone,
}

/// A PKCS#12 file. Redacted in `Debug`.
pub struct CertificateFile {
    /// Its name, plain ASCII.
    pub name: String,
    /// Its content.
    pub content: Bytes,
    /// Its media type, `application/x-pkcs12` or `application/x-apple-aspen-config`.
    pub media_type: &'static str,
}

impl fmt::Debug for CertificateFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CertificateFile(..)")
    }
}
