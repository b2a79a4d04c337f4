//! One document: which kind it is, and the resource that it becomes.

use std::{collections::BTreeSet, sync::Arc};

use decision::refs::{Kind, ResourceRef};
use k8s_openapi::{
    ByteString,
    api::{
        core::v1::{Namespace, Secret},
        networking::v1::Ingress,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{
    DEFAULT_NAMESPACE, Manifests, Place, Problem,
    node::{Content, Node},
};
use crate::{
    annotation::meant_name,
    resources::{Lost, Object},
};

const GROUP: &str = "whygate.dev/";

/// The kinds that are read, with their only version.
const KINDS: [(&str, Kind); 9] = [
    ("networking.k8s.io/v1", Kind::Ingress),
    ("networking.k8s.io/v1", Kind::IngressClass),
    ("whygate.dev/v1alpha1", Kind::AccessPolicy),
    ("whygate.dev/v1alpha1", Kind::AccessPlan),
    ("whygate.dev/v1alpha1", Kind::AccessSubscription),
    ("v1", Kind::Service),
    ("v1", Kind::Secret),
    ("v1", Kind::Namespace),
    ("discovery.k8s.io/v1", Kind::EndpointSlice),
];

/// A document on its way to a resource.
struct Candidate {
    path: Arc<str>,
    before: usize,
    node: Node,
    kind: Kind,
}

impl Manifests {
    /// Adds the object, or the objects of a list, that a document holds.
    pub(super) fn add(&mut self, path: &Arc<str>, before: usize, node: Node) {
        let kind = node.text("kind").unwrap_or_default();
        if kind.ends_with("List")
            && let Some(items) = node.get("items")
        {
            for item in items.items() {
                self.add(path, before, item.clone());
            }
            return;
        }
        let version = node.text("apiVersion").unwrap_or_default();
        match known(version, kind) {
            Known::Kind(kind) => {
                self.with_objects.insert(Arc::clone(path));
                if kind == Kind::AccessPolicy && node.get("spec").is_none() {
                    // Cut off perhaps within the name of the namespace.
                    self.lose_anywhere(path, before, &node);
                }
                let path = Arc::clone(path);
                self.add_object(Candidate { path, before, node, kind });
            }
            Known::Unused => drop(self.with_objects.insert(Arc::clone(path))),
            Known::Problem { message, remedy } => {
                if may_be_cut_off(&node, version, kind) {
                    self.lose_anywhere(path, before, &node);
                }
                let ours = version.starts_with(GROUP)
                    || kind.to_lowercase().contains("access")
                    || (version.is_empty() || kind.is_empty()) && has_targets(&node);
                let problem = problem(path, before, &node, message, remedy);
                if ours && is_like_a_policy(kind) {
                    self.lose_policy(&node, &problem);
                }
                self.problems.push(problem);
            }
        }
    }

    fn add_object(&mut self, candidate: Candidate) {
        let Candidate { path, before, node, kind } = candidate;
        let Some(name) = node.get("metadata").and_then(|metadata| metadata.text("name")) else {
            let message = format!("{kind} without `metadata.name`");
            let problem = problem(&path, before, &node, message, "Give it a name.".to_owned());
            if kind == Kind::AccessPolicy {
                self.lose_policy(&node, &problem);
                if !names_namespace(&node) {
                    self.lose_anywhere(&path, before, &node);
                }
            }
            self.problems.push(problem);
            return;
        };
        if kind == Kind::AccessPolicy
            && let Some(unknown) = unknown_metadata(&node)
        {
            let message = format!("`{unknown}` is not a field of `metadata`");
            let remedy = meant_name(unknown, &METADATA, "Remove the field.");
            let problem = problem(&path, before, &node, message, remedy);
            self.lose_policy(&node, &problem);
            self.problems.push(problem);
        }
        let namespace = if is_namespaced(kind) { namespace(&node) } else { String::new() };
        let resource = ResourceRef::new(kind, namespace.as_str(), name);
        if let Some(first) = self.places.get(&resource) {
            let line = node_line(first);
            let message = format!("{resource} stands in {}:{line} already", first.path);
            let remedy = "Remove one of the two.".to_owned();
            self.problems.push(problem(&path, before, &node, message, remedy));
            // Policies only add, so both of them are enforced; of the others the first one counts.
            if kind != Kind::AccessPolicy {
                return;
            }
        }
        let value = node.value();
        let (mut metadata, fault) = metadata(&value);
        if is_namespaced(kind) {
            metadata.namespace = Some(namespace);
        }
        // Compiling reports what is wrong with the other kinds.
        let fault = fault.filter(|_| kind == Kind::Namespace);
        let fault = self.store(kind, metadata, value).or(fault);
        if let Some(message) = fault {
            let message = format!("{resource} cannot be decoded: {message}");
            let remedy = "Correct the field; what cannot be read of the object counts as missing until then.".to_owned();
            self.problems.push(problem(&path, before, &node, message, remedy));
        }
        self.places.entry(resource).or_insert(Place { path, before, node });
    }

    /// Closes the namespaces that a policy may be for that is none as written.
    fn lose_policy(&mut self, node: &Node, problem: &Problem) {
        let place = format!("{}:{}", problem.path, problem.line);
        let lost = possible_namespaces(node).into_iter();
        let lost = lost.map(|namespace| Lost { namespace, place: place.clone() });
        self.resources.lost.extend(lost);
    }

    /// Closes every namespace: this may be a part of a policy of any of them.
    fn lose_anywhere(&mut self, path: &Arc<str>, before: usize, node: &Node) {
        let line = node.at.line.saturating_add(before);
        self.lost_anywhere.get_or_insert_with(|| format!("{path}:{line}"));
    }

    /// Puts the object among its like. Returns why it cannot be decoded, unless compiling says so.
    fn store(&mut self, kind: Kind, metadata: ObjectMeta, value: Value) -> Option<String> {
        let resources = &mut self.resources;
        let object = |metadata, value| Arc::new(Object { metadata, value });
        match kind {
            Kind::AccessPolicy => resources.access_policies.push(object(metadata, value)),
            Kind::AccessPlan => resources.access_plans.push(object(metadata, value)),
            Kind::AccessSubscription => {
                resources.access_subscriptions.push(object(metadata, value));
            }
            Kind::Ingress => match serde_json::from_value::<Ingress>(value.clone()) {
                Ok(ingress) => resources.ingresses.push(Arc::new(Ingress { metadata, ..ingress })),
                Err(_) => resources.undecodable_ingresses.push(object(metadata, value)),
            },
            // Labels and annotations are all that counts, so nothing else can be wrong with it.
            Kind::Namespace => {
                resources.namespaces.push(Arc::new(Namespace { metadata, ..Namespace::default() }));
            }
            Kind::IngressClass => return decode(value, &mut resources.ingress_classes, |_| {}),
            Kind::Service => {
                return decode(value, &mut resources.services, |one| one.metadata = metadata);
            }
            Kind::Secret => {
                let fault = decode(value, &mut resources.secrets, |one: &mut Secret| {
                    one.metadata = metadata;
                    merge_string_data(one);
                });
                // What the decoder says quotes the value, and that may be the secret.
                return fault.map(|_| "`data` holds base64, `stringData` texts".to_owned());
            }
            Kind::EndpointSlice => {
                return decode(value, &mut self.endpoint_slices, |one| one.metadata = metadata);
            }
        }
        None
    }
}

fn decode<T: DeserializeOwned>(
    value: Value,
    list: &mut Vec<Arc<T>>,
    complete: impl FnOnce(&mut T),
) -> Option<String> {
    match serde_json::from_value::<T>(value) {
        Ok(mut object) => {
            complete(&mut object);
            list.push(Arc::new(object));
            None
        }
        Err(error) => Some(error.to_string()),
    }
}

/// What an API server does with `stringData` of a Secret.
fn merge_string_data(secret: &mut Secret) {
    let texts = secret.string_data.take().into_iter().flatten();
    let data = secret.data.get_or_insert_default();
    data.extend(texts.map(|(name, text)| (name, ByteString(text.into_bytes()))));
}

enum Known {
    Kind(Kind),
    /// A kind that this program has no use for.
    Unused,
    Problem {
        message: String,
        remedy: String,
    },
}

fn known(version: &str, kind: &str) -> Known {
    if version.is_empty() || kind.is_empty() {
        let message = "not a manifest: `apiVersion` or `kind` is missing".to_owned();
        return Known::Problem { message, remedy: "Give both, as texts.".to_owned() };
    }
    let same_kind = KINDS.iter().find(|(_, known)| known.as_str().eq_ignore_ascii_case(kind));
    match same_kind {
        Some((served, known)) if known.as_str() != kind && near(group(version), group(served)) => {
            Known::Problem {
                message: format!("`{kind}` is not a kind"),
                remedy: format!("Write `kind: {known}`."),
            }
        }
        Some((served, known)) if *served == version => Known::Kind(*known),
        // An unknown version of ours is decoded, and refused with what it names.
        Some((served, known)) if version.starts_with(GROUP) && served.starts_with(GROUP) => {
            Known::Kind(*known)
        }
        Some((served, _)) if near(group(version), group(served)) => Known::Problem {
            message: format!("`{kind}` of version `{version}` is not read"),
            remedy: format!("Write `apiVersion: {served}`."),
        },
        None if version.starts_with(GROUP) => {
            let ours: Vec<_> = KINDS
                .iter()
                .filter(|(served, _)| served.starts_with(GROUP))
                .map(|(_, kind)| kind.as_str())
                .collect();
            let otherwise = format!("The kinds of this group are `{}`.", ours.join("`, `"));
            Known::Problem {
                message: format!("`{kind}` is not a kind of whygate.dev"),
                remedy: match crds::nearest(kind, &ours) {
                    Some(nearest) => format!("Write `{nearest}`. {otherwise}"),
                    None => otherwise,
                },
            }
        }
        Some(_) | None => Known::Unused,
    }
}

/// The group of an `apiVersion`; empty for the core group.
fn group(version: &str) -> &str {
    version.rsplit_once('/').map_or("", |(group, _)| group)
}

/// Whether a group was probably meant to be another: a typing error, the core group, or the group
/// that Ingress had once.
fn near(written: &str, meant: &str) -> bool {
    let typing_error = || !meant.is_empty() && strsim::osa_distance(written, meant) <= 4;
    written.is_empty() || written == "extensions" || typing_error()
}

/// Whether an object of an unknown kind may have been meant as a policy.
fn is_like_a_policy(kind: &str) -> bool {
    if kind.is_empty() {
        return true;
    }
    let other = [Kind::AccessPlan, Kind::AccessSubscription].map(Kind::as_str);
    let distance = |known: &str| strsim::osa_distance(&kind.to_lowercase(), &known.to_lowercase());
    let policy = distance(Kind::AccessPolicy.as_str());
    other.into_iter().all(|known| policy <= distance(known))
}

fn problem(
    path: &Arc<str>,
    before: usize,
    node: &Node,
    message: String,
    remedy: String,
) -> Problem {
    let (line, column) = (node.at.line.saturating_add(before), node.at.column);
    Problem { path: Arc::clone(path), line, column, message, remedy }
}

fn node_line(place: &Place) -> usize {
    place.node.at.line.saturating_add(place.before)
}

fn is_namespaced(kind: Kind) -> bool {
    match kind {
        Kind::IngressClass | Kind::Namespace => false,
        Kind::Ingress
        | Kind::AccessPolicy
        | Kind::AccessPlan
        | Kind::AccessSubscription
        | Kind::Service
        | Kind::Secret
        | Kind::EndpointSlice => true,
    }
}

fn namespace(node: &Node) -> String {
    let named = node.get("metadata").and_then(|metadata| metadata.text("namespace"));
    named.filter(|name| !name.is_empty()).unwrap_or(DEFAULT_NAMESPACE).to_owned()
}

/// The fields of `metadata` (`ObjectMeta` of the Kubernetes API).
const METADATA: [&str; 15] = [
    "annotations",
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "generation",
    "labels",
    "managedFields",
    "name",
    "namespace",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
];

/// A field that `metadata` does not have, if it may have been meant as the namespace.
fn unknown_metadata(node: &Node) -> Option<&str> {
    let metadata = node.get("metadata").filter(|metadata| metadata.get("namespace").is_none())?;
    metadata.names().find(|name| !METADATA.contains(name))
}

fn names_namespace(node: &Node) -> bool {
    let named = node.get("metadata").and_then(|metadata| metadata.text("namespace"));
    named.is_some_and(|name| !name.is_empty())
}

/// Whether a document that is no manifest may be the beginning of a policy: a lone word, or nothing
/// but the first fields of an object of ours. Values of charts and other texts are not.
fn may_be_cut_off(node: &Node, version: &str, kind: &str) -> bool {
    let entries = match &node.content {
        Content::Scalar(value) => return !value.is_null(),
        Content::List(_) => return false,
        Content::Map(entries) => entries,
    };
    let first = ["apiVersion", "kind", "metadata"];
    let has_only_first = entries.iter().all(|entry| first.contains(&entry.name.as_str()));
    let is_object = node.get("apiVersion").is_some() || node.get("kind").is_some();
    let (ours, policy) = ("whygate.dev/v1alpha1", Kind::AccessPolicy.as_str());
    let begins =
        version.starts_with(GROUP) || ours.starts_with(version) && policy.starts_with(kind);
    is_object && has_only_first && begins && !names_namespace(node)
}

/// The namespace, or everything outside of `spec` that may have been meant as it.
fn possible_namespaces(node: &Node) -> BTreeSet<String> {
    let named = node.get("metadata").and_then(|metadata| metadata.text("namespace"));
    if let Some(named) = named.filter(|name| !name.is_empty()) {
        return BTreeSet::from([named.to_owned()]);
    }
    let head = node.names().filter(|name| *name != "spec").filter_map(|name| node.get(name));
    let mut namespaces: BTreeSet<String> = head.flat_map(Node::texts).map(str::to_owned).collect();
    namespaces.insert(DEFAULT_NAMESPACE.to_owned());
    namespaces
}

/// Whether a document that does not say what it is has what only policies have.
fn has_targets(node: &Node) -> bool {
    node.get("spec").is_some_and(|spec| spec.get("targetRefs").is_some())
}

/// The metadata; of metadata that cannot be decoded what can be read, and why.
fn metadata(value: &Value) -> (ObjectMeta, Option<String>) {
    let raw = value.get("metadata").unwrap_or(&Value::Null);
    match serde_json::from_value(raw.clone()) {
        Ok(metadata) => (metadata, None),
        Err(error) => {
            let metadata = ObjectMeta {
                name: raw.get("name").and_then(Value::as_str).map(str::to_owned),
                labels: texts(raw.get("labels")),
                annotations: texts(raw.get("annotations")),
                ..ObjectMeta::default()
            };
            (metadata, Some(error.to_string()))
        }
    }
}

/// Names and texts; a value that should have been quoted as it is written.
fn texts(value: Option<&Value>) -> Option<std::collections::BTreeMap<String, String>> {
    let fields = value?.as_object()?.iter();
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    Some(fields.map(|(name, value)| (name.clone(), text(value))).collect())
}
