//! How long the city has been away, and whether stored notes may be read meanwhile: keeps the last moment at which the box was
//! level with the city, sealed to the TPM, and reads the TPM's clock. The decision itself is the policy crate's.
//!
//! It does not set the clock, and who may read whose notes is the store's. Turning the wall clock back, restarting the box
//! and putting back an older copy of its files make the time without the city longer, never shorter
//! (`docs/decisions/0018-time-without-the-city.md`).

mod contact;
mod pins;
mod vault;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use gateway_audit::Status;
use gateway_city::feed::FeedState;
use gateway_policy::offline::{Clocks, Contact, Locked, OfflineRules, Reading, TpmClock, reading};
use gateway_policy::{Certificate, Evidence, Policy, Standing, Timestamp};
use gateway_tpm::TimeVault;
use tokio::sync::{Notify, watch};

use crate::certificates::chain;
use crate::late_vault::LateVault;
use crate::posture::{self, Posture};
use crate::steps::Steps;

pub(crate) use pins::{Attempt, Pins, Trouble};

/// The directory below the box's state.
const FOLDER: &str = "offline";

/// How often the TPM's clock is read.
const TICK: Duration = Duration::from_secs(60);
/// The same while the TPM does not answer.
const RETRY: Duration = Duration::from_secs(5);
/// A reading older than this says nothing any more.
const STALE: Duration = Duration::from_secs(600);
/// How often the contact is written down while it lasts. A power cut makes the time without the city so much longer.
const KEEPING: Duration = Duration::from_secs(300);

/// How far the city's time goes on before it is written down again as the floor, in seconds.
const FLOOR_STEP: i64 = 3600;
/// How long whoever tells the city's time waits until it is kept.
const KEPT: Duration = Duration::from_secs(10);

/// See the module.
#[derive(Debug)]
pub(crate) struct Offline {
    directory: PathBuf,
    vault: Arc<LateVault>,
    feed: watch::Receiver<FeedState>,
    /// Knows whether the city refuses the facility or its certificate, also after a restart.
    posture: Arc<Posture>,
    policies: watch::Receiver<Arc<Policy>>,
    /// The audit log: the city countersigns it with its time.
    countersigned: watch::Receiver<Option<Status>>,
    known: Mutex<Known>,
    /// Somebody has told the city's time.
    told: Notify,
    /// The floor as it is on the disk; `None` before what was kept has been taken up.
    kept_floor: watch::Sender<Option<Timestamp>>,
}

#[derive(Debug, Default)]
struct Known {
    contact: Option<Contact>,
    floor: Option<Timestamp>,
    /// The city's time as it was told last, and when that was.
    city: Option<(Timestamp, Instant)>,
    /// The TPM's clock as it was read last, and when that was.
    tpm: Option<(TpmClock, Instant)>,
    /// When the contact was written down last.
    kept: Option<Instant>,
}

impl Known {
    fn floor(&self) -> Timestamp {
        self.floor.unwrap_or(Timestamp(0))
    }

    fn tpm(&self, now: Instant) -> Option<TpmClock> {
        let (clock, at) = self.tpm?;
        let age = now.saturating_duration_since(at);
        (age <= STALE).then(|| TpmClock {
            milliseconds: clock
                .milliseconds
                .saturating_add(u64::try_from(age.as_millis()).unwrap_or(u64::MAX)),
            ..clock
        })
    }

    fn city(&self) -> Option<Timestamp> {
        let (told, at) = self.city?;
        Some(told.plus(i64::try_from(at.elapsed().as_secs()).unwrap_or(i64::MAX)))
    }
}

impl Offline {
    /// Nothing is known yet: without the city, nothing is read.
    pub(crate) fn new(
        state_dir: &Path,
        vault: Arc<LateVault>,
        feed: watch::Receiver<FeedState>,
        posture: Arc<Posture>,
        countersigned: watch::Receiver<Option<Status>>,
    ) -> Self {
        Self {
            directory: state_dir.join(FOLDER),
            vault,
            feed,
            policies: posture.policies(),
            posture,
            countersigned,
            known: Mutex::default(),
            told: Notify::new(),
            kept_floor: watch::Sender::new(None),
        }
    }

    /// Where the offline PINs are kept.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// The box is level with the city at this moment.
    pub(crate) fn linked(&self) -> bool {
        matches!(*self.feed.borrow(), FeedState::CaughtUp { .. })
    }

    /// The city was asked and refuses this facility or its certificate: no outage, and nothing to bridge. Whoever asked: with a
    /// revoked certificate the feed is not even tried again, and its state says so for a moment only.
    fn refused(&self) -> bool {
        let snapshot = self.posture.snapshot();
        let revoked = |value| matches!(value, Certificate::Revoked { .. });
        let suspended = |value| matches!(value, Standing::Suspended { .. });
        let refused_by_feed = matches!(
            *self.feed.borrow(),
            FeedState::Suspended { .. } | FeedState::Revoked { .. }
        );
        refused_by_feed
            || matches!(snapshot.certificate, Evidence::Known { value, .. } if revoked(value))
            || matches!(snapshot.standing, Evidence::Known { value, .. } if suspended(value))
    }

