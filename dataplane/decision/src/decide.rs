//! The one evaluator: from a request to a decision, telling an observer each step.

use std::sync::Arc;

use http::{Method, header, uri::PathAndQuery};

use crate::{
    canonical::{CanonicalRequest, Scheme},
    certificate::Shown,
    check::{Check, Demand, Evidence, Facts, Outcome},
    denial::{Denial, DenialReason, Failure, Misdirection},
    disclosure::{Disclosure, OnDeny},
    headline::{presented, stage},
    options::{Options, Redirect, cors::Cors, rewrite::Unwritten},
    policy::{Alternative, Attachment, Enforcement, Refusal, Rule, Section},
    protection::{Judged, Posture, Protection, Required},
    refs::{FieldRef, RouteName, Site},
    remembered::Recording,
    route::{Backend, Route},
    snapshot::Snapshot,
    standing::Standing,
    time::Timestamp,
    token::VerifiedTokens,
    uncovered::{OpenBy, Uncovered},
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

    /// Where the route sends its clients instead of an upstream.
    pub fn redirect(&self) -> Option<&Redirect> {
        self.options().and_then(|options| options.redirect.as_ref())
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

/// One step of an evaluation, in the order in which it happened.
#[derive(Debug)]
#[non_exhaustive]
pub enum Step<'a> {
    /// The route was found.
    Routed(&'a RouteName),
    /// One check was judged.
    Checked {
        /// The check.
        site: &'a Site,
        /// Which list its rule stands in.
        section: Section,
        /// Whether the rule blocks.
        enforcement: Enforcement,
        /// What it found.
        outcome: &'a Outcome,
    },
}

/// Who listens to an evaluation.
pub trait Observer {
    /// Hears one step.
    fn step(&mut self, step: Step<'_>);
}

/// Nobody listens.
impl Observer for () {
    fn step(&mut self, _: Step<'_>) {}
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

/// A request on a connection that was opened for something else (RFC 9110 section 15.5.20): a host of
/// another namespace, or one whose clients are asked for other certificates, or for none.
fn misdirected(snapshot: &Snapshot, request: &CanonicalRequest) -> Option<Denial> {
    let line = request.line();
    let cause =
        of_another_owner(snapshot, request).or_else(|| asked_otherwise(snapshot, request))?;
    let (sni, host) = (line.connection.sni.clone(), line.host.clone());
    Some(Denial::of_request(DenialReason::MisdirectedRequest { sni, host, cause }))
}

/// A handshake without a name, or with one that no Ingress names, got the default certificate and
/// was opened for no namespace in particular: every host may be asked on it.
fn of_another_owner(snapshot: &Snapshot, request: &CanonicalRequest) -> Option<Misdirection> {
    let line = request.line();
    let sni = line.connection.sni.as_ref().filter(|sni| **sni != line.host)?;
    let owners = (snapshot.routes.owner(sni)?, snapshot.routes.owner(&line.host)?);
    (owners.0 != owners.1).then_some(Misdirection::Namespace)
}

/// A client has one certificate for a connection, and was asked for it, or not, for the host of the
/// handshake: a browser would otherwise show the wrong one to a host that shares the connection. Where
/// nobody asks, this costs nothing.
fn asked_otherwise(snapshot: &Snapshot, request: &CanonicalRequest) -> Option<Misdirection> {
    let (routes, line) = (&snapshot.routes, request.line());
    let connection = &line.connection;
    if !routes.asks_for_certificates() || connection.scheme == Scheme::Http {
        return None;
    }
    let (wanted, sni) = (routes.certificate_authorities(Some(&line.host)), connection.sni.as_ref());
    if sni != Some(&line.host) && wanted != routes.certificate_authorities(sni) {
        return Some(Misdirection::Certificate);
    }
    // Policies changed since, and a handshake is not repeated.
    let was_asked = !matches!(connection.certificate, Shown::NotAsked);
    (!wanted.is_empty() && !was_asked).then_some(Misdirection::NotAsked)
}

/// What rules in shadow would have refused, or the refusal.
type Verdict = Result<Vec<Failure>, Box<Denial>>;

fn judge_route(
    route: &Route,
    is_challenge: bool,
    facts: Facts<'_>,
    observer: &mut impl Observer,
) -> Verdict {
    match &route.posture {
        Posture::Open(OpenBy::Flag) => Ok(Vec::new()),
        Posture::Refuse(refusal) => Err(unresolved(refusal, &route.name)),
        Posture::Enforce(protection) => {
            judge_protected(protection, &route.name, is_challenge, facts, observer)
        }
    }
}

fn judge_protected(
    protection: &Protection,
    route: &Arc<RouteName>,
    is_challenge: bool,
    facts: Facts<'_>,
    observer: &mut impl Observer,
) -> Verdict {
    let matching = matching(protection, facts.request);
    let refusal = unreadable(protection, &matching)
        .or_else(|| if is_challenge { None } else { coverage(protection, &matching) });
    if let Some(refusal) = refusal {
        let mut denial = unresolved(&refusal, route);
        denial.disclosure = denial.disclosure.min(disclosure(protection, &matching));
        return Err(denial);
    }
    let (mut failed, mut would_deny): (Vec<Failed<'_>>, _) = (Vec::new(), Vec::new());
    let counts = |judged: &Judged<'_>| {
        let admits = is_challenge && judged.section == Section::Require;
        let asks = facts.preflight && judged.rule.needs_credential();
        !admits && !asks
    };
    for judged in protection.sequence(&matching).filter(counts) {
        let facts = Facts { refused: !failed.is_empty(), ..facts };
        let Err(failure) = judge_rule(judged, facts, observer) else { continue };
        match judged.rule.enforcement {
            Enforcement::Enforce => failed.push(Failed { judged, failure }),
            Enforcement::Shadow => would_deny.push(failure),
        }
    }
    if failed.is_empty() {
        return Ok(would_deny);
    }
    Err(headline(failed, disclosure(protection, &matching), route))
}

/// Which policies speak of a request. Once for each policy, not once for each rule: narrowings may
/// be long.
fn matching(protection: &Protection, request: &CanonicalRequest) -> Vec<bool> {
    protection.attachments().iter().map(|attachment| attachment.matches(request)).collect()
}

/// What is refused before any rule: a policy that is not resolved.
fn unreadable(protection: &Protection, matching: &[bool]) -> Option<Arc<Refusal>> {
    attached(protection, matching).find_map(|attachment| attachment.policy.as_ref().err()).cloned()
}

/// What is refused before any rule: not enough policy.
fn coverage(protection: &Protection, matching: &[bool]) -> Option<Arc<Refusal>> {
    let policies =
        || attached(protection, matching).filter_map(|attachment| attachment.policy.as_ref().ok());
    let covered = |required: &&Required| {
        policies().any(|policy| {
            policy.resource == required.policy
                && policy.enforces(&[Section::Deny, Section::Require])
        })
    };
    if let Some(required) = protection.required().iter().find(|required| !covered(required)) {
        return Some(Arc::new(required.refusal()));
    }
    match protection.uncovered() {
        Uncovered::Closed(by) if !policies().any(|policy| policy.enforces(&[Section::Require])) => {
            Some(Arc::new(DenialReason::PolicyRequired { by: by.clone() }.into()))
        }
        Uncovered::Closed(_) | Uncovered::Open(_) => None,
    }
}

/// The policies that speak of a request.
fn attached<'a>(
    protection: &'a Protection,
    matching: &'a [bool],
) -> impl Iterator<Item = &'a Attachment> {
    let all = protection.attachments().iter().zip(matching);
    all.filter(|(_, matches)| **matches).map(|(attachment, _)| attachment)
}

fn disclosure(protection: &Protection, matching: &[bool]) -> Disclosure {
    attached(protection, matching)
        .map(|attachment| attachment.on_deny().disclosure)
        .min()
        .unwrap_or_default()
}

fn unresolved(refusal: &Refusal, route: &Arc<RouteName>) -> Box<Denial> {
    let OnDeny { disclosure, hint } = refusal.on_deny.clone();
    let (reason, route) = (refusal.reason.clone(), Some(Arc::clone(route)));
    Box::new(Denial { reason, site: None, route, disclosure, hint, others: Vec::new() })
}

struct Failed<'a> {
    judged: Judged<'a>,
    failure: Failure,
}

/// The first failure in the order of headlines speaks; the others are recorded behind it.
fn headline(
    mut failed: Vec<Failed<'_>>,
    disclosure: Disclosure,
    route: &Arc<RouteName>,
) -> Box<Denial> {
    failed.sort_by_key(|failed| stage(failed.failure.reason.code()));
    let hint = failed.first().and_then(|first| {
        first.judged.rule.hint.as_ref().or(first.judged.policy.on_deny.hint.as_ref()).cloned()
    });
    let mut failures = failed.into_iter().map(|failed| failed.failure);
    let (reason, site) = match failures.next() {
        Some(Failure { reason, site }) => (reason, Some(site)),
        None => (DenialReason::JudgementFailed, None),
    };
    let others = failures.collect();
    Box::new(Denial { reason, site, route: Some(Arc::clone(route)), disclosure, hint, others })
}

fn judge_rule(
    judged: Judged<'_>,
    facts: Facts<'_>,
    observer: &mut impl Observer,
) -> Result<(), Failure> {
    let mut furthest: Option<Failure> = None;
    for alternative in &judged.rule.alternatives {
        let found = judge_alternative(judged, alternative, facts, observer);
        match (judged.section, found) {
            (_, Found::NotJudged) | (Section::Require, Found::Met(_)) => return Ok(()),
            (Section::Deny, Found::Unmet(_)) => {}
            (Section::Deny, Found::Met(last)) => {
                return Err(matched(judged.rule, alternative, last, facts));
            }
            (Section::Deny, Found::Unknown(failure)) => return Err(failure),
            (Section::Require, Found::Unmet(failure) | Found::Unknown(failure)) => {
                let further = |before: &Failure| {
                    presented(failure.reason.code()) && !presented(before.reason.code())
                };
                match &mut furthest {
                    Some(before) if !further(before) => {
                        if one_credential_is_enough(judged.rule) {
                            before.reason.or(&failure.reason);
                        }
                    }
                    Some(_) | None => furthest = Some(failure),
                }
            }
        }
    }
    furthest.map_or(Ok(()), Err)
}

/// Whether no alternative asks for two credentials: only then one that is missing can stand for
/// the other.
fn one_credential_is_enough(rule: &Rule) -> bool {
    let credentials = |alternative: &Alternative| {
        alternative.checks().iter().filter(|check| check.demand.needs_credential()).count()
    };
    rule.alternatives.iter().all(|alternative| credentials(alternative) <= 1)
}

/// What an alternative came to.
enum Found {
    /// Every check holds; the evidence of the last one.
    Met(Option<Evidence>),
    Unmet(Failure),
    Unknown(Failure),
    NotJudged,
}

/// Judges check by check until one does not hold. An unknown one waits for the rest in `deny`:
/// the alternative matches only if nothing speaks against it.
fn judge_alternative(
    judged: Judged<'_>,
    alternative: &Alternative,
    facts: Facts<'_>,
    observer: &mut impl Observer,
) -> Found {
    let (mut unknown, mut last) = (None, None);
    for check in alternative.checks() {
        let outcome = match &check.demand {
            // Which methods are required is asked of the request to come.
            Demand::Method(_) if facts.preflight && judged.section == Section::Require => {
                Outcome::Met(Evidence::Method)
            }
            Demand::Address(_)
            | Demand::Method(_)
            | Demand::Token(_)
            | Demand::Subscription(_)
            | Demand::Certificate(_) => check.judge(facts),
        };
        let (section, enforcement) = (judged.section, judged.rule.enforcement);
        observer.step(Step::Checked { site: &check.site, section, enforcement, outcome: &outcome });
        let failure =
            |reason: Box<DenialReason>| Failure { reason: *reason, site: Arc::clone(&check.site) };
        match outcome {
            Outcome::Met(evidence) => last = Some(evidence),
            Outcome::NotJudged => return Found::NotJudged,
            Outcome::Unmet(reason) => return Found::Unmet(failure(reason)),
            Outcome::Unknown(reason) => {
                unknown.get_or_insert(failure(reason));
            }
        }
    }
    unknown.map_or(Found::Met(last), Found::Unknown)
}

/// The refusal of a `deny` rule whose checks all hold.
fn matched(
    rule: &Rule,
    alternative: &Alternative,
    last: Option<Evidence>,
    facts: Facts<'_>,
) -> Failure {
    if rule.is_by_address()
        && let (Some(check), Some(Evidence::Network(entry))) = (alternative.checks().last(), last)
        && let Demand::Address(address) = &check.demand
        && let Some(network) = address.networks.networks().get(entry)
    {
        let client = facts.request.line().client.clone();
        let reason = DenialReason::AddressDenied { client, network: *network, entry };
        return Failure { reason, site: Arc::clone(&check.site) };
    }
    let matched = alternative
        .checks()
        .iter()
        .map(|check| describe(check, facts))
        .collect::<Vec<_>>()
        .join(", ");
    Failure {
        reason: DenialReason::RuleMatched { matched: matched.into() },
        site: Arc::clone(&alternative.site),
    }
}

fn describe(check: &Check, facts: Facts<'_>) -> String {
    let line = facts.request.line();
    match &check.demand {
        Demand::Address(_) => format!("ip holds {}", line.client.for_logs()),
        Demand::Method(_) => format!("methods holds {}", line.method),
        Demand::Token(token) => format!("jwt of provider {} holds", token.provider.name),
        Demand::Subscription(_) => "subscription holds".into(),
        Demand::Certificate(check) => format!("clientCertificate of {} holds", check.secret),
    }
}
