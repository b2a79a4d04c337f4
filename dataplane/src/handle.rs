//! One request, from the first header to the record of it.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
    time::{SystemTime, UNIX_EPOCH},
};

use decision::{
    canonical::CanonicalRequest,
    code::Code,
    decide::{Cleared, Decision, decide},
    denial::{Denial, DenialReason},
    route::Backend,
    snapshot::Snapshot,
    time::Timestamp,
    token::VerifiedTokens,
};
use http::{HeaderValue, Request, Response, StatusCode, header};
use hyper::body::Incoming;

use crate::{
    body::ResponseBody,
    facts,
    forward::{Exchange, forward},
    quota,
    respond::{self, Refused, Unserved},
    serve::{Origin, progress::InFlight},
    upstream::{Case, Choice},
    worker::Worker,
};

/// Serves one request, from its head to its record. `flight` ends with the response's body.
pub(crate) async fn handle(
    worker: Rc<Worker>,
    origin: Rc<Origin>,
    flight: InFlight,
    wire: Request<Incoming>,
) -> Response<ResponseBody> {
    let now = SystemTime::now();
    let (parts, body) = wire.into_parts();
    let facts = facts::read(parts, origin.connection.clone(), &worker.settings);
    let mut case = Case { id: worker.ids.next(now), witness: facts.witness, route: None };
    let answered = match facts.request {
        Ok(request) => answer(&worker, &origin, &mut case, request, body, now).await,
        Err(denial) => Err(Refused::Denied(denial)),
    };
    let mut response = answered.unwrap_or_else(|refused| {
        worker.record.refused(case.id, &case.witness, &refused);
        respond::refused(&refused, facts.form, case.id)
    });
    finish(&mut response, &origin, &case);
    worker.record.answered(case.id, &case.witness, case.route.as_ref(), response.status());
    response.body_mut().attach(flight);
    response
}

async fn answer(
    worker: &Rc<Worker>,
    origin: &Origin,
    case: &mut Case,
    request: CanonicalRequest,
    body: Incoming,
    now: SystemTime,
) -> Result<Response<ResponseBody>, Refused> {
    // The look ends with this statement: nothing below holds a snapshot.
    let judged =
        worker.snapshot.with(|snapshot| judge(snapshot, request, &worker.tokens, timestamp(now)));
    match judged.map_err(Refused::Denied)? {
        Decision::Forward(cleared) => {
            case.route = Some(cleared.route().clone());
            worker.record.would_deny(case.id, &case.witness, &cleared);
            let choice = choose(worker, &cleared)?;
            let permit = quota::take(cleared, &worker.record.counts.permits);
            let exchange = Exchange { body, progress: &origin.progress, case };
            forward(worker, permit, choice, exchange).await
        }
        Decision::Redirect(request, route) => {
            case.route = Some(route);
            Ok(respond::redirect(request.line(), worker.settings.redirect_port))
        }
        Decision::Deny(_, denial) => {
            case.route.clone_from(&denial.route);
            Err(Refused::Denied(denial))
        }
        Decision::NotFound(_) => Err(Refused::Unserved(Unserved {
            code: Code::RouteNotFound,
            route: None,
            field: None,
            observed: "no route for the host and path".into(),
        })),
    }
}

/// Decides a request. A panic in there is a bug of ours, and it ends as this request's refusal.
fn judge(
    snapshot: &Snapshot,
    request: CanonicalRequest,
    tokens: &dyn VerifiedTokens,
    now: Timestamp,
) -> Result<Decision, Box<Denial>> {
    // Nothing that the judging could leave half changed is seen again: the request is gone, the
    // snapshot is immutable, and the tokens are a cache.
    catch_unwind(AssertUnwindSafe(|| decide(snapshot, request, tokens, now)))
        .map_err(|_| Box::new(Denial::of_request(DenialReason::JudgementFailed)))
}

/// Where the request can go. Asked before the permit, so that each permit is for an endpoint.
fn choose(worker: &Worker, cleared: &Cleared) -> Result<Choice, Refused> {
    let route = || Some(cleared.route().clone());
    let service = match &**cleared.backend() {
        Backend::Service(service) => service,
        Backend::Missing { field, problem } => {
            let (field, observed) = (Some(field.clone()), format!("{}: {problem}", field.path));
            let (code, route, observed) = (Code::BackendMissing, route(), observed.into());
            return Err(Refused::Unserved(Unserved { code, route, field, observed }));
        }
    };
    let choice = worker.endpoints.with(|table| {
        table.0.get(service).and_then(|addresses| worker.upstream.choose(addresses, &worker.ids))
    });
    choice.ok_or_else(|| {
        let observed = format!("service {service} has no endpoint that is ready").into();
        let (code, route) = (Code::NoEndpoints, route());
        Refused::Unserved(Unserved { code, route, field: None, observed })
    })
}

/// What every response has: its id, and the end of its connection if it is the last.
fn finish(response: &mut Response<ResponseBody>, origin: &Origin, case: &Case) {
    let unreadable = matches!(
        response.status(),
        StatusCode::BAD_REQUEST | StatusCode::REQUEST_TIMEOUT | StatusCode::NOT_IMPLEMENTED
    ) && case.route.is_none();
    let slow = response.status() == StatusCode::REQUEST_TIMEOUT;
    let headers = response.headers_mut();
    headers.insert(respond::REQUEST_ID, case.id.header());
    if origin.progress.is_last() || ((unreadable || slow) && !origin.progress.is_multiplexed()) {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
}

fn timestamp(now: SystemTime) -> Timestamp {
    let seconds = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    Timestamp(i64::try_from(seconds).unwrap_or(i64::MAX))
}
