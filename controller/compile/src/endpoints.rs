//! Where the ports of Services lead: a table of addresses, built apart from the snapshot because
//! endpoints change far more often than routes and are not policy.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use decision::{
    refs::{Kind, ResourceRef},
    route::ServicePort,
};
use k8s_openapi::api::{
    core::v1::Service,
    discovery::v1::{Endpoint, EndpointPort, EndpointSlice},
};

use crate::{external::is_external, metadata::place};

/// The label by which an `EndpointSlice` names its Service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

type Name<'a> = (&'a str, &'a str);

/// The addresses of every TCP port of every Service, sorted, each once.
///
/// An endpoint counts if it is ready (`ready` left out means ready) and not terminating. If there is
/// none, those count that are about to end but still serve, as with kube-proxy. Ports of
/// slices are matched by the name of the Service's port, and lead to the slice's own number.
/// Slices of type `FQDN`, and Services of type `ExternalName` with slices of whomever, are left out.
/// A port without any endpoint has an empty list.
pub fn endpoints(
    services: &[Arc<Service>],
    slices: &[Arc<EndpointSlice>],
) -> HashMap<ServicePort, Vec<SocketAddr>> {
    let mut by_service: HashMap<Name<'_>, Vec<&EndpointSlice>> = HashMap::new();
    for slice in slices {
        let labels = slice.metadata.labels.as_ref();
        if let Some(service) = labels.and_then(|labels| labels.get(SERVICE_NAME)) {
            let namespace = place(&slice.metadata).0;
            by_service.entry((namespace, service)).or_default().push(slice);
        }
    }
    let mut table = HashMap::new();
    for service in services.iter().filter(|service| !is_external(service)) {
        let name = place(&service.metadata);
        let slices = by_service.get(&name).map(Vec::as_slice).unwrap_or_default();
        for (port, port_name) in ports(service) {
            let resource = ResourceRef::new(Kind::Service, name.0, name.1);
            table.insert(ServicePort { service: resource, port }, addresses(slices, port_name));
        }
    }
    table
}

/// Number and name of the TCP ports of a Service; the only port of a Service may have no name.
fn ports(service: &Service) -> impl Iterator<Item = (u16, &str)> {
    let ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
    ports.filter(|port| matches!(port.protocol.as_deref(), None | Some("TCP"))).filter_map(|port| {
        Some((u16::try_from(port.port).ok()?, port.name.as_deref().unwrap_or_default()))
    })
}

fn addresses(slices: &[&EndpointSlice], port_name: &str) -> Vec<SocketAddr> {
    let ready = addresses_of(slices, port_name, is_ready);
    if ready.is_empty() { addresses_of(slices, port_name, is_last_resort) } else { ready }
}

fn addresses_of(
    slices: &[&EndpointSlice],
    port_name: &str,
    counts: impl Fn(&Endpoint) -> bool,
) -> Vec<SocketAddr> {
    let mut found = Vec::new();
    for slice in slices {
        let ports = slice.ports.iter().flatten();
        for number in ports.filter_map(|port| number(port, port_name)) {
            let counting = slice.endpoints.iter().filter(|endpoint| counts(endpoint));
            let addresses = counting.flat_map(|endpoint| &endpoint.addresses);
            found
                .extend(addresses.filter_map(|text| {
                    Some(SocketAddr::new(text.parse::<IpAddr>().ok()?, number))
                }));
        }
    }
    found.sort();
    found.dedup();
    found
}

fn number(port: &EndpointPort, name: &str) -> Option<u16> {
    let tcp = matches!(port.protocol.as_deref(), None | Some("TCP"));
    let named = port.name.as_deref().unwrap_or_default() == name;
    if tcp && named { u16::try_from(port.port?).ok().filter(|port| *port > 0) } else { None }
}

fn is_ready(endpoint: &Endpoint) -> bool {
    let Some(conditions) = &endpoint.conditions else { return true };
    conditions.ready.unwrap_or(true) && !conditions.terminating.unwrap_or(false)
}

/// Whether an endpoint is about to end and still serves.
fn is_last_resort(endpoint: &Endpoint) -> bool {
    let Some(conditions) = &endpoint.conditions else { return false };
    conditions.terminating == Some(true) && conditions.serving == Some(true)
}
