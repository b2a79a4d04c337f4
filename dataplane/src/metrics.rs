//! Counters: one set a thread, added up when somebody asks.

mod encode;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use decision::{refs::RouteName, snapshot::Snapshot};
use http::StatusCode;
use prometheus_client::{encoding::text::encode_registry, registry::Registry};
use tokio::sync::Notify;

use crate::{
    denial_key::DenialKey,
    ledger::{Counter, Key, Ledger, Living},
    pulse::Pulse,
};

/// A number that one thread changes and others read.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

/// Set in a counter whose series was forgotten.
const ENDED: u64 = 1 << 63;

impl Count {
    pub(crate) fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn add_many(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// Adds to a number that the calling thread alone changes: cheaper than an addition that others
    /// might be in the middle of.
    fn grow(&self, more: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
    }

    /// Adds one. False if the series was forgotten before: then nobody reads the number any more.
    pub(crate) fn add_living(&self) -> bool {
        self.0.fetch_add(1, Ordering::Relaxed) & ENDED == 0
    }

    pub(crate) fn is_ended(&self) -> bool {
        self.0.load(Ordering::Relaxed) & ENDED != 0
    }

    pub(crate) fn subtract(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    pub(crate) fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Counter for Count {
    fn end(&self) {
        self.0.fetch_or(ENDED, Ordering::Relaxed);
    }
}

/// Why we ended a connection or a stream, or refused a request before anything could be judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rejected {
    /// More connections than `connections`, or than there are descriptors for: this one, or one that
    /// rested and made room.
    TooManyConnections,
    /// The TLS handshake was not complete within `handshake`.
    HandshakeTimeout,
    /// No byte within `first_byte`.
    FirstByteTimeout,
    /// The head was not complete within `header_read`.
    HeaderTimeout,
    /// Nothing moved for `transfer_idle`, or what the route has in its place; of a response also for
    /// `long_exchange` where other requests wait for room at its endpoint.
    Stalled,
    /// A handshake failed: no certificate, no common protocol, garbage.
    Tls,
    /// The head is larger than `header_bytes` or has too many fields.
    HeadersTooLarge,
    /// No HTTP.
    Malformed,
    /// A trusted proxy did not begin with a PROXY header that can be read.
    ProxyHeader,
    /// Frames of HTTP/2 that brought nothing forward, more than anybody needs.
    Flood,
}

impl Rejected {
    const ALL: [Self; 10] = [
        Self::TooManyConnections,
        Self::HandshakeTimeout,
        Self::FirstByteTimeout,
        Self::HeaderTimeout,
        Self::Stalled,
        Self::Tls,
        Self::HeadersTooLarge,
        Self::Malformed,
        Self::ProxyHeader,
        Self::Flood,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Self::TooManyConnections => "too-many-connections",
            Self::HandshakeTimeout => "handshake-timeout",
            Self::FirstByteTimeout => "first-byte-timeout",
            Self::HeaderTimeout => "header-timeout",
            Self::Stalled => "stalled",
            Self::Tls => "tls",
            Self::HeadersTooLarge => "headers-too-large",
            Self::Malformed => "malformed",
            Self::ProxyHeader => "proxy-header",
            Self::Flood => "flood",
        }
    }
}

/// What one thread counts. Aligned, so that no two threads write to one cache line.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct ThreadCounts {
    pub(crate) connections: Count,
    pub(crate) requests_in_flight: Count,
    pub(crate) permits: Count,
    pub(crate) upstream_requests: Count,
    pub(crate) upstream_connections: Count,
    pub(crate) upstream_connect_failures: Count,
    pub(crate) upstream_abandoned: Count,
    pub(crate) upstream_retries: Count,
    pub(crate) upstream_waits: Count,
    pub(crate) upstream_ejections: Count,
    pub(crate) samples_dropped: Count,
    pub(crate) access_log_dropped: Count,
    pub(crate) spans_dropped: Count,
    pub(crate) tunnels: Count,
    pub(crate) revoked: Count,
    pub(crate) generation: Count,
    pub(crate) pulse: Pulse,
    rejected: [Count; Rejected::ALL.len()],
}

impl ThreadCounts {
    pub(crate) fn rejected(&self, why: Rejected) {
        let place = Rejected::ALL.iter().position(|reason| *reason == why);
        if let Some(count) = place.and_then(|place| self.rejected.get(place)) {
            count.add();
        }
    }
}

