//! How long a decision takes: `cargo bench -p compile --bench decide`. Prints nanoseconds for each, the
//! median and the fastest of nine runs; reading the request is not in it, letting it go is.
//!
//! Times depend on the machine: compare two commits on the same one, with nothing beside.
#![expect(clippy::print_stdout, reason = "a benchmark tells its result")]
#![expect(clippy::disallowed_types, reason = "no clock of a test is to stop this one")]
#![expect(clippy::expect_used, reason = "what is measured here is written here")]

use std::{
    cell::RefCell,
    collections::HashMap,
    fmt::Write,
    hint::black_box,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use compile::{Before, Settings, manifest};
use decision::{
    canonical::{CanonicalRequest, Connection, RequestLimits, Scheme},
    certificate::Shown,
    claims::Claims,
    client::{AddressSource, Remote},
    decide::{Decision, decide},
    snapshot::Snapshot,
    time::Timestamp,
    token::{NoTokens, VerifiedTokens},
};
use jsonwebtoken::{Algorithm, EncodingKey, Header};

const RUNS: usize = 9;
/// Requests of one run.
const REQUESTS: usize = 10_000;
/// Hosts of the large table, five paths each.
const HOSTS: usize = 10_000;
/// Ingresses in a namespace, so that none is beyond its cap.
const NAMESPACE: usize = 500;
/// 2026-01-01T00:00:00Z.
const NOW: i64 = 1_767_225_600;

/// The private key of RFC 8037 appendix A.1, as PKCS #8 (RFC 8410 section 7), and its public half.
const PRIVATE_KEY: [u8; 48] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
    0x9d, 0x61, 0xb1, 0x9d, 0xef, 0xfd, 0x5a, 0x60, 0xba, 0x84, 0x4a, 0xf4, 0x92, 0xec, 0x2c, 0xc4,
    0x44, 0x49, 0xc5, 0x69, 0x7b, 0x32, 0x69, 0x19, 0x70, 0x3b, 0xac, 0x03, 0x1c, 0xae, 0x7f, 0x60,
];
const KEY_SET: &str = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"k1","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;

fn main() {
    let snapshot = compiled(few());
    let one = |host: &str| vec![(host.to_owned(), "/p3/x".to_owned(), None)];
    run("open route", &snapshot, &one("open.example.com"), &NoTokens, true);
    run("three rules of three checks", &snapshot, &one("rules.example.com"), &NoTokens, true);
    run("refused by address", &snapshot, &one("refused.example.com"), &NoTokens, false);
    run("10,000 networks", &snapshot, &one("networks.example.com"), &NoTokens, true);
    let token = Some(token());
    let signed_in = [("tokens.example.com".to_owned(), "/p3/x".to_owned(), token)];
    run("token, verified before", &snapshot, &signed_in, &Remembered::default(), true);
    run("token, verified each time", &snapshot, &signed_in, &NoTokens, true);

    let snapshot = compiled(many());
    let all: Vec<Asked> = (0..HOSTS)
        .map(|host| (name(host * 7919 % HOSTS), format!("/p{}/x", host % 5), None))
        .collect();
    run("10,000 hosts with 5 paths, all in turn", &snapshot, &all, &NoTokens, true);
}

/// Host, path, and a token if there is one.
type Asked = (String, String, Option<String>);

fn run(
    title: &str,
    snapshot: &Snapshot,
    asked: &[Asked],
    tokens: &dyn VerifiedTokens,
    passes: bool,
) {
    let mut times: Vec<Duration> = Vec::with_capacity(RUNS);
    // The first run fills caches and is not counted.
    for number in 0..=RUNS {
        let requests: Vec<CanonicalRequest> =
            asked.iter().cycle().take(REQUESTS).map(request).collect();
        let begun = Instant::now();
        let forwarded = requests
            .into_iter()
            .map(|request| black_box(decide(snapshot, request, tokens, Timestamp(NOW))))
            .filter(|decision| matches!(decision, Decision::Forward(_)))
            .count();
        if number > 0 {
            times.push(begun.elapsed());
        }
        assert_eq!(forwarded, if passes { REQUESTS } else { 0 }, "{title}");
    }
    times.sort();
    let place = |index: usize| times.get(index).map_or(0, Duration::as_nanos) / REQUESTS as u128;
    println!("{title:40} median {:>7} ns, fastest {:>7} ns", place(RUNS / 2), place(0));
}

fn request((host, path, token): &Asked) -> CanonicalRequest {
    let mut builder = http::Request::get(path.as_str()).header("host", host);
    if let Some(token) = token {
        builder = builder.header("authorization", format!("Bearer {token}"));
    }
    let (parts, ()) = builder.body(()).expect("a request").into_parts();
    let remote = Remote::Socket(SocketAddr::from(([198, 51, 100, 1], 4000)));
    let connection =
        Connection { remote, scheme: Scheme::Http, sni: None, certificate: Shown::NotAsked };
    CanonicalRequest::read(parts, connection, &AddressSource::default(), RequestLimits::default())
        .expect("a request that can be read in one way")
}

