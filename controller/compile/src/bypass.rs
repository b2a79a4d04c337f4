//! Ways around a policy: the same Service and port behind a path that no policy covers.

use std::collections::{HashMap, HashSet};

use decision::{
    host::HostPattern, path::is_within, policy::Narrowing, protection::Posture, refs::ResourceRef,
    route::ServicePort, uncovered::Uncovered,
};

use crate::{
    access_policy::{Compiled, Target, Targets},
    finding::{Effect, Findings, Problem, Reason},
    ingress::Place,
};

/// A path that leads to a Service.
#[derive(Debug)]
pub(crate) struct Way {
    pub(crate) port: ServicePort,
    pub(crate) ingress: ResourceRef,
    pub(crate) field: String,
    pub(crate) host: HostPattern,
    pub(crate) place: Place,
    /// Whether requests pass that no policy covers.
    pub(crate) is_open: bool,
}

/// Whether requests to a route pass if no policy covers them.
pub(crate) fn is_open(posture: &Posture) -> bool {
    match posture {
        Posture::Open(_) => true,
        Posture::Refuse(_) => false,
        Posture::Enforce(protection) => {
            matches!(protection.uncovered(), Uncovered::Open(_)) && protection.required().is_empty()
        }
    }
}

/// Enforced policies by what they name; those that are not accepted as well, because nothing passes
/// them.
type Enforced<'a> = HashMap<(&'a str, &'a str), Vec<(&'a Compiled, &'a Target)>>;

/// Warns where a backend behind a policy can be reached without one.
pub(crate) fn warn(ways: &[Way], policies: &[Compiled], findings: &mut Findings) {
    let enforced = enforced(policies);
    let protected: HashSet<_> = ways
        .iter()
        .filter(|way| {
            targets(&enforced, way).iter().any(|(policy, target)| {
                policy.policy.is_ok() && way.place.overlaps(&way.host, &target.narrowing)
            })
        })
        .map(|way| &way.port)
        .collect();
    let closed = closed(policies);
    for way in ways.iter().filter(|way| way.is_open && protected.contains(&way.port)) {
        if closed.contains(&*way.ingress.namespace) {
            continue;
        }
        let targets = targets(&enforced, way);
        if targets.iter().any(|(_, target)| covers(&target.narrowing, way)) {
            continue;
        }
        match targets.first() {
            None => {
                let problem = Problem::new(
                    way.field.as_str(),
                    format!(
                        "{} has a policy behind another path, and none behind this one",
                        way.port
                    ),
                    "Name this Ingress in `targetRefs` of the policy, too, if it should hold here.",
                );
                findings.add(&way.ingress, Reason::PolicyBypassed, Effect::Warns, problem);
            }
            Some((policy, target)) => {
                let problem = Problem::new(
                    format!("spec.targetRefs[{}]", target.index),
                    format!(
                        "requests to `{}` outside of these hosts and paths reach {} without any policy",
                        way.ingress.path(),
                        way.port
                    ),
                    "Leave `hosts` and `paths` out if the policy should hold for all of the Ingress.",
                );
                findings.add(&policy.resource, Reason::PolicyBypassed, Effect::Warns, problem);
            }
        }
    }
}

fn targets<'a>(enforced: &'a Enforced<'a>, way: &'a Way) -> &'a [(&'a Compiled, &'a Target)] {
    let name = (&*way.ingress.namespace, &*way.ingress.name);
    enforced.get(&name).map(Vec::as_slice).unwrap_or_default()
}

fn enforced(policies: &[Compiled]) -> Enforced<'_> {
    let mut enforced = Enforced::new();
    for policy in policies.iter().filter(|policy| !policy.is_shadow) {
        if let Targets::Named(targets) = &policy.targets {
            for target in targets {
                let name = (&*policy.resource.namespace, target.name.as_str());
                enforced.entry(name).or_default().push((policy, target));
            }
        }
    }
    enforced
}

/// Namespaces that a policy closes whose targets cannot be read.
fn closed(policies: &[Compiled]) -> HashSet<&str> {
    let policies = policies.iter().filter(|policy| !policy.is_shadow);
    let everywhere = policies.filter(|policy| matches!(policy.targets, Targets::Everything));
    everywhere.map(|policy| &*policy.resource.namespace).collect()
}

/// Whether a narrowing holds every request to a path.
fn covers(narrowing: &Narrowing, way: &Way) -> bool {
    let holds = |pattern: &HostPattern| match (pattern, &way.host) {
        (HostPattern::Wildcard(_), HostPattern::Exact(host)) => pattern.matches(host),
        (one, other) => one == other,
    };
    let Narrowing { hosts, paths } = narrowing;
    (hosts.is_empty() || hosts.iter().any(holds))
        && (paths.is_empty() || paths.iter().any(|path| is_within(&way.place.path, path)))
}
