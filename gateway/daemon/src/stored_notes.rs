//! Opens the store of recent notes under a root of keys that is only in the TPM, and fills it from the city's feed.
//!
//! It decides nothing about who may read (the store does). A store whose root is lost is erased and filled anew; it is
//! no backup (第32条).

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use gateway_city::feed::{FeedEvent, FeedSink, SinkError};
use gateway_city::wire;
use gateway_notes::{Change, Guard, KeyRoots, Limits, Opened, Personal, Store};
use gateway_policy::Timestamp;
use gateway_proxy::StaffSessions;
use tokio::sync::{Notify, watch};

use crate::certificates::chain;
use crate::key_roots::RootsInTpm;
use crate::late_vault::LateVault;
use crate::posture::{self, Posture};

/// Pause between two tries to open the store.
pub(crate) const RETRY: Duration = Duration::from_secs(15);
/// How long readers of a store that is given up may take.
const CLOSING: Duration = Duration::from_secs(10);

/// The store in use, which may come late and may be replaced while the box runs.
pub(crate) struct StoredNotes {
    state: PathBuf,
    vault: Arc<LateVault>,
    limits: Limits,
    in_use: watch::Sender<Option<Store>>,
    /// Whether anything personal may be read now.
    guard: Guard,
    /// One opening at a time: a store has one owner.
    opening: tokio::sync::Mutex<()>,
    /// Since when the disk has no room for what the store should keep.
    full: watch::Sender<Option<Timestamp>>,
    /// Something may have become wanted.
    news: Arc<Notify>,
    /// Events taken in since the start.
    received: AtomicU64,
    /// The box has left service: no store is opened any more.
    given_up: AtomicBool,
}

impl std::fmt::Debug for StoredNotes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("StoredNotes(..)")
    }
}

impl StoredNotes {
    /// No store yet.
    #[must_use]
    pub(crate) fn new(state: PathBuf, vault: Arc<LateVault>, limits: Limits, guard: Guard) -> Self {
        Self {
            state,
            vault,
            limits,
            in_use: watch::Sender::new(None),
            guard,
            opening: tokio::sync::Mutex::default(),
            full: watch::Sender::new(None),
            news: Arc::default(),
            received: AtomicU64::new(0),
            given_up: AtomicBool::new(false),
        }
    }

    /// Since when the disk has no room for the store.
    #[must_use]
    pub(crate) fn disk_full(&self) -> Option<Timestamp> {
        *self.full.borrow()
    }

    /// Takes note of an error of the store, which may say that the disk is full.
    pub(crate) fn saw(&self, error: &gateway_notes::Error) {
        let begins = error.is_disk_full()
            && self.full.send_if_modified(|since| {
                let begins = since.is_none();
                since.get_or_insert_with(posture::now);
                begins
            });
        if begins {
            tracing::error!(
                event = "disk-full",
                "the disk is full: nothing more is stored for now; relaying goes on"
            );
        }
    }

    /// Something was stored, or there is room again.
    pub(crate) fn well(&self) {
        if self.full.send_if_modified(|since| since.take().is_some()) {
            tracing::info!(
                event = "disk-full",
                "the disk has room again; storing goes on"
            );
        }
    }

    /// Something may have become wanted.
    pub(crate) fn news(&self) {
        self.news.notify_one();
    }

    /// Hears of [`StoredNotes::news`].
    #[must_use]
    pub(crate) fn heard(&self) -> Arc<Notify> {
        Arc::clone(&self.news)
    }

    /// Events taken in since the start.
    #[must_use]
    pub(crate) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Has the feed followed anew from where the store now stands.
    pub(crate) fn follow_again(&self) {
        self.in_use.send_modify(|_| ());
    }

    /// How taking so many events in has ended.
    pub(crate) fn took<T>(&self, events: usize, done: &Result<T, SinkError>) {
        match done {
            Ok(_) => {
                let events = u64::try_from(events).unwrap_or_default();
                self.received.fetch_add(events, Ordering::Relaxed);
                self.well();
                self.news();
            }
            Err(error) => {
                if let Some(error) = error.downcast_ref() {
                    self.saw(error);
                }
            }
        }
    }

    /// The store, once it is open.
    #[must_use]
    pub(crate) fn store(&self) -> Option<Store> {
        self.in_use.borrow().clone()
    }

