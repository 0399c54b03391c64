//! Who reads on this origin: sessions, and the one-time codes that open them.
//!
//! In memory only, bounded, and under keyed hashes, so that a look into memory does not give a usable cookie. It does not
//! ask whether the user may read anything; that is the store's, at each read.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use aws_lc_rs::{hmac, rand};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use gateway_policy::{DeviceId, Timestamp};

use crate::{SessionId, Staff};

/// The operating system gives no randomness.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no randomness can be had")]
pub struct NoRandomness;

/// How long a one-time code is good for, in seconds: a redirect, not a person, carries it.
const CODE_LIFE: i64 = 60;
/// More than a facility has people and devices; whatever ends first makes room.
const MOST: usize = 1024;

type Tag = [u8; 32];

/// How a session came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The city has signed the user in.
    City,
    /// By an offline PIN, on this device and for this device.
    Pin(DeviceId),
}

pub(crate) struct Sessions {
    key: hmac::Key,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    codes: HashMap<Tag, (Staff, Timestamp)>,
    sessions: HashMap<Tag, (Staff, Origin)>,
}

impl Sessions {
    pub(crate) fn new() -> Result<Self, NoRandomness> {
        let mut key = [0; 32];
        rand::fill(&mut key).map_err(|_| NoRandomness)?;
        Ok(Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, &key),
            inner: Mutex::default(),
        })
    }

    /// A code that opens a session for this staff member once.
    pub(crate) fn issue(&self, staff: Staff, now: Timestamp) -> Result<String, NoRandomness> {
        let (code, tag) = self.token()?;
        let mut inner = self.inner();
        inner.codes.retain(|_, (_, ends)| *ends > now);
        make_room(&mut inner.codes, |(_, ends)| *ends);
        inner.codes.insert(tag, (staff, now.plus(CODE_LIFE)));
        Ok(code)
    }

    /// Spends a code, good or not, for a session: its cookie's value. `None` when the code is wrong, used or too old,
    /// or the staff member's session at the city has ended meanwhile.
    pub(crate) fn redeem(
        &self,
        code: &str,
        now: Timestamp,
    ) -> Result<Option<String>, NoRandomness> {
        let code = self.tag(code);
        let Some((staff, ends)) = self.inner().codes.remove(&code) else {
            return Ok(None);
        };
        if ends <= now || staff.until <= now {
            return Ok(None);
        }
        self.open(staff, Origin::City, now).map(Some)
    }

    /// Opens a session: its cookie's value.
    pub(crate) fn open(
        &self,
        staff: Staff,
        origin: Origin,
        now: Timestamp,
    ) -> Result<String, NoRandomness> {
        let (token, tag) = self.token()?;
        let mut inner = self.inner();
        inner.sessions.retain(|_, (staff, _)| staff.until > now);
        make_room(&mut inner.sessions, |(staff, _)| staff.until);
        inner.sessions.insert(tag, (staff, origin));
        Ok(token)
    }

    pub(crate) fn find(&self, token: &str, now: Timestamp) -> Option<(Staff, Origin)> {
        let tag = self.tag(token);
        let inner = self.inner();
        inner
            .sessions
            .get(&tag)
            .filter(|(staff, _)| staff.until > now)
            .cloned()
    }

    /// What a session is called where its cookie must not be known.
    pub(crate) fn id(&self, token: &str) -> SessionId {
        let [a, b, c, d, e, f, g, h, ..] = self.tag(token);
        SessionId([a, b, c, d, e, f, g, h])
    }

    pub(crate) fn end(&self, token: &str) {
        let tag = self.tag(token);
        self.inner().sessions.remove(&tag);
    }

    /// Ends every session of a user and spends their codes.
    pub(crate) fn forget(&self, user: &str) {
        let mut inner = self.inner();
        inner.sessions.retain(|_, (staff, _)| staff.user != user);
        inner.codes.retain(|_, (staff, _)| staff.user != user);
    }

    /// 32 random bytes as text, and what is kept of them.
    fn token(&self) -> Result<(String, Tag), NoRandomness> {
        let mut bytes = [0; 32];
        rand::fill(&mut bytes).map_err(|_| NoRandomness)?;
        let token = URL_SAFE_NO_PAD.encode(bytes);
        let tag = self.tag(&token);
        Ok((token, tag))
    }

    fn tag(&self, token: &str) -> Tag {
        let mut tag = [0; 32];
        tag.copy_from_slice(hmac::sign(&self.key, token.as_bytes()).as_ref());
        tag
    }

    fn inner(&self) -> std::sync::MutexGuard<'_, Inner> {
        // Each change is a single insertion or removal, so a panic elsewhere leaves nothing half done.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Drops what ends first when there is no room for one more.
