//! Reading what is stored: the way in from the notebook and out again, and what every page of notes begins with; the notices.
//! The pages of notes themselves are in [`crate::notes_pages`] and [`crate::search_pages`].
//!
//! What may be read is decided by the store, at each read. There is nothing here that writes, and nothing that looks like
//! it did.

use gateway_notes::{Cursor, Opening, Store};
use gateway_policy::Timestamp;
use http::{HeaderName, HeaderValue, StatusCode, header};

use crate::console::{COOKIE, Console};
use crate::moment::minute;
use crate::pages::{Banner, Notices, Plain};
use crate::progress;
use crate::response::{Fault, Page, see_other};
use crate::sessions::Origin;
use crate::{ConsoleRequest, Link, Staff, Visit, form};

/// The longest id that is looked up.
const LONGEST_ID: usize = 256;

/// Somebody who may read, and what they read from.
pub(crate) struct Reading {
    user: String,
    /// Who they are to the store, for the frame of the page.
    pub(crate) known: Option<gateway_notes::Staff>,
    /// What is read through it is recorded.
    pub(crate) store: Store,
    pub(crate) banner: Banner,
}

impl Reading {
    /// The user id.
    pub(crate) fn user(&self) -> &str {
        &self.user
    }
}

impl Console {
    /// On the notebook's origin: hands a signed-in person over to our own origin by a one-time code.
    pub(crate) fn hand_over(&self, request: &ConsoleRequest) -> Result<Page, Fault> {
        if !request.is_navigation() {
            return Err(Fault::NotOurs);
        }
        let now = self.desk.now();
        let holds = self.holds(Origin::City);
        let staff = request.staff.clone();
        let Some(staff) = staff.filter(|staff| holds && staff.until > now) else {
            return self.sign_in_first(request, true);
        };
        let code = self.sessions.issue(staff, now)?;
        let (host, port) = (&self.config.console_host, request.port_suffix());
        see_other(&format!("https://{host}{port}/handover?code={code}"))
    }

    /// Spends a one-time code for a session. The only GET that changes something: it comes by redirect, and what it
    /// changes is what the code was made for.
    pub(crate) fn redeem(&self, request: &ConsoleRequest) -> Result<Page, Fault> {
        let query = request.query.as_deref().unwrap_or_default();
        let code = form::field(query.as_bytes(), "code").ok_or(Fault::CodeRefused)?;
        let token = self
            .sessions
            .redeem(&code, self.desk.now())?
            .ok_or(Fault::CodeRefused)?;
        self.opened("/notes", &token)
    }

    /// To a page, with the cookie of a session just opened.
    pub(crate) fn opened(&self, page: &str, token: &str) -> Result<Page, Fault> {
        let mut page = see_other(page)?;
        // Without Max-Age: closing the browser ends it too, and its end is kept here.
        let cookie = format!("{COOKIE}={token}; Path=/; Secure; HttpOnly; SameSite=Lax");
        set_cookie(&mut page, &cookie)?;
        Ok(page)
    }

    pub(crate) fn sign_out(&self, request: &ConsoleRequest) -> Result<Page, Fault> {
        if let Some(token) = request.cookie(COOKIE) {
            self.sessions.end(token);
        }
        let mut page = see_other("/")?;
        // Drafts that a tab still keeps.
        page.headers_mut().insert(
            HeaderName::from_static("clear-site-data"),
            HeaderValue::from_static("\"storage\""),
        );
        set_cookie(
            &mut page,
            &format!("{COOKIE}=; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=0"),
        )?;
        Ok(page)
    }

    /// What every page of notes begins with: somebody who is signed in, a store in which they may read something, and what
    /// has to be said of it. Otherwise the page that says what to do instead.
    pub(crate) async fn open(
        &self,
        request: &ConsoleRequest,
    ) -> Result<Result<Reading, Page>, Fault> {
        let mut reading = match self.at_the_door(request)? {
            Ok(reading) => reading,
            Err(page) => return Ok(Err(page)),
        };
        let known = reading.store.staff_and_level(&reading.user).await;
        let Some((staff, level)) = known.map_err(Fault::Store)? else {
            return self.nothing_to_read().map(Err);
        };
        self.let_in(&mut reading, Opening { staff, level }).await;
        Ok(Ok(reading))
    }

    /// As [`Console::open`], for a page that asks the store once for everything: the rest is done by [`Console::let_in`].
    pub(crate) fn at_the_door(
        &self,
        request: &ConsoleRequest,
    ) -> Result<Result<Reading, Page>, Fault> {
        let Some(staff) = self.reader(request, self.desk.now()) else {
            return self.sign_in_first(request, false).map(Err);
        };
        let Some(store) = self.store_for(request, &staff) else {
            return self.nothing_to_read().map(Err);
        };
        let rebuilding = store.received_beside();
        Ok(Ok(Reading {
            user: staff.user,
            known: None,
            store,
            banner: Banner {
                fetched: None,
                until: None,
                outage: None,
                notebook: self.notebook(request),
                rebuilding: progress::for_readers(rebuilding, self.is_manager(request)),
            },
        }))
    }

