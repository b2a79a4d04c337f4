//! Statuses as they should be: what became of each policy, plan and subscription.

use std::{collections::BTreeMap, sync::Arc};

use decision::{
    denial::DenialReason,
    escape::printable,
    host::HostPattern,
    policy::{Narrowing, Refusal},
    refs::ResourceRef,
    subscription::State,
    time::Timestamp,
};

use crate::{
    access_policy::{self, Targets},
    attach::Ingresses,
    map::Map,
    places::Ours,
    plan::Plans,
    subscription,
};

/// How many paths are compared with targets to count what the policies of a namespace reach.
const COMPARED: usize = 250_000;

/// The desired status of one object. The writer adds times, and `Programmed` for policies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Which object.
    pub resource: ResourceRef,
    /// The `metadata.generation` that was judged; none in files.
    pub generation: Option<i64>,
    /// The conditions, in a fixed order. See [`Status::conditions_at`] for what time changes.
    pub conditions: Vec<Condition>,
    /// What is particular to the kind.
    pub details: Details,
}

/// One condition, as far as it does not depend on when it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// `Accepted`, `ResolvedRefs` or `Active`.
    pub type_: &'static str,
    /// `True` or `False`.
    pub status: bool,
    /// One word in upper camel case.
    pub reason: &'static str,
    /// One sentence for the reader of `kubectl describe`.
    pub message: String,
}

/// What is particular to a kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Details {
    /// Of an `AccessPolicy`.
    Policy(PolicyStatus),
    /// Of an `AccessPlan`.
    Plan(PlanStatus),
    /// Of an `AccessSubscription`.
    Subscription(SubscriptionStatus),
}

/// How far a policy reaches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PolicyStatus {
    /// Ingresses that exist, are ours and are named by the policy.
    pub matched: u32,
    /// Different hosts among the routes that the policy applies to; 0 if they are not counted, as
    /// [`PolicyStatus::paths`].
    pub hosts: u32,
    /// Paths among the routes that the policy applies to; 0 if they are not counted, because the
    /// policies of the namespace name so many that it would take very many comparisons.
    pub paths: u32,
    /// Whether the policy may be another controller's, too: it names an Ingress that does not exist
    /// or is not ours, or its targets cannot be read.
    pub names_others: bool,
}

/// The subscriptions of a plan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlanStatus {
    /// Subscriptions that count and never expire.
    pub unlimited: u32,
    /// When those end that count until then.
    pub expires: Vec<Timestamp>,
}

impl PlanStatus {
    /// How many subscriptions count at a time.
    pub fn active_at(&self, now: Timestamp) -> u32 {
        let running = self.expires.iter().filter(|expires| **expires > now).count();
        self.unlimited.saturating_add(count(running))
    }
}

/// Whether a subscription counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscriptionStatus {
    /// As far as the manifests tell: expiry is a question of time.
    pub state: State,
}

impl SubscriptionStatus {
    /// When the subscription ends, if it counts at all and ends.
    pub fn expires(&self) -> Option<Timestamp> {
        match self.state {
            State::Active { expires } => expires,
            State::Suspended | State::Invalid(_) => None,
        }
    }

    /// The state at a time, in the words of the API.
    pub fn state_at(&self, now: Timestamp) -> crds::SubscriptionState {
        match self.state {
            State::Active { expires: Some(expires) } if expires <= now => {
                crds::SubscriptionState::Expired
            }
            State::Active { .. } => crds::SubscriptionState::Active,
            State::Suspended => crds::SubscriptionState::Suspended,
            State::Invalid(_) => crds::SubscriptionState::Invalid,
        }
    }
}

impl Status {
    /// The conditions at a time: an active subscription is expired from its `expiresAt` on.
    pub fn conditions_at(&self, now: Timestamp) -> Vec<Condition> {
        let Details::Subscription(subscription) = &self.details else {
            return self.conditions.clone();
        };
        if subscription.state_at(now) != crds::SubscriptionState::Expired {
            return self.conditions.clone();
        }
        vec![condition("Active", false, "Expired", "`spec.expiresAt` has passed")]
    }
}

fn condition(
    type_: &'static str,
    status: bool,
    reason: &'static str,
    message: impl AsRef<str>,
) -> Condition {
    Condition { type_, status, reason, message: printable(message.as_ref()).to_string() }
}

