//! Route options: what annotations come to, and what is wrong with them.

mod cors;
mod headers;
mod paths;

use std::{sync::Arc, time::Duration};

use decision::{
    host::Host,
    options::{Options, Timeouts},
};

use crate::world::{SERVICES, World, ingress, rule};

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

/// An annotation that closes nothing and is told with `message`.
#[track_caller]
fn check_warned(annotations: &[(&str, &str)], key: &str, message: &str) {
    let world = annotated(annotations);
    let place = format!("Ingress shop/api at metadata.annotations['whygate.dev/{key}']: ");
    assert_eq!(world.findings(), [place + message], "{annotations:?}");
    let effects: Vec<_> = world.compiled.findings.iter().map(|finding| finding.effect).collect();
    assert_eq!(effects, [compile::finding::Effect::Warns]);
    assert_ne!(world.ask(REQUEST), "RouteInvalid", "{annotations:?}");
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
    let world = annotated(&[("rewrite-target", "/$1")]);
    assert_eq!(world.ask(REQUEST), "PolicyUnenforceable");
    assert!(world.remedy(REQUEST).contains("`whygate.dev/rewrite-to`"));
    let world = annotated(&[("proxy-buffering", "off")]);
    assert_eq!(world.ask(REQUEST), "PolicyUnenforceable");
    assert!(world.remedy(REQUEST).starts_with("Remove `whygate.dev/proxy-buffering`. "));
}

#[test]
fn options_that_need_or_exclude_each_other_say_so() {
    check_closed(&[("rewrite-to", "/")], "rewrite-to", "without `whygate.dev/rewrite-regex`");
    check_closed(&[("rewrite-regex", "/")], "rewrite-regex", "without `whygate.dev/rewrite-to`");
    let both = [("rewrite-prefix", "/"), ("rewrite-regex", "/"), ("rewrite-to", "/")];
    check_closed(&both, "rewrite-prefix", "cannot stand beside `whygate.dev/rewrite-regex`");
}

#[test]
fn a_finding_does_not_repeat_a_whole_value() {
    let world = annotated(&[("rewrite-prefix", &"x".repeat(100_000))]);
    let told = world.findings().concat();
    assert!(told.len() < 500 && told.contains('\u{2026}'), "{} bytes", told.len());
}

#[test]
fn the_example_of_the_page_is_read_as_it_stands() {
    let page = include_str!("../../../docs/options.md");
    let (_, rest) = page.split_once("```yaml\nmetadata:\n").expect("an example");
    let (example, _) = rest.split_once("```").expect("its end");
    let rules = format!("spec: {{ ingressClassName: whygate, rules: [{}] }}", rule("a.test", "/"));
    let head = "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata:\n  name: api\n  namespace: shop\n";
    let world = World::of(&format!("{SERVICES}{head}{example}{rules}\n"));
    assert_eq!(world.findings(), [] as [&str; 0]);
    assert_eq!(world.ask("GET a.test/"), "shop/web:80");
    let host = Host::parse("a.test").expect("a host");
    let route = world.compiled.snapshot.routes.find(&host, "/").expect("a route");
    let read = route.options.as_ref().expect("options");
    assert_eq!((read.request_headers.set().len(), read.response_headers.remove().len()), (2, 2));
}

#[test]
fn answers_are_compressed_only_if_their_ingress_says_so() {
    use decision::options::compression::Coding;
    assert_eq!(options(&[("hsts", "max-age=1")]).compress, None);
    assert_eq!(options(&[("compress", " gzip ")]).compress, Some(Coding::Gzip));
    for text in ["", "true", "on", "GZIP", "br", "zstd", "gzip, br", "gzip;q=1"] {
        check_closed(&[("compress", text)], "compress", "nothing that answers can be compressed");
    }
}

#[test]
fn affinity_is_by_cookie_by_address_or_by_a_header() {
    use decision::options::Affinity;
    let header = http::HeaderName::from_static("x-user");
    for (text, expected) in [
        ("cookie", Affinity::Cookie),
        ("address", Affinity::Address),
        ("header:X-User", Affinity::Header(header)),
    ] {
        assert_eq!(options(&[("affinity", text)]).affinity, Some(expected), "{text}");
    }
    for text in ["", "Cookie", "header:", "header:a b", "header", "ip"] {
        check_closed(&[("affinity", text)], "affinity", "is nothing to tell clients by");
    }
}

#[test]
fn another_host_for_upstreams_is_a_host_and_nothing_more() {
    let host = options(&[("upstream-host", "API.partner.example.")]).upstream_host.clone();
    assert_eq!(host.as_ref().map(Host::as_str), Some("api.partner.example"));
    for text in ["", "a b", "a.example:80", "https://a.example", "*.a.example", "a\r\nx: y"] {
        let world = annotated(&[("upstream-host", text)]);
        let findings = world.findings();
        let field = "Ingress shop/api at metadata.annotations['whygate.dev/upstream-host']: ";
        assert!(findings.iter().any(|it| it.starts_with(field)), "{text}: {findings:#?}");
        assert_eq!(world.ask(REQUEST), "RouteInvalid", "{text}");
    }
}
