//! The city's side of the boxes' logs of accesses: what it asks for, and whether what it gets is one chain.
//!
//! Written from `docs/access-log.md` and not from the gateway's code. Asks only when a person at the city does (here: the
//! control port), and for a range.

use crate::city::City;
use crate::gatewayapi;
use crate::problem::Problem;
use crate::secrets;
use crate::staff::guard;
use crate::store::accesslog::{self as kept, Entry, Request};
use crate::store::{events, reports};
use crate::times;
use crate::tls::Facts;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

/// Lines in one piece.
const MOST_LINES: usize = 2000;
/// A line, or what was sealed in it.
const LONGEST_LINE: usize = 4096;

/// A piece as a box hands it over.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Piece {
    request: Name,
    log: Hex<32>,
    previous: Hex<64>,
    lines: Vec<Handed>,
    last: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Handed {
    line: String,
    #[serde(default, deserialize_with = "gatewayapi::present")]
    record: Option<String>,
}

/// A request's name.
#[derive(Debug)]
struct Name(String);

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let fits = (1..=64).contains(&text.len())
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b".+_-".contains(&byte));
        fits.then_some(Self(text))
            .ok_or_else(|| serde::de::Error::custom("does not fit"))
    }
}

/// So many hexadecimal digits in lower case.
#[derive(Debug)]
struct Hex<const N: usize>(String);

impl<'de, const N: usize> Deserialize<'de> for Hex<N> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let fits = text.len() == N
            && text
                .bytes()
                .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        fits.then_some(Self(text))
            .ok_or_else(|| serde::de::Error::custom("does not fit"))
    }
}

/// Why a piece is not taken, as the interface words it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refusal {
    /// A line is none, or does not follow from the one before.
    Chain,
    /// What was sealed is not what the line has the digest of.
    Record,
    /// Another entry is due.
    Order,
    /// The city has got another entry of this number before.
    Different,
}

impl Refusal {
    const fn word(self) -> &'static str {
        match self {
            Self::Chain => "chain",
            Self::Record => "record",
            Self::Order => "order",
            Self::Different => "different",
        }
    }
}

/// The box's routes.
pub fn routes() -> Router<Arc<City>> {
    Router::new().route("/gateway/v1/access-log", get(asked).post(handed))
}

async fn asked(
    State(city): State<Arc<City>>,
    Extension(facts): Extension<Arc<Facts>>,
) -> Result<Json<Value>, Problem> {
    let facility = guard::certificate(&city, &facts).await?.facility.clone();
    let open = city.store.run(move |c| kept::open(c, &facility)).await?;
    let requests: Vec<Value> = open
        .into_iter()
        .map(|request| {
            let mut value =
                json!({ "request": request.id, "from": request.from, "to": request.to });
            if let Some((next, _)) = request.next {
                value["next"] = next.into();
            }
            value
        })
        .collect();
    Ok(Json(json!({ "requests": requests })))
}

async fn handed(
    State(city): State<Arc<City>>,
    Extension(facts): Extension<Arc<Facts>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    let facility = guard::certificate(&city, &facts).await?.facility.clone();
    let mut receipt = json!({ "receipt": secrets::identifier('l') });
    if let Ok(piece) = serde_json::from_slice::<Piece>(&body)
        && gatewayapi::json_only(&headers).is_ok()
        && let Ok(key) = gatewayapi::idempotency_key(&headers)
    {
        let at = facility.clone();
        // Its answer was lost on the way; the one that was given then is given again.
        let repeated = city
            .store
            .run(move |c| reports::is_filed(c, &at, "access-log", &key))
            .await?;
        if !repeated {
            let judged = judge(&city, facility, piece).await?;
            merge(&mut receipt, judged);
        }
    }
    gatewayapi::file::<Piece>(&city, &facts, &headers, &body, ("access-log", receipt)).await
}

fn merge(receipt: &mut Value, judged: Value) {
    if let (Some(receipt), Value::Object(judged)) = (receipt.as_object_mut(), judged) {
        receipt.extend(judged);
    }
}

/// Takes a piece, or refuses it.
async fn judge(city: &Arc<City>, facility: String, piece: Piece) -> Result<Value, Problem> {
    let at = facility.clone();
    let judged = city
        .store
        .run(move |c| {
            let open = kept::open(c, &facility)?;
            let Some(request) = open.into_iter().find(|one| one.id == piece.request.0) else {
                return Ok(None);
            };
            let entries = match read(&piece, &request) {
                Ok(entries) => entries,
                Err(refusal) => return Ok(Some(Err(refusal))),
            };
            for entry in &entries {
                if kept::differs(c, &facility, &piece.log.0, entry)? {
                    return Ok(Some(Err(Refusal::Different)));
                }
            }
            let names = (request.id.as_str(), piece.log.0.as_str());
            kept::keep(c, &facility, names, &entries, piece.last)?;
            let next = entries.last().map(|entry| entry.number + 1);
            Ok(Some(Ok((next, piece.last))))
        })
        .await?;
    match judged {
        None => Err(Problem::not_found()),
        Some(Ok((next, complete))) => {
            let mut taken = json!({ "accepted": true, "complete": complete });
            if let Some(next) = next {
                taken["next"] = next.into();
            }
            Ok(taken)
        }
        Some(Err(refusal)) => {
            tracing::error!(
                facility = at,
                reason = refusal.word(),
                "a box's log of accesses does not fit together"
            );
            Ok(json!({ "accepted": false, "reason": refusal.word() }))
        }
    }
}

