//! Opens connections to the sites on a thread of their own, because a TPM signs slowly and blocks while it does.
//! Does not keep connections: it hands each to the worker that ordered it.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    thread::JoinHandle,
    time::Duration,
};

use tokio::{
    net::TcpStream,
    sync::{Notify, mpsc, oneshot},
    time::{timeout, timeout_at},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{Rehome, SiteState};
use crate::{
    StartError,
    config::Protocol,
    error::{Fault, FaultKind},
    tls::{Credentials, Tickets},
};

/// How long a first connection waits for the ticket that makes the next ones cheap.
const TICKET_WAIT: Duration = Duration::from_millis(200);

/// A connection ready for its first request, parked between two runtimes.
pub(crate) struct Dialled {
    pub(crate) stream: Box<TlsStream<Rehome>>,
    pub(crate) http2: bool,
    pub(crate) generation: u64,
}

pub(crate) struct Order {
    pub(crate) site: Arc<SiteState>,
    pub(crate) credentials: Arc<Credentials>,
    pub(crate) protocol: Protocol,
    pub(crate) answer: oneshot::Sender<Result<Dialled, Fault>>,
}

/// Handle to the dialling thread; the thread ends when the last handle is gone.
#[derive(Clone)]
pub(crate) struct Dialler(mpsc::UnboundedSender<Order>);

impl Dialler {
    pub(crate) fn start() -> Result<(Self, JoinHandle<()>), StartError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(StartError::Runtime)?;
        // Bounded by the pools: each orders at most as many as it may open.
        let (sender, mut orders) = mpsc::unbounded_channel::<Order>();
        let thread = std::thread::Builder::new()
            .name("gateway-dial".into())
            .spawn(move || {
                runtime.block_on(async move {
                    while let Some(order) = orders.recv().await {
                        tokio::spawn(async move {
                            let dialled =
                                dial(&order.site, &order.credentials, order.protocol).await;
                            let _ = order.answer.send(dialled);
                        });
                    }
                });
            })
            .map_err(StartError::Thread)?;
        Ok((Self(sender), thread))
    }

    pub(crate) async fn dial(
        &self,
        site: Arc<SiteState>,
        credentials: Arc<Credentials>,
        protocol: Protocol,
    ) -> Result<Dialled, Fault> {
        let (answer, answered) = oneshot::channel();
        let order = Order {
            site,
            credentials,
            protocol,
            answer,
        };
        if self.0.send(order).is_err() {
            return Err(Fault::new(FaultKind::Stopping));
        }
        answered
            .await
            .unwrap_or_else(|_| Err(Fault::new(FaultKind::Stopping)))
    }
}

async fn dial(
    site: &SiteState,
    credentials: &Credentials,
    protocol: Protocol,
) -> Result<Dialled, Fault> {
    let tcp = connect(site).await?;
    let connector = TlsConnector::from(credentials.config(protocol));
    site.handshakes.turn(site, &credentials.tickets).await;
    // Takes its ticket before anybody else runs: there is no await between the turn and this, and one thread.
    let handshake = connector.connect(site.server_name.clone(), Rehome::Attached(tcp));
    let under_way = site.handshakes.begin();
    let mut stream = match timeout(site.limits.upstream_handshake, handshake).await {
        Err(_) => return Err(Fault::new(FaultKind::HandshakeTimeout)),
        Ok(Err(error)) => return Err(Fault::handshake(&error, credentials.signing.failed())),
        Ok(Ok(stream)) => Box::new(stream),
    };
    if !credentials.tickets.available(&site.server_name) && site.handshakes.bring_tickets() {
        await_ticket(&mut stream, credentials, site).await?;
    }
    drop(under_way);
    let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    stream
        .get_mut()
        .0
        .park()
        .map_err(|error| Fault::io(&error))?;
    Ok(Dialled {
        stream,
        http2,
        generation: credentials.generation,
    })
}

async fn connect(site: &SiteState) -> Result<TcpStream, Fault> {
    let deadline = tokio::time::Instant::now() + site.limits.connect;
    let addresses: Vec<SocketAddr> = match site.upstream.connect {
        Some(address) => vec![address],
        None => {
            let lookup = tokio::net::lookup_host((site.upstream.host.as_str(), site.upstream.port));
            match timeout_at(deadline, lookup).await {
                Err(_) => return Err(Fault::new(FaultKind::NameTimeout)),
                Ok(Err(_)) => return Err(Fault::new(FaultKind::NameUnknown)),
                Ok(Ok(found)) => found.collect(),
            }
        }
    };
    let mut fault = Fault::new(FaultKind::NameUnknown);
    for (tried, address) in addresses.iter().enumerate() {
        // The time left is shared, so that a dead address of one family does not use up that of the other.
        let left = u32::try_from(addresses.len() - tried).unwrap_or(u32::MAX);
        let share = deadline.saturating_duration_since(tokio::time::Instant::now()) / left;
        match timeout(share, TcpStream::connect(address)).await {
            Err(_) => fault = Fault::new(FaultKind::ConnectTimeout),
            Ok(Err(error)) => fault = Fault::connect(&error),
            Ok(Ok(tcp)) => {
                tcp.set_nodelay(true).map_err(|error| Fault::io(&error))?;
                return Ok(tcp);
            }
        }
    }
    Err(fault)
}

/// Orders the handshakes with one site so that few of them cost a signature.
///
/// One that has a ticket goes at once. One that has none waits for those under way, because each brings a new ticket; only when
/// none is under way does it go without.
#[derive(Debug, Default)]
pub(crate) struct Handshakes {
    under_way: AtomicUsize,
    ended: Notify,
    /// A site that gives no tickets is not waited for.
    no_tickets: AtomicBool,
}

impl Handshakes {
    async fn turn(&self, site: &SiteState, tickets: &Tickets) {
        while self.bring_tickets()
            && !tickets.available(&site.server_name)
            && self.under_way.load(Relaxed) > 0
        {
            self.ended.notified().await;
        }
    }

    fn begin(&self) -> UnderWay<'_> {
        self.under_way.fetch_add(1, Relaxed);
        UnderWay(self)
    }

    fn bring_tickets(&self) -> bool {
        !self.no_tickets.load(Relaxed)
    }

    fn brought_none(&self) {
        self.no_tickets.store(true, Relaxed);
    }
}

struct UnderWay<'a>(&'a Handshakes);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Relaxed);
        self.0.ended.notify_waiters();
    }
}

/// Reads TLS records until a ticket has arrived. What the server says meanwhile stays buffered in the session.
///
/// With TLS 1.3 a server that refuses the client's certificate says so only now, after the client's handshake is done.
async fn await_ticket(
    stream: &mut TlsStream<Rehome>,
    credentials: &Credentials,
    site: &SiteState,
) -> Result<(), Fault> {
    let server = &site.server_name;
    let wait = async {
        let (io, session) = stream.get_mut();
        let Rehome::Attached(tcp) = io else {
            return Ok(());
        };
        while !credentials.tickets.available(server) {
            tcp.readable().await?;
            let mut reader = Reader(tcp);
            match session.read_tls(&mut reader) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error),
            }
            let state = session
                .process_new_packets()
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            if state.plaintext_bytes_to_read() > 0 {
                break;
            }
        }
        Ok(())
    };
    match timeout(TICKET_WAIT, wait).await {
        Ok(Err(error)) => Err(Fault::handshake(&error, false)),
        Ok(Ok(())) => Ok(()),
        Err(_) => {
            site.handshakes.brought_none();
            Ok(())
        }
    }
}

struct Reader<'a>(&'a TcpStream);

impl io::Read for Reader<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buf)
    }
}
