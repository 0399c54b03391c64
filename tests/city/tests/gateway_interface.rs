//! The feed and the other calls of a box.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

mod running_city;

use running_city::{GATEWAY, Identity, RENRAKU, RunningCity};
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

const FEED: &str = "/gateway/v1/feed";

#[derive(Debug, Clone)]
struct Event {
    id: String,
    kind: String,
    data: Value,
}

/// curl reading the feed line by line.
struct Feed {
    process: Child,
    events: Receiver<Event>,
}

impl Feed {
    fn open(city: &RunningCity, who: &Identity, after: Option<&str>) -> Self {
        let mut command = Command::new("curl");
        command
            .args(["-sSN", "--cacert", city.ca_file(), "--cert"])
            .arg(&who.certificate)
            .arg("--key")
            .arg(&who.key);
        if let Some(id) = after {
            command.args(["-H", &format!("last-event-id: {id}")]);
        }
        let mut process = command
            .arg(city.url(GATEWAY, FEED))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let (sender, events) = channel();
        std::thread::spawn(move || {
            let (mut id, mut kind) = (String::new(), String::new());
            for line in lines.map_while(Result::ok) {
                match line.split_once(": ") {
                    Some(("id", value)) => id = value.to_owned(),
                    Some(("event", value)) => kind = value.to_owned(),
                    Some(("data", value)) => {
                        let data = serde_json::from_str(value).unwrap();
                        if sender
                            .send(Event {
                                id: id.clone(),
                                kind: kind.clone(),
                                data,
                            })
                            .is_err()
                        {
                            return;
                        }
                    }
                    _ => {}
                }
            }
        });
        Self { process, events }
    }

    fn next(&self) -> Option<Event> {
        self.events.recv_timeout(Duration::from_secs(5)).ok()
    }

