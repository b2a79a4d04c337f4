//! The cap of objects per namespace: what one tenant may cost the compiler.
//!
//! The surplus is the youngest objects of a kind in a namespace. It is not compiled, and closes what
//! it may have protected. Whatever else is wrong with it is not told: findings and Events stay
//! bounded however many objects a tenant creates.

use std::collections::BTreeMap;

use decision::refs::{Kind, ResourceRef};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::{
    finding::{Effect, Findings, Problem, Reason},
    map::{Map, Set},
    metadata::{Age, place},
    settings::Settings,
};

/// How many objects of a surplus get a finding of their own: the oldest of it, which are those that
/// were created when the namespace went over its cap. The Namespace has the count of all, and each
/// object tells for itself by its status, or by the refusals of its routes.
const TOLD: usize = 20;

/// A kind whose objects are counted.
#[derive(Debug)]
pub(crate) struct Capped {
    pub(crate) kind: Kind,
    plural: &'static str,
    reason: Reason,
    /// What holds for an object of the surplus.
    cost: &'static str,
}

pub(crate) const INGRESSES: Capped = Capped {
    kind: Kind::Ingress,
    plural: "Ingresses of ours",
    reason: Reason::RouteInvalid,
    cost: "the routes of the youngest are refused",
};

/// The kinds that are counted as they come. A Secret is parsed when something names it; a Service
/// costs a place in an index and nothing more, so it has no cap.
pub(crate) const OTHERS: [Capped; 4] = [
    Capped {
        kind: Kind::AccessPolicy,
        plural: "AccessPolicies",
        reason: Reason::PolicyInvalid,
        cost: "what the youngest name is refused",
    },
    Capped {
        kind: Kind::AccessPlan,
        plural: "AccessPlans",
        reason: Reason::PlanInvalid,
        cost: "nobody can use the youngest",
    },
    Capped {
        kind: Kind::AccessSubscription,
        plural: "AccessSubscriptions",
        reason: Reason::SubscriptionInvalid,
        cost: "the keys of the youngest open nothing",
    },
    Capped {
        kind: Kind::Secret,
        plural: "Secrets for TLS and key sets",
        reason: Reason::SecretMissing,
        cost: "the youngest count as missing",
    },
];

/// The objects of a kind beyond the cap of their namespaces.
#[derive(Debug)]
pub(crate) struct Surplus<'a> {
    of: &'static Capped,
    most: usize,
    /// Namespace and name.
    names: Set<(&'a str, &'a str)>,
    namespaces: BTreeMap<&'a str, Over<'a>>,
}

/// A namespace over its cap.
#[derive(Debug)]
struct Over<'a> {
    count: usize,
    /// The oldest of the surplus.
    told: Vec<&'a str>,
    /// What is wrong with each of them, made once: there may be very many.
    problem: Problem,
}

impl<'a> Surplus<'a> {
    /// Counts the objects of a kind; as long as no namespace is over its cap that is all.
    pub(crate) fn of(
        of: &'static Capped,
        objects: impl Iterator<Item = &'a ObjectMeta> + Clone,
        settings: &Settings,
    ) -> Self {
        let most = settings.max_objects_per_namespace.get();
        let mut counts: Map<&str, usize> = Map::default();
        for metadata in objects.clone() {
            *counts.entry(place(metadata).0).or_default() += 1;
        }
        counts.retain(|_, count| *count > most);
        let mut surplus = Self { of, most, names: Set::default(), namespaces: BTreeMap::new() };
        if counts.is_empty() {
            return surplus;
        }
        let mut ages: Map<&str, Vec<Age<'a>>> = Map::default();
        for metadata in objects {
            let namespace = place(metadata).0;
            if counts.contains_key(namespace) {
                ages.entry(namespace).or_default().push(Age::of(metadata));
            }
        }
        for (namespace, mut ages) in ages {
            ages.sort_unstable();
            // A Secret with the label and of the type for TLS comes from both lists.
            ages.dedup();
            if ages.len() <= most {
                continue;
            }
            let young = || ages.iter().skip(most).map(Age::name);
            let told = young().take(TOLD).map(|(_, name)| name).collect();
            let problem = surplus.problem_in(namespace);
            surplus.namespaces.insert(namespace, Over { count: ages.len(), told, problem });
            surplus.names.extend(young());
        }
        surplus
    }

    /// Whether an object is beyond the cap.
    pub(crate) fn has(&self, namespace: &str, name: &str) -> bool {
        !self.names.is_empty() && self.names.contains(&(namespace, name))
    }

    /// What is wrong with an object if it is beyond the cap. It says nothing that changes when other
    /// objects come and go, or each of them would give every status of the surplus new words.
    pub(crate) fn problem(&self, (namespace, name): (&str, &str)) -> Option<Problem> {
        let over = self.namespaces.get(namespace)?;
        self.has(namespace, name).then(|| over.problem.clone())
    }

    /// The same for an object by its metadata.
    pub(crate) fn problem_of(&self, metadata: &ObjectMeta) -> Option<Problem> {
        self.problem(place(metadata))
    }

    fn problem_in(&self, namespace: &str) -> Problem {
        let message = format!(
            "namespace `{namespace}` is over its cap of {} {}, and this is one of the youngest",
            self.most, self.of.plural
        );
        Problem::new("metadata.namespace", message, self.remedy())
    }

    fn remedy(&self) -> String {
        let Capped { kind, cost, .. } = self.of;
        format!(
            "Delete objects of kind {kind} in the namespace, or raise `--max-objects-per-namespace`; until then {cost}."
        )
    }

    /// Tells of the surplus, and mutes its objects.
    pub(crate) fn tell(&self, findings: &mut Findings) {
        let Capped { kind, plural, reason, .. } = *self.of;
        for (namespace, over) in &self.namespaces {
            for name in &over.told {
                let object = ResourceRef::new(kind, *namespace, *name);
                findings.add(&object, reason, Effect::Closes, over.problem.clone());
            }
            let message = format!(
                "the namespace has {} {plural}, {} more than its cap of {}",
                over.count,
                over.count.saturating_sub(self.most),
                self.most
            );
            let problem = Problem::new("metadata.name", message, self.remedy());
            let namespace = ResourceRef::new(Kind::Namespace, "", *namespace);
            findings.add(&namespace, reason, Effect::Closes, problem);
        }
        for (namespace, name) in &self.names {
            findings.mute(ResourceRef::new(kind, *namespace, *name));
        }
    }
}
