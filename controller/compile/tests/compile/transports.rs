//! How endpoints are spoken to: what the ports of Services and the annotations of Ingresses come to.

use compile::{Before, resources::NamespaceReach};
use decision::{
    host::Host,
    route::Backend,
    transport::{HttpVersion, Roots, Tls, Transport},
};

use crate::world::{World, ingress, rule};

const REQUEST: &str = "GET api.example.com/v1";

/// An Ingress for `shop/web:80`, whose port has an `appProtocol`, with annotations: keys without
/// prefix, and values. Further objects may follow.
fn world(protocol: &str, annotations: &[(&str, &str)], more: &str) -> World {
    let annotations: Vec<_> = annotations
        .iter()
        .map(|(key, value)| format!("'whygate.dev/{key}': {}", serde_json::json!(value)))
        .collect();
    let metadata = format!("annotations: {{ {} }}", annotations.join(", "));
    let text = ingress(&metadata, &format!("rules: [{}]", rule("api.example.com", "/v1")));
    let port = format!("spec: {{ ports: [{{ port: 80, appProtocol: '{protocol}' }}] }}");
    World::of(&(text.replace("spec: { ports: [{ port: 80 }] }", &port) + more))
}

/// How the endpoints of an Ingress that nothing is wrong with are spoken to.
#[track_caller]
fn transport(world: &World) -> Transport {
    assert_eq!(world.findings(), [] as [&str; 0]);
    assert_eq!(world.ask(REQUEST), "shop/web:80");
    let host = Host::parse("api.example.com").expect("a host");
    let route = world.compiled.snapshot.routes.find(&host, "/v1").expect("a route");
    let Backend::Service(_, transport) = &*route.backend else { return Transport::default() };
    transport.clone()
}

fn plain(http: HttpVersion) -> Transport {
    Transport { http, tls: None }
}

fn by_machine(http: HttpVersion, name: &str) -> Transport {
    let tls = Tls { server_name: name.into(), roots: Roots::Machine };
    Transport { http, tls: Some(tls.into()) }
}

#[test]
fn the_port_says_how_and_the_annotation_goes_before_it() {
    use HttpVersion::{One, Two};
    for (port, annotation, expected) in [
        ("", None, plain(One)),
        ("example.com/own", None, plain(One)),
        ("kubernetes.io/h2c", None, plain(Two)),
        ("kubernetes.io/ws", None, plain(One)),
        ("kubernetes.io/wss", None, by_machine(One, "web.shop.svc")),
        ("https", None, by_machine(One, "web.shop.svc")),
        ("https", Some("http"), plain(One)),
        ("kubernetes.io/h2c", Some("http"), plain(One)),
        ("", Some("h2c"), plain(Two)),
        ("http", Some("h2"), by_machine(Two, "web.shop.svc")),
        ("", Some("https"), by_machine(One, "web.shop.svc")),
    ] {
        let annotations: Vec<_> =
            annotation.into_iter().map(|value| ("upstream-protocol", value)).collect();
        let found = transport(&world(port, &annotations, ""));
        assert_eq!(found, expected, "{port} {annotation:?}");
    }
}

#[test]
fn the_name_of_the_endpoints_may_be_another() {
    let wish = [("upstream-protocol", "https"), ("upstream-server-name", "Web.Internal")];
    let expected = by_machine(HttpVersion::One, "web.internal");
    assert_eq!(transport(&world("", &wish, "")), expected);
}

/// A certificate in PEM, of an authority or not.
fn certificate(is_authority: bool) -> String {
    let mut wanted = rcgen::CertificateParams::new(["ca.example.com".to_owned()]).expect("a name");
    if is_authority {
        wanted.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    }
    let key = rcgen::KeyPair::generate().expect("a key");
    wanted.self_signed(&key).expect("a certificate").pem()
}

/// A Secret `shop/authority`.
fn secret(labels: &str, key: &str, text: &str) -> String {
    let text = text.trim().replace('\n', "\n    ");
    format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{ name: authority, namespace: shop, labels: {{ {labels} }} }}\nstringData:\n  {key}: |\n    {text}\n---\n"
    )
}

const USED: &str = "whygate.dev/use: ca";
const TRUSTING: [(&str, &str); 2] =
    [("upstream-protocol", "https"), ("upstream-ca", "secret/authority")];

#[test]
fn the_authorities_of_a_secret_are_the_only_ones_that_count() {
    let both = certificate(true) + &certificate(true);
    let found = transport(&world("", &TRUSTING, &secret(USED, "ca.crt", &both)));
    let Some(Roots::Given(given)) = found.tls.as_deref().map(|tls| tls.roots.clone()) else {
        return assert!(found.tls.is_some(), "machine roots");
    };
    assert_eq!(given.certificates().count(), 2);
    let again = transport(&world("", &TRUSTING, &secret(USED, "ca.crt", &both)));
    assert_eq!(again, found, "equal ones share connections over compilations");
    let other = transport(&world("", &TRUSTING, &secret(USED, "ca.crt", &certificate(true))));
    assert_ne!(other, found);
}

/// The same as a `ConfigMap`.
fn config_map(labels: &str, key: &str, text: &str) -> String {
    secret(labels, key, text)
        .replace("kind: Secret", "kind: ConfigMap")
        .replace("stringData:", "data:")
}

