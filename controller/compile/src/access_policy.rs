//! `AccessPolicies`: decoded, judged, and turned into rules; or into a refusal of what they name.

use std::{collections::BTreeSet, sync::Arc};

use crds::{AccessPolicy, AccessPolicySpec, DecodeError, Jwks, JwtProvider, TargetRef};
use decision::{
    check::Demand,
    denial::DenialReason,
    disclosure::{Disclosure, OnDeny},
    host::HostPattern,
    path,
    policy::{Alternative, Enforcement, Narrowing, Policy, Refusal, Rule, Section},
    refs::{FieldRef, Kind, ResourceRef},
};
use serde_json::{Map, Value};

use crate::{
    annotation::unenforceable,
    finding::{Effect, Findings, Problem, Reason, capitalised},
    index::{Index, missing_right},
    keys,
    metadata::reference,
    plan::Plans,
    resources::Object,
    rule::{self, Fields, Surroundings},
};

/// An `AccessPolicy`, compiled as far as it goes by itself.
#[derive(Debug)]
pub(crate) struct Compiled {
    pub(crate) resource: ResourceRef,
    pub(crate) generation: Option<i64>,
    pub(crate) targets: Targets,
    /// The policy, or the refusal of everything that it names.
    pub(crate) policy: Result<Arc<Policy>, Arc<Refusal>>,
    /// Whether it only counts: nothing is ever refused because of it.
    pub(crate) is_shadow: bool,
    /// The first reference to another object that does not resolve.
    pub(crate) unresolved: Option<String>,
    /// Whether it is beyond the cap of its namespace, and costs as little as can be.
    pub(crate) is_surplus: bool,
    /// Whether it would be compiled to the same, and nothing told of it, whatever other objects there
    /// are; apart from the cap.
    pub(crate) is_alone: bool,
}

/// What a policy applies to, in its own namespace.
#[derive(Debug)]
pub(crate) enum Targets {
    /// These Ingresses.
    Named(Vec<Target>),
    /// Every Ingress: not even the names of the targets can be read.
    Everything,
}

/// An entry of `targetRefs`.
#[derive(Debug)]
pub(crate) struct Target {
    /// Its position.
    pub(crate) index: usize,
    /// The name of the Ingress.
    pub(crate) name: String,
    /// Which of its requests.
    pub(crate) narrowing: Narrowing,
}

