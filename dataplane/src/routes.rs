//! One thread's counters of answers, by route.

use std::{collections::HashMap, sync::Arc};

use decision::refs::RouteName;
use http::StatusCode;
use quick_cache::DefaultHashBuilder;

use crate::{
    ledger::{SERIES_LIMIT, Shares},
    metrics::{RouteCounts, RouteKey, Shared},
};

/// The series that the thread has met.
#[derive(Default)]
pub(crate) struct Routes {
    by_name: HashMap<Arc<RouteName>, Entry, DefaultHashBuilder>,
    /// By the address of the name in the snapshot, so that a request hashes no text. Each entry
    /// holds the name, or its address could become another's.
    by_address: HashMap<usize, (Arc<RouteName>, Arc<RouteCounts>), DefaultHashBuilder>,
    /// What namespaces have beyond their share.
    rests: HashMap<Arc<str>, Arc<RouteCounts>>,
    shares: Shares,
    /// What [`Shared::forgotten`] was when they were last looked through.
    forgotten: u64,
}

struct Entry {
    counts: Arc<RouteCounts>,
    /// Counted in the rest of its namespace, only because there was no room.
    is_beyond: bool,
}

impl Routes {
    /// Lets go of the names of an old snapshot; the counts stay.
    pub(crate) fn snapshot_changed(&mut self) {
        self.by_address.clear();
    }

    /// Counts an answer; gives where.
    pub(crate) fn count(
        &mut self,
        route: &Arc<RouteName>,
        status: StatusCode,
        shared: &Shared,
    ) -> Arc<RouteCounts> {
        let address = Arc::as_ptr(route).addr();
        if let Some((_, counts)) = self.by_address.get(&address)
            && counts.add(status)
        {
            return Arc::clone(counts);
        }
        let counts = self.counts(route, shared);
        // A counter that was given just now is not forgotten yet.
        let _ = counts.add(status);
        // What is beyond asks again, because there may be room for it by then.
        if self.by_name.get(route).is_some_and(|entry| !entry.is_beyond) {
            if self.by_address.len() >= SERIES_LIMIT && !self.by_address.contains_key(&address) {
                self.by_address.clear();
            }
            self.by_address.insert(address, (Arc::clone(route), Arc::clone(&counts)));
        }
        counts
    }

    fn counts(&mut self, route: &Arc<RouteName>, shared: &Shared) -> Arc<RouteCounts> {
        let namespace = &route.field.resource.namespace;
        let forgotten = shared.forgotten.value();
        if std::mem::replace(&mut self.forgotten, forgotten) != forgotten {
            self.look_through();
        }
        match self.by_name.get(route) {
            Some(entry) if !entry.counts.is_ended() => return Arc::clone(&entry.counts),
            Some(_) => {
                self.by_name.remove(route);
                self.shares.give_back(Some(namespace));
            }
            None => {}
        }
        if !self.shares.has_room(Some(namespace)) {
            return self.rest(namespace, shared);
        }
        let series = shared.routes.register(RouteKey::Route(Arc::clone(route)));
        let is_beyond = series.is_none();
        let counts = series.map_or_else(|| self.rest(namespace, shared), |(_, counts)| counts);
        self.shares.take(Some(namespace));
        let entry = Entry { counts: Arc::clone(&counts), is_beyond };
        self.by_name.insert(Arc::clone(route), entry);
        counts
    }

    fn rest(&mut self, namespace: &Arc<str>, shared: &Shared) -> Arc<RouteCounts> {
        if let Some(counts) = self.rests.get(namespace).filter(|counts| !counts.is_ended()) {
            return Arc::clone(counts);
        }
        let rest = RouteKey::Rest(Arc::clone(namespace));
        let (_, counts) = shared.routes.register_rest(rest, RouteKey::Other);
        self.rests.insert(Arc::clone(namespace), Arc::clone(&counts));
        counts
    }

    /// Lets go of what was forgotten, and of what there may be room for now.
    fn look_through(&mut self) {
        let Self { by_name, shares, rests, .. } = self;
        by_name.retain(|name, entry| {
            let stays = !entry.counts.is_ended() && !entry.is_beyond;
            if !stays {
                shares.give_back(Some(&name.field.resource.namespace));
            }
            stays
        });
        rests.retain(|_, counts| !counts.is_ended());
    }
}

#[cfg(test)]
mod tests {
    use decision::refs::{FieldRef, Kind, ResourceRef};

    use super::*;
    use crate::ledger::SHARE;

    fn name(namespace: &str, path: &str) -> Arc<RouteName> {
        let ingress = ResourceRef::new(Kind::Ingress, namespace, "web");
        let field = FieldRef::new(ingress, "spec.rules[0].http.paths[0]");
        Arc::new(RouteName { field, host: "*".into(), path: path.into() })
    }

    fn totals(shared: &Shared) -> HashMap<RouteKey, u64> {
        let totals = shared.routes.totals(RouteCounts::total).into_iter();
        totals.map(|(key, total)| ((*key).clone(), total)).collect()
    }

    #[test]
    fn routes_of_equal_names_in_several_snapshots_are_counted_together() {
        let (shared, mut routes) = (Shared::default(), Routes::default());
        for snapshot in [["/", "/a"], ["/a", "/"]] {
            for name in snapshot.map(|path| name("shop", path)) {
                for _ in 0..3 {
                    routes.count(&name, StatusCode::OK, &shared);
                }
            }
        }
        let expected = ["/", "/a"].map(|path| (RouteKey::Route(name("shop", path)), 6));
        assert_eq!(totals(&shared), HashMap::from(expected));
    }

    #[test]
    fn a_namespace_that_fills_its_share_leaves_the_routes_of_another_theirs() {
        let (shared, mut routes) = (Shared::default(), Routes::default());
        let evil: Vec<_> =
            (0..SERIES_LIMIT + 50).map(|number| name("evil", &format!("/{number}"))).collect();
        for _ in 0..2 {
            for route in &evil {
                routes.count(route, StatusCode::OK, &shared);
            }
        }
        routes.count(&name("shop", "/"), StatusCode::OK, &shared);
        let totals = totals(&shared);
        let beyond = 2 * (SERIES_LIMIT + 50 - SHARE) as u64;
        assert_eq!(totals.get(&RouteKey::Rest("evil".into())), Some(&beyond));
        assert_eq!(totals.get(&RouteKey::Route(name("shop", "/"))), Some(&1));
        assert_eq!((totals.len(), routes.by_name.len()), (SHARE + 2, SHARE + 1));
        assert!(routes.by_address.len() <= SERIES_LIMIT);
    }

    #[test]
    fn routes_of_many_namespaces_beyond_the_limit_are_counted_and_the_table_stays_bounded() {
        let (shared, mut routes) = (Shared::default(), Routes::default());
        for number in 0..SERIES_LIMIT + 50 {
            let name = name(&format!("n{}", number % 20), &format!("/{number}"));
            routes.count(&name, StatusCode::OK, &shared);
        }
        let sum: u64 = totals(&shared).values().sum();
        assert_eq!(sum, SERIES_LIMIT as u64 + 50);
        assert_eq!((routes.by_address.len(), routes.by_name.len()), (SERIES_LIMIT, SERIES_LIMIT));
    }
}
