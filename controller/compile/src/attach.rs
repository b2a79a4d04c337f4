//! Which policies apply to which Ingresses, and how an Ingress answers because of that.

use std::sync::Arc;

use decision::{
    check::Demand,
    denial::DenialReason,
    lack::Lack,
    policy::{Attachment, Narrowing, Rule},
    protection::{Posture, Protection, Required},
    refs::{FieldRef, Kind, ResourceRef},
    uncovered::Uncovered,
};

use crate::{
    access_policy::{Compiled, Target, Targets},
    annotation::{REQUIRE_POLICY, invalid_route, unenforceable},
    finding::{Effect, Findings, Problem, Reason, capitalised},
    index::{Index, missing_right},
    ingress::Selected,
    map::{Map, Set, with_room},
    metadata::annotation_path,
    places::{self, Ours},
    posture::{Postures, unknown_namespace},
};

/// How many checks, those of certificates by their names, and hosts and paths of narrowings, the policies of an Ingress may have together.
const MOST_STEPS: usize = 8_192;

/// Namespace and name of an Ingress or a policy.
type Name<'a> = (&'a str, &'a str);

/// Policies by what they apply to.
#[derive(Default)]
pub(crate) struct Attached<'a> {
    by_ingress: Map<Name<'a>, Vec<Attachment>>,
    /// Refusals of a whole namespace: at most [`MOST`], the strictest among them.
    by_namespace: Map<&'a str, Vec<Attachment>>,
    /// How many steps it takes to judge a request by what is attached to an Ingress.
    steps: Map<Name<'a>, usize>,
    /// Ingresses that are closed by policies beyond the bounds.
    crowded: Set<Name<'a>>,
    /// How many policies that only count are left out at an Ingress.
    left_out: Map<Name<'a>, usize>,
    /// Ingresses that are closed by an entry of `targetRefs` that matches none of their requests.
    impossible: Map<Name<'a>, DenialReason>,
    policies: Map<Name<'a>, &'a Compiled>,
}

/// The Ingresses of ours by name.
pub(crate) struct Ingresses<'a> {
    by_name: Map<Name<'a>, Ours<'a>>,
    /// Their names.
    of_namespace: Map<&'a str, Vec<&'a str>>,
}

impl<'a> Ingresses<'a> {
    pub(crate) fn new(ingresses: &'a [Selected<'a>]) -> Self {
        let named = ingresses.iter().map(|one| (name(&one.resource), Ours::new(one)));
        let by_name: Map<_, _> = named.collect();
        let mut of_namespace: Map<_, Vec<_>> = Map::default();
        for (namespace, name) in by_name.keys() {
            of_namespace.entry(*namespace).or_default().push(*name);
        }
        Self { by_name, of_namespace }
    }

    pub(crate) fn get<'s>(&'s self, name: Name<'s>) -> Option<&'s Ours<'s>> {
        self.by_name.get(&name)
    }

    pub(crate) fn has(&self, name: Name<'_>) -> bool {
        self.by_name.contains_key(&name)
    }

    /// All of a namespace, in no order.
    pub(crate) fn of<'s>(&'s self, namespace: &'s str) -> impl Iterator<Item = &'s Ours<'s>> {
        let names = self.of_namespace.get(namespace).into_iter().flatten();
        names.filter_map(move |name| self.get((namespace, name)))
    }
}

/// How many policies may name an Ingress: each of them costs every one of its requests. More that
/// are enforced close it; more that only count are left out.
const MOST: usize = 64;

fn name(resource: &ResourceRef) -> Name<'_> {
    (&resource.namespace, &resource.name)
}