fn make_room<V>(map: &mut HashMap<Tag, V>, ends: impl Fn(&V) -> Timestamp) {
    if map.len() < MOST {
        return;
    }
    let first = map
        .iter()
        .min_by_key(|(_, value)| ends(value))
        .map(|(tag, _)| *tag);
    if let Some(tag) = first {
        map.remove(&tag);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gateway_notes::Role;

    const NOW: Timestamp = Timestamp(1_800_000_000);

    fn staff(user: &str) -> Staff {
        Staff {
            user: user.into(),
            role: Role::Staff,
            until: NOW.plus(3600),
        }
    }

    #[test]
    fn a_code_opens_one_session_once() {
        let sessions = Sessions::new().unwrap();
        let code = sessions.issue(staff("s"), NOW).unwrap();
        let token = sessions.redeem(&code, NOW).unwrap().unwrap();
        assert_ne!(token, code);
        assert_eq!(sessions.find(&token, NOW), Some((staff("s"), Origin::City)));
        assert_eq!(sessions.redeem(&code, NOW), Ok(None));
        assert_eq!(sessions.find(&code, NOW), None);
        assert_eq!(sessions.redeem("made up", NOW), Ok(None));
    }

    #[test]
    fn a_code_is_too_old_after_a_minute() {
        let sessions = Sessions::new().unwrap();
        let code = sessions.issue(staff("s"), NOW).unwrap();
        assert_eq!(sessions.redeem(&code, NOW.plus(60)), Ok(None));
        // And spent by trying.
        assert_eq!(sessions.redeem(&code, NOW), Ok(None));
    }

    #[test]
    fn a_session_ends_with_the_one_at_the_city() {
        let sessions = Sessions::new().unwrap();
        let code = sessions.issue(staff("s"), NOW).unwrap();
        let token = sessions.redeem(&code, NOW.plus(59)).unwrap().unwrap();
        assert!(sessions.find(&token, NOW.plus(3599)).is_some());
        assert!(sessions.find(&token, NOW.plus(3600)).is_none());

        let ended = Staff {
            until: NOW.plus(10),
            ..staff("s")
        };
        let code = sessions.issue(ended, NOW).unwrap();
        assert_eq!(sessions.redeem(&code, NOW.plus(10)), Ok(None));
    }

    #[test]
    fn a_forgotten_user_has_neither_session_nor_code() {
        let sessions = Sessions::new().unwrap();
        let open = |user| {
            let code = sessions.issue(staff(user), NOW).unwrap();
            sessions.redeem(&code, NOW).unwrap().unwrap()
        };
        let (one, other) = (open("s"), open("t"));
        let code = sessions.issue(staff("s"), NOW).unwrap();
        sessions.forget("s");
        assert_eq!(sessions.find(&one, NOW), None);
        assert_eq!(sessions.redeem(&code, NOW), Ok(None));
        assert!(sessions.find(&other, NOW).is_some());
        sessions.end(&other);
        assert_eq!(sessions.find(&other, NOW), None);
    }

    #[test]
    fn codes_and_sessions_are_bounded() {
        let sessions = Sessions::new().unwrap();
        for n in 0..3000 {
            let code = sessions.issue(staff(&n.to_string()), NOW).unwrap();
            if n % 2 == 0 {
                sessions.redeem(&code, NOW).unwrap().unwrap();
            }
        }
        let inner = sessions.inner();
        assert!(inner.codes.len() <= MOST && inner.sessions.len() <= MOST);
    }
}
