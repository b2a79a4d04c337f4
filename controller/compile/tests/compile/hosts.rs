//! Hosts belong to namespaces.

use compile::Settings;
use decision::host::HostPattern;

use crate::world::{SERVICES, World, aged, check, check_findings, check_with, rule, settings};

fn text(ingresses: &[String]) -> String {
    format!("{SERVICES}{}", ingresses.concat())
}

#[test]
fn a_host_belongs_to_the_namespace_of_its_oldest_ingress() {
    let text = text(&[
        aged("other/young", 2, "", &[rule("a.example.com", "/x")]),
        aged("shop/old", 1, "", &[rule("a.example.com", "/")]),
    ]);
    check(&text, &[("GET a.example.com/x", "shop/web:80")]);
    check_findings(
        &text,
        &[
            "Ingress other/young at spec.rules[0].host: host `a.example.com` belongs to namespace `shop`",
        ],
    );
}

#[test]
fn the_owner_may_share_its_host() {
    let share = "whygate.dev/share-host-with: other";
    let text = text(&[
        aged("other/young", 2, "", &[rule("a.example.com", "/x")]),
        aged("shop/old", 1, share, &[rule("a.example.com", "/")]),
    ]);
    check(
        &text,
        &[("GET a.example.com/x", "other/web:80"), ("GET a.example.com/y", "shop/web:80")],
    );
    check_findings(&text, &[]);
}

#[test]
fn nobody_but_the_owner_can_share_a_host() {
    let share = "whygate.dev/share-host-with: other";
    let text = text(&[
        aged("other/young", 2, share, &[rule("a.example.com", "/x")]),
        aged("shop/old", 1, "", &[rule("a.example.com", "/")]),
    ]);
    check(&text, &[("GET a.example.com/x", "shop/web:80")]);
}

#[test]
fn a_younger_name_below_a_wildcard_belongs_to_the_owner_of_the_wildcard() {
    let text = text(&[
        aged("other/young", 2, "", &[rule("a.example.com", "/")]),
        aged("shop/old", 1, "", &[rule("*.example.com", "/")]),
    ]);
    check(&text, &[("GET a.example.com/", "shop/web:80")]);
}

#[test]
fn an_older_name_stays_where_it_is_and_the_wildcard_never_serves_it() {
    let text = text(&[
        aged("shop/old", 1, "", &[rule("a.example.com", "/only")]),
        aged("other/young", 2, "", &[rule("*.example.com", "/")]),
    ]);
    check(
        &text,
        &[
            ("GET a.example.com/only", "shop/web:80"),
            ("GET a.example.com/else", "404"),
            ("GET b.example.com/else", "other/web:80"),
        ],
    );
}

#[test]
fn a_default_backend_never_serves_the_host_of_another_namespace() {
    let default = aged("other/all", 2, "", &[])
        .replace("rules: []", "defaultBackend: { service: { name: web, port: { number: 80 } } }");
    let text = text(&[aged("shop/old", 1, "", &[rule("a.example.com", "/only")]), default]);
    check(&text, &[("GET a.example.com/else", "404"), ("GET b.example.com/", "other/web:80")]);
}

#[test]
fn the_settings_can_assign_a_host() {
    let assigned = |host: &str| {
        let host = HostPattern::parse(host).expect("a host");
        Settings { host_namespaces: vec![(host, "other".to_owned())], ..settings() }
    };
    let text = text(&[
        aged("other/young", 2, "", &[rule("a.example.com", "/")]),
        aged("shop/old", 1, "", &[rule("a.example.com", "/")]),
    ]);
    for host in ["a.example.com", "*.example.com"] {
        check_with(&text, &assigned(host), &[("GET a.example.com/", "other/web:80")]);
    }
}

#[test]
fn the_oldest_ingress_keeps_an_equal_host_and_path() {
    let old = aged("shop/old", 1, "", &[rule("a.example.com", "/v1")]);
    let young = aged("shop/a", 2, "whygate.dev/unknown: x", &[rule("a.example.com", "/v1/")]);
    let text = text(&[young, old]);
    check(&text, &[("GET a.example.com/v1", "shop/web:80")]);
    check_findings(
        &text,
        &[
            "Ingress shop/a at metadata.annotations['whygate.dev/unknown']: ",
            "Ingress shop/a at spec.rules[0].http.paths[0].path: Ingress shop/old has `a.example.com` with path `/v1/` already",
        ],
    );
}

/// An Ingress of namespace other with rules for `evil.test` and entries of `spec.tls`.
fn with_tls(created: u8, hosts: &str) -> String {
    let ingress = aged("other/web", created, "", &[rule("evil.test", "/")]);
    ingress
        .replace("rules: [", &format!("tls: [{{ hosts: [{hosts}], secretName: tls }}], rules: ["))
}

#[test]
fn a_handshake_for_a_name_without_rules_is_for_the_owner_of_its_certificate() {
    let default = "spec: { defaultBackend: { service: { name: web, port: { number: 80 } } }, ";
    for all in [
        aged("shop/all", 1, "", &[]),
        aged("shop/all", 1, "", &[rule("", "/all")]),
        aged("shop/all", 1, "", &[]).replace("spec: { ", default),
        aged("shop/all", 3, "", &[rule("*.evil.test", "/")]),
    ] {
        let shop = aged("shop/web", 1, "", &[rule("a.example.com", "/")]);
        let text = text(&[shop, with_tls(2, "own.evil.test, '*.more.test'"), all]);
        let world = World::of(&text);
        let ask = |sni, request| world.ask_on(Some(sni), request);
        for sni in ["own.evil.test", "any.more.test", "evil.test"] {
            assert_eq!(ask(sni, "GET a.example.com/"), "MisdirectedRequest", "{sni}");
            assert_eq!(ask(sni, "GET evil.test/"), "other/web:80", "{sni}");
        }
        assert_eq!(ask("a.example.com", "GET own.evil.test/"), "MisdirectedRequest");
        assert_eq!(ask("a.example.com", "GET a.example.com/"), "shop/web:80");
    }
}

#[test]
fn a_name_without_rules_hides_nothing_that_serves_it() {
    let wildcard = aged("other/wide", 1, "", &[rule("*.evil.test", "/")]);
    let everything = aged("other/wide", 1, "", &[rule("", "/")]);
    let default = aged("other/wide", 1, "", &[])
        .replace("rules: []", "defaultBackend: { service: { name: web, port: { number: 80 } } }");
    for wide in [wildcard, everything, default] {
        let world = World::of(&text(&[with_tls(2, "own.evil.test"), wide]));
        let ask = |sni| world.ask_on(sni, "GET own.evil.test/");
        assert_eq!(ask(Some("own.evil.test")), "other/web:80");
        assert_eq!(ask(Some("evil.test")), "other/web:80");
        assert_eq!(ask(None), "other/web:80");
    }
}

#[test]
fn a_default_backend_is_not_the_owner_of_names_that_nobody_has() {
    let default = aged("other/all", 2, "", &[])
        .replace("rules: []", "defaultBackend: { service: { name: web, port: { number: 80 } } }");
    let world =
        World::of(&text(&[aged("shop/old", 1, "", &[rule("a.example.com", "/")]), default]));
    assert_eq!(world.ask_on(Some("nobody.test"), "GET a.example.com/"), "shop/web:80");
}
