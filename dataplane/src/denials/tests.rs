use decision::{
    host::HostPattern,
    protection::Posture,
    refs::Kind,
    route::{Backend, HostRoutes, PathMatch, Route, RoutingTable},
    snapshot::Snapshot,
    uncovered::OpenBy,
};

use super::*;
use crate::{ledger::SHARE, metrics::Metrics};

fn denied(denials: &Denials, path: &str, now: Instant) -> Option<u64> {
    denied_in("shop", denials, path, now)
}

/// A refusal at a field of an Ingress; how many it stands for, if it is told.
fn denied_in(namespace: &str, denials: &Denials, path: &str, now: Instant) -> Option<u64> {
    let ingress = ResourceRef::new(Kind::Ingress, namespace, "web");
    let field = FieldRef::new(ingress, path);
    let reason = DenialReason::RouteInvalid { field, problem: "no".into(), remedy: None };
    let denial = Denial::of_request(reason);
    let due = denials.count(Shape::of_denial(&denial), now, || key_of(&denial, false));
    due.map(|due| due.count)
}

#[test]
fn every_refusal_is_counted_and_few_are_sampled() {
    let shared = Arc::new(Shared::default());
    let threads = [Denials::new(Arc::clone(&shared)), Denials::new(Arc::clone(&shared))];
    let now = Instant::now();
    let samples = (0..1_000).filter_map(|_| denied(&threads[0], "spec", now)).count();
    denied(&threads[1], "spec", now);
    denied(&threads[1], "spec.rules", now);
    let mut totals: Vec<u64> =
        shared.denials.totals(Count::value).into_iter().map(|(_, total)| total).collect();
    totals.sort_unstable();
    assert_eq!((samples, totals), (10, vec![1, 1_001]));
    // 1,000 were counted and 10 told; the next one speaks for those that were not, and itself.
    assert_eq!(denied(&threads[0], "spec", now + Duration::from_secs(1)), Some(991));
}

fn total_of(shared: &Shared, is_meant: impl Fn(&DenialKey) -> bool) -> Option<u64> {
    let totals = shared.denials.totals(Count::value);
    totals.into_iter().find(|(key, _)| is_meant(key)).map(|(_, total)| total)
}

#[test]
fn a_namespace_that_fills_its_share_leaves_the_refusals_of_others_told_exactly() {
    let shared = Arc::new(Shared::default());
    let threads = [Denials::new(Arc::clone(&shared)), Denials::new(Arc::clone(&shared))];
    let flood = SERIES_LIMIT + 100;
    for number in 0..flood {
        denied_in("evil", &threads[number % 2], &format!("spec.rules[{number}]"), Instant::now());
    }
    for denials in &threads {
        assert_eq!(denied_in("shop", denials, "spec", Instant::now()), Some(1));
        assert!(denials.own.borrow().series.len() <= SHARE + 2);
    }
    let totals = shared.denials.totals(Count::value);
    let sum: u64 = totals.iter().map(|(_, total)| total).sum();
    assert_eq!((totals.len(), sum), (SHARE + 2, flood as u64 + 2));
    let rest = total_of(&shared, |key| key.rest_of.as_deref() == Some("evil"));
    assert_eq!(rest, Some((flood - SHARE) as u64));
    let of_shop =
        |key: &DenialKey| key.field.as_ref().is_some_and(|it| &*it.resource.namespace == "shop");
    assert_eq!(total_of(&shared, of_shop), Some(2));
}

#[test]
fn refusals_of_many_namespaces_beyond_the_limit_keep_their_total_and_their_bound() {
    let shared = Arc::new(Shared::default());
    let denials = Denials::new(Arc::clone(&shared));
    let (namespaces, each) = (30, SHARE / 2);
    for number in 0..namespaces * each {
        let namespace = format!("n{}", number % namespaces);
        denied_in(&namespace, &denials, &format!("spec.rules[{number}]"), Instant::now());
    }
    let totals = shared.denials.totals(Count::value);
    let sum: u64 = totals.iter().map(|(_, total)| total).sum();
    assert_eq!((totals.len(), sum), (SERIES_LIMIT + namespaces, (namespaces * each) as u64));
}

#[test]
fn series_of_a_namespace_that_is_gone_are_freed_and_there_is_room_again() {
    let shared = Arc::new(Shared::default());
    let (denials, metrics) = (Denials::new(Arc::clone(&shared)), Metrics(Arc::clone(&shared)));
    let flood = |count: usize| {
        for number in 0..count {
            denied_in("evil", &denials, &format!("spec.rules[{number}]"), Instant::now());
        }
    };
    flood(SHARE + 100);
    denied_in("shop", &denials, "spec", Instant::now());
    let only_shop = snapshot(&["shop"]);
    metrics.forget(&only_shop);
    assert_eq!(shared.denials.totals(Count::value).len(), SHARE + 2);
    metrics.forget(&only_shop);
    denied_in("shop", &denials, "spec", Instant::now());
    assert_eq!(total_of(&shared, |key| key.field.is_some()), Some(2));
    assert_eq!(shared.denials.totals(Count::value).len(), 1);
    // It comes back: its refusals are counted from the beginning, none of them lost.
    flood(SHARE);
    let totals = shared.denials.totals(Count::value);
    let sum: u64 = totals.iter().map(|(_, total)| total).sum();
    assert_eq!((totals.len(), sum), (SHARE + 1, SHARE as u64 + 2));
    assert!(totals.iter().all(|(key, _)| key.rest_of.is_none()));
    metrics.forget(&snapshot(&["shop", "evil"]));
    metrics.forget(&snapshot(&["shop", "evil"]));
    assert_eq!(shared.denials.totals(Count::value).len(), SHARE + 1);
}

/// A snapshot with one route in each namespace.
fn snapshot(namespaces: &[&str]) -> Snapshot {
    let host = |namespace: &&str| {
        let ingress = ResourceRef::new(Kind::Ingress, *namespace, "web");
        let field = FieldRef::new(ingress, "spec.rules[0].http.paths[0]");
        let problem =
            Backend::Missing { field: field.clone(), problem: "no".into(), remedy: "".into() };
        let host = format!("{namespace}.example.com");
        let route = Route {
            name: Arc::new(RouteName { field, host: host.as_str().into(), path: "/".into() }),
            posture: Posture::Open(OpenBy::Flag),
            backend: Arc::new(problem),
            redirect_to_https: false,
            is_challenge: false,
            options: None,
        };
        HostRoutes {
            host: HostPattern::parse(&host).unwrap(),
            owner: (*namespace).into(),
            paths: vec![(PathMatch::Prefix, "/".into(), Arc::new(route))],
        }
    };
    let routes = RoutingTable::new(namespaces.iter().map(host).collect(), None);
    Snapshot { generation: 1, routes, ..Snapshot::default() }
}
