//! Look-ups among the resources, built once for a compilation.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use decision::refs::{Kind, ResourceRef};
use k8s_openapi::{
    api::{
        core::v1::{ConfigMap, Namespace, Secret, Service},
        networking::v1::IngressClass,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use crate::{
    finding::{Effect, Findings, Problem, Reason, capitalised},
    map::Map,
    metadata::{place, reference},
    resources::{KnownNamespaces, NamespaceReach, Object, Resources},
    settings::{ExternalNames, Settings},
    surplus::{self, Surplus},
};

/// Objects by namespace and name.
type Named<'a, T> = Map<(&'a str, &'a str), &'a Arc<T>>;

pub(crate) struct Index<'a> {
    /// Services with their names, which all routes to them share.
    pub(crate) services: Map<(&'a str, &'a str), (ResourceRef, &'a Arc<Service>)>,
    pub(crate) secrets: Named<'a, Secret>,
    pub(crate) config_maps: Named<'a, ConfigMap>,
    pub(crate) classes: BTreeMap<&'a str, &'a Arc<IngressClass>>,
    namespaces: Map<&'a str, &'a Arc<Namespace>>,
    unreadable: BTreeSet<(Kind, Option<&'a str>)>,
    secret_reach: &'a NamespaceReach,
    config_map_reach: &'a NamespaceReach,
    pub(crate) external_names: &'a ExternalNames,
    lost: BTreeMap<&'a str, &'a str>,
    every_namespace_is_known: bool,
    surplus: BTreeMap<Kind, Surplus<'a>>,
}

impl<'a> Index<'a> {
    /// Whether an `IngressClass` of this name exists.
    pub(crate) fn has_class(&self, name: &str) -> bool {
        self.classes.contains_key(name)
    }

    pub(crate) fn new(resources: &'a Resources, settings: &'a Settings) -> Self {
        let unreadable = &resources.unreadable;
        let mut lost: Vec<_> = resources.lost.iter().collect();
        lost.sort();
        let lost = lost.into_iter().rev();
        let every_namespace_is_known = resources.known_namespaces == KnownNamespaces::All
            || (settings.namespaces_are_known && resources.namespaces.is_empty());
        let surplus = surplus(resources, settings);
        let mut secrets = named(&resources.secrets, |secret| &secret.metadata);
        if let Some(surplus) = surplus.get(&Kind::Secret) {
            secrets.retain(|(namespace, name), _| !surplus.has(namespace, name));
        }
        Self {
            services: resources.services.iter().map(service).collect(),
            secrets,
            config_maps: named(&resources.config_maps, |it| &it.metadata),
            classes: resources
                .ingress_classes
                .iter()
                .map(|class| (class.metadata.name.as_deref().unwrap_or_default(), class))
                .collect(),
            namespaces: resources
                .namespaces
                .iter()
                .map(|namespace| {
                    (namespace.metadata.name.as_deref().unwrap_or_default(), namespace)
                })
                .collect(),
            unreadable: unreadable
                .iter()
                .map(|list| (list.kind, list.namespace.as_deref()))
                .collect(),
            secret_reach: &resources.secret_reach,
            config_map_reach: &resources.config_map_reach,
            external_names: &settings.external_names,
            lost: lost.map(|lost| (lost.namespace.as_str(), lost.place.as_str())).collect(),
            every_namespace_is_known,
            surplus,
        }
    }

    /// Tells what is missing in these look-ups: what may not be read, and what is beyond a cap.
    pub(crate) fn tell(&self, findings: &mut Findings) {
        for surplus in self.surplus.values() {
            surplus.tell(findings);
        }
        for (kind, namespace) in &self.unreadable {
            // A right for all namespaces that is missing keeps the program from serving at all.
            let Some(namespace) = namespace else { continue };
            let Some(message) = unreadable(*kind, namespace) else { continue };
            let remedy = format!("{}.", capitalised(&missing_right(*kind, namespace)));
            let problem = Problem::new("metadata.name", message, remedy);
            let namespace = ResourceRef::new(Kind::Namespace, "", *namespace);
            findings.add(&namespace, Reason::PolicyUnenforceable, Effect::Closes, problem);
        }
    }

    /// What is wrong with an object that is beyond the cap of its namespace; Ingresses are counted
    /// where it is known which are ours.
    pub(crate) fn surplus(&self, kind: Kind, metadata: &ObjectMeta) -> Option<Problem> {
        self.surplus.get(&kind)?.problem_of(metadata)
    }

    /// The same for an object by its namespace and name.
    pub(crate) fn surplus_of(&self, kind: Kind, name: (&str, &str)) -> Option<Problem> {
        self.surplus.get(&kind)?.problem(name)
    }

    /// The Namespace object, if there is one.
    pub(crate) fn namespace(&self, name: &str) -> Option<&'a Arc<Namespace>> {
        self.namespaces.get(name).copied()
    }

    /// The file and line that may hold policies of a namespace and cannot be read.
    pub(crate) fn lost(&self, namespace: &str) -> Option<&'a str> {
        self.lost.get(namespace).copied()
    }

    pub(crate) fn is_known(&self, namespace: &str) -> bool {
        self.every_namespace_is_known || self.namespaces.contains_key(namespace)
    }

    /// Whether the list of a kind in a namespace was refused.
    pub(crate) fn is_unreadable(&self, kind: Kind, namespace: &str) -> bool {
        !self.unreadable.is_empty()
            && (self.unreadable.contains(&(kind, None))
                || self.unreadable.contains(&(kind, Some(namespace))))
    }

    /// Why nothing can be said of a Secret of a namespace that is not among those that were read,
    /// and the remedy; nothing if it is not there.
    pub(crate) fn unread_secret(&self, namespace: &str) -> Option<(String, String)> {
        self.unread((Kind::Secret, "Secrets"), self.secret_reach, namespace)
    }

    /// The same for a `ConfigMap`.
    pub(crate) fn unread_config_map(&self, namespace: &str) -> Option<(String, String)> {
        self.unread((Kind::ConfigMap, "ConfigMaps"), self.config_map_reach, namespace)
    }

    fn unread(
        &self,
        (kind, plural): (Kind, &str),
        reach: &NamespaceReach,
        namespace: &str,
    ) -> Option<(String, String)> {
        let right = missing_right(kind, namespace);
        if let NamespaceReach::Named { flag, namespaces } = reach
            && !namespaces.iter().any(|named| named == namespace)
        {
            let problem = format!(
                "{plural} of namespace `{namespace}` are not read, because `{flag}` does not name it"
            );
            return Some((problem, format!("Name `{namespace}` in `{flag}`, and {right}.")));
        }
        self.is_unreadable(kind, namespace)
            .then(|| ("it may not be read".to_owned(), format!("{}.", capitalised(&right))))
    }
}

fn surplus<'a>(resources: &'a Resources, settings: &Settings) -> BTreeMap<Kind, Surplus<'a>> {
    let ours = |objects: &'a [Arc<Object>], of| {
        Surplus::of(of, objects.iter().map(|object| &object.metadata), settings)
    };
    let [policies, plans, subscriptions, secrets] = &surplus::OTHERS;
    let metadata = resources.secrets.iter().map(|secret| &secret.metadata);
    let all = [
        (policies.kind, ours(&resources.access_policies, policies)),
        (plans.kind, ours(&resources.access_plans, plans)),
        (subscriptions.kind, ours(&resources.access_subscriptions, subscriptions)),
        (secrets.kind, Surplus::of(secrets, metadata, settings)),
    ];
    all.into()
}