/// Compiles one `AccessPolicy`. Total: one that cannot be understood closes what it names.
pub(crate) fn compile(
    object: &Object,
    (index, plans, fields): (&Index<'_>, &Plans, &mut Fields),
    findings: &mut Findings,
) -> Compiled {
    let resource = reference(Kind::AccessPolicy, &object.metadata);
    let generation = object.metadata.generation;
    if let Some(problem) = index.surplus(Kind::AccessPolicy, &object.metadata) {
        let null = Value::Null;
        let spec = object.value.get("spec").unwrap_or(&null);
        let closing = closing(resource, generation, spec, raw_targets(spec, &[]), &problem);
        return Compiled { is_surplus: true, ..closing };
    }
    match crds::decode::<AccessPolicy>(&object.value) {
        Ok(policy) => {
            let others = (index, plans, fields);
            compile_decoded(&policy.spec, resource, generation, others, findings)
        }
        Err(errors) => undecodable(object, resource, generation, errors, findings),
    }
}

fn compile_decoded(
    spec: &AccessPolicySpec,
    resource: ResourceRef,
    generation: Option<i64>,
    (index, plans, fields): (&Index<'_>, &Plans, &mut Fields),
    findings: &mut Findings,
) -> Compiled {
    let mut problems = Vec::new();
    let mut unresolved = Vec::new();
    let providers = keys::providers(&resource, spec, index, &mut problems, &mut unresolved);
    let enforcement = enforcement(spec.enforcement);
    let mut surroundings = Surroundings {
        policy: &resource,
        enforcement,
        providers: &providers,
        plans,
        index,
        fields,
        problems: &mut problems,
        unresolved: &mut unresolved,
    };
    let deny = rule::rules(&spec.deny, Section::Deny, &mut surroundings);
    let require = rule::rules(&spec.require, Section::Require, &mut surroundings);
    names(spec, &mut problems);
    let targets = targets(&spec.target_refs, &mut problems);
    let evaded = warn_of_evasion(&resource, &deny, &require, findings);
    let is_alone = !evaded
        && problems.is_empty()
        && unresolved.is_empty()
        && !names_others(spec, deny.iter().chain(&require));
    let blocks = |rule: &Rule| rule.enforcement == Enforcement::Enforce;
    let is_shadow = !deny.iter().chain(&require).any(blocks);
    let refuses = require.iter().any(|rule| rule.alternatives.iter().all(is_unknown))
        || deny.iter().any(|rule| rule.alternatives.iter().any(is_unknown));
    let effect = if is_shadow || !refuses { Effect::Rejects } else { Effect::Closes };
    for problem in &unresolved {
        let reason = if problem.path.contains(".plans[") {
            Reason::PlanInvalid
        } else {
            Reason::SecretMissing
        };
        findings.add(&resource, reason, effect, problem.clone());
    }
    let on_deny = on_deny(&spec.on_deny);
    let policy = if let Some(problem) = record(problems, is_shadow, &resource, findings) {
        Err(refusal(&resource, &problem, on_deny))
    } else if let Some(problem) = unreadable(&resource, deny.iter().chain(&require), index) {
        let reason = unenforceable(&resource, problem, findings);
        Err(Arc::new(Refusal { reason, on_deny }))
    } else {
        Ok(Arc::new(Policy { resource: resource.clone(), deny, require, on_deny }))
    };
    let unresolved =
        unresolved.first().map(|problem| format!("{}: {}", problem.path, problem.message));
    Compiled {
        resource,
        generation,
        targets: Targets::Named(targets),
        policy,
        is_shadow,
        unresolved,
        is_surplus: false,
        is_alone,
    }
}

/// Whether a policy is about other objects than Ingresses: Secrets, plans and their subscriptions.
fn names_others<'a>(spec: &AccessPolicySpec, mut rules: impl Iterator<Item = &'a Rule>) -> bool {
    let named = |provider: &JwtProvider| matches!(provider.jwks, Jwks::SecretRef(_));
    let asks = |demand: &Demand| match demand {
        Demand::Address(_) | Demand::Method(_) | Demand::Token(_) => false,
        Demand::Certificate(_) | Demand::Subscription(_) => true,
    };
    spec.jwt_providers.iter().any(named)
        || rules.any(|rule| rule.checks().any(|check| asks(&check.demand)))
}

/// Why a policy cannot be enforced although nothing is wrong with it: it asks for subscriptions, and
/// those of its namespace may not be read. A `deny` rule would never match, and alternatives in
/// `require` would admit fewer than the policy says.
fn unreadable<'a>(
    policy: &ResourceRef,
    rules: impl Iterator<Item = &'a Rule>,
    index: &Index<'_>,
) -> Option<Problem> {
    let (kind, namespace) = (Kind::AccessSubscription, &*policy.namespace);
    if !index.is_unreadable(kind, namespace) {
        return None;
    }
    let mut enforced = rules.filter(|rule| rule.enforcement == Enforcement::Enforce);
    let check = enforced.find_map(|rule| {
        rule.checks().find(|check| matches!(check.demand, Demand::Subscription(_)))
    })?;
    let message = format!("AccessSubscriptions of namespace `{namespace}` may not be read");
    let remedy = format!("{}.", capitalised(&missing_right(kind, namespace)));
    Some(Problem::new(&*check.site.field, message, remedy))
}

/// Whether an alternative cannot be judged, since what its credentials are verified with is missing.
fn is_unknown(alternative: &Alternative) -> bool {
    alternative.checks().iter().any(|check| match &check.demand {
        Demand::Address(_) | Demand::Method(_) => false,
        Demand::Token(token) => token.provider.keys.is_err(),
        Demand::Certificate(certificate) => certificate.authorities.is_err(),
        Demand::Subscription(subscription) => {
            subscription.plans.iter().any(|accepted| accepted.lack.is_some())
        }
    })
}

