//! Refusals on the data path: an exact counter each, and now and then a sample.

use std::{
    cell::RefCell,
    collections::HashMap,
    hash::{BuildHasher, Hash, Hasher},
    ops::ControlFlow,
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
    ledger::{Key, SERIES_LIMIT, Shares},
    metrics::{Count, Shared},
    trace::TraceId,
};

/// How many refusals of a series are sampled at once before it is one a second.
const BURST: u32 = 10;

/// One refusal out of many, for Events and logs.
#[derive(Clone, Debug)]
pub struct DenialSample {
    /// The request.
    pub id: RequestId,
    /// The trace that it belongs to, if anybody asks.
    pub trace: Option<TraceId>,
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape<'a> {
    code: Code,
    route: Option<&'a RouteName>,
    site: Option<&'a Site>,
    entry: Option<usize>,
    field: Option<&'a FieldRef>,
    policy: Option<&'a ResourceRef>,
    shadow: bool,
    rest_of: Option<&'a Arc<str>>,
}

/// Of what tells two series apart nearly always: every refusal pays for each text.
impl Hash for Shape<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let route = self.route.map(|route| &route.field);
        let route = route.map(|it| (&it.resource.namespace, &it.resource.name, &it.path));
        let fields = (self.site.map(|site| &site.field), self.field.map(|field| &field.path));
        (self.code, route, fields, self.entry, self.shadow, self.rest_of).hash(state);
    }
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
        Self {
            code,
            route,
            site: None,
            entry: None,
            field,
            policy: None,
            shadow: false,
            rest_of: None,
        }
    }

    /// Of everything of this code that a namespace has beyond its share.
    fn of_rest(self, namespace: Option<&'a Arc<str>>) -> Self {
        Self { rest_of: namespace, shadow: self.shadow, ..Self::of_code(self.code, None, None) }
    }

    /// The same as that of the key.
    fn namespace(&self) -> Option<&'a Arc<str>> {
        let field = || self.field.map(|field| &field.resource.namespace);
        let route = self.route.map(|route| &route.field.resource.namespace);
        self.rest_of.or(route).or_else(field)
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
        | DenialReason::BodyTooLarge { field, .. }
        | DenialReason::OriginNotAllowed { field, .. }
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
            rest_of: self.rest_of.cloned(),
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
    rest_of: Option<Arc<str>>,
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
            rest_of: self.rest_of.as_ref(),
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
        rest_of: None,
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
    own: RefCell<Own>,
}

/// The series that the thread has met.
#[derive(Default)]
struct Own {
    /// By hash of the shape; shapes of equal hash stand behind each other.
    series: HashMap<u64, Vec<Series>>,
    shares: Shares,
    /// What [`Shared::forgotten`] was when they were last looked through.
    forgotten: u64,
}

/// What a refusal is counted under, and the thread's counter there.
type Counter = (Arc<DenialKey>, Arc<Count>);

struct Series {
    shape: OwnedShape,
    key: Arc<DenialKey>,
    count: Arc<Count>,
    samples: Samples,
}

impl Series {
    /// Takes of the share of its namespace.
    fn takes_share(&self) -> bool {
        self.shape.rest_of.is_none()
    }

    /// Counted in the rest of its namespace, only because there was no room.
    fn is_beyond(&self) -> bool {
        let is_lost = self.shape.route.is_some() && self.key.route.is_none();
        self.takes_share() && (self.key.is_rest() || is_lost)
    }
}

impl Own {
    /// Counts what the thread has met before; goes on if it has not.
    fn again(&mut self, hash: u64, shape: Shape<'_>, now: Instant) -> ControlFlow<Option<Due>> {
        let Some(alike) = self.series.get_mut(&hash) else { return ControlFlow::Continue(()) };
        let place = alike.iter().position(|series| series.shape.borrowed() == shape);
        let Some(place) = place else { return ControlFlow::Continue(()) };
        if let Some(series) = alike.get_mut(place)
            && series.count.add_living()
        {
            let count = series.samples.take(now);
            let due = count.map(|count| Due { key: Arc::clone(&series.key), count });
            return ControlFlow::Break(due);
        }
        if alike.swap_remove(place).takes_share() {
            self.shares.give_back(shape.namespace());
        }
        ControlFlow::Continue(())
    }

