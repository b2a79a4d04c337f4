//! Other paths for upstreams, and other places for clients.

use super::{REQUEST, annotated, check_closed, check_warned};

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
        ("", "does not begin with a slash"),
        ("v2", "`v2` does not begin with a slash"),
        ("/v2/", "ends in a slash"),
        ("/a/../b", "is not a path as requests are compared with"),
        ("//v2", "is not a path as requests are compared with"),
        ("/a%2fb", "is not a path: encoded-slash"),
        ("/a?b", "is not a path: path-character"),
        ("/a b", "is not a path: path-character"),
        ("/a;b", "has parameters"),
        ("https://evil.test/", "does not begin with a slash"),
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
fn a_pattern_that_refuses_what_lies_below_its_own_rule_is_told_and_closes_nothing() {
    let annotations = [("rewrite-regex", "/v1(.*)"), ("rewrite-to", "/x/$1")];
    let message = "it makes `/x//a` of `/v1/a`, which could be read in two ways and is refused";
    check_warned(&annotations, "rewrite-regex", message);
    let world = annotated(&annotations);
    assert_eq!(world.upstream_target("GET api.example.com/v1"), "/x/");
    assert_eq!(world.upstream_target("GET api.example.com/v1/b"), "Ambiguous");
}

#[test]
fn what_other_servers_fill_in_is_told_because_it_is_sent_as_it_is() {
    let message = |variable| format!("`{variable}` in it is not filled in, but sent as it is");
    let told = |annotation, variable| {
        check_warned(&[annotation], annotation.0, &message(variable));
    };
    told(("redirect", "https://www.example.com/$1"), "$1");
    told(("redirect", "https://www.example.com/x$request_uri"), "$request_uri");
    told(("request-headers-set", "x-host: $host\nx-b: $c"), "$host");
    told(("response-headers-add", "x-host: ${host}"), "${host}");
    let fine = [("response-headers-set", "x-price: 5$"), ("redirect", "https://a.test/$$")];
    assert_eq!(annotated(&fine).findings(), [] as [&str; 0]);
}

#[test]
fn another_host_for_clients_is_a_host_and_keeps_what_asks_for_it() {
    let world = annotated(&[("redirect-host", "WWW.example.com")]);
    assert_eq!(world.findings(), [] as [&str; 0]);
    assert_eq!(world.ask(REQUEST), "302");
    let world = annotated(&[("redirect-host", "a.test"), ("redirect-status", "308")]);
    assert_eq!(world.ask(REQUEST), "308");
    let own = [("redirect-host", "api.example.com"), ("rewrite-prefix", "/v2")];
    assert_eq!(upstream_target(&own, "GET api.example.com/v1/a?b"), "/v2/a?b");
    for value in ["", "https://a.test", "a.test:80", "a.test/b", "*.a.test", "$host"] {
        check_closed(&[("redirect-host", value)], "redirect-host", "is not a host");
    }
    let both = [("redirect", "https://a.test/"), ("redirect-host", "a.test")];
    check_closed(&both, "redirect-host", "cannot stand beside `whygate.dev/redirect`");
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
