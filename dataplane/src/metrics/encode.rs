//! Counters as metrics: names, help and labels.

use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use decision::{code::Code, escape::printable};
use http::StatusCode;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Unit,
};

use super::{BOUNDS, CLASSES, Count, Metrics, Rejected, RouteCounts, RouteKey, ThreadCounts};
use crate::denial_key::DenialKey;

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
    fn sum(&self, read: impl Fn(&ThreadCounts) -> &Count) -> u64 {
        self.0.threads.iter().map(|counts| read(counts).value()).sum()
    }

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
        let help = "Connections and streams that we ended, or requests refused unread, by why";
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_and_every_reason_stands_in_the_page() {
        let page = include_str!("../../../controller/docs/observability.md");
        let mut text = String::new();
        Metrics(Arc::default()).encode(&mut text);
        let described: Vec<_> = text.lines().filter_map(|it| it.strip_prefix("# TYPE ")).collect();
        assert!(described.len() > 15, "{described:#?}");
        for line in described {
            let (name, kind) = line.split_once(' ').unwrap();
            let total = if kind == "counter" { "_total" } else { "" };
            assert!(page.contains(&format!("`{name}{total}`")), "{name}{total}");
        }
        for reason in Rejected::ALL {
            assert!(page.contains(&format!("`{}`", reason.as_str())), "{reason:?}");
        }
    }
}
