//! Series that all threads know, each thread with its own counter in them; a share of them for each
//! namespace, so that none can take the room of the others.

use std::{
    collections::{HashMap, HashSet},
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
};

use decision::{
    policy::Section,
    protection::Posture,
    refs::{ResourceRef, RouteName},
    route::Route,
    snapshot::Snapshot,
};

/// Most series of one metric that is labelled by configuration. What comes later is counted together.
pub(crate) const SERIES_LIMIT: usize = 10_000;
/// Most series of one namespace among them. What it has beyond is counted in one series of its own.
pub(crate) const SHARE: usize = 1_000;

/// What a series is counted under.
pub(crate) trait Key: Eq + Hash {
    /// Whose it is; `None` if it is nobody's, of which there are few.
    fn namespace(&self) -> Option<&Arc<str>>;

    /// Whether it counts what has no series of its own. Such a one takes nothing of the share.
    fn is_rest(&self) -> bool;

    /// Whether something can still be counted under it.
    fn is_living(&self, living: &Living<'_>) -> bool;
}

/// A counter of one thread.
pub(crate) trait Counter: Default {
    /// Lets the thread know that its series was forgotten.
    fn end(&self);
}

/// How many series there are, and how many of them each namespace has.
#[derive(Debug, Default)]
pub(crate) struct Shares {
    all: usize,
    taken: HashMap<Arc<str>, usize>,
}

impl Shares {
    pub(crate) fn has_room(&self, namespace: Option<&Arc<str>>) -> bool {
        let taken = namespace.and_then(|namespace| self.taken.get(namespace));
        self.all < SERIES_LIMIT && taken.is_none_or(|taken| *taken < SHARE)
    }

    pub(crate) fn take(&mut self, namespace: Option<&Arc<str>>) {
        self.all = self.all.saturating_add(1);
        if let Some(namespace) = namespace {
            let taken = self.taken.entry(Arc::clone(namespace)).or_default();
            *taken = taken.saturating_add(1);
        }
    }

    pub(crate) fn give_back(&mut self, namespace: Option<&Arc<str>>) {
        self.all = self.all.saturating_sub(1);
        let Some(namespace) = namespace else { return };
        let Some(taken) = self.taken.get_mut(namespace) else { return };
        *taken = taken.saturating_sub(1);
        if *taken == 0 {
            self.taken.remove(namespace);
        }
    }
}

/// Series that all threads know.
///
/// The lock is taken when a thread meets a series for the first time, when they are read, and when
/// some are forgotten.
#[derive(Debug)]
pub(crate) struct Ledger<K, C>(Mutex<Book<K, C>>);

#[derive(Debug)]
struct Book<K, C> {
    series: HashMap<Arc<K>, Series<C>>,
    shares: Shares,
}

#[derive(Debug)]
struct Series<C> {
    counts: Vec<Arc<C>>,
    /// Nothing could be counted under it any more, when that was last looked at.
    is_gone: bool,
}

impl<K, C> Default for Ledger<K, C> {
    fn default() -> Self {
        Self(Mutex::new(Book { series: HashMap::new(), shares: Shares::default() }))
    }
}

impl<K: Key, C: Counter> Ledger<K, C> {
    /// A counter of the calling thread in the series `key`; none if there is no room for it.
    pub(crate) fn register(&self, key: K) -> Option<(Arc<K>, Arc<C>)> {
        let mut book = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !book.series.contains_key(&key) {
            if !book.shares.has_room(key.namespace()) {
                return None;
            }
            book.shares.take(key.namespace());
        }
        Some(book.enter(key))
    }

    /// A counter of the calling thread in the series `rest` of a namespace; in `other` if there are
    /// too many namespaces even for that.
    pub(crate) fn register_rest(&self, rest: K, other: K) -> (Arc<K>, Arc<C>) {
        let mut book = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let room = book.series.len() < 2 * SERIES_LIMIT || book.series.contains_key(&rest);
        book.enter(if room { rest } else { other })
    }

    /// Every series with the sum over its threads.
    pub(crate) fn totals(&self, read: impl Fn(&C) -> u64) -> Vec<(Arc<K>, u64)> {
        self.sums(|sum: &mut u64, count| *sum += read(count))
    }

    /// Every series with what `add` makes of its threads' counters, beginning with the default.
    pub(crate) fn sums<S: Default>(&self, add: impl Fn(&mut S, &C)) -> Vec<(Arc<K>, S)> {
        let book = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let sum = |series: &Series<C>| {
            let mut sum = S::default();
            series.counts.iter().for_each(|count| add(&mut sum, count));
            sum
        };
        book.series.iter().map(|(key, series)| (Arc::clone(key), sum(series))).collect()
    }

