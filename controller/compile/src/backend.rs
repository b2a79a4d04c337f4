//! Where allowed requests go: Services and their ports.

use std::sync::Arc;

use decision::{
    refs::{FieldRef, Kind, ResourceRef},
    route::{Backend, ServicePort},
};
use k8s_openapi::api::{
    core::v1::Service,
    networking::v1::{IngressBackend, IngressServiceBackend},
};

use crate::{
    external,
    finding::{Effect, Findings, Problem, Reason, capitalised},
    index::{Index, missing_right},
    settings::ExternalNames,
    transport::{Protocol, Wish},
};

/// The backend that a field of an Ingress names; `field` spells it for those who have to be told.
///
/// A Service or port that does not exist is a backend that is missing, which may heal.
///
/// # Errors
/// A backend that this program never serves, which makes the path invalid.
pub(crate) fn backend(
    (ingress, wish): (&ResourceRef, &Wish),
    field: impl Fn() -> String,
    backend: &IngressBackend,
    index: &Index<'_>,
    findings: &mut Findings,
) -> Result<Backend, Problem> {
    let Some(service) = &backend.service else {
        return Err(match backend.resource {
            Some(_) => Problem::new(
                format!("{}.resource", field()),
                "a `resource` backend is not served",
                "Name a Service in `backend.service`.",
            ),
            None => {
                Problem::new(field(), "no Service is named", "Name a Service in `backend.service`.")
            }
        });
    };
    let target = port(&ingress.namespace, &field, service, index);
    let target = target.and_then(|target| match target.problem(&field, index) {
        Some((problem, true)) => Err(problem),
        Some((problem, false)) => {
            findings.add(ingress, Reason::BackendMissing, Effect::Warns, problem);
            Ok(target)
        }
        None => Ok(target),
    });
    Ok(match target {
        Ok(Target { port, protocol, external }) => {
            let named = external.as_ref();
            let transport = wish.transport(ingress, (&port, named), protocol, index)?;
            Backend::Service(port, transport)
        }
        Err(problem) => {
            let field = FieldRef::new(ingress.clone(), problem.path.as_str());
            let (message, remedy) = (problem.message.as_str(), problem.remedy.as_str());
            let missing =
                Backend::Missing { field, problem: message.into(), remedy: remedy.into() };
            findings.add(ingress, Reason::BackendMissing, Effect::Closes, problem);
            missing
        }
    })
}

/// Where a backend leads.
struct Target {
    port: ServicePort,
    /// What the port says of itself.
    protocol: Option<Protocol>,
    /// The name of the DNS that stands for endpoints.
    external: Option<Arc<str>>,
}

impl Target {
    /// What is wrong with where it leads, and whether nothing can be forwarded.
    fn problem(&self, field: &impl Fn() -> String, index: &Index<'_>) -> Option<(Problem, bool)> {
        let ExternalNames::Allowed(problems) = index.external_names else { return None };
        let name = self.external.as_ref()?;
        let problem = problems.get(name)?;
        Some((
            external::problem(&format!("{}.service", field()), &self.port, name, problem),
            problem.closes,
        ))
    }
}

fn port(
    namespace: &Arc<str>,
    field: &impl Fn() -> String,
    backend: &IngressServiceBackend,
    index: &Index<'_>,
) -> Result<Target, Problem> {
    let name = backend.name.as_str();
    let (resource, service) = index.services.get(&(namespace, name)).ok_or_else(|| {
        let field = format!("{}.service.name", field());
        if index.is_unreadable(Kind::Service, namespace) {
            let message = format!("Services of namespace `{namespace}` may not be read");
            let remedy = format!("{}.", capitalised(&missing_right(Kind::Service, namespace)));
            return Problem::new(field, message, remedy);
        }
        let message = format!("Service `{namespace}/{name}` does not exist");
        Problem::new(field, message, "Create the Service, or correct the name.")
    })?;
    let external = external_name(namespace, field, service, index)?;
    let number = external.as_ref().and_then(|_| external::number(service, backend));
    let number = match number {
        Some(number) => number,
        None => number_of(namespace, field, backend, service)?,
    };
    let port = ServicePort { service: resource.clone(), port: number };
    let protocol = protocol(service, number);
    Ok(Target { port, protocol, external })
}

/// The name of a Service that is one, if such are served.
fn external_name(
    namespace: &str,
    field: &impl Fn() -> String,
    service: &Service,
    index: &Index<'_>,
) -> Result<Option<Arc<str>>, Problem> {
    if !external::is_external(service) {
        return Ok(None);
    }
    let name = service.metadata.name.as_deref().unwrap_or_default();
    let field = || format!("{}.service.name", field());
    if let ExternalNames::Refused = index.external_names {
        let message =
            format!("Service `{namespace}/{name}` is of type ExternalName, which is not served");
        let remedy =
            "Name a Service that has endpoints, or give the program `--allow-external-name`.";
        return Err(Problem::new(field(), message, remedy));
    }
    external::name(service).map(Some).map_err(|(wrong, remedy)| {
        let message = format!("Service `{namespace}/{name}` leads nowhere: {wrong}");
        Problem::new(field(), message, remedy)
    })
}

/// What `appProtocol` of a port says; names that are not known say nothing.
fn protocol(service: &Service, number: u16) -> Option<Protocol> {
    let mut ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
    let port = ports.find(|port| port.port == i32::from(number))?;
    Protocol::of_port(port.app_protocol.as_deref()?)
}

fn number_of(
    namespace: &str,
    field: &impl Fn() -> String,
    backend: &IngressServiceBackend,
    service: &Service,
) -> Result<u16, Problem> {
    let ports = || service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
    let wanted = backend.port.as_ref();
    let name = wanted.and_then(|port| port.name.as_deref()).filter(|name| !name.is_empty());
    let found = match (name, wanted.and_then(|port| port.number)) {
        (Some(name), _) => ports().find(|port| port.name.as_deref() == Some(name)),
        (None, Some(number)) => ports().find(|port| port.port == number),
        (None, None) => None,
    };
    let port = found.filter(|port| matches!(port.protocol.as_deref(), None | Some("TCP")));
    port.and_then(|port| u16::try_from(port.port).ok()).ok_or_else(|| {
        let asked = match (name, wanted.and_then(|port| port.number)) {
            (Some(name), _) => format!("has no TCP port named `{name}`"),
            (None, Some(number)) => format!("has no TCP port {number}"),
            (None, None) => "is named without a port".to_owned(),
        };
        let tcp = ports().filter(|port| matches!(port.protocol.as_deref(), None | Some("TCP")));
        let has: Vec<_> = tcp.map(|port| port.port.to_string()).collect();
        let message = format!("Service `{namespace}/{}` {asked}", backend.name);
        let remedy = match has.as_slice() {
            [] => "Give the Service a TCP port.".to_owned(),
            has => format!("Name one of its ports: {}.", has.join(", ")),
        };
        Problem::new(format!("{}.service.port", field()), message, remedy)
    })
}
