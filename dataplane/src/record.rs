//! What is remembered of a request once it was answered: counters, a log line, perhaps a sample.

use std::{
    cell::{OnceCell, RefCell},
    collections::HashMap,
    sync::Arc,
    time::SystemTime,
};

use decision::{decide::Cleared, denial::Denial, escape::quoted, refs::RouteName, route::Route};
use http::StatusCode;
use quick_cache::DefaultHashBuilder;
use tokio::{sync::mpsc, time::Instant};

use crate::{
    denial_key::DenialKey,
    denials::{DenialSample, Denials, Due, Shape, denial_of, key_of},
    facts::Witness,
    id::RequestId,
    metrics::{RouteCounts, SERIES_LIMIT, Shared, ThreadCounts},
    refused::{Refused, Unserved},
};

/// Longest part of a request in a sample, in bytes.
const PART_LIMIT: usize = 256;

/// What a record of a request is made of.
pub(crate) struct Case {
    pub(crate) id: RequestId,
    pub(crate) witness: Witness,
    found: OnceCell<Found>,
}

/// The route of a request.
pub(crate) enum Found {
    /// Of one that was admitted: the very reference that admitted it.
    Admitted(Arc<Route>),
    /// Of one that we answer ourselves.
    Named(Arc<RouteName>),
}

impl Case {
    pub(crate) fn new(id: RequestId, witness: Witness) -> Self {
        Self { id, witness, found: OnceCell::new() }
    }

    /// Remembers the route; the first one stays.
    pub(crate) fn found(&self, route: Found) {
        // A request is routed once, so there is nothing to replace.
        let _ = self.found.set(route);
    }

    pub(crate) fn route(&self) -> Option<&Arc<RouteName>> {
        self.found.get().map(|found| match found {
            Found::Admitted(route) => &route.name,
            Found::Named(name) => name,
        })
    }
}

/// One thread's record.
pub(crate) struct Recorder {
    pub(crate) counts: Arc<ThreadCounts>,
    shared: Arc<Shared>,
    denials: Denials,
    routes: RefCell<Routes>,
    /// Requests without a route, and those of routes beyond the limit.
    others: Arc<RouteCounts>,
    samples: mpsc::Sender<DenialSample>,
}

impl Recorder {
    pub(crate) fn new(
        counts: Arc<ThreadCounts>,
        shared: Arc<Shared>,
        samples: mpsc::Sender<DenialSample>,
    ) -> Self {
        let denials = Denials::new(Arc::clone(&shared));
        let (_, others) = shared.routes.register(None, None);
        Self { counts, shared, denials, routes: RefCell::default(), others, samples }
    }

    /// Counts an answer.
    pub(crate) fn answered(
        &self,
        id: RequestId,
        witness: &Witness,
        route: Option<&Arc<RouteName>>,
        status: StatusCode,
    ) {
        tracing::trace!(
            target: "access", {
            request.id = %id,
            request.method = %witness.method,
            request.host = witness.host(),
            request.path = %quoted(witness.path(), PART_LIMIT),
            client.ip = %witness.client,
            route = route.map(tracing::field::display),
            response.status = status.as_u16(),
            }, "Request answered"
        );
        let Some(route) = route else { return self.others.add(status) };
        self.routes.borrow_mut().counts(route, &self.shared, &self.others).add(status);
    }

    /// Lets go of the names of an old snapshot; the counts stay. Says that requests of this thread
    /// are judged by `generation` from now on.
    pub(crate) fn snapshot_changed(&self, generation: u64) {
        self.routes.borrow_mut().by_address.clear();
        self.counts.generation.set(generation);
        self.shared.followed.notify_waiters();
    }

    /// Counts a refusal, and offers it as a sample if its series has not had many lately.
    pub(crate) fn refused(&self, id: RequestId, witness: &Witness, refused: &Refused) {
        let now = Instant::now();
        match refused {
            Refused::Denied(denial) => {
                let shape = Shape::of_denial(denial);
                if let Some(due) = self.denials.count(shape, now, || key_of(denial, false)) {
                    self.offer_denial(id, witness, due, (**denial).clone());
                }
            }
            Refused::Unserved(unserved) => self.unserved(id, witness, unserved),
        }
    }

