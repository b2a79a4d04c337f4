//! When each watch last gave proof of life, and the metric that tells how long ago that is.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, gauge::ConstGauge},
};
use tokio::time::Instant;

/// The moment in which a watch was last known to live; until then, that of its start.
#[derive(Debug)]
pub struct Pulse(Mutex<Instant>);

impl Pulse {
    fn new() -> Self {
        Self(Mutex::new(Instant::now()))
    }

    /// The watch lives: the API server has just said something about its objects.
    pub fn beat(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// How long ago the last proof of life is.
    pub fn age(&self) -> Duration {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }
}

/// The watches of the program, by kind; empty without a cluster.
#[derive(Clone, Debug, Default)]
pub struct Watches(Arc<Mutex<Vec<Watch>>>);

/// The kind of a watch, and its pulse.
type Watch = (String, Arc<Pulse>);

impl Watches {
    /// A watch more of a kind, which begins to age now.
    pub fn begin(&self, kind: &str) -> Arc<Pulse> {
        let pulse = Arc::new(Pulse::new());
        let mut watches = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        watches.push((kind.to_owned(), Arc::clone(&pulse)));
        pulse
    }

    /// The age of the oldest watch of each kind.
    pub fn ages(&self) -> BTreeMap<String, Duration> {
        let mut ages = BTreeMap::new();
        for (kind, pulse) in self.0.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let oldest: &mut Duration = ages.entry(kind.clone()).or_default();
            *oldest = pulse.age().max(*oldest);
        }
        ages
    }
}

impl Collector for Watches {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Seconds since the oldest watch of a kind last heard from the API server";
        let mut family =
            encoder.encode_descriptor("watch_age_seconds", help, None, MetricType::Gauge)?;
        for (kind, age) in self.ages() {
            let labels = [("kind", kind.as_str())];
            ConstGauge::new(age.as_secs_f64()).encode(family.encode_family(&labels.as_slice())?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_oldest_watch_of_a_kind_tells_its_age() {
        let watches = Watches::default();
        let (shop, inner) = (watches.begin("Ingress"), watches.begin("Ingress"));
        let _never_listed = watches.begin("Service");
        advance(Duration::from_secs(70)).await;
        shop.beat();
        advance(Duration::from_secs(10)).await;
        assert_eq!(watches.ages()["Ingress"].as_secs(), 80);
        inner.beat();
        assert_eq!(watches.ages()["Ingress"].as_secs(), 10);
        assert_eq!(watches.ages()["Service"].as_secs(), 80);
    }
}
