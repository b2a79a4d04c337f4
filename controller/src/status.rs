//! What users read in the status of their objects: written only when it differs, and slowly.

mod claim;
mod current;
mod desired;
mod ration;

use std::{
    collections::{HashMap, HashSet},
    convert::Infallible,
    sync::Arc,
    time::Duration,
};

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

use self::{
    claim::{Case, Claims},
    current::{Current, Key, Object, Written},
    ration::{Ration, Waiting},
};
use crate::{
    cause::{innermost, missing_verb},
    denials::digest::Digests,
    leader::{Enforced, FIELD_MANAGER, Membership},
    pipeline::Outcome,
    settings::Name,
    source::cluster::{Cluster, api_resource, status_right},
};

/// Subscriptions expire, Services get addresses and strangers overwrite statuses without any change
/// of ours.
const INTERVAL: Duration = Duration::from_secs(15);
/// Until a write is tried again that met a newer object.
const AGAIN: Duration = Duration::from_millis(300);
/// Pause after a write, so that a large installation does not flood the API server.
const PACE: Duration = Duration::from_millis(20);
/// Longest time for one call.
const PATIENCE: Duration = Duration::from_secs(10);

/// What goes into statuses that no manifest says.
#[derive(Clone, Debug, Default)]
pub struct Published {
    /// The name of the controller, by which the releases of a cluster know each other's statuses.
    pub controller: String,
    /// Addresses and names that Ingresses show, as far as they are known.
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
    cluster: Arc<Cluster>,
    published: Published,
    membership: watch::Receiver<Membership>,
    digests: watch::Receiver<Option<Arc<Digests>>>,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("published", &self.published).finish_non_exhaustive()
    }
}

/// What was written, and what was refused.
#[derive(Debug, Default)]
struct Memory {
    written: HashMap<Key, Written>,
    /// Where the right to write is missing, in this round.
    forbidden: HashSet<(Kind, Arc<str>)>,
    /// The kinds for which somebody was told so.
    told: HashSet<Kind>,
    /// Whether an object was newer than we knew, in this round.
    conflicts: bool,
    /// Who gets the next write that changes nothing but the refusals.
    ration: Ration,
    /// Which statuses are other releases'.
    claims: Claims,
    /// Who else writes what we write.
    stranger: Stranger,
    /// Why the Service whose addresses are published could not be read, as it was told.
    unpublished: Option<String>,
}

/// Somebody who writes the addresses of Ingresses that we write, which we can only tell from the
/// traces: whoever it is has Leases elsewhere, if any.
#[derive(Debug, Default)]
struct Stranger {
    times: HashMap<Key, u32>,
    told: bool,
}

impl Stranger {
    /// Once may be a leader of ours that knew older addresses.
    const TIMES: u32 = 2;

    /// Tells, once, what it means that a status was overwritten. Other statuses than those of Ingresses
    /// say what a release sees, so those of two may differ.
    fn note(&mut self, key: &Key) {
        if self.told || key.0.kind != Kind::Ingress {
            return;
        }
        let times = self.times.entry(key.clone()).or_default();
        *times += 1;
        if *times < Self::TIMES {
            return;
        }
        (self.told, self.times) = (true, HashMap::new());
        tracing::warn!(
            resource = %key.0,
            error = "somebody else writes the status, too: another controller, or another release with this class and controller name; give each release an --ingress-class and a --controller-name of its own",
            "A status was overwritten again and again"
        );
    }
}

impl Writer {
    /// Writes with the rights of a client, as long as this replica leads. `digests` are what the
    /// policies refused, once it is known.
    pub fn new(
        client: Client,
        cluster: Arc<Cluster>,
        published: Published,
        membership: watch::Receiver<Membership>,
        digests: watch::Receiver<Option<Arc<Digests>>>,
    ) -> Self {
        Self { client, cluster, published, membership, digests }
    }

