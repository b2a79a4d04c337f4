//! What `/snapshot` shows: types of its own, so that nothing is shown by accident.

use std::{collections::HashMap, sync::Arc};

use compile::{
    IngressSummary, Protection,
    conditions::{Condition, Details},
    finding::Effect,
    reference,
};
use decision::{
    denial::Denial,
    escape::printable,
    host::{Host, HostPattern},
    path::canonical,
    policy::Refusal,
    protection::Posture,
    refs::{Kind, ResourceRef},
    route::{Backend, Route},
};
use k8s_openapi::api::networking::v1::{HTTPIngressPath, Ingress};
use serde::Serialize;

use crate::pipeline::Outcome;

/// What is in force.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Snapshot {
    generation: u64,
    ingresses: Vec<IngressView>,
    policies: Vec<PolicyView>,
    findings: Vec<FindingView>,
}

#[derive(Debug, Serialize)]
struct IngressView {
    namespace: String,
    name: String,
    protection: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    remark: Option<&'static str>,
    routes: Vec<RouteView>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct RouteView {
    field: String,
    host: String,
    path: String,
    posture: &'static str,
    policies: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    refused_policies: Vec<RefusedView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refuses_with: Option<&'static str>,
    backend: String,
}

/// A policy that cannot be enforced: requests that it speaks of are refused.
#[derive(Debug, Serialize)]
struct RefusedView {
    code: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<String>,
    why: String,
}

#[derive(Debug, Serialize)]
struct PolicyView {
    namespace: String,
    name: String,
    conditions: Vec<ConditionView>,
}

#[derive(Debug, Serialize)]
struct ConditionView {
    #[serde(rename = "type")]
    type_: &'static str,
    status: bool,
    reason: &'static str,
    message: String,
}

#[derive(Debug, Serialize)]
struct FindingView {
    resource: String,
    field: String,
    reason: &'static str,
    message: String,
    remedy: String,
    effect: &'static str,
}

/// The Ingresses by name.
type Objects<'a> = HashMap<ResourceRef, &'a Ingress>;

impl Snapshot {
    pub(super) fn of(outcome: &Outcome) -> Self {
        let named = |ingress: &'_ Arc<Ingress>| reference(Kind::Ingress, &ingress.metadata);
        let objects = outcome.resources.ingresses.iter();
        let objects: Objects<'_> = objects.map(|it| (named(it), &**it)).collect();
        let ingresses = outcome.ingresses.iter();
        Self {
            generation: outcome.snapshot.generation,
            ingresses: ingresses.map(|ingress| view(outcome, ingress, &objects)).collect(),
            policies: policies(outcome),
            findings: findings(outcome),
        }
    }
}

fn view(outcome: &Outcome, summary: &IngressSummary, objects: &Objects<'_>) -> IngressView {
    let (protection, remark) = match summary.protection {
        Protection::Enforced => ("enforced", None),
        Protection::Open => ("open", Some("open: no policy")),
        Protection::Counted => ("open", Some("open: its policies only count")),
        Protection::Refused => ("refused", None),
    };
    let object = objects.get(&summary.resource);
    IngressView {
        namespace: summary.resource.namespace.to_string(),
        name: summary.resource.name.to_string(),
        protection,
        remark,
        routes: object.map(|ingress| routes(outcome, ingress, summary)).unwrap_or_default(),
    }
}

/// The routes of an Ingress that requests really reach: another Ingress may have won a place.
fn routes(outcome: &Outcome, ingress: &Ingress, summary: &IngressSummary) -> Vec<RouteView> {
    let rules = ingress.spec.iter().flat_map(|spec| spec.rules.iter().flatten());
    let mut found = Vec::new();
    for rule in rules {
        let host = rule.host.as_deref().unwrap_or_default();
        let paths = rule.http.iter().flat_map(|http| &http.paths);
        for path in paths {
            if let Some(route) = reached(outcome, host, path)
                && route.name.field.resource == summary.resource
            {
                found.push(route_view(route));
            }
        }
    }
    let default = outcome.snapshot.routes.default_route();
    let default = default.filter(|route| route.name.field.resource == summary.resource);
    found.extend(default.map(|route| route_view(route)));
    found
}

/// The route that a request for this very place gets.
fn reached<'a>(outcome: &'a Outcome, host: &str, path: &HTTPIngressPath) -> Option<&'a Route> {
    let host = match HostPattern::parse(host) {
        Ok(HostPattern::Exact(host)) => host,
        Ok(HostPattern::Wildcard(suffix)) => {
            Host::parse(&format!("whygate-probe.{}", suffix.as_str())).ok()?
        }
        Ok(HostPattern::Any) | Err(_) => Host::parse("whygate-probe.invalid").ok()?,
    };
    let path = path.path.as_deref().unwrap_or("/");
    // One that has no canonical form stands where its readable beginning leads.
    let path = canonical(path).unwrap_or(path.into());
    outcome.snapshot.routes.find(&host, &path).map(|route| &**route)
}

