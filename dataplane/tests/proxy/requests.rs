//! What upstreams and clients get to see.

use crate::support::{Plan, Upstream};

#[tokio::test]
async fn an_open_route_is_served_with_bodies_both_ways() {
    let upstream = Upstream::echo().await;
    let proxy = Plan::new(&[upstream.address]).start();
    let request = "POST /cart HTTP/1.1\r\nhost: shop.test\r\nconnection: close\r\ncontent-length: 5\r\n\r\nhello";
    let answer = proxy.raw(request).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("POST /cart HTTP/1.1\r\n") && answer.ends_with("hello"), "{answer}");
}

#[tokio::test]
async fn a_refusal_tells_its_code_and_its_id() {
    let upstream = Upstream::echo().await;
    let mut proxy = Plan::new(&[upstream.address]).start();
    let answer = proxy.get("office.test", "/", "").await;
    assert!(answer.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{answer}");
    assert!(answer.contains("whygate-denial-code: AddressNotAllowed\r\n"), "{answer}");
    let sample = proxy.samples.recv().await.unwrap();
    assert!(answer.contains(&format!("whygate-request-id: {}\r\n", sample.id)), "{answer}");
    assert_eq!(sample.observed.contains("127.0.0.1"), true, "{}", sample.observed);
    assert_eq!(upstream.requests(), 0);
}
