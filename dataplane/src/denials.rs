//! Refusals on the data path: an exact counter each, and now and then a sample.

use std::{
    cell::RefCell,
    collections::HashMap,
    hash::{BuildHasher, Hash},
    sync::Arc,
    time::{Duration, SystemTime},
};

use decision::{
    code::Code,
    denial::{Denial, DenialReason, Failure},
    disclosure::Disclosure,
    refs::{FieldRef, ResourceRef, RouteName, Site},
    uncovered::ClosedBy,
};
use quick_cache::DefaultHashBuilder;
use tokio::time::Instant;

use crate::{
    denial_key::DenialKey,
    id::RequestId,
    metrics::{Count, SERIES_LIMIT, Shared},
};

/// How many refusals of a series are sampled at once before it is one a second.
const BURST: u32 = 10;

/// One refusal out of many, for Events and logs.
#[derive(Clone, Debug)]
pub struct DenialSample {
    /// The request.
    pub id: RequestId,
    /// When it was refused.
    pub at: SystemTime,
    /// What it is counted under.
    pub key: Arc<DenialKey>,
    /// What was observed: one sentence without a final period.
    pub observed: String,
    /// What to do about it.
    pub remedy: String,
    /// The whole refusal. `None` if no policy took part: no route, or the upstream failed.
    pub denial: Option<Box<Denial>>,
    /// The method, safe to print.
    pub method: String,
    /// The host, safe to print; empty if the request had no readable one.
    pub host: String,
    /// The path without its query, safe to print.
    pub path: String,
    /// The best known address of the client.
    pub client: String,
}

/// What tells one series from another, borrowed from a refusal so that counting allocates nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Shape<'a> {
    code: Code,
    route: Option<&'a RouteName>,
    site: Option<&'a Site>,
    entry: Option<usize>,
    field: Option<&'a FieldRef>,
    policy: Option<&'a ResourceRef>,
    shadow: bool,
}

impl<'a> Shape<'a> {
    /// Of a refusal by a policy, or of the request itself.
    pub(crate) fn of_denial(denial: &'a Denial) -> Self {
        Self::of_reason(&denial.reason, denial.site.as_deref(), denial.route.as_deref(), false)
    }

    /// Of what a rule in shadow would have refused.
    pub(crate) fn of_shadow(failure: &'a Failure, route: &'a RouteName) -> Self {
        Self::of_reason(&failure.reason, Some(&failure.site), Some(route), true)
    }

    /// Of an answer that is nobody's refusal.
    pub(crate) fn of_code(
        code: Code,
        route: Option<&'a RouteName>,
        field: Option<&'a FieldRef>,
    ) -> Self {
        Self { code, route, site: None, entry: None, field, policy: None, shadow: false }
    }

    fn of_reason(
        reason: &'a DenialReason,
        site: Option<&'a Site>,
        route: Option<&'a RouteName>,
        shadow: bool,
    ) -> Self {
        let mut shape = Self { site, shadow, ..Self::of_code(reason.code(), route, None) };
        if let DenialReason::AddressDenied { entry, .. }
        | DenialReason::TokenClaimMismatch { entry, .. } = reason
        {
            shape.entry = Some(*entry);
        }
        if let DenialReason::PolicyInvalid { field, .. }
        | DenialReason::PolicyMissing { field, .. }
        | DenialReason::PolicyUnenforceable { field, .. }
        | DenialReason::RouteInvalid { field, .. }
        | DenialReason::PolicyRequired { by: ClosedBy::Annotation(field) } = reason
        {
            shape.field = Some(field);
        }
        if let DenialReason::PolicyMissing { policy, .. } = reason {
            shape.policy = Some(policy);
        }
        shape
    }

    fn to_owned(self) -> OwnedShape {
        OwnedShape {
            code: self.code,
            route: self.route.cloned(),
            site: self.site.cloned(),
            entry: self.entry,
            field: self.field.cloned(),
            policy: self.policy.cloned(),
            shadow: self.shadow,
        }
    }
}

struct OwnedShape {
    code: Code,
    route: Option<RouteName>,
    site: Option<Site>,
    entry: Option<usize>,
    field: Option<FieldRef>,
    policy: Option<ResourceRef>,
    shadow: bool,
}

impl OwnedShape {
    fn borrowed(&self) -> Shape<'_> {
        Shape {
            code: self.code,
            route: self.route.as_ref(),
            site: self.site.as_ref(),
            entry: self.entry,
            field: self.field.as_ref(),
            policy: self.policy.as_ref(),
            shadow: self.shadow,
        }
    }
}

/// The key of a refusal by a policy.
pub(crate) fn key_of(denial: &Denial, shadow: bool) -> DenialKey {
    DenialKey {
        code: denial.code(),
        route: denial.route.clone(),
        policy: denial.policy().cloned(),
        rule: denial.site.as_ref().map(|site| Arc::clone(&site.rule)),
        field: denial.field(),
        shadow,
    }
}

/// A failure in shadow as the refusal that it would have been.
pub(crate) fn denial_of(failure: &Failure, route: &Arc<RouteName>) -> Denial {
    Denial {
        reason: failure.reason.clone(),
        site: Some(Arc::clone(&failure.site)),
        route: Some(Arc::clone(route)),
        disclosure: Disclosure::None,
        hint: None,
        others: Vec::new(),
    }
}

