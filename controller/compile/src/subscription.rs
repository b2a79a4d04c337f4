//! `AccessSubscriptions`: which key belongs to which plan, and whether it counts.

use std::{collections::HashMap, sync::Arc};

use crds::{AccessSubscription, AccessSubscriptionSpec};
use decision::{
    lack::Lack,
    refs::{Kind, ResourceRef},
    subscription::{KeyDigest, State, Subscription, Subscriptions},
    time::Timestamp,
};
use serde_json::Value;

use crate::{
    finding::{Effect, Findings, Problem, Reason},
    index::Index,
    metadata::{Age, reference},
    plan::Plans,
    resources::Object,
};

/// An `AccessSubscription`, compiled.
#[derive(Debug)]
pub(crate) struct Compiled {
    pub(crate) generation: Option<i64>,
    pub(crate) subscription: Arc<Subscription>,
}

/// Compiles all subscriptions. Of equal digests a valid subscription counts before an invalid one,
/// then the older one, then the first by name.
pub(crate) fn compile(
    objects: &[Arc<Object>],
    plans: &Plans,
    index: &Index<'_>,
    findings: &mut Findings,
) -> (Subscriptions, Vec<Compiled>) {
    let mut objects: Vec<_> = objects.iter().collect();
    objects.sort_by(|one, two| Age::of(&one.metadata).cmp(&Age::of(&two.metadata)));
    let mut read: Vec<_> =
        objects.into_iter().map(|object| self::read(object, plans, index, findings)).collect();
    // Stable: the order of age stays within both halves.
    read.sort_by_key(|one| matches!(one.compiled.subscription.state, State::Invalid(_)));
    let mut keys = Keys::default();
    for one in &read {
        for (field, digest) in &one.digests {
            keys.add(field, *digest, &one.compiled.subscription, findings);
        }
    }
    (Subscriptions::new(keys.list), read.into_iter().map(|one| one.compiled).collect())
}

struct Read {
    compiled: Compiled,
    /// The digests and where they stand.
    digests: Vec<(String, KeyDigest)>,
}

fn read(object: &Object, plans: &Plans, index: &Index<'_>, findings: &mut Findings) -> Read {
    let resource = reference(Kind::AccessSubscription, &object.metadata);
    let generation = object.metadata.generation;
    let invalid = |resource: ResourceRef, lack: Lack| {
        let plan = raw_plan(&resource, &object.value);
        Subscription { resource, plan, state: State::Invalid(lack) }
    };
    let subscription =
        if let Some(problem) = index.surplus(Kind::AccessSubscription, &object.metadata) {
            let Problem { message, remedy, .. } = problem;
            invalid(resource, Lack { problem: message.into(), remedy: remedy.into() })
        } else {
            match crds::decode::<AccessSubscription>(&object.value) {
                Ok(decoded) => judge(&resource, &decoded.spec, plans, index, findings),
                Err(errors) => {
                    let lack = report(&resource, errors, findings);
                    invalid(resource, lack)
                }
            }
        };
    let compiled = Compiled { generation, subscription: Arc::new(subscription) };
    Read { compiled, digests: digests(&object.value) }
}

/// Digests in the order in which they count.
#[derive(Default)]
struct Keys {
    owners: HashMap<KeyDigest, ResourceRef>,
    list: Vec<(KeyDigest, Arc<Subscription>)>,
}

impl Keys {
    fn add(
        &mut self,
        field: &str,
        digest: KeyDigest,
        subscription: &Arc<Subscription>,
        findings: &mut Findings,
    ) {
        let Some(first) = self.owners.get(&digest) else {
            self.owners.insert(digest, subscription.resource.clone());
            self.list.push((digest, Arc::clone(subscription)));
            return;
        };
        // The other subscription's name stays out of it: its namespace may be a stranger's.
        let message = if *first == subscription.resource {
            "this digest stands in another entry, too"
        } else {
            "this digest belongs to another subscription, which is older or valid, so it has no effect here"
        };
        let remedy = "Make a key of your own with `whygate key new`.";
        let problem = Problem::new(field, message, remedy);
        let (reason, effect) = (Reason::SubscriptionInvalid, Effect::Rejects);
        findings.add(&subscription.resource, reason, effect, problem);
    }
}

fn judge(
    resource: &ResourceRef,
    spec: &AccessSubscriptionSpec,
    plans: &Plans,
    index: &Index<'_>,
    findings: &mut Findings,
) -> Subscription {
    let namespace = spec.plan_ref.namespace.as_deref().unwrap_or(&resource.namespace);
    let plan = ResourceRef::new(Kind::AccessPlan, namespace, spec.plan_ref.name.as_str());
    let state = match plans.refusal(&plan, &resource.namespace, index) {
        Some(lack) => {
            let finding = Problem::new("spec.planRef", &lack.problem, &lack.remedy);
            findings.add(resource, Reason::SubscriptionInvalid, Effect::Rejects, finding);
            State::Invalid(lack)
        }
        None if spec.suspend => State::Suspended,
        None => State::Active {
            expires: spec.expires_at.as_ref().map(|time| Timestamp(time.0.as_second())),
        },
    };
    Subscription { resource: resource.clone(), plan, state }
}

fn report(resource: &ResourceRef, errors: Vec<crds::DecodeError>, findings: &mut Findings) -> Lack {
    let (problem, remedy) = match errors.first() {
        Some(first) => (first.to_string(), format!("Correct {} of {resource}.", first.path)),
        None => ("it cannot be decoded".to_owned(), format!("Correct {resource}.")),
    };
    for error in errors {
        let remedy = "Correct the field; the keys of this subscription open nothing until then.";
        let problem = Problem::new(error.path, error.message, remedy);
        findings.add(resource, Reason::SubscriptionInvalid, Effect::Rejects, problem);
    }
    Lack { problem: problem.into(), remedy: remedy.into() }
}

/// The plan that an undecodable subscription names, as far as it can be read.
fn raw_plan(resource: &ResourceRef, value: &Value) -> ResourceRef {
    let text = |name| value.pointer("/spec/planRef")?.get(name)?.as_str();
    let namespace = text("namespace").unwrap_or(&resource.namespace);
    ResourceRef::new(Kind::AccessPlan, namespace, text("name").unwrap_or_default())
}

/// The digests that can be read, of a subscription that cannot be decoded as well: who presents its
/// keys hears that it is invalid.
fn digests(value: &Value) -> Vec<(String, KeyDigest)> {
    let credentials = value.pointer("/spec/credentials").and_then(Value::as_array);
    let credentials = credentials.into_iter().flatten().enumerate();
    let digests = credentials.filter_map(|(index, credential)| {
        let digest = KeyDigest::parse(credential.pointer("/apiKey/sha256")?.as_str()?)?;
        Some((format!("spec.credentials[{index}].apiKey.sha256"), digest))
    });
    digests.collect()
}