    /// Remembers a series whose first refusal is told.
    fn insert(&mut self, hash: u64, shape: Shape<'_>, counter: Counter, now: Instant) {
        let samples = Samples { taken: 1, last: now, left_out: 0 };
        let (key, count) = counter;
        let series = Series { shape: shape.to_owned(), key, count, samples };
        if series.takes_share() {
            self.shares.take(shape.namespace());
        }
        self.series.entry(hash).or_default().push(series);
    }

    /// Lets go of what was forgotten, and of what there may be room for now.
    fn look_through(&mut self) {
        let Self { series, shares, .. } = self;
        series.retain(|_, alike| {
            alike.retain(|series| {
                let stays = !series.count.is_ended() && !series.is_beyond();
                if !stays && series.takes_share() {
                    shares.give_back(series.shape.borrowed().namespace());
                }
                stays
            });
            !alike.is_empty()
        });
    }
}

impl Denials {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { hasher: DefaultHashBuilder::default(), shared, own: RefCell::default() }
    }

    /// Counts one refusal. Gives its key, and how many refusals it stands for, if this one may be
    /// sampled; `key` is asked once a series.
    pub(crate) fn count(
        &self,
        shape: Shape<'_>,
        now: Instant,
        key: impl FnOnce() -> DenialKey,
    ) -> Option<Due> {
        let mut own = self.own.borrow_mut();
        let hash = self.hasher.hash_one(shape);
        if let ControlFlow::Break(due) = own.again(hash, shape, now) {
            return due;
        }
        let forgotten = self.shared.forgotten.value();
        if std::mem::replace(&mut own.forgotten, forgotten) != forgotten {
            own.look_through();
        }
        if !own.shares.has_room(shape.namespace()) {
            return self.count_rest(&mut own, shape, now).0;
        }
        if let Some((key, count)) = self.shared.denials.register(key()) {
            count.add();
            own.insert(hash, shape, (Arc::clone(&key), count), now);
            return Some(Due { key, count: 1 });
        }
        // Remembered, so that the next one of its kind need not ask again.
        let (due, rest) = self.count_rest(&mut own, shape, now);
        if let Some(counter) = rest {
            own.insert(hash, shape, counter, now);
        }
        due
    }

    /// Counts a refusal in the rest of its namespace, and tells what that is.
    fn count_rest(
        &self,
        own: &mut Own,
        shape: Shape<'_>,
        now: Instant,
    ) -> (Option<Due>, Option<Counter>) {
        // Every code has at most two of these in a namespace, so their number stays bounded.
        let namespace = shape.namespace().filter(|_| own.series.len() < 2 * SERIES_LIMIT);
        let shape = shape.of_rest(namespace);
        let hash = self.hasher.hash_one(shape);
        let due = if let ControlFlow::Break(due) = own.again(hash, shape, now) {
            due
        } else {
            let other = rest_of(shape.code, shape.shadow, None);
            let rest = rest_of(shape.code, shape.shadow, namespace.cloned());
            let (key, count) = self.shared.denials.register_rest(rest, other);
            count.add();
            own.insert(hash, shape, (Arc::clone(&key), count), now);
            Some(Due { key, count: 1 })
        };
        let alike = own.series.get(&hash);
        let rest = alike.and_then(|it| it.iter().find(|series| series.shape.borrowed() == shape));
        (due, rest.map(|series| (Arc::clone(&series.key), Arc::clone(&series.count))))
    }
}

fn rest_of(code: Code, shadow: bool, rest_of: Option<Arc<str>>) -> DenialKey {
    DenialKey { code, route: None, policy: None, rule: None, field: None, shadow, rest_of }
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
mod tests;