/// One thread's counters of refusals.
pub(crate) struct Denials {
    hasher: DefaultHashBuilder,
    shared: Arc<Shared>,
    /// By hash of the shape; shapes of equal hash stand behind each other.
    series: RefCell<HashMap<u64, Vec<Series>>>,
}

struct Series {
    shape: OwnedShape,
    key: Arc<DenialKey>,
    count: Arc<Count>,
    samples: Samples,
}

impl Denials {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { hasher: DefaultHashBuilder::default(), shared, series: RefCell::default() }
    }

    /// Counts one refusal. Gives its key, and how many refusals it stands for, if this one may be
    /// sampled; `key` is asked once a series.
    pub(crate) fn count(
        &self,
        shape: Shape<'_>,
        now: Instant,
        key: impl FnOnce() -> DenialKey,
    ) -> Option<Due> {
        let mut all = self.series.borrow_mut();
        let full = all.len() >= SERIES_LIMIT;
        let hash = self.hasher.hash_one(shape);
        if !full || all.contains_key(&hash) {
            return self.count_in(all.entry(hash).or_default(), shape, now, key);
        }
        // Every code has at most two of these, so the map stays bounded.
        let shape = Shape { shadow: shape.shadow, ..Shape::of_code(shape.code, None, None) };
        let series = all.entry(self.hasher.hash_one(shape)).or_default();
        self.count_in(series, shape, now, || beyond_limit(shape.code, shape.shadow))
    }

    fn count_in(
        &self,
        series: &mut Vec<Series>,
        shape: Shape<'_>,
        now: Instant,
        key: impl FnOnce() -> DenialKey,
    ) -> Option<Due> {
        if let Some(series) = series.iter_mut().find(|series| series.shape.borrowed() == shape) {
            series.count.add();
            let count = series.samples.take(now)?;
            return Some(Due { key: Arc::clone(&series.key), count });
        }
        let other = beyond_limit(shape.code, shape.shadow);
        let (key, count) = self.shared.denials.register(key(), other);
        count.add();
        let samples = Samples { taken: 1, last: now, left_out: 0 };
        series.push(Series { shape: shape.to_owned(), key: Arc::clone(&key), count, samples });
        Some(Due { key, count: 1 })
    }
}

fn beyond_limit(code: Code, shadow: bool) -> DenialKey {
    DenialKey { code, route: None, policy: None, rule: None, field: None, shadow }
}

/// A refusal that may be told.
pub(crate) struct Due {
    /// What it is counted under.
    pub(crate) key: Arc<DenialKey>,
    /// How many of its kind this thread has counted since the last one that was told, itself included.
    pub(crate) count: u64,
}

/// A few samples at once, then one a second.
struct Samples {
    taken: u32,
    last: Instant,
    left_out: u64,
}

impl Samples {
    /// How many refusals this one stands for, if it may be told.
    fn take(&mut self, now: Instant) -> Option<u64> {
        if self.taken < BURST {
            self.taken += 1;
        } else if now.saturating_duration_since(self.last) < Duration::from_secs(1) {
            self.left_out = self.left_out.saturating_add(1);
            return None;
        }
        self.last = now;
        Some(std::mem::take(&mut self.left_out).saturating_add(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn denied(denials: &Denials, path: &str, now: Instant) -> Option<u64> {
        let field = FieldRef::new(
            ResourceRef::new(decision::refs::Kind::Ingress, "shop", "web"),
            path.to_owned(),
        );
        let reason = DenialReason::RouteInvalid { field, problem: "no".into(), remedy: None };
        let denial = Denial::of_request(reason);
        let due = denials.count(Shape::of_denial(&denial), now, || key_of(&denial, false));
        due.map(|due| due.count)
    }

    #[test]
    fn every_refusal_is_counted_and_few_are_sampled() {
        let shared = Arc::new(Shared::default());
        let threads = [Denials::new(Arc::clone(&shared)), Denials::new(Arc::clone(&shared))];
        let now = Instant::now();
        let samples = (0..1_000).filter_map(|_| denied(&threads[0], "spec", now)).count();
        denied(&threads[1], "spec", now);
        denied(&threads[1], "spec.rules", now);
        let mut totals: Vec<u64> =
            shared.denials.totals(Count::value).into_iter().map(|(_, total)| total).collect();
        totals.sort_unstable();
        assert_eq!((samples, totals), (10, vec![1, 1_001]));
        // 1,000 were counted and 10 told; the next one speaks for those that were not, and itself.
        assert_eq!(denied(&threads[0], "spec", now + Duration::from_secs(1)), Some(991));
    }

    #[test]
    fn a_flood_of_different_refusals_keeps_its_total_and_its_bound() {
        let shared = Arc::new(Shared::default());
        let denials = Denials::new(Arc::clone(&shared));
        for number in 0..SERIES_LIMIT + 100 {
            denied(&denials, &format!("spec.rules[{number}]"), Instant::now());
        }
        let totals = shared.denials.totals(Count::value);
        let sum: u64 = totals.iter().map(|(_, total)| total).sum();
        assert_eq!((totals.len(), sum), (SERIES_LIMIT + 1, SERIES_LIMIT as u64 + 100));
        assert!(denials.series.borrow().len() <= SERIES_LIMIT + 2);
    }
}
