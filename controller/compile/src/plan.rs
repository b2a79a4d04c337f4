//! `AccessPlans`: what can be subscribed to, and from which namespaces.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use crds::{AccessPlan, Consumers, LabelSelector};
use decision::{
    lack::Lack,
    refs::{Kind, ResourceRef},
};

use crate::{
    annotation::meant_name,
    finding::{Effect, Findings, Problem, Reason},
    index::{Index, missing_right},
    metadata::reference,
    resources::Object,
};

/// Most plans that are looked at to propose one: what a mistake costs must not grow with them.
const PROPOSALS: usize = 16;

/// The label that Kubernetes gives every Namespace.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// Every plan, valid or not.
#[derive(Debug, Default)]
pub(crate) struct Plans {
    by_name: HashMap<ResourceRef, Plan>,
    of_namespace: HashMap<Arc<str>, Vec<Arc<str>>>,
    namespaces_of: HashMap<Arc<str>, Vec<Arc<str>>>,
    unreadable: HashSet<Arc<str>>,
    all_unreadable: bool,
}

/// One `AccessPlan`.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) generation: Option<i64>,
    /// Who may subscribe, or what is wrong with the plan.
    pub(crate) offer: Result<Option<Consumers>, String>,
}

impl Plans {
    pub(crate) fn read(
        objects: &[Arc<Object>],
        unreadable: &[crate::resources::Unreadable],
        index: &Index<'_>,
        findings: &mut Findings,
    ) -> Self {
        let lists = unreadable.iter().filter(|list| list.kind == Kind::AccessPlan);
        let by_name: HashMap<_, _> =
            objects.iter().map(|object| read(object, index, findings)).collect();
        let (mut of_namespace, mut namespaces_of) = (HashMap::new(), HashMap::new());
        for ResourceRef { namespace, name, .. } in by_name.keys() {
            let add = |map: &mut HashMap<_, Vec<_>>, key, value| {
                map.entry(Arc::clone(key)).or_default().push(Arc::clone(value));
            };
            add(&mut of_namespace, namespace, name);
            add(&mut namespaces_of, name, namespace);
        }
        Self {
            by_name,
            of_namespace,
            namespaces_of,
            all_unreadable: lists.clone().any(|list| list.namespace.is_none()),
            unreadable: lists
                .filter_map(|list| list.namespace.as_deref())
                .map(Into::into)
                .collect(),
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&ResourceRef, &Plan)> {
        self.by_name.iter()
    }

    /// Why subscriptions to a plan cannot be told.
    pub(crate) fn problem(&self, plan: &ResourceRef) -> Option<String> {
        match self.by_name.get(plan) {
            Some(Plan { offer: Ok(_), .. }) => None,
            Some(Plan { offer: Err(problem), .. }) => Some(format!("it is invalid: {problem}")),
            None if self.all_unreadable || self.unreadable.contains(&plan.namespace) => {
                let right = missing_right(Kind::AccessPlan, &plan.namespace);
                Some(format!("it may not be read: {right}"))
            }
            None => Some("it does not exist".to_owned()),
        }
    }

    /// Why a namespace may not subscribe to a plan, and what to do.
    pub(crate) fn refusal(
        &self,
        plan: &ResourceRef,
        consumer: &str,
        index: &Index<'_>,
    ) -> Option<Lack> {
        let lack = |problem: String, remedy: &str| {
            Some(Lack { problem: problem.into(), remedy: remedy.into() })
        };
        if let Some(problem) = self.problem(plan) {
            let remedy = if self.by_name.contains_key(plan) {
                format!("Correct {plan}, or name another plan.")
            } else {
                self.meant(plan, consumer, index)
            };
            return lack(format!("{plan}: {problem}"), &remedy);
        }
        let remedy = "Name a plan that admits this namespace, or ask its owner to add the namespace to `consumers`.";
        let offer = self.by_name.get(plan).and_then(|plan| plan.offer.as_ref().ok())?;
        match offer {
            None if *plan.namespace == *consumer => None,
            None => lack(format!("{plan} admits only subscriptions of its own namespace"), remedy),
            Some(consumers) if admits(&consumers.namespace_selector, consumer, index) => None,
            Some(_) => lack(
                format!(
                    "{plan} does not admit namespace `{consumer}`: its labels do not match `consumers`"
                ),
                remedy,
            ),
        }
    }

    /// What to do about a plan that is not there. Names only plans that admit the namespace: of the
    /// others it shall not learn.
    fn meant(&self, plan: &ResourceRef, consumer: &str, index: &Index<'_>) -> String {
        let few = |list: Option<&'_ Vec<Arc<str>>>| {
            let list = list.map(Vec::as_slice).unwrap_or_default();
            if list.len() > PROPOSALS { Vec::new() } else { list.to_vec() }
        };
        let is_open = |namespace: &Arc<str>, name: &Arc<str>| {
            let plan = ResourceRef::new(Kind::AccessPlan, Arc::clone(namespace), Arc::clone(name));
            self.problem(&plan).is_none() && self.refusal(&plan, consumer, index).is_none()
        };
        let mut namespaces = few(self.namespaces_of.get(&plan.name));
        namespaces.retain(|namespace| is_open(namespace, &plan.name));
        if let Some(namespace) = namespaces.iter().min() {
            return format!("Set `spec.planRef.namespace: {namespace}`, or create the plan.");
        }
        let mut names = few(self.of_namespace.get(&plan.namespace));
        names.retain(|name| is_open(&plan.namespace, name));
        names.sort();
        let names: Vec<_> = names.iter().map(|name| &**name).collect();
        meant_name(&plan.name, &names, "Create the plan.")
    }
}

