//! Route options: what annotations come to, and what is wrong with them.

use std::{sync::Arc, time::Duration};

use decision::{
    host::Host,
    options::{Options, Timeouts},
};

use crate::world::{World, ingress, policy, rule};

/// An Ingress of `api.example.com` with annotations: keys without prefix, and values.
fn annotated(annotations: &[(&str, &str)]) -> World {
    let annotations: Vec<_> = annotations
        .iter()
        .map(|(key, value)| format!("'whygate.dev/{key}': {}", quoted(value)))
        .collect();
    let metadata = format!("annotations: {{ {} }}", annotations.join(", "));
    let rules = format!("rules: [{}]", rule("api.example.com", "/v1"));
    World::of(&ingress(&metadata, &rules))
}

/// A text as YAML and JSON write it, every odd character escaped.
fn quoted(text: &str) -> String {
    let escaped = |character: char| match character {
        ' '..='~' => character.to_string(),
        other => format!("\\u{:04x}", u32::from(other)),
    };
    format!(
        "\"{}\"",
        text.replace('\\', "\\\\").replace('"', "\\\"").chars().map(escaped).collect::<String>()
    )
}

const REQUEST: &str = "GET api.example.com/v1";

/// The options of an Ingress that nothing is wrong with.
#[track_caller]
fn options(annotations: &[(&str, &str)]) -> Arc<Options> {
    let world = annotated(annotations);
    assert_eq!(world.findings(), [] as [&str; 0]);
    assert_eq!(world.ask(REQUEST), "shop/web:80");
    let host = Host::parse("api.example.com").expect("a host");
    let route = world.compiled.snapshot.routes.find(&host, "/v1").expect("a route");
    route.options.clone().expect("options")
}

/// An annotation that closes its Ingress: the finding names it, says `problem` and what to do.
#[track_caller]
fn check_closed(annotations: &[(&str, &str)], key: &str, problem: &str) {
    let world = annotated(annotations);
    let place = format!("Ingress shop/api at metadata.annotations['whygate.dev/{key}']: ");
    let found = world.findings();
    assert_eq!(found.len(), 1, "{annotations:?}: {found:#?}");
    let found = found.first().expect("a finding");
    let told = found.strip_prefix(&place).unwrap_or_default();
    assert!(told.contains(problem), "{annotations:?}: {found}");
    assert_eq!(world.ask(REQUEST), "RouteInvalid", "{annotations:?}");
    let remedy = &world.compiled.findings.first().expect("a finding").remedy;
    assert!(remedy.ends_with('.') && remedy.len() > 10, "{remedy}");
}

#[test]
fn an_ingress_without_options_has_none() {
    let world = annotated(&[("ssl-redirect", "false")]);
    let host = Host::parse("api.example.com").expect("a host");
    let route = world.compiled.snapshot.routes.find(&host, "/v1").expect("a route");
    assert!(route.options.is_none());
}

#[test]
fn time_outs_are_durations_within_bounds() {
    let read = options(&[
        ("connect-timeout", "500ms"),
        ("first-byte-timeout", "1m30s"),
        ("idle-timeout", " 24h "),
    ]);
    let expected = Timeouts {
        connect: Some(Duration::from_millis(500)),
        first_byte: Some(Duration::from_secs(90)),
        idle: Some(Duration::from_hours(24)),
    };
    assert_eq!(read.timeouts, expected);
    for (key, value, problem) in [
        ("connect-timeout", "5", "`5` is not a duration"),
        ("connect-timeout", "", "`` is not a duration"),
        ("connect-timeout", "6m", "`6m` is out of range"),
        ("first-byte-timeout", "0s", "`0s` is out of range"),
        ("first-byte-timeout", "61m", "`61m` is out of range"),
        ("idle-timeout", "999ms", "`999ms` is out of range"),
        ("idle-timeout", "1d", "`1d` is not a duration"),
    ] {
        check_closed(&[(key, value)], key, problem);
    }
}

#[test]
fn a_limit_of_bodies_that_cannot_be_read_closes_and_never_means_no_limit() {
    let read = options(&[("body-limit", "10Mi")]);
    let limit = read.body_limit.as_ref().expect("a limit");
    assert_eq!(limit.bytes, 10 * 1024 * 1024);
    let field = "Ingress shop/api at metadata.annotations['whygate.dev/body-limit']";
    assert_eq!(limit.field.to_string(), field);
    for value in ["", "0", "10m", "10M", "-1", "1.5Mi", "unlimited", "18446744073709551616"] {
        check_closed(&[("body-limit", value)], "body-limit", "is not a number of bytes");
    }
}

#[test]
fn a_misspelt_option_closes_its_ingress_and_names_the_one_that_was_meant() {
    let world = annotated(&[("body-limits", "1Mi")]);
    assert_eq!(world.ask(REQUEST), "PolicyUnenforceable");
    let remedy = world.remedy(REQUEST);
    assert_eq!(remedy, "Write `whygate.dev/body-limit`, or remove it.");
}

