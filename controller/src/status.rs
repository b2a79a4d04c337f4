//! What users read in the status of their objects: written only when it changed, and slowly.

mod desired;

use std::{collections::HashMap, convert::Infallible, sync::Arc, time::Duration};

use compile::Resources;
use decision::refs::{Kind, ResourceRef};
use jiff::Timestamp;
use k8s_openapi::api::{core::v1::Service, networking::v1::Ingress};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
    core::DynamicObject,
};
use serde_json::{Value, json};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use crate::{pipeline::Outcome, settings::Name, source::cluster::api_resource};

/// Who writes, as `kubectl get --show-managed-fields` shows it.
pub const FIELD_MANAGER: &str = "whygate";
/// Subscriptions expire and Services get addresses without any change of ours.
const INTERVAL: Duration = Duration::from_secs(15);
/// Pause after a write, so that a large installation does not flood the API server.
const PACE: Duration = Duration::from_millis(20);
/// Longest time for one call.
const PATIENCE: Duration = Duration::from_secs(10);

/// What goes into the `status.loadBalancer` of Ingresses.
#[derive(Clone, Debug, Default)]
pub struct Published {
    /// Addresses and names that are known.
    pub addresses: Vec<Address>,
    /// A Service whose addresses it is.
    pub service: Option<Name>,
}

/// An address of the gateway as clients reach it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// An IP address.
    Ip(std::net::IpAddr),
    /// A name.
    Host(String),
}

/// Writes statuses.
#[derive(Clone)]
pub struct Writer {
    client: Client,
    published: Published,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("published", &self.published).finish_non_exhaustive()
    }
}

/// Statuses as they were last written, by object and uid.
type Written = HashMap<(ResourceRef, Option<String>), Value>;

impl Writer {
    /// Writes with the rights of a client.
    pub fn new(client: Client, published: Published) -> Self {
        Self { client, published }
    }

    /// Keeps every status as it should be, for ever.
    ///
    /// # Errors
    /// Never.
    pub async fn follow(
        self,
        mut outcome: watch::Receiver<Option<Arc<Outcome>>>,
    ) -> Result<(), Infallible> {
        let mut written = Written::new();
        loop {
            let newest = outcome.borrow_and_update().clone();
            if let Some(newest) = newest {
                self.write(&newest, &mut written).await;
            }
            // Either way there may be something new; a source that is gone changes nothing more.
            let _ = timeout(INTERVAL, outcome.changed()).await;
        }
    }

    async fn write(&self, outcome: &Outcome, written: &mut Written) {
        let current = Current::of(&outcome.resources);
        let mut standing = Written::new();
        for status in &outcome.statuses {
            let Some(object) = current.ours.get(&status.resource) else { continue };
            let key = (status.resource.clone(), object.uid.clone());
            let before = written.get(&key).or(object.status.as_ref()).cloned();
            let desired = desired::status(status, before.as_ref(), Timestamp::now());
            let known = self.settle(&key.0, before, desired).await;
            standing.extend(known.map(|value| (key, value)));
        }
        if let Some(addresses) = self.addresses().await {
            let desired = json!({ "loadBalancer": { "ingress": addresses } });
            for ingress in &outcome.ingresses {
                let Some(object) = current.ingresses.get(&ingress.resource) else { continue };
                let key = (ingress.resource.clone(), object.uid.clone());
                let before = written.get(&key).or(object.status.as_ref()).cloned();
                let known = self.settle(&key.0, before, desired.clone()).await;
                standing.extend(known.map(|value| (key, value)));
            }
        }
        // What is gone, or could not be written, is forgotten and read from the object again.
        *written = standing;
    }

    /// Writes a status if it differs, and gives back what stands now.
    async fn settle(
        &self,
        resource: &ResourceRef,
        before: Option<Value>,
        desired: Value,
    ) -> Option<Value> {
        if before.as_ref() == Some(&desired) {
            return before;
        }
        let result = timeout(PATIENCE, self.patch(resource, &desired)).await;
        sleep(PACE).await;
        match result {
            Ok(Ok(())) => Some(desired),
            Ok(Err(kube::Error::Api(status))) if status.code == 404 => None,
            Ok(Err(error)) => {
                tracing::warn!(%resource, %error, "Status cannot be written; it is tried again");
                None
            }
            Err(_) => {
                tracing::warn!(%resource, "Status cannot be written in time; it is tried again");
                None
            }
        }
    }

