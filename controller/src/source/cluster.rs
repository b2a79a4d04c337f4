//! A cluster as a source: one reflector store a kind, nothing before each was listed once.

mod definition;
mod heard;
mod pause;
mod raw;
mod right;
mod slot;

use std::{convert::Infallible, fmt, sync::Arc, time::Duration};

use compile::{
    Resources,
    keys::USE_LABEL,
    resources::{KnownNamespaces, NamespaceReach, Unreadable},
};
use decision::refs::{Kind, ResourceRef};
use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        core::v1::{ConfigMap, Namespace, Secret, Service},
        discovery::v1::EndpointSlice,
        networking::v1::{Ingress, IngressClass},
    },
};
use kube::{Api, Client, core::ApiResource, runtime::watcher};
use tokio::sync::{Notify, watch};

use crate::{
    admin::Admin,
    pipeline::{Feed, Slices},
    supervise::Supervisor,
};
use definition::Definition;
use raw::Raw;
use slot::{Place, Slot};

/// The kinds of ours with their plurals.
const OURS: [(Kind, &str); 3] = [
    (Kind::AccessPolicy, "accesspolicies"),
    (Kind::AccessPlan, "accessplans"),
    (Kind::AccessSubscription, "accesssubscriptions"),
];

/// How to reach an object of ours without its Rust type.
pub fn api_resource(kind: Kind) -> ApiResource {
    let plural = OURS.iter().find(|(ours, _)| *ours == kind).map_or("", |(_, plural)| plural);
    ApiResource {
        group: "whygate.dev".to_owned(),
        version: "v1alpha1".to_owned(),
        api_version: "whygate.dev/v1alpha1".to_owned(),
        kind: kind.as_str().to_owned(),
        plural: plural.to_owned(),
    }
}

/// What to grant so that the status of an object, and of all others like it, can be written.
pub fn status_right(resource: &ResourceRef) -> String {
    let plural = OURS.iter().find(|(ours, _)| *ours == resource.kind);
    let (group, plural) =
        plural.map_or(("networking.k8s.io", "ingresses"), |(_, plural)| ("whygate.dev", *plural));
    format!(
        "the right to patch `{plural}/status` of API group {group} in namespace `{}` is missing; grant the ServiceAccount the verb patch",
        resource.namespace
    )
}

/// What is read of a cluster.
#[derive(Clone, Debug, Default)]
pub struct Reach {
    /// The namespaces that are watched; empty for all.
    pub namespaces: Vec<String>,
    /// The namespaces whose Secrets are read, if not those that are watched.
    pub secrets: Option<Vec<String>>,
    /// The namespaces whose `ConfigMaps` are read; nothing for all that are watched.
    pub config_maps: Option<Vec<String>>,
    /// Nothing that has no namespace is read: neither `IngressClasses` nor Namespaces nor the
    /// definitions of our kinds. Every watched namespace counts as known.
    pub without_cluster: bool,
}

impl Reach {
    /// What it means for Secrets.
    fn of_secrets(&self) -> NamespaceReach {
        self.of(self.secrets.as_ref(), "--secret-namespaces")
    }

    /// What it means for `ConfigMaps`.
    fn of_config_maps(&self) -> NamespaceReach {
        self.of(self.config_maps.as_ref(), "--config-map-namespaces")
    }

    fn of(&self, given: Option<&Vec<String>>, flag: &'static str) -> NamespaceReach {
        let named = |flag, namespaces: &Vec<String>| NamespaceReach::Named {
            flag,
            namespaces: namespaces.clone(),
        };
        match given {
            Some(namespaces) => named(flag, namespaces),
            None if self.namespaces.is_empty() => NamespaceReach::Everywhere,
            None => named("--watch-namespace", &self.namespaces),
        }
    }
}

/// Where a kind is watched.
#[derive(Clone, Debug)]
enum Places {
    Everywhere,
    These(Vec<String>),
}

impl Places {
    /// The namespaces of a flag, where none means all.
    fn of(namespaces: &[String]) -> Self {
        if namespaces.is_empty() { Self::Everywhere } else { Self::These(namespaces.to_vec()) }
    }

