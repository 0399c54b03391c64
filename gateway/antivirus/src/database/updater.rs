//! Takes a release all the way: stage, try, switch, reload, prove, or go back.
//!
//! It does not look for releases and does not wait between attempts.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout_at};

use super::generation::{Generation, Origin};
use super::manifest::Canary;
use super::store::{Store, StoreError};
use super::test_load::is_named;
use super::{Refused, Release, TestLoad, official};
use crate::{Kind, Outcome, Scanner, SealedBody, Unavailable};

/// How far a release's time may lie ahead of this box's clock.
const AHEAD: i64 = 3600;

/// How often the scanner is asked for the new canary.
const ASK_AGAIN: Duration = Duration::from_millis(250);

/// What has been done of an installation; each is durable when it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Copied, and every digest compared.
    Staged,
    /// Loaded beside the running engine; everything was found.
    Tried,
    /// Among those that may be used.
    Kept,
    /// Marked as not proven.
    Announced,
    /// What clamd loads next.
    Switched,
    /// clamd was told to load it.
    Reloading,
    /// Found through clamd's socket.
    Proven,
    /// Nobody goes back behind it; nothing is unfinished.
    Finished,
}

/// For those who do not want to know how far an installation is.
pub fn quietly(_: Step) {}

/// What the running engine has loaded, and how that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Loaded {
    /// The generation in use: its marker and its canary were found through the socket.
    Generation(Generation),
    /// clamd names an official database; no generation of ours was found in it.
    Official {
        /// Its version.
        version: u64,
        /// When it was built, in seconds since 1970, as clamd says it.
        built_at: i64,
    },
    /// Something that cannot be named.
    Unnamed,
}

/// Installs releases, one at a time.
#[derive(Debug)]
pub struct Updater {
    store: Arc<Store>,
    scanner: Scanner,
    test_load: TestLoad,
    proof: Duration,
    /// Held while something is switched.
    at_work: Mutex<()>,
}

impl Updater {
    /// An updater. `proof` is how long clamd may take to load a database; a whole official one takes half a minute.
    #[must_use]
    pub fn new(store: Store, scanner: Scanner, test_load: TestLoad, proof: Duration) -> Self {
        Self {
            store: Arc::new(store),
            scanner,
            test_load,
            proof,
            at_work: Mutex::new(()),
        }
    }

    /// The directory it works on.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Installs a release with the signatures of a policy that permits `permitted`. `now` is in seconds since 1970.
    ///
    /// # Errors
    /// [`Refused`]; the database in use before is then in use still, or again.
    pub async fn install(
        &self,
        release: Release,
        permitted: &[Kind],
        now: i64,
        told: &(dyn Fn(Step) + Sync),
    ) -> Result<Generation, Refused> {
        let _at_work = self.at_work.lock().await;
        self.check(&release, now)?;
        let staged = {
            let (store, permitted) = (Arc::clone(&self.store), permitted.to_vec());
            blocking(move || store.stage(&release, &permitted)).await?
        };
        told(Step::Staged);
        self.compare_with_the_one_in_use(&staged.generation)?;
        self.test_load.run(&staged, &self.store.staging()).await?;
        told(Step::Tried);
        let generation = self.store.keep(staged)?;
        told(Step::Kept);
        self.put_to_use(&generation, told).await?;
        Ok(generation)
    }

    /// Makes the generation in use anew with the signatures of another policy. Nothing is done where it is that already.
    ///
    /// # Errors
    /// As [`Updater::install`].
    pub async fn permit(
        &self,
        permitted: &[Kind],
        now: i64,
    ) -> Result<Option<Generation>, Refused> {
        let Some(current) = self.store.current() else {
            return Ok(None);
        };
        if current.has_the_policy(permitted) {
            return Ok(None);
        }
        let release = Release::of(&current, &self.store.files(&current));
        match self.install(release, permitted, now, &quietly).await {
            Ok(generation) => Ok(Some(generation)),
            Err(Refused::InUse) => Ok(None),
            Err(refused) => Err(refused),
        }
    }

    /// Finishes what a power cut interrupted: looks whether the database in use is whole, and whether clamd has it.
    ///
    /// # Errors
    /// [`Refused::NotProven`] when clamd does not find it; then the one before is in use again.
    pub async fn settle(&self) -> Result<(), Refused> {
        let _at_work = self.at_work.lock().await;
        let store = Arc::clone(&self.store);
        let mended = blocking(move || store.mend()).await?;
        if !mended && !self.store.is_unproven() {
            return Ok(());
        }
        let Some(current) = self.store.current() else {
            return Ok(());
        };
        if mended && !self.store.is_unproven() {
            self.store.announce(&current)?;
        }
        self.reload_and_prove(&current, &quietly).await
    }