/// Attaches every policy to what it names. `policies` stand in the order of their names. `not_ours`
/// tells what is wrong with a target that is none, `is_elsewhere` whether it is another controller's
/// on purpose.
pub(crate) fn attach<'a>(
    policies: &'a [Arc<Compiled>],
    ingresses: &Ingresses<'a>,
    not_ours: impl Fn(Name<'_>) -> (String, String),
    is_elsewhere: impl Fn(Name<'_>) -> bool,
    findings: &mut Findings,
) -> Attached<'a> {
    let count = policies.len();
    let mut attached = Attached {
        by_ingress: with_room(count),
        steps: with_room(count),
        policies: with_room(count),
        ..Attached::default()
    };
    let (shadow, enforced): (Vec<_>, Vec<_>) = policies.iter().partition(|policy| policy.is_shadow);
    // What is enforced takes its places first.
    for policy in enforced.into_iter().chain(shadow) {
        attached.policies.insert(name(&policy.resource), policy);
        match &policy.targets {
            Targets::Named(targets) => {
                missing(policy, targets, ingresses, &not_ours, &is_elsewhere, findings);
                attached.add(policy, targets, ingresses, findings);
            }
            Targets::Everything => attached.add_everywhere(policy),
        }
    }
    attached
}

impl<'a> Attached<'a> {
    fn add(
        &mut self,
        policy: &'a Compiled,
        targets: &'a [Target],
        ingresses: &Ingresses<'a>,
        findings: &mut Findings,
    ) {
        // Stable: the entries for an Ingress stay in their order.
        let mut targets: Vec<&Target> = targets.iter().collect();
        targets.sort_by_key(|target| target.name.as_str());
        for targets in targets.chunk_by(|one, two| one.name == two.name) {
            let Some(first) = targets.first() else { continue };
            let place = (&*policy.resource.namespace, first.name.as_str());
            match ingresses.get(place) {
                None => {}
                Some(_) if self.is_full(place, policy, targets) => self.add_surplus(policy, place),
                Some(ingress) => self.add_to(ingress, place, policy, targets, findings),
            }
        }
    }

    /// Whether there is no room for a policy at an Ingress; if there is, it is taken.
    fn is_full(&mut self, place: Name<'a>, policy: &Compiled, targets: &[&Target]) -> bool {
        let count = self.by_ingress.get(&place).map_or(0, Vec::len);
        let taken = self.steps.entry(place).or_default();
        let steps = taken.saturating_add(steps(policy, targets));
        let is_full = count >= MOST || steps > MOST_STEPS;
        if !is_full {
            *taken = steps;
        }
        is_full
    }

    /// Nobody looks at the narrowings of a surplus: what is enforced closes all of the Ingress.
    fn add_surplus(&mut self, policy: &Compiled, place: Name<'a>) {
        if policy.is_shadow {
            *self.left_out.entry(place).or_default() += 1;
        } else {
            self.crowded.insert(place);
            self.push(policy, place, Vec::new());
        }
    }

    fn add_to(
        &mut self,
        ingress: &Ours<'_>,
        place: Name<'a>,
        policy: &Compiled,
        targets: &[&Target],
        findings: &mut Findings,
    ) {
        let overlaps = |target: &&Target| ingress.overlaps(&target.narrowing);
        let (possible, impossible): (Vec<&Target>, Vec<_>) =
            targets.iter().copied().partition(overlaps);
        for target in &impossible {
            self.refuse(policy, target, place, findings);
        }
        // A policy that only counts is never in the way, not even when it is invalid.
        if policy.is_shadow && (policy.policy.is_err() || possible.is_empty()) {
            return;
        }
        let narrowings = if policy.is_shadow || impossible.is_empty() {
            possible.into_iter().map(|target| target.narrowing.clone()).collect()
        } else {
            // Attached to all of the closed Ingress, so that its disclosure counts.
            Vec::new()
        };
        self.push(policy, place, narrowings);
    }

    fn push(&mut self, policy: &Compiled, place: Name<'a>, narrowings: Vec<Narrowing>) {
        let attachment =
            Attachment { narrowings: narrowings.into(), policy: policy.policy.clone() };
        self.by_ingress.entry(place).or_default().push(attachment);
    }

    fn add_everywhere(&mut self, policy: &'a Compiled) {
        if policy.is_shadow {
            return;
        }
        let attachment = Attachment { narrowings: Box::new([]), policy: policy.policy.clone() };
        let all = self.by_namespace.entry(&policy.resource.namespace).or_default();
        if all.len() < MOST {
            all.push(attachment);
        } else if let Some(last) = all.last_mut()
            && attachment.on_deny().disclosure < last.on_deny().disclosure
        {
            // Each of them refuses everything; beyond the bound only how much is told counts.
            *last = attachment;
        }
    }