    /// The store as it comes and is replaced.
    #[must_use]
    pub(crate) fn changes(&self) -> watch::Receiver<Option<Store>> {
        self.in_use.subscribe()
    }

    /// Tries until the store is open. Each reason is logged once.
    pub(crate) async fn open_eventually(&self) {
        let mut told = None;
        loop {
            let failed = {
                let _alone = self.opening.lock().await;
                if self.in_use.borrow().is_some() || self.given_up.load(Ordering::Relaxed) {
                    return;
                }
                self.open().await
            };
            let Some(reason) = failed else { return };
            if told.as_ref() != Some(&reason) {
                tracing::error!(event = "store", error = %reason, "the store of notes is not open; trying on");
                told = Some(reason);
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// After a new certificate: when the TPM was cleared or exchanged since, the store lives under a key that will not
    /// be there after the next start. It is erased, and a new one begins under a key that this TPM holds.
    pub(crate) async fn renew_lost_key(&self) {
        {
            let _alone = self.opening.lock().await;
            if self.in_use.borrow().is_none() || !self.key_is_lost().await {
                return;
            }
            tracing::warn!(
                event = "store-rebuilt",
                "the key of the store is lost; the store is filled anew"
            );
            if let Some(old) = self.in_use.send_replace(None) {
                if let Err(error) = old.erase().await {
                    tracing::error!(event = "store", error = %chain(&error), "the old store could not be erased");
                }
                let _ = tokio::time::timeout(CLOSING, old.close()).await;
            }
        }
        self.open_eventually().await;
    }

    /// The box leaves service: the store is erased and closed, and no other is opened by this process.
    pub(crate) async fn give_up(&self) {
        let _alone = self.opening.lock().await;
        self.given_up.store(true, Ordering::Relaxed);
        if let Some(old) = self.in_use.send_replace(None) {
            if let Err(error) = old.erase().await {
                tracing::error!(event = "store", error = %chain(&error), "the store could not be erased; its keys go with the TPM's");
            }
            let _ = tokio::time::timeout(CLOSING, old.close()).await;
        }
    }

    async fn key_is_lost(&self) -> bool {
        let Some(store) = self.store() else {
            return false;
        };
        let Ok(standing) = store.rebuilding().await else {
            return false;
        };
        let roots = RootsInTpm(Arc::clone(&self.vault));
        let asked = tokio::task::spawn_blocking(move || roots.roots()).await;
        matches!(asked, Ok(Ok(roots)) if roots.iter().all(|root| root.generation() != standing.generation))
    }

    /// Why it did not open.
    async fn open(&self) -> Option<String> {
        let (state, vault, limits) = (self.state.clone(), Arc::clone(&self.vault), self.limits);
        match tokio::task::spawn_blocking(move || open(&state, vault, limits)).await {
            Ok(Ok(store)) => {
                self.in_use
                    .send_replace(Some(store.guarded(Arc::clone(&self.guard))));
                None
            }
            Ok(Err(error)) => Some(chain(&error)),
            Err(_) => Some("opening it was cut short".to_owned()),
        }
    }
}

/// Opens the store in `<state>/notes/store`, making it and its root where there are none. Blocks on TPM and disk.
///
/// # Errors
/// [`gateway_notes::Error`]. A root that the TPM no longer has is no error: the store starts empty under a new one.
fn open(
    state: &Path,
    vault: Arc<LateVault>,
    limits: Limits,
) -> Result<Store, gateway_notes::Error> {
    let directory = state.join("notes");
    let roots = Arc::new(RootsInTpm(vault));
    let (store, opened) = Store::open(&directory.join("store"), roots, limits)?;
    // Earlier versions sealed a key to the TPM, which a copy of the disk has too.
    let _ = std::fs::remove_file(directory.join("store-key.sealed"));
    match opened {
        Opened::New => tracing::info!(event = "store", "the store of notes begins empty"),
        Opened::Resumed => tracing::info!(
            event = "store",
            "the store of notes goes on where it stopped"
        ),
        Opened::StartedAfresh => {
            tracing::warn!(
                event = "store-rebuilt",
                "the store of notes was damaged or its root of keys is lost; it is filled anew"
            );
        }
    }
    Ok(store)
}

/// Takes the feed's events into the store, and what they say about staff and facility to where it takes effect at once.
#[derive(Debug)]
pub(crate) struct FeedIntoStore {
    store: Store,
    staff: Arc<StaffSessions>,
    posture: Arc<Posture>,
    /// Called with the user id when a user is suspended (第31条).
    forget: Forget,
}

/// Ends a user's sessions on the box's own pages.
pub(crate) struct Forget(pub(crate) Box<dyn Fn(&str) + Send + Sync>);

impl std::fmt::Debug for Forget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Forget")
    }
}

impl FeedIntoStore {
    /// See the type.
    #[must_use]
    pub(crate) const fn new(
        store: Store,
        staff: Arc<StaffSessions>,
        posture: Arc<Posture>,
        forget: Forget,
    ) -> Self {
        Self {
            store,
            staff,
            posture,
            forget,
        }
    }

