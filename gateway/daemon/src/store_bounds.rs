//! The bounds of the store in force: what the configuration allows, tightened by the city's signed policy, at run time.
//!
//! It erases nothing itself: the store does, when it is told narrower bounds.

use std::sync::Arc;

use gateway_notes::{AttachmentPolicy, Limits};
use gateway_policy::Policy;
use tokio::sync::watch;

use crate::certificates::chain;
use crate::posture;
use crate::stored_notes::StoredNotes;

/// Ordinary documents and pictures. What else the city's notes have attached is read at the city.
const MEDIA_TYPES: [&str; 14] = [
    "image/jpeg",
    "image/png",
    "image/gif",
    "image/webp",
    "image/heic",
    "application/pdf",
    "text/plain",
    "text/csv",
    "application/msword",
    "application/vnd.ms-excel",
    "application/vnd.ms-powerpoint",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "application/vnd.openxmlformats-officedocument.presentationml.presentation",
];

/// What is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// Notes, and bytes of everything.
    pub(crate) limits: Limits,
    /// Attachments.
    pub(crate) attachments: AttachmentPolicy,
}

impl Bounds {
    /// What the configuration allows.
    pub(crate) fn configured(limits: Limits, kept: bool, largest: u64) -> Self {
        Self {
            limits,
            attachments: AttachmentPolicy {
                kept,
                largest: largest.min(gateway_policy::ATTACHMENT_BYTES),
                days: limits.days,
                media_types: MEDIA_TYPES.map(str::to_owned).to_vec(),
            },
        }
    }

    /// The narrower of the two, member by member; the media types are the policy's if it names any.
    pub(crate) fn tightened(&self, policy: &Policy) -> Self {
        let store = &policy.store;
        let attachments = &self.attachments;
        let days = store
            .days
            .map_or(self.limits.days, |days| days.min(self.limits.days));
        let media_types = match &store.attachment_types {
            Some(named) => named.clone(),
            None => attachments.media_types.clone(),
        };
        Self {
            limits: Limits {
                days,
                notes: store
                    .notes
                    .map_or(self.limits.notes, |most| most.min(self.limits.notes)),
                bytes: store
                    .bytes
                    .map_or(self.limits.bytes, |most| most.min(self.limits.bytes)),
            },
            attachments: AttachmentPolicy {
                // To the store an empty list means every type; a policy that names none wants none.
                kept: attachments.kept
                    && store.attachments != Some(false)
                    && !media_types.is_empty(),
                largest: store
                    .attachment_bytes
                    .map_or(attachments.largest, |most| most.min(attachments.largest)),
                days: store.attachment_days.map_or(days, |age| age.min(days)),
                media_types,
            },
        }
    }
}

/// Tells the store its bounds whenever it or the policy is another.
pub(crate) async fn keep(
    notes: Arc<StoredNotes>,
    configured: Bounds,
    mut policies: watch::Receiver<Arc<Policy>>,
) {
    let mut stores = notes.changes();
    loop {
        let bounds = configured.tightened(&policies.borrow_and_update());
        let store = stores.borrow_and_update().clone();
        if let Some(store) = store {
            let days = bounds.limits.days;
            match store
                .set_bounds(bounds.limits, bounds.attachments, posture::now().0)
                .await
            {
                Ok(true) if days == 0 => {
                    tracing::warn!(
                        event = "store-off",
                        "the city's policy has switched the store of notes off; it is erased"
                    );
                    notes.follow_again();
                }
                Ok(true) => {
                    tracing::info!(
                        event = "store-rebuilt",
                        "the store of notes is switched on and filled"
                    );
                    notes.follow_again();
                }
                Ok(false) => {}
                Err(error) => {
                    tracing::error!(event = "store", error = %chain(&error), "the bounds of the store could not be put in force; trying on");
                    notes.saw(&error);
                    tokio::time::sleep(crate::stored_notes::RETRY).await;
                    continue;
                }
            }
        }
        notes.news();
        tokio::select! {
            changed = policies.changed() => if changed.is_err() { return std::future::pending().await },
            changed = stores.changed() => if changed.is_err() { return std::future::pending().await },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gateway_policy::StoreBounds;

    fn configured() -> Bounds {
        let limits = Limits {
            days: 30,
            notes: 1000,
            bytes: 1 << 30,
        };
        Bounds::configured(limits, true, 10 << 20)
    }

    fn with(store: StoreBounds) -> Bounds {
        let mut policy = Policy::built_in();
        policy.store = store;
        configured().tightened(&policy)
    }

    #[test]
    fn a_policy_tightens_and_never_widens() {
        assert_eq!(with(StoreBounds::default()), configured());
        let wide = StoreBounds {
            days: Some(90),
            notes: Some(5000),
            bytes: Some(16 << 30),
            attachments: Some(true),
            attachment_bytes: Some(50 << 20),
            attachment_days: Some(90),
            ..StoreBounds::default()
        };
        assert_eq!(with(wide), configured());
        let narrow = with(StoreBounds {
            days: Some(3),
            notes: Some(7),
            bytes: Some(9),
            attachment_bytes: Some(11),
            attachment_days: Some(2),
            attachment_types: Some(vec!["image/*".into()]),
            ..StoreBounds::default()
        });
        assert_eq!(
            (narrow.limits.days, narrow.limits.notes, narrow.limits.bytes),
            (3, 7, 9)
        );
        assert_eq!(
            (narrow.attachments.largest, narrow.attachments.days),
            (11, 2)
        );
        assert_eq!(narrow.attachments.media_types, ["image/*"]);
    }

    #[test]
    fn a_policy_that_names_no_media_type_wants_no_attachments() {
        let none = with(StoreBounds {
            attachment_types: Some(vec![]),
            ..StoreBounds::default()
        });
        assert!(!none.attachments.kept);
        let off = with(StoreBounds {
            attachments: Some(false),
            ..StoreBounds::default()
        });
        assert!(!off.attachments.kept);
    }
}
