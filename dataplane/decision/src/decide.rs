//! The one evaluator: from a request to a decision, telling an observer each step.

mod judge;
mod misdirected;
mod observer;

use std::sync::Arc;

use http::{Method, header, uri::PathAndQuery};

pub use self::observer::{Observer, Step};
use self::{
    judge::{disclosure, judge_route, matching},
    misdirected::misdirected,
};
use crate::{
    canonical::{CanonicalRequest, Scheme},
    check::Facts,
    denial::{Denial, DenialReason, Failure},
    options::{Options, Redirect, cors::Cors, rewrite::Unwritten},
    protection::Posture,
    refs::{FieldRef, RouteName},
    remembered::Recording,
    route::{Backend, Route},
    snapshot::Snapshot,
    standing::Standing,
    time::Timestamp,
    token::VerifiedTokens,
};

/// How a request ends. Total: there is no other way.
#[derive(Debug)]
pub enum Decision {
    /// Every check passed.
    Forward(Cleared),
    /// Every check passed, and the route sends its clients elsewhere.
    Moved(Cleared),
    /// A browser asks whether pages of an origin may call, and they may. Answered by us: credentials
    /// were not judged, so it is nothing that could be forwarded.
    Preflight(CanonicalRequest, Arc<Route>),
    /// A host with a certificate was asked in plain text: 308 to the same target with https.
    Redirect(CanonicalRequest, Arc<RouteName>),
    /// Refused; with what its route asks for, if it has one that does.
    Deny(CanonicalRequest, Box<Denial>, Option<Arc<Options>>),
    /// No route.
    NotFound(CanonicalRequest),
}

impl Decision {
    /// The request, as it was judged.
    pub fn request(&self) -> &CanonicalRequest {
        match self {
            Self::Forward(cleared) | Self::Moved(cleared) => cleared.request(),
            Self::Preflight(request, _)
            | Self::Redirect(request, _)
            | Self::Deny(request, _, _)
            | Self::NotFound(request) => request,
        }
    }

    /// What the route asks for, if there is one that does.
    pub fn options(&self) -> Option<&Arc<Options>> {
        match self {
            Self::Forward(cleared) | Self::Moved(cleared) => cleared.options(),
            Self::Preflight(_, route) => route.options.as_ref(),
            Self::Deny(_, _, options) => options.as_ref(),
            Self::Redirect(..) | Self::NotFound(_) => None,
        }
    }
}

/// A request that passed every check: the only thing from which the data plane makes a permit.
///
/// Its request goes with it, so what was judged is what is forwarded. Not `Clone`, and nothing
/// outside of this module makes one.
#[derive(Debug)]
pub struct Cleared {
    request: CanonicalRequest,
    route: Arc<Route>,
    would_deny: Vec<Failure>,
    is_challenge: bool,
}

impl Cleared {
    /// The request.
    pub fn request(&self) -> &CanonicalRequest {
        &self.request
    }

    /// The route.
    pub fn route(&self) -> &Arc<RouteName> {
        &self.route.name
    }

    /// Where it goes.
    pub fn backend(&self) -> &Arc<Backend> {
        &self.route.backend
    }

    /// What the route asks for beyond judging and forwarding.
    pub fn options(&self) -> Option<&Arc<Options>> {
        self.route.options.as_ref()
    }

    /// Where the route sends this client instead of its request to an upstream.
    pub fn redirect(&self) -> Option<&Redirect> {
        let redirect = self.options().and_then(|options| options.redirect.as_ref());
        redirect.filter(|redirect| redirect.is_for(&self.request.line().host))
    }

    /// The target that the upstream gets in the place of the request's, if the route rewrites.
    ///
    /// # Errors
    /// [`Unwritten`], and why the request is refused then: it was judged by its own path, and what
    /// it would be to the upstream nobody knows.
    pub fn rewritten(&self) -> Result<Option<PathAndQuery>, (Unwritten, &FieldRef)> {
        let rewrite = self.options().and_then(|options| options.rewrite.as_ref());
        let Some(rewrite) = rewrite else { return Ok(None) };
        let written = rewrite.apply(&self.request.line().target, &self.route.name.path);
        written.map(Some).map_err(|problem| (problem, &rewrite.field))
    }

    /// What rules in shadow would have refused.
    pub fn would_deny(&self) -> &[Failure] {
        &self.would_deny
    }

    /// Whether it asks for the answer to an ACME challenge: nobody vouched for its client, so its
    /// body goes nowhere.
    pub fn is_challenge(&self) -> bool {
        self.is_challenge
    }

    /// Gives up the request for forwarding, and the route for the record.
    pub fn into_parts(self) -> (CanonicalRequest, Arc<Route>) {
        (self.request, self.route)
    }
}

/// Decides one request.
pub fn decide(
    snapshot: &Snapshot,
    request: CanonicalRequest,
    tokens: &dyn VerifiedTokens,
    now: Timestamp,
) -> Decision {
    decide_observed(snapshot, request, tokens, now, &mut ())
}