    /// Whether stored notes may be read by anybody now. Waits for nothing.
    ///
    /// # Errors
    /// [`Locked`].
    pub(crate) fn reading(&self) -> Result<Reading, Locked> {
        self.reading_at(Instant::now())
    }

    fn reading_at(&self, now: Instant) -> Result<Reading, Locked> {
        if self.refused() {
            return Err(Locked::Refused);
        }
        let rules = self.policies.borrow().offline();
        let linked = self.linked();
        let known = self.known();
        let clocks = self.clocks(&known, now);
        reading(linked, known.contact.as_ref(), &clocks, &rules)
    }

    /// What the policy permits now; without the city, no more than it did when that was heard last.
    pub(crate) fn rules(&self) -> OfflineRules {
        let rules = self.policies.borrow().offline();
        match self.known().contact {
            Some(contact) if !self.linked() => rules.and(&contact.granted),
            _ => rules,
        }
    }

    /// The time by which sessions end: the box's clock, but never before what is known to have passed.
    pub(crate) fn now(&self) -> Timestamp {
        posture::now().max(self.floor())
    }

    /// The earliest that it can be, whatever the box's clock says.
    pub(crate) fn floor(&self) -> Timestamp {
        let known = self.known();
        let clocks = self.clocks(&known, Instant::now());
        match &known.contact {
            Some(contact) => contact.earliest_now(&clocks),
            None => clocks.floor,
        }
    }

    /// Waits until what was kept of the city's time has been taken up, which needs the TPM: before that, no clock is known to
    /// be right.
    pub(crate) async fn taken_up(&self) {
        // The sender is in `self`, so this cannot fail.
        let _ = self.kept_floor.subscribe().wait_for(Option::is_some).await;
    }

    /// The city has told its time, over TLS and just now. Returns when a power cut would not forget it any more, or after
    /// ten seconds.
    pub(crate) async fn city_time(&self, time: Timestamp) {
        {
            let mut known = self.known();
            known.city = Some((time, Instant::now()));
            known.floor = Some(known.floor().max(time));
        }
        self.told.notify_one();
        let mut kept = self.kept_floor.subscribe();
        let is_kept = kept.wait_for(|kept| kept.is_some_and(|kept| kept.plus(FLOOR_STEP) >= time));
        // Why it was not kept is in the journal.
        let _ = tokio::time::timeout(KEPT, is_kept).await;
    }

