//! Ingresses that answer ACME challenges (RFC 8555 section 8.3), as cert-manager makes them.

use decision::{host::HostPattern, refs::ResourceRef};
use k8s_openapi::api::networking::v1::Ingress;

use crate::{
    annotation::PREFIX,
    finding::{Effect, Findings, Problem, Reason},
    metadata::annotation_path,
};

/// What cert-manager labels its solvers with.
const LABEL: &str = "acme.cert-manager.io/http01-solver";

const PATHS: &str = "/.well-known/acme-challenge/";

/// Whether an Ingress answers one challenge and nothing else. Its path has to be matched exactly
/// then: no other path may pass what protects the host.
///
/// With the label and another shape it is an Ingress like any other, and a finding says why.
pub(crate) fn is_solver(
    ingress: &Ingress,
    resource: &ResourceRef,
    findings: &mut Findings,
) -> bool {
    let labels = ingress.metadata.labels.as_ref();
    if labels.and_then(|labels| labels.get(LABEL)).map(String::as_str) != Some("true") {
        return false;
    }
    let Some((field, problem)) = obstacle(ingress) else { return true };
    let message = format!(
        "{problem}, so it does not answer an ACME challenge and is judged like any other Ingress in spite of its label"
    );
    let remedy =
        format!("Remove the label `{LABEL}`, or keep one host with the one path `{PATHS}TOKEN`.");
    findings.add(
        resource,
        Reason::RouteInvalid,
        Effect::Warns,
        Problem::new(field, message, remedy),
    );
    false
}

/// What keeps an Ingress from being a solver: a field and what is wrong there.
fn obstacle(ingress: &Ingress) -> Option<(String, &'static str)> {
    let annotations = ingress.metadata.annotations.as_ref();
    let ours = annotations.and_then(|all| all.keys().find(|key| key.starts_with(PREFIX)));
    if let Some(key) = ours {
        return Some((annotation_path(key), "it has an annotation of ours"));
    }
    let spec = ingress.spec.as_ref();
    if spec.is_some_and(|spec| spec.default_backend.is_some()) {
        return Some(("spec.defaultBackend".to_owned(), "it has a default backend"));
    }
    let at = |field: &str, problem| Some((format!("spec.rules{field}"), problem));
    let Some([rule]) = spec.and_then(|spec| spec.rules.as_deref()) else {
        return at("", "it has not exactly one rule");
    };
    let host = HostPattern::parse(rule.host.as_deref().unwrap_or_default());
    if !matches!(host, Ok(HostPattern::Exact(_))) {
        return at("[0].host", "its host is not a whole name");
    }
    let Some([path]) = rule.http.as_ref().map(|http| http.paths.as_slice()) else {
        return at("[0].http.paths", "it has not exactly one path");
    };
    if !matches!(path.path_type.as_str(), "Exact" | "ImplementationSpecific") {
        return at("[0].http.paths[0].pathType", "its path covers what lies below it");
    }
    let token = path.path.as_deref().and_then(|path| path.strip_prefix(PATHS));
    if !token.is_some_and(is_token) {
        return at("[0].http.paths[0].path", "its path is not that of a challenge");
    }
    None
}

/// RFC 8555 section 8.3: characters of base64url, without padding.
fn is_token(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    !text.is_empty() && text.bytes().all(allowed)
}