#[test]
fn header_fields_are_read_a_line_each() {
    let read = options(&[
        ("request-headers-set", "x-team: shop\n\n  X-Path:  C:\\a: b  \n"),
        ("request-headers-add", "x-empty:"),
        ("request-headers-remove", "authorization, X-Debug\nx-more"),
        ("response-headers-set", "x-frame-options: DENY"),
        ("response-headers-remove", "server,strict-transport-security"),
    ]);
    let fields = |fields: &[(http::HeaderName, http::HeaderValue)]| -> Vec<String> {
        let text = |value: &http::HeaderValue| value.to_str().expect("text").to_owned();
        fields.iter().map(|(name, value)| format!("{name}={}", text(value))).collect()
    };
    assert_eq!(fields(read.request_headers.set()), ["x-team=shop", "x-path=C:\\a: b"]);
    assert_eq!(fields(read.request_headers.add()), ["x-empty="]);
    assert_eq!(read.request_headers.remove(), ["authorization", "x-debug", "x-more"]);
    assert_eq!(fields(read.response_headers.set()), ["x-frame-options=DENY"]);
    assert_eq!(read.response_headers.remove(), ["server", "strict-transport-security"]);
}

#[test]
fn names_that_frame_or_that_are_ours_close_their_ingress() {
    let names = [
        "host",
        "Content-Length",
        "transfer-encoding",
        "connection",
        "te",
        "upgrade",
        "trailer",
        "proxy-authorization",
        "whygate-request-id",
        "keep-alive",
    ];
    for name in names {
        for key in ["request-headers-set", "request-headers-add", "response-headers-add"] {
            check_closed(&[(key, &format!("{name}: x"))], key, "frames the message");
        }
        for key in ["request-headers-remove", "response-headers-remove"] {
            check_closed(&[(key, name)], key, "frames the message");
        }
    }
    for name in
        ["x-forwarded-for", "X-Forwarded-Anything", "forwarded", "x-real-ip", "via", "x-request-id"]
    {
        check_closed(
            &[("request-headers-set", &format!("{name}: x"))],
            "request-headers-set",
            "frames",
        );
        check_closed(&[("request-headers-remove", name)], "request-headers-remove", "frames");
    }
    for name in ["authorization", "Cookie", "x-api-key", "x-http-method-override", "x-original-url"]
    {
        let key = "request-headers-add";
        check_closed(&[(key, &format!("{name}: x"))], key, "stands for what was judged");
    }
    for name in ["strict-transport-security", "access-control-allow-origin"] {
        let key = "response-headers-set";
        check_closed(&[(key, &format!("{name}: x"))], key, "annotations of its own");
    }
}

#[test]
fn no_value_of_a_header_field_ends_its_line_or_hides_something() {
    let key = "request-headers-set";
    for value in ["x: a\rb", "x: a\u{0}b", "x: \u{7f}", "x: é", "x: a\tb", "x: a\u{2028}y: b"] {
        check_closed(&[(key, value)], key, "other characters than printable ASCII");
    }
    check_closed(&[(key, &format!("x: {}", "a".repeat(4_097)))], key, "or too many");
    for value in ["", "\n", "x", "= a"] {
        let problem =
            if value.trim().is_empty() { "names no header" } else { "is not a header field" };
        check_closed(&[(key, value)], key, problem);
    }
    for value in ["x_team: a", "x team: a", ": a", "x\u{e9}: a", "x-a\r: b"] {
        check_closed(&[(key, value)], key, "is not the name of a header field");
    }
    let many = (0..33).map(|number| format!("x-{number}: a")).collect::<Vec<_>>().join("\n");
    check_closed(&[(key, &many)], key, "it has 33 header fields");
}

#[test]
fn hsts_has_an_age_and_each_directive_once() {
    let value = |text| {
        let read = options(&[("hsts", text)]);
        read.hsts.as_ref().and_then(|value| value.to_str().ok()).map(str::to_owned)
    };
    for (text, expected) in [
        ("max-age=0", "max-age=0"),
        (
            "preload;INCLUDESUBDOMAINS ; Max-Age=63072000",
            "max-age=63072000; includeSubDomains; preload",
        ),
    ] {
        assert_eq!(value(text).as_deref(), Some(expected));
    }
    for text in [
        "",
        "true",
        "includeSubDomains",
        "max-age",
        "max-age=",
        "max-age=-1",
        "max-age=+1",
        "max-age=1;",
        "max-age=1; max-age=2",
        "max-age=1, preload",
        "max-age=\"1\"",
        "max-age=1\r\nx: y",
        "max-age=99999999999",
    ] {
        check_closed(&[("hsts", text)], "hsts", "is not a value of HSTS");
    }
}

/// The target that the upstream of an Ingress gets, or how the request ends.
fn upstream_target(annotations: &[(&str, &str)], request: &str) -> String {
    let world = annotated(annotations);
    assert_eq!(world.findings(), [] as [&str; 0]);
    world.upstream_target(request)
}