#[test]
fn a_config_map_holds_authorities_as_a_secret_does() {
    let trusting = [("upstream-protocol", "https"), ("upstream-ca", "configmap/authority")];
    let authority = certificate(true);
    let found = transport(&world("", &trusting, &config_map(USED, "ca.crt", &authority)));
    let same = transport(&world("", &TRUSTING, &secret(USED, "ca.crt", &authority)));
    assert_eq!(found, same, "it counts what they are, not where they stand");
    for (map, problem) in [
        (secret(USED, "ca.crt", &authority), "it does not exist, or it has no label"),
        (config_map("", "ca.crt", &authority), "it does not exist, or it has no label"),
        (config_map(USED, "ca.pem", &authority), "it has no key `ca.crt`"),
        (config_map(USED, "ca.crt", &certificate(false)), "certificate 1 of `ca.crt` is not one"),
    ] {
        let world = world("", &trusting, &map);
        let expected = format!(
            "Ingress shop/api at metadata.annotations['whygate.dev/upstream-ca']: ConfigMap shop/authority: {problem}"
        );
        let found = world.findings();
        assert!(found.len() == 1 && found.iter().all(|it| it.starts_with(&expected)), "{found:#?}");
        assert_eq!(world.ask(REQUEST), "RouteInvalid", "{problem}");
    }
    let mut world = world("", &trusting, &config_map(USED, "ca.crt", &authority));
    let flag = "--config-map-namespaces";
    world.manifests.resources.config_maps.clear();
    world.manifests.resources.config_map_reach =
        NamespaceReach::Named { flag, namespaces: Vec::new() };
    world.compile_after(&Before::default());
    let unread = "ConfigMap shop/authority: ConfigMaps of namespace `shop` are not read, because `--config-map-namespaces` does not name it";
    let findings = world.findings();
    assert!(findings.iter().any(|it| it.ends_with(unread)), "{findings:#?}");
}

#[test]
fn authorities_that_are_none_close_the_route() {
    let authority = certificate(true);
    let mixed = authority.clone() + &certificate(false);
    let broken = authority.replace("MII", "!!!");
    for (secret, problem) in [
        (String::new(), "it does not exist"),
        (secret("", "ca.crt", &authority), "it does not exist, or it has no label"),
        (secret(USED, "tls.crt", &authority), "it has no key `ca.crt`"),
        (secret(USED, "ca.crt", "no certificate"), "`ca.crt` holds no certificate"),
        (secret(USED, "ca.crt", &certificate(false)), "certificate 1 of `ca.crt` is not one"),
        (secret(USED, "ca.crt", &mixed), "certificate 2 of `ca.crt` is not one"),
        (secret(USED, "ca.crt", &broken), "certificate 1 of `ca.crt` cannot be read"),
    ] {
        let world = world("", &TRUSTING, &secret);
        let expected = format!(
            "Ingress shop/api at metadata.annotations['whygate.dev/upstream-ca']: Secret shop/authority: {problem}"
        );
        let found = world.findings();
        assert!(found.len() == 1 && found.iter().all(|it| it.starts_with(&expected)), "{found:#?}");
        assert_eq!(world.ask(REQUEST), "RouteInvalid", "{problem}");
    }
}

#[test]
fn what_cannot_be_read_or_would_not_be_kept_closes_the_route() {
    let https = ("upstream-protocol", "https");
    for (annotations, key) in [
        (vec![("upstream-protocol", "HTTPS")], "upstream-protocol"),
        (vec![("upstream-protocol", "")], "upstream-protocol"),
        (vec![https, ("upstream-ca", "authority")], "upstream-ca"),
        (vec![https, ("upstream-ca", "secret/../x")], "upstream-ca"),
        (vec![https, ("upstream-ca", "configmap/")], "upstream-ca"),
        (vec![https, ("upstream-ca", "ConfigMap/x")], "upstream-ca"),
        (vec![https, ("upstream-server-name", "not a name")], "upstream-server-name"),
        (vec![https, ("upstream-server-name", "[::1]")], "upstream-server-name"),
        (vec![https, ("upstream-server-name", "10.0.0.1")], "upstream-server-name"),
        (vec![("upstream-ca", "secret/authority")], "upstream-ca"),
        (vec![("upstream-server-name", "web.internal")], "upstream-server-name"),
    ] {
        let world = world("", &annotations, "");
        let expected = format!("Ingress shop/api at metadata.annotations['whygate.dev/{key}']: ");
        let found = world.findings();
        assert!(found.len() == 1 && found.iter().all(|it| it.starts_with(&expected)), "{found:#?}");
        assert_eq!(world.ask(REQUEST), "RouteInvalid", "{annotations:?}");
    }
    let misspelt = world("", &[("upstream-tls-verify", "off")], "");
    assert_eq!(misspelt.ask(REQUEST), "PolicyUnenforceable", "there is no way around verifying");
}

#[test]
fn authorities_that_nobody_looks_for_are_not_called_missing() {
    let mut world = world("", &TRUSTING, "");
    let flag = "--secret-namespaces";
    world.manifests.resources.secret_reach = NamespaceReach::Named { flag, namespaces: Vec::new() };
    world.compile_after(&Before::default());
    let unread = "Secret shop/authority: Secrets of namespace `shop` are not read, because `--secret-namespaces` does not name it";
    let findings = world.findings();
    assert!(findings.iter().any(|it| it.ends_with(unread)), "{findings:#?}");
    assert_eq!(world.ask(REQUEST), "RouteInvalid");
}

#[test]
fn a_protocol_that_is_called_otherwise_elsewhere_is_told_by_its_name_here() {
    for (elsewhere, here) in [("GRPC", "`h2c`"), ("GRPCS", "`h2`"), ("HTTPS", "`https`")] {
        let world = world("", &[("upstream-protocol", elsewhere)], "");
        let remedy = &world.compiled.findings.first().expect("a finding").remedy;
        assert!(remedy.starts_with(&format!("Write {here}")), "{elsewhere}: {remedy}");
    }
}
