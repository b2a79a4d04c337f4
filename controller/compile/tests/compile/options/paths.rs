//! Other paths for upstreams, and other places for clients.

use super::{REQUEST, annotated, check_closed};

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