fn ingresses_of(matched: u32) -> String {
    if matched == 1 { "1 Ingress".to_owned() } else { format!("{matched} Ingresses") }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// The status of every policy, plan and subscription, in the order of their names.
pub(crate) fn statuses(
    policies: &[Arc<access_policy::Compiled>],
    ingresses: &Ingresses<'_>,
    not_ours: impl Fn((&str, &str)) -> (String, String),
    plans: &Plans,
    subscriptions: &[subscription::Compiled],
) -> Vec<Status> {
    let mut left: Map<&str, usize> = Map::default();
    let policies = policies.iter().map(|policy| match &policy.policy {
        Err(refusal) if policy.is_surplus => of_surplus(policy, refusal),
        _ => {
            let left = left.entry(&policy.resource.namespace).or_insert(COMPARED);
            of_policy(policy, reach(policy, ingresses, left), ingresses, &not_ours)
        }
    });
    let mut statuses: Vec<_> = policies
        .chain(of_plans(plans, subscriptions))
        .chain(subscriptions.iter().map(of_subscription))
        .collect();
    statuses.sort_by(|one, two| one.resource.cmp(&two.resource));
    statuses
}

fn of_policy(
    policy: &access_policy::Compiled,
    reach: PolicyStatus,
    ingresses: &Ingresses<'_>,
    not_ours: &impl Fn((&str, &str)) -> (String, String),
) -> Status {
    let accepted = match &policy.policy {
        Err(refusal) => refused(refusal),
        Ok(_) if reach.matched == 0 => {
            let message =
                "no Ingress that the policy names exists and is of this controller's class";
            condition("Accepted", false, "TargetNotFound", message)
        }
        Ok(_) if policy.is_shadow => {
            let message = format!("counts what it would refuse at {}", ingresses_of(reach.matched));
            condition("Accepted", true, "Accepted", message)
        }
        Ok(_) => {
            let message = format!("applies to {}", ingresses_of(reach.matched));
            condition("Accepted", true, "Accepted", message)
        }
    };
    let resolved = match (&policy.unresolved, unresolved_target(policy, ingresses, not_ours)) {
        (Some(problem), _) => condition("ResolvedRefs", false, "RefNotFound", problem),
        (None, Some(unresolved)) => unresolved,
        (None, None) => {
            let message = "every Ingress, Secret and plan that the policy names is there";
            condition("ResolvedRefs", true, "ResolvedRefs", message)
        }
    };
    Status {
        resource: policy.resource.clone(),
        generation: policy.generation,
        conditions: vec![accepted, resolved],
        details: Details::Policy(reach),
    }
}

/// Says no more than why: to count what a policy reaches costs as much as all paths that it names.
fn of_surplus(policy: &access_policy::Compiled, refusal: &Refusal) -> Status {
    Status {
        resource: policy.resource.clone(),
        generation: policy.generation,
        conditions: vec![refused(refusal)],
        details: Details::Policy(PolicyStatus::default()),
    }
}

fn refused(refusal: &Refusal) -> Condition {
    let unenforceable = matches!(refusal.reason, DenialReason::PolicyUnenforceable { .. });
    let reason = if unenforceable { "Unenforceable" } else { "Invalid" };
    condition("Accepted", false, reason, problem(&refusal.reason))
}

/// The first entry of `targetRefs` that names no Ingress, or no request of the one that it names.
fn unresolved_target(
    policy: &access_policy::Compiled,
    ingresses: &Ingresses<'_>,
    not_ours: &impl Fn((&str, &str)) -> (String, String),
) -> Option<Condition> {
    let Targets::Named(targets) = &policy.targets else { return None };
    targets.iter().find_map(|target| {
        let name = (&*policy.resource.namespace, &*target.name);
        let (reason, message) = match ingresses.get(name) {
            Some(ingress) if ingress.overlaps(&target.narrowing) => return None,
            Some(_) if policy.is_shadow => (
                "TargetUnmatched",
                "no request to this Ingress has these hosts and paths".to_owned(),
            ),
            Some(_) => (
                "TargetUnmatched",
                "no request to this Ingress has these hosts and paths, so the Ingress is closed"
                    .to_owned(),
            ),
            None => ("TargetNotFound", not_ours(name).0),
        };
        let message = format!("spec.targetRefs[{}]: {message}", target.index);
        Some(condition("ResolvedRefs", false, reason, message))
    })
}

fn problem(reason: &DenialReason) -> String {
    if let DenialReason::PolicyInvalid { field, problem, .. }
    | DenialReason::PolicyUnenforceable { field, problem, .. } = reason
    {
        return format!("{}: {problem}", field.path);
    }
    reason.code().as_str().to_owned()
}

/// How far a policy reaches; `left` is how many comparisons there are left for its namespace.
fn reach(
    policy: &access_policy::Compiled,
    ingresses: &Ingresses<'_>,
    left: &mut usize,
) -> PolicyStatus {
    let namespace = &*policy.resource.namespace;
    let whole = Narrowing::default();
    let reached = reached(policy, ingresses, &whole);
    let (matched, names_others) = match &policy.targets {
        Targets::Everything => (reached.len(), true),
        Targets::Named(targets) => {
            let mut names: Vec<_> =
                targets.iter().map(|target| (namespace, &*target.name)).collect();
            names.sort_unstable();
            names.dedup();
            let matched = names.iter().filter(|name| ingresses.has(**name)).count();
            (matched, matched < names.len())
        }
    };
    let matched = count(matched);
    let steps = reached.iter().map(|(ingress, narrowing)| ingress.steps(narrowing));
    let steps = steps.fold(0, usize::saturating_add);
    let Some(rest) = left.checked_sub(steps) else {
        return PolicyStatus { matched, names_others, ..PolicyStatus::default() };
    };
    *left = rest;
    let mut places: Vec<(&HostPattern, &str)> = Vec::new();
    for (ingress, narrowing) in reached {
        let reached = ingress.places().filter(|(host, place)| place.overlaps(host, narrowing));
        places.extend(reached.map(|(host, place)| (host, &*place.path)));
    }
    places.sort_unstable();
    places.dedup();
    let hosts = places.chunk_by(|(one, _), (two, _)| one == two).count();
    let (hosts, paths) = (count(hosts), count(places.len()));
    PolicyStatus { matched, hosts, paths, names_others }
}

/// The Ingresses that a policy names, each entry of `targetRefs` with its narrowing; all of
/// them, `whole`, if its targets cannot be read.
fn reached<'p>(
    policy: &'p access_policy::Compiled,
    ingresses: &'p Ingresses<'_>,
    whole: &'p Narrowing,
) -> Vec<(&'p Ours<'p>, &'p Narrowing)> {
    let namespace = &*policy.resource.namespace;
    match &policy.targets {
        Targets::Everything => ingresses.of(namespace).map(|ingress| (ingress, whole)).collect(),
        Targets::Named(targets) => {
            let named = targets.iter().filter_map(|target| {
                Some((ingresses.get((namespace, &*target.name))?, &target.narrowing))
            });
            named.collect()
        }
    }
}

