//! What a change is, and what an error takes away: nothing.

use k8s_openapi::api::networking::v1::Ingress;
use serde_json::json;
use tokio::time::advance;

use super::*;

fn slot() -> Slot<Ingress> {
    let place = Place { what: "ingresses", namespace: None };
    Slot::new(place, &Admin::default(), Arc::new(Notify::new()), ())
}

fn ingress(version: &str, host: &str, address: &str) -> Ingress {
    serde_json::from_value(json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
        "metadata": { "name": "web", "namespace": "shop", "resourceVersion": version },
        "spec": { "rules": [{ "host": host }] },
        "status": { "loadBalancer": { "ingress": [{ "ip": address }] } },
    }))
    .unwrap()
}

fn is_changed(slot: &Slot<Ingress>) -> bool {
    let mut notified = std::pin::pin!(slot.changed.notified());
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    notified.as_mut().poll(&mut context).is_ready()
}

fn list(slot: &Slot<Ingress>, objects: Vec<Ingress>) {
    slot.apply(Event::Init);
    for object in objects {
        slot.apply(Event::InitApply(object));
    }
    slot.apply(Event::InitDone);
}

#[test]
fn a_status_that_we_wrote_is_no_change() {
    let slot = slot();
    list(&slot, vec![ingress("1", "a.example.com", "192.0.2.1")]);
    assert!(is_changed(&slot));
    slot.apply(Event::Apply(ingress("2", "a.example.com", "192.0.2.2")));
    assert!(!is_changed(&slot));
    slot.apply(Event::Apply(ingress("3", "b.example.com", "192.0.2.2")));
    assert!(is_changed(&slot));
}

#[test]
fn an_error_in_the_middle_of_a_list_takes_nothing_away() {
    let slot = slot();
    list(&slot, vec![ingress("1", "a.example.com", "192.0.2.1")]);
    slot.apply(Event::Init);
    slot.fail(&watcher::Error::NoResourceVersion);
    assert_eq!(slot.objects().len(), 1);
    assert!(slot.is_settled());
}

#[test]
fn a_token_that_the_api_server_does_not_know_is_said_once_with_what_to_check() {
    let slot = slot();
    let status = kube::core::Status { code: 401, ..kube::core::Status::default() };
    slot.fail(&watcher::Error::WatchError(Box::new(status)));
    let missing = slot.readiness().missing().join(" ");
    assert_eq!(missing.matches("Unauthorized").count(), 1, "{missing}");
    assert!(missing.contains("check the token"), "{missing}");
}

#[test]
fn nothing_is_settled_before_the_list_is_complete() {
    let slot = slot();
    slot.apply(Event::Init);
    slot.apply(Event::InitApply(ingress("1", "a.example.com", "192.0.2.1")));
    assert!(!slot.is_settled());
    assert_eq!(slot.admin.readiness.missing(), ["ingresses are not listed yet"]);
    slot.apply(Event::InitDone);
    assert!(slot.is_settled());
    assert!(slot.admin.readiness.missing().is_empty());
}

fn named(name: &str) -> Ingress {
    let mut ingress = ingress("1", "a.example.com", "192.0.2.1");
    ingress.metadata.name = Some(name.to_owned());
    ingress
}

fn kept(slot: &Slot<Ingress>) -> Vec<String> {
    let mut kept: Vec<_> = slot.objects().iter().map(|object| object.name_any()).collect();
    kept.sort();
    kept
}

/// Three objects, one of which is deleted with the first definition; then there is a second one.
fn replaced(slot: &Slot<Ingress>) {
    slot.adopt("first".to_owned());
    list(slot, vec![named("one"), named("two"), named("three")]);
    slot.follow_one(Event::Delete(named("one")), Life::Gone);
    slot.follow_one(Event::Init, Life::Same);
    slot.follow_one(Event::InitDone, Life::Replaced);
    assert_eq!(kept(slot), ["one", "three", "two"]);
    assert_eq!(slot.admin.deletions_ignored.get(), 2);
    slot.adopt("second".to_owned());
}

#[test]
fn what_vanished_with_its_definition_stays_until_it_comes_back_or_is_deleted_by_itself() {
    let slot = slot().keeping_orphans();
    replaced(&slot);
    list(&slot, vec![named("two"), named("new")]);
    assert_eq!(kept(&slot), ["new", "one", "three", "two"]);
    assert_eq!(slot.admin.orphans.get(), 2);
    // The same definition, followed anew: what a list lacks now was deleted.
    slot.adopt("second".to_owned());
    list(&slot, vec![named("two")]);
    assert_eq!(kept(&slot), ["one", "three", "two"]);
    slot.follow_one(Event::Apply(named("one")), Life::Same);
    slot.follow_one(Event::Delete(named("one")), Life::Same);
    assert_eq!(kept(&slot), ["three", "two"]);
    assert_eq!(slot.admin.orphans.get(), 1);
}

#[test]
fn what_opens_does_not_outlive_the_list_of_another_definition() {
    let slot = slot();
    replaced(&slot);
    list(&slot, vec![named("two")]);
    assert_eq!(kept(&slot), ["two"]);
}

#[tokio::test(start_paused = true)]
async fn a_complete_list_proves_that_a_watch_lives_and_an_error_does_not() {
    let slot = slot();
    advance(Duration::from_mins(1)).await;
    slot.apply(Event::Init);
    slot.fail(&watcher::Error::NoResourceVersion);
    assert_eq!(slot.admin.watches.ages()["Ingress"].as_secs(), 60);
    list(&slot, Vec::new());
    assert_eq!(slot.admin.watches.ages()["Ingress"].as_secs(), 0);
}