/// The entries of a piece, each held against the one before.
fn read(piece: &Piece, request: &Request) -> Result<Vec<Entry>, Refusal> {
    if piece.lines.len() > MOST_LINES {
        return Err(Refusal::Order);
    }
    let mut previous = unhex(&piece.previous.0).ok_or(Refusal::Chain)?;
    if request
        .next
        .as_ref()
        .is_some_and(|(_, head)| *head != previous)
    {
        return Err(Refusal::Order);
    }
    let mut due = request.next.as_ref().map(|(number, _)| *number);
    let mut entries = Vec::with_capacity(piece.lines.len());
    for handed in &piece.lines {
        let (text, hash) = apart(&handed.line).ok_or(Refusal::Chain)?;
        let entry: Value = serde_json::from_str(text).map_err(|_| Refusal::Chain)?;
        let number = entry["n"].as_i64().ok_or(Refusal::Chain)?;
        if due.is_some_and(|due| due != number) {
            return Err(Refusal::Order);
        }
        if secrets::sha256(&[previous.as_slice(), text.as_bytes()].concat())[..] != hash[..] {
            return Err(Refusal::Chain);
        }
        if let Some(record) = &handed.record {
            let digest = secrets::hex(&secrets::sha256(record.as_bytes()));
            if record.len() > LONGEST_LINE || entry["digest"] != digest.as_str() {
                return Err(Refusal::Record);
            }
        }
        due = Some(number + 1);
        previous.clone_from(&hash);
        entries.push(Entry {
            number,
            hash,
            line: handed.line.clone(),
            record: handed.record.clone(),
        });
    }
    Ok(entries)
}

/// `{"entry":…,"hash":"…"}` in its two parts.
fn apart(line: &str) -> Option<(&str, Vec<u8>)> {
    if line.len() > LONGEST_LINE {
        return None;
    }
    let rest = line.strip_prefix("{\"entry\":")?.strip_suffix("\"}")?;
    let (entry, hash) = rest.rsplit_once(",\"hash\":\"")?;
    Some((entry, unhex(hash)?))
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    (0..32)
        .map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok())
        .collect()
}

/// The tests' hand.
pub fn control(city: Arc<City>) -> Router {
    Router::new()
        .route("/control/access-log", post(ask))
        .route("/control/access-log-kept", post(show))
        .with_state(city)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Ask {
    facility: String,
    from: Option<i64>,
    to: Option<i64>,
}

async fn ask(State(city): State<Arc<City>>, Json(what): Json<Ask>) -> Result<Json<Value>, Problem> {
    let id = secrets::identifier('q');
    let request = id.clone();
    let range = (
        what.from.unwrap_or(0),
        what.to.unwrap_or_else(|| times::now() + 3600),
    );
    let asked = city
        .store
        .run(move |c| {
            Ok(kept::ask(c, &what.facility, &request, range)?
                && events::hint_to(c, &what.facility, "access_log").map(|()| true)?)
        })
        .await?;
    if asked {
        Ok(Json(json!({ "request": id })))
    } else {
        Err(Problem::not_found())
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Show {
    request: String,
}

async fn show(
    State(city): State<Arc<City>>,
    Json(what): Json<Show>,
) -> Result<Json<Value>, Problem> {
    let kept = city
        .store
        .run(move |c| kept::kept(c, &what.request))
        .await?;
    let (complete, records) = kept.ok_or_else(Problem::not_found)?;
    Ok(Json(json!({ "complete": complete, "records": records })))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(number: i64, previous: &[u8], record: &str) -> (String, Vec<u8>) {
        let digest = secrets::hex(&secrets::sha256(record.as_bytes()));
        let entry = format!("{{\"digest\":\"{digest}\",\"kind\":\"access\",\"n\":{number}}}");
        let hash = secrets::sha256(&[previous, entry.as_bytes()].concat()).to_vec();
        (
            format!("{{\"entry\":{entry},\"hash\":\"{}\"}}", secrets::hex(&hash)),
            hash,
        )
    }

    fn piece(lines: Vec<(String, &str)>) -> Piece {
        let lines: Vec<Value> = lines
            .into_iter()
            .map(|(line, record)| json!({ "line": line, "record": record }))
            .collect();
        let value = json!({
            "request": "q-1", "log": "ab".repeat(16), "previous": "00".repeat(32), "lines": lines, "last": true,
        });
        serde_json::from_value(value).unwrap()
    }

    fn request(next: Option<(i64, Vec<u8>)>) -> Request {
        Request {
            id: "q-1".into(),
            from: 0,
            to: 1,
            next,
        }
    }

    #[test]
    fn a_piece_is_taken_when_each_line_follows_and_holds_what_it_has_the_digest_of() {
        let (one, head) = line(7, &[0; 32], "{}");
        let (two, last) = line(8, &head, "{\"a\":1}");
        let whole = piece(vec![(one.clone(), "{}"), (two.clone(), "{\"a\":1}")]);
        let entries = read(&whole, &request(None)).unwrap();
        assert_eq!((entries[1].number, &entries[1].hash), (8, &last));
        let goes_on = request(Some((7, vec![0; 32])));
        assert!(read(&whole, &goes_on).is_ok());
        let other = |lines, asked: &Request| read(&piece(lines), asked).unwrap_err();
        let swapped = vec![(two.clone(), "{\"a\":1}"), (one.clone(), "{}")];
        assert_eq!(other(swapped, &request(None)), Refusal::Chain);
        let another = vec![(one.clone(), "{\"b\":1}")];
        assert_eq!(other(another, &request(None)), Refusal::Record);
        let later = request(Some((9, vec![0; 32])));
        assert_eq!(other(vec![(one.clone(), "{}")], &later), Refusal::Order);
        let elsewhere = request(Some((7, vec![1; 32])));
        assert_eq!(other(vec![(one, "{}")], &elsewhere), Refusal::Order);
        let nonsense = vec![("{}".to_owned(), "{}")];
        assert_eq!(other(nonsense, &request(None)), Refusal::Chain);
    }
}
