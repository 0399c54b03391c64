//! Looks at the scanner again and again, and says what it found.
//!
//! It does not repair anything and does not wait for anybody.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use gateway_antivirus::database::{Loaded, loaded_by};
use gateway_antivirus::{Beat, Pulse, SelfTest, SelfTestError};
use gateway_policy::{Check, Grade, Missing, Observation, Observed, Source, Subject, Timestamp};
use tokio::sync::oneshot;

use super::Antivirus;
use crate::certificates::chain;
use crate::posture;
use crate::steps::Steps;

/// While the canary is not caught it is scanned this often, so that care goes on soon after the scanner is back.
const CANARY_RETRY: Duration = Duration::from_secs(5);

/// The self-test is made at the start, after every change of the database, while it fails, and this often: seconds of the
/// box's clock, by which its evidence grows old.
const SELF_TEST: i64 = 24 * 3600;

/// What was said last of each check, so that the journal has one line for each turn.
#[derive(Default)]
struct Said {
    alive: Option<bool>,
    configuration: Option<String>,
    self_test: Option<String>,
    database: Option<String>,
}

/// The last self-test that passed: when, and of which database.
type Passed = Option<(Timestamp, u64)>;

/// Looks without end. `first` is told when the first look has ended.
pub(super) async fn run(of: Arc<Antivirus>, mut steps: Steps, first: oneshot::Sender<()>) {
    let interval = Duration::from_secs(of.table.canary_seconds);
    let mut first = Some(first);
    let mut said = Said::default();
    let mut pulse = Pulse::default();
    let mut passed: Passed = None;
    let mut serial = of.scanner.database_serial();
    loop {
        let alive = of.beat(&mut pulse, &mut said).await;
        of.look_at_configuration(&mut said).await;
        if alive == Some(true) {
            of.look_at_database(&mut said).await;
            let database = *serial.borrow_and_update();
            let now = posture::now();
            let due = passed
                .is_none_or(|(at, of)| !(0..SELF_TEST).contains(&(now.0 - at.0)) || of != database);
            if due {
                passed = of.test_itself(&mut said).await.then_some((now, database));
            }
        }
        first.take();
        let pause = if alive == Some(true) && passed.is_some() {
            interval
        } else {
            CANARY_RETRY
        };
        tokio::select! {
            () = steps.sleep(pause) => {}
            () = of.look.notified(), if alive == Some(true) => {}
            Ok(()) = serial.changed(), if alive == Some(true) => {}
        }
    }
}

impl Antivirus {
    /// AV-ALIVE. `None` when nothing is proven either way.
    async fn beat(&self, pulse: &mut Pulse, said: &mut Said) -> Option<bool> {
        let alive = match pulse.beat(&self.scanner).await {
            Beat::Busy => return None,
            Beat::Alive(caught) => {
                if said.alive != Some(true) {
                    tracing::info!(
                        event = "antivirus",
                        check = "AV-ALIVE",
                        article = 27,
                        signature = caught.signature,
                        "the virus scanner works"
                    );
                }
                self.observe(Check::AvAlive, Observation::Pass, &caught.signature);
                true
            }
            Beat::Dead(error) => {
                let error = chain(&error);
                tracing::debug!(event = "antivirus", %error, "the canary was not caught");
                if said.alive != Some(false) {
                    tracing::error!(event = "antivirus", check = "AV-ALIVE", article = 27, %error, "the virus scanner does not work");
                }
                self.observe(Check::AvAlive, failed(), &error);
                false
            }
        };
        if said.alive.replace(alive) != Some(alive) {
            self.turned.notify_one();
        }
        Some(alive)
    }