    /// Notes whom the store has found, and how level it is.
    pub(crate) async fn let_in(&self, reading: &mut Reading, opening: Opening) {
        let outage = match self.desk.city().await {
            Link::Down { since } => Some(minute(since)),
            Link::Up | Link::Unknown => None,
        };
        let banner = &mut reading.banner;
        banner.fetched = opening.level.map(|seconds| minute(Timestamp(seconds)));
        banner.until = outage.as_ref().and(self.readable_until());
        banner.outage = outage;
        reading.known = Some(opening.staff);
    }

    pub(crate) async fn notices(&self, request: &ConsoleRequest) -> Result<Page, Fault> {
        let now = self.desk.now();
        let reader = self.reader(request, now);
        let (notices, fetched) = match self.desk.store() {
            None => (Vec::new(), None),
            Some(store) => {
                let user = reader.as_ref().map(|staff| staff.user.as_str());
                let notices = store.notices(user, now.0).await.map_err(Fault::Store)?;
                (notices, fetched(&store).await?)
            }
        };
        let page = Notices {
            frame: self.frame("お知らせ", "notices", request).await,
            notices,
            fetched,
            signed_in: reader.is_some(),
        };
        self.page(&page)
    }

    /// The store, if there is one. What is read through it is recorded.
    fn store_for(&self, request: &ConsoleRequest, staff: &Staff) -> Option<Store> {
        let session = self.session(request)?;
        self.desk
            .reading(Visit::new(request, staff.clone(), session))
    }

    pub(crate) fn notebook(&self, request: &ConsoleRequest) -> String {
        format!(
            "https://{}{}/",
            self.config.notebook_host,
            request.port_suffix()
        )
    }

    fn sign_in_first(&self, request: &ConsoleRequest, on_notebook: bool) -> Result<Page, Fault> {
        if let Some(way) = self.way_to_pin(request) {
            return way;
        }
        let page = Plain {
            frame: self.bare_frame("サインインが必要です", "notes"),
            sentence: "保存した連絡を読むには、先に連絡帳へのサインインが必要です。",
            next: "連絡帳にサインインしてから、もう一度「保存した連絡」を開いてください。市の連絡帳につながらない間は、つながらなくなる前にサインインしていた端末だけで読めます。",
            link: Some((self.notebook(request), "連絡帳を開く")),
            support_code: None,
        };
        // 401 would need an authentication scheme that browsers know (RFC 9110 §11.6.1).
        self.plain(StatusCode::FORBIDDEN, page, on_notebook)
    }

    /// For a suspended user, an unknown one, a suspended facility and an empty store: one answer.
    pub(crate) fn nothing_to_read(&self) -> Result<Page, Fault> {
        let page = Plain {
            frame: self.bare_frame("保存した連絡", "notes"),
            sentence: "いま、あなたが読める保存した連絡はありません。",
            next: "数分たってから開き直してください。続くときは、事業所管理者に確認してください。",
            link: Some(("/".to_owned(), "ホームに戻る")),
            support_code: None,
        };
        self.plain(StatusCode::OK, page, false)
    }
}

async fn fetched(store: &Store) -> Result<Option<String>, Fault> {
    let caught_up = store.caught_up().await.map_err(Fault::Store)?;
    Ok(caught_up.map(|seconds| minute(Timestamp(seconds))))
}

fn set_cookie(page: &mut Page, cookie: &str) -> Result<(), Fault> {
    let cookie = HeaderValue::from_str(cookie).map_err(|_| Fault::BadRequest)?;
    page.headers_mut().insert(header::SET_COOKIE, cookie);
    Ok(())
}

pub(crate) fn cursor(query: Option<&str>) -> Result<Option<Cursor>, Fault> {
    let Some(query) = query else {
        return Ok(None);
    };
    match form::field(query.as_bytes(), "before") {
        None => Ok(None),
        Some(text) => text.parse().map(Some).map_err(|()| Fault::BadRequest),
    }
}

/// An id from a path segment. A plus is a plus there (RFC 3986).
pub(crate) fn decode(segment: &str) -> Result<String, Fault> {
    let decoded = form::decode(segment.replace('+', "%2B").as_bytes()).ok_or(Fault::BadRequest)?;
    if decoded.is_empty() || decoded.len() > LONGEST_ID {
        return Err(Fault::NotFound);
    }
    Ok(decoded.to_string())
}

/// An id as one path segment: all but unreserved characters (RFC 3986 §2.3) encoded.
pub(crate) fn encode(id: &str) -> String {
    let mut encoded = String::with_capacity(id.len());
    for byte in id.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_id_survives_the_way_through_a_path(id in ".{1,60}") {
            prop_assert_eq!(decode(&encode(&id)).unwrap(), id);
        }
    }
}