    /// One watch each; `None` is that of all namespaces.
    fn each(&self) -> impl Iterator<Item = Option<&str>> {
        let (all, these) = match self {
            Self::Everywhere => (Some(None), [].as_slice()),
            Self::These(names) => (None, names.as_slice()),
        };
        all.into_iter().chain(these.iter().map(|name| Some(name.as_str())))
    }
}

/// The stores of every kind, each with one slot a namespace or one for all.
pub struct Cluster {
    client: Client,
    reach: Reach,
    admin: Admin,
    changed: Arc<Notify>,
    slices_changed: Arc<Notify>,
    ingresses: Vec<Arc<Slot<Ingress>>>,
    ingress_classes: Vec<Arc<Slot<IngressClass>>>,
    known_namespaces: Vec<Arc<Slot<Namespace>>>,
    services: Vec<Arc<Slot<Service>>>,
    secrets: Vec<Arc<Slot<Secret>>>,
    config_maps: Vec<Arc<Slot<ConfigMap>>>,
    slices: Vec<Arc<Slot<EndpointSlice>>>,
    ours: Vec<(Kind, Vec<Arc<Slot<Raw>>>)>,
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("reach", &self.reach).finish_non_exhaustive()
    }
}

impl Cluster {
    /// Stores that are empty and not ready.
    pub fn new(client: Client, reach: Reach, admin: Admin) -> Self {
        Self {
            client,
            reach,
            admin,
            changed: Arc::new(Notify::new()),
            slices_changed: Arc::new(Notify::new()),
            ingresses: Vec::new(),
            ingress_classes: Vec::new(),
            known_namespaces: Vec::new(),
            services: Vec::new(),
            secrets: Vec::new(),
            config_maps: Vec::new(),
            slices: Vec::new(),
            ours: Vec::new(),
        }
    }

    /// Starts every watch. The feed stays empty until each kind was listed once. The stores are for
    /// whoever has to know objects as they are now.
    pub fn start(mut self, supervisor: &mut Supervisor) -> (Feed, Arc<Self>) {
        // Everything else is listed after the Ingresses: what was there before an Ingress that we
        // see, its policy above all, is seen, too. Two watches have no common order of their own.
        let Reach { namespaces, secrets, config_maps, without_cluster } = self.reach.clone();
        let watched = Places::of(&namespaces);
        self.ingresses = self.everywhere(&watched, "ingresses", &config(), supervisor);
        if !without_cluster {
            self.ingress_classes = vec![self.cluster_wide("ingressclasses", supervisor)];
            self.known_namespaces = vec![self.cluster_wide("namespaces", supervisor)];
        }
        self.services = self.everywhere(&watched, "services", &config(), supervisor);
        let tls = config().fields("type=kubernetes.io/tls");
        let used = config().labels(USE_LABEL);
        let places = secrets.map_or(watched.clone(), Places::These);
        self.secrets =
            self.everywhere(&places, "secrets of type kubernetes.io/tls", &tls, supervisor);
        self.secrets.extend(self.everywhere(&places, "secrets in use", &used, supervisor));
        let places = config_maps.map_or(watched.clone(), Places::These);
        self.config_maps = self.everywhere(&places, "configmaps in use", &used, supervisor);
        let any = config().any_semantic();
        self.slices = self.everywhere(&watched, "endpointslices", &any, supervisor);
        for (kind, plural) in OURS {
            let slots = self.own_kind(&watched, kind, plural, supervisor);
            self.ours.push((kind, slots));
        }
        let (resources, slices) = (watch::Sender::new(None), watch::Sender::new(None));
        let feed = Feed { resources: resources.subscribe(), slices: slices.subscribe() };
        let this = Arc::new(self);
        let stores = Arc::clone(&this);
        supervisor.keep("resources", move || Arc::clone(&stores).gather(resources.clone()));
        let stores = Arc::clone(&this);
        supervisor.keep("slices", move || Arc::clone(&stores).gather_slices(slices.clone()));
        (feed, this)
    }

