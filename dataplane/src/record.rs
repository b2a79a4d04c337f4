//! What is remembered of a request once it was answered: counters, a log line, perhaps a sample.

use std::{cell::RefCell, collections::HashMap, sync::Arc, time::SystemTime};

use decision::{decide::Cleared, denial::Denial, escape::quoted, route::RouteName};
use http::StatusCode;
use quick_cache::DefaultHashBuilder;
use tokio::{sync::mpsc, time::Instant};

use crate::{
    denials::{DenialKey, DenialSample, Denials, Shape, denial_of, key_of},
    facts::Witness,
    id::RequestId,
    metrics::{RouteCounts, SERIES_LIMIT, Shared, ThreadCounts},
    respond::{Refused, Unserved},
};

/// Longest part of a request in a sample, in bytes.
const PART_LIMIT: usize = 256;

/// One thread's record.
pub(crate) struct Recorder {
    pub(crate) counts: Arc<ThreadCounts>,
    shared: Arc<Shared>,
    denials: Denials,
    routes: RefCell<HashMap<Arc<RouteName>, Arc<RouteCounts>, DefaultHashBuilder>>,
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
        let mut routes = self.routes.borrow_mut();
        if let Some(counts) = routes.get(route) {
            counts.add(status);
        } else if routes.len() >= SERIES_LIMIT {
            self.others.add(status);
        } else {
            let (_, counts) = self.shared.routes.register(Some(Arc::clone(route)), None);
            counts.add(status);
            routes.insert(Arc::clone(route), counts);
        }
    }

    /// Counts a refusal, and offers it as a sample if its series has not had many lately.
    pub(crate) fn refused(&self, id: RequestId, witness: &Witness, refused: &Refused) {
        let now = Instant::now();
        match refused {
            Refused::Denied(denial) => {
                let shape = Shape::of_denial(denial);
                if let Some(key) = self.denials.count(shape, now, || key_of(denial, false)) {
                    self.offer_denial(id, witness, key, (**denial).clone());
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
        if let Some(key) = self.denials.count(shape, Instant::now(), key) {
            let (observed, remedy) = (unserved.observed.to_string(), unserved.remedy());
            self.offer(sample(id, witness, key, observed, remedy));
        }
    }

    /// Counts what rules in shadow would have refused.
    pub(crate) fn would_deny(&self, id: RequestId, witness: &Witness, cleared: &Cleared) {
        let route = cleared.route();
        for failure in cleared.would_deny() {
            let key = || key_of(&denial_of(failure, route), true);
            let shape = Shape::of_shadow(failure, route);
            if let Some(key) = self.denials.count(shape, Instant::now(), key) {
                self.offer_denial(id, witness, key, denial_of(failure, route));
            }
        }
    }

    fn offer_denial(&self, id: RequestId, witness: &Witness, key: Arc<DenialKey>, denial: Denial) {
        let (observed, remedy) = (denial.operator_sentence(), denial.remedy());
        let sample = sample(id, witness, key, observed, remedy);
        self.offer(DenialSample { denial: Some(Box::new(denial)), ..sample });
    }

    fn offer(&self, sample: DenialSample) {
        tracing::info!(
            target: "access", {
            request.id = %sample.id,
            request.method = sample.method,
            request.host = sample.host,
            request.path = sample.path,
            client.ip = sample.client,
            route = sample.key.route.as_ref().map(tracing::field::display),
            policy = sample.key.policy.as_ref().map(tracing::field::display),
            denial.code = sample.key.code.as_str(),
            denial.field = sample.key.field.as_ref().map(tracing::field::display),
            shadow = sample.key.shadow,
            observed = sample.observed,
            }, "Request refused"
        );
        if self.samples.try_send(sample).is_err() {
            self.counts.samples_dropped.add();
        }
    }
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
