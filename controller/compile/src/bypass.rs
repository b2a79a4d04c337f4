//! Ways around a policy: the same Service and port behind a path that no policy covers.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use decision::{
    host::HostPattern,
    path::is_within,
    policy::Narrowing,
    protection::Posture,
    refs::{Kind, ResourceRef},
    route::{Backend, Route, ServicePort},
    uncovered::Uncovered,
};

use crate::{
    access_policy::{Compiled, Target, Targets},
    finding::{Effect, Findings, Problem, Reason},
    ingress::Place,
    map::{Map, Set, with_room},
    places,
};

/// A path that leads to a Service.
#[derive(Debug)]
pub(crate) struct Way<'i> {
    route: Arc<Route>,
    host: &'i HostPattern,
    place: &'i Place<'i>,
}

impl<'i> Way<'i> {
    /// The way through a route, if it leads to a Service.
    pub(crate) fn through(
        route: &Arc<Route>,
        host: &'i HostPattern,
        place: &'i Place<'i>,
    ) -> Option<Self> {
        let leads = matches!(&*route.backend, Backend::Service(..));
        leads.then(|| Self { route: Arc::clone(route), host, place })
    }

    /// Where it leads.
    fn port(&self) -> Option<&ServicePort> {
        match &*self.route.backend {
            Backend::Service(port, _) => Some(port),
            Backend::Missing { .. } => None,
        }
    }

    fn ingress(&self) -> &ResourceRef {
        &self.route.name.field.resource
    }
}

