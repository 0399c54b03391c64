//! Every bound the data path keeps, in one place. Does not enforce any of them.

use std::time::Duration;

/// Bounds on time, size and number. [`Limits::default`] is meant for a facility of up to some eighty devices.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Open connections from the LAN, all listeners together.
    pub connections: usize,
    /// Open connections from one client address.
    pub connections_per_client: usize,
    /// From accepting a connection to the end of its TLS handshake.
    pub handshake: Duration,
    /// From the first byte of a request head to its last (slowloris).
    pub header_read: Duration,
    /// How long a connection without a request may stay open.
    pub keep_alive: Duration,
    /// Header fields in one request; more are answered with 431.
    pub header_count: usize,
    /// Bytes of one request head; more are answered with 431.
    pub header_bytes: usize,
    /// Bytes of a request target; more are answered with 414.
    pub uri_bytes: usize,
    /// Bytes of a request body that is relayed; `None` leaves it to the city.
    pub body_bytes: Option<u64>,
    /// Bytes of a request body for the box's own pages.
    pub local_body_bytes: usize,
    /// Bytes per second below which an upload is given up with 408, averaged after `upload_grace`.
    pub upload_rate: u32,
    /// Waiting time an upload may spend before its rate is judged.
    pub upload_grace: Duration,
    /// How long the client may refuse to take a byte of the response.
    pub write_stall: Duration,
    /// How long upstream may pause in the middle of a response body.
    pub read_stall: Duration,
    /// From the end of the request to the first byte of the response; then 504.
    pub first_byte: Duration,
    /// Name resolution and TCP connect towards the city.
    pub connect: Duration,
    /// TLS handshake towards the city, the TPM's signature included.
    pub upstream_handshake: Duration,
    /// Connections per worker and site when upstream speaks HTTP/1.1.
    pub upstream_connections: usize,
    /// Multiplexed connections per worker and site when upstream speaks HTTP/2.
    pub upstream_multiplexed: usize,
    /// Requests per worker and site that may wait for a connection; more are answered with 503.
    pub upstream_waiting: usize,
    /// Idle time after which an upstream connection is closed. Keep it below the city's own.
    pub upstream_idle: Duration,
    /// Age after which an upstream connection takes no new request.
    pub upstream_age: Duration,
    /// Whether a connection is made before the first request needs it.
    pub upstream_warm: bool,
    /// HTTP/2 streams a client may have open on one connection.
    pub streams: u32,
    /// HTTP/2 streams a client may reset on one connection within ten seconds (Rapid Reset).
    pub stream_resets: u32,
    /// Bytes of an HTTP/2 header list, as RFC 9113 section 6.5.2 counts them.
    pub header_list_bytes: u32,
    /// HTTP/2 flow-control window of one stream.
    pub stream_window: u32,
    /// HTTP/2 flow-control window of one connection.
    pub connection_window: u32,
    /// Bytes of one WebSocket message; a larger one ends its connection with 1009.
    pub message_bytes: usize,
    /// Bytes of one event of an event stream; a larger one ends the stream.
    pub event_bytes: usize,
    /// How long the two sides of a WebSocket or CONNECT tunnel may both be silent.
    pub tunnel_idle: Duration,
    /// How often the gate is asked again about what is in flight: tunnels, streams, uploads and downloads.
    pub tunnel_check: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 4096,
            connections_per_client: 256,
            handshake: Duration::from_secs(10),
            header_read: Duration::from_secs(15),
            keep_alive: Duration::from_secs(75),
            header_count: 100,
            header_bytes: 32 * 1024,
            uri_bytes: 8 * 1024,
            body_bytes: None,
            local_body_bytes: 1024 * 1024,
            upload_rate: 512,
            upload_grace: Duration::from_secs(20),
            write_stall: Duration::from_secs(60),
            read_stall: Duration::from_secs(120),
            first_byte: Duration::from_secs(60),
            connect: Duration::from_secs(5),
            upstream_handshake: Duration::from_secs(10),
            upstream_connections: 128,
            upstream_multiplexed: 2,
            upstream_waiting: 512,
            upstream_idle: Duration::from_secs(50),
            upstream_age: Duration::from_secs(3600),
            upstream_warm: true,
            streams: 128,
            stream_resets: 200,
            header_list_bytes: 32 * 1024,
            stream_window: 1 << 20,
            connection_window: 4 << 20,
            message_bytes: 16 << 20,
            event_bytes: 1 << 20,
            tunnel_idle: Duration::from_secs(600),
            tunnel_check: Duration::from_secs(1),
        }
    }
}
