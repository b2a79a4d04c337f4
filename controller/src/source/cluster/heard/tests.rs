//! What counts as a proof of life, and what doesn't.

use std::{convert::Infallible, time::Duration};

use futures::{StreamExt, TryStreamExt, stream};
use http::{Response, StatusCode};
use http_body_util::StreamBody;
use k8s_openapi::api::networking::v1::Ingress;
use kube::{Api, api::WatchParams};
use tokio::time::advance;

use super::*;
use crate::pulse::Watches;

const BOOKMARK: &str = r#"{"type":"BOOKMARK","object":{"apiVersion":"networking.k8s.io/v1","kind":"Ingress","metadata":{"resourceVersion":"7"}}}"#;
const GONE: &str = r#"{"type":"ERROR","object":{"apiVersion":"v1","kind":"Status","status":"Failure","message":"etcd is away","reason":"InternalError","code":500}}"#;
const LIST: &str = r#"{"apiVersion":"networking.k8s.io/v1","kind":"IngressList","metadata":{"resourceVersion":"7"},"items":[]}"#;

/// An API server that answers everything with one status and one text, and breaks off after it.
fn server(status: StatusCode, text: &'static str, breaks: bool) -> Client {
    let service = tower::service_fn(move |_: Request<Body>| async move {
        let text = stream::iter([Ok(Frame::data(Bytes::from_static(text.as_bytes())))]);
        let broken = stream::iter(breaks.then(|| Err(std::io::Error::other("broken off"))));
        let body = StreamBody::new(text.chain(broken));
        let response = Response::builder().status(status).body(body).unwrap();
        Ok::<_, Infallible>(response)
    });
    Client::new(service, "default")
}

/// How old a watch is whose only answer came after a minute.
async fn age_after(status: StatusCode, text: &'static str, breaks: bool) -> u64 {
    let pulse = Watches::default().begin("Ingress");
    advance(Duration::from_mins(1)).await;
    let ingresses: Api<Ingress> = Api::all(client(&server(status, text, breaks), &pulse));
    // What the watch makes of it is not ours to say.
    if let Ok(events) = ingresses.watch(&WatchParams::default(), "6").await {
        let _ = events.into_stream().collect::<Vec<_>>().await;
    }
    pulse.age().as_secs()
}

#[tokio::test(start_paused = true)]
async fn a_bookmark_and_an_end_in_good_order_prove_that_a_watch_lives() {
    assert_eq!(age_after(StatusCode::OK, BOOKMARK, true).await, 0);
    assert_eq!(age_after(StatusCode::OK, "", false).await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_fails_with_its_first_event_has_proved_nothing() {
    assert_eq!(age_after(StatusCode::OK, GONE, false).await, 60);
    assert_eq!(age_after(StatusCode::OK, "", true).await, 60);
    assert_eq!(age_after(StatusCode::SERVICE_UNAVAILABLE, "", false).await, 60);
}

#[tokio::test(start_paused = true)]
async fn a_list_is_counted_by_whoever_has_read_it_to_its_end() {
    let pulse = Watches::default().begin("Ingress");
    advance(Duration::from_mins(1)).await;
    let ingresses: Api<Ingress> = Api::all(client(&server(StatusCode::OK, LIST, false), &pulse));
    ingresses.list(&kube::api::ListParams::default()).await.unwrap();
    assert_eq!(pulse.age().as_secs(), 60);
}
