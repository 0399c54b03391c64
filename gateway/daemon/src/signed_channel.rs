//! Keeps the box level with the city's signed channel: at the start, every hour, when the city hints, and when a medium is
//! put in.
//!
//! It carries: what is believed is decided by `gateway-tuf`, what a policy means by `gateway-policy`, whether a database
//! works by `gateway-antivirus`. Whatever is refused here is one line in the journal; traffic goes on as before, and so does
//! this while the gate blocks.

mod medium;
mod policies;
mod relay;
mod staging;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use gateway_city::backoff::{Backoff, Random, system_random};
use gateway_city::{Endpoint, Timeouts};
use gateway_console::Refusal;
use gateway_policy::{PolicyError, Timestamp};
use gateway_provisioning::Provisioner;
use gateway_tuf::form::{ANTIVIRUS_TARGET, POLICY_TARGET, RELEASE_TARGET};
use gateway_tuf::{
    City, Client, Duties, Limits, Medium, Refused, Store, Trusted, Versions, agreed_time,
};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use crate::certificates::{CityTls, chain};
use crate::config::Config;
use crate::posture::{self, Posture};
use medium::Watched;
use policies::{Policies, Untaken};
pub(crate) use staging::Staged;

/// Below the state directory.
const FOLDER: &str = "signed-channel";

/// Why a signed policy is not taken that cannot be in force here.
const FAULTY: &str = "TUF-POLICY-FAULT";
const FAULTY_SENTENCE: &str = "署名されたポリシーに、この機器では使えない内容があるため、取り込みませんでした。市へ連絡してください。";

/// The first wait after a failure; it doubles up to the ordinary interval.
const RETRY: Duration = Duration::from_secs(15);

/// A hint reaches all boxes of a city at once; they come back spread over this long.
const HINT_SPREAD: Duration = Duration::from_secs(2);

/// Largest policy and largest list of a release, in bytes.
const DOCUMENT: u64 = 256 * 1024;

/// Table `[signed_channel]`.
#[derive(Debug, Clone, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Table {
    /// The root shipped with the box; without it there is no signed channel.
    pub(crate) root: Option<PathBuf>,
    /// Seconds between two looks without a hint.
    pub(crate) interval_seconds: u64,
    /// Where a medium with the city's repository appears when one is put in.
    pub(crate) medium: Option<PathBuf>,
}

impl Default for Table {
    fn default() -> Self {
        Self {
            root: None,
            interval_seconds: 3600,
            medium: None,
        }
    }
}

/// The newest software release that the city has signed.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
pub(crate) struct Newest {
    /// Its version.
    pub(crate) version: String,
    /// When it was published (RFC 3339): from then on, running another one is being behind.
    #[serde(with = "time::serde::rfc3339")]
    pub(crate) published_at: time::OffsetDateTime,
    /// The root hash of its image, lower-case hexadecimal; `None` for a release without an image.
    #[serde(default)]
    pub(crate) root_hash: Option<String>,
    /// Its files.
    #[serde(default)]
    pub(crate) files: Vec<ReleasedFile>,
}

/// One file of a release.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
pub(crate) struct ReleasedFile {
    /// Its name below the release's folder.
    pub(crate) name: String,
    /// Its digest, lower-case hexadecimal.
    pub(crate) sha256: String,
}

/// The other ends of [`Taken`].
#[derive(Debug)]
struct Outlets {
    databases: watch::Sender<Option<Staged>>,
    release: watch::Sender<Option<Newest>>,
    refusals: watch::Sender<Option<Refusal>>,
}

/// What the rest of the daemon takes from the channel.
#[derive(Clone, Debug)]
pub(crate) struct Taken {
    /// The newest antivirus database, whole and verified, in a directory.
    pub(crate) databases: watch::Receiver<Option<Staged>>,
    /// The newest software release.
    pub(crate) release: watch::Receiver<Option<Newest>>,
}