/// A `deny` rule on the content of a credential is evaded by not sending the credential, unless some
/// requirement asks for one. Tells whether there is one that is evaded.
fn warn_of_evasion(
    resource: &ResourceRef,
    deny: &[Rule],
    require: &[Rule],
    findings: &mut Findings,
) -> bool {
    let on_credential =
        |rule: &Rule| rule.enforcement == Enforcement::Enforce && rule.needs_credential();
    if require.iter().any(on_credential) {
        return false;
    }
    for (index, rule) in deny.iter().enumerate().filter(|(_, rule)| on_credential(rule)) {
        let problem = Problem::new(
            format!("spec.deny[{index}]"),
            format!("`{}` never refuses a caller who leaves the credential out", rule.name),
            "Demand the credential in `require`, too, if callers without it should be refused.",
        );
        findings.add(resource, Reason::PolicyBypassed, Effect::Warns, problem);
    }
    deny.iter().any(on_credential)
}

/// Records what is wrong with a policy; the first of it explains the refusal.
fn record(
    problems: Vec<Problem>,
    is_shadow: bool,
    resource: &ResourceRef,
    findings: &mut Findings,
) -> Option<Problem> {
    let effect = if is_shadow { Effect::Rejects } else { Effect::Closes };
    let first = problems.first().cloned();
    for problem in problems {
        findings.add(resource, Reason::PolicyInvalid, effect, problem);
    }
    first
}

fn refusal(resource: &ResourceRef, problem: &Problem, on_deny: OnDeny) -> Arc<Refusal> {
    let field: FieldRef = problem.field(resource);
    let (message, remedy) = (problem.message.as_str().into(), problem.remedy_of_object());
    let reason = DenialReason::PolicyInvalid { field, problem: message, remedy };
    Arc::new(Refusal { reason, on_deny })
}

fn enforcement(enforcement: crds::Enforcement) -> Enforcement {
    match enforcement {
        crds::Enforcement::Enforce => Enforcement::Enforce,
        crds::Enforcement::Shadow => Enforcement::Shadow,
    }
}

fn on_deny(on_deny: &crds::OnDeny) -> OnDeny {
    let disclosure = match on_deny.disclosure {
        crds::Disclosure::None => Disclosure::None,
        crds::Disclosure::Code => Disclosure::Code,
        crds::Disclosure::Reason => Disclosure::Reason,
    };
    OnDeny { disclosure, hint: on_deny.hint.as_deref().map(Into::into) }
}

/// Names are the explanation of refusals, so each stands for one rule of the policy.
fn names(spec: &crds::AccessPolicySpec, problems: &mut Vec<Problem>) {
    let deny: BTreeSet<_> = spec.deny.iter().map(|rule| rule.name.as_str()).collect();
    let repeated = spec.require.iter().enumerate();
    for (index, rule) in repeated.filter(|(_, rule)| deny.contains(rule.name.as_str())) {
        problems.push(Problem::new(
            format!("spec.require[{index}].name"),
            format!("`{}` is the name of a rule of `deny`, too", rule.name),
            "Give every rule of the policy a name of its own.",
        ));
    }
}

fn targets(references: &[TargetRef], problems: &mut Vec<Problem>) -> Vec<Target> {
    references
        .iter()
        .enumerate()
        .map(|(index, reference)| Target {
            index,
            name: reference.name.clone(),
            narrowing: narrowing(index, reference, problems),
        })
        .collect()
}

/// What a reference narrows to. An entry that has to be worked out may mean something else than
/// its author thinks, so that the policy would silently not apply: it is a problem, and narrows
/// nothing.
fn narrowing(index: usize, reference: &TargetRef, problems: &mut Vec<Problem>) -> Narrowing {
    let before = problems.len();
    let (mut hosts, mut paths) = (Vec::new(), Vec::new());
    for (position, text) in reference.hosts.iter().enumerate() {
        match HostPattern::parse(text) {
            Ok(host) if host != HostPattern::Any => hosts.push(host),
            Ok(_) | Err(_) => problems.push(Problem::new(
                format!("spec.targetRefs[{index}].hosts[{position}]"),
                format!("`{text}` is not a host"),
                "Write a DNS name, or `*.` and a DNS name for exactly one label more.",
            )),
        }
    }
    for (position, text) in reference.paths.iter().enumerate() {
        match path::written(text) {
            Ok(path) => paths.push(path.into()),
            Err(_) => problems.push(Problem::new(
                format!("spec.targetRefs[{index}].paths[{position}]"),
                format!("`{text}` is not a path as requests are compared with"),
                "Write an absolute path without dot segments, empty segments and parameters.",
            )),
        }
    }
    if problems.len() > before {
        return Narrowing::default();
    }
    Narrowing { hosts: hosts.into(), paths: paths.into() }
}