    async fn patch(&self, resource: &ResourceRef, status: &Value) -> kube::Result<()> {
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let (namespace, name) = (&*resource.namespace, &*resource.name);
        let metadata = json!({ "name": name, "namespace": namespace });
        if resource.kind == Kind::Ingress {
            let api: Api<Ingress> = Api::namespaced(self.client.clone(), namespace);
            let object = json!({
                "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
                "metadata": metadata, "status": status,
            });
            return api.patch_status(name, &params, &Patch::Apply(object)).await.map(drop);
        }
        let kind = api_resource(resource.kind);
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), namespace, &kind);
        let object = json!({
            "apiVersion": kind.api_version, "kind": kind.kind,
            "metadata": metadata, "status": status,
        });
        api.patch_status(name, &params, &Patch::Apply(object)).await.map(drop)
    }

    /// What Ingresses should show; nothing if nobody said, or it cannot be told now.
    async fn addresses(&self) -> Option<Vec<Value>> {
        let Published { addresses, service } = &self.published;
        let mut all: Vec<Value> = addresses
            .iter()
            .map(|address| match address {
                Address::Ip(ip) => json!({ "ip": ip.to_string() }),
                Address::Host(host) => json!({ "hostname": host }),
            })
            .collect();
        let Some(Name { namespace, name }) = service else {
            return (!all.is_empty()).then_some(all);
        };
        let api: Api<Service> = Api::namespaced(self.client.clone(), namespace);
        match timeout(PATIENCE, api.get(name)).await {
            Ok(Ok(service)) => {
                all.extend(addresses_of(&service));
                Some(all)
            }
            Ok(Err(error)) => {
                tracing::warn!(%error, "The Service of --publish-service cannot be read");
                None
            }
            Err(_) => None,
        }
    }
}

/// The addresses under which a Service is reached from outside.
fn addresses_of(service: &Service) -> Vec<Value> {
    let balancer = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let entries = balancer.iter().flat_map(|it| it.ingress.iter().flatten());
    let mut all: Vec<Value> = entries
        .filter_map(|entry| match (&entry.ip, &entry.hostname) {
            (Some(ip), _) => Some(json!({ "ip": ip })),
            (None, Some(hostname)) => Some(json!({ "hostname": hostname })),
            (None, None) => None,
        })
        .collect();
    let external = service.spec.iter().flat_map(|spec| spec.external_ips.iter().flatten());
    all.extend(external.map(|ip| json!({ "ip": ip })));
    all
}

/// What objects hold now, as far as it was read.
struct Current {
    ours: HashMap<ResourceRef, Object>,
    ingresses: HashMap<ResourceRef, Object>,
}

struct Object {
    uid: Option<String>,
    status: Option<Value>,
}

impl Current {
    fn of(resources: &Resources) -> Self {
        let kinds = [
            (Kind::AccessPolicy, &resources.access_policies),
            (Kind::AccessPlan, &resources.access_plans),
            (Kind::AccessSubscription, &resources.access_subscriptions),
        ];
        let ours = kinds.into_iter().flat_map(|(kind, objects)| {
            objects.iter().map(move |object| {
                let metadata = &object.metadata;
                let status = object.value.get("status").cloned();
                let uid = metadata.uid.clone();
                (reference(kind, metadata), Object { uid, status })
            })
        });
        let ingresses = resources.ingresses.iter().map(|ingress| {
            let entries = ingress.status.as_ref().and_then(|status| status.load_balancer.as_ref());
            let status = entries.map(|it| json!({ "loadBalancer": it }));
            let uid = ingress.metadata.uid.clone();
            (reference(Kind::Ingress, &ingress.metadata), Object { uid, status })
        });
        Self { ours: ours.collect(), ingresses: ingresses.collect() }
    }
}

/// The name of an object.
pub(crate) fn reference(kind: Kind, metadata: &kube::core::ObjectMeta) -> ResourceRef {
    let namespace = metadata.namespace.as_deref().unwrap_or_default();
    ResourceRef::new(kind, namespace, metadata.name.as_deref().unwrap_or_default())
}
