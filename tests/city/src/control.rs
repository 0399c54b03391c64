//! The tests' hand on the city: plain HTTP on a loopback port of its own.
//!
//! Never reachable through the city's listener, and absent unless the command line asks for it.

use crate::city::City;
use crate::est::enrol::Credentials;
use crate::est::pkcs12;
use crate::failure::Failure;
use crate::files::Delivery;
use crate::problem::Problem;
use crate::secrets::{self, SaltedHash, bare, hex, sha256};
use crate::store::people::{self, Attachment, Note, Notice};
use crate::store::{access, audit, events, numbers, reports};
use crate::times;
use axum::extract::{DefaultBodyLimit, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, PoisonError};
use zeroize::Zeroizing;

type Answer = Result<Json<Value>, Problem>;
type Town = State<Arc<City>>;

/// The control routes.
pub fn routes(city: Arc<City>) -> Router {
    Router::new()
        .route("/control/stats", get(stats))
        .route("/control/fail", post(fail))
        .route("/control/audit", post(audit_kept))
        .route("/control/audit-accept", post(audit_accept))
        .route("/control/revoke", post(revoke))
        .route("/control/suspend-user", post(suspend_user))
        .route("/control/suspend-facility", post(suspend_facility))
        .route("/control/person-ended", post(person_ended))
        .route("/control/permit", post(permit))
        .route("/control/number", post(number))
        .route("/control/approve", post(approve))
        .route("/control/p12", post(p12))
        .route("/control/note", post(note))
        .route("/control/note-deleted", post(note_deleted))
        .route("/control/notice", post(notice))
        .route("/control/notice-withdrawn", post(notice_withdrawn))
        .route("/control/hint", post(hint))
        .route("/control/deliver", post(deliver))
        .route("/control/say", post(say))
        .route("/control/forget-events", post(forget_events))
        .route("/control/never-level", post(never_level))
        .with_state(Arc::clone(&city))
        .merge(crate::accesslog::control(Arc::clone(&city)))
        .merge(crate::tuf::control::routes(Arc::clone(&city)))
        .merge(crate::seed::many::routes(city))
        .layer(DefaultBodyLimit::max(96 * 1024 * 1024))
}

fn done(found: bool) -> Answer {
    if found {
        Ok(Json(json!({ "done": true })))
    } else {
        Err(Problem::not_found())
    }
}

async fn stats(State(city): Town) -> Answer {
    let mut all = city.stats.to_json();
    let reports: Vec<Value> = city
        .store
        .run(reports::counts)
        .await?
        .into_iter()
        .map(|(kind, count, last)| {
            json!({ "kind": kind, "count": count, "last": serde_json::from_str::<Value>(&last).unwrap_or_default() })
        })
        .collect();
    all["reports"] = json!(reports);
    all["failure"] = json!(*city.failure.borrow());
    Ok(Json(all))
}

#[derive(Debug, Deserialize)]
struct OfBox {
    facility: String,
    /// The serial of its first certificate; all boxes of the facility without it.
    r#box: Option<String>,
}

/// What the city keeps of the audit logs of a facility's boxes, and `export`: the lines for `gatewayctl audit verify
/// --city-checkpoints`.
async fn audit_kept(State(city): Town, Json(asked): Json<OfBox>) -> Answer {
    let facility = Named { id: asked.facility };
    let (boxes, kept, faults, newest) = city
        .store
        .run(move |c| {
            let boxes = audit::boxes(c, &facility.id)?;
            let log = asked.r#box.and_then(|wanted| {
                let mut of = boxes.iter();
                of.find(|(its_box, _)| *its_box == wanted)
                    .map(|(_, log)| log.clone())
            });
            Ok((
                boxes,
                audit::kept(c, &facility.id, log.as_deref())?,
                audit::faults(c, &facility.id)?,
                audit::newest(c, &facility.id)?,
            ))
        })
        .await?;
    let mut export = String::new();
    let mut last_key = Vec::new();
    for (key, message, signature) in &kept {
        if *key != last_key {
            export += &format!("{}\n", json!({ "key": STANDARD.encode(key) }));
            last_key.clone_from(key);
        }
        let line = json!({ "checkpoint": STANDARD.encode(message), "signature": STANDARD.encode(signature) });
        export += &format!("{line}\n");
    }
    Ok(Json(json!({
        "boxes": boxes.iter().map(|(its_box, _)| its_box).collect::<Vec<_>>(),
        "checkpoints": kept.len(),
        "sequence": newest.map(|(sequence, _)| sequence),
        "count": newest.map(|(_, count)| count),
        "faults": faults.iter().map(|(reason, time)| json!({ "reason": reason, "time": time })).collect::<Vec<_>>(),
        "export": export,
    })))
}

