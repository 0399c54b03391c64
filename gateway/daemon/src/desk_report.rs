//! How the checks stand, for the compliance pages: read off the newest snapshot. Judges nothing.

use std::fmt;
use std::sync::Arc;

use gateway_console::{
    About, Answer, Channel, Engine, Line, Machinery, Mark, Message, Refusal, Report, ReportDesk,
};
use gateway_policy::{
    BOX_CHECKS, Check, DEVICE_CHECKS, DeviceEntry, DeviceId, Effect, Entry, FACILITY_CHECKS,
    Snapshot, State, Subject, Timestamp,
};
use gateway_provisioning::Provisioner;
use tokio::sync::watch;

use crate::posture::{self, Posture};

/// What a device is called, by those who keep the register of devices.
pub(crate) type Names = Arc<dyn Fn(DeviceId) -> Option<String> + Send + Sync>;

/// See the module.
pub(crate) struct ReportPages {
    /// The evidence board.
    pub(crate) posture: Arc<Posture>,
    /// Knows the facility's name.
    pub(crate) provisioner: Arc<Provisioner>,
    /// What devices are called.
    pub(crate) names: Names,
    /// What of the signed channel was refused at the last look.
    pub(crate) refusals: watch::Receiver<Option<Refusal>>,
}

impl fmt::Debug for ReportPages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReportPages(..)")
    }
}

impl ReportPages {
    /// Adds to lines under an exception why it was made.
    fn with_reasons(&self, mut lines: Vec<Line>) -> Vec<Line> {
        if lines.iter().all(|line| line.waived_until.is_none()) {
            return lines;
        }
        let waivers = self.posture.waivers();
        for line in lines.iter_mut().filter(|line| line.waived_until.is_some()) {
            let subject = match &line.about {
                About::Box => Subject::Box,
                About::Facility => Subject::Facility,
                About::Device { id, .. } => Subject::Device(*id),
            };
            let of_it = waivers
                .iter()
                .find(|(whose, check, _)| (*whose, *check) == (subject, line.check));
            line.waived_for = of_it.map(|(.., waiver)| waiver.reason.clone());
        }
        lines
    }
}

impl ReportDesk for ReportPages {
    fn report(&self) -> Answer<'_, Result<Report, Message>> {
        Box::pin(async {
            let now = posture::now();
            let identities = self.provisioner.identities().await.unwrap_or_default();
            Ok(Report {
                made: now,
                facility: identities
                    .first()
                    .map(|identity| identity.facility_name.clone()),
                lines: self.with_reasons(lines(&self.posture.snapshot(), &self.names, now)),
            })
        })
    }

    fn machinery(&self) -> Answer<'_, Machinery> {
        Box::pin(async {
            let mut machinery = machinery(
                self.posture.version(),
                &self.posture.snapshot(),
                posture::now(),
            );
            if let Some(channel) = &mut machinery.channel {
                channel.refused.clone_from(&self.refusals.borrow());
            }
            machinery
        })
    }
}

/// What keeps itself up to date, as far as the evidence tells.
fn machinery(version: &str, snapshot: &Snapshot, now: Timestamp) -> Machinery {
    let behind = now.0.saturating_sub(snapshot.time(now).0);
    let shown = |at: Timestamp| at.plus(behind);
    let own = |check| snapshot.own(check);
    let proof = |check| own(check).and_then(Entry::proof).map(shown);
    let update = own(Check::Upd);
    let policy = snapshot.policy();
    Machinery {
        channel: Some(Channel {
            running: version.to_owned(),
            waiting: update
                .is_some_and(|entry| entry.grade().is_some())
                .then(|| "新しい版".to_owned()),
            checked: update.and_then(Entry::evidence).and_then(|(at, ..)| {
                let known =
                    update.is_some_and(|entry| entry.proof().is_some() || entry.grade().is_some());
                known.then(|| shown(at))
            }),
            refused: None,
            policy: (policy.version > 0).then_some(policy.version),
        }),
        antivirus: Some(Engine {
            version: None,
            database: None,
            // A database's date is the publisher's clock, not ours.
            built: own(Check::AvDb).and_then(Entry::dated),
            canary: proof(Check::AvAlive),
            self_test: proof(Check::AvSelf),
        }),
    }
}

fn lines(snapshot: &Snapshot, names: &Names, now: Timestamp) -> Vec<Line> {
    let of_the_box = BOX_CHECKS.into_iter().filter_map(|check| {
        let entry = snapshot.entry(Subject::Box, check)?;
        Some(line(About::Box, check, entry, snapshot, now))
    });
    let of_the_facility = FACILITY_CHECKS.into_iter().filter_map(|check| {
        let entry = snapshot.entry(Subject::Facility, check)?;
        let mut line = line(About::Facility, check, entry, snapshot, now);
        // Registers never do more than warn (the gate caps them likewise).
        line.effect = line.effect.min(Effect::Warn);
        Some(line)
    });
    let of_devices = snapshot
        .devices()
        .iter()
        .filter(|device| device.revoked.is_none())
        .flat_map(|device| device_lines(device, names, snapshot, now));
    of_the_box
        .chain(of_the_facility)
        .chain(of_devices)
        .collect()
}

/// The checks of one device.
pub(crate) fn device_lines(
    device: &DeviceEntry,
    names: &Names,
    snapshot: &Snapshot,
    now: Timestamp,
) -> Vec<Line> {
    let name = names(device.id).unwrap_or_else(|| device.id.to_string());
    let of = |check| {
        let about = About::Device {
            id: device.id,
            name: name.clone(),
        };
        Some(line(about, check, device.check(check)?, snapshot, now))
    };
    DEVICE_CHECKS.into_iter().filter_map(of).collect()
}

fn line(about: About, check: Check, entry: &Entry, snapshot: &Snapshot, now: Timestamp) -> Line {
    // Entries run in the ledger's time, which does not go back with a clock that does; people read the clock's.
    let time = snapshot.time(now);
    let shown = |at: Timestamp| at.plus(now.0.saturating_sub(time.0));
    let (state, effect) = (entry.state(time), entry.effect(time));
    let next = entry.next(time).map(|(effect, at)| (effect, shown(at)));
    let evidence = entry.evidence();
    Line {
        about,
        check,
        mark: mark(state, effect),
        effect,
        next,
        since: shown(entry.since(time)),
        looked: evidence.map(|(at, _, _)| shown(at)),
        source: evidence.map(|(_, source, _)| source),
        waived_until: match state {
            State::Waived => entry.waived_until().map(shown),
            _ => None,
        },
        waived_for: None,
        detail: None,
    }
}

const fn mark(state: State, effect: Effect) -> Mark {
    match (state, effect) {
        (State::NotApplicable, _) => Mark::NotApplicable,
        (State::Unknown(_), _) => Mark::Unknown,
        (State::Waived, _) | (_, Effect::Warn) => Mark::Warn,
        (_, Effect::Allow) => Mark::Pass,
        (_, Effect::Restrict | Effect::Block) => Mark::Fail,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_check_of_box_and_facility_has_its_line_and_none_is_taken_for_good_before_it_was_seen()
    {
        let now = Timestamp(1_800_000_000);
        let names: Names = Arc::new(|_| None);
        let lines = lines(&Snapshot::nothing_known(now), &names, now);
        assert_eq!(lines.len(), BOX_CHECKS.len() + FACILITY_CHECKS.len());
        for line in lines {
            assert_eq!(line.mark, Mark::Unknown, "{:?}", line.check);
            assert_eq!((line.source, line.looked), (None, None));
        }
    }
}