fn of_plans(plans: &Plans, subscriptions: &[subscription::Compiled]) -> Vec<Status> {
    let mut active: BTreeMap<&ResourceRef, PlanStatus> = BTreeMap::new();
    for compiled in subscriptions {
        if let State::Active { expires } = compiled.subscription.state {
            let plan = active.entry(&compiled.subscription.plan).or_default();
            match expires {
                Some(expires) => plan.expires.push(expires),
                None => plan.unlimited = plan.unlimited.saturating_add(1),
            }
        }
    }
    for plan in active.values_mut() {
        plan.expires.sort();
    }
    let statuses = plans.iter().map(|(resource, plan)| {
        let accepted = match &plan.offer {
            Ok(_) => condition("Accepted", true, "Accepted", "can be subscribed to"),
            Err(problem) => condition("Accepted", false, "Invalid", problem),
        };
        Status {
            resource: resource.clone(),
            generation: plan.generation,
            conditions: vec![accepted],
            details: Details::Plan(active.get(resource).cloned().unwrap_or_default()),
        }
    });
    statuses.collect()
}

fn of_subscription(compiled: &subscription::Compiled) -> Status {
    let state = compiled.subscription.state.clone();
    let active = match &state {
        State::Active { .. } => {
            let message = format!("{} admits its keys", compiled.subscription.plan);
            condition("Active", true, "Active", message)
        }
        State::Suspended => condition("Active", false, "Suspended", "`spec.suspend` is set"),
        State::Invalid(lack) => condition("Active", false, "Invalid", &lack.problem),
    };
    Status {
        resource: compiled.subscription.resource.clone(),
        generation: compiled.generation,
        conditions: vec![active],
        details: Details::Subscription(SubscriptionStatus { state }),
    }
}
