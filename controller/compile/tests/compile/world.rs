//! Compiled manifests that can be asked.

use std::net::SocketAddr;

use compile::{
    Before, Compiled, Settings,
    manifest::{self, Manifests},
};
use decision::{
    canonical::{CanonicalRequest, Connection, RequestLimits, Scheme},
    certificate::Shown,
    client::{AddressSource, Remote},
    decide::{Decision, decide},
    disclosure::Disclosure,
    host::Host,
    options::rewrite::Unwritten,
    route::Backend,
    time::Timestamp,
    token::NoTokens,
};

/// When requests are judged: 2026-01-01T00:00:00Z.
pub(crate) const NOW: Timestamp = Timestamp(1_767_225_600);

/// The secret part of every API key here.
pub(crate) const SECRET: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

pub(crate) struct World {
    pub(crate) manifests: Manifests,
    pub(crate) compiled: Compiled,
}

/// Settings of a directory without Namespaces.
pub(crate) fn settings() -> Settings {
    Settings { namespaces_are_known: true, ..Settings::default() }
}

impl World {
    pub(crate) fn of(text: &str) -> Self {
        Self::with(text, &settings())
    }

    pub(crate) fn with(text: &str, settings: &Settings) -> Self {
        Self::of_files_with(&[text], settings)
    }

    pub(crate) fn of_files(texts: &[&str]) -> Self {
        Self::of_files_with(texts, &settings())
    }

    fn of_files_with(texts: &[&str], settings: &Settings) -> Self {
        let files = ('a'..='z').zip(texts);
        let files = files.map(|(name, text)| (format!("{name}.yaml"), (*text).to_owned()));
        let manifests = manifest::read(files);
        let compiled = compile::compile(&manifests.resources, settings, &Before::default());
        Self { manifests, compiled }
    }

    /// Compiles the same manifests anew, after something else was compiled.
    pub(crate) fn compile_after(&mut self, before: &Before) {
        self.compiled = compile::compile(&self.manifests.resources, &settings(), before);
    }

    /// How a request ends: `shop/api:80`, a code, `404`, `308`. A request is a method, a URL
    /// without scheme or with `http://`, and optionally an address and headers:
    /// `GET api.example.com/v1 192.0.2.7 x-api-key=…`.
    pub(crate) fn ask(&self, request: &str) -> String {
        self.ask_on(None, request)
    }

    /// Like [`World::ask`], on a connection whose handshake named a host.
    pub(crate) fn ask_on(&self, sni: Option<&str>, request: &str) -> String {
        match decide(&self.compiled.snapshot, read_on(sni, request), &NoTokens, NOW) {
            Decision::Forward(cleared) => match &**cleared.backend() {
                Backend::Service(port, _) => port.to_string(),
                Backend::Missing { problem, .. } => format!("BackendMissing: {problem}"),
            },
            Decision::Moved(cleared) => cleared
                .redirect()
                .map_or_else(String::new, |moved| moved.status.as_str().to_owned()),
            Decision::Redirect(..) => "308".to_owned(),
            Decision::Deny(_, denial, _) => denial.reason.code().as_str().to_owned(),
            Decision::Preflight(..) => "204".to_owned(),
            Decision::NotFound(_) => "404".to_owned(),
        }
    }

    /// The target that the upstream gets, or why it gets none.
    pub(crate) fn upstream_target(&self, request: &str) -> String {
        let decision = decide(&self.compiled.snapshot, read(request), &NoTokens, NOW);
        let Decision::Forward(cleared) = decision else { return self.ask(request) };
        match cleared.rewritten() {
            Ok(target) => {
                target.unwrap_or_else(|| cleared.request().line().target.clone()).to_string()
            }
            Err((Unwritten::NoMatch, _)) => "NoMatch".to_owned(),
            Err((Unwritten::Ambiguous(_), _)) => "Ambiguous".to_owned(),
        }
    }

    /// What a request needs, as its refusal says; empty if it is served.
    pub(crate) fn remedy(&self, request: &str) -> String {
        let decision = decide(&self.compiled.snapshot, read(request), &NoTokens, NOW);
        match decision {
            Decision::Deny(_, denial, _) => denial.remedy(),
            Decision::Forward(cleared) => match &**cleared.backend() {
                Backend::Missing { remedy, .. } => remedy.to_string(),
                Backend::Service(..) => String::new(),
            },
            Decision::Moved(_)
            | Decision::Preflight(..)
            | Decision::Redirect(..)
            | Decision::NotFound(_) => String::new(),
        }
    }

    /// How much a refused client is told; nothing if it is not refused.
    pub(crate) fn disclosure(&self, request: &str) -> Option<Disclosure> {
        let decision = decide(&self.compiled.snapshot, read(request), &NoTokens, NOW);
        if let Decision::Deny(_, denial, _) = decision { Some(denial.disclosure) } else { None }
    }

    /// Every finding and problem, one a line, without remedies.
    pub(crate) fn findings(&self) -> Vec<String> {
        let findings = self.compiled.findings.iter();
        let findings = findings.map(|finding| format!("{}: {}", finding.field, finding.message));
        let problems = self.manifests.problems.iter().map(|problem| {
            format!("{}:{}:{}: {}", problem.path, problem.line, problem.column, problem.message)
        });
        findings.chain(problems).collect()
    }
}