/// Tells what is wrong with a manifest, and closes what it names.
fn undecodable(
    object: &Object,
    resource: ResourceRef,
    generation: Option<i64>,
    errors: Vec<DecodeError>,
    findings: &mut Findings,
) -> Compiled {
    let null = Value::Null;
    let spec = object.value.get("spec").unwrap_or(&null);
    let targets = raw_targets(spec, &errors);
    let is_shadow = is_readable_shadow(spec);
    let remedy = match (&targets, is_shadow) {
        (_, true) => "Correct the field; until then this policy counts nothing.",
        (Targets::Named(_), false) => {
            "Correct the field; the routes of this policy stay closed until then."
        }
        (Targets::Everything, false) => {
            "Correct the field; its targets cannot be read, so every route of the namespace stays closed until then."
        }
    };
    let problems = errors.into_iter().map(|error| Problem::new(error.path, error.message, remedy));
    let problem = record(problems.collect(), is_shadow, &resource, findings);
    let problem = problem.unwrap_or_else(|| Problem::new("spec", "cannot be decoded", remedy));
    closing(resource, generation, spec, targets, &problem)
}

/// The policy of a manifest that is not compiled: it refuses what the raw manifest names.
fn closing(
    resource: ResourceRef,
    generation: Option<i64>,
    spec: &Value,
    targets: Targets,
    problem: &Problem,
) -> Compiled {
    let on_deny = spec.get("onDeny").and_then(|raw| serde_json::from_value(raw.clone()).ok());
    let on_deny = on_deny.map_or_else(OnDeny::default, |raw| self::on_deny(&raw));
    Compiled {
        policy: Err(refusal(&resource, problem, on_deny)),
        resource,
        generation,
        targets,
        is_shadow: is_readable_shadow(spec),
        unresolved: None,
        is_surplus: false,
        is_alone: false,
    }
}

/// Whether the policy says for itself and in every rule that it never blocks.
fn is_readable_shadow(spec: &Value) -> bool {
    let says_shadow =
        |value: &Value| value.get("enforcement").is_none_or(|mode| mode.as_str() == Some("Shadow"));
    let rules = ["deny", "require"].into_iter().filter_map(|list| spec.get(list)?.as_array());
    spec.get("enforcement").and_then(Value::as_str) == Some("Shadow")
        && rules.flatten().all(says_shadow)
}

fn raw_targets(spec: &Value, errors: &[DecodeError]) -> Targets {
    let entries = spec.get("targetRefs").and_then(Value::as_array).map(Vec::as_slice);
    let named: Option<Vec<_>> = entries
        .unwrap_or_default()
        .iter()
        .enumerate()
        .map(|(index, entry)| raw_target(index, entry, errors))
        .collect();
    match named {
        Some(targets) if !targets.is_empty() => Targets::Named(targets),
        Some(_) | None => Targets::Everything,
    }
}

/// The fields of an entry of `targetRefs`.
const TARGET_FIELDS: [&str; 5] = ["group", "kind", "name", "hosts", "paths"];

/// The target of an entry; its narrowing counts only if nothing is wrong with the entry.
fn raw_target(index: usize, entry: &Value, errors: &[DecodeError]) -> Option<Target> {
    let name = entry.get("name")?.as_str().filter(|name| !name.is_empty())?.to_owned();
    let place = format!("spec.targetRefs[{index}]");
    // Nobody has looked for errors in a policy that is not decoded.
    let unknown = |entry: &Map<String, Value>| {
        entry.keys().any(|field| !TARGET_FIELDS.contains(&field.as_str()))
    };
    let faulty = errors.iter().any(|error| error.path.starts_with(&place))
        || entry.as_object().is_none_or(unknown);
    let reference: Option<TargetRef> =
        if faulty { None } else { serde_json::from_value(entry.clone()).ok() };
    let narrowing = reference.map(|reference| narrowing(index, &reference, &mut Vec::new()));
    Some(Target { index, name, narrowing: narrowing.unwrap_or_default() })
}
