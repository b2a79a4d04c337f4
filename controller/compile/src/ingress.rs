//! Ingresses of ours, read: hosts, paths and what is wrong with them.

use std::{borrow::Cow, sync::Arc};

use decision::{
    host::HostPattern,
    path::{self, is_within},
    policy::Narrowing,
    refs::{Kind, ResourceRef},
    route::PathMatch,
};
use k8s_openapi::api::networking::v1::{
    HTTPIngressPath, Ingress, IngressBackend, IngressRule, IngressSpec, IngressTLS,
};
use serde_json::Value;

use crate::{
    annotation::{self, Annotations},
    challenge,
    class::{self, Class},
    finding::{Effect, Findings, Problem, Reason},
    index::Index,
    map::Map,
    metadata::{self, Age, reference},
    options,
    resources::{Object, Resources},
    settings::Settings,
    surplus::{self, Surplus},
};

/// An Ingress of ours.
pub(crate) struct Selected<'a> {
    pub(crate) resource: ResourceRef,
    pub(crate) class: Class<'a>,
    pub(crate) annotations: Annotations,
    /// What is wrong with it as a whole.
    pub(crate) problem: Option<Problem>,
    pub(crate) rules: Vec<Rule<'a>>,
    pub(crate) default: Option<&'a IngressBackend>,
    pub(crate) tls: Vec<Tls<'a>>,
    /// Whether its one path answers an ACME challenge.
    pub(crate) is_challenge: bool,
    age: Age<'a>,
}

/// A rule whose host can be read.
pub(crate) struct Rule<'a> {
    /// Its position in `spec.rules`.
    pub(crate) index: usize,
    pub(crate) host: HostPattern,
    pub(crate) paths: Vec<Path<'a>>,
}

/// A path of a rule.
pub(crate) struct Path<'a> {
    /// `spec.rules[0].http.paths[1]`.
    pub(crate) field: Arc<str>,
    /// As in the manifest.
    pub(crate) written: &'a str,
    /// Where it stands among the routes.
    pub(crate) place: Place<'a>,
    /// Why it is refused.
    pub(crate) problem: Option<Problem>,
    pub(crate) backend: &'a IngressBackend,
}

/// Where a path stands among the routes of its host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place<'a> {
    pub(crate) path_match: PathMatch,
    pub(crate) path: Cow<'a, str>,
    /// Whether it only stands in for a path that cannot be placed, after all others.
    pub(crate) stands_in: bool,
}

/// An entry of `spec.tls`.
pub(crate) struct Tls<'a> {
    pub(crate) index: usize,
    pub(crate) hosts: Vec<HostPattern>,
    pub(crate) secret: Option<&'a str>,
}

impl<'a> Selected<'a> {
    pub(crate) fn namespace(&self) -> &str {
        &self.resource.namespace
    }

    /// Every host that it names, in rules and certificates; a default backend is for any.
    pub(crate) fn hosts(&self) -> impl Iterator<Item = &HostPattern> {
        let rules = self.rules.iter().map(|rule| &rule.host);
        let tls = self.tls.iter().flat_map(|tls| &tls.hosts);
        rules.chain(tls).chain(self.default.is_some().then_some(&HostPattern::Any))
    }

    /// Host and place of every path.
    pub(crate) fn places(&self) -> impl Iterator<Item = (&HostPattern, &Place<'a>)> {
        self.rules.iter().flat_map(|rule| rule.paths.iter().map(|path| (&rule.host, &path.place)))
    }
}

impl Place<'_> {
    /// All that a host has.
    pub(crate) const WHOLE: Place<'static> =
        Place { path_match: PathMatch::Prefix, path: Cow::Borrowed("/"), stands_in: false };

    /// Whether some request to this place matches a narrowing.
    pub(crate) fn overlaps(&self, host: &HostPattern, narrowing: &Narrowing) -> bool {
        let below = |wanted: &str| {
            is_within(&self.path, wanted)
                || (self.path_match == PathMatch::Prefix && is_within(wanted, &self.path))
        };
        let hosts = &narrowing.hosts;
        (hosts.is_empty() || hosts.iter().any(|wanted| wanted.overlaps(host)))
            && (narrowing.paths.is_empty() || narrowing.paths.iter().any(|path| below(path)))
    }
}

/// Ingresses that are not ours: namespace and name, and the class that each names.
pub(crate) type Others<'a> = Map<(&'a str, &'a str), Option<&'a str>>;

