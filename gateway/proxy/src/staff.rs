//! Remembers which session cookie belongs to which staff member, as told by the city.
//! Never keeps a cookie or a password: only a keyed hash, and only in memory.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Mutex, OnceLock, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
};

use aws_lc_rs::{hmac, rand::SystemRandom};
use gateway_city::wire::{RenrakuStaff, Role};
use gateway_policy::Timestamp;
use http::{HeaderMap, HeaderValue, header};

use crate::StartError;

/// A session as the city last confirmed it.
#[derive(Clone, PartialEq, Eq)]
pub struct StaffSession {
    /// The user's id at the city.
    pub user: String,
    /// What the user may do at the facility.
    pub role: Role,
    /// The session's end.
    pub until: Timestamp,
}

impl fmt::Debug for StaffSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StaffSession")
            .field("role", &self.role)
            .finish_non_exhaustive()
    }
}

type Tag = [u8; 32];

/// All sessions the box knows of.
pub struct StaffSessions {
    key: hmac::Key,
    sessions: Mutex<HashMap<Tag, StaffSession>>,
    /// Names of cookies that ever carried a session; all others are not even hashed.
    names: RwLock<Vec<String>>,
    any: AtomicBool,
    signed_in: OnceLock<TellOfSignIn>,
}

/// Told the user's id whenever the city has just signed somebody in. Called on a data thread: must not wait.
pub(crate) type TellOfSignIn = Box<dyn Fn(&str) + Send + Sync>;

impl fmt::Debug for StaffSessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StaffSessions").finish_non_exhaustive()
    }
}

impl StaffSessions {
    /// More than a facility has staff and devices; the session that ends first makes room.
    const MOST: usize = 4096;
    const MOST_NAMES: usize = 8;

    /// An empty memory with a fresh key.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn new() -> Result<Self, StartError> {
        Ok(Self {
            key: hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new())
                .map_err(|_| StartError::Random)?,
            sessions: Mutex::default(),
            names: RwLock::default(),
            any: AtomicBool::new(false),
            signed_in: OnceLock::new(),
        })
    }

    /// Has `tell` called from now on for each session that the city opens. Once.
    pub fn tell_of_sign_ins(&self, tell: Box<dyn Fn(&str) + Send + Sync>) {
        let _ = self.signed_in.set(tell);
    }

    /// Who sends this request, if one of its cookies is a known session that has not ended.
    pub fn identify(&self, request: &HeaderMap, now: Timestamp) -> Option<StaffSession> {
        if !self.any.load(Ordering::Relaxed) {
            return None;
        }
        let names = self.names.read().unwrap_or_else(PoisonError::into_inner);
        for (name, value) in cookies(request) {
            if names.iter().any(|known| known.as_bytes() == name) {
                let tag = self.tag(name, value);
                let sessions = self.sessions();
                if let Some(session) = sessions.get(&tag).filter(|s| s.until > now) {
                    return Some(session.clone());
                }
            }
        }
        None
    }

    /// Learns from a response of the city. `sent` are the cookies of the request, `response` its header; the caller removes the
    /// field afterwards.
    pub fn learn(&self, told: &HeaderValue, sent: Option<&HeaderValue>, response: &HeaderMap) {
        match RenrakuStaff::parse(told) {
            Some(RenrakuStaff::Ended) => self.forget_cookies(sent),
            Some(RenrakuStaff::SignedIn {
                user_id,
                role,
                cookie,
                until,
            }) => {
                let session = StaffSession {
                    user: user_id,
                    role,
                    until: Timestamp(until),
                };
                let set = response
                    .get_all(header::SET_COOKIE)
                    .iter()
                    .filter_map(|value| pair(value.as_bytes().split(|b| *b == b';').next()?))
                    .rfind(|(name, _)| *name == cookie.as_bytes());
                let kept = || {
                    sent.into_iter()
                        .flat_map(|value| split(value.as_bytes()))
                        .find(|(name, _)| *name == cookie.as_bytes())
                };
                // A cookie that is set is a new session; one that was sent is only confirmed.
                if set.is_some()
                    && let Some(tell) = self.signed_in.get()
                {
                    tell(&session.user);
                }
                if let Some((name, value)) = set.or_else(kept) {
                    let tag = self.tag(name, value);
                    self.insert(tag, session, cookie);
                }
            }
            None => {
                tracing::warn!(target: "renraku::staff", "the city sent a Renraku-Staff field that cannot be read");
            }
        }
    }

    /// Forgets every session of a user who was suspended.
    pub fn forget_user(&self, user: &str) {
        self.sessions().retain(|_, session| session.user != user);
    }

    /// Forgets every session.
    pub fn clear(&self) {
        self.sessions().clear();
    }

    fn forget_cookies(&self, sent: Option<&HeaderValue>) {
        let Some(sent) = sent else { return };
        for (name, value) in split(sent.as_bytes()) {
            let tag = self.tag(name, value);
            self.sessions().remove(&tag);
        }
    }

    fn insert(&self, tag: Tag, session: StaffSession, cookie: String) {
        {
            let known = self
                .names
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .contains(&cookie);
            if !known {
                let mut names = self.names.write().unwrap_or_else(PoisonError::into_inner);
                if names.len() == Self::MOST_NAMES {
                    names.remove(0);
                }
                names.push(cookie);
            }
        }
        let mut sessions = self.sessions();
        if sessions.len() >= Self::MOST && !sessions.contains_key(&tag) {
            let first = sessions
                .iter()
                .min_by_key(|(_, session)| session.until)
                .map(|(tag, _)| *tag);
            if let Some(first) = first {
                sessions.remove(&first);
            }
        }
        sessions.insert(tag, session);
        drop(sessions);
        self.any.store(true, Ordering::Relaxed);
    }

    fn sessions(&self) -> std::sync::MutexGuard<'_, HashMap<Tag, StaffSession>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tag(&self, name: &[u8], value: &[u8]) -> Tag {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(name);
        // A name cannot hold "=", so no other pair gives the same input.
        context.update(b"=");
        context.update(value);
        let mut tag = Tag::default();
        tag.copy_from_slice(context.sign().as_ref());
        tag
    }
}