async fn audit_accept(State(city): Town, Json(facility): Json<Named>) -> Answer {
    done(
        city.store
            .run(move |c| audit::forget_pin(c, &facility.id))
            .await?,
    )
}

async fn fail(State(city): Town, Json(failure): Json<Failure>) -> Answer {
    tracing::info!(mode = ?failure.mode, "failing on request");
    city.failure.send_replace(failure);
    // Give the listener its turn, so that "down" is down when the answer arrives.
    tokio::time::sleep(std::time::Duration::from_millis(30)).await;
    done(true)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Revoke {
    serial: Option<String>,
    facility: Option<String>,
}

async fn revoke(State(city): Town, Json(which): Json<Revoke>) -> Answer {
    let revoked = city
        .store
        .run(move |c| {
            let now = times::now();
            match (which.serial, which.facility) {
                (Some(serial), None) => Ok(usize::from(access::revoke(c, &serial, now)?)),
                (None, Some(facility)) => access::revoke_facility(c, &facility, now),
                _ => Ok(0),
            }
        })
        .await?;
    city.store.access_changed();
    if revoked == 0 {
        Err(Problem::not_found())
    } else {
        Ok(Json(json!({ "revoked": revoked })))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Suspend {
    #[serde(alias = "user_id", alias = "facility")]
    id: String,
    #[serde(default = "yes")]
    suspended: bool,
}

fn yes() -> bool {
    true
}

async fn suspend_user(State(city): Town, Json(what): Json<Suspend>) -> Answer {
    let found = city
        .store
        .run(move |c| access::suspend_user(c, &what.id, what.suspended))
        .await?;
    city.store.access_changed();
    done(found)
}

async fn suspend_facility(State(city): Town, Json(what): Json<Suspend>) -> Answer {
    let found = city
        .store
        .run(move |c| access::suspend_facility(c, &what.id, what.suspended))
        .await?;
    city.store.access_changed();
    done(found)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    #[serde(alias = "person", alias = "note", alias = "what", alias = "facility")]
    id: String,
}

async fn person_ended(State(city): Town, Json(person): Json<Named>) -> Answer {
    let files = city
        .store
        .run(move |c| people::end_support(c, &person.id))
        .await?;
    forget_files(&city, files.as_deref().unwrap_or_default());
    done(files.is_some())
}

/// Removes the bytes of attachments whose rows are gone.
pub fn forget_files(city: &City, ids: &[String]) {
    for id in ids {
        if let Err(error) = std::fs::remove_file(city.store.attachment_path(id)) {
            tracing::warn!(%error, id, "an attachment could not be removed");
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Permit {
    person: String,
    user_id: String,
    #[serde(default = "yes")]
    permitted: bool,
}

async fn permit(State(city): Town, Json(what): Json<Permit>) -> Answer {
    done(
        city.store
            .run(move |c| people::permit(c, &what.person, &what.user_id, what.permitted))
            .await?,
    )
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewNumber {
    facility: String,
    number: Option<String>,
    code: Option<String>,
    #[serde(default)]
    manual: bool,
    #[serde(default)]
    expired: bool,
}

fn digits(count: usize) -> String {
    let digits: String = secrets::random::<16>()
        .iter()
        .take(count)
        .map(|byte| char::from(b'0' + byte % 10))
        .collect();
    digits
}

async fn number(State(city): Town, Json(new): Json<NewNumber>) -> Answer {
    let number = new
        .number
        .unwrap_or_else(|| format!("{}-{}-{}", digits(4), digits(4), digits(4)));
    let code = new
        .code
        .unwrap_or_else(|| format!("{}-{}", digits(4), digits(4)));
    let row = numbers::NewNumber {
        key: city.lookup.of_number(&number),
        code: SaltedHash::of(&bare(&code)),
        facility: new.facility.clone(),
        expires: if new.expired {
            times::now() - 1
        } else {
            times::now() + 90 * 86_400
        },
        manual: new.manual,
    };
    city.store.run(move |c| numbers::add(c, &row)).await?;
    Ok(Json(
        json!({ "number": number, "code": code, "facility": new.facility }),
    ))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Approve {
    number: String,
}

async fn approve(State(city): Town, Json(what): Json<Approve>) -> Answer {
    let key = city.lookup.of_number(&what.number);
    done(city.store.run(move |c| numbers::approve(c, &key)).await?)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct P12 {
    number: String,
    code: String,
    password: String,
}

/// Writes the PKCS#12 file that the portal would hand out, and answers with its path.
async fn p12(State(city): Town, Json(what): Json<P12>) -> Answer {
    let credentials = Credentials {
        number: Zeroizing::new(what.number),
        code: Zeroizing::new(what.code),
    };
    let here = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let password = Zeroizing::new(what.password);
    let bytes = pkcs12::for_number(&city, here, &credentials, &password).await?;
    let path = city.dir.join(format!("{}.p12", secrets::identifier('f')));
    std::fs::write(&path, bytes).map_err(|error| Problem::internal(&error))?;
    Ok(Json(json!({ "path": path })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewNote {
    person: String,
    author: String,
    text: String,
    #[serde(default)]
    attachments: Vec<NewFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewFile {
    name: String,
    media_type: String,
    base64: String,
}

async fn note(State(city): Town, Json(new): Json<NewNote>) -> Answer {
    let mut attachments = Vec::new();
    for file in new.attachments {
        let bytes = STANDARD
            .decode(file.base64)
            .map_err(|_| Problem::bad_request("base64ではありません。"))?;
        let id = secrets::identifier('a');
        std::fs::write(city.store.attachment_path(&id), &bytes)
            .map_err(|error| Problem::internal(&error))?;
        attachments.push(Attachment {
            id,
            name: file.name,
            media_type: file.media_type,
            size: i64::try_from(bytes.len()).unwrap_or(i64::MAX),
            sha256: hex(&sha256(&bytes)),
        });
    }
    let id = new.author.clone();
    let author = city
        .store
        .run(move |c| people::user(c, &id))
        .await?
        .ok_or_else(Problem::not_found)?;
    let note = Note {
        id: secrets::identifier('n'),
        person: new.person,
        author: author.id,
        author_name: author.name,
        job: author.job,
        time: times::now(),
        text: new.text,
        attachments,
    };
    let body = note.to_json();
    city.store.run(move |c| people::add_note(c, &note)).await?;
    Ok(Json(body))
}

async fn deliver(State(city): Town, Json(delivery): Json<Delivery>) -> Answer {
    let mut deliveries = city
        .deliveries
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    deliveries.insert(delivery.id.clone(), delivery);
    done(true)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Spoken {
    text: String,
}

/// Tells every open page something. Answers how many there are.
async fn say(State(city): Town, Json(spoken): Json<Spoken>) -> Answer {
    let pages = city.spoken.send(spoken.text).unwrap_or(0);
    Ok(Json(json!({ "pages": pages })))
}

async fn note_deleted(State(city): Town, Json(note): Json<Named>) -> Answer {
    let files = city
        .store
        .run(move |c| people::delete_note(c, &note.id))
        .await?;
    forget_files(&city, files.as_deref().unwrap_or_default());
    done(files.is_some())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewNotice {
    title: String,
    text: String,
    #[serde(default)]
    members_only: bool,
    #[serde(default)]
    seconds: Option<i64>,
}

async fn notice(State(city): Town, Json(new): Json<NewNotice>) -> Answer {
    let notice = Notice {
        id: secrets::identifier('o'),
        title: new.title,
        text: new.text,
        members_only: new.members_only,
        time: times::now(),
        until: new.seconds.map(|seconds| times::now() + seconds),
    };
    let body = notice.to_json();
    city.store
        .run(move |c| people::add_notice(c, &notice))
        .await?;
    Ok(Json(body))
}

async fn notice_withdrawn(State(city): Town, Json(notice): Json<Named>) -> Answer {
    done(
        city.store
            .run(move |c| people::withdraw_notice(c, &notice.id, times::now()))
            .await?,
    )
}

async fn hint(State(city): Town, Json(what): Json<Named>) -> Answer {
    if !["releases", "policy", "antivirus"].contains(&what.id.as_str()) {
        return Err(Problem::bad_request(
            "releases、policy、antivirusのいずれかです。",
        ));
    }
    city.store.run(move |c| events::hint(c, &what.id)).await?;
    done(true)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Held {
    held: bool,
}

async fn never_level(State(city): Town, Json(Held { held }): Json<Held>) -> Answer {
    city.never_level.send_replace(held);
    done(true)
}

async fn forget_events(State(city): Town) -> Answer {
    city.store.run(events::forget).await?;
    done(true)
}
