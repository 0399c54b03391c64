//! How what others define is written in the log. Their own words for it may change; these may not.

use gateway_policy::{Check, DeviceId, Effect, Reason, Rule, Source, State, Subject, Timestamp};
use serde::Serializer;

pub(super) fn as_subject<S: Serializer>(subject: &Subject, to: S) -> Result<S::Ok, S::Error> {
    match subject {
        Subject::Box => to.serialize_str("box"),
        Subject::Facility => to.serialize_str("facility"),
        Subject::Device(id) => as_device(id, to),
    }
}

pub(super) fn as_device<S: Serializer>(id: &DeviceId, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(id)
}

pub(super) fn as_some_device<S: Serializer>(
    id: &Option<DeviceId>,
    to: S,
) -> Result<S::Ok, S::Error> {
    match id {
        Some(id) => as_device(id, to),
        None => to.serialize_none(),
    }
}

pub(super) fn as_check<S: Serializer>(check: &Check, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(check.id())
}

pub(super) fn as_effect<S: Serializer>(effect: &Effect, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(match effect {
        Effect::Allow => "allow",
        Effect::Warn => "warn",
        Effect::Restrict => "restrict",
        Effect::Block => "block",
    })
}

pub(super) fn as_source<S: Serializer>(source: &Option<Source>, to: S) -> Result<S::Ok, S::Error> {
    match source {
        Some(Source::Measured) => to.serialize_str("measured"),
        Some(Source::Agent) => to.serialize_str("agent"),
        Some(Source::Script) => to.serialize_str("script"),
        Some(Source::Declared) => to.serialize_str("declared"),
        None => to.serialize_none(),
    }
}

pub(super) fn as_state<S: Serializer>(state: &State, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(state.id())
}

pub(super) fn as_rule<S: Serializer>(rule: &Option<Rule>, to: S) -> Result<S::Ok, S::Error> {
    match rule {
        Some(rule) => to.serialize_str(rule.id()),
        None => to.serialize_none(),
    }
}

pub(super) fn as_reason<S: Serializer>(reason: &Reason, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(match reason {
        Reason::Emergency => "emergency",
        Reason::Handover => "handover",
        Reason::Transfer => "transfer",
        Reason::Disaster => "disaster",
    })
}

pub(super) fn as_time<S: Serializer>(time: &Timestamp, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_i64(time.0)
}

pub(super) fn as_some_time<S: Serializer>(
    at: &Option<Timestamp>,
    to: S,
) -> Result<S::Ok, S::Error> {
    match at {
        Some(at) => as_time(at, to),
        None => to.serialize_none(),
    }
}
