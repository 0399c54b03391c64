//! How far the store has got with what the city has: numbers and times only, for the home page and `gatewayctl notes`.
//!
//! It changes nothing.

use std::sync::Arc;

use gateway_city::feed::FeedState;
use gateway_notes::{AttachmentCounts, Status};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::attachments::Hindrance;
use crate::posture;
use crate::stored_notes::StoredNotes;

/// See the module.
#[derive(Debug)]
pub(crate) struct Progress {
    pub(crate) notes: Arc<StoredNotes>,
    pub(crate) feed: watch::Receiver<FeedState>,
    pub(crate) hindered: watch::Receiver<Option<Hindrance>>,
}

impl Progress {
    /// For the pages.
    pub(crate) async fn for_pages(&self) -> gateway_console::Progress {
        let (stored, counts) = self.stored().await;
        let beside = self.notes.store().and_then(|store| store.received_beside());
        gateway_console::Progress {
            rebuilding: beside,
            attachments_unseen: counts.unseen,
            received: self.notes.received(),
            caught_up: self.is_caught_up(),
            notes: stored.as_ref().map_or(0, |stored| stored.notes),
            attachments_done: counts.done,
            attachments_total: counts.total,
            attachments_refused: counts.refused,
            bytes: bytes(stored.as_ref(), &counts),
            disk_full: self.notes.disk_full(),
            waits_for_scanner: *self.hindered.borrow() == Some(Hindrance::Scanner),
        }
    }

    /// For the control socket.
    pub(crate) async fn for_control(&self) -> Value {
        let (stored, counts) = self.stored().await;
        let keys = match self.notes.store() {
            Some(store) => store.rebuilding().await.ok(),
            None => None,
        };
        let hindered = *self.hindered.borrow();
        json!({
            "open": stored.is_some(),
            "received": self.notes.received(),
            "caught_up": self.is_caught_up(),
            "caught_up_at": stored.as_ref().and_then(|stored| stored.caught_up),
            "persons": stored.as_ref().map_or(0, |stored| stored.persons),
            "notes": stored.as_ref().map_or(0, |stored| stored.notes),
            "bytes": bytes(stored.as_ref(), &counts),
            // A second store that is filled beside the one that is read.
            "rebuilding": keys.and_then(|keys| keys.notes).map(|notes| json!({ "notes": notes })),
            "key_root": keys.map(|keys| json!({ "generation": keys.generation, "renewal_due": keys.renewal_due })),
            "attachments": {
                "done": counts.done,
                "total": counts.total,
                "refused": counts.refused,
                "not_kept": counts.not_kept,
                "bytes": counts.bytes,
                "unseen": counts.unseen,
                "waits_for": hindered.map(Hindrance::id),
            },
            "disk_full_since": self.notes.disk_full().map(|since| since.0),
        })
    }

    async fn stored(&self) -> (Option<Status>, AttachmentCounts) {
        let Some(store) = self.notes.store() else {
            return Default::default();
        };
        let counts = store.attachment_counts(posture::now().0).await;
        (store.status().await.ok(), counts.unwrap_or_default())
    }

    /// Whether the city answers and the box is level with it.
    pub(crate) fn is_caught_up(&self) -> bool {
        matches!(*self.feed.borrow(), FeedState::CaughtUp { .. })
    }
}

fn bytes(stored: Option<&Status>, counts: &AttachmentCounts) -> u64 {
    stored.map_or(0, |stored| stored.bytes) + counts.bytes
}
