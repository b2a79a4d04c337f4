//! Everything that compiling looks at, as values: the objects of a cluster or of a directory.

use std::sync::Arc;

use decision::refs::Kind;
use k8s_openapi::{
    api::{
        core::v1::{ConfigMap, Namespace, Secret, Service},
        networking::v1::{Ingress, IngressClass},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use serde_json::Value;

/// The objects of an installation. The order of every list is without effect.
///
/// Build it only after each kind was listed once: what is not in here counts as not existing.
#[derive(Clone, Debug, Default)]
pub struct Resources {
    /// Ingresses of every class; those of other controllers are ignored.
    pub ingresses: Vec<Arc<Ingress>>,
    /// Ingresses that cannot be decoded. What can be read of their hosts is refused.
    pub undecodable_ingresses: Vec<Arc<Object>>,
    /// `IngressClasses` of every controller.
    pub ingress_classes: Vec<Arc<IngressClass>>,
    /// Namespaces, for their labels and annotations.
    pub namespaces: Vec<Arc<Namespace>>,
    /// Services that Ingresses may name.
    pub services: Vec<Arc<Service>>,
    /// Secrets of type `kubernetes.io/tls`, and those with the label `whygate.dev/use`.
    pub secrets: Vec<Arc<Secret>>,
    /// `ConfigMaps` with the label `whygate.dev/use`.
    pub config_maps: Vec<Arc<ConfigMap>>,
    /// `AccessPolicies`, decodable or not.
    pub access_policies: Vec<Arc<Object>>,
    /// `AccessPlans`, decodable or not.
    pub access_plans: Vec<Arc<Object>>,
    /// `AccessSubscriptions`, decodable or not.
    pub access_subscriptions: Vec<Arc<Object>>,
    /// Whose Secrets are read at all.
    pub secret_reach: NamespaceReach,
    /// Whose `ConfigMaps` are.
    pub config_map_reach: NamespaceReach,
    /// What could not be listed; routes that need it are closed.
    pub unreadable: Vec<Unreadable>,
    /// Manifests that cannot be read and may hold a policy.
    pub lost: Vec<Lost>,
    /// Which namespaces count as known.
    pub known_namespaces: KnownNamespaces,
}

/// An object as it came, not decoded: decoding is a part of compiling, because an object that
/// cannot be decoded must close something and not vanish.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Object {
    /// Name, namespace, generation and creation time.
    pub metadata: ObjectMeta,
    /// The whole manifest, with `apiVersion`, `kind`, `metadata` and `spec`.
    pub value: Value,
}

/// The namespaces whose objects of a kind are read. Of others nobody knows which there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum NamespaceReach {
    /// All of them. The default.
    #[default]
    Everywhere,
    /// Those that a flag of the process names.
    Named {
        /// The flag, with its hyphens.
        flag: &'static str,
        /// What it names; nothing if no object of the kind is read.
        namespaces: Vec<String>,
    },
}

/// A list that the API server answered with 403.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Unreadable {
    /// The kind that could not be listed.
    pub kind: Kind,
    /// The namespace that could not be listed; `None` for all of them.
    pub namespace: Option<String>,
}

/// A manifest that cannot be read although it speaks of policies: routes that it may have
/// protected are closed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Lost {
    /// The namespace that it names.
    pub namespace: String,
    /// File and line.
    pub place: String,
}

/// Which namespaces count as known. An Ingress in an unknown one is refused, because its
/// Namespace could say that it is closed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KnownNamespaces {
    /// Those in [`Resources::namespaces`]. The default.
    #[default]
    Listed,
    /// All: Namespaces are not read here.
    All,
}
