//! Searching the stored notes.
//!
//! What is searched for travels in the form's body and then, sealed, in the address: the history of a shared PC must not tell
//! which symptoms somebody looked for in whom. It keeps no words: whoever has the session's cookie opens the address, nobody
//! else, and not after the box was started anew.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use gateway_notes::Found;
use http::StatusCode;
use zeroize::{Zeroize, Zeroizing};

use crate::console::{COOKIE, Console, Verb, method};
use crate::notes_views::{Results, Search};
use crate::response::{Fault, Page, see_other};
use crate::{ConsoleRequest, NoRandomness, form};

/// Notes shown.
const MOST: usize = 50;
/// Bytes of what is searched for; more is cut off.
const LONGEST: usize = 300;

/// Seals what is searched for into addresses, under a key that ends with the process.
pub(crate) struct Searches(LessSafeKey);

impl fmt::Debug for Searches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Searches(..)")
    }
}

impl Searches {
    pub(crate) fn new() -> Result<Self, NoRandomness> {
        let mut key = Zeroizing::new([0; 32]);
        rand::fill(key.as_mut_slice()).map_err(|_| NoRandomness)?;
        let key = UnboundKey::new(&AES_256_GCM, key.as_slice()).map_err(|_| NoRandomness)?;
        Ok(Self(LessSafeKey::new(key)))
    }

    /// For this session only.
    pub(crate) fn seal(&self, session: &str, words: &str) -> Result<String, NoRandomness> {
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce).map_err(|_| NoRandomness)?;
        let mut sealed = Vec::with_capacity(NONCE_LEN + words.len() + AES_256_GCM.tag_len());
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(words.as_bytes());
        let tag = self.0.seal_in_place_separate_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(session.as_bytes()),
            &mut sealed[NONCE_LEN..],
        );
        let Ok(tag) = tag else {
            sealed.zeroize();
            return Err(NoRandomness);
        };
        sealed.extend_from_slice(tag.as_ref());
        Ok(URL_SAFE_NO_PAD.encode(&sealed))
    }

    /// `None` when it was not made for this session by this process.
    pub(crate) fn open(&self, session: &str, sealed: &str) -> Option<Zeroizing<String>> {
        let mut bytes = Zeroizing::new(URL_SAFE_NO_PAD.decode(sealed).ok()?);
        let (nonce, words) = bytes.split_first_chunk_mut::<NONCE_LEN>()?;
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let session = Aad::from(session.as_bytes());
        let words = self.0.open_in_place(nonce, session, words).ok()?;
        Some(Zeroizing::new(std::str::from_utf8(words).ok()?.to_owned()))
    }
}

impl Console {
    pub(crate) async fn search_page(&self, request: &ConsoleRequest) -> Result<Page, Fault> {
        let mut reading = match self.open(request).await? {
            Ok(reading) => reading,
            Err(page) => return Ok(page),
        };
        let session = request.cookie(COOKIE).unwrap_or_default();
        if matches!(method(request, "GET, HEAD, POST")?, Verb::Post) {
            let words = form::field(&request.body, "q").ok_or(Fault::BadRequest)?;
            let sealed = self.searches.seal(session, shortened(words.trim()))?;
            return see_other(&format!("/search?s={sealed}"));
        }
        let query = request.query.as_deref().unwrap_or_default();
        // One of another session, or from before the box was started anew, is an empty form.
        let words = form::field(query.as_bytes(), "s")
            .and_then(|sealed| self.searches.open(session, &sealed))
            .unwrap_or_default();
        let found = reading
            .store
            .search(reading.user(), &words, MOST)
            .await
            .map_err(Fault::Store)?;
        let page = Search {
            frame: self
                .frame_for("さがす", "notes", request, reading.known.take())
                .await,
            banner: reading.banner,
            words: &words,
            results: found.map(results),
        };
        self.form_page(StatusCode::OK, &page)
    }
}

/// At most [`LONGEST`] bytes, and whole characters.
fn shortened(words: &str) -> &str {
    let mut end = words.len().min(LONGEST);
    while !words.is_char_boundary(end) {
        end -= 1;
    }
    &words[..end]
}

fn results(found: Found) -> Results {
    let (persons, notes) = (found.persons.len(), found.notes.len());
    let sentence = match (persons, notes) {
        (0, 0) => "見つかりませんでした。".to_owned(),
        (0, notes) => format!("連絡が{notes}件見つかりました。"),
        (persons, 0) => format!("支援対象者が{persons}名見つかりました。"),
        (persons, notes) => format!("支援対象者が{persons}名、連絡が{notes}件見つかりました。"),
    };
    let advice = if found.cut_short {
        Some("時間がかかったため、途中までの結果です。言葉を足して、もう一度さがしてください。")
    } else if found.more {
        Some("連絡は新しいものから50件を表示しています。言葉を足すと、しぼり込めます。")
    } else if persons + notes == 0 {
        Some(
            "言葉を短くするか、別の言い方でさがしてください。この装置に保存している期間より前の連絡は、連絡帳でさがしてください。",
        )
    } else {
        None
    };
    Results {
        sentence,
        advice,
        persons: found.persons.into_iter().map(Into::into).collect(),
        notes: found.notes.into_iter().map(Into::into).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_opens_for_its_own_session_only() {
        let searches = Searches::new().unwrap();
        let sealed = searches.seal("one", "発熱 山田").unwrap();
        assert!(!sealed.contains("発熱") && sealed.is_ascii());
        assert_eq!(*searches.open("one", &sealed).unwrap(), "発熱 山田");
        assert!(searches.open("two", &sealed).is_none());
        assert!(Searches::new().unwrap().open("one", &sealed).is_none());
        for broken in ["", "!", "AAAA", &sealed[1..], &sealed[..sealed.len() - 2]] {
            assert!(searches.open("one", broken).is_none(), "{broken}");
        }
    }

    #[test]
    fn what_is_too_long_ends_with_a_whole_character() {
        assert_eq!(shortened("短い"), "短い");
        assert_eq!(shortened(&"長".repeat(200)).chars().count(), 100);
        assert_eq!(shortened(&format!("a{}", "長".repeat(200))).len(), 298);
    }
}