fn read(object: &Object, index: &Index<'_>, findings: &mut Findings) -> (ResourceRef, Plan) {
    let resource = reference(Kind::AccessPlan, &object.metadata);
    let generation = object.metadata.generation;
    if let Some(problem) = index.surplus(Kind::AccessPlan, &object.metadata) {
        return (resource, Plan { generation, offer: Err(problem.message) });
    }
    let offer = match crds::decode::<AccessPlan>(&object.value) {
        Ok(plan) => Ok(plan.spec.consumers),
        Err(errors) => {
            let first = errors.first().map(ToString::to_string);
            for error in errors {
                let remedy = "Correct the field; nobody can use the plan until then.";
                let problem = Problem::new(error.path, error.message, remedy);
                // What it closes is told on the policies that name it.
                findings.add(&resource, Reason::PlanInvalid, Effect::Rejects, problem);
            }
            Err(first.unwrap_or_else(|| "it cannot be decoded".to_owned()))
        }
    };
    (resource, Plan { generation, offer })
}

/// Whether the labels of a namespace match. An unknown namespace matches nothing.
fn admits(selector: &LabelSelector, namespace: &str, index: &Index<'_>) -> bool {
    if !index.is_known(namespace) {
        return false;
    }
    let object = index.namespace(namespace);
    let mut labels: BTreeMap<&str, &str> = object
        .and_then(|object| object.metadata.labels.as_ref())
        .into_iter()
        .flatten()
        .map(|(key, value)| (key.as_str(), value.as_str()))
        .collect();
    // The API server sets it; in files it is usually left out, and it can't be anything else.
    labels.insert(NAME_LABEL, namespace);
    matches(selector, &labels)
}

/// Kubernetes' meaning of a label selector; an unknown operator matches nothing.
fn matches(selector: &LabelSelector, labels: &BTreeMap<&str, &str>) -> bool {
    let mut wanted = selector.match_labels.iter().flatten();
    let mut expressions = selector.match_expressions.iter().flatten();
    wanted.all(|(key, value)| labels.get(key.as_str()) == Some(&value.as_str()))
        && expressions.all(|expression| {
            let found = labels.get(expression.key.as_str());
            let listed =
                |value: &&str| expression.values.iter().flatten().any(|listed| listed == value);
            match expression.operator.as_str() {
                "In" => found.is_some_and(listed),
                "NotIn" => !found.is_some_and(listed),
                "Exists" => found.is_some(),
                "DoesNotExist" => found.is_none(),
                _ => false,
            }
        })
}