/// The Ingresses of other classes and of none, for who names one of them by mistake.
pub(crate) fn others<'a>(
    resources: &'a Resources,
    undecodable: &'a [Undecodable],
    index: &Index<'a>,
    settings: &Settings,
) -> Others<'a> {
    let decoded = resources.ingresses.iter().map(|ingress| &**ingress);
    let all = decoded.chain(undecodable.iter().map(|raw| &raw.salvaged));
    let others = all.filter(|ingress| class::of(ingress, index, settings).is_none());
    others.map(|ingress| (metadata::place(&ingress.metadata), class::name(ingress))).collect()
}

/// Whether an Ingress is another controller's on purpose: it has a class, and that is there.
pub(crate) fn is_elsewhere(name: (&str, &str), others: &Others<'_>, index: &Index<'_>) -> bool {
    others.get(&name).is_some_and(|class| class.is_some_and(|class| index.has_class(class)))
}

/// What is wrong with a target that is not among the Ingresses of ours, and what to do.
pub(crate) fn not_ours(
    name: (&str, &str),
    others: &Others<'_>,
    settings: &Settings,
) -> (String, String) {
    let ours = &settings.ingress_class;
    let shown = format!("Ingress `{}/{}`", name.0, name.1);
    let class = match others.get(&name) {
        None => {
            let remedy = "Create the Ingress, or correct the name.".to_owned();
            return (format!("{shown} does not exist"), remedy);
        }
        Some(Some(class)) => format!("has the class `{class}`"),
        Some(None) => "has no class".to_owned(),
    };
    let remedy =
        format!("Set `spec.ingressClassName: {ours}` on the Ingress, or correct the name.");
    (format!("{shown} {class}, ours is `{ours}`"), remedy)
}

/// The Ingresses of ours, oldest first.
pub(crate) fn select<'a>(
    resources: &'a Resources,
    undecodable: &'a [Undecodable],
    index: &Index<'a>,
    settings: &Settings,
    findings: &mut Findings,
) -> Vec<Selected<'a>> {
    let decoded = resources.ingresses.iter().map(|ingress| (&**ingress, None));
    let undecodable = undecodable.iter().map(|raw| (&raw.salvaged, Some(&raw.problem)));
    let ours: Vec<_> = decoded
        .chain(undecodable)
        .filter_map(|(ingress, problem)| {
            Some((ingress, problem, class::of(ingress, index, settings)?))
        })
        .collect();
    let metadata = ours.iter().map(|(ingress, _, _)| &ingress.metadata);
    let surplus = Surplus::of(&surplus::INGRESSES, metadata, settings);
    surplus.tell(findings);
    // Hosts and paths of the surplus are read like any other's: they keep their places among the
    // routes, or requests for them would fall through to wider ones.
    let mut fields = Fields::default();
    let read = ours.into_iter().map(|(ingress, problem, class)| {
        let problem = surplus.problem_of(&ingress.metadata).or_else(|| problem.cloned());
        read(ingress, problem, class, &mut fields, findings)
    });
    let mut selected: Vec<_> = read.collect();
    selected.sort_by(|one, two| one.age.cmp(&two.age));
    selected
}

fn read<'a>(
    ingress: &'a Ingress,
    problem: Option<Problem>,
    class: Class<'a>,
    fields: &mut Fields,
    findings: &mut Findings,
) -> Selected<'a> {
    let resource = reference(Kind::Ingress, &ingress.metadata);
    let annotations = annotation::read(&resource, ingress.metadata.annotations.as_ref(), findings);
    let spec = ingress.spec.as_ref();
    let rules = spec.and_then(|spec| spec.rules.as_deref()).unwrap_or_default();
    let tls = spec.and_then(|spec| spec.tls.as_deref()).unwrap_or_default();
    let mut rules: Vec<_> = rules
        .iter()
        .enumerate()
        .filter_map(|(index, one)| rule(index, one, &resource, fields, findings))
        .collect();
    let is_challenge = challenge::is_solver(ingress, &resource, findings);
    if is_challenge {
        let paths = rules.iter_mut().flat_map(|rule| &mut rule.paths);
        paths.for_each(|path| path.place.path_match = PathMatch::Exact);
    }
    warn_of_trap(&resource, &annotations, &rules, findings);
    let tls = tls
        .iter()
        .enumerate()
        .map(|(index, one)| read_tls(index, one, &rules, &resource, findings))
        .collect();
    Selected {
        class,
        annotations,
        problem,
        rules,
        default: spec.and_then(|spec| spec.default_backend.as_ref()),
        tls,
        is_challenge,
        age: Age::of(&ingress.metadata),
        resource,
    }
}

