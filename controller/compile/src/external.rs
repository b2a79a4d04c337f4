//! Services of type `ExternalName`: which name, and what is wrong with where it leads.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use decision::{host::Host, route::ServicePort};
use k8s_openapi::api::{
    core::v1::Service,
    networking::v1::{IngressBackend, IngressServiceBackend},
};

use crate::{
    finding::Problem,
    index::Index,
    ingress::Selected,
    settings::{ExternalNames, NameProblem},
};

/// The ports of Ingresses of ours that lead to a name, and the name of each.
pub(crate) fn names(
    ingresses: &[Selected<'_>],
    index: &Index<'_>,
) -> BTreeMap<ServicePort, Arc<str>> {
    let mut names = BTreeMap::new();
    if let ExternalNames::Refused = index.external_names {
        return names;
    }
    for ingress in ingresses.iter().filter(|ingress| ingress.problem.is_none()) {
        let paths = ingress.rules.iter().flat_map(|rule| &rule.paths).map(|path| path.backend);
        for backend in paths.chain(ingress.default) {
            names.extend(target(ingress.namespace(), backend, index));
        }
    }
    names
}

fn target(
    namespace: &str,
    backend: &IngressBackend,
    index: &Index<'_>,
) -> Option<(ServicePort, Arc<str>)> {
    let backend = backend.service.as_ref()?;
    let (resource, service) = index.services.get(&(namespace, backend.name.as_str()))?;
    let name = is_external(service).then(|| name(service))?.ok()?;
    let port = ServicePort { service: resource.clone(), port: number(service, backend)? };
    Some((port, name))
}

/// Whether a Service is a name of the DNS.
pub(crate) fn is_external(service: &Service) -> bool {
    let kind = service.spec.as_ref().and_then(|spec| spec.type_.as_deref());
    kind == Some("ExternalName")
}

/// The number of the port that a backend asks for. A Service without endpoints translates none:
/// a name stands for its number, and a number for itself, whether the Service lists it or not.
pub(crate) fn number(service: &Service, backend: &IngressServiceBackend) -> Option<u16> {
    let wanted = backend.port.as_ref()?;
    let number = match wanted.name.as_deref().filter(|name| !name.is_empty()) {
        Some(name) => {
            let mut ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
            ports.find(|port| port.name.as_deref() == Some(name))?.port
        }
        None => wanted.number?,
    };
    u16::try_from(number).ok().filter(|number| *number > 0)
}

/// The name that a Service leads to, in lower case and without a final dot.
///
/// # Errors
/// If it is no name, or one that only means something inside: what is wrong with it, and what to do.
pub(crate) fn name(service: &Service) -> Result<Arc<str>, (String, &'static str)> {
    let written = service.spec.as_ref().and_then(|spec| spec.external_name.as_deref());
    let written = written.unwrap_or_default();
    let wrong = |what: &str, remedy| (format!("its `externalName` `{written}` {what}"), remedy);
    if is_address(written) {
        let remedy = "Write a name of the DNS, or a Service without a selector and an EndpointSlice with the address.";
        return Err(wrong("is an address and no name", remedy));
    }
    let full = "Write the full name as the DNS has it.";
    let host = Host::parse(written).map_err(|_| wrong("is no name of the DNS", full))?;
    let name = host.as_str();
    if is_of_cluster(name) {
        let remedy =
            "Name the Service itself in the Ingress; one of another namespace cannot be named.";
        return Err(wrong("is a name of the cluster or the machine itself", remedy));
    }
    if !name.contains('.') {
        return Err(wrong("has no domain", full));
    }
    Ok(name.into())
}

/// Also what resolvers take for one: `0x7f.1`, `2130706433`.
fn is_address(text: &str) -> bool {
    let text = text.strip_suffix('.').unwrap_or(text);
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    let last = text.rsplit('.').next().unwrap_or_default();
    let hexadecimal = last.strip_prefix("0x").or_else(|| last.strip_prefix("0X"));
    let is_number = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    bare.parse::<IpAddr>().is_ok()
        || text.parse::<Ipv4Addr>().is_ok()
        || (!last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit()))
        || hexadecimal.is_some_and(is_number)
}

/// Names of Services and pods, of the machine (RFC 6761 section 6.3), of the link (RFC 6762), and of
/// addresses read backwards.
fn is_of_cluster(name: &str) -> bool {
    let is = |zone: &str| {
        name.strip_suffix(zone).is_some_and(|before| before.is_empty() || before.ends_with('.'))
    };
    ["localhost", "localdomain", "local", "svc", "arpa"].into_iter().any(is)
}

/// What is told of the Service of a backend whose name something is wrong with.
pub(crate) fn problem(
    field: &str,
    port: &ServicePort,
    name: &str,
    problem: &NameProblem,
) -> Problem {
    let service = port.service.path();
    let message = format!("Service `{service}` leads to `{name}`, which {}", problem.message);
    Problem::new(format!("{field}.name"), message, &problem.remedy)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ServiceSpec;

    use super::*;

    #[test]
    fn only_full_names_outside_of_the_cluster_are_names() {
        let read = |text: &str| {
            let spec = ServiceSpec { external_name: Some(text.to_owned()), ..Default::default() };
            let service = Service { spec: Some(spec), ..Default::default() };
            name(&service).map(|name| name.to_string()).map_err(|(message, _)| message)
        };
        for (text, expected) in [
            ("api.example.com", "api.example.com"),
            ("API.Example.com.", "api.example.com"),
            ("svc.example.com", "svc.example.com"),
            ("a_b.example.com", "a_b.example.com"),
        ] {
            assert_eq!(read(text).as_deref(), Ok(expected));
        }
        for (text, problem) in [
            ("", "is no name of the DNS"),
            ("a..b", "is no name of the DNS"),
            ("a b.example.com", "is no name of the DNS"),
            ("api.example.com:80", "is no name of the DNS"),
            ("*.example.com", "is no name of the DNS"),
            ("192.0.2.7", "is an address and no name"),
            ("192.0.2.7.", "is an address and no name"),
            ("[::1]", "is an address and no name"),
            ("::1", "is an address and no name"),
            ("127.1", "is an address and no name"),
            ("2130706433", "is an address and no name"),
            ("0x7f.0x1", "is an address and no name"),
            ("localhost", "is a name of the cluster or the machine itself"),
            ("a.localhost", "is a name of the cluster or the machine itself"),
            ("api.shop.svc", "is a name of the cluster or the machine itself"),
            ("api.shop.svc.cluster.local", "is a name of the cluster or the machine itself"),
            ("API.shop.svc.cluster.local.", "is a name of the cluster or the machine itself"),
            ("printer.local", "is a name of the cluster or the machine itself"),
            ("1.0.0.127.in-addr.arpa", "is a name of the cluster or the machine itself"),
            ("metadata", "has no domain"),
        ] {
            let expected = format!("its `externalName` `{text}` {problem}");
            assert_eq!(read(text), Err(expected));
        }
    }
}
