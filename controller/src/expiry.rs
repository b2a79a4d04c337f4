//! When the certificates that handshakes get expire, as a metric.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use decision::refs::ResourceRef;
use jiff::Timestamp;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, gauge::ConstGauge},
};

/// Most certificates that are told of.
const LIMIT: usize = 10_000;
/// Most certificates of one namespace among them.
const SHARE: usize = 1_000;

/// The certificates that are told of, each with the second in which it expires. Beyond the limits
/// those are left out that live longest.
#[derive(Clone, Debug, Default)]
pub struct Expiries(Arc<Mutex<Vec<(String, i64)>>>);

impl Expiries {
    /// Tells of these certificates from now on, and of no others.
    pub fn set(&self, expiries: &BTreeMap<ResourceRef, Timestamp>) {
        let told = soonest(expiries, SHARE, LIMIT);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = told;
    }
}

fn soonest(
    expiries: &BTreeMap<ResourceRef, Timestamp>,
    share: usize,
    limit: usize,
) -> Vec<(String, i64)> {
    let mut sorted: Vec<_> = expiries.iter().collect();
    // Stable: of equal times the order of names decides, so series do not come and go.
    sorted.sort_by_key(|(_, not_after)| **not_after);
    let mut taken: HashMap<&str, usize> = HashMap::new();
    sorted.retain(|(secret, _)| {
        let taken = taken.entry(&secret.namespace).or_default();
        *taken += 1;
        *taken <= share
    });
    let told = sorted.into_iter().take(limit);
    told.map(|(secret, not_after)| (secret.path().to_string(), not_after.as_second())).collect()
}

impl Collector for Expiries {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let help = "When a certificate that handshakes get expires, in seconds since 1970";
        let name = "certificate_not_after_timestamp_seconds";
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (secret, not_after) in self.0.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let labels = [("secret", secret.as_str())];
            ConstGauge::new(*not_after).encode(family.encode_family(&labels.as_slice())?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use decision::refs::Kind;

    use super::*;

    #[test]
    fn what_expires_first_is_told_first_and_no_namespace_takes_the_room_of_others() {
        let expiry = |(secret, second): (&str, i64)| {
            let (namespace, name) = secret.split_once('/').unwrap();
            let secret = ResourceRef::new(Kind::Secret, namespace, name);
            (secret, Timestamp::from_second(second).unwrap())
        };
        let expiries =
            [("shop/a", 30), ("shop/b", 10), ("shop/c", 20), ("acme/a", 40), ("zoo/a", 50)];
        let expiries: BTreeMap<_, _> = expiries.map(expiry).into();
        let told = |share, limit| -> Vec<String> {
            let told = soonest(&expiries, share, limit).into_iter();
            told.map(|(secret, second)| format!("{secret} {second}")).collect()
        };
        assert_eq!(told(2, 3), ["shop/b 10", "shop/c 20", "acme/a 40"]);
        assert_eq!(told(9, 9).len(), 5);
    }
}
