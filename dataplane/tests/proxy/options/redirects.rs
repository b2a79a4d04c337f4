//! Routes that send their clients elsewhere.

use std::sync::Arc;

use decision::{
    host::Host,
    options::{Destination, Options, Redirect},
};
use http::{HeaderValue, StatusCode};

use crate::support::{Plan, Proxy, Upstream};

const ELSEWHERE: &str = "https://www.example.com/new?from=shop";

fn redirecting(status: StatusCode) -> Options {
    let to = Destination::Url(HeaderValue::from_static(ELSEWHERE));
    Options { redirect: Some(Redirect { to, status }), ..Options::default() }
}

fn proxy(upstream: &Upstream, status: StatusCode) -> Proxy {
    let mut plan = Plan::new(&[upstream.address]).with(redirecting(status));
    plan.options.insert("office.test", Arc::new(redirecting(status)));
    plan.options.insert("trial.test", Arc::new(redirecting(status)));
    plan.start()
}

#[tokio::test]
async fn no_client_has_a_say_in_where_it_is_sent() {
    let upstream = Upstream::echo().await;
    for status in [301, 302, 307, 308] {
        let proxy = proxy(&upstream, StatusCode::from_u16(status).unwrap());
        for path in ["/", "/@evil.test/x?next=//evil.test", "/.evil.test", "/a%20b"] {
            let hostile = "x-forwarded-host: evil.test\r\nreferer: https://evil.test/\r\n";
            let answer = proxy.get("shop.test", path, hostile).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
            assert!(answer.contains(&format!("\r\nlocation: {ELSEWHERE}\r\n")), "{answer}");
            assert!(!answer.contains("evil"), "{answer}");
        }
        assert_eq!(proxy.metric("whygate_permits_total"), 0);
    }
    assert_eq!(upstream.connections(), 0);
}

#[tokio::test]
async fn who_is_refused_is_not_told_where_others_are_sent() {
    let upstream = Upstream::echo().await;
    let proxy = proxy(&upstream, StatusCode::FOUND);
    let answer = proxy.get("office.test", "/", "").await;
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    assert!(!answer.contains("location"), "{answer}");
}

#[tokio::test]
async fn what_rules_in_shadow_would_refuse_is_counted_of_redirects_too() {
    let upstream = Upstream::echo().await;
    let proxy = proxy(&upstream, StatusCode::FOUND);
    assert!(proxy.get("trial.test", "/", "").await.starts_with("HTTP/1.1 302"));
    let counts = proxy.dataplane.denial_counts();
    let shadows: Vec<_> = counts.iter().map(|(key, total)| (key.shadow, *total)).collect();
    assert_eq!(shadows, [(true, 1)]);
}

#[tokio::test]
async fn a_redirected_body_is_not_taken_for_the_next_request() {
    let upstream = Upstream::echo().await;
    let proxy = proxy(&upstream, StatusCode::PERMANENT_REDIRECT);
    let smuggled = "GET /smuggled HTTP/1.1\r\nhost: office.test\r\n\r\n";
    let request = format!(
        "POST / HTTP/1.1\r\nhost: shop.test\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{smuggled}",
        smuggled.len()
    );
    let answer = proxy.raw(&request).await;
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    assert!(answer.starts_with("HTTP/1.1 308"), "{answer}");
}

#[tokio::test]
async fn another_host_keeps_path_and_query_and_is_not_sent_to_itself() {
    let upstream = Upstream::echo().await;
    let to = Destination::Host(Host::parse("www.shop.test").unwrap());
    let redirect = Redirect { to, status: StatusCode::MOVED_PERMANENTLY };
    let options = || Options { redirect: Some(redirect.clone()), ..Options::default() };
    let proxy = Plan::new(&[upstream.address]).with(options()).start();
    let hostile = "x-forwarded-host: evil.test\r\nx-forwarded-proto: https\r\n";
    for (sent, path) in [
        ("/", "/"),
        ("/a%20b/?c=//d&e", "/a%20b/?c=//d&e"),
        ("//evil.test/", "/evil.test/"),
        ("/@evil.test", "/@evil.test"),
    ] {
        let answer = proxy.get("shop.test", sent, hostile).await;
        assert!(answer.starts_with("HTTP/1.1 301 "), "{answer}");
        let location = format!("\r\nlocation: http://www.shop.test{path}\r\n");
        assert!(answer.contains(&location), "{answer}");
    }
    let mut plan = Plan::new(&[upstream.address]).with(options());
    plan.source.trusted_proxies = ["127.0.0.0/8".parse().unwrap()].into_iter().collect();
    let answer = plan.start().get("shop.test", "/a?b", hostile).await;
    assert!(answer.contains("\r\nlocation: https://www.shop.test/a?b\r\n"), "{answer}");
    assert_eq!(upstream.connections(), 0);
    let to = Destination::Host(Host::parse("shop.test").unwrap());
    let redirect = Redirect { to, status: StatusCode::FOUND };
    let options = Options { redirect: Some(redirect), ..Options::default() };
    let proxy = Plan::new(&[upstream.address]).with(options).start();
    let answer = proxy.get("shop.test", "/", "").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}
