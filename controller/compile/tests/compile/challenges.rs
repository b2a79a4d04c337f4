//! ACME challenges: what an issuer of certificates must reach, and nothing beside it.

use compile::{Settings, settings::Posture};

use crate::world::{World, api, check_findings, check_with, settings};

/// An Ingress as cert-manager makes one.
fn solver(metadata: &str, path: &str, path_type: &str) -> String {
    format!(
        "
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: cm-acme-http-solver-x7k2p
  namespace: shop
  labels: {{ acme.cert-manager.io/http01-solver: 'true' }}
  annotations:
    nginx.ingress.kubernetes.io/whitelist-source-range: 0.0.0.0/0,::/0
    {metadata}
spec:
  ingressClassName: whygate
  rules:
  - host: api.example.com
    http:
      paths:
      - {{ path: {path}, pathType: {path_type}, backend: {{ service: {{ name: cm-acme-http-solver, port: {{ number: 8089 }} }} }} }}
---
apiVersion: v1
kind: Service
metadata: {{ name: cm-acme-http-solver, namespace: shop }}
spec: {{ ports: [{{ port: 8089 }}] }}
"
    )
}

const TOKEN: &str = "/.well-known/acme-challenge/LoqXcYV8_q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0";
const SOLVER: &str = "shop/cm-acme-http-solver:8089";

fn closed() -> Settings {
    Settings { default_posture: Posture::Closed, ..settings() }
}

#[test]
fn a_challenge_is_answered_under_every_posture_and_only_on_its_very_path() {
    let text = api() + &solver("", TOKEN, "ImplementationSpecific");
    let at = |method: &str, end: &str| format!("{method} http://api.example.com{TOKEN}{end}");
    for settings in [settings(), closed()] {
        let (get, head) = (at("GET", ""), at("HEAD", ""));
        check_with(&text, &settings, &[(&get, SOLVER), (&head, SOLVER)]);
    }
    check_with(
        &text,
        &closed(),
        &[
            (&at("POST", ""), "PolicyRequired"),
            (&at("GET", "/x"), "PolicyRequired"),
            (&at("GET", "x"), "PolicyRequired"),
            (&at("GET", "/"), "PolicyRequired"),
            (&at("GET", ";admin"), "PolicyRequired"),
            (&at("GET", "?cmd=evil"), "PolicyRequired"),
            (&at("GET", " connection=upgrade upgrade=websocket"), "PolicyRequired"),
            ("GET api.example.com/.well-known/acme-challenge/", "PolicyRequired"),
            ("GET api.example.com/", "PolicyRequired"),
        ],
    );
    check_findings(&text, &[]);
}

#[test]
fn of_policies_only_deny_holds_for_a_challenge() {
    let policy = "
---
apiVersion: whygate.dev/v1alpha1
kind: AccessPolicy
metadata: { name: office, namespace: shop }
spec:
  targetRefs: [{ group: networking.k8s.io, kind: Ingress, name: cm-acme-http-solver-x7k2p }]
  deny: [{ name: abuse, ip: { cidrs: [203.0.113.0/24] } }]
  require: [{ name: office, ip: { cidrs: [192.0.2.0/24] } }]
";
    let text = api() + &solver("", TOKEN, "Exact") + policy;
    let from = |address: &str| format!("GET http://api.example.com{TOKEN} {address}");
    let post = format!("POST http://api.example.com{TOKEN} 198.51.100.1");
    check_with(
        &text,
        &closed(),
        &[
            (&from("198.51.100.1"), SOLVER),
            (&from("203.0.113.9"), "AddressDenied"),
            (&post, "AddressNotAllowed"),
        ],
    );
    let invalid = text.replace("203.0.113.0/24", "203.0.113.0/33");
    check_with(&invalid, &settings(), &[(&from("198.51.100.1"), "PolicyInvalid")]);
}

#[test]
fn a_label_alone_opens_nothing() {
    let shapes = [
        solver("", "/.well-known/acme-challenge", "Exact"),
        solver("", "/.well-known/acme-challenge/", "ImplementationSpecific"),
        solver("", "/.well-known/acme-challenge/a/b", "Exact"),
        solver("", "/.well-known/acme-challenge/a.b", "Exact"),
        solver("", "/admin", "Exact"),
        solver("", "/", "ImplementationSpecific"),
        solver("", TOKEN, "Prefix"),
        solver("whygate.dev/ssl-redirect: 'false'", TOKEN, "Exact"),
        solver("", TOKEN, "Exact").replace("host: api.example.com", "host: '*.example.com'"),
        solver("", TOKEN, "Exact").replace("- host: api.example.com\n    http", "- http"),
        solver("", TOKEN, "Exact").replace("  rules:", "  defaultBackend: { service: { name: cm-acme-http-solver, port: { number: 8089 } } }\n  rules:"),
        solver("", TOKEN, "Exact").replace("  rules:", "  rules:\n  - host: other.example.com"),
    ];
    for shape in shapes {
        let world = World::with(&(api() + &shape), &closed());
        let asked =
            ["", "/a", "/a/b", "/a.b"].map(|end| format!("/.well-known/acme-challenge{end}"));
        for path in asked.iter().map(String::as_str).chain([TOKEN, "/admin", "/"]) {
            let answer = world.ask(&format!("GET http://api.example.com{path}"));
            assert_ne!(answer, SOLVER, "{path} of {shape}");
        }
        let told = world.findings().join("\n");
        assert!(told.contains("does not answer an ACME challenge"), "{shape}\n{told}");
    }
    let unlabelled = solver("", TOKEN, "Exact").replace("'true'", "'false'");
    let get = format!("GET http://api.example.com{TOKEN}");
    check_with(&(api() + &unlabelled), &closed(), &[(&get, "PolicyRequired")]);
}

#[test]
fn a_namespace_that_shares_a_host_answers_no_challenge_for_it() {
    let shared = api().replace(
        "name: api, namespace: shop, ",
        "name: api, namespace: shop, annotations: { whygate.dev/share-host-with: zoo }, ",
    );
    let guest = solver("", TOKEN, "Exact").replace("namespace: shop", "namespace: zoo");
    let get = format!("GET http://api.example.com{TOKEN}");
    let served = "zoo/cm-acme-http-solver:8089";
    check_with(&(shared.clone() + &guest), &settings(), &[(&get, served)]);
    check_with(&(shared + &guest), &closed(), &[(&get, "PolicyRequired")]);
}

#[test]
fn a_challenge_of_another_namespace_has_no_effect_on_a_host() {
    let foreign = solver("", TOKEN, "Exact").replace("namespace: shop", "namespace: zoo");
    let get = format!("GET http://api.example.com{TOKEN}");
    check_with(&(api() + &foreign), &settings(), &[(&get, "shop/api:80")]);
}
