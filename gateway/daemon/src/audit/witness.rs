//! Writes down what the evidence board does: every change of a check, of the box's verdict, what tightens about devices and
//! emergencies. What loosens is written down before it is done, by [`super::loosening`]. It judges nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use gateway_audit::{AuditSink, BreakGlass, DeviceChange, Digest, Event, LogFault};
use gateway_policy::{DeviceId, Emergency, Gate, Rule, Snapshot, Transition};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use crate::posture::{self, Posture};

/// How often verdict and emergencies are looked at; changes of checks come by themselves.
const LOOK: Duration = Duration::from_secs(1);

/// Follows the board from now on, for as long as it is there.
pub(crate) fn witness(posture: Arc<Posture>, sink: AuditSink) -> impl Future<Output = ()> + Send {
    let transitions = posture.transitions();
    follow(posture, sink, transitions)
}

async fn follow(posture: Arc<Posture>, sink: AuditSink, mut transitions: Receiver<Transition>) {
    let mut verdict = None;
    let mut emergencies: Vec<Emergency> = posture.emergencies().emergencies().to_vec();
    let mut devices = known(&posture.snapshot());
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            heard = transitions.recv() => match heard {
                Ok(transition) => sink.record(of_check(&transition)),
                Err(RecvError::Lagged(count)) => sink.record(Event::Log {
                    what: LogFault::EntriesLost,
                    count,
                    first_checkpoint: None,
                }),
                Err(RecvError::Closed) => return std::future::pending().await,
            },
            _ = look.tick() => {
                let now = posture::now();
                let seen = Gate::new().box_verdict(&posture.snapshot(), now);
                let changed = verdict.replace((seen.effect, seen.rule)) != Some((seen.effect, seen.rule));
                if changed && !matches!(seen.rule, Some(Rule::Check(_))) {
                    sink.record(Event::Gate { effect: seen.effect, rule: seen.rule });
                }
                let newest = posture.emergencies();
                for event in of_emergencies(&emergencies, newest.emergencies(), now) {
                    sink.record(event);
                }
                emergencies = newest.emergencies().to_vec();
                let seen = known(&posture.snapshot());
                for event in of_devices(&devices, &seen) {
                    sink.record(event);
                }
                devices = seen;
            }
        }
    }
}

fn of_check(transition: &Transition) -> Event {
    Event::Verdict {
        subject: transition.subject,
        check: transition.check,
        state: transition.to,
        effect: transition.effect,
        since: transition.since,
        deadline: transition.deadline,
        source: transition.source,
        digest: transition.digest.map(Digest),
    }
}

/// The registered devices; true for those whose registration was taken back.
fn known(snapshot: &Snapshot) -> BTreeMap<DeviceId, bool> {
    let devices = snapshot.devices().iter();
    devices
        .map(|device| (device.id, device.revoked.is_some()))
        .collect()
}

/// What happened between two looks at the devices.
fn of_devices(before: &BTreeMap<DeviceId, bool>, after: &BTreeMap<DeviceId, bool>) -> Vec<Event> {
    let event = |device: &DeviceId, what| Event::Device {
        device: *device,
        what,
        digest: None,
    };
    let changed = after
        .iter()
        .filter_map(|(id, revoked)| match (before.get(id), revoked) {
            (Some(false), true) => Some(event(id, DeviceChange::Revoked)),
            (None | Some(_), _) => None,
        });
    let gone = before
        .iter()
        .filter(|(id, revoked)| !**revoked && !after.contains_key(id))
        .map(|(id, _)| event(id, DeviceChange::Revoked));
    changed.chain(gone).collect()
}

/// What happened between two looks at the record of emergencies.
fn of_emergencies(
    before: &[Emergency],
    after: &[Emergency],
    now: gateway_policy::Timestamp,
) -> Vec<Event> {
    let mut events = Vec::new();
    for emergency in after {
        let old = before.iter().find(|old| old.number == emergency.number);
        let mut happened = |what| {
            events.push(Event::BreakGlass {
                what,
                number: emergency.number,
                reason: emergency.reason,
                until: emergency.until,
            });
        };
        match old {
            Some(old) if old.until > emergency.until && emergency.until <= now => {
                happened(BreakGlass::Ended)
            }
            // Opened and renewed: written down before it was done.
            None | Some(_) => {}
        }
        if emergency.reviewed.is_some() && old.is_none_or(|old| old.reviewed.is_none()) {
            happened(BreakGlass::Reviewed);
        }
        if emergency.countersigned && old.is_none_or(|old| !old.countersigned) {
            happened(BreakGlass::Countersigned);
        }
    }
    events
}

#[cfg(test)]
mod tests {
    use super::*;
    use gateway_policy::{Reason, Timestamp};

    fn emergency(until: i64) -> Emergency {
        Emergency {
            number: 1,
            opened: Timestamp(0),
            until: Timestamp(until),
            reason: Reason::Disaster,
            by_code: false,
            reviewed: None,
            countersigned: false,
        }
    }

    #[test]
    fn a_device_is_written_down_when_its_registration_is_taken_back() {
        let id = |byte| DeviceId([byte; 16]);
        let kinds =
            |before: &[(DeviceId, bool)], after: &[(DeviceId, bool)]| -> Vec<DeviceChange> {
                let map = |list: &[(DeviceId, bool)]| list.iter().copied().collect();
                of_devices(&map(before), &map(after))
                    .into_iter()
                    .map(|event| match event {
                        Event::Device { what, .. } => what,
                        other => panic!("{other:?}"),
                    })
                    .collect()
            };
        let (fine, revoked) = ([(id(1), false)], [(id(1), true)]);
        // Let in, and let in again: written down before it was done.
        assert_eq!(kinds(&[], &fine), []);
        assert_eq!(kinds(&revoked, &fine), []);
        assert_eq!(kinds(&fine, &fine), []);
        assert_eq!(kinds(&fine, &revoked), [DeviceChange::Revoked]);
        assert_eq!(kinds(&revoked, &[]), []);
        assert_eq!(kinds(&fine, &[]), [DeviceChange::Revoked]);
    }

    #[test]
    fn an_emergency_is_written_down_when_it_ends_and_is_reviewed() {
        let kinds = |before: &[Emergency], after: &[Emergency]| -> Vec<BreakGlass> {
            of_emergencies(before, after, Timestamp(50))
                .into_iter()
                .map(|event| match event {
                    Event::BreakGlass { what, .. } => what,
                    other => panic!("{other:?}"),
                })
                .collect()
        };
        let (short, long) = ([emergency(100)], [emergency(200)]);
        assert_eq!(kinds(&[], &short), []);
        assert_eq!(kinds(&short, &short), []);
        assert_eq!(kinds(&short, &long), []);
        assert_eq!(kinds(&long, &[emergency(50)]), [BreakGlass::Ended]);
        let mut reviewed = emergency(100);
        reviewed.reviewed = Some(Timestamp(60));
        reviewed.countersigned = true;
        assert_eq!(
            kinds(&short, &[reviewed]),
            [BreakGlass::Reviewed, BreakGlass::Countersigned]
        );
    }
}
