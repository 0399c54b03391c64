//! The city's side of the data path: sites, their connections, and the identity shown to them.
//! Does not know what a request means or who asked.

mod breaker;
mod deadline;
mod dial;
mod h1;
mod h2;
mod pool;
mod rehome;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
};

use arc_swap::ArcSwap;
use http::{Request, Response};
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, ServerName},
};

use crate::{
    Limits, StartError,
    body::{Progress, Reply, Upload},
    config::{Owner, Protocol, ProxyConfig, Site, Upstream},
    error::Fault,
    tls::{Credentials, Identity},
};

pub(crate) use breaker::{Breaker, RetryBudget};
pub(crate) use dial::{Dialler, Handshakes};
pub(crate) use h1::{H1, H1Body};
pub(crate) use h2::{H2, H2Body};
pub(crate) use pool::{Pool, repeatable};
pub(crate) use rehome::Rehome;

/// What all workers share about one site.
pub(crate) struct SiteState {
    pub(crate) upstream: Upstream,
    pub(crate) server_name: ServerName<'static>,
    pub(crate) protocol: Protocol,
    pub(crate) limits: Limits,
    pub(crate) handshakes: Handshakes,
    pub(crate) breaker: Breaker,
    pub(crate) budget: RetryBudget,
    /// For a site that is not the city's: how the box presents itself there, namely as nobody, for good.
    own: Option<Arc<Credentials>>,
}

impl SiteState {
    fn new(
        site: &Site,
        config: &ProxyConfig,
        signatures: &Arc<AtomicU64>,
    ) -> Result<Arc<Self>, StartError> {
        let server_name = ServerName::try_from(site.upstream.host.clone())
            .map_err(|_| StartError::HostName(site.upstream.host.clone()))?;
        let own = match &site.owner {
            Owner::City => None,
            Owner::Other { roots } => {
                let roots = store(roots)?;
                let nobody = Credentials::new(0, roots, None, Arc::clone(signatures))?;
                Some(Arc::new(nobody))
            }
        };
        Ok(Arc::new(Self {
            upstream: site.upstream.clone(),
            server_name,
            protocol: site.protocol,
            limits: config.limits.clone(),
            handshakes: Handshakes::default(),
            breaker: Breaker::default(),
            budget: RetryBudget::new(),
            own,
        }))
    }

    /// Whether what it says of staff is to be believed.
    pub(crate) const fn is_city(&self) -> bool {
        self.own.is_none()
    }
}

fn store(roots: &[CertificateDer<'static>]) -> Result<Arc<RootCertStore>, StartError> {
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add(root.clone()).map_err(StartError::TrustAnchor)?;
    }
    Ok(Arc::new(store))
}

/// All sites, and how the box presents itself to them.
pub(crate) struct Upstreams {
    pub(crate) sites: Vec<Arc<SiteState>>,
    credentials: ArcSwap<Credentials>,
    pub(crate) dialler: Dialler,
    roots: Arc<RootCertStore>,
    generations: AtomicU64,
    current: AtomicU64,
    signatures: Arc<AtomicU64>,
}

impl Upstreams {
    pub(crate) fn new(
        config: &ProxyConfig,
        identity: Option<Identity>,
    ) -> Result<(Self, JoinHandle<()>), StartError> {
        let roots = store(&config.roots)?;
        let signatures = Arc::new(AtomicU64::new(0));
        let sites = config
            .sites
            .iter()
            .map(|site| SiteState::new(site, config, &signatures))
            .collect::<Result<_, StartError>>()?;
        let credentials =
            Credentials::new(0, Arc::clone(&roots), identity, Arc::clone(&signatures))?;
        let (dialler, thread) = Dialler::start()?;
        let upstreams = Self {
            sites,
            credentials: ArcSwap::from_pointee(credentials),
            dialler,
            roots,
            generations: AtomicU64::new(1),
            current: AtomicU64::new(0),
            signatures,
        };
        Ok((upstreams, thread))
    }

    /// Presents another certificate from now on. Requests in flight finish on the connections they have.
    pub(crate) fn set_identity(&self, identity: Option<Identity>) -> Result<(), StartError> {
        let generation = self.generations.fetch_add(1, Ordering::Relaxed);
        let credentials = Credentials::new(
            generation,
            Arc::clone(&self.roots),
            identity,
            Arc::clone(&self.signatures),
        )?;
        self.credentials.store(Arc::new(credentials));
        self.current.store(generation, Ordering::Release);
        for site in &self.sites {
            // What failed may have failed because of the certificate.
            let _ = site.breaker.succeeded();
        }
        Ok(())
    }

    /// The generation of the identity in force at a site. Read for every request, and so without touching the identity
    /// itself.
    pub(crate) fn generation(&self, site: &SiteState) -> u64 {
        match &site.own {
            Some(own) => own.generation,
            None => self.current.load(Ordering::Acquire),
        }
    }

    /// How the box presents itself to a site.
    pub(crate) fn credentials(&self, site: &SiteState) -> Arc<Credentials> {
        match &site.own {
            Some(own) => Arc::clone(own),
            None => self.credentials.load_full(),
        }
    }

    /// Signatures the facility key has made since the start.
    pub(crate) fn signatures(&self) -> u64 {
        self.signatures.load(Ordering::Relaxed)
    }
}

/// A connection for one request.
pub(crate) enum Lease {
    H1(Box<H1>),
    H2(Arc<H2>),
}

impl Lease {
    pub(crate) const fn is_http2(&self) -> bool {
        matches!(self, Self::H2(_))
    }

    /// Whether the connection has answered a request before; if not, a failure says something about the site or the certificate.
    pub(crate) fn is_proven(&self) -> bool {
        match self {
            Self::H1(h1) => h1.served > 0,
            Self::H2(h2) => h2.is_proven(),
        }
    }

    /// Sends a request and waits for the head of the response.
    ///
    /// # Errors
    /// Leaves the request where it was when not a byte of it was sent.
    pub(crate) async fn exchange(
        self,
        request: &mut Option<Request<Upload>>,
        upload: &Progress,
        pool: &Arc<Pool>,
    ) -> Result<Response<Reply>, Fault> {
        let proven = self.is_proven();
        let limits = pool.limits();
        let answered = match self {
            Self::H1(h1) => h1
                .exchange(request, upload, limits.first_byte, pool)
                .await
                .map(|response| response.map(Reply::h1)),
            Self::H2(h2) => h2
                .exchange(request, upload, limits)
                .await
                .map(|response| response.map(Reply::h2)),
        };
        answered.map_err(|mut fault| {
            fault.proven = proven;
            fault
        })
    }
}