fn cookies(request: &HeaderMap) -> impl Iterator<Item = (&[u8], &[u8])> {
    request
        .get_all(header::COOKIE)
        .iter()
        .flat_map(|value| split(value.as_bytes()))
}

fn split(cookies: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    cookies.split(|byte| *byte == b';').filter_map(pair)
}

fn pair(cookie: &[u8]) -> Option<(&[u8], &[u8])> {
    let cookie = cookie.trim_ascii();
    let equals = cookie.iter().position(|byte| *byte == b'=')?;
    Some((&cookie[..equals], &cookie[equals + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_000);

    fn told(field: &'static str) -> HeaderValue {
        HeaderValue::from_static(field)
    }

    fn headers(name: http::HeaderName, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_static(value))])
    }

    fn signed_in() -> (StaffSessions, HeaderMap) {
        let staff = StaffSessions::new().unwrap();
        staff.learn(
            &told("\"u-7\"; role=manager; cookie=\"sid\"; until=2000"),
            None,
            &headers(header::SET_COOKIE, "sid=secret; Path=/; HttpOnly"),
        );
        (staff, headers(header::COOKIE, "theme=dark; sid=secret"))
    }

    #[test]
    fn a_cookie_set_with_the_announcement_identifies_its_user() {
        let (staff, request) = signed_in();
        let session = staff.identify(&request, NOW).unwrap();
        assert_eq!(
            (session.user.as_str(), session.role),
            ("u-7", Role::Manager)
        );
        assert!(
            staff
                .identify(&headers(header::COOKIE, "sid=guessed"), NOW)
                .is_none()
        );
    }

    #[test]
    fn a_sign_in_is_told_and_a_session_that_goes_on_is_not() {
        let (staff, request) = signed_in();
        let told_of = std::sync::Arc::new(Mutex::new(Vec::new()));
        let book = std::sync::Arc::clone(&told_of);
        staff.tell_of_sign_ins(Box::new(move |user| {
            book.lock().unwrap().push(user.to_owned());
        }));
        let field = told("\"u-7\"; role=staff; cookie=\"sid\"; until=2000");
        staff.learn(&field, request.get(header::COOKIE), &HeaderMap::new());
        assert!(told_of.lock().unwrap().is_empty());
        let set = headers(header::SET_COOKIE, "sid=another; Path=/");
        staff.learn(&field, request.get(header::COOKIE), &set);
        assert_eq!(*told_of.lock().unwrap(), ["u-7"]);
    }

    #[test]
    fn a_session_ends_when_its_time_is_over() {
        let (staff, request) = signed_in();
        assert!(staff.identify(&request, Timestamp(2_000)).is_none());
    }

    #[test]
    fn a_session_ends_when_the_city_says_so() {
        let (staff, request) = signed_in();
        staff.learn(&told("?0"), request.get(header::COOKIE), &HeaderMap::new());
        assert!(staff.identify(&request, NOW).is_none());
    }

    #[test]
    fn a_suspended_user_is_forgotten() {
        let (staff, request) = signed_in();
        staff.forget_user("u-8");
        assert!(staff.identify(&request, NOW).is_some());
        staff.forget_user("u-7");
        assert!(staff.identify(&request, NOW).is_none());
    }

    #[test]
    fn a_session_is_confirmed_by_the_cookie_that_was_sent() {
        let staff = StaffSessions::new().unwrap();
        let request = headers(header::COOKIE, "sid=old");
        staff.learn(
            &told("\"u-7\"; role=staff; cookie=\"sid\"; until=2000"),
            request.get(header::COOKIE),
            &HeaderMap::new(),
        );
        assert!(staff.identify(&request, NOW).is_some());
    }

    #[test]
    fn nothing_is_learnt_from_a_field_that_cannot_be_read() {
        let staff = StaffSessions::new().unwrap();
        let request = headers(header::COOKIE, "sid=old");
        for field in [
            "u-7",
            "\"u-7\"",
            "\"u-7\"; role=owner; cookie=\"sid\"; until=2000",
        ] {
            staff.learn(&told(field), request.get(header::COOKIE), &HeaderMap::new());
        }
        assert!(staff.identify(&request, NOW).is_none());
    }

    #[test]
    fn neither_user_nor_cookie_appears_in_debug_output() {
        let (staff, request) = signed_in();
        let shown = format!("{staff:?} {:?}", staff.identify(&request, NOW));
        assert!(!shown.contains("u-7") && !shown.contains("secret"));
    }

    #[test]
    fn the_number_of_sessions_is_bounded() {
        let staff = StaffSessions::new().unwrap();
        for session in 0..StaffSessions::MOST + 10 {
            let cookie = HeaderValue::from_str(&format!("sid={session}")).unwrap();
            let told = format!(
                "\"u\"; role=staff; cookie=\"sid\"; until={}",
                2_000 + session
            );
            staff.learn(
                &HeaderValue::from_str(&told).unwrap(),
                Some(&cookie),
                &HeaderMap::new(),
            );
        }
        assert_eq!(staff.sessions().len(), StaffSessions::MOST);
    }
}
