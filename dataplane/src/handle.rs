//! One request, from the first header to the record of it.

use std::{
    convert::Infallible,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use decision::{
    canonical::CanonicalRequest,
    code::Code,
    decide::{Cleared, Decision, decide},
    denial::{Denial, DenialReason},
    escape::{printable, quoted},
    options::rewrite::Unwritten,
    route::{Backend, ServicePort},
    snapshot::Snapshot,
    time::Timestamp,
    token::VerifiedTokens,
};
use futures::{
    FutureExt,
    future::{Either, LocalBoxFuture, Ready, ready},
};
use http::{HeaderValue, Method, Request, Response, StatusCode, header, uri::PathAndQuery};
use hyper::{
    body::{Body, Incoming},
    upgrade::OnUpgrade,
};

use crate::{
    clock::timestamp,
    download::ResponseBody,
    ending::Ending,
    facts::{self, Form},
    forward::{Exchange, forward, switch::wish},
    manner::Manner,
    origin::Origin,
    progress::InFlight,
    quota::{self, Permit},
    received::Received,
    record::{Arrived, Case, Found},
    refused::{Refused, Unserved},
    respond,
    trace::Onward,
    upload,
    upstream::{Affinity, Choice},
    worker::Worker,
};

/// Serves one request, from its head to its record. `flight` ends with the response's body.
///
/// Nothing waits until the request is permitted: what we answer ourselves is there at once. A panic is
/// a bug of ours, and it costs this request alone: on HTTP/2 others share its connection.
pub(crate) fn handle(
    worker: &Rc<Worker>,
    origin: &Rc<Origin>,
    flight: InFlight,
    wire: Request<Incoming>,
) -> Handled {
    let received = Received::new(worker, origin, flight.began, &wire);
    // What the work shares with others it borrows for single statements, whose ends unwinding keeps.
    match catch_unwind(AssertUnwindSafe(|| begin(&received, flight, wire))) {
        Ok(Either::Left(response)) => Either::Left(ready(Ok(response))),
        Ok(Either::Right(answer)) => Either::Right(Forwarded { answer, received }),
        Err(_) => Either::Left(ready(Ok(broke(&received)))),
    }
}

/// The response to a request: there at once, or from an upstream.
pub(crate) type Handled = Either<Ready<Answer>, Forwarded>;

type Answer = Result<Response<ResponseBody>, Infallible>;

/// A request that an upstream answers.
pub(crate) struct Forwarded {
    /// Boxed where it is made: it is large.
    answer: LocalBoxFuture<'static, Response<ResponseBody>>,
    received: Received,
}

impl Future for Forwarded {
    type Output = Answer;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Answer> {
        let Self { answer, received } = self.get_mut();
        match catch_unwind(AssertUnwindSafe(|| answer.as_mut().poll(context))) {
            Ok(polled) => polled.map(Ok),
            Err(_) => Poll::Ready(Ok(broke(received))),
        }
    }
}

/// The refusal after a panic, counted and told as a fault of ours. What else is known of the request is
/// left aside: it may be why.
fn broke(received: &Received) -> Response<ResponseBody> {
    let Received { worker, origin, .. } = received;
    received.ending_is_told();
    let flight = InFlight::new(&origin.progress, &worker.record.counts);
    let ending = Ending::new(worker, &Rc::new(received.case()), flight);
    let open = Open { ending, origin: Rc::clone(origin), form: Form::Problem, has_body: true };
    let observed = "the work on the request ended in a panic";
    open.close(Err(Refused::Unserved(Unserved::new(Code::JudgementFailed, None, observed))))
}

/// Reads and judges a request; answers it, or begins to forward it.
fn begin(
    received: &Received,
    flight: InFlight,
    wire: Request<Incoming>,
) -> Either<Response<ResponseBody>, LocalBoxFuture<'static, Response<ResponseBody>>> {
    let Received { worker, origin, id, at, began, .. } = received;
    let (mut parts, body) = wire.into_parts();
    let wish = wish(&mut parts, &worker.ids);
    let (trace, onward) =
        worker.tracer.read(&parts.headers, &worker.ids, || origin.is_trusted(&worker.settings));
    let has_body = !body.is_end_stream();
    origin.progress.request_has_body(has_body);
    let facts = facts::read(parts, origin.connection.clone(), &worker.settings);
    let arrived = Arrived { at: *at, began: *began, tls: origin.tls, trace };
    let case = Rc::new(Case::new(*id, facts.witness, arrived));
    received.read(&case);
    let ending = Ending::new(worker, &case, flight);
    // To who asks for a WebSocket every 2xx would be one (RFC 8441 section 5), also that of gRPC.
    let form = if wish.is_some() { Form::Problem } else { facts.form };
    let open = Open { ending, origin: Rc::clone(origin), form, has_body };
    let next = match facts.request {
        Ok(request) => next(&open, request, Arrival { body, wish, onward, at: timestamp(*at) }),
        Err(denial) => Err(Refused::Denied(denial)),
    };
    if has_body && !matches!(&next, Ok(Next::Forward(_, _, Exchange { body: Some(_), .. }))) {
        open.origin.progress.leave_unread();
    }
    match next {
        Ok(Next::Forward(permit, choice, exchange)) => {
            let forwarded = forward(Rc::clone(worker), permit, choice, exchange);
            Either::Right(forwarded.map(|answered| open.close(answered)).boxed_local())
        }
        Ok(Next::Answer(response)) => Either::Left(open.close(Ok(response))),
        Err(refused) => Either::Left(open.close(Err(refused))),
    }
}

