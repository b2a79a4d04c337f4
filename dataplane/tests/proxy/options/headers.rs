//! Header fields that routes set, add and take away.

use decision::{
    host::Host,
    options::{
        Options,
        headers::{HeaderEdits, Message},
    },
};
use http::{HeaderName, HeaderValue};

use crate::support::{Plan, Proxy, Upstream};

fn field(name: &'static str, value: &'static str) -> (HeaderName, HeaderValue) {
    (HeaderName::from_static(name), HeaderValue::from_static(value))
}

fn edits(message: Message) -> HeaderEdits {
    let remove = vec![HeaderName::from_static("x-gone")];
    HeaderEdits::new(message, remove, vec![field("x-team", "shop")], vec![field("x-more", "two")])
}

fn proxy(upstream: &Upstream, request: HeaderEdits, response: HeaderEdits) -> Proxy {
    let options =
        Options { request_headers: request, response_headers: response, ..Options::default() };
    Plan::new(&[upstream.address]).with(options).start()
}

/// How often a field of this name stands in a text, in any spelling.
fn count(text: &str, name: &str) -> usize {
    let names = text.lines().filter_map(|line| line.split_once(':'));
    names.filter(|(field, _)| field.to_lowercase().replace('_', "-") == name).count()
}

#[tokio::test]
async fn no_client_speaks_in_the_name_of_a_field_that_its_route_sets() {
    let upstream = Upstream::echo().await;
    let proxy = proxy(&upstream, edits(Message::Request), HeaderEdits::default());
    let hostile = "connection: close, x-team, x-more\r\nx-team: evil\r\nX-TEAM: evil\r\nX_Team: evil\r\nx-gone: 1\r\nx_gone: 2\r\nx-more: one\r\n";
    let answer = proxy.raw(&format!("GET / HTTP/1.1\r\nhost: shop.test\r\n{hostile}\r\n")).await;
    assert!(answer.contains("\r\nx-team: shop\r\n"), "{answer}");
    assert_eq!((count(&answer, "x-team"), count(&answer, "x-gone")), (1, 0), "{answer}");
    assert!(!answer.contains("evil"), "{answer}");
    assert!(answer.contains("\r\nx-more: two\r\n"), "{answer}");
    assert_eq!(count(&answer, "x-more"), 1, "the client named its own away: {answer}");
}

#[tokio::test]
async fn a_field_that_is_added_stands_beside_the_clients() {
    let upstream = Upstream::echo().await;
    let proxy = proxy(&upstream, edits(Message::Request), HeaderEdits::default());
    let answer = proxy.get("shop.test", "/", "x-more: one\r\n").await;
    assert!(answer.contains("x-more: one\r\nx-more: two\r\n"), "{answer}");
    assert!(
        proxy.get("trial.test", "/", "x-gone: 1\r\n").await.contains("x-gone: 1\r\n"),
        "another route's"
    );
}

#[tokio::test]
async fn what_we_write_ourselves_has_the_last_word() {
    let upstream = Upstream::echo().await;
    // No manifest comes to this: the compiler refuses such names.
    let set = vec![
        field("host", "evil"),
        field("x-forwarded-for", "evil"),
        field("content-length", "1"),
        field("transfer-encoding", "chunked"),
    ];
    let edits = HeaderEdits::new(Message::Request, Vec::new(), set.clone(), set);
    let proxy = proxy(&upstream, edits, HeaderEdits::default());
    let answer = proxy.get("shop.test", "/", "").await;
    assert!(answer.contains("\r\nhost: shop.test\r\n"), "{answer}");
    assert!(!answer.contains("evil") && !answer.contains("transfer-encoding"), "{answer}");
}

#[tokio::test]
async fn answers_are_edited_and_refusals_keep_their_fields() {
    let upstream = Upstream::start(|_| {
        "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nx-gone: 1\r\nx-team: upstream\r\nx-more: one\r\nwhygate-user: root\r\n\r\n".to_owned()
    })
    .await;
    let proxy = proxy(&upstream, HeaderEdits::default(), edits(Message::Response));
    let answer = proxy.get("shop.test", "/", "").await;
    assert_eq!((count(&answer, "x-gone"), count(&answer, "x-team")), (0, 1), "{answer}");
    assert!(answer.contains("x-team: shop\r\n"), "{answer}");
    assert!(answer.contains("x-more: one\r\nx-more: two\r\n"), "{answer}");
    assert_eq!(count(&answer, "whygate-user"), 0, "{answer}");
    proxy.endpoints.send_replace(std::sync::Arc::default());
    let refused = proxy.get("shop.test", "/", "").await;
    assert!(refused.starts_with("HTTP/1.1 503") && count(&refused, "x-team") == 0, "{refused}");
}

#[tokio::test]
async fn an_upstream_is_told_the_host_of_its_route_and_the_clients_beside_it() {
    let upstream = Upstream::echo().await;
    let upstream_host = Host::parse("api.partner.example").ok();
    let options = Options { upstream_host, ..Options::default() };
    let proxy = Plan::new(&[upstream.address]).with(options).start();
    let answer = proxy.get("shop.test", "/", "x-forwarded-host: evil.test\r\n").await;
    assert!(answer.contains("host: api.partner.example\r\n"), "{answer}");
    assert!(answer.contains("x-forwarded-host: shop.test\r\n"), "{answer}");
    assert!(!answer.contains("evil"), "{answer}");
}