    /// Counts an answer that no policy gave: no route, or the upstream failed.
    pub(crate) fn unserved(&self, id: RequestId, witness: &Witness, unserved: &Unserved) {
        let Unserved { code, route, field, .. } = unserved;
        let shape = Shape::of_code(*code, route.as_deref(), field.as_ref());
        let key = || DenialKey {
            code: *code,
            route: route.clone(),
            policy: None,
            rule: None,
            field: field.clone(),
            shadow: false,
        };
        if let Some(Due { key, count }) = self.denials.count(shape, Instant::now(), key) {
            let (observed, remedy) = (unserved.observed.to_string(), unserved.remedy());
            self.offer(sample(id, witness, key, observed, remedy), count);
        }
    }

    /// Counts what rules in shadow would have refused.
    pub(crate) fn would_deny(&self, id: RequestId, witness: &Witness, cleared: &Cleared) {
        let route = cleared.route();
        for failure in cleared.would_deny() {
            let key = || key_of(&denial_of(failure, route), true);
            let shape = Shape::of_shadow(failure, route);
            if let Some(due) = self.denials.count(shape, Instant::now(), key) {
                self.offer_denial(id, witness, due, denial_of(failure, route));
            }
        }
    }

    fn offer_denial(&self, id: RequestId, witness: &Witness, due: Due, denial: Denial) {
        let (observed, remedy) = (denial.operator_sentence(), denial.remedy());
        let sample = sample(id, witness, due.key, observed, remedy);
        self.offer(DenialSample { denial: Some(Box::new(denial)), ..sample }, due.count);
    }

    /// Tells one refusal in the log, for all of its kind that were left out since the last one.
    fn offer(&self, sample: DenialSample, count: u64) {
        tracing::info!(
            target: "access", {
            request.id = %sample.id,
            request.method = sample.method,
            request.host = sample.host,
            request.path = sample.path,
            client.ip = sample.client,
            route = sample.key.route.as_ref().map(tracing::field::display),
            policy = sample.key.policy.as_ref().map(tracing::field::display),
            rule = sample.key.rule.as_deref(),
            denial.code = sample.key.code.as_str(),
            denial.count = count,
            denial.field = sample.key.field.as_ref().map(tracing::field::display),
            shadow = sample.key.shadow,
            observed = sample.observed,
            remedy = sample.remedy,
            others = sample.denial.as_deref().and_then(others),
            }, "Request refused"
        );
        if self.samples.try_send(sample).is_err() {
            self.counts.samples_dropped.add();
        }
    }
}

/// One thread's counters of routes.
#[derive(Default)]
struct Routes {
    by_name: HashMap<Arc<RouteName>, Arc<RouteCounts>, DefaultHashBuilder>,
    /// By the address of the name in the snapshot, so that a request hashes no text. Each entry
    /// holds the name, or its address could become another's.
    by_address: HashMap<usize, (Arc<RouteName>, Arc<RouteCounts>), DefaultHashBuilder>,
}

impl Routes {
    fn counts(
        &mut self,
        route: &Arc<RouteName>,
        shared: &Shared,
        others: &Arc<RouteCounts>,
    ) -> &RouteCounts {
        let Self { by_name, by_address } = self;
        let address = Arc::as_ptr(route).addr();
        if by_address.len() >= SERIES_LIMIT && !by_address.contains_key(&address) {
            by_address.clear();
        }
        let named = by_address.entry(address).or_insert_with(|| {
            let counts = match by_name.get(route) {
                Some(counts) => Arc::clone(counts),
                None if by_name.len() >= SERIES_LIMIT => Arc::clone(others),
                None => {
                    let (_, counts) = shared.routes.register(Some(Arc::clone(route)), None);
                    by_name.insert(Arc::clone(route), Arc::clone(&counts));
                    counts
                }
            };
            (Arc::clone(route), counts)
        });
        &named.1
    }
}

/// Most further failures of a request that a log line names.
const OTHERS_LIMIT: usize = 8;