    /// Keeps every status as it should be, for ever.
    ///
    /// # Errors
    /// Never.
    pub async fn follow(
        mut self,
        mut outcome: watch::Receiver<Option<Arc<Outcome>>>,
    ) -> Result<(), Infallible> {
        let mut memory = Memory::default();
        loop {
            let newest = outcome.borrow_and_update().clone();
            let leads = self.membership.borrow_and_update().leads();
            let digests = self.digests.borrow_and_update().clone();
            if let Some(newest) = newest.filter(|_| leads) {
                let is_news = || {
                    let news = outcome.has_changed().unwrap_or(false);
                    news || self.membership.has_changed().unwrap_or(false)
                };
                self.write(&newest, digests.as_deref(), &mut memory, is_news).await;
            }
            let pause = if memory.conflicts { AGAIN } else { INTERVAL };
            // Whatever it is, there may be something new.
            tokio::select! {
                Ok(()) = outcome.changed() => {}
                Ok(()) = self.membership.changed() => {}
                Ok(()) = self.digests.changed() => {}
                () = sleep(pause) => {}
            }
        }
    }

    async fn write(
        &self,
        outcome: &Outcome,
        digests: Option<&Digests>,
        memory: &mut Memory,
        is_news: impl Fn() -> bool,
    ) {
        // The resources of the outcome are as old as the last change that means something.
        let current = Current::of(&self.cluster.resources());
        memory.forbidden.clear();
        memory.conflicts = false;
        let others = Arc::clone(&self.membership.borrow().others);
        let ours = Enforced::of(&outcome.statuses);
        let (mut standing, mut waiting) = (HashMap::new(), Vec::new());
        for status in &outcome.statuses {
            let Some(object) = current.ours.get(&status.resource) else { continue };
            let key = (status.resource.clone(), object.uid.clone());
            let before = object.status(memory.written.get(&key));
            let behind = others.iter().filter(|other| {
                !other.as_ref().is_some_and(|other| ours.agrees(other, &status.resource))
            });
            let lag = desired::Lag { behind: behind.count(), replicas: others.len() + 1 };
            let us = &self.published.controller;
            // What another release has seen enforced says nothing of our replicas.
            let own = before.filter(|standing| claim::other(standing, us).is_none());
            let desired = desired::status(status, own, lag, Timestamp::now());
            let desired = claim::signed(desired, us);
            let case = Case { status, standing: before, desired: &desired };
            if !memory.claims.is_ours(&key, case, us) {
                continue;
            }
            // Nor is what it counted told in our name.
            let digest = digests.filter(|_| key.0.kind == Kind::AccessPolicy);
            let digest = digest.map(|digests| json!(digests.of_policy(&key)));
            let (desired, later) = ration::divide(desired, own, digest);
            waiting.extend(later.map(|later| Waiting { key: key.clone(), later }));
            let known = self.settle(&key, object, desired, memory).await;
            standing.extend(known.map(|written| (key, written)));
        }
        if let Some(addresses) = self.addresses(&mut memory.unpublished).await {
            let desired = json!({ "loadBalancer": { "ingress": addresses } });
            for ingress in &outcome.ingresses {
                let Some(object) = current.ingresses.get(&ingress.resource) else { continue };
                let key = (ingress.resource.clone(), object.uid.clone());
                let known = self.settle(&key, object, desired.clone(), memory).await;
                standing.extend(known.map(|written| (key, written)));
            }
        }
        let is_there = |key: &Key| current.ours.get(&key.0).is_some_and(|it| it.uid == key.1);
        memory.ration.retain(is_there);
        memory.claims.retain(is_there);
        // These are the least urgent: whatever else there is to write goes first.
        while !is_news()
            && let Some(Waiting { key, later }) = memory.ration.next(&mut waiting)
        {
            let Some(object) = current.ours.get(&key.0) else { continue };
            let known = self.settle(&key, object, later.status, memory).await;
            match known {
                Some(written) => standing.insert(key, written),
                None => standing.remove(&key),
            };
        }
        // What is gone, or could not be written, is forgotten and read from the object again.
        memory.written = standing;
        let forbidden = &memory.forbidden;
        memory.told.retain(|kind| forbidden.iter().any(|(it, _)| it == kind));
    }