/// What a data thread keeps, without its bounds.
#[derive(Default)]
struct Remembered(RefCell<HashMap<String, Arc<Claims>>>);

impl VerifiedTokens for Remembered {
    fn get(&self, _: u64, token: &str) -> Option<Arc<Claims>> {
        self.0.borrow().get(token).cloned()
    }

    fn insert(&self, _: u64, token: &str, claims: &Arc<Claims>) {
        self.0.borrow_mut().insert(token.to_owned(), Arc::clone(claims));
    }
}

fn token() -> String {
    let header = Header { kid: Some("k1".to_owned()), ..Header::new(Algorithm::EdDSA) };
    let claims = serde_json::json!({
        "iss": "https://id.example.com", "aud": "shop-api", "sub": "user-1",
        "scope": "orders.read profile", "iat": NOW, "exp": NOW + 3600,
    });
    jsonwebtoken::encode(&header, &claims, &EncodingKey::from_ed_der(&PRIVATE_KEY))
        .expect("a token")
}

fn compiled(files: Vec<(String, String)>) -> Snapshot {
    let resources = manifest::read(files).resources;
    let settings = Settings { namespaces_are_known: true, ..Settings::default() };
    let compiled = compile::compile(&resources, &settings, &Before::default());
    assert_eq!(compiled.findings, []);
    compiled.snapshot
}

/// A host for each way to be judged.
fn few() -> Vec<(String, String)> {
    let mut networks = (0..9_999)
        .map(|number| format!("10.{}.{}.0/25", number / 256, number % 256))
        .collect::<Vec<_>>();
    networks.push("198.51.100.0/24".to_owned());
    let lists = networks.chunks(4_000).fold(String::new(), |mut text, part| {
        let _ = write!(text, "{{ ip: {{ cidrs: [{}] }} }}, ", part.join(", "));
        text
    });
    let rule = "ip: { cidrs: [198.51.100.0/24, 192.0.2.0/24] }, methods: [GET, HEAD]";
    let rules = ["a", "b", "c"].map(|name| format!("{{ name: {name}, {rule} }}")).join(", ");
    let jwt = format!(
        "{{ name: in, jwt: {{ provider: login, scopes: {{ all: [orders.read] }} }} }}]
  jwtProviders: [{{ name: login, issuer: 'https://id.example.com', audiences: [shop-api], jwks: {{ inline: '{KEY_SET}' }} }}"
    );
    // A Service behind a policy that is open behind another path would be a finding.
    let open = service("open") + &ingress("open", "open", "open.example.com");
    let text = service("shop")
        + &ingress("shop", "rules", "rules.example.com")
        + &policy("rules", &rules)
        + &ingress("shop", "refused", "refused.example.com")
        + &policy("refused", "{ name: a, ip: { cidrs: [203.0.113.0/24] } }")
        + &ingress("shop", "networks", "networks.example.com")
        + &policy("networks", &format!("{{ name: a, anyOf: [{lists}] }}"))
        + &ingress("shop", "tokens", "tokens.example.com")
        + &policy("tokens", &jwt);
    vec![("open.yaml".to_owned(), open), ("few.yaml".to_owned(), text)]
}

/// Open routes of many hosts.
fn many() -> Vec<(String, String)> {
    (0..HOSTS / NAMESPACE)
        .map(|number| {
            let namespace = format!("ns{number}");
            let text = (number * NAMESPACE..(number + 1) * NAMESPACE)
                .map(|host| ingress(&namespace, &format!("i{host}"), &name(host)))
                .fold(service(&namespace), |text, ingress| text + &ingress);
            (format!("{number}.yaml"), text)
        })
        .collect()
}

fn name(host: usize) -> String {
    format!("h{host}.example.com")
}

fn service(namespace: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{ name: web, namespace: {namespace} }}\nspec: {{ ports: [{{ port: 80 }}] }}\n"
    )
}

fn ingress(namespace: &str, name: &str, host: &str) -> String {
    let paths = ["p0", "p1", "p2", "p3", "p4"].map(|path| {
        format!("{{ path: /{path}, pathType: Prefix, backend: {{ service: {{ name: web, port: {{ number: 80 }} }} }} }}")
    });
    format!(
        "---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{ name: {name}, namespace: {namespace} }}
spec:
  ingressClassName: whygate
  rules: [{{ host: {host}, http: {{ paths: [{}] }} }}]
",
        paths.join(", ")
    )
}

fn policy(name: &str, rules: &str) -> String {
    format!(
        "---
apiVersion: whygate.dev/v1alpha1
kind: AccessPolicy
metadata: {{ name: {name}, namespace: shop }}
spec:
  targetRefs: [{{ group: networking.k8s.io, kind: Ingress, name: {name} }}]
  require: [{rules}]
"
    )
}
