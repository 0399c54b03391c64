//! The listening sockets: handed over by systemd (socket activation), or bound here when started by hand.
//!
//! Nothing is accepted here; the proxy does that.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};

use listenfd::ListenFd;
use socket2::{Domain, Protocol, Socket, Type};

/// Sockets by what is spoken on them.
#[derive(Debug, Default)]
pub(crate) struct Listeners {
    /// TLS: the relayed sites and the box's own console.
    pub(crate) https: Vec<TcpListener>,
    /// Clear text: redirect, PAC file, CONNECT to the city's hosts.
    pub(crate) http: Vec<TcpListener>,
}

/// What went wrong with a listening socket.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SocketError {
    /// The address could not be bound.
    #[error("cannot listen on {0}")]
    Bind(SocketAddr, #[source] io::Error),
    /// A descriptor that systemd handed over is not a listening TCP socket.
    #[error("socket {0} from systemd is not a listening TCP socket")]
    HandedOver(usize, #[source] io::Error),
}

/// Takes the sockets of systemd if there are any (sd_listen_fds(3)), else binds the configured addresses.
///
/// A socket handed over serves clear HTTP when its port is one of `http`'s, TLS otherwise.
///
/// # Errors
/// [`SocketError`]; nothing is served on only some of the addresses.
pub(crate) fn open(https: &[SocketAddr], http: &[SocketAddr]) -> Result<Listeners, SocketError> {
    let mut handed = ListenFd::from_env();
    let mut listeners = Listeners::default();
    for index in 0..handed.len() {
        let socket = handed
            .take_tcp_listener(index)
            .map_err(|error| SocketError::HandedOver(index, error))?;
        let Some(socket) = socket else { continue };
        let port = socket
            .local_addr()
            .map_err(|error| SocketError::HandedOver(index, error))?
            .port();
        let clear = http.iter().any(|address| address.port() == port);
        if clear {
            &mut listeners.http
        } else {
            &mut listeners.https
        }
        .push(socket);
    }
    if listeners.https.is_empty() && listeners.http.is_empty() {
        listeners.https = https
            .iter()
            .map(|address| bind(*address))
            .collect::<Result<_, _>>()?;
        listeners.http = http
            .iter()
            .map(|address| bind(*address))
            .collect::<Result<_, _>>()?;
    }
    Ok(listeners)
}

/// Queue of connections the kernel has completed and nobody has accepted yet; a ward's tablets waking up together.
const BACKLOG: i32 = 1024;

fn bind(address: SocketAddr) -> Result<TcpListener, SocketError> {
    let listen = || -> io::Result<TcpListener> {
        let socket = Socket::new(
            Domain::for_address(address),
            Type::STREAM,
            Some(Protocol::TCP),
        )?;
        socket.set_reuse_address(true)?;
        if address.is_ipv6() {
            // One `[::]` serves IPv4 too, whatever the system's default is.
            socket.set_only_v6(!address.ip().is_unspecified())?;
        }
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    };
    listen().map_err(|error| SocketError::Bind(address, error))
}

/// The addresses of this machine: before names work, a manager types one of them.
#[must_use]
pub(crate) fn own_addresses() -> Vec<IpAddr> {
    let interfaces = nix::ifaddrs::getifaddrs().into_iter().flatten();
    let addresses = interfaces.filter_map(|interface| {
        let address = interface.address?;
        if let Some(v4) = address.as_sockaddr_in() {
            return Some(IpAddr::V4(v4.ip()));
        }
        let v6 = address.as_sockaddr_in6()?.ip();
        // Link-local addresses need a zone, which no browser takes in an address bar.
        (!v6.is_unicast_link_local()).then_some(IpAddr::V6(v6))
    });
    addresses.collect()
}

/// An address as it stands in an authority (RFC 3986 §3.2.2).
pub(crate) fn as_host(address: IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => format!("[{v6}]"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;

    #[test]
    fn the_unspecified_ipv6_address_serves_ipv4_as_well() {
        let listeners = open(&["[::]:0".parse().unwrap()], &[]).unwrap();
        let port = listeners.https[0].local_addr().unwrap().port();
        assert!(TcpStream::connect(("127.0.0.1", port)).is_ok());
        assert!(TcpStream::connect(("::1", port)).is_ok());
    }

    #[test]
    fn the_loopback_address_is_one_of_our_own() {
        assert!(own_addresses().contains(&IpAddr::from([127, 0, 0, 1])));
    }

    #[test]
    fn an_address_in_use_is_named_in_the_error() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let error = open(&[address], &[]).unwrap_err();
        assert!(error.to_string().contains(&address.to_string()));
    }
}