/// Tells of a rewriting that refuses a plain path of a rule.
fn warn_of_trap(
    resource: &ResourceRef,
    annotations: &Annotations,
    rules: &[Rule<'_>],
    findings: &mut Findings,
) {
    let options = annotations.options.as_deref();
    let Some(rewrite) = options.and_then(|options| options.rewrite.as_ref()) else { return };
    let paths = rules.iter().flat_map(|rule| &rule.paths);
    let paths = paths.map(|path| (path.place.path_match, &*path.place.path));
    if let Some(problem) = options::trap(rewrite, paths) {
        findings.add(resource, Reason::RouteInvalid, Effect::Warns, problem);
    }
}

/// The places of paths as they are spelled. Most Ingresses have the same few, so they share them.
#[derive(Default)]
struct Fields(Map<(usize, usize), Arc<str>>);

impl Fields {
    fn of_path(&mut self, rule: usize, path: usize) -> Arc<str> {
        let spelled = || format!("spec.rules[{rule}].http.paths[{path}]").into();
        Arc::clone(self.0.entry((rule, path)).or_insert_with(spelled))
    }
}

fn rule<'a>(
    index: usize,
    rule: &'a IngressRule,
    resource: &ResourceRef,
    fields: &mut Fields,
    findings: &mut Findings,
) -> Option<Rule<'a>> {
    let field = || format!("spec.rules[{index}].host");
    let host = host(rule.host.as_deref(), field, resource, findings)?;
    let paths = rule.http.as_ref().map(|http| http.paths.as_slice()).unwrap_or_default();
    let paths = paths
        .iter()
        .enumerate()
        .map(|(position, one)| read_path(fields.of_path(index, position), one))
        .collect();
    Some(Rule { index, host, paths })
}

/// A host that can't be read is the host of no request: nothing is left to refuse.
fn host(
    text: Option<&str>,
    field: impl FnOnce() -> String,
    resource: &ResourceRef,
    findings: &mut Findings,
) -> Option<HostPattern> {
    let text = text.unwrap_or_default();
    let host = HostPattern::parse(text).ok();
    if host.is_none() {
        let message = format!("`{text}` is not a host");
        let remedy = "Write a DNS name, or `*.` and a DNS name; at most 253 characters.";
        let problem = Problem::new(field(), message, remedy);
        findings.add(resource, Reason::RouteInvalid, Effect::Rejects, problem);
    }
    host
}

fn read_tls<'a>(
    index: usize,
    tls: &'a IngressTLS,
    rules: &[Rule<'_>],
    resource: &ResourceRef,
    findings: &mut Findings,
) -> Tls<'a> {
    let named = tls.hosts.as_deref().unwrap_or_default();
    let hosts = if named.is_empty() {
        let hosts = rules.iter().map(|rule| rule.host.clone());
        hosts.filter(|host| *host != HostPattern::Any).collect()
    } else {
        let field = |position| format!("spec.tls[{index}].hosts[{position}]");
        named
            .iter()
            .enumerate()
            .filter_map(|(position, text)| host(Some(text), || field(position), resource, findings))
            .filter(|host| *host != HostPattern::Any)
            .collect()
    };
    let secret = tls.secret_name.as_deref().filter(|name| !name.is_empty());
    Tls { index, hosts, secret }
}

fn read_path(field: Arc<str>, path: &HTTPIngressPath) -> Path<'_> {
    let (written, backend) = (path.path.as_deref().unwrap_or_default(), &path.backend);
    let (path_match, unknown) = match path.path_type.as_str() {
        "Exact" => (PathMatch::Exact, None),
        "Prefix" | "ImplementationSpecific" => (PathMatch::Prefix, None),
        other => {
            let problem = Problem::new(
                format!("{field}.pathType"),
                format!("`{other}` is not a type of path"),
                "Write `Exact`, `Prefix` or `ImplementationSpecific` (which is `Prefix` here).",
            );
            (PathMatch::Prefix, Some(problem))
        }
    };
    if written.is_empty() && path.path_type == "ImplementationSpecific" {
        let place = Place { path_match, ..Place::WHOLE };
        return Path { field, written: "/", place, problem: None, backend };
    }
    let pattern = path.path_type == "ImplementationSpecific" && written.contains(['(', '*', '$']);
    let (place, problem) = if pattern {
        let message = format!("`{written}` looks like a pattern, which is not supported");
        unplaceable(&field, written, message)
    } else {
        place(&field, written, path_match)
    };
    Path { field, written, place, problem: unknown.or(problem), backend }
}