#[test]
fn a_prefix_takes_the_place_of_the_path_of_its_rule() {
    let to = |prefix, request| upstream_target(&[("rewrite-prefix", prefix)], request);
    assert_eq!(to("/v2", "GET api.example.com/v1/a?x=/v1"), "/v2/a?x=/v1");
    assert_eq!(to("/", "GET api.example.com/v1"), "/");
    assert_eq!(to("/a/%40b", "GET api.example.com/%76%31/c"), "/a/@b/c");
    for (value, problem) in [
        ("", "is not a path: path-not-absolute"),
        ("v2", "is not a path: path-not-absolute"),
        ("/v2/", "ends in a slash"),
        ("/a/../b", "is not a path as requests are compared with"),
        ("//v2", "is not a path as requests are compared with"),
        ("/a%2fb", "is not a path: encoded-slash"),
        ("/a?b", "is not a path: path-character"),
        ("/a b", "is not a path: path-character"),
        ("/a;b", "has parameters"),
        ("https://evil.test/", "is not a path: path-not-absolute"),
    ] {
        check_closed(&[("rewrite-prefix", value)], "rewrite-prefix", problem);
    }
}

#[test]
fn a_pattern_stands_for_the_whole_path_and_what_does_not_match_goes_nowhere() {
    let of = |regex, to, request| {
        upstream_target(&[("rewrite-regex", regex), ("rewrite-to", to)], request)
    };
    assert_eq!(of(r"/v1/(\w+)/(.*)", "/$2/$1", "GET api.example.com/v1/a/b/c?q"), "/b/c/a?q");
    assert_eq!(of("/v1/(a)", "/$1", "GET api.example.com/v1/b"), "NoMatch");
    assert_eq!(of("/v1(.*)", "/x/$1", "GET api.example.com/v1/../v1/b"), "Ambiguous");
    let to = ("rewrite-to", "/");
    for (value, problem) in [
        ("(", "is not a regular expression: unclosed group"),
        ("a)(b", "is not a regular expression: "),
        ("(?=x)", "look-around"),
        ("(a{1000}){1000}", "bytes of memory"),
    ] {
        check_closed(&[("rewrite-regex", value), to], "rewrite-regex", problem);
    }
    for (value, problem) in [
        ("/$2", "`$2` is none of the 1 groups"),
        ("$1", "is not a path to rewrite to"),
        ("/a?$1", "is not a path to rewrite to"),
        ("https://evil.test/$1", "is not a path to rewrite to"),
        ("/../$1", "is not a path to rewrite to"),
        ("/a\r\nx: $1", "is not a path to rewrite to"),
    ] {
        check_closed(
            &[("rewrite-regex", "/v1/(.*)"), ("rewrite-to", value)],
            "rewrite-to",
            problem,
        );
    }
}

#[test]
fn options_that_need_or_exclude_each_other_say_so() {
    check_closed(&[("rewrite-to", "/")], "rewrite-to", "without `whygate.dev/rewrite-regex`");
    check_closed(&[("rewrite-regex", "/")], "rewrite-regex", "without `whygate.dev/rewrite-to`");
    let both = [("rewrite-prefix", "/"), ("rewrite-regex", "/"), ("rewrite-to", "/")];
    check_closed(&both, "rewrite-prefix", "cannot stand beside `whygate.dev/rewrite-regex`");
}

#[test]
fn a_redirect_goes_to_a_whole_url_of_the_manifest() {
    let read = |annotations: &[(&str, &str)]| {
        let world = annotated(annotations);
        assert_eq!(world.findings(), [] as [&str; 0]);
        world.ask(REQUEST)
    };
    let to = ("redirect", "https://www.example.com/new?a=b");
    assert_eq!(read(&[to]), "302");
    for status in ["301", "302", "307", "308"] {
        assert_eq!(read(&[to, ("redirect-status", status)]), status);
    }
    for value in ["", "200", "303", "300", "moved", "0302"] {
        let both = [to, ("redirect-status", value)];
        check_closed(&both, "redirect-status", "is not a status of a redirect");
    }
    for value in [
        "",
        "/new",
        "//evil.test",
        "www.example.com",
        "https:/evil.test",
        "https://",
        "https:///x",
        "https://a@evil.test/",
        "https://a:b@evil.test/",
        "https://evil.test\\@example.com/",
        "https://example.com/#x",
        "https://example.com/a b",
        "https://exämple.com/",
        "https://example.com/\r\nset-cookie: a=b",
        "javascript:alert(1)",
        "data:text/html,x",
        "ftp://example.com/",
        "HTTPS://example.com/",
        "https://example.com:99999/",
        "https://$host/$uri/{x}",
    ] {
        check_closed(&[("redirect", value)], "redirect", "is not a URL to redirect to");
    }
    check_closed(
        &[("redirect-status", "302")],
        "redirect-status",
        "without `whygate.dev/redirect`",
    );
    let both = [to, ("rewrite-prefix", "/")];
    check_closed(&both, "rewrite-prefix", "cannot stand beside `whygate.dev/redirect`");
}

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