/// Starts looking, when the configuration names a root.
pub(crate) async fn start(
    config: &Config,
    tls: watch::Receiver<CityTls>,
    posture: Arc<Posture>,
    provisioner: Arc<Provisioner>,
    (hints, refusals): (Arc<Notify>, watch::Sender<Option<Refusal>>),
    tasks: &mut JoinSet<()>,
) -> Taken {
    let endpoint = config.city.gateway_api.clone();
    relay::start(&config.state_dir, endpoint, tls.clone(), tasks);
    let (databases, release) = (watch::Sender::new(None), watch::Sender::new(None));
    relay::announce(&config.state_dir, release.subscribe(), tasks);
    let taken = Taken {
        databases: databases.subscribe(),
        release: release.subscribe(),
    };
    let opened = SignedChannel::open(
        &config.state_dir,
        &config.signed_channel,
        config.city.gateway_api.clone(),
        tls,
        hints,
        Policies::new(&config.state_dir.join(FOLDER), posture, provisioner),
        Outlets {
            databases,
            release,
            refusals,
        },
    );
    match opened {
        Ok(Some(mut channel)) => {
            channel.take_up_what_was_in_force().await;
            tasks.spawn(channel.run());
        }
        Ok(None) => tracing::warn!(
            event = "signed-channel-away",
            reason = "TUF-OFF",
            "the configuration names no root: there is no signed channel"
        ),
        Err(error) => tracing::error!(
            event = "signed-channel-refused",
            reason = "TUF-OPEN",
            error = chain(&error),
            "the signed channel cannot be opened"
        ),
    }
    taken
}

/// See the module.
struct SignedChannel {
    city: Arc<City>,
    from_city: Client,
    from_medium: Option<(Client, Watched)>,
    directory: PathBuf,
    tls: watch::Receiver<CityTls>,
    hints: Arc<Notify>,
    policies: Policies,
    outlets: Outlets,
    interval: Duration,
    random: Random,
    level: Option<Versions>,
}

/// Why the box looks now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    Due,
    Hint,
    Certificate,
    Medium,
}

impl Cause {
    const fn name(self) -> &'static str {
        match self {
            Self::Due => "schedule",
            Self::Hint => "hint",
            Self::Certificate => "certificate",
            Self::Medium => "medium",
        }
    }
}

