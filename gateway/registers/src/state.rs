//! How the registers stand, derived from their events one after the other. Pure; it writes nothing.

use std::collections::{BTreeMap, BTreeSet};

use aws_lc_rs::digest;
use gateway_policy::Timestamp;

use crate::event::Event;
use crate::text::folded;
use crate::{Declaration, Held, Medium, Place, Refused, Topic};

/// Media in use at one time; a facility with more has an archive, not a drawer.
pub const MOST_MEDIA: usize = 2_000;
/// Entries in all registers together.
pub const MOST_EVENTS: u64 = 200_000;

/// How everything stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    pub(crate) media: BTreeMap<u64, Medium>,
    pub(crate) reviewed: Option<Timestamp>,
    pub(crate) trainings: Vec<Held>,
    pub(crate) declarations: Vec<Declaration>,
    pub(crate) events: u64,
    pub(crate) last_medium: u64,
    /// Rolling hashes over the events of media, trainings and declarations.
    pub(crate) digests: [[u8; 32]; 3],
}

impl State {
    /// Every medium by its number, those disposed of included.
    pub fn media(&self) -> impl Iterator<Item = &Medium> {
        self.media.values()
    }

    /// One medium.
    #[must_use]
    pub fn medium(&self, number: u64) -> Option<&Medium> {
        self.media.get(&number)
    }

    /// When all media were last looked for.
    #[must_use]
    pub const fn reviewed(&self) -> Option<Timestamp> {
        self.reviewed
    }

    /// Trainings in the order in which they were recorded.
    #[must_use]
    pub fn trainings(&self) -> &[Held] {
        &self.trainings
    }

    /// The newest training's first moment, by the day it was held.
    #[must_use]
    pub fn last_training(&self) -> Option<Timestamp> {
        let days = self.trainings.iter().map(|held| held.training.day);
        days.max()
            .map(gateway_policy::calendar::Date::midnight_in_japan)
    }

    /// Declarations in the order in which they were made.
    #[must_use]
    pub fn declarations(&self) -> &[Declaration] {
        &self.declarations
    }

    /// When a topic was last declared.
    #[must_use]
    pub fn declared(&self, topic: Topic) -> Option<Timestamp> {
        let of_topic = |declaration: &&Declaration| declaration.topic == topic;
        let newest = self.declarations.iter().rev().find(of_topic);
        newest.map(|declaration| declaration.at)
    }

    /// The declaration that is the first to grow old; `None` while one of the topics was never declared.
    #[must_use]
    pub fn oldest_declaration(&self) -> Option<Timestamp> {
        let each = Topic::ALL.map(|topic| self.declared(topic));
        each.into_iter()
            .collect::<Option<Vec<_>>>()?
            .into_iter()
            .min()
    }

    /// Whether the event can follow.
    pub(crate) fn admits(&self, event: &Event, at: Timestamp) -> Result<(), Refused> {
        if self.events >= MOST_EVENTS {
            return Err(Refused::Full);
        }
        match event {
            Event::Enter { what, .. } => {
                let mut in_use = self.media.values().filter(|medium| !medium.has_ended());
                if in_use.clone().count() >= MOST_MEDIA {
                    return Err(Refused::Full);
                }
                let label = folded(&what.label);
                if in_use.any(|medium| folded(&medium.what.label) == label) {
                    return Err(Refused::LabelTaken);
                }
                Ok(())
            }
            Event::Change { medium, change } => self
                .media
                .get(medium)
                .ok_or(Refused::NoSuchMedium)?
                .after(change, at)
                .map(|_| ()),
            Event::Review { seen, missing } => self.covers(seen, missing),
            Event::Train { training } => {
                let same = self.trainings.iter().any(|held| held.training == *training);
                if same { Err(Refused::Recorded) } else { Ok(()) }
            }
            Event::Declare { .. } => Ok(()),
        }
    }

    /// A review names every medium in use once, and no other.
    fn covers(&self, seen: &[u64], missing: &[u64]) -> Result<(), Refused> {
        let named: BTreeSet<u64> = seen.iter().chain(missing).copied().collect();
        let in_use = self.media.values().filter(|medium| !medium.has_ended());
        let expected: BTreeSet<u64> = in_use.map(|medium| medium.number).collect();
        if named == expected && named.len() == seen.len() + missing.len() {
            Ok(())
        } else {
            Err(Refused::ReviewIncomplete)
        }
    }

    /// Moves on by one event. `None`: it cannot follow, so what was read is not what was written.
    pub(crate) fn apply(
        &mut self,
        event: &Event,
        at: Timestamp,
        by: &str,
        body: &str,
    ) -> Option<()> {
        match event {
            Event::Enter { medium, what } => {
                // Numbers only grow; that of a medium whose record was dropped after its time is not given again.
                if *medium <= self.last_medium {
                    return None;
                }
                self.last_medium = *medium;
                let entered = Medium {
                    number: *medium,
                    what: what.clone(),
                    place: Place::Kept,
                    since: at,
                    seen: None,
                };
                self.media.insert(*medium, entered);
            }
            Event::Change { medium, change } => {
                let medium = self.media.get_mut(medium)?;
                *medium = medium.after(change, at).ok()?;
            }
            Event::Review { seen, missing } => self.review(seen, missing, at),
            Event::Train { training } => self.trainings.push(Held {
                training: training.clone(),
                at,
                by: by.to_owned(),
            }),
            Event::Declare { topic, remark } => self.declarations.push(Declaration {
                topic: *topic,
                remark: remark.clone(),
                at,
                by: by.to_owned(),
            }),
        }
        self.events += 1;
        self.roll(event, at, by, body);
        Some(())
    }

    fn review(&mut self, seen: &[u64], missing: &[u64], at: Timestamp) {
        // Media whose record was dropped after its time may still stand in an old review.
        for number in seen {
            if let Some(medium) = self.media.get_mut(number) {
                medium.seen = Some(at);
                if medium.place == Place::Missing {
                    medium.place = Place::Kept;
                    medium.since = at;
                }
            }
        }
        for number in missing {
            if let Some(medium) = self.media.get_mut(number)
                && medium.place != Place::Missing
                && !medium.has_ended()
            {
                medium.place = Place::Missing;
                medium.since = at;
            }
        }
        self.reviewed = Some(at);
    }

    fn roll(&mut self, event: &Event, at: Timestamp, by: &str, body: &str) {
        let register = match event {
            Event::Enter { .. } | Event::Change { .. } | Event::Review { .. } => 0,
            Event::Train { .. } => 1,
            Event::Declare { .. } => 2,
        };
        let mut hash = digest::Context::new(&digest::SHA256);
        hash.update(&self.digests[register]);
        hash.update(&at.0.to_be_bytes());
        // Lengths first, so that no two entries are the same bytes.
        for text in [by, body] {
            hash.update(&u64::try_from(text.len()).unwrap_or(u64::MAX).to_be_bytes());
            hash.update(text.as_bytes());
        }
        self.digests[register].copy_from_slice(hash.finish().as_ref());
    }
}
