//! The corpus, judged twice: in process by `compile` and `decide`, and by the real proxy.

#![expect(clippy::expect_used, reason = "a test ends at the first thing that cannot be")]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, ensure};
use compile::compile;
use compile::manifest::{self, Manifests};
use compile::settings::{Posture, Settings};
use decision::address::NetworkSet;
use decision::canonical::{CanonicalRequest, Connection, RequestLimits, Scheme};
use decision::certificate::{ClientCertificate, Shown};
use decision::client::{AddressSource, Remote};
use decision::code::Code;
use decision::decide::{Cleared, Decision, decide};
use decision::denial::Denial;
use decision::host::Host;
use decision::options::rewrite::Unwritten;
use decision::route::Backend;
use decision::time::Timestamp;
use decision::token::NoTokens;
use e2e::client::empty;
use e2e::corpus::{CLIENT_HEADER, Case, Credentials, Sent, Verdict, cases};
use e2e::upstream::Echo;
use e2e::{Client, Upstream, Whygate};
use http::HeaderName;
use serde_json::json;

#[test]
fn in_process_every_request_of_the_corpus_ends_as_expected() -> anyhow::Result<()> {
    let credentials = Credentials::new()?;
    let mut failures = String::new();
    for case in cases()? {
        let judge = InProcess::new(&case, &credentials)?;
        for sent in &case.requests {
            let verdict = judge.verdict(sent, &credentials)?;
            report(&mut failures, &case, sent, &verdict);
        }
    }
    ensure!(failures.is_empty(), "\n{failures}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn through_the_real_proxy_every_request_of_the_corpus_ends_as_expected() -> anyhow::Result<()>
{
    let credentials = Credentials::new()?;
    let mut failures = String::new();
    for case in cases()? {
        let proxy = Proxy::start(&case, &credentials).await.with_context(|| case.name.clone())?;
        for sent in &case.requests {
            let verdict = proxy.verdict(sent, &credentials).await;
            let verdict = verdict.with_context(|| format!("{}: {}", case.name, sent.send))?;
            report(&mut failures, &case, sent, &verdict);
        }
    }
    ensure!(failures.is_empty(), "\n{failures}");
    Ok(())
}

#[test]
fn every_code_is_expected_by_some_test() -> anyhow::Result<()> {
    let of_cases: BTreeSet<String> = cases()?
        .iter()
        .flat_map(|case| &case.requests)
        .filter_map(|sent| sent.expect.denial_code().map(str::to_owned))
        .collect();
    let elsewhere = BEHIND_THE_CORPUS.map(|(code, ..)| code);
    let wrong: Vec<_> = Code::ALL
        .iter()
        .filter(|code| of_cases.contains(code.as_str()) == elsewhere.contains(code))
        .collect();
    ensure!(wrong.is_empty(), "neither or both of a case and another test expect {wrong:?}");
    Ok(())
}

/// What no manifest and well-framed request alone can bring about, and the file and the test that
/// do: with an upstream that fails, a body that stops, bytes of their own.
const BEHIND_THE_CORPUS: [(Code, &str, &str); 9] = [
    (
        Code::BodyTooLarge,
        "dataplane/tests/proxy/options/limits.rs",
        "a_body_that_announces_too_much_is_a_413_that_names_annotation_and_limit",
    ),
    (
        Code::EncodingNotSupported,
        "e2e/tests/bypass/main.rs",
        "a_transfer_encoding_other_than_chunked_is_refused_by_name",
    ),
    (
        Code::JudgementFailed,
        "dataplane/src/handle.rs",
        "a_panic_in_judging_is_a_503_of_one_request",
    ),
    (
        Code::RequestTimeout,
        FAULTS,
        "a_body_that_stops_is_a_408_and_its_upstream_connection_is_not_used_again",
    ),
    (Code::UpstreamConnectFailed, FAULTS, "each_way_of_an_upstream_to_fail_has_its_code"),
    (
        Code::UpstreamOverloaded,
        "dataplane/tests/proxy/balance.rs",
        "a_full_endpoint_lets_as_many_wait_and_no_more",
    ),
    (Code::UpstreamReset, FAULTS, "each_way_of_an_upstream_to_fail_has_its_code"),
    (Code::UpstreamTimeout, FAULTS, "a_silent_upstream_is_not_waited_for"),
    (Code::UpstreamMalformed, FAULTS, "each_way_of_an_upstream_to_fail_has_its_code"),
];

const FAULTS: &str = "dataplane/tests/proxy/faults.rs";

#[test]
fn every_test_that_stands_in_for_a_case_exists_and_names_its_code() -> anyhow::Result<()> {
    for (code, file, test) in BEHIND_THE_CORPUS {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(file);
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let body = test_body(&text, test).with_context(|| format!("no test {test} in {file}"))?;
        ensure!(body.contains(code.as_str()), "{test} in {file} does not expect {code:?}");
    }
    Ok(())
}

/// What stands between the braces of a test.
fn test_body<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (before, after) = text.split_once(&format!("fn {name}("))?;
    // Attributes stand right above it, up to the empty line after what comes before.
    let attributes = before.rsplit("\n\n").next()?;
    if !["#[test]", "#[tokio::test"].iter().any(|attribute| attributes.contains(attribute)) {
        return None;
    }
    let indent: String = before.rsplit('\n').next()?.chars().take_while(|it| *it == ' ').collect();
    after.split_once(&format!("\n{indent}}}\n")).map(|(body, _)| body)
}

fn report(failures: &mut String, case: &Case, sent: &Sent, verdict: &Verdict) {
    let differences = sent.expect.differences(verdict);
    if !differences.is_empty() {
        let Case { name, why, .. } = case;
        let line: String = sent.send.chars().take(120).collect();
        let (differences, explanation) = (differences.join("; "), &verdict.explanation);
        // Writing to a String cannot fail.
        let _ = writeln!(failures, "{name} ({why})\n  {line}: {differences}\n  {explanation}");
    }
}

/// Runner 1: `compile` and `decide`.
struct InProcess {
    snapshot: decision::snapshot::Snapshot,
    endpoints: std::collections::HashMap<decision::route::ServicePort, Vec<SocketAddr>>,
    findings: String,
    source: AddressSource,
}

impl InProcess {
    fn new(case: &Case, credentials: &Credentials) -> anyhow::Result<Self> {
        let text = case.filled(credentials)?;
        let manifests = read(&text);
        let slices = endpoint_slices(&manifests, |_| SocketAddr::from(([127, 0, 0, 1], 1)));
        let posture =
            if case.posture.as_deref() == Some("closed") { Posture::Closed } else { Posture::Open };
        let default = Settings::default();
        let settings = Settings {
            default_posture: posture,
            namespaces_are_known: true,
            max_objects_per_namespace: case
                .max_objects_per_namespace
                .unwrap_or(default.max_objects_per_namespace),
            ..default
        };
        let compiled = compile(&manifests.resources, &settings, &compile::Before::default());
        let slices = manifest::read([("endpoints.yaml".to_owned(), slices)]).endpoint_slices;
        Ok(Self {
            endpoints: compile::endpoints::endpoints(&manifests.resources.services, &slices),
            findings: compiled
                .findings
                .iter()
                .fold(String::new(), |text, finding| format!("{text}\n  {finding:?}")),
            snapshot: compiled.snapshot,
            source: AddressSource {
                proxy_protocol: false,
                header: Some(HeaderName::from_static(CLIENT_HEADER)),
                trusted_proxies: NetworkSet::from_iter(["127.0.0.0/8".parse().expect("a network")]),
                infrastructure: NetworkSet::default(),
            },
        })
    }

    fn verdict(&self, sent: &Sent, credentials: &Credentials) -> anyhow::Result<Verdict> {
        let sni = sent.sni.as_deref().map(|sni| Host::parse(sni).expect("a host"));
        let certificate = self.shown(sent, sni.as_ref(), credentials)?;
        Ok(self.judge(sent.request(credentials)?, sni, certificate))
    }

    /// The certificate of the client, if the handshake asks for it.
    fn shown(
        &self,
        sent: &Sent,
        sni: Option<&Host>,
        credentials: &Credentials,
    ) -> anyhow::Result<Shown> {
        if sni.is_none() || self.snapshot.routes.certificate_authorities(sni).is_empty() {
            return Ok(Shown::NotAsked);
        }
        let Some(spec) = &sent.certificate else { return Ok(Shown::Nothing) };
        let (chain, _) = credentials.client_certificate(spec)?.decoded()?;
        Ok(Shown::Certificate(ClientCertificate::new(chain).into()))
    }

    fn judge(&self, request: http::Request<()>, sni: Option<Host>, certificate: Shown) -> Verdict {
        let connection = Connection {
            remote: Remote::Socket(SocketAddr::from(([127, 0, 0, 1], 40_000))),
            scheme: if sni.is_some() { Scheme::Https } else { Scheme::Http },
            sni,
            certificate,
        };
        let (parts, ()) = request.into_parts();
        let decision =
            match CanonicalRequest::read(parts, connection, &self.source, RequestLimits::default())
            {
                Ok(request) => decide(&self.snapshot, request, &NoTokens, now()),
                Err(malformed) => return self.denied(&Denial::of_request(malformed.reason)),
            };
        match decision {
            Decision::Forward(cleared) => self.forwarded(cleared),
            Decision::Deny(_, denial, _) => self.denied(&denial),
            Decision::NotFound(_) => self.failed(Code::RouteNotFound),
            Decision::Moved(cleared) => Verdict {
                status: cleared.redirect().map(|redirect| redirect.status.as_u16()),
                forwarded: Some(String::new()),
                ..Verdict::default()
            },
            Decision::Preflight(..) => {
                Verdict { status: Some(204), forwarded: Some(String::new()), ..Verdict::default() }
            }
            Decision::Redirect(..) => Verdict { status: Some(308), ..Verdict::default() },
        }
    }

    fn forwarded(&self, cleared: Cleared) -> Verdict {
        match &**cleared.backend() {
            Backend::Missing { .. } => self.failed(Code::BackendMissing),
            Backend::Service(port, _) if self.endpoints.get(port).is_none_or(Vec::is_empty) => {
                self.failed(Code::NoEndpoints)
            }
            Backend::Service(port, _) => {
                let port = port.to_string();
                let rewritten = match cleared.rewritten() {
                    Ok(rewritten) => rewritten,
                    Err((Unwritten::NoMatch, _)) => return self.failed(Code::RouteNotFound),
                    Err((Unwritten::Ambiguous(_), _)) => return self.failed(Code::RouteInvalid),
                };
                let (line, headers) = cleared.into_parts().0.into_parts();
                let target = rewritten.unwrap_or(line.target);
                Verdict {
                    forwarded: Some(format!("{port} {target}")),
                    code: Some(String::new()),
                    headers: Some(headers.keys().map(|name| name.as_str().to_owned()).collect()),
                    explanation: self.findings.clone(),
                    ..Verdict::default()
                }
            }
        }
    }

    fn failed(&self, code: Code) -> Verdict {
        Verdict {
            forwarded: Some(String::new()),
            code: Some(code.as_str().to_owned()),
            status: Some(code.status().as_u16()),
            explanation: self.findings.clone(),
            ..Verdict::default()
        }
    }

    fn denied(&self, denial: &Denial) -> Verdict {
        let challenge =
            denial.challenge().map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        Verdict {
            policy: Some(
                denial.policy().map(|policy| policy.path().to_string()).unwrap_or_default(),
            ),
            rule: Some(denial.rule().unwrap_or_default().to_owned()),
            field: Some(denial.field().map(|field| field.path.to_string()).unwrap_or_default()),
            challenge: Some(challenge.unwrap_or_default()),
            explanation: format!(
                "{} {}{}",
                denial.operator_sentence(),
                denial.remedy(),
                self.findings
            ),
            ..self.failed(denial.code())
        }
    }
}

/// Runner 2: the program on loopback, with an upstream for each Service.
struct Proxy {
    whygate: Whygate,
    _upstreams: Vec<Upstream>,
    _folder: tempfile::TempDir,
}

impl Proxy {
    async fn start(case: &Case, credentials: &Credentials) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let text = case.filled(credentials)?;
        let manifests = read(&text);
        let mut upstreams = Vec::new();
        for name in service_ports(&manifests) {
            upstreams.push((
                name.clone(),
                Upstream::start(SocketAddr::from(([127, 0, 0, 1], 0)), &name).await?,
            ));
        }
        let address = |name: &str| {
            let upstream = upstreams.iter().find(|(upstream, _)| upstream == name);
            upstream
                .map_or(SocketAddr::from(([127, 0, 0, 1], 1)), |(_, upstream)| upstream.address())
        };
        fs::write(folder.path().join("manifests.yaml"), &text)?;
        fs::write(folder.path().join("endpoints.yaml"), endpoint_slices(&manifests, address))?;
        let client = format!("header:{CLIENT_HEADER}");
        let posture = case.posture.as_deref().unwrap_or("open");
        let mut flags = vec![
            "--client-address",
            &client,
            "--trusted-proxies",
            "127.0.0.0/8",
            "--default-posture",
            posture,
        ];
        let most = case.max_objects_per_namespace.map(|most| most.to_string());
        if let Some(most) = &most {
            flags.extend(["--max-objects-per-namespace", most]);
        }
        let whygate = Whygate::serve(folder.path(), &flags).await?;
        let upstreams = upstreams.into_iter().map(|(_, upstream)| upstream).collect();
        Ok(Self { whygate, _upstreams: upstreams, _folder: folder })
    }

    async fn verdict(&self, sent: &Sent, credentials: &Credentials) -> anyhow::Result<Verdict> {
        let request = sent.request(credentials)?;
        let client = match &sent.sni {
            None => Client::new(self.whygate.http()?),
            Some(sni) => {
                Client::new(self.whygate.https()?).trusting(credentials.authority())?.greeting(sni)
            }
        };
        let client = match &sent.certificate {
            None => client,
            Some(spec) => client.identified_by(credentials.client_certificate(spec)?),
        };
        let answer = client.send(request.map(|()| empty())).await?;
        let echo = answer.json::<Echo>().ok();
        let code = if echo.is_some() { "" } else { answer.header("whygate-denial-code") };
        Ok(Verdict {
            forwarded: Some(
                echo.as_ref()
                    .map(|echo| format!("{} {}", echo.upstream, echo.uri))
                    .unwrap_or_default(),
            ),
            // An undisclosed code is none that this runner can see.
            code: (echo.is_some() || !code.is_empty()).then(|| code.to_owned()),
            status: Some(answer.status.as_u16()).filter(|_| echo.is_none()),
            challenge: Some(answer.header("www-authenticate").to_owned()),
            headers: echo.map(|echo| echo.headers.into_iter().map(|(name, _)| name).collect()),
            response: Some(format!("{:?}\n{}", answer.headers, answer.text())),
            explanation: format!(
                "{} {:?} {}\n{}",
                answer.status,
                answer.headers,
                answer.text(),
                self.whygate.output()
            ),
            ..Verdict::default()
        })
    }
}

