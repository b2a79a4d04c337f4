//! How long compiling takes: `cargo bench -p compile --bench compile [INGRESSES]` (10,000 by default).
//! Prints the median and the fastest of nine runs.
//!
//! Of everything, each Ingress with two paths and a policy of two rules; and after a change, when a
//! file with one Ingress more is there or gone, the reading of the files included: of the same, and of
//! open Ingresses with five paths that lead to one Service.
//!
//! Times depend on the machine: compare two commits on the same one, with nothing beside.
#![expect(clippy::print_stdout, reason = "a benchmark tells its result")]
#![expect(clippy::disallowed_types, reason = "no clock of a test is to stop this one")]

use std::{
    fmt::Write,
    hint::black_box,
    num::NonZeroUsize,
    sync::Arc,
    time::{Duration, Instant},
};

use compile::{
    Before, Settings,
    manifest::{self, Manifests},
};

/// As in the program.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const RUNS: usize = 9;
/// Ingresses in a namespace.
const NAMESPACE: usize = 500;

type File = (String, Arc<str>);

fn main() {
    let asked = std::env::args().skip(1).find_map(|argument| argument.parse().ok());
    let ingresses: usize = asked.unwrap_or(10_000);
    let protected = (0..ingresses.div_ceil(NAMESPACE)).map(|number| {
        let count = NAMESPACE.min(ingresses - number * NAMESPACE);
        (format!("{number}.yaml"), namespace(number, count).into())
    });
    let protected: Vec<File> = protected.collect();
    let names: Vec<_> = (0..ingresses).map(|name| format!("h{name}")).collect();
    let open = vec![("all.yaml".to_owned(), open(&names).into())];
    from_nothing(&protected, ingresses);
    after_a_change("the same", &protected, "ns0");
    after_a_change("open ones", &open, "shop");
}

fn settings() -> Settings {
    let max_objects_per_namespace = NonZeroUsize::MAX;
    Settings { namespaces_are_known: true, max_objects_per_namespace, ..Settings::default() }
}

fn from_nothing(files: &[File], ingresses: usize) {
    let manifests = manifest::read_again(files.to_vec(), &Manifests::default());
    let (resources, settings) = (manifests.resources, settings());
    let mut before = Before::default();
    let times = (0..RUNS).map(|_| {
        let begun = Instant::now();
        let compiled = compile::compile(black_box(&resources), &settings, &before);
        let took = begun.elapsed();
        assert_eq!(compiled.findings, []);
        assert_eq!(compiled.routes, 2 * ingresses);
        before = Before { policies: compile::kept::Kept::default(), ..compiled.next };
        took
    });
    tell(&format!("{ingresses} Ingresses and as many policies"), times.collect());
}

fn after_a_change(what: &str, files: &[File], namespace: &str) {
    let more = ("more.yaml".to_owned(), ingress("more", namespace, 1).into());
    let changed = [files, &[more]].concat();
    let mut known = manifest::read_again(files.to_vec(), &Manifests::default());
    let mut before = compile::compile(&known.resources, &settings(), &Before::default()).next;
    let times = (0..RUNS).map(|run| {
        let files = if run % 2 == 0 { changed.clone() } else { files.to_vec() };
        let begun = Instant::now();
        let manifests = manifest::read_again(files, &known);
        let compiled = compile::compile(&manifests.resources, &settings(), &before);
        let took = begun.elapsed();
        before = compiled.next;
        known = manifests;
        took
    });
    tell(&format!("One Ingress more or less among {what}"), times.collect());
}

fn tell(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let place = |index: usize| times.get(index).map_or(f64::NAN, |time| time.as_secs_f64() * 1e3);
    println!("{what}: median {:.1} ms, fastest {:.1} ms", place(RUNS / 2), place(0));
}

fn service(name: &str, namespace: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{ name: {name}, namespace: {namespace} }}\nspec: {{ ports: [{{ port: 80 }}] }}\n---\n"
    )
}

fn ingress(name: &str, namespace: &str, paths: usize) -> String {
    let backend = "backend: { service: { name: web, port: { number: 80 } } }";
    let paths = (0..paths).map(|path| format!("{{ path: /p{path}, pathType: Prefix, {backend} }}"));
    let paths = paths.collect::<Vec<_>>().join(", ");
    format!(
        "apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{ name: {name}, namespace: {namespace}, annotations: {{ whygate.dev/ssl-redirect: \"false\" }} }}
spec:
  ingressClassName: whygate
  rules:
  - host: {name}.{namespace}.example.com
    http: {{ paths: [{paths}] }}
---
"
    )
}

fn policy(name: &str, namespace: &str, ingress: &str, network: usize) -> String {
    format!(
        "apiVersion: whygate.dev/v1alpha1
kind: AccessPolicy
metadata: {{ name: {name}, namespace: {namespace} }}
spec:
  targetRefs: [{{ group: networking.k8s.io, kind: Ingress, name: {ingress} }}]
  require:
  - {{ name: office, ip: {{ cidrs: [10.0.{network}.0/24, 192.0.2.0/24] }} }}
  - {{ name: read, methods: [GET, HEAD] }}
---
"
    )
}

fn namespace(number: usize, count: usize) -> String {
    let namespace = format!("ns{number}");
    let mut text = service("web", &namespace);
    for name in 0..count {
        let (ingress_name, policy_name) = (format!("i{name}"), format!("p{name}"));
        let policy = policy(&policy_name, &namespace, &ingress_name, name % 250);
        let _ = write!(text, "{}{policy}", ingress(&ingress_name, &namespace, 2));
    }
    text
}

/// Ingresses of which only the first has a policy.
fn open(names: &[String]) -> String {
    let mut text = service("web", "shop") + &policy("office", "shop", "h0", 0);
    text.extend(names.iter().map(|name| ingress(name, "shop", 5)));
    text
}