    fn refuse(
        &mut self,
        policy: &Compiled,
        target: &Target,
        place: Name<'a>,
        findings: &mut Findings,
    ) {
        let problem = Problem::new(
            format!("spec.targetRefs[{}]", target.index),
            format!("no request to Ingress `{}` has these hosts and paths", target.name),
            "Name hosts and paths that the Ingress serves, or leave both out; the Ingress stays closed until then.",
        );
        let effect = if policy.is_shadow { Effect::Rejects } else { Effect::Closes };
        if !policy.is_shadow {
            let field = problem.field(&policy.resource);
            let problem = problem.message.as_str().into();
            let reason = DenialReason::PolicyInvalid { field, problem, remedy: None };
            self.impossible.entry(place).or_insert(reason);
        }
        findings.add(&policy.resource, Reason::PolicyInvalid, effect, problem);
    }

    /// How an Ingress answers, paths of its own that are invalid left aside.
    pub(crate) fn posture(
        &self,
        ingress: &Selected<'_>,
        index: &Index<'_>,
        postures: &Postures,
        findings: &mut Findings,
    ) -> Posture {
        let of_ingress = self.by_ingress.get(&name(&ingress.resource)).into_iter().flatten();
        let of_namespace = self.by_namespace.get(ingress.namespace()).into_iter().flatten();
        let attachments = of_ingress.chain(of_namespace);
        if let Some(reason) = self.closed(ingress, index, findings) {
            return Posture::refusing(reason, attachments);
        }
        self.tell_left_out(ingress, findings);
        let attachments: Vec<_> = attachments.cloned().collect();
        let required = self.required(ingress, findings);
        match postures.of(ingress.class, ingress.namespace()) {
            Uncovered::Open(by) if attachments.is_empty() && required.is_empty() => {
                Posture::Open(by)
            }
            uncovered @ (Uncovered::Open(_) | Uncovered::Closed(_)) => {
                Posture::Enforce(Protection::new(attachments, required, uncovered).into())
            }
        }
    }

    /// Why the whole Ingress is closed.
    fn closed(
        &self,
        ingress: &Selected<'_>,
        index: &Index<'_>,
        findings: &mut Findings,
    ) -> Option<DenialReason> {
        let (resource, namespace) = (&ingress.resource, ingress.namespace());
        if let Some(problem) = ingress.problem.clone() {
            return Some(invalid_route(resource, problem, findings));
        }
        if let Some(problem) = unknown_namespace(index, namespace) {
            return Some(invalid_route(resource, problem, findings));
        }
        if let Some(reason) = &ingress.annotations.refusal {
            return Some(reason.clone());
        }
        if index.is_unreadable(Kind::AccessPolicy, namespace) {
            let problem = Problem::new(
                "metadata.namespace",
                format!("AccessPolicies of namespace `{namespace}` may not be read"),
                format!("{}.", capitalised(&missing_right(Kind::AccessPolicy, namespace))),
            );
            return Some(unenforceable(resource, problem, findings));
        }
        if let Some(place) = index.lost(namespace) {
            let problem = Problem::new(
                "metadata.namespace",
                format!(
                    "the manifest at {place} cannot be read and may hold a policy or the posture of namespace `{namespace}`"
                ),
                "Correct the manifest; the routes of the namespace stay closed until then.",
            );
            return Some(unenforceable(resource, problem, findings));
        }
        if self.crowded.contains(&name(resource)) {
            let count = self.by_ingress.get(&name(resource)).map_or(0, Vec::len);
            return Some(invalid_route(resource, crowded(count), findings));
        }
        self.impossible.get(&name(resource)).cloned()
    }

    fn tell_left_out(&self, ingress: &Selected<'_>, findings: &mut Findings) {
        let Some(count) = self.left_out.get(&name(&ingress.resource)) else { return };
        let problem = Problem::new(
            "metadata.name",
            format!(
                "too many policies name it in their `targetRefs`; {count} of those that only count are left out"
            ),
            "Put their rules into fewer policies, or shorten them.",
        );
        findings.add(&ingress.resource, Reason::PolicyInvalid, Effect::Rejects, problem);
    }

