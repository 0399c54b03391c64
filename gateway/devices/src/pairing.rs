//! Pairing: an unknown device asks, shows eight digits, and a manager who reads them off its screen lets it in (第29条).
//!
//! Requests live in memory, few and for ten minutes. The code travels from a screen to a person and is no credential of the
//! device; what binds the device to its request is a secret that only it was given.

use std::fmt;
use std::net::IpAddr;

use gateway_policy::{DeviceId, Timestamp};
use rustls::pki_types::CertificateDer;
use zeroize::Zeroizing;

use crate::certificate_request::CertificateRequest;
use crate::register::Registered;
use crate::secret::{Hasher, Tag, code, equal, token};
use crate::{Bundle, Error, Kind, Name};

/// How long a request waits, and how long its certificate waits after that, in seconds.
pub(crate) const LIFE: i64 = 600;

/// Requests open at one time.
const MOST_OPEN: usize = 20;

/// Requests that one address may open within ten minutes.
const MOST_OF_ONE_ADDRESS: usize = 5;

/// Wrong codes within ten minutes, by all managers together, before none is looked at any more. With 20 requests open, ten
/// tries hit one of them with a chance of two in a million.
const MOST_WRONG_CODES: usize = 10;

/// What a device asks with.
#[derive(Debug)]
pub struct Asking {
    /// What the person in front of it calls it.
    pub name: Name,
    /// Which kind.
    pub kind: Kind,
    /// With its own key: the request for a certificate.
    pub request: Option<CertificateRequest>,
    /// With a certificate that the city issued, already checked.
    pub(crate) of_city: Option<Registered>,
    /// What it says of its hardware, hashed.
    pub(crate) hardware: Option<Tag>,
    /// It showed a certificate of this device.
    pub(crate) same_as: Option<DeviceId>,
    /// Where it asks from.
    pub peer: IpAddr,
}

/// A request just opened, for the device.
pub struct Ticket {
    /// What the device proves itself with; goes into a cookie or a script's memory.
    pub token: Zeroizing<String>,
    /// What its screen shows.
    pub code: Zeroizing<String>,
    /// When it ends by itself.
    pub until: Timestamp,
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ticket(..)")
    }
}

/// A request as a manager sees it.
#[derive(Clone, Debug)]
pub struct Waiting {
    /// Names it on the pages; no secret.
    pub id: String,
    /// What the device was called.
    pub name: Name,
    /// Which kind.
    pub kind: Kind,
    /// The address it asked from.
    pub peer: IpAddr,
    /// When it began.
    pub since: Timestamp,
    /// When it ends by itself.
    pub until: Timestamp,
    /// It came with a certificate that the city issued.
    pub of_city: bool,
}

/// How a request stands, for the device.
pub enum PairingState {
    /// It waits for a manager.
    Waiting {
        /// What its screen shows.
        code: Zeroizing<String>,
        /// When it ends by itself.
        until: Timestamp,
        /// Which kind.
        kind: Kind,
    },
    /// What it asked for can be fetched.
    Approved {
        /// The password of its certificate file, if it gets one.
        password: Option<Zeroizing<String>>,
        /// How long.
        until: Timestamp,
        /// Which kind.
        kind: Kind,
    },
    /// A manager refused it.
    Refused,
    /// It ended, or never was.
    Gone,
}

impl fmt::Debug for PairingState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Waiting { .. } => "Waiting",
            Self::Approved { .. } => "Approved",
            Self::Refused => "Refused",
            Self::Gone => "Gone",
        })
    }
}

/// What an approved device gets. Made once; fetched again it is the same.
#[derive(Clone)]
pub(crate) enum Collected {
    Chain(Vec<CertificateDer<'static>>),
    Bundle(Bundle),
    /// It has its certificate from the city.
    Nothing,
}

pub(crate) enum State {
    Waiting,
    Approved {
        device: DeviceId,
        password: Option<Zeroizing<String>>,
        collected: Option<Collected>,
    },
    Refused,
}

/// A request and what has become of it.
pub(crate) struct Open {
    id: String,
    token: Tag,
    code: Zeroizing<String>,
    code_tag: Tag,
    pub(crate) asking: Asking,
    since: Timestamp,
    until: Timestamp,
    pub(crate) state: State,
}

/// All requests.
pub(crate) struct Pairings {
    hasher: Hasher,
    open: Vec<Open>,
    opened: Vec<(IpAddr, Timestamp)>,
    wrong: Vec<Timestamp>,
}

impl Pairings {
    pub(crate) fn new() -> Result<Self, Error> {
        Ok(Self {
            hasher: Hasher::ephemeral()?,
            open: Vec::new(),
            opened: Vec::new(),
            wrong: Vec::new(),
        })
    }

