//! Reads the city's signed policy: strict, bounded, every fault reported together, no bound ever crossed.
//! Does not verify signatures and does not decide when a policy is put in force.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::devices::{self, DevicesText};
use super::{
    ACCESS_LOG_BOUNDS, ATTACHMENT_BYTES, Downloads, Policy, StoreBounds, TEXT_SECONDS, Window,
};
use crate::{Authority, Check, Effect, Part, Timestamp, Wait, Waiver, WaiverError, bounds, hex};

/// The largest document, in bytes.
pub const POLICY_BYTES: usize = 256 * 1024;
/// The longest time for which one policy may be in force.
const LONGEST: i64 = 400 * 86_400;
const SETTINGS: usize = 512;
const FACILITIES: usize = 4096;
const LISTED: usize = 1024;
const WINDOWS: usize = 14;
const TEXTS: usize = 128;
const TEXT_BYTES: usize = 4096;
const WORD_BYTES: usize = 64;
const MEDIA_TYPES: usize = 64;
const MEDIA_TYPE_BYTES: usize = 128;

/// What a policy is read against.
#[derive(Clone, Copy, Debug)]
pub struct PolicyContext<'a> {
    /// The moment.
    pub now: Timestamp,
    /// The highest version this box has had in force.
    pub floor: VersionFloor,
    /// The id of the facility whose certificate the box holds.
    pub facility: &'a str,
}

/// The highest version of the city's policy that was ever in force here. Only rises; whoever keeps it keeps it where it
/// cannot be set back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct VersionFloor(u64);

impl VersionFloor {
    /// A floor that was kept.
    #[must_use]
    pub const fn kept(version: u64) -> Self {
        Self(version)
    }

    /// The version.
    #[must_use]
    pub const fn version(self) -> u64 {
        self.0
    }

    /// Raised to this policy's version; never lowered.
    #[must_use]
    pub fn raised(self, policy: &Policy) -> Self {
        Self(self.0.max(policy.version))
    }
}

/// Why a policy was not taken over. The one in force stays.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// Larger than any policy.
    #[error("the policy has more than {POLICY_BYTES} bytes")]
    TooLarge,
    /// Not the JSON of a policy.
    #[error("the policy is malformed")]
    Malformed(#[source] serde_json::Error),
    /// It says things that cannot be; all of them.
    #[error("{} faults in the policy", .0.len())]
    Faulty(Vec<PolicyFault>),
}