fn read(text: &str) -> Manifests {
    manifest::read([("manifests.yaml".to_owned(), text.to_owned())])
}

fn now() -> Timestamp {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
    Timestamp(i64::try_from(elapsed.as_secs()).expect("a clock before the year 292 billion"))
}

/// `NAMESPACE/NAME:PORT` of every port of every Service.
fn service_ports(manifests: &Manifests) -> Vec<String> {
    let ports = manifests.resources.services.iter().flat_map(|service| {
        let name = format!("{}/{}", namespace(service), name(service));
        let ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
        ports.map(move |port| format!("{name}:{}", port.port)).collect::<Vec<_>>()
    });
    ports.collect()
}

/// An EndpointSlice for each port, unless the Service says `test/endpoints: none`.
fn endpoint_slices(manifests: &Manifests, address: impl Fn(&str) -> SocketAddr) -> String {
    let mut slices = Vec::new();
    for service in &manifests.resources.services {
        if service.metadata.annotations.iter().flatten().any(|(key, _)| key == "test/endpoints") {
            continue;
        }
        for port in service.spec.iter().flat_map(|spec| spec.ports.iter().flatten()) {
            let upstream =
                address(&format!("{}/{}:{}", namespace(service), name(service), port.port));
            let slice = json!({
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": {
                    "name": format!("{}-{}", name(service), port.port),
                    "namespace": namespace(service),
                    "labels": { "kubernetes.io/service-name": name(service) },
                },
                "addressType": "IPv4",
                "endpoints": [{ "addresses": [upstream.ip().to_string()] }],
                "ports": [{ "name": port.name.clone().unwrap_or_default(), "port": upstream.port() }],
            });
            slices.push(slice.to_string());
        }
    }
    slices.join("\n---\n")
}

type Service = Arc<k8s_openapi::api::core::v1::Service>;

fn namespace(service: &Service) -> &str {
    service.metadata.namespace.as_deref().unwrap_or("default")
}

fn name(service: &Service) -> &str {
    service.metadata.name.as_deref().unwrap_or_default()
}
