//! Services that lead nowhere: without a cluster nobody makes an `EndpointSlice` of a selector.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use compile::{
    Finding, IngressSummary, Resources,
    finding::{Effect, Reason},
    reference,
};
use decision::refs::{FieldRef, Kind, ResourceRef};
use k8s_openapi::api::{
    core::v1::Service,
    discovery::v1::EndpointSlice,
    networking::v1::{Ingress, IngressBackend},
};

/// The label by which an `EndpointSlice` names its Service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// A Service that a route uses, and that no `EndpointSlice` names.
#[derive(Debug)]
pub(crate) struct Missing {
    /// The Service.
    pub(crate) service: ResourceRef,
    /// Whether a cluster would make the slice by itself.
    pub(crate) has_selector: bool,
}

impl Missing {
    /// What is told of it.
    pub(crate) fn finding(&self) -> Finding {
        let of_cluster = if self.has_selector {
            "; a cluster makes one of the selector, a directory of manifests does not"
        } else {
            ""
        };
        let name = &self.service.name;
        Finding {
            field: FieldRef::new(self.service.clone(), "metadata.name"),
            reason: Reason::BackendMissing,
            message: format!(
                "no EndpointSlice names this Service, so its routes answer 503 NoEndpoints{of_cluster}"
            ),
            remedy: format!(
                "Put an EndpointSlice beside it, with the label `{SERVICE_NAME}: {name}`; its addresses may be on loopback."
            ),
            effect: Effect::Warns,
        }
    }
}

/// The Services without a slice among those that Ingresses of ours name, in the order of their
/// names. A Service that does not exist, or that is not proxied to, is another finding.
pub(crate) fn missing(
    ours: &[IngressSummary],
    resources: &Resources,
    slices: &[Arc<EndpointSlice>],
) -> Vec<Missing> {
    let named: BTreeSet<_> = slices.iter().filter_map(|slice| service(slice)).collect();
    let known: BTreeMap<_, _> = resources
        .services
        .iter()
        .map(|service| (reference(Kind::Service, &service.metadata), service))
        .collect();
    let without = used(ours, resources).into_iter().filter(|service| !named.contains(service));
    let without = without.filter_map(|resource| {
        let service = known.get(&resource)?;
        let is_proxied_to = kind(service) != Some("ExternalName");
        is_proxied_to.then(|| Missing { service: resource, has_selector: has_selector(service) })
    });
    without.collect()
}

/// The Services that Ingresses of ours name.
fn used(ours: &[IngressSummary], resources: &Resources) -> BTreeSet<ResourceRef> {
    let ours: BTreeSet<_> = ours.iter().map(|summary| &summary.resource).collect();
    let mut used = BTreeSet::new();
    for ingress in &resources.ingresses {
        let resource = reference(Kind::Ingress, &ingress.metadata);
        if ours.contains(&resource) {
            let service = |name| ResourceRef::new(Kind::Service, &*resource.namespace, name);
            used.extend(backends(ingress).map(service));
        }
    }
    used
}

fn service(slice: &EndpointSlice) -> Option<ResourceRef> {
    let name = slice.metadata.labels.as_ref()?.get(SERVICE_NAME)?;
    let namespace = slice.metadata.namespace.as_deref().unwrap_or_default();
    Some(ResourceRef::new(Kind::Service, namespace, name.as_str()))
}

fn kind(service: &Service) -> Option<&str> {
    service.spec.as_ref().and_then(|spec| spec.type_.as_deref())
}

fn has_selector(service: &Service) -> bool {
    let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    selector.is_some_and(|selector| !selector.is_empty())
}

/// The names of the Services that an Ingress leads to.
fn backends(ingress: &Ingress) -> impl Iterator<Item = &str> {
    let spec = ingress.spec.iter();
    let default = spec.clone().filter_map(|spec| spec.default_backend.as_ref());
    let rules = spec.flat_map(|spec| spec.rules.iter().flatten());
    let paths = rules.filter_map(|rule| rule.http.as_ref()).flat_map(|http| &http.paths);
    let backends = default.chain(paths.map(|path| &path.backend));
    backends.filter_map(|backend: &IngressBackend| Some(backend.service.as_ref()?.name.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFESTS: &str = "\
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: { name: web, namespace: shop }
spec:
  ingressClassName: whygate
  defaultBackend: { service: { name: pods, port: { number: 80 } } }
  rules:
  - http:
      paths:
      - { path: /a, pathType: Prefix, backend: { service: { name: bare, port: { number: 80 } } } }
      - { path: /b, pathType: Prefix, backend: { service: { name: placed, port: { number: 80 } } } }
      - { path: /c, pathType: Prefix, backend: { service: { name: gone, port: { number: 80 } } } }
---
{ apiVersion: v1, kind: Service, metadata: { name: pods, namespace: shop }, spec: { selector: { app: web }, ports: [{ port: 80 }] } }
---
{ apiVersion: v1, kind: Service, metadata: { name: bare, namespace: shop }, spec: { ports: [{ port: 80 }] } }
---
{ apiVersion: v1, kind: Service, metadata: { name: placed, namespace: shop }, spec: { ports: [{ port: 80 }] } }
---
{ apiVersion: v1, kind: Service, metadata: { name: unused, namespace: shop }, spec: { ports: [{ port: 80 }] } }
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: { name: placed-1, namespace: shop, labels: { kubernetes.io/service-name: placed } }
addressType: IPv4
endpoints: []
ports: []
";

    #[test]
    fn services_of_routes_without_a_slice_are_named_and_no_others() {
        let manifests = compile::manifest::read([("a.yaml".to_owned(), MANIFESTS.to_owned())]);
        let settings = compile::Settings::default();
        let compiled =
            compile::compile(&manifests.resources, &settings, &compile::Before::default());
        let missing =
            missing(&compiled.ingresses, &manifests.resources, &manifests.endpoint_slices);
        let found: Vec<_> = missing.iter().map(|it| (&*it.service.name, it.has_selector)).collect();
        assert_eq!(found, [("bare", false), ("pods", true)], "{:?}", compiled.findings);
        let finding = missing.first().unwrap().finding();
        assert!(finding.remedy.contains("kubernetes.io/service-name: bare"), "{finding}");
        assert!(manifests.locate(&finding.field).is_some_and(|at| at.line == 16), "{finding}");
    }
}
