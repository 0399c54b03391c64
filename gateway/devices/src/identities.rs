//! Which certificate belongs to which device, for the data path: read without a lock for every connection.
//!
//! A certificate is known by the SHA-256 of the whole of it. It was checked when it was registered (issued here, or of a
//! chain that ends at one of the city's authorities), so recognising it again needs no second look at its signature;
//! its validity is looked at each time.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use gateway_policy::{DeviceId, Timestamp};
use rustls::pki_types::CertificateDer;

use crate::secret::{Tag, sha256};

/// A registered certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) device: DeviceId,
    pub(crate) not_before: Timestamp,
    pub(crate) not_after: Timestamp,
}

/// See the module. Cheap to clone; clones see the same.
#[derive(Clone, Default)]
pub struct Identities(Arc<ArcSwap<HashMap<Tag, Known>>>);

impl std::fmt::Debug for Identities {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identities")
            .field("certificates", &self.0.load().len())
            .finish()
    }
}

impl Identities {
    /// The device whose certificate leads this chain, if it is valid at `now`. A revoked device is recognised too: what it
    /// may do is the gate's to say. The caller has had the key's possession proven.
    #[must_use]
    pub fn identify(&self, chain: &[CertificateDer<'static>], now: Timestamp) -> Option<DeviceId> {
        let leaf = chain.first()?;
        let all = self.0.load();
        let known = all.get(&sha256(leaf))?;
        (known.not_before <= now && now <= known.not_after).then_some(known.device)
    }

    pub(crate) fn publish(&self, all: HashMap<Tag, Known>) {
        self.0.store(Arc::new(all));
    }
}