fn read(request: &str) -> CanonicalRequest {
    read_on(None, request)
}

fn read_on(sni: Option<&str>, request: &str) -> CanonicalRequest {
    let mut words = request.split(' ');
    let (method, url) = (words.next().expect("a method"), words.next().expect("a URL"));
    let (scheme, url) = match url.strip_prefix("http://") {
        Some(url) => (Scheme::Http, url),
        None => (Scheme::Https, url),
    };
    let (host, path) = url.split_once('/').expect("a path");
    let mut peer = "198.51.100.1".to_owned();
    let mut builder =
        http::Request::builder().method(method).uri(format!("/{path}")).header("host", host);
    for word in words {
        match word.split_once('=') {
            Some((name, value)) => builder = builder.header(name, value),
            None => word.clone_into(&mut peer),
        }
    }
    let (parts, ()) = builder.body(()).expect("a request").into_parts();
    let peer = SocketAddr::new(peer.parse().expect("an address"), 4000);
    let sni = sni.map(|sni| Host::parse(sni).expect("a host"));
    let connection =
        Connection { remote: Remote::Socket(peer), scheme, sni, certificate: Shown::NotAsked };
    CanonicalRequest::read(parts, connection, &AddressSource::default(), RequestLimits::default())
        .expect("a request that can be read in one way")
}

/// Asks each request and compares how it ends.
#[track_caller]
pub(crate) fn check(text: &str, expected: &[(&str, &str)]) {
    check_with(text, &settings(), expected);
}

/// Like [`check`], with settings.
#[track_caller]
pub(crate) fn check_with(text: &str, settings: &Settings, expected: &[(&str, &str)]) {
    let world = World::with(text, settings);
    for (request, answer) in expected {
        assert_eq!(world.ask(request), *answer, "{request}\n{:#?}", world.findings());
    }
}

/// Compares all findings with their beginnings.
#[track_caller]
pub(crate) fn check_findings(text: &str, expected: &[&str]) {
    check_findings_with(text, &settings(), expected);
}

/// Like [`check_findings`], with settings.
#[track_caller]
pub(crate) fn check_findings_with(text: &str, settings: &Settings, expected: &[&str]) {
    let found = World::with(text, settings).findings();
    let fits = found.len() == expected.len()
        && found.iter().zip(expected).all(|(found, start)| found.starts_with(start));
    assert!(fits, "found {found:#?}\nexpected {expected:#?}");
}

/// Services `api` (80, named http; 8080) and `web` (80) of namespace shop.
pub(crate) const SERVICES: &str = "
apiVersion: v1
kind: Service
metadata: { name: api, namespace: shop }
spec: { ports: [{ name: http, port: 80 }, { name: admin, port: 8080 }] }
---
apiVersion: v1
kind: Service
metadata: { name: web, namespace: shop }
spec: { ports: [{ port: 80 }] }
---
apiVersion: v1
kind: Service
metadata: { name: web, namespace: other }
spec: { ports: [{ port: 80 }] }
---
";

/// An Ingress of namespace shop: `metadata` and `spec` fields in flow style are added.
pub(crate) fn ingress(metadata: &str, rules: &str) -> String {
    format!(
        "{SERVICES}apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {{ name: api, namespace: shop, {metadata} }}\nspec: {{ ingressClassName: whygate, {rules} }}\n---\n"
    )
}

/// The Ingress `shop/api`: everything of api.example.com.
pub(crate) fn api() -> String {
    ingress(
        "",
        "rules: [{ host: api.example.com, http: { paths: [{ path: /, pathType: Prefix, backend: { service: { name: api, port: { number: 80 } } } }] } }]",
    )
}

/// A rule of an Ingress.
pub(crate) fn rule(host: &str, path: &str) -> String {
    format!(
        "{{ host: '{host}', http: {{ paths: [{{ path: '{path}', pathType: Prefix, backend: {{ service: {{ name: web, port: {{ number: 80 }} }} }} }}] }} }}"
    )
}

/// An Ingress with a name, age and rules; `created` is a day of 2025-01.
pub(crate) fn aged(name: &str, created: u8, annotations: &str, rules: &[String]) -> String {
    let (namespace, name) = name.split_once('/').expect("a namespace");
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {{ name: {name}, namespace: {namespace}, creationTimestamp: '2025-01-{created:02}T00:00:00Z', annotations: {{ {annotations} }} }}\nspec: {{ ingressClassName: whygate, rules: [{}] }}\n---\n",
        rules.join(", ")
    )
}

/// An `AccessPolicy` of namespace shop for Ingress api, with further fields of its spec.
pub(crate) fn policy(name: &str, spec: &str) -> String {
    targeted(name, "{ group: networking.k8s.io, kind: Ingress, name: api }", spec)
}

/// An `AccessPolicy` of namespace shop with one target.
pub(crate) fn targeted(name: &str, target: &str, spec: &str) -> String {
    format!(
        "apiVersion: whygate.dev/v1alpha1\nkind: AccessPolicy\nmetadata: {{ name: {name}, namespace: shop }}\nspec:\n  targetRefs: [{target}]\n{spec}\n---\n"
    )
}

/// A rule that admits 192.0.2.0/24.
pub(crate) const OFFICE: &str = "  require: [{ name: office, ip: { cidrs: [192.0.2.0/24] } }]";
