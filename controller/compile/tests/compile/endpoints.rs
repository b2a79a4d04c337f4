//! From slices to addresses.

use std::net::SocketAddr;

use compile::manifest;
use decision::{
    refs::{Kind, ResourceRef},
    route::ServicePort,
};

const SERVICE: &str = "
apiVersion: v1
kind: Service
metadata: { name: api, namespace: shop }
spec: { ports: [{ name: http, port: 80, targetPort: 8080 }, { name: admin, port: 81 }, { name: dns, port: 53, protocol: UDP }] }
---
";

fn slice(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{ name: {name}, namespace: shop, labels: {{ kubernetes.io/service-name: api }} }}\n{spec}\n---\n"
    )
}

#[track_caller]
fn check(text: &str, port: u16, expected: &[&str]) {
    let manifests = manifest::read([("a.yaml".to_owned(), text.to_owned())]);
    let services = &manifests.resources.services;
    let table = compile::endpoints(services, &manifests.endpoint_slices);
    let service = ResourceRef::new(Kind::Service, "shop", "api");
    let found = table.get(&ServicePort { service, port });
    let expected: Vec<SocketAddr> =
        expected.iter().map(|text| text.parse().expect("an address")).collect();
    assert_eq!(found, Some(&expected), "{:?}", manifests.problems);
}

#[test]
fn ready_endpoints_of_all_slices_are_joined_sorted_and_each_once() {
    let ports = "ports: [{ name: http, port: 8080 }, { name: admin, port: 9000 }]";
    let text = SERVICE.to_owned()
        + &slice(
            "a",
            &format!(
                "addressType: IPv4\n{ports}\nendpoints:\n- {{ addresses: [10.0.0.2] }}\n- {{ addresses: [10.0.0.1], conditions: {{ ready: true }} }}\n- {{ addresses: [10.0.0.3], conditions: {{ ready: false }} }}\n- {{ addresses: [10.0.0.4], conditions: {{ ready: true, terminating: true }} }}"
            ),
        )
        + &slice(
            "b",
            &format!("addressType: IPv4\n{ports}\nendpoints: [{{ addresses: [10.0.0.2] }}]"),
        )
        + &slice(
            "c",
            "addressType: IPv6\nports: [{ name: http, port: 8081 }]\nendpoints: [{ addresses: ['2001:db8::1'] }]",
        )
        + &slice(
            "d",
            "addressType: FQDN\nports: [{ name: http, port: 8081 }]\nendpoints: [{ addresses: [example.com] }]",
        );
    check(&text, 80, &["10.0.0.1:8080", "10.0.0.2:8080", "[2001:db8::1]:8081"]);
    check(&text, 81, &["10.0.0.1:9000", "10.0.0.2:9000"]);
}

#[test]
fn a_port_without_endpoints_has_an_empty_list() {
    check(SERVICE, 80, &[]);
}

#[test]
fn the_only_port_may_have_no_name() {
    let text = "apiVersion: v1\nkind: Service\nmetadata: { name: api, namespace: shop }\nspec: { ports: [{ port: 80 }] }\n---\n".to_owned()
        + &slice("a", "addressType: IPv4\nports: [{ name: '', port: 8080 }]\nendpoints: [{ addresses: [10.0.0.1] }]");
    check(&text, 80, &["10.0.0.1:8080"]);
}

#[test]
fn endpoints_that_end_but_serve_count_only_where_no_other_is_ready() {
    let ending =
        "{ addresses: [10.0.0.1], conditions: { ready: false, serving: true, terminating: true } }";
    let gone = "{ addresses: [10.0.0.2], conditions: { ready: false, serving: false, terminating: true } }";
    let starting = "{ addresses: [10.0.0.3], conditions: { ready: false, serving: false } }";
    let ready = "{ addresses: [10.0.0.4], conditions: { ready: true, serving: true } }";
    let text = |endpoints: &[&str]| {
        let list = endpoints.join(", ");
        let ports = "ports: [{ name: http, port: 8080 }]";
        SERVICE.to_owned()
            + &slice("a", &format!("addressType: IPv4\n{ports}\nendpoints: [{list}]"))
    };
    check(&text(&[ending, gone, starting]), 80, &["10.0.0.1:8080"]);
    check(&text(&[ending, gone, starting, ready]), 80, &["10.0.0.4:8080"]);
    check(&text(&[gone, starting]), 80, &[]);
}
