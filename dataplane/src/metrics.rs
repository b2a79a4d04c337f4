//! Counters: one set a thread, added up when somebody asks.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use decision::{code::Code, escape::printable, refs::RouteName, snapshot::Snapshot};
use http::StatusCode;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet, text::encode_registry},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::{Registry, Unit},
};

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

/// Why a connection ended, or a request was refused, before any code of ours saw the request.
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
    /// No progress for `transfer_idle`.
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

    fn sum(&self, read: impl Fn(&ThreadCounts) -> &Count) -> u64 {
        self.0.threads.iter().map(|counts| read(counts).value()).sum()
    }
}

impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.encode_plain(&mut encoder)?;
        self.encode_rejected(&mut encoder)?;
        self.encode_requests(&mut encoder)?;
        self.encode_durations(&mut encoder)?;
        self.encode_refusals(&mut encoder)
    }
}

type Read = fn(&ThreadCounts) -> &Count;

impl Metrics {
    fn encode_plain(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let counters: [(&str, &str, Read); 12] = [
            ("permits", "Requests that every check admitted", |counts| &counts.permits),
            ("upstream_requests", "Permits whose request reached an upstream", |counts| {
                &counts.upstream_requests
            }),
            ("upstream_connect_failures", "Permits that no upstream accepted", |counts| {
                &counts.upstream_connect_failures
            }),
            (
                "upstream_abandoned",
                "Permits whose client left before anything was sent",
                |counts| &counts.upstream_abandoned,
            ),
            (
                "upstream_retries",
                "Second attempts after nothing was sent, or nothing that may not be sent twice",
                |counts| &counts.upstream_retries,
            ),
            ("upstream_waits", "Requests that waited until an endpoint had room", |counts| {
                &counts.upstream_waits
            }),
            (
                "upstream_ejections",
                "Times that an endpoint was left alone because it failed again and again",
                |counts| &counts.upstream_ejections,
            ),
            ("upstream_connections", "Connections opened to upstreams", |counts| {
                &counts.upstream_connections
            }),
            (
                "denial_samples_dropped",
                "Samples of refusals for which there was no room",
                |counts| &counts.samples_dropped,
            ),
            ("access_log_dropped", "Exchanges that the access log had no room for", |counts| {
                &counts.access_log_dropped
            }),
            ("spans_dropped", "Spans for which there was no room", |counts| &counts.spans_dropped),
            (
                "exchanges_revoked",
                "Tunnels and long responses closed because their requests would be refused now",
                |counts| &counts.revoked,
            ),
        ];
        for (name, help, read) in counters {
            let counter = ConstCounter::new(self.sum(read));
            let name = format!("whygate_{name}");
            counter.encode(encoder.encode_descriptor(&name, help, None, MetricType::Counter)?)?;
        }
        let gauges = [
            ("connections", "Open connections of clients", self.sum(|counts| &counts.connections)),
            ("requests_in_flight", "Requests being served", {
                self.sum(|counts| &counts.requests_in_flight)
            }),
            ("tunnels", "Open WebSockets and other switched connections", {
                self.sum(|counts| &counts.tunnels)
            }),
            ("snapshot_generation", "Snapshot that every data thread has", self.generation()),
        ];
        for (name, help, value) in gauges {
            let gauge = ConstGauge::new(value);
            let name = format!("whygate_{name}");
            gauge.encode(encoder.encode_descriptor(&name, help, None, MetricType::Gauge)?)?;
        }
        Ok(())
    }

    fn encode_rejected(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Connections and requests that ended before they could be judged";
        let name = "whygate_hyper_rejected";
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (place, reason) in Rejected::ALL.into_iter().enumerate() {
            let value =
                |counts: &Arc<ThreadCounts>| counts.rejected.get(place).map_or(0, Count::value);
            let total: u64 = self.0.threads.iter().map(value).sum();
            let labels = [("reason", reason.as_str())];
            ConstCounter::new(total).encode(family.encode_family(&labels.as_slice())?)?;
        }
        Ok(())
    }