    /// AV-CONF.
    async fn look_at_configuration(&self, said: &mut Said) {
        let check = self.check.clone();
        let looked = tokio::task::spawn_blocking(move || check.look()).await;
        let (observation, what, digest) = match looked {
            Ok(Ok(findings)) if findings.differences.is_empty() => {
                (Observation::Pass, String::new(), findings.digest)
            }
            Ok(Ok(findings)) => (failed(), findings.differences.join("; "), findings.digest),
            Ok(Err(error)) => (
                Observation::Unknown(Missing::Error),
                error.to_string(),
                [0; 32],
            ),
            Err(_) => return,
        };
        if said.configuration.as_ref() != Some(&what) {
            if what.is_empty() {
                tracing::info!(
                    event = "antivirus",
                    check = "AV-CONF",
                    article = 27,
                    "the scanner's configuration is as released"
                );
            } else {
                tracing::error!(
                    event = "antivirus",
                    check = "AV-CONF",
                    article = 27,
                    differences = what,
                    "the scanner's configuration is not as released"
                );
            }
            said.configuration = Some(what);
        }
        self.observe_digest(Check::AvConf, observation, digest);
    }

    /// AV-DB: the age of what the running engine has loaded.
    async fn look_at_database(&self, said: &mut Said) {
        let loaded = match &self.updater {
            Some(updater) => updater.loaded().await,
            None => loaded_by(&self.scanner).await,
        };
        // A scanner that does not answer is AV-ALIVE's; what was known of its database grows old by itself.
        let Ok(loaded) = loaded else { return };
        let what = match &loaded {
            Loaded::Generation(generation) => format!(
                "{} {} of {}",
                generation.id,
                generation.serial,
                generation.origin.id()
            ),
            Loaded::Official { version, .. } => format!("official {version}"),
            Loaded::Unnamed => "unnamed".to_owned(),
        };
        let observation = match loaded.built_at() {
            Some(built) => Observation::Dated {
                since: Timestamp(built),
            },
            None if loaded == Loaded::Unnamed => Observation::Unknown(Missing::Error),
            // Only the test signatures that let clamd start: no protection at all, however long it has been so.
            None => Observation::Dated {
                since: Timestamp(0),
            },
        };
        self.observe(Check::AvDb, observation, &what);
        if loaded != Loaded::Unnamed {
            self.loaded.send_if_modified(|name| {
                let other = name.as_ref() != Some(&what);
                if other {
                    *name = Some(what.clone());
                }
                other
            });
        }
        if said.database.as_ref() != Some(&what) {
            let built = loaded.built_at();
            tracing::info!(
                event = "antivirus",
                check = "AV-DB",
                article = 27,
                database = what,
                built,
                "the scanner has loaded"
            );
            said.database = Some(what);
        }
    }

    /// AV-SELF. True when it passed.
    async fn test_itself(&self, said: &mut Said) -> bool {
        let (observation, what) = match SelfTest::new(&self.permitted_in_use())
            .run(&self.scanner)
            .await
        {
            Ok(()) => (Observation::Pass, String::new()),
            Err(error @ SelfTestError::Missed { .. }) => (failed(), chain(&error)),
            Err(error) => (Observation::Unknown(Missing::Error), chain(&error)),
        };
        let passed = what.is_empty();
        self.observe(Check::AvSelf, observation, &what);
        if said.self_test.as_ref() != Some(&what) {
            if passed {
                tracing::info!(
                    event = "antivirus",
                    check = "AV-SELF",
                    article = 27,
                    "the self-test passed"
                );
            } else {
                tracing::error!(
                    event = "antivirus",
                    check = "AV-SELF",
                    article = 27,
                    error = what,
                    "the self-test did not pass"
                );
            }
            said.self_test = Some(what);
        }
        passed
    }

    /// The kinds whose signatures the database in use leaves out.
    fn permitted_in_use(&self) -> Vec<gateway_antivirus::Kind> {
        let store = self.updater.as_ref().map(|updater| updater.store());
        let current = store.and_then(gateway_antivirus::database::Store::current);
        current
            .map(|generation| generation.permitted())
            .unwrap_or_default()
    }

    fn observe(&self, check: Check, observation: Observation, evidence: &str) {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest(&SHA256, evidence.as_bytes()).as_ref());
        self.observe_digest(check, observation, bytes);
    }

    fn observe_digest(&self, check: Check, observation: Observation, digest: [u8; 32]) {
        let observed = Observed {
            check,
            observation,
            at: posture::now(),
            source: Source::Measured,
            digest,
        };
        self.posture.observe(Subject::Box, observed);
    }
}

const fn failed() -> Observation {
    Observation::Fail {
        grade: Grade::Major,
        since: None,
    }
}