fn route_view(route: &Route) -> RouteView {
    let mut view = RouteView {
        field: printable(&route.name.field.path).to_string(),
        host: printable(&route.name.host).to_string(),
        path: printable(&route.name.path).to_string(),
        posture: "enforce",
        policies: Vec::new(),
        refused_policies: Vec::new(),
        refuses_with: None,
        backend: match &*route.backend {
            Backend::Service(port, _) => port.to_string(),
            Backend::Missing { problem, .. } => format!("missing: {problem}"),
        },
    };
    match &route.posture {
        Posture::Enforce(protection) => {
            for attachment in protection.attachments() {
                match &attachment.policy {
                    Ok(policy) => view.policies.push(policy.resource.path().to_string()),
                    Err(refusal) => view.refused_policies.push(refused(refusal)),
                }
            }
        }
        Posture::Open(_) => view.posture = "open",
        Posture::Refuse(refusal) => {
            view.posture = "refuse";
            view.refuses_with = Some(refusal.reason.code().as_str());
        }
    }
    view
}

fn refused(refusal: &Refusal) -> RefusedView {
    let denial = Denial::of_request(refusal.reason.clone());
    RefusedView {
        code: denial.code().as_str(),
        field: denial.field().map(|field| field.to_string()),
        why: denial.operator_sentence(),
    }
}

fn policies(outcome: &Outcome) -> Vec<PolicyView> {
    let policies = outcome.statuses.iter().filter(|status| {
        status.resource.kind == Kind::AccessPolicy && matches!(status.details, Details::Policy(_))
    });
    let view = |condition: &Condition| ConditionView {
        type_: condition.type_,
        status: condition.status,
        reason: condition.reason,
        message: condition.message.clone(),
    };
    policies
        .map(|status| PolicyView {
            namespace: status.resource.namespace.to_string(),
            name: status.resource.name.to_string(),
            conditions: status.conditions.iter().map(view).collect(),
        })
        .collect()
}

fn findings(outcome: &Outcome) -> Vec<FindingView> {
    let findings = outcome.findings.iter().map(|finding| FindingView {
        resource: finding.field.resource.to_string(),
        field: printable(&finding.field.path).to_string(),
        reason: finding.reason.as_str(),
        message: finding.message.clone(),
        remedy: finding.remedy.clone(),
        effect: match finding.effect {
            Effect::Closes => "closes",
            Effect::Rejects => "rejects",
            Effect::Warns => "warns",
        },
    });
    findings.collect()
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
  defaultBackend: { service: { name: api, port: { number: 80 } } }
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: { name: open, namespace: other }
spec:
  ingressClassName: whygate
  rules:
    - host: open.example.com
      http: { paths: [{ path: /, pathType: Prefix, backend: { service: { name: api, port: { number: 80 } } } }] }
---
apiVersion: whygate.dev/v1alpha1
kind: AccessPolicy
metadata: { name: office, namespace: shop }
spec:
  targetRefs: [{ group: networking.k8s.io, kind: Ingress, name: web }]
  require: [{ name: office, ip: { cidrs: [10.0.0.0/33] } }]
";

    fn shown() -> serde_json::Value {
        let manifests = compile::manifest::read(vec![("a".to_owned(), MANIFESTS.to_owned())]);
        let settings =
            compile::Settings { namespaces_are_known: true, ..compile::Settings::default() };
        let (outcome, _) = Outcome::of(Arc::new(manifests.resources), &settings, None);
        serde_json::to_value(Snapshot::of(&outcome)).unwrap()
    }

    #[test]
    fn an_invalid_policy_and_a_default_backend_are_shown() {
        let shown = shown();
        let web = shown["ingresses"].as_array().unwrap().iter().find(|it| it["name"] == "web");
        let route = &web.unwrap()["routes"][0];
        assert_eq!(route["field"], "spec.defaultBackend", "{shown:#}");
        assert_eq!(route["refusedPolicies"][0]["code"], "PolicyInvalid", "{shown:#}");
    }

    #[test]
    fn an_ingress_without_a_policy_is_shown_as_open() {
        let shown = shown();
        let open = shown["ingresses"].as_array().unwrap().iter().find(|it| it["name"] == "open");
        assert_eq!(open.unwrap()["remark"], "open: no policy", "{shown:#}");
    }
}