    /// Opens a request; `None` when there are too many already, from this address or in all.
    pub(crate) fn start(
        &mut self,
        asking: Asking,
        now: Timestamp,
    ) -> Result<Option<Ticket>, Error> {
        self.forget_what_ended(now);
        let of_address = self
            .opened
            .iter()
            .filter(|(peer, _)| *peer == asking.peer)
            .count();
        if self.open.len() >= MOST_OPEN || of_address >= MOST_OF_ONE_ADDRESS {
            return Ok(None);
        }
        // Two equal codes would leave it open which of two devices the manager meant.
        let code = loop {
            let code = code()?;
            if self.open.iter().all(|open| open.code != code) {
                break code;
            }
        };
        let token = token::<32>()?;
        let until = now.plus(LIFE);
        self.opened.push((asking.peer, now));
        self.open.push(Open {
            id: token_id()?,
            token: self.hasher.tag("token", token.as_bytes()),
            code_tag: self.hasher.tag("code", code.as_bytes()),
            code: code.clone(),
            asking,
            since: now,
            until,
            state: State::Waiting,
        });
        Ok(Some(Ticket { token, code, until }))
    }

    /// What waits for a manager, the oldest first.
    pub(crate) fn waiting(&mut self, now: Timestamp) -> Vec<Waiting> {
        self.forget_what_ended(now);
        let waiting = self
            .open
            .iter()
            .filter(|open| matches!(open.state, State::Waiting));
        waiting.map(Open::waiting).collect()
    }

    /// The request of which a manager typed the code. Wrong ones are counted.
    pub(crate) fn with_code(&mut self, typed: &str, now: Timestamp) -> Result<Waiting, Error> {
        self.forget_what_ended(now);
        if self.wrong.len() >= MOST_WRONG_CODES {
            return Err(Error::TooManyWrongCodes);
        }
        let digits: Zeroizing<String> = Zeroizing::new(typed.chars().filter_map(digit).collect());
        let typed = self.hasher.tag("code", digits.as_bytes());
        // All are compared, each in constant time.
        let mut found = None;
        for open in &self.open {
            if equal(&open.code_tag, &typed) && matches!(open.state, State::Waiting) {
                found = Some(open.waiting());
            }
        }
        found.ok_or_else(|| {
            self.wrong.push(now);
            Error::NoSuchPairing
        })
    }

    /// The request with this name while it waits for a manager.
    pub(crate) fn waiting_for_manager(
        &mut self,
        id: &str,
        now: Timestamp,
    ) -> Result<&mut Open, Error> {
        self.forget_what_ended(now);
        self.open
            .iter_mut()
            .find(|open| open.id == id && matches!(open.state, State::Waiting))
            .ok_or(Error::NoSuchPairing)
    }

    /// The request of the device with this secret.
    pub(crate) fn of(&mut self, token: &str, now: Timestamp) -> Option<&mut Open> {
        self.forget_what_ended(now);
        let token = self.hasher.tag("token", token.as_bytes());
        self.open.iter_mut().find(|open| equal(&open.token, &token))
    }

    pub(crate) fn state(&mut self, token: &str, now: Timestamp) -> PairingState {
        match self.of(token, now) {
            None => PairingState::Gone,
            Some(open) => open.shown(),
        }
    }

    /// Forgets a request that is done with.
    pub(crate) fn end(&mut self, token: &str) {
        let token = self.hasher.tag("token", token.as_bytes());
        self.open.retain(|open| !equal(&open.token, &token));
    }

    fn forget_what_ended(&mut self, now: Timestamp) {
        // A clock set back makes a request end too: a time from the future is not believed.
        let young = |since: Timestamp| (0..LIFE).contains(&since.age(now));
        self.open
            .retain(|open| open.until > now && open.since.age(now) >= 0);
        self.opened.retain(|(_, since)| young(*since));
        self.wrong.retain(|since| young(*since));
    }
}

impl Open {
    fn waiting(&self) -> Waiting {
        Waiting {
            id: self.id.clone(),
            name: self.asking.name.clone(),
            kind: self.asking.kind,
            peer: self.asking.peer,
            since: self.since,
            until: self.until,
            of_city: self.asking.of_city.is_some(),
        }
    }

    fn shown(&self) -> PairingState {
        let (until, kind) = (self.until, self.asking.kind);
        match &self.state {
            State::Waiting => PairingState::Waiting {
                code: self.code.clone(),
                until,
                kind,
            },
            State::Approved { password, .. } => PairingState::Approved {
                password: password.clone(),
                until,
                kind,
            },
            State::Refused => PairingState::Refused,
        }
    }