    fn take_effect(&self, event: &wire::Event) {
        match event {
            wire::Event::Staff(staff) if staff.suspended => {
                self.staff.forget_user(&staff.id);
                (self.forget.0)(&staff.id);
            }
            wire::Event::Facility(facility) => self.posture.standing(facility.suspended),
            _ => {}
        }
    }
}

impl FeedSink for FeedIntoStore {
    async fn apply(&self, event: FeedEvent) -> Result<(), SinkError> {
        self.apply_all(vec![event]).await
    }

    async fn apply_all(&self, events: Vec<FeedEvent>) -> Result<(), SinkError> {
        for event in &events {
            self.take_effect(&event.event);
        }
        let caught_up = events
            .iter()
            .any(|event| event.event == wire::Event::CaughtUp);
        let kept: Vec<_> = events
            .into_iter()
            .filter_map(|event| {
                let (id, change) = (event.id?, change(event.event)?);
                Some(gateway_notes::Event { id, change })
            })
            .collect();
        if !kept.is_empty() {
            let after = self.store.position().await?;
            self.store.apply(after, kept, posture::now().0).await?;
        }
        if caught_up {
            // Resuming repeats no facility event: what the store was last told still stands.
            self.posture.standing(self.store.status().await?.suspended);
        }
        Ok(())
    }

    async fn resume_from(&self) -> Result<Option<String>, SinkError> {
        Ok(self.store.position().await?)
    }

    async fn start_again(&self) -> Result<(), SinkError> {
        tracing::warn!(
            event = "store-rebuilt",
            "the city asks to start again; a second store is filled beside the one that is read"
        );
        Ok(self.store.begin_rebuild().await?)
    }
}

/// The store's words for an event of the wire; `None` for what the store does not keep.
fn change(event: wire::Event) -> Option<Change> {
    let personal = |text: gateway_city::Personal<String>| Personal::new(text.into_inner());
    Some(match event {
        wire::Event::Person(person) => Change::Person {
            id: person.id,
            display_name: personal(person.display_name),
            readers: person.readers,
            support_ended: person.support_ended,
        },
        wire::Event::Note(note) => Change::Note {
            id: note.id,
            person: note.person,
            author: note.author,
            author_name: personal(note.author_name),
            role: note.role,
            time: note.time.unix_timestamp(),
            text: personal(note.text),
            attachments: note
                .attachments
                .into_iter()
                .map(|attachment| gateway_notes::Attachment {
                    id: attachment.id,
                    name: personal(attachment.name),
                    media_type: attachment.media_type,
                    size: attachment.size,
                    sha256: attachment.sha256,
                })
                .collect(),
            signature: note.signature,
        },
        wire::Event::NoteDeleted(id) => Change::NoteDeleted { id },
        wire::Event::PersonEnded(id) => Change::PersonEnded { id },
        wire::Event::Staff(staff) => Change::Staff {
            id: staff.id,
            display_name: personal(staff.display_name),
            role: match staff.role {
                wire::Role::Manager => gateway_notes::Role::Manager,
                wire::Role::Staff => gateway_notes::Role::Staff,
            },
            suspended: staff.suspended,
        },
        wire::Event::Notice(notice) => Change::Notice {
            id: notice.id,
            title: notice.title,
            text: notice.text,
            members_only: notice.members_only,
            until: notice.until.map(time::OffsetDateTime::unix_timestamp),
        },
        wire::Event::Facility(facility) => Change::Facility {
            id: facility.id,
            name: facility.name,
            suspended: facility.suspended,
        },
        wire::Event::CaughtUp => Change::CaughtUp,
        wire::Event::Hint(_) | wire::Event::Unknown(_) => return None,
    })
}
