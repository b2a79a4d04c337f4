//! From a route to its verdict: posture, policies, rules, alternatives, checks.

use std::sync::Arc;

use super::observer::{Observer, Step};
use crate::{
    canonical::CanonicalRequest,
    check::{Check, Demand, Evidence, Facts, Outcome},
    denial::{Denial, DenialReason, Failure},
    disclosure::{Disclosure, OnDeny},
    headline::{presented, stage},
    policy::{Alternative, Attachment, Enforcement, Refusal, Rule, Section},
    protection::{Judged, Posture, Protection, Required},
    refs::RouteName,
    route::Route,
    uncovered::{OpenBy, Uncovered},
};

/// What rules in shadow would have refused, or the refusal.
pub(super) type Verdict = Result<Vec<Failure>, Box<Denial>>;

pub(super) fn judge_route(
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
pub(super) fn matching(protection: &Protection, request: &CanonicalRequest) -> Vec<bool> {
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

pub(super) fn disclosure(protection: &Protection, matching: &[bool]) -> Disclosure {
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