    fn until_level(&self) -> Vec<Event> {
        let mut all = Vec::new();
        while let Some(event) = self.next() {
            let level = event.kind == "caught-up";
            all.push(event);
            if level {
                return all;
            }
        }
        panic!("the feed ended before it was level");
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn a_feed_brings_what_the_facility_may_hold_and_nothing_else() {
    let city = RunningCity::start();
    let who = city.identity("tkh-1002", "box");
    let events = Feed::open(&city, &who, None).until_level();
    let persons: Vec<&Value> = events
        .iter()
        .filter(|e| e.kind == "person")
        .map(|e| &e.data["id"])
        .collect();
    assert!(
        !persons.contains(&&json!("p-1003")),
        "nobody at this facility may read p-1003"
    );
    assert!(
        events
            .iter()
            .filter(|e| e.kind == "note")
            .all(|e| e.data["person"] != "p-1003")
    );
    for event in &events {
        if event.kind == "person" {
            let readers = event.data["readers"].as_array().unwrap();
            assert!(
                readers
                    .iter()
                    .all(|reader| reader.as_str().unwrap().starts_with("midori"))
            );
        }
        if event.kind == "staff" {
            assert!(event.data["id"].as_str().unwrap().starts_with("midori"));
        }
    }
    assert!(
        events.windows(2).all(|two| two[0].id <= two[1].id),
        "ids rise"
    );
    for kind in ["person", "note", "staff", "notice", "facility", "caught-up"] {
        assert!(events.iter().any(|event| event.kind == kind), "{kind}");
    }
}

#[test]
fn a_note_posted_on_a_page_is_on_the_feed_within_a_tenth_of_a_second() {
    let city = RunningCity::start();
    let who = city.identity("tkh-1001", "box");
    let cookie = city.sign_in(&who, "sakura-01");
    let feed = Feed::open(&city, &who, None);
    feed.until_level();
    let started = Instant::now();
    let answer = city.curl_as(
        &who,
        RENRAKU,
        "/staff/api/persons/p-1001/notes",
        &[
            "-b",
            &cookie,
            "-H",
            "content-type: application/json",
            "-d",
            r#"{"text":"速さの記録"}"#,
        ],
    );
    let posted = started.elapsed();
    assert_eq!(answer.status, 201);
    let event = feed.next().unwrap();
    let seen = started.elapsed();
    assert_eq!(
        (event.kind.as_str(), &event.data["text"]),
        ("note", &json!("速さの記録"))
    );
    assert!(
        seen < posted + Duration::from_millis(100),
        "posted after {posted:?}, seen after {seen:?}"
    );
}

#[test]
fn a_feed_resumes_after_the_last_event_it_saw() {
    let city = RunningCity::start();
    let who = city.identity("tkh-1001", "box");
    let all = Feed::open(&city, &who, None).until_level();
    let rest = Feed::open(&city, &who, Some(&all[all.len() - 4].id)).until_level();
    assert_eq!(rest.len(), 3);
    assert_eq!(rest[0].id, all[all.len() - 3].id);
    let level = Feed::open(&city, &who, Some(&all.last().unwrap().id)).until_level();
    assert_eq!(level.len(), 1);
}

#[test]
fn an_id_that_is_too_old_or_unknown_means_start_again() {
    let city = RunningCity::start();
    let who = city.identity("tkh-1001", "box");
    let all = Feed::open(&city, &who, None).until_level();
    let old = format!("last-event-id: {}", all[3].id);
    city.control("forget-events", &json!({}));
    for id in [
        old.as_str(),
        "last-event-id: 7",
        "last-event-id: 00000000.0000000000000001",
    ] {
        let answer = city.curl_as(&who, GATEWAY, FEED, &["-H", id]);
        assert_eq!(
            (answer.status, answer.problem().as_str()),
            (410, "feed-gone"),
            "{id}"
        );
    }
    let fresh = Feed::open(&city, &who, None).until_level();
    assert_eq!(
        fresh.len(),
        all.len(),
        "from nothing, everything is there again"
    );
}

#[test]
fn what_was_deleted_is_announced_and_never_replayed() {
    let city = RunningCity::start();
    let who = city.identity("tkh-1001", "box");
    let feed = Feed::open(&city, &who, None);
    let all = feed.until_level();
    let note = all
        .iter()
        .find(|e| e.kind == "note" && e.data["person"] == "p-1002")
        .unwrap()
        .data["id"]
        .clone();
    city.control("note-deleted", &json!({ "id": note }));
    let told = feed.next().unwrap();
    assert_eq!(
        (told.kind.as_str(), &told.data["id"]),
        ("note-deleted", &note)
    );
    city.control("person-ended", &json!({ "id": "p-1001" }));
    let told = feed.next().unwrap();
    assert_eq!(
        (told.kind.as_str(), &told.data["id"]),
        ("person-ended", &json!("p-1001"))
    );
    let replay = Feed::open(&city, &who, None).until_level();
    assert!(
        replay
            .iter()
            .all(|e| e.kind != "note" || (e.data["person"] != "p-1001" && e.data["id"] != note))
    );
    assert!(
        replay
            .iter()
            .all(|e| e.kind != "person" || e.data["id"] != "p-1001")
    );
}

#[test]
fn a_facility_that_may_no_longer_read_a_person_is_told_to_forget_it() {
    let city = RunningCity::start();
    let who = city.identity("tkh-1002", "box");
    let feed = Feed::open(&city, &who, None);
    feed.until_level();
    for user in ["midori-kanri", "midori-01"] {
        city.control(
            "permit",
            &json!({ "person": "p-1002", "user_id": user, "permitted": false }),
        );
    }
    let first = feed.next().unwrap();
    assert_eq!(
        (first.kind.as_str(), &first.data["readers"]),
        ("person", &json!(["midori-01"]))
    );
    assert_eq!(feed.next().unwrap().kind, "person-ended");
    city.control(
        "permit",
        &json!({ "person": "p-1002", "user_id": "midori-02" }),
    );
    assert_eq!(feed.next().unwrap().kind, "person");
    assert_eq!(feed.next().unwrap().kind, "note", "its notes come again");
}

#[test]
fn a_feed_ends_when_the_certificate_is_revoked_or_the_facility_suspended() {
    let city = RunningCity::start();
    let who = city.identity("tkh-1001", "one");
    let feed = Feed::open(&city, &who, None);
    feed.until_level();
    city.control("suspend-facility", &json!({ "id": "tkh-1001" }));
    let told = feed.next().unwrap();
    assert_eq!(
        (told.kind.as_str(), &told.data["suspended"]),
        ("facility", &json!(true))
    );
    assert!(feed.next().is_none());
    assert_eq!(
        city.curl_as(&who, GATEWAY, FEED, &[]).problem(),
        "facility-suspended"
    );
    city.control(
        "suspend-facility",
        &json!({ "id": "tkh-1001", "suspended": false }),
    );
    let feed = Feed::open(&city, &who, None);
    feed.until_level();
    city.control("revoke", &json!({ "serial": who.serial }));
    assert!(feed.next().is_none());
    assert_eq!(
        city.curl_as(&who, GATEWAY, FEED, &[]).problem(),
        "certificate-revoked"
    );
}

fn report(
    city: &RunningCity,
    who: &Identity,
    path: &str,
    key: &str,
    body: &Value,
) -> running_city::Answer {
    let (key, body) = (format!("idempotency-key: {key}"), body.to_string());
    city.curl_as(
        who,
        GATEWAY,
        path,
        &[
            "-H",
            "content-type: application/json",
            "-H",
            &key,
            "-d",
            &body,
        ],
    )
}

#[test]
fn the_same_report_twice_is_one_report_and_a_reused_key_is_refused() {
    let city = RunningCity::start();
    let who = city.identity("tkh-1001", "box");
    let status = json!({ "version": "0.1.0", "slot": "a", "checks": [
        { "id": "AV-ALIVE", "state": "ok", "since": "2026-11-22T09:00:00+09:00" }
    ] });
    let first = report(&city, &who, "/gateway/v1/status", "key-0001", &status);
    assert_eq!(first.status, 200, "{}", first.text());
    assert!(first.json()["next_report_seconds"].as_u64().unwrap() > 0);
    let second = report(&city, &who, "/gateway/v1/status", "key-0001", &status);
    assert_eq!(first.json(), second.json());
    let other = json!({ "version": "0.1.1", "slot": "a", "checks": [] });
    let reused = report(&city, &who, "/gateway/v1/status", "key-0001", &other);
    assert_eq!(
        (reused.status, reused.problem().as_str()),
        (409, "idempotency-key-reused")
    );
    let stats = city.stats();
    assert_eq!(stats["reports"][0]["count"], 1);
    let personal = json!({ "version": "0.1.0", "slot": "a", "checks": [], "person": "p-1001" });
    assert_eq!(
        report(&city, &who, "/gateway/v1/status", "key-0002", &personal).status,
        400,
        "unknown fields"
    );
    assert_eq!(
        report(&city, &who, "/gateway/v1/status", "short", &status).status,
        400,
        "key too short"
    );
}

#[test]
fn a_box_that_is_taken_out_of_service_revokes_its_own_certificate() {
    let city = RunningCity::start();
    let who = city.identity("tkh-1001", "box");
    let other = city.identity("tkh-1001", "second");
    let done = report(
        &city,
        &who,
        "/gateway/v1/decommission",
        "key-0001",
        &json!({ "reason": "disposed" }),
    );
    assert_eq!(done.status, 200);
    assert_eq!(done.json()["serial"], who.serial);
    assert_eq!(
        city.curl_as(&who, GATEWAY, FEED, &[]).problem(),
        "certificate-revoked"
    );
    assert_eq!(
        city.curl_as(&other, GATEWAY, "/gateway/v1/attachments/none", &[])
            .status,
        404,
        "only its own"
    );
}

#[test]
fn a_facility_gets_only_attachments_of_persons_it_may_hold() {
    let city = RunningCity::start();
    let who = city.identity("tkh-1001", "box");
    let made = city.control(
        "note",
        &json!({ "person": "p-1005", "author": "midori-01", "text": "添付あり",
                 "attachments": [{ "name": "a.txt", "media_type": "text/plain", "base64": "aGVsbG8=" }] }),
    );
    let path = format!(
        "/gateway/v1/attachments/{}",
        made["attachments"][0]["id"].as_str().unwrap()
    );
    assert_eq!(
        city.curl_as(&who, GATEWAY, &path, &[]).problem(),
        "not-found"
    );
    let midori = city.identity("tkh-1002", "midori");
    let got = city.curl_as(&midori, GATEWAY, &path, &["-r", "1-3"]);
    assert_eq!((got.status, got.text().as_str()), (206, "ell"));
    assert_eq!(
        got.header("content-disposition").unwrap(),
        "attachment; filename*=UTF-8''a.txt"
    );
    assert_eq!(
        city.curl(GATEWAY, &path, &[]).problem(),
        "certificate-required"
    );
}