/// A request that is not answered yet.
struct Open {
    ending: Ending,
    origin: Rc<Origin>,
    /// In which the client is told of a refusal.
    form: Form,
    has_body: bool,
}

/// What comes with a request besides its head.
struct Arrival {
    body: Incoming,
    /// Where an HTTP/2 stream goes on if it becomes a tunnel.
    wish: Option<OnUpgrade>,
    onward: Onward,
    /// When it is judged.
    at: Timestamp,
}

/// What happens to a request that is not refused.
enum Next {
    /// We answer it.
    Answer(Response<ResponseBody>),
    /// An upstream answers it.
    Forward(Permit, Choice, Exchange),
}

fn next(open: &Open, request: CanonicalRequest, arrival: Arrival) -> Result<Next, Refused> {
    let Open { ending: Ending { worker, case, .. }, origin, .. } = open;
    let Arrival { body, wish, onward, at } = arrival;
    // The look ends with this statement: nothing below holds a snapshot.
    let judged = worker.snapshot.with(|snapshot| judge(snapshot, request, &worker.tokens, at));
    let decision = judged.map_err(Refused::Denied)?;
    if let Some(manner) = Manner::of(&decision) {
        case.answer_in(manner);
    }
    match decision {
        Decision::Forward(cleared) => {
            worker.record.would_deny(case, &cleared);
            let unchosen = |_: &Refused| case.found(Found::Named(cleared.route().clone()));
            let target = fits(&cleared, &body).and_then(|()| target(&cleared));
            let (target, choice) = target
                .and_then(|target| Ok((target, choose(worker, &cleared)?)))
                .inspect_err(unchosen)?;
            // Who solves a challenge gets nothing of the client's but its path.
            let (body, onward) =
                if cleared.is_challenge() { (None, Onward::Nothing) } else { (Some(body), onward) };
            let (permit, route) = quota::take(cleared, &worker.record.counts.permits);
            case.found(Found::Admitted(route));
            let (origin, case) = (Rc::clone(origin), Rc::clone(case));
            let exchange = Exchange { body, target, wish, onward, origin, case, at };
            Ok(Next::Forward(permit, choice, exchange))
        }
        Decision::Moved(cleared) => {
            worker.record.would_deny(case, &cleared);
            case.found(Found::Named(cleared.route().clone()));
            Ok(Next::Answer(respond::moved(&cleared, worker.settings.redirect_port)))
        }
        Decision::Preflight(_, route) => {
            case.found(Found::Named(route.name.clone()));
            Ok(Next::Answer(respond::preflight(&route)))
        }
        Decision::Redirect(request, route) => {
            case.found(Found::Named(route));
            Ok(Next::Answer(respond::redirect(request.line(), worker.settings.redirect_port)))
        }
        Decision::Deny(_, denial, _) => {
            if let Some(route) = &denial.route {
                case.found(Found::Named(route.clone()));
            }
            Err(Refused::Denied(denial))
        }
        Decision::NotFound(_) => {
            let observed = "no route for the host and path";
            Err(Refused::Unserved(Unserved::new(Code::RouteNotFound, None, observed)))
        }
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

/// Refuses a body that says of itself that it is longer than the route allows. One that does not
/// say is counted on its way.
fn fits(cleared: &Cleared, body: &Incoming) -> Result<(), Refused> {
    let limit = cleared.options().and_then(|options| options.body_limit.as_ref());
    let length = body.size_hint().lower();
    let Some(limit) = limit.filter(|limit| length > limit.bytes) else { return Ok(()) };
    let (reason, route) = (upload::too_large(Some(length), limit), Some(cleared.route().clone()));
    Err(Refused::Denied(Box::new(Denial { route, ..Denial::of_request(reason) })))
}

/// The target that the upstream gets in the place of the request's, if the route rewrites.
fn target(cleared: &Cleared) -> Result<Option<PathAndQuery>, Refused> {
    cleared.rewritten().map_err(|(problem, field)| match problem {
        // Whoever looks for paths that exist must not write Events: the route is not told.
        Unwritten::NoMatch => {
            let observed = format!("the path does not match {field}");
            let remedy = Some("Widen the pattern if the path should be served.".into());
            let unserved = Unserved::new(Code::RouteNotFound, None, observed);
            Refused::Unserved(Unserved { remedy, ..unserved })
        }
        Unwritten::Ambiguous(path) => {
            let problem = format!(
                "it makes {} of the request's path, which could be read in two ways",
                quoted(&path, 128)
            );
            let reason = DenialReason::RouteInvalid {
                field: field.clone(),
                problem: problem.into(),
                remedy: Some("Let the groups of the pattern begin and end at slashes.".into()),
            };
            let route = Some(cleared.route().clone());
            Refused::Denied(Box::new(Denial { route, ..Denial::of_request(reason) }))
        }
    })
}

/// Where the request can go. Asked before the permit, so that each permit is for an endpoint.
fn choose(worker: &Worker, cleared: &Cleared) -> Result<Choice, Refused> {
    let route = || Some(cleared.route().clone());
    let (service, transport) = match &**cleared.backend() {
        Backend::Service(service, transport) => (service, transport),
        Backend::Missing { field, problem, remedy } => {
            let observed = format!("{}: {problem}", printable(&field.path));
            let unserved = Unserved::new(Code::BackendMissing, route(), observed);
            let (field, remedy) = (Some(field.clone()), Some((**remedy).into()));
            return Err(Refused::Unserved(Unserved { field, remedy, ..unserved }));
        }
    };
    let wish = cleared.options().and_then(|options| options.affinity.as_ref());
    let affinity = wish.and_then(|wish| Affinity::of(wish, service, cleared.request()));
    let choice = worker.endpoints.with(|table| {
        table.0.get(service).and_then(|addresses| {
            worker.upstream.choose(addresses, transport, affinity, &worker.ids)
        })
    });
    choice.ok_or_else(|| {
        let observed = format!("service {service} has no endpoint that is ready");
        let unserved = Unserved::new(Code::NoEndpoints, route(), observed);
        Refused::Unserved(Unserved { remedy: Some(look_at(service).into()), ..unserved })
    })
}

fn look_at(ServicePort { service, .. }: &ServicePort) -> String {
    format!(
        "Look at the pods that the Service selects: `kubectl get endpointslices -n {} -l kubernetes.io/service-name={}`. Manifests in files need an EndpointSlice beside the Service.",
        printable(&service.namespace),
        printable(&service.name)
    )
}

impl Open {
    /// Makes the response complete, whoever it comes from, and records a refusal.
    fn close(self, answered: Result<Response<ResponseBody>, Refused>) -> Response<ResponseBody> {
        let Self { mut ending, origin, form, has_body } = self;
        let Ending { worker, case, .. } = &ending;
        let mut is_last = origin.progress.is_last();
        let mut response = match answered {
            Ok(response) => response,
            Err(refused) => {
                is_last |= refused.ends_connection();
                if has_body {
                    origin.progress.leave_unread();
                }
                worker.record.refused(case, &refused);
                let response = respond::refused(&refused, form, case.id);
                case.refused(refused);
                response
            }
        };
        if case.witness.method == Method::HEAD {
            response.body_mut().cut();
        }
        if let Some(manner) = case.manner() {
            manner.finish(origin.connection.scheme, response.headers_mut());
        }
        response.headers_mut().insert(respond::REQUEST_ID, case.id.header());
        let switches = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        if is_last && !switches && !origin.progress.is_multiplexed() {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        ending.answered(response.status());
        response.body_mut().attach(ending);
        response
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use decision::{
        canonical::{Connection, RequestLimits, Scheme},
        certificate::Shown,
        check::{Check, Demand, token::TokenCheck},
        claims::Claims,
        client::{AddressSource, Remote},
        disclosure::OnDeny,
        host::HostPattern,
        policy::{Alternative, Attachment, Enforcement, Policy, Rule},
        protection::{Posture, Protection},
        refs::{FieldRef, Kind, ResourceRef, RouteName, Site},
        route::{HostRoutes, PathMatch, Route, RoutingTable},
        token::{Audiences, KeySet, Provider},
        uncovered::{OpenBy, Uncovered},
    };

    use super::*;

    struct Panicking;

    impl VerifiedTokens for Panicking {
        fn get(&self, _: u64, _: &str) -> Option<Arc<Claims>> {
            panic!("a bug in judging, made for this test");
        }

        fn insert(&self, _: u64, _: &str, _: &Arc<Claims>) {}
    }

    /// A policy that asks for a token.
    fn protected() -> Posture {
        let resource = ResourceRef::new(Kind::AccessPolicy, "shop", "tokens");
        let provider = Arc::new(Provider {
            name: "id".into(),
            issuer: "https://id.test".into(),
            audiences: Audiences::Any,
            algorithms: Box::default(),
            skew: std::time::Duration::ZERO,
            keys: Ok(KeySet { generation: 1, keys: Box::default() }),
        });
        let site = Arc::new(Site {
            policy: resource.clone(),
            rule: "token".into(),
            field: "spec.require[0].jwt".into(),
        });
        let demand = Demand::Token(TokenCheck {
            provider,
            scopes_all: Box::default(),
            scopes_any: Box::default(),
            claims: Box::default(),
        });
        let check = Check { site: Arc::clone(&site), demand };
        let rule = Rule {
            name: "token".into(),
            enforcement: Enforcement::Enforce,
            alternatives: Box::new([Alternative::new(site, vec![check])]),
            hint: None,
        };
        let policy = Arc::new(Policy {
            resource,
            deny: Box::default(),
            require: Box::new([rule]),
            on_deny: OnDeny::default(),
        });
        let attachment = Attachment { narrowings: Box::default(), policy: Ok(policy) };
        let uncovered = Uncovered::Open(OpenBy::Flag);
        Posture::Enforce(Protection::new(vec![attachment], Vec::new(), uncovered).into())
    }

    fn snapshot() -> Snapshot {
        let ingress = ResourceRef::new(Kind::Ingress, "shop", "web");
        let field = FieldRef::new(ingress, "spec.rules[0].http.paths[0]");
        let route = Arc::new(Route {
            name: Arc::new(RouteName { field: field.clone(), host: "*".into(), path: "/".into() }),
            posture: protected(),
            backend: Arc::new(Backend::Missing {
                field,
                problem: "none".into(),
                remedy: "Name one.".into(),
            }),
            redirect_to_https: false,
            is_challenge: false,
            options: None,
        });
        let routes = HostRoutes {
            host: HostPattern::Any,
            owner: "shop".into(),
            paths: vec![(PathMatch::Prefix, "/".into(), route)],
        };
        Snapshot { routes: RoutingTable::new(vec![routes], None), ..Snapshot::default() }
    }

    #[test]
    fn a_panic_in_judging_is_a_503_of_one_request() {
        let wire =
            Request::get("/").header("host", "shop.test").header("authorization", "Bearer x");
        let (parts, ()) = wire.body(()).unwrap().into_parts();
        let peer = ([127, 0, 0, 1], 1).into();
        let connection = Connection {
            remote: Remote::Socket(peer),
            scheme: Scheme::Http,
            sni: None,
            certificate: Shown::NotAsked,
        };
        let (source, limits) = (AddressSource::default(), RequestLimits::default());
        let request = CanonicalRequest::read(parts, connection, &source, limits).unwrap();
        let refused = judge(&snapshot(), request, &Panicking, Timestamp(0)).unwrap_err();
        assert_eq!(
            (refused.code(), refused.code().status().as_u16()),
            (Code::JudgementFailed, 503)
        );
    }
}