/// Where a path stands. One that has to be worked out is refused at the nearest place that its
/// requests can have. `field` is that of the whole entry.
fn place<'a>(field: &str, written: &'a str, path_match: PathMatch) -> (Place<'a>, Option<Problem>) {
    match path::written(written) {
        Ok(path) => (Place { path_match, path, stands_in: false }, None),
        Err(Ok(canonical)) => {
            let mut path: String =
                path::segments(&canonical).flat_map(|segment| ["/", segment]).collect();
            if path.is_empty() || canonical.ends_with('/') {
                path.push('/');
            }
            let message = format!("`{written}` is not a path as requests are compared with");
            let remedy = format!("Write `{path}`.");
            let problem = Problem::new(format!("{field}.path"), message, remedy);
            (Place { path_match, path: path.into(), stands_in: false }, Some(problem))
        }
        Err(Err(problem)) => {
            let message = format!("`{written}` is not a path: {}", problem.as_str());
            unplaceable(field, written, message)
        }
    }
}

fn unplaceable(field: &str, written: &str, message: String) -> (Place<'static>, Option<Problem>) {
    let remedy = "Write an absolute path of plain segments, without patterns and without what a request cannot say in one way only.";
    let path = readable(written).into();
    let place = Place { path_match: PathMatch::Prefix, path, stands_in: true };
    (place, Some(Problem::new(format!("{field}.path"), message, remedy)))
}

/// The path down to the first segment that cannot be read; the usual `(/|$)(.*)` behind a segment
/// is left out of it.
fn readable(written: &str) -> String {
    let written = written.split_once("(/").map_or(written, |(before, _)| before);
    let plain = |segment: &&str| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'~');
        segment.bytes().all(allowed) && !segment.is_empty()
    };
    let segments = written.trim_start_matches('/').split('/').take_while(plain);
    let path = segments.collect::<Vec<_>>().join("/");
    format!("/{path}")
}

/// What can be read of an Ingress that cannot be decoded.
pub(crate) struct Undecodable {
    salvaged: Ingress,
    problem: Problem,
}

/// Keeps the hosts and paths that can be read, so that they can be refused.
pub(crate) fn salvage(objects: &[Arc<Object>]) -> Vec<Undecodable> {
    objects
        .iter()
        .map(|object| {
            let error = serde_json::from_value::<Ingress>(object.value.clone()).err();
            let error = error.map_or_else(|| "it cannot be decoded".to_owned(), |e| e.to_string());
            let problem = Problem::new(
                "spec",
                error,
                "Correct the field; the hosts and paths that can be read are refused until then.",
            );
            let spec = object.value.get("spec").unwrap_or(&Value::Null);
            let salvaged = Ingress {
                metadata: object.metadata.clone(),
                spec: Some(salvaged_spec(spec)),
                status: None,
            };
            Undecodable { salvaged, problem }
        })
        .collect()
}

fn salvaged_spec(spec: &Value) -> IngressSpec {
    let rules = spec.get("rules").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    IngressSpec {
        default_backend: spec.get("defaultBackend").map(|_| IngressBackend::default()),
        ingress_class_name: text(spec, "ingressClassName"),
        rules: Some(rules.iter().filter_map(salvaged_rule).collect()),
        tls: spec.get("tls").and_then(|tls| serde_json::from_value(tls.clone()).ok()),
    }
}

/// A rule without a readable host is left out: a host is never guessed.
fn salvaged_rule(rule: &Value) -> Option<IngressRule> {
    let host = match rule.get("host") {
        None => None,
        Some(host) => Some(host.as_str()?.to_owned()),
    };
    let paths = rule.pointer("/http/paths").and_then(Value::as_array);
    let mut paths: Vec<_> = paths.into_iter().flatten().filter_map(salvaged_path).collect();
    if paths.is_empty() {
        paths.push(whole_host());
    }
    let http = Some(k8s_openapi::api::networking::v1::HTTPIngressRuleValue { paths });
    Some(IngressRule { host, http })
}

fn salvaged_path(path: &Value) -> Option<HTTPIngressPath> {
    Some(HTTPIngressPath {
        path: Some(text(path, "path")?),
        path_type: text(path, "pathType").unwrap_or_else(|| "Prefix".to_owned()),
        backend: IngressBackend::default(),
    })
}

fn whole_host() -> HTTPIngressPath {
    HTTPIngressPath {
        path: Some("/".to_owned()),
        path_type: "Prefix".to_owned(),
        backend: IngressBackend::default(),
    }
}

fn text(value: &Value, name: &str) -> Option<String> {
    value.get(name).and_then(Value::as_str).map(str::to_owned)
}
