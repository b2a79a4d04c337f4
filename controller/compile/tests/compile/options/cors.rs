//! Pages of other origins.

use super::{check_closed, options};
use crate::world::{World, ingress, policy, rule};

#[test]
fn origins_are_listed_as_browsers_write_them() {
    let read = options(&[
        ("cors-origins", "https://app.example.com,\n https://*.shop.test, http://localhost:3000"),
        ("cors-methods", "GET, DELETE"),
        ("cors-headers", "Content-Type, x-team"),
        ("cors-expose-headers", "x-total"),
        ("cors-credentials", "true"),
        ("cors-max-age", "10m"),
    ]);
    let cors = read.cors.as_ref().expect("cors");
    assert_eq!((cors.methods.to_str().ok(), cors.credentials), (Some("GET, DELETE"), true));
    let told = [&cors.headers, &cors.max_age].map(|value| value.as_ref().expect("a value"));
    assert_eq!(told, ["content-type, x-team", "600"]);
    assert_eq!(cors.expose, "x-total, whygate-denial-code, whygate-request-id");
    for (origin, allowed) in [
        ("https://app.example.com", true),
        ("https://a.shop.test", true),
        ("http://localhost:3000", true),
        ("http://localhost", false),
        ("null", false),
    ] {
        let headers = std::iter::once((http::header::ORIGIN, origin.parse().expect("a value")));
        assert_eq!(cors.allowed(&headers.collect()).is_some(), allowed, "{origin}");
    }
    let least = options(&[("cors-origins", "*")]);
    let least = least.cors.as_ref().expect("cors");
    assert_eq!((least.methods.to_str().ok(), &least.headers), (Some("GET, HEAD, POST"), &None));
    assert!(!least.credentials && least.max_age.is_none());
}

#[test]
fn what_would_share_with_everybody_by_mistake_closes_its_ingress() {
    for origin in [
        "null",
        "app.example.com",
        "https://",
        "https://app.example.com/",
        "https://*",
        "https://*.",
        "https://*.*.shop.test",
        "https://a.*.shop.test",
        "https://shop*.test",
        "HTTPS://a.test",
        "https://A.test",
        "https://a.test:443",
        "http://a.test:80",
        "https://a.test:0080",
        "https://a.test.",
        "https://user@a.test",
        "https://a.test?x",
        "ftp://a.test",
        "//a.test",
        "https://a.test https://b.test",
        ".example.com",
        "https://é.test",
    ] {
        check_closed(&[("cors-origins", origin)], "cors-origins", "is not an origin");
    }
    let page = ("cors-origins", "https://a.test");
    check_closed(&[("cors-origins", "*, https://a.test")], "cors-origins", "beside other entries");
    check_closed(&[("cors-origins", " ,\n")], "cors-origins", "lists nothing");
    let credentials = ("cors-credentials", "true");
    check_closed(&[("cors-origins", "*"), credentials], "cors-origins", "`*` cannot stand beside");
    for key in ["cors-methods", "cors-headers", "cors-expose-headers"] {
        check_closed(&[page, credentials, (key, "*")], key, "`*` cannot stand beside");
        check_closed(&[(key, "GET")], key, "without `whygate.dev/cors-origins`");
    }
    for (key, value, problem) in [
        ("cors-credentials", "yes", "is not a value of"),
        ("cors-max-age", "25h", "is out of range"),
        ("cors-max-age", "600", "is not a duration"),
        ("cors-methods", "get", "is not a method"),
        ("cors-methods", "TRACE", "is not a method"),
        ("cors-headers", "x team", "is not the name of a header field"),
        ("cors-headers", "x: y", "is not the name of a header field"),
    ] {
        check_closed(&[page, (key, value)], key, problem);
    }
}

#[test]
fn a_preflight_passes_where_only_a_credential_or_a_method_is_missing() {
    let annotated = "annotations: { whygate.dev/cors-origins: 'https://a.test' }";
    let text = ingress(annotated, &format!("rules: [{}]", rule("api.example.com", "/")));
    let preflight = |from: &str, origin: &str| {
        format!("OPTIONS api.example.com/ {from} origin={origin} access-control-request-method=PUT")
    };
    let deny = "[{ name: bad, ip: { cidrs: [192.0.2.7/32] } }, { name: put, methods: [PUT] }]";
    let office = "{ name: office, ip: { cidrs: [192.0.2.0/24] } }";
    let token = "{ name: token, anyOf: [{ methods: [HEAD] }, { jwt: { provider: id } }] }";
    let provider = "[{ name: id, issuer: 'https://id.test', anyAudience: true, jwks: { inline: '{\"keys\": [{\"kty\": \"OKP\", \"crv\": \"Ed25519\", \"x\": \"8pa69451j6ET3HLoghl4_PEMMiufagBp4ZRtRccB6-U\"}]}' } }]";
    let rules = format!(
        "  deny: {deny}\n  require: [{office}, {{ name: reads, methods: [GET] }}, {token}]\n  jwtProviders: {provider}"
    );
    let world = World::of(&format!("{text}{}", policy("office", &rules)));
    for (from, origin, expected) in [
        ("192.0.2.1", "https://a.test", "204"),
        ("192.0.2.1", "https://b.test", "OriginNotAllowed"),
        ("192.0.2.1", "null", "OriginNotAllowed"),
        ("192.0.2.7", "https://a.test", "AddressDenied"),
        ("203.0.113.9", "https://a.test", "AddressNotAllowed"),
        ("203.0.113.9", "https://b.test", "AddressNotAllowed"),
    ] {
        let found = world.ask(&preflight(from, origin));
        assert_eq!(found, expected, "{from} {origin} {:?}", world.findings());
    }
    let options = "OPTIONS api.example.com/ 192.0.2.1 origin=https://a.test";
    assert_eq!(world.ask(options), "MethodRefused", "no preflight");
    let closed = World::of(&format!("{text}{}", policy("office", "  requires: []")));
    assert_eq!(closed.ask(&preflight("192.0.2.1", "https://a.test")), "PolicyInvalid");
}