    /// Writes a status if another stands, and gives back what was written last.
    async fn settle(
        &self,
        key: &Key,
        object: &Object,
        desired: Value,
        memory: &mut Memory,
    ) -> Option<Written> {
        let written = memory.written.get(key);
        if object.status(written) == Some(&desired) {
            return written.cloned();
        }
        let resource = &key.0;
        if written.is_some_and(|written| written.is_overwritten(object, &desired)) {
            memory.stranger.note(key);
        }
        let place = (resource.kind, Arc::clone(&resource.namespace));
        if memory.forbidden.contains(&place) || !self.membership.borrow().leads() {
            return None;
        }
        let result = timeout(PATIENCE, self.patch(resource, object, &desired)).await;
        sleep(PACE).await;
        match result {
            Ok(Ok(())) => Some(Written { value: desired, over: object.version.clone() }),
            Ok(Err(kube::Error::Api(status))) if status.code == 404 => None,
            // It was changed meanwhile, maybe by a replica that leads now.
            Ok(Err(kube::Error::Api(status))) if status.code == 409 => {
                memory.conflicts = true;
                None
            }
            Ok(Err(kube::Error::Api(status))) if is_right_missing(&status) => {
                memory.forbidden.insert(place);
                if memory.told.insert(resource.kind) {
                    let error = status_right(resource);
                    tracing::warn!(%resource, error, "Statuses cannot be written");
                }
                None
            }
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

    /// Writes over the object as it is known, and over no other version of it.
    async fn patch(
        &self,
        resource: &ResourceRef,
        object: &Object,
        status: &Value,
    ) -> kube::Result<()> {
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let (namespace, name) = (&*resource.namespace, &*resource.name);
        let version = &object.version;
        let metadata = json!({ "name": name, "namespace": namespace, "resourceVersion": version });
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
    async fn addresses(&self, told: &mut Option<String>) -> Option<Vec<Value>> {
        let Published { addresses, service, .. } = &self.published;
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
        let problem = match timeout(PATIENCE, api.get(name)).await {
            Ok(Ok(service)) => {
                *told = None;
                all.extend(addresses_of(&service));
                return Some(all);
            }
            Ok(Err(error)) => unpublished(&error, namespace, name),
            Err(_) => "the API server does not answer in time".to_owned(),
        };
        if told.as_ref() != Some(&problem) {
            tracing::warn!(error = problem, "Ingresses show no new addresses; it is tried again");
            *told = Some(problem);
        }
        None
    }
}

/// Why the Service of `--publish-service` cannot be read, and what to do about it.
fn unpublished(error: &kube::Error, namespace: &str, name: &str) -> String {
    let flag = format!("`{namespace}/{name}` of --publish-service");
    let kube::Error::Api(status) = error else {
        return format!("the Service {flag} cannot be read: {}", innermost(error));
    };
    if let Some(verb) = missing_verb(status) {
        return format!(
            "the right to {verb} services of the core API group in namespace `{namespace}` is missing, so {flag} cannot be read; grant the ServiceAccount the verb get"
        );
    }
    if status.code == 404 {
        return format!("the Service {flag} does not exist; create it, or name another");
    }
    format!("the Service {flag} cannot be read: {status}")
}

/// Whether the rights of our `ServiceAccount` are too few. Admission refuses single objects with
/// 403, too.
fn is_right_missing(status: &kube::core::Status) -> bool {
    status.code == 403 && status.message.contains("cannot patch")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stranger_is_told_of_when_an_address_was_overwritten_twice() {
        let key = |kind| (ResourceRef::new(kind, "shop", "web"), None);
        let mut stranger = Stranger::default();
        for told in [false, true] {
            stranger.note(&key(Kind::AccessPolicy));
            stranger.note(&key(Kind::Ingress));
            assert_eq!(stranger.told, told);
        }
    }
}
