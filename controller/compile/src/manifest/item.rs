//! One object of a document: which kind it is, and the resource that it becomes. It depends on nothing
//! but the text of the document.

use std::{collections::BTreeSet, sync::Arc};

use decision::refs::{Kind, ResourceRef};
use k8s_openapi::{
    ByteString,
    api::{
        core::v1::{ConfigMap, Namespace, Secret, Service},
        discovery::v1::EndpointSlice,
        networking::v1::{Ingress, IngressClass},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use super::{
    DEFAULT_NAMESPACE,
    kinds::{GROUP, Known, is_like_a_policy, is_namespaced, known},
    node::{At, Content, Node},
};
use crate::{annotation::meant_name, resources::Object};

/// What a document, or an item of a list in it, is.
#[derive(Debug)]
pub(super) struct Item {
    /// Where it stands in its document.
    pub(super) at: At,
    /// Whether it is an object, of use here or not.
    pub(super) is_object: bool,
    /// Whether it may be a part of a policy of any namespace.
    pub(super) is_cut_off: bool,
    /// What is wrong with it, whatever else there is.
    pub(super) faults: Vec<Fault>,
    /// The object, if it is one of a kind that is read and has a name.
    pub(super) object: Option<Named>,
}

/// Something that is wrong with an item.
#[derive(Debug, Default)]
pub(super) struct Fault {
    pub(super) message: String,
    pub(super) remedy: String,
    /// The namespaces that it closes.
    pub(super) lost: BTreeSet<String>,
}

/// An object with a name.
#[derive(Debug)]
pub(super) struct Named {
    pub(super) resource: ResourceRef,
    /// None if it cannot be decoded.
    pub(super) decoded: Option<Decoded>,
    /// Why it, or a part of it, cannot be decoded, unless compiling says so.
    pub(super) fault: Option<String>,
}

/// An object of one of the kinds that are read.
#[derive(Clone, Debug)]
pub(super) enum Decoded {
    Policy(Arc<Object>),
    Plan(Arc<Object>),
    Subscription(Arc<Object>),
    Ingress(Arc<Ingress>),
    UndecodableIngress(Arc<Object>),
    Class(Arc<IngressClass>),
    Namespace(Arc<Namespace>),
    Service(Arc<Service>),
    Secret(Arc<Secret>),
    ConfigMap(Arc<ConfigMap>),
    Slice(Arc<EndpointSlice>),
}

impl Item {
    /// Reads a document, or an item of a list.
    pub(super) fn read(node: &Node) -> Self {
        let mut item = Self {
            at: node.at,
            is_object: true,
            is_cut_off: false,
            faults: Vec::new(),
            object: None,
        };
        let version = node.text("apiVersion").unwrap_or_default();
        let kind = node.text("kind").unwrap_or_default();
        match known(version, kind) {
            Known::Kind(kind) => item.read_object(kind, node),
            Known::Unused => {}
            Known::Problem { message, remedy } => {
                item.is_object = false;
                item.is_cut_off = may_be_cut_off(node, version, kind);
                let ours = version.starts_with(GROUP)
                    || kind.to_lowercase().contains("access")
                    || (version.is_empty() || kind.is_empty()) && has_targets(node);
                let is_policy = ours && is_like_a_policy(kind);
                let lost = if is_policy { possible_namespaces(node) } else { BTreeSet::new() };
                item.faults.push(Fault { message, remedy, lost });
            }
        }
        item
    }

    fn read_object(&mut self, kind: Kind, node: &Node) {
        let is_policy = kind == Kind::AccessPolicy;
        // Cut off perhaps within the name of the namespace.
        self.is_cut_off = is_policy && node.get("spec").is_none();
        let Some(name) = node.get("metadata").and_then(|metadata| metadata.text("name")) else {
            let message = format!("{kind} without `metadata.name`");
            let mut fault =
                Fault { message, remedy: "Give it a name.".to_owned(), ..Fault::default() };
            if is_policy {
                fault.lost = possible_namespaces(node);
                self.is_cut_off |= !names_namespace(node);
            }
            self.faults.push(fault);
            return;
        };
        if is_policy && let Some(unknown) = unknown_metadata(node) {
            let message = format!("`{unknown}` is not a field of `metadata`");
            let remedy = meant_name(unknown, &METADATA, "Remove the field.");
            self.faults.push(Fault { message, remedy, lost: possible_namespaces(node) });
        }
        let namespace = if is_namespaced(kind) { namespace(node) } else { String::new() };
        let resource = ResourceRef::new(kind, namespace.as_str(), name);
        let value = node.value();
        let (mut metadata, fault) = metadata(&value);
        if is_namespaced(kind) {
            metadata.namespace = Some(namespace);
        }
        // Compiling reports what is wrong with the other kinds.
        let partly = fault.filter(|_| kind == Kind::Namespace);
        let (decoded, fault) = match decode(kind, metadata, value) {
            Ok(decoded) => (Some(decoded), partly),
            Err(fault) => (None, Some(fault)),
        };
        self.object = Some(Named { resource, decoded, fault });
    }
}

/// The object, or why it cannot be decoded. What compiling tells of is kept as it came.
fn decode(kind: Kind, metadata: ObjectMeta, value: Value) -> Result<Decoded, String> {
    let raw = |metadata, value| Arc::new(Object { metadata, value });
    match kind {
        Kind::AccessPolicy => Ok(Decoded::Policy(raw(metadata, value))),
        Kind::AccessPlan => Ok(Decoded::Plan(raw(metadata, value))),
        Kind::AccessSubscription => Ok(Decoded::Subscription(raw(metadata, value))),
        Kind::Ingress => Ok(match Ingress::deserialize(&value) {
            Ok(ingress) => Decoded::Ingress(Arc::new(Ingress { metadata, ..ingress })),
            Err(_) => Decoded::UndecodableIngress(raw(metadata, value)),
        }),
        // Labels and annotations are all that counts, so nothing else can be wrong with it.
        Kind::Namespace => {
            Ok(Decoded::Namespace(Arc::new(Namespace { metadata, ..Namespace::default() })))
        }
        Kind::IngressClass => typed(value, |_| {}).map(Decoded::Class),
        Kind::Service => {
            typed(value, |one: &mut Service| one.metadata = metadata).map(Decoded::Service)
        }
        Kind::Secret => {
            let complete = |one: &mut Secret| {
                one.metadata = metadata;
                merge_string_data(one);
            };
            // What the decoder says quotes the value, and that may be the secret.
            let fault = |_| "`data` holds base64, `stringData` texts".to_owned();
            typed(value, complete).map(Decoded::Secret).map_err(fault)
        }
        Kind::ConfigMap => {
            typed(value, |one: &mut ConfigMap| one.metadata = metadata).map(Decoded::ConfigMap)
        }
        Kind::EndpointSlice => {
            typed(value, |one: &mut EndpointSlice| one.metadata = metadata).map(Decoded::Slice)
        }
    }
}

fn typed<T: DeserializeOwned>(
    value: Value,
    complete: impl FnOnce(&mut T),
) -> Result<Arc<T>, String> {
    let mut object = serde_json::from_value::<T>(value).map_err(|error| error.to_string())?;
    complete(&mut object);
    Ok(Arc::new(object))
}

/// What an API server does with `stringData` of a Secret.
fn merge_string_data(secret: &mut Secret) {
    let texts = secret.string_data.take().into_iter().flatten();
    let data = secret.data.get_or_insert_default();
    data.extend(texts.map(|(name, text)| (name, ByteString(text.into_bytes()))));
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
    match ObjectMeta::deserialize(raw) {
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