    fn clocks(&self, known: &Known, now: Instant) -> Clocks {
        let signed = self
            .countersigned
            .borrow()
            .as_ref()
            .and_then(|status| status.acknowledged);
        Clocks {
            wall: posture::now(),
            floor: known.floor().max(signed.unwrap_or(Timestamp(0))),
            tpm: known.tpm(now),
        }
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        // Each change is one assignment, so a panic elsewhere leaves nothing half done.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes up what was kept, and goes on keeping. Never ends.
    pub(crate) async fn keep(self: Arc<Self>, mut steps: Steps) {
        let (mut feed, mut policies) = (self.feed.clone(), self.policies.clone());
        let mut told = None;
        let mut taken_up = false;
        loop {
            feed.borrow_and_update();
            policies.borrow_and_update();
            let outcome = self.look(&mut taken_up).await;
            let pause = if outcome.is_ok() { TICK } else { RETRY };
            match outcome {
                Ok(()) => told = None,
                Err(reason) if told.as_ref() != Some(&reason) => {
                    tracing::warn!(event = "offline-time", error = %reason, "the TPM's clock or the last contact cannot be read or kept; trying on");
                    told = Some(reason);
                }
                Err(_) => {}
            }
            tokio::select! {
                () = steps.sleep(pause) => {}
                Ok(()) = feed.changed() => {}
                // What it permits is kept with the contact, or a clock set back to before it began would undo it.
                Ok(()) = policies.changed() => {}
                () = self.told.notified() => {}
            }
        }
    }

    async fn look(self: &Arc<Self>, taken_up: &mut bool) -> Result<(), String> {
        let this = Arc::clone(self);
        let first = !*taken_up;
        let looked = tokio::task::spawn_blocking(move || this.look_blocking(first)).await;
        match looked {
            Ok(Ok(())) => {
                *taken_up = true;
                Ok(())
            }
            Ok(Err(error)) => Err(chain(&error)),
            Err(_) => Err("looking at it was cut short".to_owned()),
        }
    }

    fn look_blocking(&self, first: bool) -> Result<(), contact::ContactError> {
        if self.refused() {
            // Nor after a restart without the line: what was permitted before counts no more.
            contact::forget(&self.directory)?;
            let mut known = self.known();
            known.contact = None;
            known.kept = None;
        }
        let asked = Instant::now();
        let time = self.vault.time()?;
        let clock = TpmClock {
            milliseconds: time.milliseconds,
            resets: time.resets,
        };
        if first {
            let kept = contact::read(&self.directory, &*self.vault)?;
            let floor = contact::read_floor(&self.directory, &*self.vault)?;
            let mut known = self.known();
            if let Some((contact, floor)) = kept {
                known.floor = Some(known.floor().max(floor));
                known.contact.get_or_insert(contact);
            }
            let floor = floor.unwrap_or(Timestamp(0));
            known.floor = Some(known.floor().max(floor));
            self.kept_floor.send_replace(Some(floor));
        }
        let due = {
            let mut known = self.known();
            // The moment before the question: the time that the TPM took counts as passed.
            known.tpm = Some((clock, asked));
            self.note_contact(&mut known, clock)
        };
        if let Some((contact, floor)) = due {
            contact::write(&self.directory, &*self.vault, &contact, floor)?;
            self.known().kept = Some(Instant::now());
        }
        self.keep_floor()
    }

    /// Writes the floor down once it has gone on far enough.
    fn keep_floor(&self) -> Result<(), contact::ContactError> {
        let floor = self.known().floor();
        let kept = self.kept_floor.borrow().unwrap_or(Timestamp(0));
        if floor > kept.plus(FLOOR_STEP) {
            contact::write_floor(&self.directory, &*self.vault, floor)?;
            self.kept_floor.send_replace(Some(floor));
        }
        Ok(())
    }

    /// Notes that the box is level with the city, if it is; answers with what is to be written down, if it is time.
    fn note_contact(&self, known: &mut Known, tpm: TpmClock) -> Option<(Contact, Timestamp)> {
        if !self.linked() {
            // The next contact is written down at once.
            known.kept = None;
            return None;
        }
        let contact = Contact {
            at: known.city()?,
            tpm,
            granted: self.policies.borrow().offline(),
        };
        let before = known.contact.replace(contact);
        let changed = before.is_none_or(|before| before.granted != contact.granted);
        let due = known.kept.is_none_or(|kept| kept.elapsed() >= KEEPING);
        let floor = self.clocks(known, Instant::now()).floor.max(contact.at);
        known.floor = Some(floor);
        (due || changed).then_some((contact, floor))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A box that was level with the city a moment ago and has read the TPM's clock at `read`.
    fn in_an_outage(directory: &Path, read: Instant) -> Offline {
        let tpm = gateway_tpm::Config::new("swtpm:port=1", directory.join("tpm"));
        let offline = Offline::new(
            directory,
            Arc::new(LateVault::new(tpm)),
            watch::channel(FeedState::Connecting).1,
            Arc::new(Posture::new()),
            watch::channel(None).1,
        );
        let clock = TpmClock {
            milliseconds: 7_000_000,
            resets: 3,
        };
        *offline.known() = Known {
            contact: Some(Contact {
                at: posture::now(),
                tpm: clock,
                granted: Policy::built_in().offline(),
            }),
            tpm: Some((clock, read)),
            ..Known::default()
        };
        offline
    }

    #[test]
    fn a_certificate_on_record_as_revoked_locks_although_the_feed_says_nothing_of_it() {
        let directory = tempfile::tempdir().unwrap();
        let offline = in_an_outage(directory.path(), Instant::now());
        assert!(offline.reading().is_ok());
        let since = posture::now();
        offline.posture.certificate(Certificate::Revoked { since });
        assert_eq!(offline.reading(), Err(Locked::Refused));
    }

    #[test]
    fn a_tpm_that_falls_silent_in_an_outage_locks_after_ten_minutes_until_it_speaks() {
        let directory = tempfile::tempdir().unwrap();
        let read = Instant::now();
        let offline = in_an_outage(directory.path(), read);
        let readable = |at: Instant| matches!(offline.reading_at(at), Ok(Reading::Offline { .. }));
        let silent = |at: Instant| offline.reading_at(at) == Err(Locked::NoTrustedTime);
        assert!(readable(read) && readable(read + STALE));
        let later = read + STALE + Duration::from_secs(1);
        assert!(silent(later) && silent(later + STALE));
        // It speaks again: as much time has passed as its clock says, and no more is asked of anybody.
        let clock = TpmClock {
            milliseconds: 7_000_000 + 601_000,
            resets: 3,
        };
        offline.known().tpm = Some((clock, later));
        assert!(readable(later) && readable(later + STALE));
        // What it said is never worth more because it is old.
        let hours = u64::from(offline.rules().hours) * 3_600_000;
        let clock = TpmClock {
            milliseconds: 7_000_000 + hours,
            resets: 3,
        };
        offline.known().tpm = Some((clock, later));
        let locked = offline.reading_at(later);
        assert!(matches!(locked, Err(Locked::TooLong { .. })), "{locked:?}");
    }
}
