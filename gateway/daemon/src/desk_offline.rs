//! The time without the city as the console's pages see it: names for what happened, and who may come in with a PIN.
//!
//! It compares no PIN ([`Pins`] does) and measures no time ([`Offline`] does). It never says why a PIN was refused.

use std::sync::Arc;

use gateway_audit::{Event, PinChange};
use gateway_console::{Answer, Message, OfflineDesk, PinState, Staff};
use gateway_policy::DeviceId;
use gateway_policy::offline::{Locked, OfflineRules, PIN_SESSION, Pin, Reading};
use tokio::sync::mpsc;

use crate::audit::loosening;
use crate::certificates::chain;
use crate::offline::{Attempt, Offline, Pins, Trouble};
use crate::posture::Posture;
use crate::stored_notes::StoredNotes;

/// Sign-ins at the city that wait to be taken note of; far more than a facility has in a second.
const BACKLOG: usize = 256;

/// See the module.
pub(crate) struct OfflinePages {
    /// Time and policy.
    pub(crate) offline: Arc<Offline>,
    /// The PINs.
    pub(crate) pins: Arc<Pins>,
    /// Says who may still read at all.
    pub(crate) notes: Arc<StoredNotes>,
    /// Has the audit log.
    pub(crate) posture: Arc<Posture>,
}

impl OfflinePages {
    /// Does something with the PINs on a thread that may wait for disk, TPM and hashing.
    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Pins) -> Result<T, Trouble> + Send + 'static,
    ) -> Result<T, Message> {
        let pins = Arc::clone(&self.pins);
        match tokio::task::spawn_blocking(move || work(&pins)).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(Trouble::NotWrittenDown(_))) => Err(loosening::message()),
            Ok(Err(trouble)) => {
                tracing::error!(event = "offline-pin", error = %chain(&trouble), "the offline PINs cannot be used");
                Err(out_of_order())
            }
            Err(_) => Err(out_of_order()),
        }
    }

    async fn sign_in(
        &self,
        user: String,
        pin: Pin,
        device: DeviceId,
    ) -> Result<Option<Staff>, Message> {
        let asked = user.clone();
        let attempt = self
            .with(move |pins| pins.attempt(&asked, &pin, device))
            .await?;
        if attempt == Attempt::TooMany {
            tracing::warn!(event = "offline-pin", %device, "too many attempts to sign in from one device");
            return Err(too_many());
        }
        // Asked for everybody, so that an answer takes the same time.
        let known = match self.notes.store() {
            Some(store) => store.staff(&user).await.ok().flatten(),
            None => None,
        };
        // The city may have come back, or the store have locked, while the PIN was hashed.
        let open = self.offline.rules().pin
            && matches!(self.offline.reading(), Ok(Reading::Offline { .. }));
        if attempt != Attempt::Right || known.is_none() || !open {
            tracing::warn!(event = "offline-pin", %device, "a sign-in with a PIN was refused");
            return Ok(None);
        }
        self.signs_in(user.clone(), device).await?;
        tracing::info!(event = "offline-pin", %device, "somebody has signed in with a PIN");
        Ok(Some(Staff {
            user,
            // Whoever it is: what only a manager may do takes a sign-in at the city.
            role: gateway_notes::Role::Staff,
            until: self.offline.now().plus(PIN_SESSION),
        }))
    }
}

impl OfflinePages {
    /// Writes down, first, that this user comes in.
    async fn signs_in(&self, user: String, device: DeviceId) -> Result<(), Message> {
        let standing = self.with(move |pins| pins.standing(&user)).await?;
        let event = Event::Pin {
            what: PinChange::SignedIn,
            user: standing.ok_or_else(out_of_order)?.pseudonym,
            device: Some(device),
        };
        let written = loosening::before(&self.posture, event).await;
        written.map_err(|_| loosening::message())
    }
}

impl OfflineDesk for OfflinePages {
    fn linked(&self) -> bool {
        self.offline.linked()
    }

    fn reading(&self) -> Result<Reading, Locked> {
        self.offline.reading()
    }

    fn rules(&self) -> OfflineRules {
        self.offline.rules()
    }

    fn pin(&self, user: String) -> Answer<'_, Result<Option<PinState>, Message>> {
        Box::pin(async move {
            let standing = self.with(move |pins| pins.standing(&user)).await?;
            Ok(standing.map(|standing| PinState {
                since: standing.since,
                locked: standing.locked,
            }))
        })
    }

    fn set_pin(&self, user: String, pin: Pin) -> Answer<'_, Result<(), Message>> {
        Box::pin(async move {
            let now = self.offline.now();
            self.with(move |pins| pins.set(&user, &pin, now)).await?;
            tracing::info!(event = "offline-pin", "an offline PIN was set");
            Ok(())
        })
    }

    fn remove_pin(&self, user: String) -> Answer<'_, Result<(), Message>> {
        Box::pin(async move {
            self.with(move |pins| pins.remove(&user)).await?;
            tracing::info!(event = "offline-pin", "an offline PIN was removed");
            Ok(())
        })
    }

    fn sign_in(
        &self,
        user: String,
        pin: Pin,
        device: DeviceId,
    ) -> Answer<'_, Result<Option<Staff>, Message>> {
        Box::pin(self.sign_in(user, pin, device))
    }
}

/// Where the data path says that the city has just signed somebody in, and the task that then forgives wrong PINs.
pub(crate) fn forgiving(
    pins: Arc<Pins>,
) -> (
    impl Fn(&str) + Send + Sync + 'static,
    impl Future<Output = ()> + Send + 'static,
) {
    let (tell, mut told) = mpsc::channel::<String>(BACKLOG);
    let task = async move {
        while let Some(user) = told.recv().await {
            let pins = Arc::clone(&pins);
            let forgiven = tokio::task::spawn_blocking(move || pins.forgive(&user)).await;
            if let Ok(Err(trouble)) = forgiven {
                tracing::error!(event = "offline-pin", error = %chain(&trouble), "a locked PIN stays locked until the next sign-in");
            }
        }
        std::future::pending().await
    };
    // A data thread must not wait; what does not fit is forgiven at the next sign-in.
    (move |user: &str| drop(tell.try_send(user.to_owned())), task)
}

fn too_many() -> Message {
    Message {
        sentence: "この端末からのサインインの回数が多すぎます。".into(),
        next_step: "15分ほど待ってから、もう一度お試しください。".into(),
        code: "O-TOO-MANY".into(),
    }
}

fn out_of_order() -> Message {
    Message {
        sentence: "いま、PINを確かめられません。".into(),
        next_step: "数分たってから、もう一度お試しください。急ぎの連絡は電話でしてください。"
            .into(),
        code: "O-TROUBLE".into(),
    }
}
