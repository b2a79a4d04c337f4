//! A bug of ours that panics: it costs the request in whose handling it is, and no other.

use std::fmt;

use decision::code::Code;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::{
    body::{Bytes, Incoming},
    client::conn::http2,
};
use tokio::{net::TcpListener, time::timeout};
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

use crate::{
    access::Watched,
    support::{HANGS, Plan, Proxy, Upstream, http2_client, raw},
};

/// Requests of this path panic where their refusal is told.
const PATH: &str = "/made-for-a-test";

/// A listener of the log that panics.
struct Panicking;

impl Subscriber for Panicking {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "access"
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        event.record(&mut Panics);
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

struct Panics;

impl Visit for Panics {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let is_meant = field.name() == "request.path" && format!("{value:?}").contains(PATH);
        assert!(!is_meant, "a bug, made for this test");
    }
}

/// For all tests of this process: a second one is refused, and the first does the same.
fn let_refusals_panic() {
    let _ = tracing::subscriber::set_global_default(Panicking);
}

type Sender = http2::SendRequest<Empty<Bytes>>;

async fn get(mut sender: Sender, uri: String) -> Response<Incoming> {
    let request = Request::get(uri).body(Empty::new()).unwrap();
    timeout(HANGS, sender.send_request(request)).await.unwrap().unwrap()
}

/// Checks that it was refused by us, and that somebody can find out about it.
async fn check_refusal(response: &Response<Incoming>, proxy: &mut Proxy) {
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(response.headers()["whygate-denial-code"], "JudgementFailed");
    let sample = timeout(HANGS, proxy.samples.recv()).await.unwrap().unwrap();
    assert_eq!(sample.key.code, Code::JudgementFailed);
    assert_eq!(response.headers()["whygate-request-id"].to_str().unwrap(), sample.id.to_string());
    let mut text = String::new();
    proxy.dataplane.metrics().encode(&mut text);
    let series = r#"whygate_refusals_total{code="JudgementFailed",fault="gateway",class="5xx","#;
    assert!(text.lines().any(|line| line.starts_with(series)), "{text}");
}

#[tokio::test]
async fn a_panic_costs_its_request_and_no_other_of_the_connection() {
    let_refusals_panic();
    let upstream = Upstream::echo().await;
    let mut proxy = Plan::new(&[upstream.address]).start();
    let (sender, _tasks) = http2_client(&proxy).await;
    let broken = get(sender.clone(), format!("http://office.test{PATH}")).await;
    check_refusal(&broken, &mut proxy).await;
    let next = get(sender, "http://shop.test/".to_owned()).await;
    assert_eq!(next.status(), StatusCode::OK);
    drop(next);
    proxy.metric_becomes("whygate_requests_in_flight", 0).await;
}

#[tokio::test]
async fn after_a_panic_its_request_is_told_once_and_as_it_was_answered() {
    let_refusals_panic();
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    for host in ["office.test", "shop.test"] {
        let watched = Watched::start(Plan::new(&[nobody]), 1);
        let (sender, _tasks) = http2_client(&watched.proxy).await;
        let broken = get(sender, format!("http://{host}{PATH}")).await;
        drop(broken.into_body().collect().await.unwrap());
        let lines = watched.rest().await;
        let [line] = &lines[..] else { panic!("{lines:?}") };
        let expected = "GET  -> 503 complete, in 0, out ";
        assert!(line.starts_with(expected) && line.ends_with(", JudgementFailed"), "{line}");
    }
}

#[tokio::test]
async fn a_panic_in_forwarding_is_a_refusal_too() {
    let_refusals_panic();
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let mut proxy = Plan::new(&[nobody]).start();
    let (sender, _tasks) = http2_client(&proxy).await;
    let broken = get(sender.clone(), format!("http://shop.test{PATH}")).await;
    check_refusal(&broken, &mut proxy).await;
    let next = get(sender, "http://shop.test/".to_owned()).await;
    assert_eq!(next.status(), StatusCode::BAD_GATEWAY);
    drop(next);
    proxy.metric_becomes("whygate_requests_in_flight", 0).await;
}

#[tokio::test]
async fn after_a_panic_a_connection_of_http1_ends_behind_the_refusal() {
    let_refusals_panic();
    let proxy = Plan::new(&[]).start();
    let request =
        format!("POST {PATH} HTTP/1.1\r\nhost: office.test\r\ncontent-length: 9\r\n\r\nhalf");
    let answer = raw(proxy.http(), &request).await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.contains("connection: close\r\n"), "{answer}");
    proxy.metric_becomes("whygate_connections", 0).await;
}
