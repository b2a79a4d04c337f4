//! Which pages of other replicas are deleted.

use http::{Method, Request, Response};
use kube::client::Body;
use tokio::{sync::mpsc, time::advance};

use super::*;

/// The page of a replica whose clock stands in 1970, as an API server lists it.
const LIST: &str = r#"{"apiVersion":"coordination.k8s.io/v1","kind":"LeaseList","metadata":{"resourceVersion":"9"},"items":[
    {"metadata":{"name":"b","resourceVersion":"7","annotations":{"whygate.dev/denials":"{\"at\":1,\"into\":1,\"policies\":[]}"}}}]}"#;

/// The Leases of an API server that has that page, whatever is done to it, and what is deleted.
fn leases() -> (Leases, mpsc::Receiver<String>) {
    let (deletions, deleted) = mpsc::channel(8);
    let service = tower::service_fn(move |request: Request<Body>| {
        let deletions = deletions.clone();
        async move {
            let text = if request.method() == Method::DELETE {
                let _ = deletions.send(request.uri().path().to_owned()).await;
                r#"{"kind":"Status","apiVersion":"v1","status":"Success"}"#
            } else {
                LIST
            };
            Ok::<_, Infallible>(Response::new(Body::from(text.as_bytes().to_vec())))
        }
    });
    let identity = Identity::new("whygate".to_owned(), "a".to_owned(), "controller", "class");
    (Leases::new(Client::new(service, "default"), identity), deleted)
}

#[tokio::test(start_paused = true)]
async fn a_page_is_deleted_after_an_hour_of_ours_whatever_its_own_clock_says() {
    let (mut leases, mut deleted) = leases();
    leases.read().await.unwrap();
    leases.sweep().await.unwrap();
    advance(HOUR.checked_sub(Duration::from_secs(1)).unwrap()).await;
    leases.read().await.unwrap();
    leases.sweep().await.unwrap();
    assert!(deleted.try_recv().is_err(), "it was seen for less than an hour");
    advance(Duration::from_secs(1)).await;
    leases.sweep().await.unwrap();
    assert!(deleted.try_recv().unwrap().ends_with("/namespaces/whygate/leases/b"));
}
