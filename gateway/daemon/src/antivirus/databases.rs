//! Puts databases to use: what the signed channel delivers, what freshclam brings, and what the policy permits.
//!
//! It fetches nothing. A database that is refused changes nothing, and is one line in the journal.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use gateway_antivirus::Kind;
use gateway_antivirus::database::{Generation, Refused, Release, Step, Updater, quietly};
use gateway_audit::{Database as Change, Event};
use gateway_policy::{Downloads, Timestamp};
use tokio::sync::watch;

use super::Antivirus;
use crate::certificates::chain;
use crate::posture;
use crate::signed_channel::Staged;

/// How often the policy in force and freshclam's directory are looked at.
const LOOK: Duration = Duration::from_secs(5);

/// How long after a refusal that may pass the same release is tried again.
const AGAIN: Duration = Duration::from_secs(300);

/// What is tried, and when it is tried again.
#[derive(Default)]
struct Tried {
    delivered: Option<Staged>,
    official: Option<SystemTime>,
    permitted: Option<Vec<Kind>>,
    /// The last refusal was of a kind that may pass.
    again: Option<tokio::time::Instant>,
}

/// Installs without end.
pub(super) async fn run(
    of: Arc<Antivirus>,
    updater: Arc<Updater>,
    mut delivered: watch::Receiver<Option<Staged>>,
) {
    let work = Work { of, updater };
    let mut tried = Tried::default();
    work.begin(&delivered).await;
    loop {
        if tried
            .again
            .is_some_and(|at| at <= tokio::time::Instant::now())
        {
            tried = Tried::default();
        }
        work.follow_deliveries(&mut delivered, &mut tried).await;
        work.follow_freshclam(&mut tried).await;
        work.follow_policy(&mut tried).await;
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            changed = delivered.changed() => if changed.is_err() {
                // No channel any more; the rest goes on.
                tokio::time::sleep(LOOK).await;
            },
            () = work.of.turned.notified() => work.settle().await,
        }
    }
}

struct Work {
    of: Arc<Antivirus>,
    updater: Arc<Updater>,
}

impl Work {
    /// Finishes what was interrupted; on a box without a database puts the image's own in place, so that clamd can start.
    async fn begin(&self, delivered: &watch::Receiver<Option<Staged>>) {
        self.settle().await;
        if self.updater.store().current().is_some() {
            return;
        }
        if let Some(directory) = &self.of.table.factory
            && self.install(Release::factory(directory)).await == Outcome::Done
        {
            return;
        }
        // What the channel brought before may be installed next; without anything clamd does not even start.
        if delivered.borrow().is_none() {
            let _ = self.install(Ok(Release::built_in())).await;
        }
    }

    async fn settle(&self) {
        if let Err(refused) = self.updater.settle().await {
            self.tell_refusal(&refused, None);
        }
    }

    async fn follow_deliveries(
        &self,
        delivered: &mut watch::Receiver<Option<Staged>>,
        tried: &mut Tried,
    ) {
        let Some(staged) = delivered.borrow_and_update().clone() else {
            return;
        };
        if tried.delivered.as_ref() == Some(&staged) {
            return;
        }
        let outcome = self.install(Release::signed(&staged.directory)).await;
        tried.delivered = Some(staged);
        tried.note(outcome);
    }

    async fn follow_freshclam(&self, tried: &mut Tried) {
        let Some(directory) = &self.of.table.official else {
            return;
        };
        // freshclam renames whole files into its directory, which gives the directory a new time.
        let Ok(changed) = std::fs::metadata(directory).and_then(|metadata| metadata.modified())
        else {
            return;
        };
        if tried.official.replace(changed) == Some(changed) {
            return;
        }
        match Release::official(directory) {
            // freshclam has not brought anything yet.
            Err(Refused::Unreadable(_)) => {}
            release => tried.note(self.install(release).await),
        }
    }

    /// What the policy newly permits or forbids becomes a database of its own, proven like any other.
    async fn follow_policy(&self, tried: &mut Tried) {
        let permitted = self.permitted();
        if tried.permitted.as_ref() == Some(&permitted) {
            return;
        }
        match self.updater.permit(&permitted, posture::now().0).await {
            Ok(Some(generation)) => self.tell(&generation),
            Ok(None) => {}
            Err(refused) => {
                self.tell_refusal(&refused, None);
                tried.note(Outcome::of(&refused));
            }
        }
        tried.permitted = Some(permitted);
    }

    fn permitted(&self) -> Vec<Kind> {
        permitted_by(&self.of.posture.snapshot().policy().downloads)
    }

    async fn install(&self, release: Result<Release, Refused>) -> Outcome {
        let release = match release {
            Ok(release) => release,
            Err(refused) => {
                self.tell_refusal(&refused, None);
                return Outcome::of(&refused);
            }
        };
        let serial = release.serial();
        let now = posture::now().0;
        let told: &(dyn Fn(Step) + Sync) = &quietly;
        match self
            .updater
            .install(release, &self.permitted(), now, told)
            .await
        {
            Ok(generation) => {
                self.tell(&generation);
                Outcome::Done
            }
            Err(Refused::InUse) => Outcome::Done,
            Err(refused) => {
                self.tell_refusal(&refused, Some(serial));
                Outcome::of(&refused)
            }
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Done,
    /// Asking again may help.
    Later,
    Never,
}

impl Outcome {
    const fn of(refused: &Refused) -> Self {
        if refused.is_passing() {
            Self::Later
        } else {
            Self::Never
        }
    }
}

impl Tried {
    fn note(&mut self, outcome: Outcome) {
        if outcome == Outcome::Later {
            self.again = Some(tokio::time::Instant::now() + AGAIN);
        }
    }
}

impl Work {
    fn tell(&self, generation: &Generation) {
        self.of.posture.record(Event::Database {
            what: Change::Switched,
            serial: Some(generation.serial),
            built: generation.built_at.map(Timestamp),
        });
        tracing::info!(
            event = "antivirus-database",
            check = "AV-DB",
            article = 27,
            database = generation.id,
            origin = generation.origin.id(),
            serial = generation.serial,
            built = generation.built_at,
            permitted = generation.permitted.join(","),
            "an antivirus database was proven and is in use"
        );
    }

    fn tell_refusal(&self, refused: &Refused, serial: Option<u64>) {
        self.of.posture.record(Event::Database {
            what: Change::Refused,
            serial,
            built: None,
        });
        tracing::error!(
            event = "antivirus-database-refused",
            check = "AV-DB",
            article = 27,
            reason = refused.reason(),
            serial,
            error = chain(refused),
            "an antivirus database was not taken"
        );
    }
}

/// The policy's words in the scanner's: whatever runs is a program there, also a shortcut or an installer.
fn permitted_by(downloads: &Downloads) -> Vec<Kind> {
    let is_permitted = |kind: &Kind| match kind {
        Kind::WindowsProgram
        | Kind::LinuxProgram
        | Kind::MacProgram
        | Kind::Java
        | Kind::Android
        | Kind::Shortcut
        | Kind::Installer => downloads.executables,
        Kind::Script => downloads.scripts,
        Kind::Macro => downloads.macros,
    };
    Kind::ALL.into_iter().filter(is_permitted).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_policy_permits_is_left_out_and_nothing_else() {
        let mut downloads = gateway_policy::Policy::built_in().downloads;
        assert!(permitted_by(&downloads).is_empty());
        downloads.macros = true;
        assert_eq!(permitted_by(&downloads), [Kind::Macro]);
        (downloads.executables, downloads.scripts) = (true, true);
        assert_eq!(permitted_by(&downloads), Kind::ALL);
    }
}