    fn encode_requests(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Requests answered, by route and class of status";
        let name = "whygate_requests";
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (place, class) in CLASSES.into_iter().enumerate() {
            let read = |counts: &RouteCounts| counts.classes.get(place).map_or(0, Count::value);
            for (route, total) in self.0.routes.totals(read) {
                if total == 0 {
                    continue;
                }
                let route = label(&route);
                let labels = [("route", route.as_str()), ("class", class)];
                ConstCounter::new(total).encode(family.encode_family(&labels.as_slice())?)?;
            }
        }
        Ok(())
    }

    fn encode_durations(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "From the head of a request to the end of its response, tunnels to their begin";
        let (name, kind) = ("whygate_request_duration", MetricType::Histogram);
        let mut family = encoder.encode_descriptor(name, help, Some(&Unit::Seconds), kind)?;
        for (route, Durations { counts, microseconds }) in self.0.routes.sums(Durations::add) {
            let total: u64 = counts.iter().sum();
            if total == 0 {
                continue;
            }
            let bounds = BOUNDS.iter().map(Duration::as_secs_f64).chain([f64::INFINITY]);
            let buckets: Vec<_> = bounds.zip(counts).collect();
            let seconds = Duration::from_micros(microseconds).as_secs_f64();
            let labels = [("route", label(&route))];
            let labels = labels.as_slice();
            let mut histogram = family.encode_family(&labels)?;
            histogram.encode_histogram::<NoLabelSet>(seconds, total, &buckets, None)?;
        }
        Ok(())
    }

    fn encode_refusals(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Refusals, and what rules in shadow would have refused";
        let name = "whygate_refusals";
        let mut sums: HashMap<RefusalLabels, u64> = HashMap::new();
        for (key, total) in self.0.denials.totals(Count::value) {
            *sums.entry(RefusalLabels::of(&key)).or_default() += total;
        }
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (RefusalLabels { code, texts: [route, policy, rule, shadow] }, total) in &sums {
            let labels = [
                ("code", code.as_str()),
                ("fault", code.fault().as_str()),
                ("class", class(code.status())),
                ("route", route),
                ("policy", policy),
                ("rule", rule),
                ("shadow", shadow),
            ];
            ConstCounter::new(*total).encode(family.encode_family(&labels.as_slice())?)?;
        }
        Ok(())
    }
}

/// How long the requests of one route took, on all threads together.
#[derive(Default)]
struct Durations {
    counts: [u64; BOUNDS.len() + 1],
    microseconds: u64,
}

impl Durations {
    fn add(&mut self, thread: &RouteCounts) {
        for (sum, count) in self.counts.iter_mut().zip(&thread.durations) {
            *sum = sum.wrapping_add(count.value());
        }
        self.microseconds = self.microseconds.wrapping_add(thread.microseconds.value());
    }
}

fn label(route: &RouteKey) -> String {
    match route {
        RouteKey::Route(route) => route.to_string(),
        RouteKey::Rest(namespace) => rest(namespace),
        RouteKey::Other => "other".to_owned(),
    }
}

/// The labels of a refusal. Whose fault it is, and the class of its status, follow from the code.
#[derive(PartialEq, Eq, Hash)]
struct RefusalLabels {
    code: Code,
    /// Route, policy, rule, and whether the rule only counts.
    texts: [String; 4],
}

impl RefusalLabels {
    /// The field is left out, so that long lists stay one series.
    fn of(key: &DenialKey) -> Self {
        let route = match (&key.route, &key.rest_of) {
            (Some(route), _) => route.to_string(),
            (None, Some(namespace)) => rest(namespace),
            (None, None) => String::new(),
        };
        let policy = key.policy.as_ref().map(|policy| policy.path().to_string());
        let rule = key.rule.as_deref().unwrap_or_default().to_owned();
        let texts = [route, policy.unwrap_or_default(), rule, key.shadow.to_string()];
        Self { code: key.code, texts }
    }
}

/// The class of a status, as in `whygate_requests_total`.
fn class(status: StatusCode) -> &'static str {
    let class = usize::from(status.as_u16() / 100).saturating_sub(1);
    CLASSES.get(class).copied().unwrap_or_default()
}

/// What a namespace has beyond its share; no route prints like this.
fn rest(namespace: &str) -> String {
    format!("{} other", printable(namespace))
}
