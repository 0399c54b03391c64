//! One line in the journal per decision and per failure. Never a path, a query, a cookie, an address or a name of a person.

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use gateway_policy::{Area, Asked, Permit};

use crate::{error::Failure, inspect::Stopped, live::Ended};

/// What a person reads out on the telephone: eight characters of Crockford's base 32.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct SupportCode([u8; 8]);

impl SupportCode {
    pub(crate) fn new() -> Self {
        const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
        let mut random = [0; 8];
        // Without randomness the code repeats, which costs a search in the journal and no more.
        let _ = SystemRandom::new().fill(&mut random);
        Self(random.map(|byte| DIGITS[usize::from(byte % 32)]))
    }

    pub(crate) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("00000000")
    }
}

pub(crate) const fn area(area: Area) -> &'static str {
    match area {
        Area::Public => "public",
        Area::Staff => "staff",
        Area::Box => "box",
    }
}

/// A request that the gate let through. Debug only: in normal operation these are thousands an hour.
pub(crate) fn permitted(permit: &Permit, asked: &Asked) {
    tracing::debug!(
        target: "renraku::decision",
        decision = "permitted",
        rule = permit.rule_id(),
        area = area(asked.area),
        writes = asked.writes,
        transfers_file = asked.transfers_file,
    );
}

/// A request that the box answered with an error, with the code its reader sees.
pub(crate) fn failed(failure: &Failure, code: SupportCode) {
    match failure {
        Failure::Refused(refusal) => tracing::info!(
            target: "renraku::decision",
            decision = "refused",
            rule = refusal.rule.id(),
            article = refusal.article,
            support_code = code.as_str(),
        ),
        // The outcome and the signature's name; never what it was found in.
        Failure::Content(stopped) => tracing::warn!(
            target: "renraku::content",
            outcome = stopped.token(),
            detail = stopped.detail(),
            signature = stopped.signature.as_deref().unwrap_or(""),
            direction = ?stopped.direction,
            article = stopped.article(),
            whose = stopped.whose(),
            status = stopped.status().as_u16(),
            support_code = code.as_str(),
            "a body was stopped"
        ),
        Failure::Upstream(fault) => tracing::warn!(
            target: "renraku::upstream",
            fault = fault.kind.token(),
            whose = failure.whose(),
            status = fault.kind.status().as_u16(),
            error = fault.detail(),
            support_code = code.as_str(),
            "a request could not be relayed"
        ),
        _ => tracing::info!(
            target: "renraku::request",
            fault = failure.token(),
            whose = failure.whose(),
            status = failure.status().as_u16(),
            support_code = code.as_str(),
            "a request was not accepted"
        ),
    }
}

/// Something in flight that had to end because it may not go on.
pub(crate) fn ended(what: &'static str, why: Ended) {
    let (rule, article) = match why {
        Ended::Refused(refusal) => (refusal.rule.id(), refusal.article),
        Ended::Cut => ("CUT", None),
    };
    tracing::info!(
        target: "renraku::decision",
        decision = "ended",
        rule,
        article,
        what,
    );
}

/// A message of a stream that was not passed on; the stream ends with it.
pub(crate) fn message_stopped(what: &'static str, stopped: &Stopped) {
    tracing::warn!(
        target: "renraku::content",
        outcome = stopped.token(),
        detail = stopped.detail(),
        signature = stopped.signature.as_deref().unwrap_or(""),
        direction = ?stopped.direction,
        article = stopped.article(),
        whose = stopped.whose(),
        what,
        "a message was stopped"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_support_code_can_be_read_out_without_confusion() {
        let code = SupportCode::new();
        assert_eq!(code.as_str().len(), 8);
        assert!(!code.as_str().contains(['I', 'L', 'O', 'U']));
        assert_ne!(code.as_str(), SupportCode::new().as_str());
    }
}
