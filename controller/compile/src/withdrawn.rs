//! Protection that was taken away while the program ran. Nothing refuses that, but somebody who did
//! not mean it should hear of it.

use std::{collections::BTreeSet, sync::Arc};

use decision::refs::ResourceRef;

use crate::{
    IngressSummary, Protection,
    access_policy::{Compiled, Target, Targets},
    attach::Ingresses,
    finding::{Effect, Findings, Problem, Reason},
    map::{Map, Set},
};

/// What was enforced when, or before, something was last compiled. It knows nothing of the time
/// before the program started.
#[derive(Clone, Debug, Default)]
pub struct Enforced {
    /// Policies that were enforced at some time, as long as they exist.
    policies: Set<ResourceRef>,
    /// The policies that were last enforced on an Ingress.
    held: Map<ResourceRef, Held>,
    /// Those that were enforced on an Ingress at some time and are not any more, as long as the
    /// Ingress exists and nothing took their place; at most [`REMEMBERED`] for each.
    lost: Map<ResourceRef, BTreeSet<ResourceRef>>,
}

/// Policies that are enforced on an Ingress, and whether each names all of its requests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Held(
    /// In the order of their names, each once.
    Vec<(ResourceRef, bool)>,
);

impl Held {
    /// Adds a policy that comes behind those that are there, or is the last of them.
    fn add(&mut self, policy: &ResourceRef, all: bool) {
        match self.0.last_mut() {
            Some((last, names_all)) if last == policy => *names_all |= all,
            Some(_) | None => self.0.push((policy.clone(), all)),
        }
    }

    fn has(&self, policy: &ResourceRef) -> bool {
        self.0.binary_search_by(|(held, _)| held.cmp(policy)).is_ok()
    }

    fn policies(&self) -> impl Iterator<Item = &ResourceRef> {
        self.0.iter().map(|(policy, _)| policy)
    }
}

/// Most lost policies that are remembered for an Ingress: who makes and deletes policies for ever
/// must not fill the memory.
const REMEMBERED: usize = 16;

/// Most policies that a sentence names.
const NAMED: usize = 4;

/// Tells of policies that only count now, and of Ingresses on which one is not enforced any more.
/// `policies` stand in the order of their names.
pub(crate) fn tell(
    before: &Enforced,
    policies: &[Arc<Compiled>],
    ingresses: &Ingresses<'_>,
    summaries: &[IngressSummary],
    findings: &mut Findings,
) -> Enforced {
    let mut now = Enforced::default();
    now.policies.reserve(policies.len());
    now.held.reserve(policies.len());
    let mut closed = BTreeSet::new();
    for policy in policies {
        if !policy.is_shadow {
            now.policies.insert(policy.resource.clone());
            match &policy.targets {
                Targets::Named(targets) => now.enforce(&policy.resource, targets, ingresses),
                Targets::Everything => {
                    closed.insert(&*policy.resource.namespace);
                }
            }
        } else if before.policies.contains(&policy.resource) {
            now.policies.insert(policy.resource.clone());
            findings.add(&policy.resource, Reason::PolicyWithdrawn, Effect::Warns, counts_only());
        }
    }
    for IngressSummary { resource: ingress, protection, .. } in summaries {
        let held = now.held.get(ingress);
        let lost = before.lost(ingress, held);
        if lost.is_empty() {
            continue;
        }
        let problem = match (protection, held) {
            _ if closed.contains(&*ingress.namespace) => None,
            (Protection::Open | Protection::Counted, _) => Some(is_open(&lost)),
            (Protection::Enforced, Some(held)) => Some(is_loosened(&lost, held)),
            (Protection::Enforced, None) | (Protection::Refused, _) => None,
        };
        if let Some(problem) = problem {
            findings.add(ingress, Reason::PolicyWithdrawn, Effect::Warns, problem);
        }
        now.lost.insert(ingress.clone(), lost);
    }
    now
}

impl Enforced {
    fn enforce(&mut self, policy: &ResourceRef, targets: &[Target], ingresses: &Ingresses<'_>) {
        for target in targets {
            let place = (&*policy.namespace, target.name.as_str());
            if let Some(ingress) = ingresses.get(place) {
                let all = target.narrowing.hosts.is_empty() && target.narrowing.paths.is_empty();
                self.held.entry(ingress.resource.clone()).or_default().add(policy, all);
            }
        }
    }

    /// The policies that were enforced on an Ingress and are not among `held`; none if one that was
    /// never enforced on it before names all of it, and so took their place.
    fn lost(&self, ingress: &ResourceRef, held: Option<&Held>) -> BTreeSet<ResourceRef> {
        let (before, lost) = (self.held.get(ingress), self.lost.get(ingress));
        if lost.is_none() && before == held {
            return BTreeSet::new();
        }
        let known = |policy: &ResourceRef| {
            before.is_some_and(|before| before.has(policy))
                || lost.is_some_and(|lost| lost.contains(policy))
        };
        let mut policies = held.into_iter().flat_map(|held| &held.0);
        if policies.any(|(policy, all)| *all && !known(policy)) {
            return BTreeSet::new();
        }
        let before = before.into_iter().flat_map(Held::policies);
        let all = lost.into_iter().flatten().chain(before);
        let gone = all.filter(|policy| held.is_none_or(|held| !held.has(policy)));
        gone.take(REMEMBERED).cloned().collect()
    }
}

fn counts_only() -> Problem {
    Problem::new(
        "spec.enforcement",
        "it was enforced before, and only counts now: it refuses nothing",
        "If that was not meant, set `enforcement: Enforce` on the policy, or on one of its rules.",
    )
}

fn is_open(lost: &BTreeSet<ResourceRef>) -> Problem {
    loss(format!("it is open: {}", gone(lost)))
}

fn is_loosened(lost: &BTreeSet<ResourceRef>, held: &Held) -> Problem {
    let others = named(held.policies(), held.0.len());
    loss(format!("{}; still enforced: {others}", gone(lost)))
}

fn loss(message: String) -> Problem {
    Problem::new(
        "metadata.name",
        message,
        "If that was not meant, apply a policy that names it; `whygate.dev/require-policy` keeps a route closed without one.",
    )
}

fn gone(lost: &BTreeSet<ResourceRef>) -> String {
    let is = if lost.len() == 1 { "is" } else { "are" };
    let names = named(lost.iter(), lost.len());
    format!("{names} protected it, and {is} not enforced on it any more")
}

fn named<'a>(policies: impl Iterator<Item = &'a ResourceRef>, count: usize) -> String {
    let mut names: Vec<_> = policies.take(NAMED).map(ToString::to_string).collect();
    if count > NAMED {
        names.push(format!("{} more", count - NAMED));
    }
    names.join(", ")
}