/// What follows for a namespace whose list of a kind was refused, if no object of another kind that
/// needs it could tell.
fn unreadable(kind: Kind, namespace: &str) -> Option<String> {
    match kind {
        Kind::Ingress => Some(format!(
            "Ingresses of namespace `{namespace}` may not be read, so none of them has a route or keeps its hosts"
        )),
        Kind::AccessSubscription => Some(format!(
            "AccessSubscriptions of namespace `{namespace}` may not be read, so they open nothing, neither here nor for plans of other namespaces"
        )),
        Kind::AccessPolicy
        | Kind::AccessPlan
        | Kind::Service
        | Kind::Secret
        | Kind::ConfigMap
        | Kind::IngressClass
        | Kind::Namespace
        | Kind::EndpointSlice => None,
    }
}

/// What to grant if a list was refused.
pub(crate) fn missing_right(kind: Kind, namespace: &str) -> String {
    let rule = match kind {
        Kind::Ingress => "`ingresses` of API group networking.k8s.io",
        Kind::IngressClass => "`ingressclasses` of API group networking.k8s.io",
        Kind::AccessPolicy => "`accesspolicies` of API group whygate.dev",
        Kind::AccessPlan => "`accessplans` of API group whygate.dev",
        Kind::AccessSubscription => "`accesssubscriptions` of API group whygate.dev",
        Kind::Service => "`services` of the core API group",
        Kind::Secret => "`secrets` of the core API group",
        Kind::ConfigMap => "`configmaps` of the core API group",
        Kind::Namespace => "`namespaces` of the core API group",
        Kind::EndpointSlice => "`endpointslices` of API group discovery.k8s.io",
    };
    format!(
        "grant the controller's ServiceAccount the verbs get, list and watch on {rule} in namespace `{namespace}`"
    )
}

fn service(service: &Arc<Service>) -> ((&str, &str), (ResourceRef, &Arc<Service>)) {
    (place(&service.metadata), (reference(Kind::Service, &service.metadata), service))
}

fn named<T>(objects: &[Arc<T>], metadata: impl Fn(&T) -> &ObjectMeta) -> Named<'_, T> {
    objects
        .iter()
        .map(|object| {
            let (namespace, name) = place(metadata(object));
            ((namespace, name), object)
        })
        .collect()
}