    /// Forgets what is gone, and was gone at the last look. Tells whether there was any.
    ///
    /// What is counted in such a series from now on begins a new one: the thread learns of it from
    /// the very addition, so nothing is lost in between.
    pub(crate) fn forget(&self, living: &Living<'_>) -> bool {
        let mut book = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Book { series, shares } = &mut *book;
        let before = series.len();
        series.retain(|key, series| {
            let was_gone = series.is_gone;
            series.is_gone = !key.is_living(living);
            let stays = !(was_gone && series.is_gone);
            if !stays {
                series.counts.iter().for_each(|count| count.end());
                if !key.is_rest() {
                    shares.give_back(key.namespace());
                }
            }
            stays
        });
        series.len() < before
    }
}

impl<K: Key, C: Counter> Book<K, C> {
    fn enter(&mut self, key: K) -> (Arc<K>, Arc<C>) {
        let key = match self.series.get_key_value(&key) {
            Some((known, _)) => Arc::clone(known),
            None => Arc::new(key),
        };
        let count = Arc::new(C::default());
        let new = || Series { counts: Vec::new(), is_gone: false };
        let series = self.series.entry(Arc::clone(&key)).or_insert_with(new);
        series.counts.push(Arc::clone(&count));
        (key, count)
    }
}

/// What can be counted under a snapshot.
pub(crate) struct Living<'s> {
    /// Several may share a name.
    routes: HashMap<&'s RouteName, Vec<&'s Route>>,
    namespaces: HashSet<&'s str>,
}

impl<'s> Living<'s> {
    pub(crate) fn of(snapshot: &'s Snapshot) -> Self {
        let mut routes: HashMap<_, Vec<_>> = HashMap::new();
        let mut namespaces = HashSet::new();
        for route in snapshot.routes.routes() {
            namespaces.insert(&*route.name.field.resource.namespace);
            routes.entry(&*route.name).or_default().push(&**route);
        }
        Self { routes, namespaces }
    }

    pub(crate) fn has_namespace(&self, namespace: &str) -> bool {
        self.namespaces.contains(namespace)
    }

    pub(crate) fn has_route(&self, name: &RouteName) -> bool {
        self.routes.contains_key(name)
    }

    /// Whether a rule of a policy still applies to a route.
    pub(crate) fn has_rule(&self, name: &RouteName, policy: &ResourceRef, rule: &str) -> bool {
        let Some(routes) = self.routes.get(name) else { return false };
        routes.iter().any(|route| judges(route, policy, rule))
    }
}

fn judges(route: &Route, policy: &ResourceRef, rule: &str) -> bool {
    let attachments = match &route.posture {
        Posture::Enforce(protection) => protection.attachments(),
        Posture::Open(_) | Posture::Refuse(_) => &[],
    };
    let policies = attachments.iter().filter_map(|attachment| attachment.policy.as_ref().ok());
    let mut policies = policies.filter(|known| known.resource == *policy);
    policies.any(|policy| {
        let rules = [Section::Deny, Section::Require].map(|section| policy.rules(section));
        rules.iter().copied().flatten().any(|known| *known.name == *rule)
    })
}

#[cfg(test)]
mod tests {
    use decision::{
        disclosure::OnDeny,
        policy::{Attachment, Enforcement, Policy, Rule},
        protection::Protection,
        refs::{FieldRef, Kind},
        route::Backend,
        uncovered::{OpenBy, Uncovered},
    };

    use super::*;

    #[test]
    fn a_rule_lives_as_long_as_a_route_of_the_name_has_a_policy_with_it() {
        let policy = ResourceRef::new(Kind::AccessPolicy, "shop", "office");
        let rule = Rule {
            name: "vpn".into(),
            enforcement: Enforcement::Enforce,
            alternatives: [].into(),
            hint: None,
        };
        let compiled = Policy {
            resource: policy.clone(),
            deny: [].into(),
            require: [rule].into(),
            on_deny: OnDeny::default(),
        };
        let attachment = Attachment { narrowings: [].into(), policy: Ok(Arc::new(compiled)) };
        let open = Uncovered::Open(OpenBy::Flag);
        let enforced = Posture::Enforce(Protection::new(vec![attachment], Vec::new(), open).into());
        let ingress = ResourceRef::new(Kind::Ingress, "shop", "web");
        let field = FieldRef::new(ingress, "spec.rules[0].http.paths[0]");
        let name = Arc::new(RouteName { field: field.clone(), host: "*".into(), path: "/".into() });
        let route = |posture| Route {
            name: Arc::clone(&name),
            posture,
            backend: Arc::new(Backend::Missing {
                field: field.clone(),
                problem: "no".into(),
                remedy: "".into(),
            }),
            redirect_to_https: false,
            is_challenge: false,
            options: None,
        };
        let (enforced, opened) = (route(enforced), route(Posture::Open(OpenBy::Flag)));
        for (routes, rule, lives) in [
            (vec![&enforced], "vpn", true),
            (vec![&opened, &enforced], "vpn", true),
            (vec![&enforced], "office", false),
            (vec![&opened], "vpn", false),
        ] {
            let routes = HashMap::from([(&*name, routes)]);
            let living = Living { routes, namespaces: HashSet::new() };
            assert_eq!(living.has_rule(&name, &policy, rule), lives, "{rule}");
        }
    }
}