    fn check(&self, release: &Release, now: i64) -> Result<(), Refused> {
        if release.again {
            return Ok(());
        }
        if release.expires.is_some_and(|expires| expires <= now) {
            return Err(Refused::Expired);
        }
        if release
            .built_at
            .is_some_and(|built| built > now.saturating_add(AHEAD))
        {
            return Err(Refused::FromTheFuture);
        }
        let floor = self.store.floor(release.origin)?;
        if release.origin != Origin::Factory && release.serial < floor {
            return Err(Refused::Rollback {
                offered: release.serial,
                floor,
            });
        }
        let current = self.store.current();
        if current.is_some_and(|current| {
            current.origin != release.origin && current.built_at > release.built_at
        }) {
            return Err(Refused::Older);
        }
        Ok(())
    }

    fn compare_with_the_one_in_use(&self, offered: &Generation) -> Result<(), Refused> {
        let Some(current) = self.store.current() else {
            return Ok(());
        };
        if current.id == offered.id && !self.store.is_unproven() {
            return Err(Refused::InUse);
        }
        let same_place = current.origin == offered.origin && current.serial == offered.serial;
        if same_place && !current.is_of_the_release_of(offered) {
            return Err(Refused::Conflict(offered.serial));
        }
        Ok(())
    }

    async fn put_to_use(
        &self,
        generation: &Generation,
        told: &(dyn Fn(Step) + Sync),
    ) -> Result<(), Refused> {
        self.store.announce(generation)?;
        told(Step::Announced);
        self.store.switch(generation)?;
        told(Step::Switched);
        self.reload_and_prove(generation, told).await?;
        self.store.tidy()?;
        Ok(())
    }

    async fn reload_and_prove(
        &self,
        generation: &Generation,
        told: &(dyn Fn(Step) + Sync),
    ) -> Result<(), Refused> {
        if self.reload_until_proven(generation, told).await {
            told(Step::Proven);
            self.store.proven(generation)?;
            told(Step::Finished);
            return Ok(());
        }
        let back = match self.store.back()? {
            Some(before) => self.reload_until_proven(&before, &quietly).await,
            None => false,
        };
        Err(Refused::NotProven { back })
    }

    /// `RELOAD` answers the same whatever comes of it, so only the canary counts. What was clean by the old engine is not
    /// clean by the new one, and during the change nobody knows which of them answered.
    async fn reload_until_proven(
        &self,
        generation: &Generation,
        told: &(dyn Fn(Step) + Sync),
    ) -> bool {
        let deadline = Instant::now() + self.proof;
        self.scanner.database_changed();
        let proving = async {
            let mut asked = false;
            loop {
                // A scanner that is not there yet loads the new database when it starts.
                if !asked && self.scanner.reload().await.is_ok() {
                    asked = true;
                    told(Step::Reloading);
                }
                if self.finds(generation).await == Ok(true) {
                    return;
                }
                sleep(ASK_AGAIN).await;
            }
        };
        let proven = timeout_at(deadline, proving).await.is_ok();
        self.scanner.database_changed();
        proven
    }

    /// Whether the running engine finds what only this generation finds.
    async fn finds(&self, generation: &Generation) -> Result<bool, Unavailable> {
        for proof in generation.proofs() {
            if !self.finds_canary(&proof).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn finds_canary(&self, canary: &Canary) -> Result<bool, Unavailable> {
        let Ok(body) = SealedBody::from_bytes(canary.content.as_bytes()) else {
            return Ok(false);
        };
        match self.scanner.probe(&body).await {
            Outcome::Infected(name) => Ok(is_named(&name, &canary.signature)),
            Outcome::Unavailable(why) => Err(why),
            _ => Ok(false),
        }
    }

    /// What the running engine has loaded; asked through its socket, not read from the disk.
    ///
    /// # Errors
    /// [`Unavailable`] when it cannot be asked.
    pub async fn loaded(&self) -> Result<Loaded, Unavailable> {
        if let Some(current) = self.store.current()
            && self.finds(&current).await?
        {
            return Ok(Loaded::Generation(current));
        }
        loaded_by(&self.scanner).await
    }
}

/// What clamd says of the database it loaded, where no generation of ours is known.
///
/// # Errors
/// [`Unavailable`] when it cannot be asked.
pub async fn loaded_by(scanner: &Scanner) -> Result<Loaded, Unavailable> {
    let version = scanner.version().await?;
    Ok(
        official::loaded(&version).map_or(Loaded::Unnamed, |described| Loaded::Official {
            version: described.version,
            built_at: described.built_at,
        }),
    )
}

impl Loaded {
    /// When the signatures in it were gathered, in seconds since 1970; none when nobody can say.
    #[must_use]
    pub const fn built_at(&self) -> Option<i64> {
        match self {
            Self::Generation(generation) => generation.built_at,
            Self::Official { built_at, .. } => Some(*built_at),
            Self::Unnamed => None,
        }
    }
}

async fn blocking<T, E>(work: impl FnOnce() -> Result<T, E> + Send + 'static) -> Result<T, Refused>
where
    T: Send + 'static,
    E: Send + 'static,
    Refused: From<E>,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => Ok(done?),
        Err(panicked) => Err(Refused::Store(StoreError::Path(
            "databases".into(),
            std::io::Error::other(panicked),
        ))),
    }
}