    /// Lets the device in as `device`; it has ten minutes more to fetch what it asked for.
    pub(crate) fn approve(
        &mut self,
        device: DeviceId,
        password: Option<Zeroizing<String>>,
        now: Timestamp,
    ) {
        self.until = now.plus(LIFE);
        self.state = State::Approved {
            device,
            password,
            collected: None,
        };
    }
}

fn token_id() -> Result<String, Error> {
    token::<8>().map(|id| id.to_string())
}

/// A digit as people type it, full-width ones included; separators are skipped.
fn digit(letter: char) -> Option<char> {
    match letter {
        '0'..='9' => Some(letter),
        '０'..='９' => char::from_digit(u32::from(letter) - u32::from('０'), 10),
        ' ' | '-' | '\u{3000}' | '－' | 'ー' => None,
        // Anything else makes the code a wrong one.
        _ => Some('x'),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_800_000_000);

    fn asking(address: u8) -> Asking {
        Asking {
            name: Name::parse("事務室1").unwrap(),
            kind: Kind::Windows,
            request: None,
            of_city: None,
            hardware: None,
            same_as: None,
            peer: IpAddr::from([192, 0, 2, address]),
        }
    }

    fn start(pairings: &mut Pairings, address: u8, now: Timestamp) -> Option<Ticket> {
        pairings.start(asking(address), now).unwrap()
    }

    #[test]
    fn a_code_finds_its_request_however_it_is_typed() {
        let mut pairings = Pairings::new().unwrap();
        let ticket = start(&mut pairings, 1, NOW).unwrap();
        let code = ticket.code.to_string();
        let (front, back) = code.split_at(4);
        let wide: String = code
            .chars()
            .map(|digit| char::from_u32(u32::from('０') + digit.to_digit(10).unwrap()).unwrap())
            .collect();
        for typed in [
            code.clone(),
            format!("{front} {back}"),
            format!(" {front}-{back} "),
            wide,
        ] {
            assert!(pairings.with_code(&typed, NOW).is_ok(), "{typed}");
        }
        for typed in [
            front.to_owned(),
            format!("{code}0"),
            format!("{code}x"),
            String::new(),
        ] {
            assert!(pairings.with_code(&typed, NOW).is_err(), "{typed}");
        }
    }

    #[test]
    fn an_expired_request_is_gone_for_everybody() {
        let mut pairings = Pairings::new().unwrap();
        let ticket = start(&mut pairings, 1, NOW).unwrap();
        let last = NOW.plus(LIFE - 1);
        assert!(pairings.with_code(&ticket.code, last).is_ok());
        let over = NOW.plus(LIFE);
        assert!(pairings.with_code(&ticket.code, over).is_err());
        assert!(matches!(
            pairings.state(&ticket.token, over),
            PairingState::Gone
        ));
    }

    #[test]
    fn after_ten_wrong_codes_a_right_one_is_not_looked_at() {
        let mut pairings = Pairings::new().unwrap();
        let ticket = start(&mut pairings, 1, NOW).unwrap();
        for _ in 0..MOST_WRONG_CODES {
            assert!(matches!(
                pairings.with_code("1", NOW),
                Err(Error::NoSuchPairing)
            ));
        }
        assert!(matches!(
            pairings.with_code(&ticket.code, NOW),
            Err(Error::TooManyWrongCodes)
        ));
        let later = NOW.plus(LIFE);
        let ticket = start(&mut pairings, 1, later).unwrap();
        assert!(pairings.with_code(&ticket.code, later).is_ok());
    }

    #[test]
    fn one_address_and_all_together_can_open_only_so_many() {
        let mut pairings = Pairings::new().unwrap();
        for _ in 0..MOST_OF_ONE_ADDRESS {
            assert!(start(&mut pairings, 1, NOW).is_some());
        }
        assert!(start(&mut pairings, 1, NOW).is_none());
        for address in 2..=16 {
            assert!(start(&mut pairings, address, NOW).is_some());
        }
        assert!(start(&mut pairings, 17, NOW).is_none());
        assert!(start(&mut pairings, 17, NOW.plus(LIFE)).is_some());
    }

    #[test]
    fn only_the_secret_and_not_the_code_tells_how_a_request_stands() {
        let mut pairings = Pairings::new().unwrap();
        let ticket = start(&mut pairings, 1, NOW).unwrap();
        assert!(matches!(
            pairings.state(&ticket.token, NOW),
            PairingState::Waiting { .. }
        ));
        for wrong in [ticket.code.as_str(), "", &ticket.token[1..]] {
            assert!(matches!(pairings.state(wrong, NOW), PairingState::Gone));
        }
        let shown = format!("{ticket:?} {:?}", pairings.waiting(NOW));
        assert!(!shown.contains(ticket.code.as_str()) && !shown.contains("事務室"));
    }

    #[test]
    fn a_request_that_was_decided_cannot_be_decided_again() {
        let mut pairings = Pairings::new().unwrap();
        let ticket = start(&mut pairings, 1, NOW).unwrap();
        let id = pairings.with_code(&ticket.code, NOW).unwrap().id;
        let open = pairings.waiting_for_manager(&id, NOW).unwrap();
        open.state = State::Refused;
        assert!(pairings.waiting_for_manager(&id, NOW).is_err());
        assert!(pairings.with_code(&ticket.code, NOW).is_err());
        assert!(matches!(
            pairings.state(&ticket.token, NOW),
            PairingState::Refused
        ));
    }
}