/// Decides one request and tells each step: an explanation is this very evaluation.
pub fn decide_observed(
    snapshot: &Snapshot,
    mut request: CanonicalRequest,
    tokens: &dyn VerifiedTokens,
    now: Timestamp,
    observer: &mut impl Observer,
) -> Decision {
    if let Some(denial) = misdirected(snapshot, &request) {
        return Decision::Deny(request, Box::new(denial), None);
    }
    let Some(route) = snapshot.routes.find(&request.line().host, request.path()) else {
        return Decision::NotFound(request);
    };
    observer.step(Step::Routed(&route.name));
    let is_challenge = route.is_challenge && asks_for_challenge(&request, route);
    let is_plain = request.line().connection.scheme == Scheme::Http;
    if route.redirect_to_https && is_plain && !is_challenge {
        return Decision::Redirect(request, Arc::clone(&route.name));
    }
    let cors = route.options.as_deref().and_then(|options| options.cors.as_ref());
    let cors = cors.filter(|_| Cors::is_preflight(&request.line().method, request.headers()));
    let facts = Facts {
        request: &request,
        now,
        tokens,
        subscriptions: &snapshot.subscriptions,
        preflight: cors.is_some(),
        refused: false,
        remembered: None,
        recording: None,
    };
    match judge_route(route, is_challenge, facts, observer) {
        Err(denial) => Decision::Deny(request, denial, route.options.clone()),
        Ok(_) if let Some(cors) = cors => preflight(cors, request, route),
        Ok(would_deny) => {
            if let Posture::Enforce(protection) = &route.posture {
                protection.withheld().iter().for_each(|name| request.remove_header(name));
            }
            if is_challenge {
                request.remove_all_headers();
            }
            // The one reference count on the way of an admitted request that threads share.
            let route = Arc::clone(route);
            let cleared = Cleared { request, route, would_deny, is_challenge };
            match cleared.redirect() {
                None => Decision::Forward(cleared),
                Some(_) => Decision::Moved(cleared),
            }
        }
    }
}

/// Whether a request asks for the answer to a challenge and for nothing else: parameters of the path,
/// a query and another protocol have no part in it, and could reach something else behind the path.
fn asks_for_challenge(request: &CanonicalRequest, route: &Route) -> bool {
    let line = request.line();
    matches!(line.method, Method::GET | Method::HEAD)
        && line.target.query().is_none()
        && line.upgrade.is_none()
        && *request.path() == *route.name.path
}

/// The answer to a browser that asks ahead, once the rules that need no credential let it pass.
fn preflight(cors: &Cors, request: CanonicalRequest, route: &Arc<Route>) -> Decision {
    if cors.allowed(request.headers()).is_some() {
        return Decision::Preflight(request, Arc::clone(route));
    }
    let origins = request.headers().get_all(header::ORIGIN).iter();
    let origins = origins.map(|origin| String::from_utf8_lossy(origin.as_bytes()));
    let origin: String = origins.collect::<Vec<_>>().join(", ").chars().take(128).collect();
    let reason =
        DenialReason::OriginNotAllowed { origin: origin.into(), field: cors.field.clone() };
    let mut denial = Denial { route: Some(Arc::clone(&route.name)), ..Denial::of_request(reason) };
    if let Posture::Enforce(protection) = &route.posture {
        let told = disclosure(protection, &matching(protection, &request));
        denial.disclosure = denial.disclosure.min(told);
    }
    Decision::Deny(request, Box::new(denial), route.options.clone())
}

/// Why an exchange that was admitted may not go on.
#[derive(Clone, Debug)]
pub enum Revoked {
    /// Its request would be refused now.
    Denied(Box<Denial>),
    /// Its route is gone.
    NotFound,
}

/// Judges an admitted request again, by the newest snapshot.
///
/// Where it is forwarded to and whether plain HTTP would be redirected now does not matter: the
/// exchange has begun. The time of its token is that of its beginning; everything else is as of `now`.
///
/// # Errors
/// If the request would be refused now, or has no route any more.
pub fn decide_again(
    snapshot: &Snapshot,
    standing: &mut Standing,
    tokens: &dyn VerifiedTokens,
    now: Timestamp,
) -> Result<(), Revoked> {
    standing.present();
    let request = &standing.request;
    if let Some(denial) = misdirected(snapshot, request) {
        return Err(Revoked::Denied(Box::new(denial)));
    }
    let route = snapshot.routes.find(&request.line().host, request.path());
    let route = route.ok_or(Revoked::NotFound)?;
    let is_challenge = route.is_challenge && asks_for_challenge(request, route);
    let (recording, remembered) = (Recording::default(), standing.remembered.as_deref());
    let facts = Facts {
        request,
        // What is not remembered yet is judged once more with the credentials themselves.
        now: if remembered.is_none() { standing.since } else { now },
        tokens,
        subscriptions: &snapshot.subscriptions,
        preflight: false,
        refused: false,
        remembered,
        recording: Some(&recording),
    };
    let judged = judge_route(route, is_challenge, facts, &mut ());
    judged.map_err(Revoked::Denied)?;
    standing.remember(recording);
    Ok(())
}
