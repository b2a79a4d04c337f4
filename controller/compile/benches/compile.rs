//! How long compiling takes: `cargo bench -p compile [INGRESSES]` (10,000 by default), each with
//! two paths and a policy of two rules. Prints the median and the fastest of nine runs.
//!
//! Times depend on the machine: compare two commits on the same one, with nothing beside.
#![expect(clippy::print_stdout, reason = "a benchmark tells its result")]
#![expect(clippy::disallowed_types, reason = "no clock of a test is to stop this one")]

use std::{fmt::Write, hint::black_box, time::Instant};

use compile::{Before, Settings, manifest};

const RUNS: usize = 9;
/// Ingresses in a namespace, so that none is beyond its cap.
const NAMESPACE: usize = 500;

fn main() {
    let asked = std::env::args().skip(1).find_map(|argument| argument.parse().ok());
    let ingresses: usize = asked.unwrap_or(10_000);
    let files = (0..ingresses.div_ceil(NAMESPACE)).map(|number| {
        let count = NAMESPACE.min(ingresses - number * NAMESPACE);
        (format!("{number}.yaml"), namespace(number, count))
    });
    let resources = manifest::read(files).resources;
    let settings = Settings { namespaces_are_known: true, ..Settings::default() };
    let mut before = Before::default();
    let mut times = Vec::with_capacity(RUNS);
    for _ in 0..RUNS {
        let begun = Instant::now();
        let compiled = compile::compile(black_box(&resources), &settings, &before);
        times.push(begun.elapsed());
        assert_eq!(compiled.findings, []);
        assert_eq!(compiled.routes, 2 * ingresses);
        before = compiled.next;
    }
    times.sort();
    let place = |index: usize| times.get(index).map_or(f64::NAN, |time| time.as_secs_f64() * 1e3);
    println!(
        "{ingresses} Ingresses and as many policies: median {:.1} ms, fastest {:.1} ms",
        place(RUNS / 2),
        place(0)
    );
}

fn namespace(number: usize, count: usize) -> String {
    let mut text = format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{ name: web, namespace: ns{number} }}\nspec: {{ ports: [{{ port: 80 }}] }}\n"
    );
    for name in 0..count {
        let backend = "backend: { service: { name: web, port: { number: 80 } } }";
        let _ = write!(
            text,
            "---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{ name: i{name}, namespace: ns{number} }}
spec:
  ingressClassName: whygate
  rules:
  - host: h{name}.ns{number}.example.com
    http: {{ paths: [{{ path: /, pathType: Prefix, {backend} }}, {{ path: /v1, pathType: Prefix, {backend} }}] }}
---
apiVersion: whygate.dev/v1alpha1
kind: AccessPolicy
metadata: {{ name: p{name}, namespace: ns{number} }}
spec:
  targetRefs: [{{ group: networking.k8s.io, kind: Ingress, name: i{name} }}]
  require:
  - {{ name: office, ip: {{ cidrs: [10.0.{}.0/24, 192.0.2.0/24] }} }}
  - {{ name: read, methods: [GET, HEAD] }}
",
            name % 250
        );
    }
    text
}