    /// The policies that the Ingress demands, and what keeps each from covering it.
    fn required(&self, ingress: &Selected<'_>, findings: &mut Findings) -> Vec<Required> {
        let path = annotation_path(REQUIRE_POLICY);
        let required = ingress.annotations.required.iter().map(|wanted| {
            let namespace = Arc::clone(&ingress.resource.namespace);
            let policy = ResourceRef::new(Kind::AccessPolicy, namespace, wanted.as_str());
            let problem = self.obstacle(&policy, ingress);
            if let Some((problem, remedy)) = &problem {
                let problem = Problem::new(path.as_str(), format!("{policy}: {problem}"), *remedy);
                findings.add(&ingress.resource, Reason::PolicyMissing, Effect::Closes, problem);
            }
            let (problem, remedy) = problem.unwrap_or((
                "it does not cover this request",
                "Let its `targetRefs` cover the request's host and path, and enforce one of its rules.",
            ));
            let field = FieldRef::new(ingress.resource.clone(), path.as_str());
            let lack = Arc::new(Lack { problem: problem.into(), remedy: remedy.into() });
            Required { policy, field, lack }
        });
        required.collect()
    }

    /// Why a policy covers no request of an Ingress, and what to do.
    fn obstacle(
        &self,
        policy: &ResourceRef,
        ingress: &Selected<'_>,
    ) -> Option<(&'static str, &'static str)> {
        let Some(compiled) = self.policies.get(&name(policy)) else {
            return Some(("it does not exist", "Apply it, or correct the name."));
        };
        if compiled.policy.is_err() {
            return Some(("it is not accepted", "Correct the policy."));
        }
        let names_ingress = match &compiled.targets {
            Targets::Everything => true,
            Targets::Named(targets) => {
                targets.iter().any(|target| *target.name == *ingress.resource.name)
            }
        };
        if !names_ingress {
            return Some(("it does not name this Ingress", "Add the Ingress to its `targetRefs`."));
        }
        compiled
            .is_shadow
            .then_some(("it only counts, and blocks nothing", "Set its `enforcement: Enforce`."))
    }
}

/// How many steps it takes to judge a request by a policy, at most.
fn steps(policy: &Compiled, targets: &[&Target]) -> usize {
    let rules = policy.policy.iter().flat_map(|policy| policy.deny.iter().chain(&policy.require));
    let checks = rules.flat_map(Rule::checks).map(|check| size(&check.demand)).sum();
    let narrowings = targets.iter().map(|target| places::steps(&target.narrowing));
    narrowings.fold(checks, usize::saturating_add)
}

/// How many steps a check takes: those that compare with each entry of a list count these.
fn size(demand: &Demand) -> usize {
    match demand {
        Demand::Certificate(check) => check.names.len().max(1),
        Demand::Address(_) | Demand::Method(_) | Demand::Token(_) | Demand::Subscription(_) => 1,
    }
}

/// Why an Ingress with this many policies is closed.
fn crowded(count: usize) -> Problem {
    let message = if count > MOST {
        format!("{count} policies name it in their `targetRefs`, and at most {MOST} may")
    } else {
        format!(
            "the policies that name it in their `targetRefs` have more than {MOST_STEPS} checks, hosts and paths together"
        )
    };
    let remedy = "Put their rules into fewer policies, or shorten them; the Ingress stays closed until then.";
    Problem::new("metadata.name", message, remedy)
}

/// Tells of targets that are no Ingresses of ours.
fn missing(
    policy: &Compiled,
    targets: &[Target],
    ingresses: &Ingresses<'_>,
    not_ours: &impl Fn(Name<'_>) -> (String, String),
    is_elsewhere: &impl Fn(Name<'_>) -> bool,
    findings: &mut Findings,
) {
    for target in targets {
        let name = (&*policy.resource.namespace, target.name.as_str());
        if ingresses.has(name) {
            continue;
        }
        let (message, remedy) = not_ours(name);
        let field = format!("spec.targetRefs[{}].name", target.index);
        let problem = Problem::new(field, message, remedy);
        // Whoever asked another controller for it does not want to hear of ours in Events.
        let effect = if is_elsewhere(name) { Effect::Warns } else { Effect::Rejects };
        findings.add(&policy.resource, Reason::TargetNotFound, effect, problem);
    }
}
