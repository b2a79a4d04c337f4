//! When a replica tells first that it is there.

use http::{Request, Response, StatusCode};
use kube::client::Body;
use tokio::{sync::mpsc, time::advance};

use super::*;

/// A member whose API server takes every call and answers none, and those calls.
fn member() -> (Arc<Mutex<Member>>, mpsc::Receiver<String>) {
    let (calls, taken) = mpsc::channel(8);
    let service = tower::service_fn(move |request: Request<Body>| {
        let calls = calls.clone();
        async move {
            let body = request.into_body().collect_bytes().await.unwrap_or_default();
            let _ = calls.send(String::from_utf8_lossy(&body).into_owned()).await;
            let response = Response::builder().status(StatusCode::SERVICE_UNAVAILABLE);
            Ok::<_, Infallible>(response.body(Body::empty()).unwrap())
        }
    });
    let identity = Identity::new("whygate".to_owned(), "a".to_owned(), "controller", "class");
    let member = Member::new(Client::new(service, "default"), identity);
    (Arc::new(Mutex::new(member)), taken)
}

fn outcome() -> Arc<Outcome> {
    let settings = compile::Settings::default();
    Arc::new(Outcome::of(Arc::default(), &settings, None).0)
}

#[tokio::test(start_paused = true)]
async fn a_new_replica_waits_with_its_lease_until_it_enforces_something() {
    let (member, mut calls) = member();
    let (sender, enforced) = watch::channel(None);
    let begun = Instant::now();
    tokio::spawn(Member::follow(member, enforced));
    advance(HURRY).await;
    assert!(calls.try_recv().is_err());
    sender.send_replace(Some(outcome()));
    assert!(calls.recv().await.unwrap().contains(ENFORCES));
    assert_eq!(begun.elapsed(), HURRY, "it is told at once");
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_enforces_nothing_for_long_counts_among_the_living() {
    let (member, mut calls) = member();
    let (_sender, enforced) = watch::channel(None);
    let begun = Instant::now();
    tokio::spawn(Member::follow(member, enforced));
    assert!(calls.recv().await.unwrap().contains(&Enforced::default().text()));
    assert_eq!(begun.elapsed(), ROUND);
}
