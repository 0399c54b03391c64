//! Writes down what loosens before it takes effect, and says so when it cannot be written: then it is not done. What
//! tightens does not come here; it takes effect at once and is written down right after.

use std::time::Duration;

use gateway_audit::{
    AuditSink, BreakGlass, DeviceChange, Event, PinChange, PolicyChange, RecoveryKeyChange,
    RegisterChange, WaiverChange,
};
use gateway_console::Message;

use crate::posture::Posture;

/// How long a person waits for the disk before being told that nothing can be written.
const PATIENCE: Duration = Duration::from_secs(5);

/// It is not on the disk, so it must not be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the audit log cannot be written, so nothing that loosens is done")]
pub(crate) struct NotWrittenDown;

/// Returns when `event` is on the disk.
///
/// # Errors
/// [`NotWrittenDown`]. Should the entry come to the disk after all, one that says so follows it.
pub(crate) async fn before(posture: &Posture, event: Event) -> Result<(), NotWrittenDown> {
    let Some(sink) = posture.audit() else {
        return Err(NotWrittenDown);
    };
    match tokio::time::timeout(PATIENCE, sink.durably(event)).await {
        Ok(Ok(_)) => Ok(()),
        _ => Err(refused(sink, event)),
    }
}

/// [`before`] for a thread that may block.
///
/// # Errors
/// As there.
pub(crate) fn before_blocking(posture: &Posture, event: Event) -> Result<(), NotWrittenDown> {
    let Some(sink) = posture.audit() else {
        return Err(NotWrittenDown);
    };
    sink.durably_blocking(event, PATIENCE)
        .map(drop)
        .map_err(|_| refused(sink, event))
}

fn refused(sink: &AuditSink, event: Event) -> NotWrittenDown {
    tracing::error!(
        target: "renraku::decision", decision = "loosening", outcome = "refused", check = "LOG",
        "the audit log cannot be written: what would loosen something is not done",
    );
    sink.record(not_done(event));
    NotWrittenDown
}

/// What follows an entry whose effect did not take place.
const fn not_done(event: Event) -> Event {
    match event {
        Event::BreakGlass {
            number,
            reason,
            until,
            ..
        } => Event::BreakGlass {
            what: BreakGlass::Refused,
            number,
            reason,
            until,
        },
        Event::Waiver {
            subject,
            check,
            until,
            reason,
            ..
        } => Event::Waiver {
            what: WaiverChange::Refused,
            subject,
            check,
            until,
            reason,
        },
        Event::Device { device, digest, .. } => Event::Device {
            device,
            what: DeviceChange::EnrolmentRefused,
            digest,
        },
        Event::Policy {
            version, digest, ..
        } => Event::Policy {
            what: PolicyChange::Refused,
            version,
            digest,
        },
        Event::Pin { user, device, .. } => Event::Pin {
            what: PinChange::Refused,
            user,
            device,
        },
        Event::Register { .. } => Event::Register {
            what: RegisterChange::Refused,
        },
        Event::RecoveryKey { .. } => Event::RecoveryKey {
            what: RecoveryKeyChange::Refused,
        },
        // Nothing else loosens.
        other => other,
    }
}

/// What the manager is told.
pub(crate) fn message() -> Message {
    Message {
        sentence: "監査記録に書き込めないため、この操作を行いませんでした。".into(),
        next_step: "1分ほど待ってから、もう一度お試しください。続くときは下の問い合わせ先に電話し、コード A-LOG を伝えてください。".into(),
        code: "A-LOG".into(),
    }
}

#[cfg(test)]
mod tests {
    use gateway_audit::Settings;
    use gateway_policy::Reason;

    use super::*;
    use crate::posture;

    fn event() -> Event {
        Event::BreakGlass {
            what: BreakGlass::Opened,
            number: 1,
            reason: Reason::Disaster,
            until: posture::now(),
        }
    }

    #[tokio::test]
    async fn without_a_log_nothing_loosens() {
        assert_eq!(before(&Posture::new(), event()).await, Err(NotWrittenDown));
    }

    #[tokio::test]
    async fn a_log_that_cannot_be_kept_refuses_and_says_afterwards_that_it_was_not_done() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("audit");
        // A file where the directory should be.
        std::fs::write(&dir, "").unwrap();
        let clock = std::sync::Arc::new(posture::now);
        let (sink, mut status) =
            gateway_audit::start(dir.clone(), Settings::default(), clock).unwrap();
        let posture = std::sync::Arc::new(Posture::new());
        posture.set_audit(sink);
        let blocking = std::sync::Arc::clone(&posture);
        let refused =
            tokio::task::spawn_blocking(move || before_blocking(&blocking, event())).await;
        assert_eq!(refused.unwrap(), Err(NotWrittenDown));
        std::fs::remove_file(&dir).unwrap();
        let opened =
            status.wait_for(|status| status.as_ref().is_some_and(|status| status.written.0 >= 3));
        tokio::time::timeout(Duration::from_secs(60), opened)
            .await
            .unwrap()
            .unwrap();
        let text = std::fs::read_to_string(dir.join("00000000000000000001.jsonl")).unwrap();
        let opened = text.find("\"what\":\"opened\"").unwrap();
        let refused = text.find("\"what\":\"refused\"").unwrap();
        assert!(opened < refused, "{text}");
        assert_eq!(before(&posture, event()).await, Ok(()));
    }
}
