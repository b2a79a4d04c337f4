//! What is remembered of a request once it was answered: counters, an entry of the access log,
//! perhaps a sample of its refusal.

mod case;

use std::{
    cell::{Cell, RefCell},
    num::NonZeroU32,
    sync::Arc,
    time::{Duration, SystemTime},
};

use decision::{decide::Cleared, denial::Denial, escape::quoted};
use http::StatusCode;
use tokio::{sync::mpsc, time::Instant};

pub(crate) use self::case::{Arrived, Case, Ended, Found};
use crate::{
    access::{AccessSender, End},
    denial_key::DenialKey,
    denials::{DenialSample, Denials, Due, Shape, denial_of, key_of},
    metrics::{RouteCounts, RouteKey, Shared, ThreadCounts},
    refused::{Refused, Unserved},
    routes::Routes,
};

/// Longest part of a request in a sample, in bytes.
const PART_LIMIT: usize = 256;

/// Where exchanges that have ended are told.
#[derive(Default)]
pub(crate) struct Listeners {
    pub(crate) access_log: Option<AccessLog>,
    pub(crate) spans: Option<AccessSender>,
}

/// Most exchanges a second of one thread that are told because they did not go well; beyond that they
/// are sampled like the others, or a flood of refusals would cost more than to serve it.
const UNUSUAL: u32 = 100;

/// Which exchanges go into the access log, and how they get there.
pub(crate) struct AccessLog {
    pub(crate) sender: AccessSender,
    /// One of so many that went well; the others always, up to [`UNUSUAL`].
    pub(crate) one_in: NonZeroU32,
    /// The second of which how many were told.
    unusual: Cell<(u64, u32)>,
}

impl AccessLog {
    pub(crate) fn new(sender: AccessSender, one_in: NonZeroU32) -> Self {
        Self { sender, one_in, unusual: Cell::new((0, 0)) }
    }

    fn has(&self, case: &Case, end: End) -> bool {
        let failed = case.status.get().is_none_or(|status| status.is_server_error());
        let usual = end == End::Complete && !failed && case.refused.get().is_none();
        (!usual && self.is_one_of_few(case.at)) || case.id.is_one_in(self.one_in)
    }

    fn is_one_of_few(&self, at: SystemTime) -> bool {
        let now = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let (second, told) = self.unusual.get();
        let told = if second == now { told } else { 0 };
        self.unusual.set((now, told.saturating_add(1)));
        told < UNUSUAL
    }
}

/// One thread's record.
pub(crate) struct Recorder {
    pub(crate) counts: Arc<ThreadCounts>,
    shared: Arc<Shared>,
    denials: Denials,
    routes: RefCell<Routes>,
    /// Requests without a route.
    others: Arc<RouteCounts>,
    samples: mpsc::Sender<DenialSample>,
    listeners: Listeners,
}

impl Recorder {
    pub(crate) fn new(
        counts: Arc<ThreadCounts>,
        shared: Arc<Shared>,
        samples: mpsc::Sender<DenialSample>,
        listeners: Listeners,
    ) -> Self {
        let denials = Denials::new(Arc::clone(&shared));
        let (_, others) = shared.routes.register_rest(RouteKey::Other, RouteKey::Other);
        Self { counts, shared, denials, routes: RefCell::default(), others, samples, listeners }
    }

    /// Counts an answer; gives where.
    pub(crate) fn answered(&self, case: &Case, status: StatusCode) -> Arc<RouteCounts> {
        case.answered(status);
        if let Some(route) = case.route() {
            return self.routes.borrow_mut().count(route, status, &self.shared);
        }
        // Nobody forgets this one.
        let _ = self.others.add(status);
        Arc::clone(&self.others)
    }

    /// Tells of an exchange that is over.
    pub(crate) fn ended(&self, case: &Case, ended: Ended) {
        let Listeners { access_log, spans } = &self.listeners;
        if let Some(log) = access_log
            && log.has(case, ended.end)
        {
            log.sender.send(case.outcome(ended), case.target());
        }
        if let Some(spans) = spans
            && case.trace.is_some_and(|trace| trace.span.is_some())
        {
            spans.send(case.outcome(ended), case.target());
        }
    }