/// Whether requests to a route pass if no policy covers them.
fn is_open(posture: &Posture) -> bool {
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
type Enforced<'a> = Map<(&'a str, &'a str), Vec<(&'a Compiled, &'a Target)>>;

/// How many comparisons of paths with targets a namespace gets: they only serve advice, and hold up
/// the configuration of everybody.
const COMPARED: usize = 250_000;

/// How many Ingresses that lead to a port past the policies of others have a finding of their own:
/// ten thousand that say the same help nobody.
const TOLD: usize = 20;

/// Warns where a backend behind a policy can be reached without one.
pub(crate) fn warn(ways: &[Way<'_>], policies: &[Arc<Compiled>], findings: &mut Findings) {
    let enforced = enforced(policies);
    if enforced.is_empty() {
        return;
    }
    let costly = costly(ways, &enforced);
    for namespace in &costly {
        let namespace = ResourceRef::new(Kind::Namespace, "", *namespace);
        findings.add(&namespace, Reason::PolicyBypassed, Effect::Warns, not_looked_for());
    }
    let ways = || {
        let looked_for = |way: &&Way<'_>| !costly.contains(&*way.ingress().namespace);
        let ways = ways.iter().filter(looked_for);
        ways.filter_map(|way| Some((way, way.port()?)))
    };
    let protected: Set<_> = ways()
        .filter(|(way, _)| {
            targets(&enforced, way).iter().any(|(policy, target)| {
                policy.policy.is_ok() && way.place.overlaps(way.host, &target.narrowing)
            })
        })
        .map(|(_, port)| port)
        .collect();
    let closed = closed(policies);
    if protected.is_empty() {
        return;
    }
    let mut bare = Bare::default();
    let open = ways().filter(|(way, _)| is_open(&way.route.posture));
    for (way, port) in open.filter(|(_, port)| protected.contains(port)) {
        let ingress = way.ingress();
        if closed.contains(&*ingress.namespace) {
            continue;
        }
        let targets = targets(&enforced, way);
        if targets.iter().any(|(_, target)| covers(&target.narrowing, way)) {
            continue;
        }
        match targets.first() {
            None => bare.tell(way, port, findings),
            Some((policy, target)) => {
                let problem = Problem::new(
                    format!("spec.targetRefs[{}]", target.index),
                    format!(
                        "requests to `{}` outside of these hosts and paths reach {port} without any policy",
                        ingress.path()
                    ),
                    "Leave `hosts` and `paths` out if the policy should hold for all of the Ingress.",
                );
                findings.add(&policy.resource, Reason::PolicyBypassed, Effect::Warns, problem);
            }
        }
    }
}

/// Ingresses without a policy that lead to ports behind one.
#[derive(Default)]
struct Bare<'w>(Map<&'w ServicePort, Set<&'w ResourceRef>>);

impl<'w> Bare<'w> {
    /// Tells of the first path to a port of each Ingress, and of [`TOLD`] Ingresses one by one.
    fn tell(&mut self, way: &'w Way<'_>, port: &'w ServicePort, findings: &mut Findings) {
        let ingress = way.ingress();
        let ingresses = self.0.entry(port).or_default();
        if ingresses.len() > TOLD || !ingresses.insert(ingress) {
            return;
        }
        if ingresses.len() > TOLD {
            let namespace = ResourceRef::new(Kind::Namespace, "", &*port.service.namespace);
            let problem = Problem::new(
                "metadata.name",
                format!(
                    "{port} has a policy behind some paths, and none behind those of more than {TOLD} Ingresses"
                ),
                "Name these Ingresses in `targetRefs` of the policy, too, if it should hold there; the oldest of them have a finding of their own.",
            );
            findings.add(&namespace, Reason::PolicyBypassed, Effect::Warns, problem);
            return;
        }
        let problem = Problem::new(
            &*way.route.name.field.path,
            format!("{port} has a policy behind another path, and none behind this one"),
            "Name this Ingress in `targetRefs` of the policy, too, if it should hold here.",
        );
        findings.add(ingress, Reason::PolicyBypassed, Effect::Warns, problem);
    }
}

/// The namespaces in which looking for ways around policies takes too many comparisons.
fn costly<'a>(ways: &'a [Way<'_>], enforced: &Enforced<'_>) -> BTreeSet<&'a str> {
    let steps: Map<_, _> = enforced.iter().map(|(name, all)| (*name, steps(all))).collect();
    let mut namespaces: BTreeMap<&str, usize> = BTreeMap::new();
    for way in ways {
        let name = (&*way.ingress().namespace, &*way.ingress().name);
        let sum = namespaces.entry(name.0).or_default();
        *sum = sum.saturating_add(steps.get(&name).copied().unwrap_or_default());
    }
    namespaces.retain(|_, sum| *sum > COMPARED);
    namespaces.into_keys().collect()
}

/// How many steps it takes to compare a path with all that names its Ingress.
fn steps(targets: &[(&Compiled, &Target)]) -> usize {
    match targets.first() {
        Some((policy, target)) if policy.policy.is_ok() && places::is_empty(&target.narrowing) => 1,
        Some(_) | None => targets
            .iter()
            .map(|(_, target)| places::steps(&target.narrowing))
            .fold(0, usize::saturating_add),
    }
}

fn not_looked_for() -> Problem {
    Problem::new(
        "metadata.name",
        "its policies name too many hosts and paths: nobody looked for ways around them",
        "Name whole Ingresses in `targetRefs`, or fewer hosts and paths.",
    )
}

fn targets<'a>(enforced: &'a Enforced<'a>, way: &'a Way<'_>) -> &'a [(&'a Compiled, &'a Target)] {
    let name = (&*way.ingress().namespace, &*way.ingress().name);
    enforced.get(&name).map(Vec::as_slice).unwrap_or_default()
}

fn enforced(policies: &[Arc<Compiled>]) -> Enforced<'_> {
    let mut enforced: Enforced<'_> = with_room(policies.len());
    for policy in policies.iter().filter(|policy| !policy.is_shadow) {
        if let Targets::Named(targets) = &policy.targets {
            for target in targets {
                let name = (&*policy.resource.namespace, target.name.as_str());
                enforced.entry(name).or_default().push((policy, target));
            }
        }
    }
    // A target that every request matches ends the search, so it stands first.
    for targets in enforced.values_mut() {
        targets.sort_by_key(|(policy, target)| {
            (!places::is_empty(&target.narrowing), policy.policy.is_err())
        });
    }
    enforced
}

/// Namespaces that a policy closes whose targets cannot be read.
fn closed(policies: &[Arc<Compiled>]) -> Set<&str> {
    let policies = policies.iter().filter(|policy| !policy.is_shadow);
    let everywhere = policies.filter(|policy| matches!(policy.targets, Targets::Everything));
    everywhere.map(|policy| &*policy.resource.namespace).collect()
}

/// Whether a narrowing holds every request to a path.
fn covers(narrowing: &Narrowing, way: &Way<'_>) -> bool {
    let holds = |pattern: &HostPattern| match (pattern, way.host) {
        (HostPattern::Wildcard(_), HostPattern::Exact(host)) => pattern.matches(host),
        (one, other) => one == other,
    };
    let Narrowing { hosts, paths } = narrowing;
    (hosts.is_empty() || hosts.iter().any(holds))
        && (paths.is_empty() || paths.iter().any(|path| is_within(&way.place.path, path)))
}
