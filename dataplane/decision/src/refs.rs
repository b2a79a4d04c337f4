//! Names of objects and of places inside them, so that every refusal can point at one.

use std::{fmt, sync::Arc};

use crate::escape::printable;

/// The kinds of object that a decision can point at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// `networking.k8s.io/v1` Ingress.
    Ingress,
    /// `networking.k8s.io/v1` `IngressClass` (cluster-scoped).
    IngressClass,
    /// `whygate.dev` `AccessPolicy`.
    AccessPolicy,
    /// `whygate.dev` `AccessPlan`.
    AccessPlan,
    /// `whygate.dev` `AccessSubscription`.
    AccessSubscription,
    /// Core Service.
    Service,
    /// Core Secret.
    Secret,
    /// Core `ConfigMap`.
    ConfigMap,
    /// Core Namespace (cluster-scoped).
    Namespace,
    /// `discovery.k8s.io/v1` `EndpointSlice`.
    EndpointSlice,
}

impl Kind {
    /// The kind as users write it in `kind:`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ingress => "Ingress",
            Self::IngressClass => "IngressClass",
            Self::AccessPolicy => "AccessPolicy",
            Self::AccessPlan => "AccessPlan",
            Self::AccessSubscription => "AccessSubscription",
            Self::Service => "Service",
            Self::Secret => "Secret",
            Self::ConfigMap => "ConfigMap",
            Self::Namespace => "Namespace",
            Self::EndpointSlice => "EndpointSlice",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One object: kind, namespace and name.
///
/// Prints as `AccessPolicy shop/office`. The namespace is empty for cluster-scoped kinds.
/// Cloning costs two reference counts.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ResourceRef {
    /// What it is.
    pub kind: Kind,
    /// Where it lives; empty for cluster-scoped kinds.
    pub namespace: Arc<str>,
    /// What it is called.
    pub name: Arc<str>,
}

impl ResourceRef {
    /// Names one object.
    pub fn new(kind: Kind, namespace: impl Into<Arc<str>>, name: impl Into<Arc<str>>) -> Self {
        Self { kind, namespace: namespace.into(), name: name.into() }
    }

    /// `namespace/name`, or the bare name of a cluster-scoped object.
    pub fn path(&self) -> impl fmt::Display + '_ {
        fmt::from_fn(|f| {
            if !self.namespace.is_empty() {
                write!(f, "{}/", printable(&self.namespace))?;
            }
            write!(f, "{}", printable(&self.name))
        })
    }
}

impl fmt::Display for ResourceRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.path())
    }
}

/// One field of one object, spelled as `kubectl explain` and `JSONPath` would:
/// `spec.require[0].ip.cidrs[3]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FieldRef {
    /// The object.
    pub resource: ResourceRef,
    /// The place inside it, from the top of the manifest.
    pub path: Arc<str>,
}

impl FieldRef {
    /// Names one field.
    pub fn new(resource: ResourceRef, path: impl Into<Arc<str>>) -> Self {
        Self { resource, path: path.into() }
    }
}

impl fmt::Display for FieldRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.resource, printable(&self.path))
    }
}

/// Where a check stands: what a refusal points at.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Site {
    /// The policy.
    pub policy: ResourceRef,
    /// The rule's name.
    pub rule: Arc<str>,
    /// The check's field: `spec.require[1].anyOf[0].jwt`.
    pub field: Arc<str>,
}

/// A route's name in Events, logs and metrics. Made from configuration alone.
///
/// Prints as `shop/web api.example.com/v1`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RouteName {
    /// The Ingress and the field of the path: `spec.rules[0].http.paths[1]`.
    pub field: FieldRef,
    /// The rule's host, `*` if it has none.
    pub host: Arc<str>,
    /// The path as written.
    pub path: Box<str>,
}

impl fmt::Display for RouteName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { field, host, path } = self;
        write!(f, "{} {}{}", field.resource.path(), printable(host), printable(path))
    }
}
