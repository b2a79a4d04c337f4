//! Ingresses that answer ACME challenges (RFC 8555 section 8.3), as cert-manager makes them.

use decision::{host::HostPattern, refs::ResourceRef, route::PathMatch};
use k8s_openapi::api::networking::v1::Ingress;

use crate::{
    annotation::PREFIX,
    finding::{Effect, Findings, Problem, Reason},
    ingress::Rule,
};

/// What cert-manager labels its solvers with.
const LABEL: &str = "acme.cert-manager.io/http01-solver";

const PATHS: &str = "/.well-known/acme-challenge/";

/// Whether an Ingress answers one challenge and nothing else. Its path is matched exactly then: no
/// other path may pass what protects the host.
///
/// With the label and another shape it is an Ingress like any other, and a finding says why.
pub(crate) fn take(
    ingress: &Ingress,
    rules: &mut [Rule<'_>],
    resource: &ResourceRef,
    findings: &mut Findings,
) -> bool {
    let labels = ingress.metadata.labels.as_ref();
    if labels.and_then(|labels| labels.get(LABEL)).map(String::as_str) != Some("true") {
        return false;
    }
    match shape(ingress, rules) {
        Ok(()) => {
            let paths = rules.iter_mut().flat_map(|rule| &mut rule.paths);
            paths.for_each(|path| path.place.path_match = PathMatch::Exact);
            true
        }
        Err(problem) => {
            findings.add(resource, Reason::RouteInvalid, Effect::Warns, problem);
            false
        }
    }
}

fn shape(ingress: &Ingress, rules: &[Rule<'_>]) -> Result<(), Problem> {
    let other = |field: &str, message: &str| {
        let message = format!(
            "{message}, so it does not answer an ACME challenge and is judged like any other Ingress in spite of its label"
        );
        let remedy = format!(
            "Remove the label `{LABEL}`, or keep one host with the one path `{PATHS}TOKEN`."
        );
        Problem::new(field, message, remedy)
    };
    let annotations = ingress.metadata.annotations.iter().flat_map(|all| all.keys());
    if let Some(key) = annotations.into_iter().find(|key| key.starts_with(PREFIX)) {
        return Err(other(
            &crate::metadata::annotation_path(key),
            &format!("it has the annotation `{key}`"),
        ));
    }
    let spec = ingress.spec.as_ref();
    if spec.is_some_and(|spec| spec.default_backend.is_some()) {
        return Err(other("spec.defaultBackend", "it has a default backend"));
    }
    let written = spec.and_then(|spec| spec.rules.as_ref()).map_or(0, Vec::len);
    let [Rule { host: HostPattern::Exact(_), paths, .. }] = rules else {
        return Err(other("spec.rules", "it has not exactly one rule with a whole host name"));
    };
    let [path] = paths.as_slice() else {
        return Err(other("spec.rules", "it has not exactly one path"));
    };
    // RFC 8555 section 8.3: characters of base64url, without padding.
    let is_token = |token: &str| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        !token.is_empty() && token.bytes().all(allowed)
    };
    let answers = path.written.strip_prefix(PATHS).is_some_and(is_token);
    if written != 1 || !answers || path.problem.is_some() {
        return Err(other(&format!("{}.path", path.field), "its path is not that of a challenge"));
    }
    let path_type = spec
        .and_then(|spec| spec.rules.as_ref()?.first()?.http.as_ref()?.paths.first())
        .map(|path| path.path_type.as_str());
    match path_type {
        Some("Exact" | "ImplementationSpecific") => Ok(()),
        _ => Err(other(&format!("{}.pathType", path.field), "its path covers what lies below it")),
    }
}
