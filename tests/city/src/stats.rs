//! What the city saw, for tests to ask on the control port.
//!
//! Counts only; keeps no path, no body, no name.

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counters since the start.
#[derive(Debug, Default)]
pub struct Stats {
    full: AtomicU64,
    resumed: AtomicU64,
    failed: AtomicU64,
    requests: AtomicU64,
    connections: AtomicU64,
    feeds: AtomicU64,
    heard: AtomicU64,
    heard_bytes: AtomicU64,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    forwarded: Option<String>,
    /// Client certificate serials and the number of handshakes each was seen in.
    serials: BTreeMap<String, u64>,
    /// Requests that a box relayed, by method.
    relayed: BTreeMap<String, u64>,
    /// Requests by HTTP version.
    versions: BTreeMap<&'static str, u64>,
    /// Answers by status.
    statuses: BTreeMap<u16, u64>,
}

/// Counts one open connection for as long as it lives.
#[derive(Debug)]
pub struct Open<'a>(&'a AtomicU64);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl Stats {
    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// A finished handshake.
    pub fn handshake(&self, resumed: bool, serial: Option<&str>) {
        if resumed { &self.resumed } else { &self.full }.fetch_add(1, Relaxed);
        if let Some(serial) = serial {
            *self.seen().serials.entry(serial.to_owned()).or_default() += 1;
        }
    }

    /// A handshake that failed.
    pub fn handshake_failed(&self) {
        self.failed.fetch_add(1, Relaxed);
    }

    /// A connection, until the value is dropped.
    pub fn connection(&self) -> Open<'_> {
        self.connections.fetch_add(1, Relaxed);
        Open(&self.connections)
    }

    /// A feed, until the value is dropped.
    pub fn feed(&self) -> Open<'_> {
        self.feeds.fetch_add(1, Relaxed);
        Open(&self.feeds)
    }

    /// A request.
    pub fn request(&self, version: http::Version, method: &http::Method, forwarded: Option<&str>) {
        self.requests.fetch_add(1, Relaxed);
        let mut seen = self.seen();
        let name = if version == http::Version::HTTP_2 {
            "HTTP/2"
        } else {
            "HTTP/1.1"
        };
        *seen.versions.entry(name).or_default() += 1;
        if let Some(value) = forwarded {
            seen.forwarded = Some(value.to_owned());
            // The box names its client in what it relays, and in nothing else that it asks.
            let known = [http::Method::GET, http::Method::POST];
            let name = known.iter().find(|known| *known == method);
            let name = name.map_or("other", http::Method::as_str);
            *seen.relayed.entry(name.to_owned()).or_default() += 1;
        }
    }

    /// A message that a page sent over its WebSocket.
    pub fn heard(&self, bytes: usize) {
        self.heard.fetch_add(1, Relaxed);
        self.heard_bytes
            .fetch_add(u64::try_from(bytes).unwrap_or(u64::MAX), Relaxed);
    }

    /// An answer.
    pub fn answer(&self, status: u16) {
        *self.seen().statuses.entry(status).or_default() += 1;
    }

    /// Everything as JSON.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let seen = self.seen();
        json!({
            "handshakes": {
                "full": self.full.load(Relaxed),
                "resumed": self.resumed.load(Relaxed),
                "failed": self.failed.load(Relaxed),
            },
            "requests": self.requests.load(Relaxed),
            "active_connections": self.connections.load(Relaxed),
            "active_feeds": self.feeds.load(Relaxed),
            "last_forwarded": seen.forwarded,
            "relayed": seen.relayed,
            "live": { "messages": self.heard.load(Relaxed), "bytes": self.heard_bytes.load(Relaxed) },
            "client_certificate_serials": seen.serials,
            "versions": seen.versions,
            "statuses": seen.statuses,
        })
    }
}