/// The requests of one route on one thread.
#[derive(Debug, Default)]
pub(crate) struct RouteCounts {
    /// By the first digit of the status.
    classes: [Count; CLASSES.len()],
    /// Those that have ended, by the first of [`BOUNDS`] that is no shorter than they took; the
    /// last took longer than all.
    durations: [Count; BOUNDS.len() + 1],
    microseconds: Count,
}

/// Up to which durations requests are counted together. Few, because each is a series of each route.
const BOUNDS: [Duration; 8] = [
    Duration::from_millis(5),
    Duration::from_millis(25),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_millis(2_500),
    Duration::from_secs(10),
];

const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

impl RouteCounts {
    #[cfg(test)]
    pub(crate) fn total(&self) -> u64 {
        self.classes.iter().map(Count::value).sum()
    }

    /// False if the series was forgotten before.
    pub(crate) fn add(&self, status: StatusCode) -> bool {
        let class = usize::from(status.as_u16() / 100).saturating_sub(1);
        self.classes.get(class).is_none_or(Count::add_living)
    }

    /// Counts how long a request took that was counted before.
    pub(crate) fn took(&self, duration: Duration) {
        let place = BOUNDS.iter().take_while(|bound| **bound < duration).count();
        if let Some(count) = self.durations.get(place) {
            count.grow(1);
        }
        self.microseconds.grow(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX));
    }

    pub(crate) fn is_ended(&self) -> bool {
        self.classes.iter().any(Count::is_ended)
    }
}

impl Counter for RouteCounts {
    fn end(&self) {
        self.classes.iter().for_each(Counter::end);
    }
}

/// What answers are counted under.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum RouteKey {
    /// One route.
    Route(Arc<RouteName>),
    /// The routes of a namespace beyond its share.
    Rest(Arc<str>),
    /// Requests without a route, and routes for which there is no other room.
    Other,
}

impl Key for RouteKey {
    fn namespace(&self) -> Option<&Arc<str>> {
        match self {
            Self::Route(route) => Some(&route.field.resource.namespace),
            Self::Rest(namespace) => Some(namespace),
            Self::Other => None,
        }
    }

    fn is_rest(&self) -> bool {
        matches!(self, Self::Rest(_) | Self::Other)
    }

    fn is_living(&self, living: &Living<'_>) -> bool {
        match self {
            Self::Route(route) => living.has_route(route),
            Self::Rest(namespace) => living.has_namespace(namespace),
            Self::Other => true,
        }
    }
}

/// What threads share: only to be written when something is counted for the first time.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    pub(crate) threads: Vec<Arc<ThreadCounts>>,
    pub(crate) denials: Ledger<DenialKey, Count>,
    pub(crate) routes: Ledger<RouteKey, RouteCounts>,
    /// How often series were forgotten: then there is room again.
    pub(crate) forgotten: Count,
    /// Told whenever a thread has a newer snapshot.
    pub(crate) followed: Notify,
}

/// The data plane's metrics, for a registry of the admin port or as text.
#[derive(Clone, Debug)]
pub struct Metrics(pub(crate) Arc<Shared>);

impl Metrics {
    /// Appends every metric in the `OpenMetrics` text format, without the final `# EOF`.
    pub fn encode(&self, text: &mut String) {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(self.clone()));
        // Writing to a String cannot fail.
        let _ = encode_registry(text, &registry);
    }

    /// Forgets the series of routes and rules that are in this snapshot no more, and were not in the
    /// one of the last call either. So it is to be called now and then, not in quick succession;
    /// what is counted in what remains stays exact, and goes on.
    ///
    /// Takes milliseconds if there are many routes, so it belongs on no thread that serves requests.
    pub fn forget(&self, snapshot: &Snapshot) {
        let Shared { denials, routes, forgotten, .. } = &*self.0;
        let living = Living::of(snapshot);
        let fewer = [denials.forget(&living), routes.forget(&living)];
        if fewer.contains(&true) {
            forgotten.add();
        }
    }

    /// Waits until every data thread judges by the snapshot of this generation, or by a newer one.
    pub async fn reached(&self, generation: u64) {
        loop {
            let followed = self.0.followed.notified();
            let mut followed = std::pin::pin!(followed);
            // From here on nothing that a thread says is missed.
            followed.as_mut().enable();
            if self.generation() >= generation {
                return;
            }
            followed.await;
        }
    }

    /// The snapshot that every data thread has; 0 if one has none.
    fn generation(&self) -> u64 {
        self.0.threads.iter().map(|counts| counts.generation.value()).min().unwrap_or(0)
    }
}