/// One thing that is wrong with a policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyFault {
    /// Older than one that was in force.
    #[error("version {version} is below {floor}, which was in force")]
    Rollback {
        /// Its version.
        version: u64,
        /// The floor.
        floor: u64,
    },
    /// Versions begin at 1.
    #[error("version 0 is the built-in policy")]
    VersionZero,
    /// It is not in force yet.
    #[error("it is in force from {0:?} only")]
    NotYet(Timestamp),
    /// It has come to its end.
    #[error("it has expired at {0:?}")]
    Expired(Timestamp),
    /// It ends before it begins, or lasts longer than 400 days.
    #[error("its time is none, or too long")]
    Lifetime,
    /// It is for others.
    #[error("it is not for this facility")]
    NotForThisFacility,
    /// A list or text has too many entries, or is too long.
    #[error("{0} is too long")]
    TooLong(&'static str),
    /// There is no such check.
    #[error("set[{0}] names no check")]
    NoSuchCheck(usize),
    /// There is no such parameter, or the check has no such rung.
    #[error("set[{0}] names no parameter of {check}", check = .1.id())]
    NoSuchParameter(usize, Check),
    /// The same is set twice.
    #[error("set[{0}] sets {check} again", check = .1.id())]
    Twice(usize, Check),
    /// A value crosses a compiled-in bound.
    #[error("set[{place}] of {id} must lie between {least} and {most}", id = .check.id())]
    OutOfBounds {
        /// Which entry.
        place: usize,
        /// Which check.
        check: Check,
        /// The least value.
        least: i64,
        /// The greatest value.
        most: i64,
    },
    /// A milder effect would set in after a harder one.
    #[error("the waits of {check} {part} are out of order", check = .0.id(), part = .1.id())]
    OutOfOrder(Check, Part),
    /// An exception that may not be made.
    #[error("waivers[{0}]: {1}")]
    Waiver(usize, WaiverError),
    /// A number lies outside its bounds.
    #[error("{0} is out of bounds")]
    Bound(&'static str),
    /// Not a SHA-256 in lower-case hexadecimal.
    #[error("downloads.listed[{0}] is no SHA-256")]
    Digest(usize),
    /// Not a weekly window.
    #[error("windows[{0}] is no window")]
    Window(usize),
    /// Not the version of a release of that platform.
    #[error("devices.systems[{0}] is no version of a release")]
    System(usize),
    /// The same release is named twice.
    #[error("devices.systems[{0}] names a release again")]
    SystemTwice(usize),
    /// Not a media type.
    #[error("store.attachment_types[{0}] is no media type")]
    MediaType(usize),
    /// Not the name of a program.
    #[error("{0}[{1}] is no name of a program")]
    Program(&'static str, usize),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    version: u64,
    not_before: Timestamp,
    expires: Timestamp,
    /// Ids of facilities; `"*"` is all of them.
    facilities: Vec<String>,
    #[serde(default)]
    set: Vec<Setting>,
    #[serde(default)]
    waivers: Vec<Exception>,
    #[serde(default)]
    store: Store,
    #[serde(default)]
    downloads: Files,
    #[serde(default)]
    windows: Vec<WindowText>,
    #[serde(default)]
    devices: DevicesText,
    #[serde(default)]
    terms_version: Option<String>,
    #[serde(default)]
    texts: BTreeMap<String, String>,
    #[serde(default)]
    phone: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Setting {
    check: String,
    /// `<part>.<effect>`, for example `dated.block`.
    parameter: String,
    /// Seconds; days where the built-in wait is in business days.
    value: i64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Exception {
    check: String,
    until: Timestamp,
    reason: String,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Store {
    days: Option<u32>,
    bytes: Option<u64>,
    offline_hours: Option<u32>,
    attachments: Option<bool>,
    access_log_days: Option<u32>,
    notes: Option<u64>,
    attachment_bytes: Option<u64>,
    attachment_days: Option<u32>,
    attachment_types: Option<Vec<String>>,
    offline_sessions: Option<bool>,
    offline_pin: Option<bool>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Files {
    executables: bool,
    scripts: bool,
    macros: bool,
    listed: Vec<String>,
    text_seconds: Option<i64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WindowText {
    days: Vec<String>,
    from: String,
    to: String,
}

impl Policy {
    /// Reads a policy whose signature has been verified.
    ///
    /// Absent or refused, the policy in force stays; expired, the built-in one takes its place. None of this ever means
    /// that something is allowed.
    ///
    /// # Errors
    /// [`PolicyError`]; with faults, all of them.
    pub fn parse(bytes: &[u8], context: &PolicyContext<'_>) -> Result<Self, PolicyError> {
        if bytes.len() > POLICY_BYTES {
            return Err(PolicyError::TooLarge);
        }
        let mut document: Document =
            serde_json::from_slice(bytes).map_err(PolicyError::Malformed)?;
        let mut reading = Reading {
            policy: Self::built_in(),
            faults: Vec::new(),
        };
        reading.validity(&document, context);
        reading.settings(&document.set);
        reading.waivers(&document.waivers, context.now);
        reading.store(&document.store);
        reading.downloads(&document.downloads);
        reading.windows(&document.windows);
        let lists = std::mem::take(&mut document.devices);
        reading.policy.devices = devices::read(lists, &mut reading.faults);
        reading.texts(document);
        if reading.faults.is_empty() {
            Ok(reading.policy)
        } else {
            Err(PolicyError::Faulty(reading.faults))
        }
    }
}

struct Reading {
    policy: Policy,
    faults: Vec<PolicyFault>,
}

impl Reading {
    fn require(&mut self, holds: bool, otherwise: PolicyFault) {
        if !holds {
            self.faults.push(otherwise);
        }
    }

    fn validity(&mut self, document: &Document, context: &PolicyContext<'_>) {
        let Document {
            version,
            not_before,
            expires,
            ..
        } = *document;
        let floor = context.floor.version();
        self.require(version > 0, PolicyFault::VersionZero);
        self.require(version >= floor, PolicyFault::Rollback { version, floor });
        self.require(not_before <= context.now, PolicyFault::NotYet(not_before));
        self.require(context.now < expires, PolicyFault::Expired(expires));
        let lasts = not_before.age(expires);
        self.require((1..=LONGEST).contains(&lasts), PolicyFault::Lifetime);
        let named = |id: &String| id == "*" || id == context.facility;
        self.require(
            document.facilities.iter().any(named),
            PolicyFault::NotForThisFacility,
        );
        self.require(
            document.facilities.len() <= FACILITIES,
            PolicyFault::TooLong("facilities"),
        );
        self.policy.version = version;
        self.policy.expires = Some(expires);
    }

    fn settings(&mut self, settings: &[Setting]) {
        self.require(settings.len() <= SETTINGS, PolicyFault::TooLong("set"));
        let mut seen = BTreeSet::new();
        for (place, setting) in settings.iter().enumerate().take(SETTINGS) {
            match rung(place, setting) {
                Ok((check, part, effect)) => {
                    let first = seen.insert((check, part.id(), effect));
                    self.require(first, PolicyFault::Twice(place, check));
                    self.set_rung(check, part, effect, setting.value);
                }
                Err(fault) => self.faults.push(fault),
            }
        }
        for check in Check::ALL {
            for part in Part::ALL {
                let deadlines = self.policy.thresholds(check).part(part).from(Timestamp(0));
                let [warn, restrict, block] =
                    [Effect::Warn, Effect::Restrict, Effect::Block].map(|e| deadlines.at(e));
                self.require(
                    warn <= restrict && restrict <= block,
                    PolicyFault::OutOfOrder(check, part),
                );
            }
        }
    }

    fn set_rung(&mut self, check: Check, part: Part, effect: Effect, value: i64) {
        let ladder = self.policy.thresholds[check as usize].part_mut(part);
        let wait = match effect {
            Effect::Warn => &mut ladder.warn,
            Effect::Restrict => &mut ladder.restrict,
            Effect::Allow | Effect::Block => &mut ladder.block,
        };
        *wait = match *wait {
            Wait::BusinessDays(_) => Wait::BusinessDays(u8::try_from(value).unwrap_or(0)),
            Wait::Seconds(_) | Wait::Never => Wait::Seconds(value),
        };
    }

    fn waivers(&mut self, waivers: &[Exception], now: Timestamp) {
        self.require(
            waivers.len() <= Check::ALL.len(),
            PolicyFault::TooLong("waivers"),
        );
        for (place, exception) in waivers.iter().enumerate().take(Check::ALL.len()) {
            let Some(check) = Check::parse(&exception.check) else {
                self.faults
                    .push(PolicyFault::Waiver(place, WaiverError::NoSubject));
                continue;
            };
            let waiver = Waiver {
                by: Authority::City,
                until: exception.until,
                reason: exception.reason.clone(),
            };
            match waiver.permitted(check, now) {
                Ok(()) => self.policy.waivers.push((check, waiver)),
                Err(error) => self.faults.push(PolicyFault::Waiver(place, error)),
            }
        }
    }

    fn store(&mut self, store: &Store) {
        let within = |value: Option<u64>, most: u64| value.is_none_or(|value| value <= most);
        let days = within(store.days.map(u64::from), 90);
        self.require(days, PolicyFault::Bound("store.days"));
        let bytes = within(store.bytes, 16 << 30);
        self.require(bytes, PolicyFault::Bound("store.bytes"));
        let hours = within(store.offline_hours.map(u64::from), 30 * 24);
        self.require(hours, PolicyFault::Bound("store.offline_hours"));
        let notes = within(store.notes, 1_000_000);
        self.require(notes, PolicyFault::Bound("store.notes"));
        let largest = within(store.attachment_bytes, ATTACHMENT_BYTES);
        self.require(largest, PolicyFault::Bound("store.attachment_bytes"));
        let age = within(store.attachment_days.map(u64::from), 90);
        self.require(age, PolicyFault::Bound("store.attachment_days"));
        let types = store.attachment_types.as_deref().unwrap_or_default();
        let few = types.len() <= MEDIA_TYPES;
        self.require(few, PolicyFault::TooLong("store.attachment_types"));
        for (place, text) in types.iter().enumerate().take(MEDIA_TYPES) {
            self.require(is_media_type(text), PolicyFault::MediaType(place));
        }
        let kept = store
            .access_log_days
            .is_none_or(|days| ACCESS_LOG_BOUNDS.contains(&days));
        self.require(kept, PolicyFault::Bound("store.access_log_days"));
        self.policy.store = StoreBounds {
            notes: store.notes,
            attachment_bytes: store.attachment_bytes,
            attachment_days: store.attachment_days,
            attachment_types: store.attachment_types.clone(),
            days: store.days,
            bytes: store.bytes,
            offline_hours: store.offline_hours,
            attachments: store.attachments,
            access_log_days: store.access_log_days,
            offline_sessions: store.offline_sessions,
            offline_pin: store.offline_pin,
        };
    }

    fn downloads(&mut self, files: &Files) {
        let text_seconds = files.text_seconds.unwrap_or(TEXT_SECONDS);
        self.require(
            (0..=TEXT_SECONDS).contains(&text_seconds),
            PolicyFault::Bound("downloads.text_seconds"),
        );
        self.require(
            files.listed.len() <= LISTED,
            PolicyFault::TooLong("downloads.listed"),
        );
        let mut listed = Vec::new();
        for (place, text) in files.listed.iter().enumerate().take(LISTED) {
            match hex::decode(text) {
                Some(digest) => listed.push(digest),
                None => self.faults.push(PolicyFault::Digest(place)),
            }
        }
        listed.sort_unstable();
        self.policy.downloads = Downloads {
            executables: files.executables,
            scripts: files.scripts,
            macros: files.macros,
            listed,
            text_seconds,
        };
    }

    fn windows(&mut self, windows: &[WindowText]) {
        self.require(windows.len() <= WINDOWS, PolicyFault::TooLong("windows"));
        for (place, text) in windows.iter().enumerate().take(WINDOWS) {
            match window(text) {
                Some(window) => self.policy.windows.push(window),
                None => self.faults.push(PolicyFault::Window(place)),
            }
        }
    }

    fn texts(&mut self, document: Document) {
        let short = |text: &String| text.len() <= WORD_BYTES;
        let words = document.terms_version.iter().chain(&document.phone);
        let all_short = words.chain(document.texts.keys()).all(short);
        self.require(all_short, PolicyFault::TooLong("a word"));
        let fits = document.texts.len() <= TEXTS
            && document.texts.values().all(|text| text.len() <= TEXT_BYTES);
        self.require(fits, PolicyFault::TooLong("texts"));
        self.policy.terms_version = document.terms_version;
        self.policy.phone = document.phone;
        self.policy.texts = document.texts;
    }
}

fn rung(place: usize, setting: &Setting) -> Result<(Check, Part, Effect), PolicyFault> {
    let check = Check::parse(&setting.check).ok_or(PolicyFault::NoSuchCheck(place))?;
    let none = PolicyFault::NoSuchParameter(place, check);
    let Some((part, effect)) = setting.parameter.split_once('.') else {
        return Err(none);
    };
    let part = Part::ALL.into_iter().find(|known| known.id() == part);
    let effect = [Effect::Warn, Effect::Restrict, Effect::Block]
        .into_iter()
        .find(|known| known.id() == effect);
    let (Some(part), Some(effect)) = (part, effect) else {
        return Err(none);
    };
    let Some((least, most)) = bounds(check, part, effect) else {
        return Err(none);
    };
    if (least..=most).contains(&setting.value) {
        Ok((check, part, effect))
    } else {
        Err(PolicyFault::OutOfBounds {
            place,
            check,
            least,
            most,
        })
    }
}

fn window(text: &WindowText) -> Option<Window> {
    const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
    let mut days = [false; 7];
    for day in &text.days {
        let place = DAYS.iter().position(|known| known == day)?;
        days[place] = true;
    }
    days.contains(&true).then_some(Window {
        days,
        from: minute(&text.from)?,
        to: minute(&text.to)?,
    })
}

/// `type/subtype` or `type/*` of RFC 9110 tokens (section 8.3.1), without parameters.
fn is_media_type(text: &str) -> bool {
    let token = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"!#$&^_.+-".contains(&byte))
    };
    text.len() <= MEDIA_TYPE_BYTES
        && text
            .split_once('/')
            .is_some_and(|(main, sub)| token(main) && (sub == "*" || token(sub)))
}

/// `HH:MM` as the minute of the day.
fn minute(text: &str) -> Option<u16> {
    let (hour, minute) = text.split_once(':')?;
    let number = |digits: &str| {
        let plain = digits.len() == 2 && digits.bytes().all(|byte| byte.is_ascii_digit());
        plain.then(|| digits.parse::<u16>().ok()).flatten()
    };
    let (hour, minute) = (number(hour)?, number(minute)?);
    (hour < 24 && minute < 60).then_some(hour * 60 + minute)
}