    /// A kind of Kubernetes' own in the watched namespaces.
    fn everywhere<K>(
        &self,
        places: &Places,
        what: &'static str,
        config: &watcher::Config,
        supervisor: &mut Supervisor,
    ) -> Vec<Arc<Slot<K>>>
    where
        K: slot::Stored<DynamicType = ()> + kube::Resource<Scope = NamespaceResourceScope>,
    {
        let slots = places.each().map(|namespace| {
            let place = Place { what, namespace: namespace.map(str::to_owned) };
            let slot = Slot::new(place, &self.admin, self.notify(what), ());
            let client = heard::client(&self.client, slot.pulse());
            let api = match namespace {
                Some(name) => Api::namespaced(client, name),
                None => Api::all(client),
            };
            self.follow(slot, api, config, None, supervisor)
        });
        slots.collect()
    }

    /// A kind without namespaces.
    fn cluster_wide<K>(&self, what: &'static str, supervisor: &mut Supervisor) -> Arc<Slot<K>>
    where
        K: slot::Stored<DynamicType = ()>,
    {
        let slot = Slot::new(Place { what, namespace: None }, &self.admin, self.notify(what), ());
        let api = Api::all(heard::client(&self.client, slot.pulse()));
        self.follow(slot, api, &config(), None, supervisor)
    }

    /// A kind of ours, whose definition may be missing, too old, or removed while we run.
    fn own_kind(
        &self,
        places: &Places,
        kind: Kind,
        plural: &'static str,
        supervisor: &mut Supervisor,
    ) -> Vec<Arc<Slot<Raw>>> {
        let resource = api_resource(kind);
        let definition = Definition::new(self.client.clone(), plural, self.admin.clone());
        let definition = (!self.reach.without_cluster).then_some(definition);
        let config = config();
        let slots = places.each().map(|namespace| {
            let place = Place { what: plural, namespace: namespace.map(str::to_owned) };
            let slot = Slot::new(place, &self.admin, Arc::clone(&self.changed), resource.clone());
            let client = heard::client(&self.client, slot.pulse());
            let api = match namespace {
                Some(name) => Api::namespaced_with(client, name, &resource),
                None => Api::all_with(client, &resource),
            };
            let closes = kind == Kind::AccessPolicy;
            let slot = if closes { slot.keeping_orphans() } else { slot };
            self.follow(slot, api, &config, definition.clone(), supervisor)
        });
        slots.collect()
    }

    fn notify(&self, what: &str) -> Arc<Notify> {
        Arc::clone(if what == "endpointslices" { &self.slices_changed } else { &self.changed })
    }

    fn follow<K: slot::Stored>(
        &self,
        slot: Slot<K>,
        api: Api<K>,
        config: &watcher::Config,
        definition: Option<Definition>,
        supervisor: &mut Supervisor,
    ) -> Arc<Slot<K>> {
        let slot = Arc::new(slot);
        let (followed, config) = (Arc::clone(&slot), config.clone());
        let before = self.ingresses.clone();
        supervisor.keep("watch", move || {
            let (before, followed) = (before.clone(), Arc::clone(&followed));
            let (api, config, definition) = (api.clone(), config.clone(), definition.clone());
            async move {
                while !before.iter().all(|slot| slot.is_settled()) {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                followed.follow(api, config, definition).await
            }
        });
        slot
    }

    /// Publishes all resources after each change, for ever; nothing before everything was listed.
    async fn gather(
        self: Arc<Self>,
        resources: watch::Sender<Option<Arc<Resources>>>,
    ) -> Result<(), Infallible> {
        loop {
            if self.is_complete() {
                resources.send_replace(Some(Arc::new(self.resources())));
            }
            self.changed.notified().await;
        }
    }

    /// The same for endpoints.
    async fn gather_slices(
        self: Arc<Self>,
        slices: watch::Sender<Option<Arc<Slices>>>,
    ) -> Result<(), Infallible> {
        /// Endpoints come in swarms; a table is built from all of them.
        const SWARM: Duration = Duration::from_millis(5);
        loop {
            if self.slices.iter().all(|slot| slot.is_settled()) {
                slices.send_replace(Some(Arc::new(objects(&self.slices))));
            }
            self.slices_changed.notified().await;
            tokio::time::sleep(SWARM).await;
        }
    }

    fn is_complete(&self) -> bool {
        self.ingresses.iter().all(|slot| slot.is_settled())
            && self.ingress_classes.iter().all(|slot| slot.is_settled())
            && self.known_namespaces.iter().all(|slot| slot.is_settled())
            && self.services.iter().all(|slot| slot.is_settled())
            && self.secrets.iter().all(|slot| slot.is_settled())
            && self.config_maps.iter().all(|slot| slot.is_settled())
            && self.ours.iter().flat_map(|(_, slots)| slots).all(|slot| slot.is_settled())
    }

    /// All objects as they are known now, also those of which only the status changed.
    pub fn resources(&self) -> Resources {
        let ours = |kind: Kind| {
            let slots = self.ours.iter().filter(|(it, _)| *it == kind).flat_map(|(_, slots)| slots);
            let raw = slots.flat_map(|slot| slot.objects());
            raw.map(|raw| Arc::clone(&raw.object)).collect()
        };
        Resources {
            ingresses: objects(&self.ingresses),
            ingress_classes: objects(&self.ingress_classes),
            namespaces: objects(&self.known_namespaces),
            services: objects(&self.services),
            secrets: objects(&self.secrets),
            config_maps: objects(&self.config_maps),
            access_policies: ours(Kind::AccessPolicy),
            access_plans: ours(Kind::AccessPlan),
            access_subscriptions: ours(Kind::AccessSubscription),
            known_namespaces: if self.reach.without_cluster {
                KnownNamespaces::All
            } else {
                KnownNamespaces::Listed
            },
            secret_reach: self.reach.of_secrets(),
            config_map_reach: self.reach.of_config_maps(),
            unreadable: self.unreadable(),
            ..Resources::default()
        }
    }

    /// Lists of single namespaces that are forbidden.
    fn unreadable(&self) -> Vec<Unreadable> {
        let mut all = Vec::new();
        let mut add = |kind, namespace: Option<String>| {
            if let Some(namespace) = namespace {
                all.push(Unreadable { kind, namespace: Some(namespace) });
            }
        };
        for slot in &self.ingresses {
            add(Kind::Ingress, slot.forbidden());
        }
        for slot in &self.services {
            add(Kind::Service, slot.forbidden());
        }
        for slot in &self.secrets {
            add(Kind::Secret, slot.forbidden());
        }
        for slot in &self.config_maps {
            add(Kind::ConfigMap, slot.forbidden());
        }
        for (kind, slots) in &self.ours {
            for slot in slots {
                add(*kind, slot.forbidden());
            }
        }
        all
    }
}

/// Watches are short, so that a connection that died in silence is noticed within about a minute.
fn config() -> watcher::Config {
    watcher::Config::default().timeout(60)
}

fn objects<K: slot::Stored>(slots: &[Arc<Slot<K>>]) -> Vec<Arc<K>> {
    slots.iter().flat_map(|slot| slot.objects()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_read_where_a_flag_says_so_or_where_everything_else_is() {
        let reach = |namespaces: &[&str], secrets: Option<&[&str]>| {
            let owned = |names: &[&str]| names.iter().map(ToString::to_string).collect();
            let (namespaces, secrets) = (owned(namespaces), secrets.map(owned));
            let config_maps = Some(Vec::new());
            Reach { namespaces, secrets, config_maps, without_cluster: false }.of_secrets()
        };
        let named =
            |flag, name: &str| NamespaceReach::Named { flag, namespaces: vec![name.to_owned()] };
        assert_eq!(reach(&[], None), NamespaceReach::Everywhere);
        assert_eq!(reach(&["shop"], None), named("--watch-namespace", "shop"));
        assert_eq!(reach(&["shop", "zoo"], Some(&["zoo"])), named("--secret-namespaces", "zoo"));
        let nothing = NamespaceReach::Named { flag: "--secret-namespaces", namespaces: Vec::new() };
        assert_eq!(reach(&[], Some(&[])), nothing);
    }
}
