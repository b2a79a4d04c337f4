//! Paths that upstreams get in the place of those that were judged.

use std::sync::Arc;

use decision::{
    options::{
        Options,
        rewrite::{Pattern, Rewrite, Rule, Template},
    },
    policy::Enforcement,
    refs::{FieldRef, Kind, ResourceRef},
};

use crate::support::{Plan, Proxy, Upstream, require};

fn rewriting(rule: Rule) -> Options {
    let ingress = ResourceRef::new(Kind::Ingress, "shop", "web");
    let field = FieldRef::new(ingress, "metadata.annotations['whygate.dev/rewrite-regex']");
    Options { rewrite: Some(Rewrite { field, rule }), ..Options::default() }
}

fn pattern(pattern: &str, to: &str) -> Options {
    let pattern = Pattern::parse(pattern).unwrap();
    let template = Template::parse(to, pattern.groups()).unwrap();
    rewriting(Rule::Pattern(pattern, template))
}

fn proxy(upstream: &Upstream, options: Options) -> Proxy {
    Plan::new(&[upstream.address]).with(options).start()
}

#[tokio::test]
async fn the_upstream_gets_the_rewritten_path_with_the_query_and_the_log_the_clients() {
    let upstream = Upstream::echo().await;
    let proxy = proxy(&upstream, rewriting(Rule::Prefix("/v2".into())));
    let answer = proxy.get("shop.test", "/a/%62?q=%2f&p=/a", "").await;
    assert!(answer.contains("GET /v2/a/b?q=%2f&p=/a HTTP/1.1\r\n"), "{answer}");
    let proxy = self::proxy(&upstream, pattern("/api/(.*)", "/$1"));
    let answer = proxy.get("shop.test", "/api/x", "").await;
    assert!(answer.contains("GET /x HTTP/1.1\r\n"), "{answer}");
}

#[tokio::test]
async fn what_a_client_writes_ends_no_line_and_climbs_nowhere() {
    let upstream = Upstream::echo().await;
    let mut proxy = proxy(&upstream, pattern("/files(.*)", "/public/$1"));
    for (path, status, code) in [
        ("/files/%0d%0ax-admin:%201", "400", "RequestMalformed"),
        ("/files%0d%0aHost:%20evil", "400", "RequestMalformed"),
        ("/files/%2e%2e%2fetc", "400", "RequestMalformed"),
        ("/files../etc/passwd", "503", "RouteInvalid"),
        ("/files..;/etc", "503", "RouteInvalid"),
        ("/files/x", "503", "RouteInvalid"),
        ("/other", "404", "RouteNotFound"),
    ] {
        let answer = proxy.get("shop.test", path, "").await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{path}: {answer}");
        assert!(answer.contains(&format!("whygate-denial-code: {code}\r\n")), "{path}: {answer}");
    }
    assert_eq!((upstream.connections(), proxy.metric("whygate_permits_total")), (0, 0));
    let told: Vec<_> = std::iter::from_fn(|| proxy.samples.try_recv().ok()).collect();
    let of = |code: &str| told.iter().find(|sample| sample.key.code.as_str() == code).unwrap();
    let ambiguous = of("RouteInvalid");
    assert!(ambiguous.observed.contains("`/public/../etc/passwd`"), "{}", ambiguous.observed);
    assert!(ambiguous.remedy.contains("begin and end at slashes"), "{}", ambiguous.remedy);
    let unmatched = of("RouteNotFound");
    assert!(unmatched.observed.contains("whygate.dev/rewrite-regex"), "{}", unmatched.observed);
    assert_eq!(unmatched.key.route, None, "a scanner writes no Events");
}

#[tokio::test]
async fn a_request_is_judged_by_its_own_path_and_never_by_the_rewritten_one() {
    let upstream = Upstream::echo().await;
    let mut plan = Plan::new(&[upstream.address]);
    // The rule refuses every client; a rewriting that runs first would show in the answer.
    plan.routes.push(("closed.test", require("203.0.113.0/24", Enforcement::Enforce)));
    plan.options.insert("closed.test", Arc::new(rewriting(Rule::Prefix("/open".into()))));
    let mut proxy = plan.start();
    let answer = proxy.get("closed.test", "/admin", "").await;
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    assert_eq!(proxy.samples.recv().await.unwrap().path, "/admin");
    assert_eq!(upstream.connections(), 0);
}
