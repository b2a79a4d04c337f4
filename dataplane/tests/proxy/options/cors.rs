//! Pages of other origins: preflights that we answer, and refusals that browsers can show.

use std::sync::Arc;

use decision::{
    options::{
        Options,
        cors::{Cors, Origin, Origins},
    },
    policy::Enforcement,
    refs::{FieldRef, Kind, ResourceRef},
};
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{net::TcpStream, time::timeout};

use crate::support::{HANGS, Plan, Proxy, Upstream, require, require_key, require_method};

const PAGE: &str = "https://app.example.com";

fn sharing(origins: Origins, credentials: bool) -> Options {
    let ingress = ResourceRef::new(Kind::Ingress, "shop", "web");
    let cors = Cors {
        field: FieldRef::new(ingress, "metadata.annotations['whygate.dev/cors-origins']"),
        origins,
        methods: HeaderValue::from_static("GET, PUT"),
        headers: Some(HeaderValue::from_static("content-type, x-team")),
        expose: HeaderValue::from_static("x-total, whygate-denial-code"),
        credentials,
        max_age: Some(HeaderValue::from_static("600")),
    };
    Options { cors: Some(cors), ..Options::default() }
}

fn listed() -> Options {
    let origins = [PAGE, "https://*.shop.test"].map(|origin| Origin::parse(origin).unwrap());
    sharing(Origins::Listed(Box::new(origins)), true)
}

/// `shop.test` is open; the others ask for an address, a key and a method.
fn proxy(upstream: &Upstream) -> Proxy {
    let mut plan = Plan::new(&[upstream.address]).with(listed());
    plan.routes.push(("key.test", require_key()));
    plan.routes.push(("get.test", require_method(Method::GET)));
    plan.routes.push(("local.test", require("127.0.0.0/8", Enforcement::Enforce)));
    for host in ["office.test", "key.test", "get.test", "local.test"] {
        plan.options.insert(host, Arc::new(listed()));
    }
    plan.start()
}

/// A preflight of a page, with further headers.
async fn preflight(proxy: &Proxy, host: &str, headers: &str) -> String {
    let ask = "access-control-request-method: PUT\r\n";
    let head = format!("OPTIONS / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n{ask}{headers}");
    proxy.raw(&format!("{head}\r\n")).await
}

fn says(answer: &str, name: &str, value: &str) -> bool {
    answer.contains(&format!("\r\n{name}: {value}\r\n"))
}

/// Whether an answer lets some page see anything.
fn shares(answer: &str) -> bool {
    answer.to_lowercase().contains("\r\naccess-control-")
}

#[tokio::test]
async fn a_preflight_is_answered_by_us_and_never_reaches_the_upstream() {
    let upstream = Upstream::echo().await;
    let proxy = proxy(&upstream);
    for host in ["shop.test", "key.test", "get.test", "local.test"] {
        let answer = preflight(&proxy, host, &format!("origin: {PAGE}\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 204 "), "{host}: {answer}");
        for (name, value) in [
            ("access-control-allow-origin", PAGE),
            ("access-control-allow-credentials", "true"),
            ("access-control-allow-methods", "GET, PUT"),
            ("access-control-allow-headers", "content-type, x-team"),
            ("access-control-max-age", "600"),
            ("vary", "origin"),
        ] {
            assert!(says(&answer, name, value), "{host}: {answer}");
        }
        assert!(answer.contains("\r\nwhygate-request-id: "), "{answer}");
    }
    assert_eq!((upstream.connections(), proxy.metric("whygate_permits_total")), (0, 0));
}

