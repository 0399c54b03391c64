//! The feed and the gateway API against a real reference city.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use gateway_city::api::GatewayApi;
use gateway_city::feed::{FeedEvent, FeedSettings, FeedSink, FeedState, Follower, SinkError, Why};
use gateway_city::tls::{self, ClientIdentity};
use gateway_city::wire::Event;
use gateway_city::{CityError, Endpoint, Timeouts};
use p12_keystore::KeyStore;
use rustls::ClientConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::json;
use test_harness::city::{City, GATEWAY_HOST, Options};
use tokio::sync::watch;

struct Town {
    city: City,
    config: Arc<ClientConfig>,
    _directory: tempfile::TempDir,
}

/// A city, and a facility certificate whose key is in software: what is tested here does not depend on the TPM.
fn town() -> Town {
    let directory = tempfile::tempdir().expect("a directory");
    let city = City::start(directory.path(), Options::default()).expect("the city starts");
    let letter = city
        .control("number", &json!({ "facility": "tkh-1001" }))
        .expect("a number");
    let wanted = json!({ "number": letter["number"], "code": letter["code"], "password": "x" });
    let path: PathBuf = city.control("p12", &wanted).expect("a file")["path"]
        .as_str()
        .expect("a path")
        .into();
    let store =
        KeyStore::from_pkcs12(&std::fs::read(path).expect("readable"), "x").expect("a key store");
    let Some((_, entry)) = store.private_key_chain() else {
        unreachable!("the city puts one in")
    };
    let chain = entry
        .chain()
        .iter()
        .map(|certificate| certificate.as_der().to_vec().into())
        .collect();
    let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(entry.key().to_vec()));
    let key = rustls::crypto::aws_lc_rs::sign::any_ecdsa_type(&der).expect("P-256");
    let anchors =
        tls::anchors_from_pem(&std::fs::read(city.ca_file()).expect("readable")).expect("anchors");
    let config = tls::client_config(anchors, Some(ClientIdentity { chain, key })).expect("a pair");
    Town {
        city,
        config,
        _directory: directory,
    }
}

impl Town {
    fn endpoint(&self) -> Endpoint {
        let connect = Some(([127, 0, 0, 1], self.city.port()).into());
        Endpoint {
            host: GATEWAY_HOST.into(),
            port: self.city.port(),
            connect,
        }
    }
}

#[derive(Default)]
struct Memory {
    events: Mutex<Vec<Event>>,
    last: Mutex<Option<String>>,
    started_again: Mutex<u32>,
    broken: Mutex<bool>,
}

impl Memory {
    fn count(&self, name: &str) -> usize {
        self.events
            .lock()
            .expect("one")
            .iter()
            .filter(|event| event.name() == name)
            .count()
    }
}

impl FeedSink for Memory {
    async fn apply(&self, event: FeedEvent) -> Result<(), SinkError> {
        if *self.broken.lock().expect("one") {
            return Err("the disk is full".into());
        }
        self.events.lock().expect("one").push(event.event);
        if event.id.is_some() {
            *self.last.lock().expect("one") = event.id;
        }
        Ok(())
    }

    async fn resume_from(&self) -> Result<Option<String>, SinkError> {
        Ok(self.last.lock().expect("one").clone())
    }

    async fn start_again(&self) -> Result<(), SinkError> {
        *self.started_again.lock().expect("one") += 1;
        *self.last.lock().expect("one") = None;
        self.events.lock().expect("one").clear();
        Ok(())
    }
}

fn quick() -> FeedSettings {
    let short = Duration::from_secs(3);
    FeedSettings {
        timeouts: Timeouts {
            connect: short,
            handshake: short,
            response: short,
            idle: short,
        },
        heartbeat: Duration::from_secs(45),
        first_delay: Duration::from_millis(20),
        longest_delay: Duration::from_millis(200),
        steady_after: Duration::from_secs(60),
        probe: Duration::from_millis(500),
    }
}

