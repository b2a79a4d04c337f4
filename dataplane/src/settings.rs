//! What the process is told at its start and never changes: addresses, threads, limits.

use std::{
    net::SocketAddr,
    num::{NonZeroU32, NonZeroUsize},
    time::Duration,
};

use decision::{canonical::RequestLimits, client::AddressSource};

use crate::trace::TraceSettings;

/// Where to listen, with how many threads, and within which limits.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Addresses for plain HTTP. Port 0 picks a free one; empty closes plain HTTP.
    pub http: Vec<SocketAddr>,
    /// Addresses for HTTPS. Port 0 picks a free one; empty closes HTTPS.
    pub https: Vec<SocketAddr>,
    /// Data threads. Each has its own listener per address, caches, counters and connections to upstreams.
    pub threads: NonZeroUsize,
    /// How the client's address is told.
    pub address_source: AddressSource,
    /// Every limit of connections and requests.
    pub limits: Limits,
    /// This replica's number, a part of every request id.
    pub replica: u16,
    /// Of how many exchanges that went well one is told by [`crate::Dataplane::access_log`]; of those
    /// that were refused or failed, up to 100 a second of each thread. Default `None`: nothing is.
    pub access_log: Option<NonZeroU32>,
    /// Which traces requests belong to, and which are told of. Default: everybody's, and none.
    pub traces: TraceSettings,
    /// The port of `Location` when plain HTTP is redirected, and of `X-Forwarded-Port` under TLS.
    /// `None` means 443, which `Location` leaves out; 0 the first port of `https` as it was bound.
    pub redirect_port: Option<u16>,
}

/// Every limit that connections and requests keep. Beyond one of them a request is refused with the
/// code that its field names, or the connection is closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest request target in bytes; beyond it `UriTooLong`. Default 8,192.
    pub uri_bytes: usize,
    /// Largest request head in bytes, target and header fields together; beyond it a bare 431.
    /// Default 16,384.
    pub header_bytes: u32,
    /// Most header fields; beyond it `HeadersTooLarge` or, on HTTP/1.1, a bare 431. Default 100.
    pub header_count: usize,
    /// Most requests at once on an HTTP/2 connection. Default 32.
    pub streams: NonZeroU32,
    /// Most connections of clients on one thread. For a further one, one that rests is closed, the
    /// longest first; if none rests, the further one is. Default 20,000.
    pub connections: usize,
    /// From accepting a connection to the end of its TLS handshake. Default 5 s.
    pub handshake: Duration,
    /// From accepting a connection, or the end of its handshake, to its first byte. Default 5 s.
    pub first_byte: Duration,
    /// From the first byte of a request's head to its last. Default 10 s.
    pub header_read: Duration,
    /// How long a connection may rest between requests. Default 75 s, above the 60 s of the common
    /// load balancers.
    pub keep_alive_idle: Duration,
    /// How old a connection may become before it is asked to end, give or take a tenth. Default 30 min.
    pub connection_age: Duration,
    /// Longest pause of a request's body before the response has begun; beyond it
    /// `RequestTimeout`. Default 30 s.
    pub body_idle: Duration,
    /// Lowest rate of a request's body in bytes a second before the response has begun; beyond it
    /// `RequestTimeout`. Default 1,024; 0 switches it off.
    pub body_rate_bytes: u64,
    /// How long we wait for a body, pauses of the upstream not counted, before its rate is judged; and
    /// how long the rest of it may take once the response is over. Default 10 s.
    pub body_rate_grace: Duration,
    /// Longest time without progress in either direction once the response has begun; beyond it the
    /// connection is closed. Default 300 s.
    pub transfer_idle: Duration,
    /// How often a request that waits for its answer is judged again; how long a response may take
    /// before its request is kept, to be judged again whenever policies change; and how long one that
    /// its client does not take may keep a place that others wait for. Tunnels are judged again from
    /// the beginning. Default 5 s.
    pub long_exchange: Duration,
    /// Longest silence in both directions of a WebSocket or another connection whose protocol was
    /// switched; beyond it both sides are closed. Default 3,600 s.
    pub tunnel_idle: Duration,
    /// From the first packet to an upstream until it accepts; beyond it `UpstreamConnectFailed`.
    /// Default 5 s.
    pub upstream_connect: Duration,
    /// From the last byte of the request to the response's head; beyond it `UpstreamTimeout`.
    /// Default 60 s.
    pub upstream_first_byte: Duration,
    /// Most requests of one thread at once for one endpoint; over HTTP/1.1 each has a connection. As
    /// many more wait for as long as a connection may take; then, or beyond that,
    /// `UpstreamOverloaded`. Default 1,024.
    pub upstream_connections: usize,
    /// How long an upstream connection is kept for the next request. Default 60 s.
    pub upstream_idle: Duration,
    /// Most connections kept for one endpoint by one thread. Default 256: with fewer, bursts of streams
    /// of HTTP/2 would close what they open again at once.
    pub upstream_idle_connections: usize,
    /// Most verified tokens that one thread remembers. Default 10,000.
    pub tokens: usize,
    /// Most memory in bytes for the verified tokens of one thread. Default 16 MiB: 10,000 tokens of 700 characters.
    pub token_bytes: u64,
    /// How long a silent connection may still begin a request once [`crate::Dataplane::stop`] was
    /// called. Default 500 ms.
    pub linger: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            uri_bytes: 8 * 1024,
            header_bytes: 16 * 1024,
            header_count: 100,
            streams: NonZeroU32::MIN.saturating_add(31),
            connections: 20_000,
            handshake: Duration::from_secs(5),
            first_byte: Duration::from_secs(5),
            header_read: Duration::from_secs(10),
            keep_alive_idle: Duration::from_secs(75),
            connection_age: Duration::from_mins(30),
            body_idle: Duration::from_secs(30),
            body_rate_bytes: 1024,
            body_rate_grace: Duration::from_secs(10),
            transfer_idle: Duration::from_mins(5),
            long_exchange: Duration::from_secs(5),
            tunnel_idle: Duration::from_hours(1),
            upstream_connect: Duration::from_secs(5),
            upstream_first_byte: Duration::from_mins(1),
            upstream_connections: 1_024,
            upstream_idle: Duration::from_mins(1),
            upstream_idle_connections: 256,
            tokens: 10_000,
            token_bytes: 16 * 1024 * 1024,
            linger: Duration::from_millis(500),
        }
    }
}

impl Limits {
    /// The limits that reading a request keeps.
    pub(crate) fn of_requests(&self) -> RequestLimits {
        RequestLimits { uri_bytes: self.uri_bytes, header_count: self.header_count }
    }
}
