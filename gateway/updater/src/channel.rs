//! The release as the signed channel has it: description, index, kernel and images, with the updater's own copy of the metadata.
//!
//! The signatures are checked in this process, by `gateway-tuf` with a store and a shipped root of its own: what gatewayd relays or a stick carries is
//! believed no more than that. Nothing is decided here.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use gateway_policy::Timestamp;
use gateway_tuf::form::RELEASE_TARGET;
use gateway_tuf::{
    Client, Duties, Limits, Line, Medium, Refused, Store, Target, Transport, Trusted, Unchecked,
};

use crate::UpdateError;
use crate::config::Config;
use crate::index::{Image, LARGEST_INDEX};
use crate::manifest::{self, Manifest};
use crate::slot::Slot;
use crate::source::{Pieces, Source};
use crate::uki;

/// Below the state directory.
const METADATA: &str = "metadata";

/// What one look at the channel has established.
#[derive(Debug)]
pub struct Channel {
    trusted: Trusted,
}

/// The parts of a release that are in memory, and where its images are.
#[derive(Debug)]
pub struct Fetched {
    /// The block index.
    pub index: Vec<u8>,
    /// The kernel.
    pub kernel: Vec<u8>,
    /// The signed lengths of the images in bytes.
    pub lengths: [u64; 2],
    /// The images.
    pub images: Images,
}

/// The images of a release on the channel.
#[derive(Debug)]
pub struct Images {
    trusted: Trusted,
    targets: [Target; 2],
}

impl Channel {
    /// Brings the metadata up to date, from the line or from a medium.
    ///
    /// # Errors
    /// [`UpdateError::Channel`], [`UpdateError::Config`].
    pub async fn refresh(
        config: &Config,
        medium: Option<&Path>,
        now: Timestamp,
    ) -> Result<Self, UpdateError> {
        let shown = config.root.display();
        let root = std::fs::read(&config.root)
            .map_err(|error| UpdateError::Config(format!("{shown}: {error}")))?;
        let transport: Arc<dyn Transport> = match medium {
            Some(folder) => Arc::new(Medium::new(folder)),
            None => Arc::new(Line::new(&config.channel)),
        };
        let store = Store::open(&config.state.join(METADATA))?;
        let client = Client::new(store, root, transport, Limits::default(), Duties::City);
        let trusted = client.refresh(now).await?;
        Ok(Self { trusted })
    }

    /// The newest release's description; `None` while nothing was released.
    ///
    /// # Errors
    /// [`UpdateError::Channel`], [`UpdateError::Manifest`].
    pub async fn manifest(&mut self) -> Result<Option<Manifest>, UpdateError> {
        let target = match self.trusted.target(RELEASE_TARGET).await {
            Err(Refused::MissingTarget { .. }) => return Ok(None),
            target => target?,
        };
        let bytes = self.trusted.read(&target, manifest::LARGEST).await?;
        Ok(Some(Manifest::parse(&bytes)?))
    }

    /// Brings what is looked at before the first write.
    ///
    /// # Errors
    /// [`UpdateError::Channel`].
    pub async fn fetch(mut self, release: &Manifest, slot: Slot) -> Result<Fetched, UpdateError> {
        let trusted = &mut self.trusted;
        let root = trusted.target(&release.target(Image::Root.file())).await?;
        let tree = trusted
            .target(&release.target(Image::Verity.file()))
            .await?;
        let index = trusted.target(&release.target(manifest::INDEX)).await?;
        let kernel = trusted.target(&release.target(slot.kernel())).await?;
        Ok(Fetched {
            index: trusted.read(&index, LARGEST_INDEX).await?,
            kernel: trusted.read(&kernel, uki::LARGEST).await?,
            lengths: [root.length, tree.length],
            images: Images {
                trusted: self.trusted,
                targets: [root, tree],
            },
        })
    }
}

impl Source for Images {
    type Pieces = Unchecked;

    async fn open(&self, image: Image, from: u64) -> Result<Unchecked, UpdateError> {
        let [root, tree] = &self.targets;
        let target = match image {
            Image::Root => root,
            Image::Verity => tree,
        };
        Ok(self.trusted.open_unchecked(target, from).await?)
    }
}

impl Pieces for Unchecked {
    async fn next(&mut self) -> Result<Option<Bytes>, UpdateError> {
        Ok(Self::next(self).await?)
    }
}
