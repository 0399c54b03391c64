//! Accepts connections within bounds. Does not read from them.

use std::{
    collections::{HashMap, hash_map::Entry},
    io,
    net::{IpAddr, SocketAddr, TcpListener as StdListener},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

use crate::{
    Limits, StartError,
    connection::{self, Arrival, Door},
    drain::Phase,
    wire::Single,
    worker::Worker,
};

/// How many clients may wait to be accepted.
const BACKLOG: i32 = 1024;

/// Pause after the system refused a connection (no descriptors left), so that the loop does not spin.
const PAUSE: Duration = Duration::from_millis(50);

/// The sockets the data path listens on, already bound: by the caller, or by systemd.
#[derive(Debug, Default)]
pub struct Listeners {
    /// For HTTPS.
    pub https: Vec<StdListener>,
    /// For plain HTTP: redirects, the PAC file, CONNECT.
    pub http: Vec<StdListener>,
}

impl Listeners {
    /// Binds a socket. An IPv6 address is bound for IPv6 only, so that both families can be named side by side.
    ///
    /// # Errors
    /// [`StartError::Listen`].
    pub fn bind(address: SocketAddr) -> Result<StdListener, StartError> {
        let bind = || -> io::Result<StdListener> {
            let socket = Socket::new(
                Domain::for_address(address),
                Type::STREAM,
                Some(Protocol::TCP),
            )?;
            if address.is_ipv6() {
                socket.set_only_v6(true)?;
            }
            socket.set_reuse_address(true)?;
            socket.bind(&address.into())?;
            socket.listen(BACKLOG)?;
            Ok(socket.into())
        };
        bind().map_err(StartError::Listen)
    }

    pub(crate) fn duplicate(&self) -> Result<Self, StartError> {
        let all = |sockets: &[StdListener]| {
            sockets
                .iter()
                .map(|socket| {
                    let socket = socket.try_clone()?;
                    socket.set_nonblocking(true)?;
                    Ok(socket)
                })
                .collect::<io::Result<_>>()
                .map_err(StartError::Listen)
        };
        Ok(Self {
            https: all(&self.https)?,
            http: all(&self.http)?,
        })
    }
}

/// Counts open connections, in all and per client.
#[derive(Debug, Default)]
pub(crate) struct Slots {
    open: AtomicUsize,
    clients: Mutex<HashMap<IpAddr, usize>>,
}

/// The right to have one connection open.
#[derive(Debug)]
pub(crate) struct Slot {
    slots: Arc<Slots>,
    peer: IpAddr,
}

impl Slots {
    pub(crate) fn take(self: &Arc<Self>, peer: IpAddr, limits: &Limits) -> Option<Slot> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let count = clients.entry(peer).or_default();
        if *count >= limits.connections_per_client
            || self.open.load(Ordering::Relaxed) >= limits.connections
        {
            if *count == 0 {
                clients.remove(&peer);
            }
            return None;
        }
        *count += 1;
        self.open.fetch_add(1, Ordering::Relaxed);
        Some(Slot {
            slots: Arc::clone(self),
            peer,
        })
    }

    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.slots.open.fetch_sub(1, Ordering::Relaxed);
        let mut clients = self
            .slots
            .clients
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut entry) = clients.entry(self.peer) {
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
    }
}

/// Accepts on one socket until the data path drains.
pub(crate) async fn accept(worker: Arc<Worker>, socket: StdListener, door: Door) -> io::Result<()> {
    let listener = TcpListener::from_std(socket)?;
    let shared = Arc::clone(&worker.shared);
    let mut draining = std::pin::pin!(shared.drain.reached(Phase::Draining));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut draining => return Ok(()),
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(target: "renraku::listener", error = %error, "cannot accept a connection");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        // A client that comes over IPv4 to an IPv6 socket is the same client.
        let peer = address.ip().to_canonical();
        let Some(slot) = shared.slots.take(peer, &shared.config.limits) else {
            tracing::info!(target: "renraku::listener", open = shared.slots.open(), "too many connections; one is closed");
            continue;
        };
        let _ = stream.set_nodelay(true);
        let arrival = Arrival {
            worker: Arc::clone(&worker),
            door,
            peer,
            node: shared.nodes.of_address(peer),
            slot: Arc::new(slot),
        };
        match door {
            Door::Plain => {
                tokio::spawn(connection::serve_plain(arrival, stream));
            }
            Door::Tls | Door::Tunnel => {
                tokio::spawn(connection::serve_tls(arrival, Single(stream)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_client_cannot_take_all_connections() {
        let limits = Limits {
            connections: 3,
            connections_per_client: 2,
            ..Limits::default()
        };
        let slots = Arc::new(Slots::default());
        let greedy = IpAddr::from([192, 0, 2, 1]);
        let modest = IpAddr::from([192, 0, 2, 2]);
        let first = slots.take(greedy, &limits);
        let second = slots.take(greedy, &limits);
        assert!(first.is_some() && second.is_some());
        assert!(slots.take(greedy, &limits).is_none());
        let third = slots.take(modest, &limits);
        assert!(third.is_some());
        assert!(slots.take(modest, &limits).is_none(), "all are taken");
        drop(first);
        assert!(slots.take(modest, &limits).is_some());
    }
}
