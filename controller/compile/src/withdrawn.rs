//! Protection that was taken away while the program ran. Nothing refuses that, but somebody who did
//! not mean it should hear of it.

use std::collections::{BTreeMap, BTreeSet};

use decision::refs::ResourceRef;

use crate::{
    IngressSummary, Protection,
    access_policy::{Compiled, Targets},
    attach::Ingresses,
    finding::{Effect, Findings, Problem, Reason},
};

/// What was enforced when, or before, something was last compiled. It knows nothing of the time
/// before the program started.
#[derive(Clone, Debug, Default)]
pub struct Enforced {
    /// Policies that were enforced at some time, as long as they exist.
    policies: BTreeSet<ResourceRef>,
    /// The policies that were last enforced on an Ingress, as long as that exists.
    ingresses: BTreeMap<ResourceRef, BTreeSet<ResourceRef>>,
}

/// Most policies that a sentence names.
const NAMED: usize = 4;

/// Tells of policies that only count now, and of Ingresses that are open and were not.
pub(crate) fn tell(
    before: &Enforced,
    policies: &[Compiled],
    ingresses: &Ingresses<'_>,
    summaries: &[IngressSummary],
    findings: &mut Findings,
) -> Enforced {
    let mut now = Enforced::default();
    for policy in policies {
        if !policy.is_shadow {
            now.policies.insert(policy.resource.clone());
            now.enforce(policy, ingresses);
        } else if before.policies.contains(&policy.resource) {
            now.policies.insert(policy.resource.clone());
            findings.add(&policy.resource, Reason::PolicyWithdrawn, Effect::Warns, counts_only());
        }
    }
    for IngressSummary { resource: ingress, protection, .. } in summaries {
        let (None, Some(lost)) = (now.ingresses.get(ingress), before.ingresses.get(ingress)) else {
            continue;
        };
        now.ingresses.insert(ingress.clone(), lost.clone());
        match protection {
            Protection::Open | Protection::Counted => {
                findings.add(ingress, Reason::PolicyWithdrawn, Effect::Warns, is_open(lost));
            }
            Protection::Enforced | Protection::Refused => {}
        }
    }
    now
}

impl Enforced {
    fn enforce(&mut self, policy: &Compiled, ingresses: &Ingresses<'_>) {
        let Targets::Named(targets) = &policy.targets else { return };
        for target in targets {
            let place = (&*policy.resource.namespace, target.name.as_str());
            if let Some(ingress) = ingresses.get(&place) {
                let policies = self.ingresses.entry(ingress.resource.clone()).or_default();
                policies.insert(policy.resource.clone());
            }
        }
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
    let mut names: Vec<_> = lost.iter().take(NAMED).map(ToString::to_string).collect();
    if lost.len() > NAMED {
        names.push(format!("{} more", lost.len() - NAMED));
    }
    let (names, is) = (names.join(", "), if lost.len() == 1 { "is" } else { "are" });
    Problem::new(
        "metadata.name",
        format!("it is open: {names} protected it, and {is} not enforced on it any more"),
        "If that was not meant, apply a policy that names it; `whygate.dev/require-policy` keeps a route closed without one.",
    )
}
