//! Requests that two parsers could understand differently, sent over real sockets: over HTTP/1.1 and over HTTP/2,
//! through TLS and the whole data path, to a site that records every byte it gets.
//!
//! Each vector says what the standard wants: a refusal, of which the site sees nothing complete, or exactly these
//! requests with exactly this content. It does not test what happens to well-meant requests; `data_path` does.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test ends at the first surprise"
)]
#![allow(unreachable_pub, reason = "a test's modules are nobody's interface")]

#[path = "smuggling/frames.rs"]
mod frames;
#[path = "smuggling/http1.rs"]
mod http1;
#[path = "smuggling/http2.rs"]
mod http2;
#[path = "smuggling/site.rs"]
mod site;
#[allow(
    dead_code,
    reason = "shared with the data path's own tests, which use all of it"
)]
#[path = "data_path/stand.rs"]
mod stand;

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use site::Site;
use stand::{CITY, Setup, Stand};

/// A running box with a recording site behind it.
struct Bench {
    stand: Stand,
    site: Site,
}

impl Bench {
    async fn start() -> Self {
        let setup = Setup {
            protocol: gateway_proxy::Protocol::Http1,
            ..Setup::new()
        };
        let site = Site::start(&setup.authority.server(&[CITY])).await;
        let stand = setup.start(site.address);
        Self { stand, site }
    }

    /// A connection to the box that speaks `protocol`.
    async fn connect(&self, protocol: &[u8]) -> TlsStream<TcpStream> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.stand.authority.der()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![protocol.to_vec()];
        let tcp = TcpStream::connect(self.address()).await.unwrap();
        tcp.set_nodelay(true).unwrap();
        let name = ServerName::try_from(CITY).unwrap();
        let tls = tokio_rustls::TlsConnector::from(Arc::new(config))
            .connect(name, tcp)
            .await
            .unwrap();
        assert_eq!(tls.get_ref().1.alpn_protocol(), Some(protocol));
        tls
    }

    fn address(&self) -> SocketAddr {
        self.stand.https
    }
}