#[tokio::test]
async fn a_preflight_from_a_network_that_is_not_admitted_is_refused_and_the_page_sees_why() {
    let upstream = Upstream::echo().await;
    let proxy = proxy(&upstream);
    let answer = preflight(&proxy, "office.test", &format!("origin: {PAGE}\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    assert!(says(&answer, "whygate-denial-code", "AddressNotAllowed"), "{answer}");
    assert!(says(&answer, "access-control-allow-origin", PAGE), "{answer}");
    assert!(!answer.contains("access-control-allow-methods"), "{answer}");
}

#[tokio::test]
async fn an_origin_that_may_not_call_is_told_nothing_and_the_operator_everything() {
    let upstream = Upstream::echo().await;
    let mut proxy = proxy(&upstream);
    for origin in [
        "origin: null\r\n".to_owned(),
        "origin: https://evil.test\r\n".to_owned(),
        "origin: *\r\n".to_owned(),
        "origin: \r\n".to_owned(),
        "origin: https://shop.test\r\n".to_owned(),
        "origin: https://a.b.shop.test\r\n".to_owned(),
        "origin: https://app.example.com.evil.test\r\n".to_owned(),
        "origin: http://app.example.com\r\n".to_owned(),
        format!("origin: {PAGE}, https://evil.test\r\n"),
        format!("origin: {PAGE}\r\norigin: https://evil.test\r\n"),
        format!("origin: https://evil.test\r\norigin: {PAGE}\r\n"),
        format!("origin: {PAGE}\r\norigin: {PAGE}\r\n"),
    ] {
        let answer = preflight(&proxy, "key.test", &origin).await;
        assert!(answer.starts_with("HTTP/1.1 403 "), "{origin}: {answer}");
        assert!(says(&answer, "whygate-denial-code", "OriginNotAllowed"), "{answer}");
        assert!(!shares(&answer) && says(&answer, "vary", "origin"), "{origin}: {answer}");
        let refused = proxy.get("key.test", "/", &origin).await;
        assert!(refused.starts_with("HTTP/1.1 401 ") && !shares(&refused), "{origin}: {refused}");
        let served = proxy.get("shop.test", "/", &origin).await;
        assert!(served.starts_with("HTTP/1.1 200 ") && !shares(&served), "{origin}: {served}");
    }
    let told: Vec<_> = std::iter::from_fn(|| proxy.samples.try_recv().ok())
        .filter(|sample| sample.key.code.as_str() == "OriginNotAllowed")
        .collect();
    assert_eq!(told[0].observed, "pages of the origin `null` may not call this route");
    assert!(told[0].remedy.contains("whygate.dev/cors-origins"), "{}", told[0].remedy);
    assert!(told[0].key.route.is_some());
}

#[tokio::test]
async fn a_refusal_carries_what_lets_the_page_read_it() {
    let upstream = Upstream::echo().await;
    let proxy = proxy(&upstream);
    let origin = "origin: https://x.shop.test\r\n";
    for (host, status) in [("office.test", "403"), ("key.test", "401"), ("shop.test", "200")] {
        let answer = proxy.get(host, "/", origin).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        assert!(says(&answer, "access-control-allow-origin", "https://x.shop.test"), "{answer}");
        assert!(says(&answer, "access-control-expose-headers", "x-total, whygate-denial-code"));
        assert!(says(&answer, "access-control-allow-credentials", "true"), "{answer}");
        assert!(says(&answer, "vary", "origin"), "{answer}");
    }
    proxy.endpoints.send_replace(Arc::default());
    let answer = proxy.get("shop.test", "/", origin).await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(says(&answer, "access-control-allow-origin", "https://x.shop.test"), "{answer}");
}

#[tokio::test]
async fn what_is_no_preflight_is_judged_as_every_request() {
    let upstream = Upstream::echo().await;
    let proxy = proxy(&upstream);
    let ask = |method: &str, headers: &str| {
        format!("{method} / HTTP/1.1\r\nhost: key.test\r\nconnection: close\r\n{headers}\r\n")
    };
    let (origin, asks) = (format!("origin: {PAGE}\r\n"), "access-control-request-method: PUT\r\n");
    for request in [
        ask("OPTIONS", &origin),
        ask("OPTIONS", asks),
        ask("GET", &format!("{origin}{asks}")),
        ask("OPTIONS", &format!("connection: access-control-request-method\r\n{origin}{asks}")),
        ask("OPTIONS", &format!("connection: origin\r\n{origin}{asks}")),
    ] {
        let answer = proxy.raw(&request).await;
        assert!(answer.starts_with("HTTP/1.1 401 "), "{request}: {answer}");
    }
    assert_eq!(upstream.connections(), 0);
    let other = preflight(&proxy, "trial.test", &origin).await;
    assert!(other.starts_with("HTTP/1.1 200 "), "a route without the option: {other}");
}

#[tokio::test]
async fn a_preflight_with_a_body_hides_no_second_request() {
    let upstream = Upstream::echo().await;
    let proxy = proxy(&upstream);
    let smuggled = "GET / HTTP/1.1\r\nhost: shop.test\r\n\r\n";
    let body = format!("content-length: {}\r\norigin: {PAGE}\r\n\r\n{smuggled}", smuggled.len());
    let answer = preflight(&proxy, "key.test", &body).await;
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    assert_eq!(upstream.connections(), 0);
}

#[tokio::test]
async fn what_the_upstream_says_to_browsers_is_not_believed_beside_us() {
    let upstream = Upstream::start(|_| {
        "HTTP/1.1 200 OK\r\ncontent-length: 0\r\naccess-control-allow-origin: *\r\naccess-control-allow-origin: https://evil.test\r\naccess-control-allow-credentials: true\r\nvary: accept\r\n\r\n".to_owned()
    })
    .await;
    let proxy = proxy(&upstream);
    let evil = proxy.get("shop.test", "/", "origin: https://evil.test\r\n").await;
    assert!(
        !shares(&evil) && says(&evil, "vary", "accept") && says(&evil, "vary", "origin"),
        "{evil}"
    );
    let page = proxy.get("shop.test", "/", &format!("origin: {PAGE}\r\n")).await;
    assert_eq!(page.matches("access-control-allow-origin: ").count(), 1, "{page}");
    assert!(says(&page, "access-control-allow-origin", PAGE), "{page}");
    let elsewhere = proxy.get("trial.test", "/", "").await;
    assert!(
        elsewhere.contains("access-control-allow-origin: *"),
        "without the option: {elsewhere}"
    );
}

#[tokio::test]
async fn every_page_means_every_page_and_no_credentials() {
    let upstream = Upstream::echo().await;
    let proxy = Plan::new(&[upstream.address]).with(sharing(Origins::Any, false)).start();
    for origin in ["origin: null\r\n", "origin: https://any.test\r\n"] {
        let answer = preflight(&proxy, "shop.test", origin).await;
        assert!(answer.starts_with("HTTP/1.1 204 "), "{answer}");
        assert!(says(&answer, "access-control-allow-origin", "*"), "{answer}");
        assert!(!answer.contains("credentials") && !answer.contains("\r\nvary:"), "{answer}");
    }
}

#[tokio::test]
async fn over_http_2_preflights_are_answered_alike() {
    let upstream = Upstream::echo().await;
    let proxy = proxy(&upstream);
    let stream = TcpStream::connect(proxy.http()).await.unwrap();
    let (mut sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    for (origin, expected) in
        [(PAGE, StatusCode::NO_CONTENT), ("https://evil.test", StatusCode::FORBIDDEN)]
    {
        let request = Request::options("http://key.test/")
            .header(header::ORIGIN, origin)
            .header(header::ACCESS_CONTROL_REQUEST_METHOD, "PUT")
            .body(Empty::<bytes::Bytes>::new().boxed())
            .unwrap();
        let answer = timeout(HANGS, sender.send_request(request)).await.unwrap().unwrap();
        assert_eq!(answer.status(), expected);
    }
    assert_eq!(upstream.connections(), 0);
    connection.abort();
}