struct Running {
    memory: Arc<Memory>,
    state: watch::Receiver<FeedState>,
    config: watch::Sender<Arc<ClientConfig>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn follow(town: &Town, memory: Arc<Memory>, settings: FeedSettings) -> Running {
    let (config, watched) = watch::channel(Arc::clone(&town.config));
    let random = Box::new(|| 0.5);
    let (follower, state) = Follower::new(
        town.endpoint(),
        watched,
        Arc::clone(&memory),
        settings,
        random,
    );
    Running {
        memory,
        state,
        config,
        task: tokio::spawn(follower.run()),
    }
}

impl Running {
    async fn wait(&mut self, what: impl FnMut(&FeedState) -> bool) -> FeedState {
        let state = tokio::time::timeout(Duration::from_secs(20), self.state.wait_for(what)).await;
        state
            .unwrap_or_else(|_| unreachable!("stayed {:?}", self.config.receiver_count()))
            .expect("alive")
            .clone()
    }

    async fn caught_up(&mut self) {
        self.wait(|state| matches!(state, FeedState::CaughtUp { .. }))
            .await;
    }

    async fn until(&self, what: impl Fn(&Memory) -> bool) {
        for _ in 0..400 {
            if what(&self.memory) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        unreachable!("waited in vain");
    }
}

#[tokio::test]
async fn the_box_catches_up_and_then_hears_of_changes_at_once() {
    let town = town();
    let mut feed = follow(&town, Arc::default(), quick());
    feed.caught_up().await;
    assert!(
        feed.memory.count("person") >= 1 && feed.memory.count("note") >= 10,
        "{}",
        feed.memory.count("note")
    );
    assert!(feed.memory.count("staff") >= 1 && feed.memory.count("facility") >= 1);
    town.city
        .control("hint", &json!({ "what": "antivirus" }))
        .unwrap();
    feed.until(|memory| memory.count("hint") == 1).await;
}

#[tokio::test]
async fn after_a_cut_nothing_is_missed_and_nothing_comes_twice() {
    let mut town = town();
    let mut feed = follow(&town, Arc::default(), quick());
    feed.caught_up().await;
    let notes = feed.memory.count("note");
    town.city.restart().unwrap();
    let event = feed
        .memory
        .events
        .lock()
        .unwrap()
        .iter()
        .find_map(|event| match event {
            Event::Note(note) => Some(note.clone()),
            _ => None,
        });
    let note = event.expect("a note");
    town.city
        .control("note-deleted", &json!({ "note": note.id }))
        .unwrap();
    feed.until(|memory| memory.count("note-deleted") == 1).await;
    assert_eq!(feed.memory.count("note"), notes, "resumed, not repeated");
    feed.caught_up().await;
}

#[tokio::test]
async fn when_the_city_forgot_the_resume_point_everything_is_started_again() {
    let town = town();
    let memory = Arc::new(Memory::default());
    *memory.last.lock().unwrap() = Some("of-another-log.0000000000000001".into());
    let mut feed = follow(&town, memory, quick());
    feed.caught_up().await;
    assert_eq!(*feed.memory.started_again.lock().unwrap(), 1);
    assert!(feed.memory.count("note") >= 10);
}

#[tokio::test]
async fn a_revoked_certificate_is_told_from_a_broken_line_and_not_hammered() {
    let town = town();
    let mut feed = follow(&town, Arc::default(), quick());
    feed.caught_up().await;
    town.city
        .control("revoke", &json!({ "facility": "tkh-1001" }))
        .unwrap();
    let state = feed
        .wait(|state| matches!(state, FeedState::Revoked { .. }))
        .await;
    let requests = || {
        town.city.statistics().unwrap()["requests"]
            .as_u64()
            .unwrap()
    };
    let before = requests();
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    assert!(
        requests() - before <= 3,
        "a probe every 500 ms and nothing else"
    );
    assert_eq!(
        *feed.state.borrow(),
        state,
        "the moment of the first refusal stays"
    );
}

#[tokio::test]
async fn a_suspended_facility_is_told_as_such_and_comes_back_by_itself() {
    let town = town();
    let mut feed = follow(&town, Arc::default(), quick());
    feed.caught_up().await;
    town.city
        .control("suspend-facility", &json!({ "facility": "tkh-1001" }))
        .unwrap();
    feed.wait(|state| matches!(state, FeedState::Suspended { .. }))
        .await;
    town.city
        .control(
            "suspend-facility",
            &json!({ "facility": "tkh-1001", "suspended": false }),
        )
        .unwrap();
    feed.caught_up().await;
}

#[tokio::test]
async fn a_feed_without_a_sign_of_life_is_dropped_and_dialled_again() {
    let town = town();
    // The city's heartbeat comes every 20 s, so one second of patience must run out.
    let mut feed = follow(
        &town,
        Arc::default(),
        FeedSettings {
            heartbeat: Duration::from_secs(1),
            ..quick()
        },
    );
    feed.caught_up().await;
    feed.wait(|state| {
        matches!(
            state,
            FeedState::Disconnected {
                why: Why::Network,
                ..
            }
        )
    })
    .await;
    feed.caught_up().await;
}

#[tokio::test]
async fn a_city_that_is_down_or_busy_is_retried_until_it_is_back() {
    let town = town();
    town.city.fail("5xx").unwrap();
    let mut feed = follow(&town, Arc::default(), quick());
    feed.wait(|state| {
        matches!(
            state,
            FeedState::Disconnected {
                why: Why::Refused(503),
                ..
            }
        )
    })
    .await;
    town.city.fail("down").unwrap();
    // Retry-After: 5 was obeyed meanwhile, so this takes a moment.
    feed.wait(|state| {
        matches!(
            state,
            FeedState::Disconnected {
                why: Why::Network,
                ..
            }
        )
    })
    .await;
    town.city.recover().unwrap();
    feed.caught_up().await;
}

#[tokio::test]
async fn an_event_that_could_not_be_kept_comes_again() {
    let town = town();
    let memory = Arc::new(Memory {
        broken: Mutex::new(true),
        ..Memory::default()
    });
    let mut feed = follow(&town, memory, quick());
    feed.wait(|state| matches!(state, FeedState::Disconnected { why: Why::Sink, .. }))
        .await;
    *feed.memory.broken.lock().unwrap() = false;
    feed.caught_up().await;
    assert!(feed.memory.count("note") >= 10);
}

#[tokio::test]
async fn a_changed_configuration_is_dialled_at_once() {
    let town = town();
    let mut feed = follow(&town, Arc::default(), quick());
    feed.caught_up().await;
    let before = feed.state.borrow().clone();
    feed.config.send_replace(town_beside(&town));
    feed.wait(|state| matches!(state, FeedState::CaughtUp { .. }) && *state != before)
        .await;
}

/// Another configuration with the same identity: sessions of the first are not resumed in it.
fn town_beside(town: &Town) -> Arc<ClientConfig> {
    let mut config = (*town.config).clone();
    config.resumption = rustls::client::Resumption::in_memory_sessions(4);
    Arc::new(config)
}

#[tokio::test]
async fn attachments_come_whole_or_in_ranges_and_reports_are_idempotent() {
    let town = town();
    let mut feed = follow(&town, Arc::default(), quick());
    feed.caught_up().await;
    let attachment = feed
        .memory
        .events
        .lock()
        .unwrap()
        .iter()
        .find_map(|event| match event {
            Event::Note(note) => note.attachments.first().cloned(),
            _ => None,
        });
    let attachment = attachment.expect("the seed has one");
    let (_config, config) = watch::channel(Arc::clone(&town.config));
    let api = GatewayApi::new(town.endpoint(), config, Timeouts::default());
    let read = async |range, limit| -> Result<Vec<u8>, CityError> {
        let mut body = api.attachment(&attachment.id, range, limit).await?;
        let mut all = Vec::new();
        while let Some(piece) = body.next().await? {
            all.extend_from_slice(&piece);
        }
        Ok(all)
    };
    let whole = read(None, attachment.size).await.unwrap();
    assert_eq!(whole.len() as u64, attachment.size);
    assert_eq!(read(Some(3..10), 7).await.unwrap(), whole[3..10]);
    assert!(matches!(
        read(None, 1).await,
        Err(CityError::TooLarge { .. })
    ));
    assert!(matches!(
        api.attachment("../feed", None, 10).await,
        Err(CityError::Refused { .. })
    ));
    let report = Bytes::from(json!({ "version": "0.1.0", "slot": "a", "checks": [] }).to_string());
    let first = api
        .post_status("status-0001", report.clone())
        .await
        .unwrap();
    assert_eq!(
        api.post_status("status-0001", report).await.unwrap(),
        first,
        "the same key, the same receipt"
    );
    api.decommission(
        "decommission-0001",
        Bytes::from_static(b"{\"reason\":\"leaving\"}"),
    )
    .await
    .unwrap();
    let again = api
        .decommission(
            "decommission-0001",
            Bytes::from_static(b"{\"reason\":\"leaving\"}"),
        )
        .await;
    assert!(again.unwrap_err().is_revoked());
}