/// What else would have refused the request, as `CODE at FIELD` one after the other.
fn others(denial: &Denial) -> Option<String> {
    let mut told: Vec<_> = denial
        .others
        .iter()
        .take(OTHERS_LIMIT)
        .map(|failure| match failure.field() {
            Some(field) => format!("{} at {field}", failure.reason.code()),
            None => failure.reason.code().to_string(),
        })
        .collect();
    let left = denial.others.len().saturating_sub(OTHERS_LIMIT);
    if left > 0 {
        told.push(format!("and {left} more"));
    }
    (!told.is_empty()).then(|| told.join("; "))
}

fn sample(
    id: RequestId,
    witness: &Witness,
    key: Arc<DenialKey>,
    observed: String,
    remedy: String,
) -> DenialSample {
    DenialSample {
        id,
        at: SystemTime::now(),
        key,
        observed,
        remedy,
        denial: None,
        method: printable(witness.method.as_str()),
        host: printable(witness.host()),
        path: printable(witness.path()),
        client: witness.client.to_string(),
    }
}

fn printable(text: &str) -> String {
    quoted(text, PART_LIMIT).to_string().trim_matches('`').to_owned()
}

#[cfg(test)]
mod tests {
    use decision::{
        denial::{DenialReason, Failure},
        refs::{FieldRef, Kind, ResourceRef, Site},
    };

    use super::*;

    fn name(path: &str) -> Arc<RouteName> {
        let ingress = ResourceRef::new(Kind::Ingress, "shop", "web");
        let field = FieldRef::new(ingress, "spec.rules[0].http.paths[0]");
        Arc::new(RouteName { field, host: "*".into(), path: path.into() })
    }

    #[test]
    fn routes_of_equal_names_in_several_snapshots_are_counted_together() {
        let (shared, others) = (Shared::default(), Arc::default());
        let mut routes = Routes::default();
        for snapshot in [["/", "/a"], ["/a", "/"]] {
            for name in snapshot.map(name) {
                for _ in 0..3 {
                    routes.counts(&name, &shared, &others).add(StatusCode::OK);
                }
            }
        }
        let mut totals: Vec<_> = shared
            .routes
            .totals(RouteCounts::total)
            .into_iter()
            .map(|(name, total)| ((*name).as_ref().map(|name| name.path.to_string()), total))
            .collect();
        totals.sort();
        assert_eq!(totals, [(Some("/".to_owned()), 6), (Some("/a".to_owned()), 6)]);
    }

    #[test]
    fn routes_beyond_the_limit_are_counted_together_and_the_table_stays_bounded() {
        let (shared, others) = (Shared::default(), Arc::<RouteCounts>::default());
        let mut routes = Routes::default();
        for number in 0..SERIES_LIMIT + 50 {
            routes.counts(&name(&format!("/{number}")), &shared, &others).add(StatusCode::OK);
        }
        assert_eq!(others.total(), 50);
        assert!(routes.by_address.len() <= SERIES_LIMIT && routes.by_name.len() == SERIES_LIMIT);
    }

    #[test]
    fn further_failures_are_named_with_their_fields_up_to_a_limit() {
        let site = Arc::new(Site {
            policy: ResourceRef::new(Kind::AccessPolicy, "shop", "office"),
            rule: "token".into(),
            field: "spec.require[1].jwt".into(),
        });
        let reason = DenialReason::TokenMissing { provider: "id".into(), or_key: false };
        let told = |count| {
            let failure = Failure { reason: reason.clone(), site: Arc::clone(&site) };
            let denial = Denial::of_request(reason.clone());
            others(&Denial { others: vec![failure; count], ..denial })
        };
        let one = "TokenMissing at AccessPolicy shop/office at spec.require[1].jwt";
        assert_eq!((told(0), told(1)), (None, Some(one.to_owned())));
        assert_eq!(told(2), Some(format!("{one}; {one}")));
        let many = told(OTHERS_LIMIT + 3).unwrap();
        assert!(many.ends_with("; and 3 more") && many.matches(one).count() == OTHERS_LIMIT);
    }
}