/// Why the channel is not there at all.
#[derive(Debug, thiserror::Error)]
enum ChannelError {
    /// The shipped root.
    #[error("the shipped root {0} cannot be read")]
    Root(PathBuf, #[source] io::Error),
    /// The directories of its state.
    #[error("the directory {0} cannot be made")]
    Directory(PathBuf, #[source] io::Error),
    /// The store.
    #[error("the store of the signed channel")]
    Store(#[from] Refused),
}

impl SignedChannel {
    /// Opens the store; nothing is looked at yet.
    ///
    /// # Errors
    /// [`ChannelError`]; the box serves without the channel then, and its checks grow old.
    fn open(
        state: &Path,
        table: &Table,
        endpoint: Endpoint,
        tls: watch::Receiver<CityTls>,
        hints: Arc<Notify>,
        policies: Policies,
        outlets: Outlets,
    ) -> Result<Option<Self>, ChannelError> {
        let Some(root) = &table.root else {
            return Ok(None);
        };
        let shipped =
            std::fs::read(root).map_err(|error| ChannelError::Root(root.clone(), error))?;
        let directory = state.join(FOLDER);
        staging::make(&directory)
            .map_err(|error| ChannelError::Directory(directory.clone(), error))?;
        let store = Store::open(&directory.join("metadata"))?;
        let city = Arc::new(City::new(endpoint, tls.clone(), Timeouts::default()));
        let client = |transport| {
            let limits = Limits::default();
            Client::new(
                store.clone(),
                shipped.clone(),
                transport,
                limits,
                Duties::City,
            )
        };
        let from_medium = table.medium.as_ref().map(|path| {
            let transport = Arc::new(Medium::new(path));
            (client(transport), Watched::new(path))
        });
        Ok(Some(Self {
            from_city: client(Arc::clone(&city) as _),
            city,
            from_medium,
            directory,
            tls,
            hints,
            policies,
            outlets,
            interval: Duration::from_secs(table.interval_seconds),
            random: system_random(),
            level: None,
        }))
    }

    /// What was verified before the last switching-off is not verified again: starting must not depend on the line, nor on
    /// anything having expired meanwhile. Policy and database carry their own dates, by which they are judged.
    async fn take_up_what_was_in_force(&mut self) {
        self.policies.take_up().await;
        self.outlets
            .databases
            .send_replace(staging::newest(&self.directory));
    }

    /// Looks, and waits for the next reason to look, without end.
    async fn run(mut self) {
        let mut backoff = Backoff::new(RETRY, self.interval);
        let mut wait = Duration::ZERO;
        loop {
            let cause = self.next_cause(wait).await;
            let outcome = match cause {
                Cause::Medium => self.look_at_the_medium().await,
                _ => self.look_at_the_city(cause).await,
            };
            let unit = (self.random)();
            wait = match outcome {
                Ok(()) => {
                    backoff.reset();
                    // Within a tenth either way, so that boxes switched on together do not stay together.
                    self.interval.mul_f64(0.9 + 0.2 * unit)
                }
                Err(_) => backoff.delay(unit, None).max(Duration::from_secs(1)),
            };
        }
    }

    async fn next_cause(&mut self, wait: Duration) -> Cause {
        let due = tokio::time::Instant::now() + wait;
        let mut tls = self.tls.clone();
        let certificate = async move {
            // Without a certificate there is nobody to ask: its coming is the cause then.
            if tls.borrow_and_update().is_some() {
                tokio::time::sleep_until(due).await;
                return Cause::Due;
            }
            let came = tls.wait_for(Option::is_some).await.is_ok();
            if came {
                Cause::Certificate
            } else {
                std::future::pending().await
            }
        };
        let medium = self.from_medium.as_mut().map(|(_, watched)| watched);
        let cause = tokio::select! {
            cause = certificate => cause,
            () = self.hints.notified() => Cause::Hint,
            () = medium::appears(medium) => Cause::Medium,
        };
        if cause == Cause::Hint {
            tokio::time::sleep(HINT_SPREAD.mul_f64((self.random)())).await;
        }
        cause
    }

    async fn look_at_the_city(&mut self, cause: Cause) -> Result<(), ()> {
        if self.tls.borrow().is_none() {
            return Err(());
        }
        let refreshed = async {
            let away = |source| Refused::Unreachable {
                file: "timestamp.json".to_owned(),
                source,
            };
            let theirs = self.city.time().await.map_err(away)?;
            let now = agreed_time(posture::now(), theirs)?;
            Ok((self.from_city.refresh(now).await?, now))
        };
        let refreshed = refreshed.await;
        self.city.hang_up().await;
        self.take(refreshed, cause).await
    }

    async fn look_at_the_medium(&mut self) -> Result<(), ()> {
        let Some((client, _)) = &self.from_medium else {
            return Err(());
        };
        // No city to compare the clock with; what is signed says whether it runs behind.
        let now = posture::now();
        let refreshed = client.refresh(now).await.map(|trusted| (trusted, now));
        self.take(refreshed, Cause::Medium).await
    }

    /// Takes policy, database and release, each by itself: one that is refused stops none of the others.
    async fn take(
        &mut self,
        refreshed: Result<(Trusted, Timestamp), Refused>,
        cause: Cause,
    ) -> Result<(), ()> {
        let mut trusted = match refreshed {
            Ok((trusted, _)) => trusted,
            Err(refused) => {
                tell_refused("metadata", cause, &refused);
                // That nobody could be asked says nothing of what was refused before.
                if !refused.is_only_away() {
                    self.refused(refused.id(), refused.sentence());
                }
                return Err(());
            }
        };
        let mut told = None;
        let outcomes = [
            ("policy", self.take_policy(&mut trusted, cause).await),
            ("antivirus", self.take_database(&mut trusted, cause).await),
            ("releases", self.take_release(&mut trusted, cause).await),
        ];
        let mut all_well = true;
        for (what, outcome) in outcomes {
            match outcome {
                // Nothing published yet.
                Ok(()) | Err(Untaken::Refused(Refused::MissingTarget { .. })) => {}
                Err(Untaken::Refused(refused)) => {
                    tell_refused(what, cause, &refused);
                    if !refused.is_only_away() {
                        told = Some((refused.id(), refused.sentence()));
                    }
                    all_well = false;
                }
                Err(Untaken::Policy(error)) => {
                    tell_faulty(cause, &error);
                    told = Some((FAULTY, FAULTY_SENTENCE));
                    all_well = false;
                }
                // Said where it was tried; the document comes again at the next look.
                Err(Untaken::NotWrittenDown(_)) => all_well = false,
            }
        }
        match told {
            Some((id, sentence)) => self.refused(id, sentence),
            None if all_well => drop(self.outlets.refusals.send_replace(None)),
            None => {}
        }
        let versions = trusted.versions();
        let news = self.level.replace(versions) != Some(versions);
        tracing::info!(
            event = "signed-channel",
            reason = if news { "TUF-NEWS" } else { "TUF-LEVEL" },
            cause = cause.name(),
            root = versions.root,
            timestamp = versions.timestamp,
            snapshot = versions.snapshot,
            targets = versions.targets,
            "level with what the city has signed"
        );
        if all_well { Ok(()) } else { Err(()) }
    }

    /// Has the pages say what was refused, from the first time on.
    fn refused(&self, id: &str, sentence: &str) {
        self.outlets.refusals.send_if_modified(|shown| {
            let known = shown.as_ref().is_some_and(|shown| shown.code == id);
            if !known {
                *shown = Some(Refusal {
                    code: id.to_owned(),
                    sentence: sentence.to_owned(),
                    since: posture::now(),
                });
            }
            !known
        });
    }

    async fn take_policy(&mut self, trusted: &mut Trusted, cause: Cause) -> Result<(), Untaken> {
        let target = trusted.target(POLICY_TARGET).await?;
        if self.policies.has(target.sha256().as_deref()) {
            return Ok(());
        }
        let bytes = trusted.read(&target, DOCUMENT).await?;
        let version = self.policies.take(&bytes).await?;
        tracing::info!(
            event = "signed-channel",
            reason = "TUF-POLICY",
            cause = cause.name(),
            version,
            "a signed policy is in force"
        );
        Ok(())
    }

    async fn take_database(&mut self, trusted: &mut Trusted, cause: Cause) -> Result<(), Untaken> {
        let target = trusted.target(ANTIVIRUS_TARGET).await?;
        let manifest = trusted.read(&target, DOCUMENT).await?;
        let before = self.outlets.databases.borrow().clone();
        let staged =
            staging::database(&self.directory, trusted, &manifest, before.as_ref()).await?;
        let Some(staged) = staged else {
            return Ok(());
        };
        tracing::info!(
            event = "signed-channel",
            reason = "TUF-DATABASE",
            cause = cause.name(),
            serial = staged.serial,
            "a signed antivirus database has come"
        );
        self.outlets.databases.send_replace(Some(staged));
        Ok(())
    }

    async fn take_release(&mut self, trusted: &mut Trusted, cause: Cause) -> Result<(), Untaken> {
        let target = trusted.target(RELEASE_TARGET).await?;
        let bytes = trusted.read(&target, DOCUMENT).await?;
        let newest: Newest =
            serde_json::from_slice(&bytes).map_err(|error| Refused::Malformed {
                file: RELEASE_TARGET.to_owned(),
                source: Some(error.into()),
            })?;
        let news = self.outlets.release.borrow().as_ref() != Some(&newest);
        if news {
            tracing::info!(
                event = "signed-channel",
                reason = "TUF-RELEASE",
                cause = cause.name(),
                version = newest.version,
                "a signed software release is out"
            );
            self.outlets.release.send_replace(Some(newest));
        }
        Ok(())
    }
}

/// One line for what was not taken. That nobody could be asked is no attack, and said more quietly.
fn tell_refused(what: &'static str, cause: Cause, refused: &Refused) {
    let (reason, cause, sentence) = (refused.id(), cause.name(), refused.sentence());
    let error = chain(refused);
    if refused.is_only_away() {
        tracing::warn!(
            event = "signed-channel-away",
            reason,
            cause,
            what,
            sentence,
            error,
            "the signed channel cannot be reached"
        );
    } else {
        tracing::error!(
            event = "signed-channel-refused",
            reason,
            cause,
            what,
            sentence,
            error,
            "something on the signed channel was refused"
        );
    }
}

/// One line for a policy that is signed and cannot be in force here: not yet, no longer, not for this facility, or faulty.
fn tell_faulty(cause: Cause, error: &PolicyError) {
    let faults = match error {
        PolicyError::Faulty(faults) => faults.iter().map(ToString::to_string).collect(),
        _ => Vec::new(),
    };
    let faults: Vec<String> = faults;
    tracing::error!(
        event = "signed-channel-refused",
        reason = FAULTY,
        cause = cause.name(),
        what = "policy",
        sentence = FAULTY_SENTENCE,
        error = chain(error),
        faults = faults.join("; "),
        "a signed policy cannot be in force here"
    );
}
