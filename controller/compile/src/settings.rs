//! What the process was told, as far as compiling depends on it.

use std::{collections::BTreeMap, num::NonZeroUsize, sync::Arc};

use decision::host::HostPattern;

/// What `spec.controller` of our `IngressClasses` says if nobody says otherwise.
pub const CONTROLLER: &str = "whygate.dev/ingress-controller";

/// How many objects of a kind a namespace may have if nobody says otherwise.
pub const MAX_OBJECTS_PER_NAMESPACE: NonZeroUsize = match NonZeroUsize::new(5_000) {
    Some(number) => number,
    None => NonZeroUsize::MIN,
};

/// Settings of the process that change what manifests mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Name of the class whose Ingresses are ours, besides those of `IngressClasses` that name our
    /// controller; an `IngressClass` of this name that names another controller is that one's.
    /// Default `whygate`.
    pub ingress_class: String,
    /// What `spec.controller` of our `IngressClasses` says. Default `whygate.dev/ingress-controller`.
    pub controller_name: String,
    /// Whether Ingresses without any class are ours. Default false.
    pub watch_ingress_without_class: bool,
    /// What happens with routes without a policy. Default open.
    pub default_posture: Posture,
    /// Who owns a host, whatever the age of its Ingresses. Of equal patterns the first counts.
    pub host_namespaces: Vec<(HostPattern, String)>,
    /// Namespace and name of the Secret for handshakes without a name that we know.
    pub default_tls_secret: Option<(String, String)>,
    /// Whether every namespace is known as long as there is no Namespace at all, as in a directory
    /// of manifests that leaves them out. Default false.
    pub namespaces_are_known: bool,
    /// How many objects of one kind a namespace may have, so that no tenant buys the compiler:
    /// Ingresses of ours, `AccessPolicies`, `AccessPlans`, `AccessSubscriptions`, and Secrets for
    /// TLS and key sets, each kind by itself. At least 1, default 5000. Of the rest, which is the
    /// youngest objects, nothing is compiled: routes of those Ingresses and all that those policies
    /// name are refused, those plans and subscriptions open nothing, and those Secrets count as
    /// missing.
    pub max_objects_per_namespace: NonZeroUsize,
    /// Whether Services of type `ExternalName` are served. Default refused.
    pub external_names: ExternalNames,
}

/// Whether Services of type `ExternalName` are served.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ExternalNames {
    /// They are backends that are missing.
    #[default]
    Refused,
    /// They are, but for the names that something is wrong with.
    Allowed(Arc<NameProblems>),
}

/// What is known of names that something is wrong with.
pub type NameProblems = BTreeMap<Arc<str>, NameProblem>;

/// What is wrong with where a name leads. Its words stay the same as long as nothing changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameProblem {
    /// What is wrong, after "it leads to `NAME`, which": without a period.
    pub message: String,
    /// What to do: whole sentences.
    pub remedy: String,
    /// Whether nothing can be forwarded; otherwise an earlier answer is still in use.
    pub closes: bool,
}

/// What happens with routes without a policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Posture {
    /// They pass, unless their `IngressClass` or Namespace says otherwise.
    #[default]
    Open,
    /// They are refused with `PolicyRequired`.
    Closed,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            ingress_class: "whygate".to_owned(),
            controller_name: CONTROLLER.to_owned(),
            watch_ingress_without_class: false,
            default_posture: Posture::Open,
            host_namespaces: Vec::new(),
            default_tls_secret: None,
            namespaces_are_known: false,
            max_objects_per_namespace: MAX_OBJECTS_PER_NAMESPACE,
            external_names: ExternalNames::Refused,
        }
    }
}