    /// Lets go of the names of an old snapshot; the counts stay. Says that requests of this thread
    /// are judged by `generation` from now on.
    pub(crate) fn snapshot_changed(&self, generation: u64) {
        self.routes.borrow_mut().snapshot_changed();
        self.counts.generation.set(generation);
        self.shared.followed.notify_waiters();
    }

    /// Counts a refusal, and offers it as a sample if its series has not had many lately.
    pub(crate) fn refused(&self, case: &Case, refused: &Refused) {
        let now = Instant::now();
        match refused {
            Refused::Denied(denial) => {
                let shape = Shape::of_denial(denial);
                if let Some(due) = self.denials.count(shape, now, || key_of(denial, false)) {
                    self.offer_denial(case, due, (**denial).clone());
                }
            }
            Refused::Unserved(unserved) => self.unserved(case, unserved),
        }
    }

    /// Counts the end of an exchange that was admitted and may not go on.
    pub(crate) fn revoked(&self, case: &Case, refused: &Refused, what: &str, after: Duration) {
        let denial = match refused {
            Refused::Denied(denial) => denial,
            Refused::Unserved(unserved) => return self.unserved(case, unserved),
        };
        let (shape, now) = (Shape::of_denial(denial), Instant::now());
        if let Some(due) = self.denials.count(shape, now, || key_of(denial, false)) {
            let observed = format!(
                "closed a {what} that was open for {} s, because its request would be refused now: {}",
                after.as_secs(),
                denial.operator_sentence()
            );
            let sample = sample(case, due.key, observed, denial.remedy());
            self.offer(DenialSample { denial: Some(denial.clone()), ..sample }, due.count);
        }
    }

    /// Counts an answer that no policy gave: no route, or the upstream failed.
    pub(crate) fn unserved(&self, case: &Case, unserved: &Unserved) {
        let Unserved { code, route, field, .. } = unserved;
        let shape = Shape::of_code(*code, route.as_deref(), field.as_ref());
        let key = || DenialKey {
            code: *code,
            route: route.clone(),
            policy: None,
            rule: None,
            field: field.clone(),
            shadow: false,
            rest_of: None,
        };
        if let Some(Due { key, count }) = self.denials.count(shape, Instant::now(), key) {
            let (observed, remedy) = (unserved.observed.to_string(), unserved.remedy());
            self.offer(sample(case, key, observed, remedy), count);
        }
    }

    /// Counts what rules in shadow would have refused.
    pub(crate) fn would_deny(&self, case: &Case, cleared: &Cleared) {
        let route = cleared.route();
        for failure in cleared.would_deny() {
            let key = || key_of(&denial_of(failure, route), true);
            let shape = Shape::of_shadow(failure, route);
            if let Some(due) = self.denials.count(shape, Instant::now(), key) {
                self.offer_denial(case, due, denial_of(failure, route));
            }
        }
    }

    fn offer_denial(&self, case: &Case, due: Due, denial: Denial) {
        let (observed, remedy) = (denial.operator_sentence(), denial.remedy());
        let sample = sample(case, due.key, observed, remedy);
        self.offer(DenialSample { denial: Some(Box::new(denial)), ..sample }, due.count);
    }

    /// Tells one refusal in the log, for all of its kind that were left out since the last one.
    fn offer(&self, sample: DenialSample, count: u64) {
        tracing::info!(
            target: "access", {
            request.id = %sample.id,
            trace.id = sample.trace.map(tracing::field::display),
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

fn sample(case: &Case, key: Arc<DenialKey>, observed: String, remedy: String) -> DenialSample {
    let Case { id, witness, trace, .. } = case;
    DenialSample {
        id: *id,
        trace: trace.map(|trace| trace.id),
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
        refs::{Kind, ResourceRef, Site},
    };

    use super::*;

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
