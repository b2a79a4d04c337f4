//! Routing agrees with a model that tries every route in turn.

use std::sync::Arc;

use decision::{
    host::{Host, HostPattern},
    path::{canonical, is_within},
    route::{HostRoutes, PathMatch, RoutingTable},
};
use proptest::{collection::vec, prelude::*, sample::select};

use crate::world::open_route;

const HOSTS: [&str; 5] = ["api.example.com", "www.example.com", "*.example.com", "*.com", ""];
const PATHS: [&str; 9] =
    ["/", "/v1", "/v1/", "/v1/users", "/v1/users/", "/v10", "/v1/a/b", "/x", "/V1"];

/// A route's host, match, path, and its own number.
type Entry = (usize, PathMatch, usize);

fn entries() -> impl Strategy<Value = Vec<Entry>> {
    let path_match = prop_oneof![Just(PathMatch::Exact), Just(PathMatch::Prefix)];
    vec((0..HOSTS.len(), path_match, 0..PATHS.len()), 0..20)
}

fn table(entries: &[Entry]) -> RoutingTable {
    let routes = |host: usize| {
        let mine = entries.iter().enumerate().filter(move |(_, entry)| entry.0 == host);
        let route = |(number, (_, path_match, path)): (usize, &Entry)| {
            (*path_match, PATHS[*path].into(), Arc::new(open_route(&number.to_string())))
        };
        mine.map(route).collect::<Vec<_>>()
    };
    let hosts = (0..HOSTS.len()).filter(|host| entries.iter().any(|entry| entry.0 == *host));
    let hosts = hosts.map(|host| HostRoutes {
        host: HostPattern::parse(HOSTS[host]).unwrap(),
        owner: "shop".into(),
        paths: routes(host),
    });
    RoutingTable::new(hosts.collect(), None)
}

/// The number of the route that serves a request: the most specific host that has any route, Exact
/// before Prefix, the longest path, the first of equal ones.
fn model(entries: &[Entry], host: &Host, path: &str) -> Option<usize> {
    let rank = |at: usize| match HostPattern::parse(HOSTS[at]).unwrap() {
        pattern if !pattern.matches(host) => None,
        HostPattern::Exact(_) => Some(2),
        HostPattern::Wildcard(_) => Some(1),
        HostPattern::Any => Some(0),
    };
    let best = entries.iter().filter_map(|entry| rank(entry.0)).max()?;
    let mine = entries.iter().enumerate().filter(|(_, entry)| rank(entry.0) == Some(best));
    let serving = mine.filter(|(_, (_, path_match, at))| match path_match {
        PathMatch::Exact => PATHS[*at] == path,
        PathMatch::Prefix => is_within(path, PATHS[*at]),
    });
    let order = |(number, (_, path_match, at)): &(usize, &Entry)| {
        let length = PATHS[*at].trim_end_matches('/').len();
        (*path_match == PathMatch::Exact, length, std::cmp::Reverse(*number))
    };
    serving.max_by_key(order).map(|(number, _)| number)
}

proptest! {
    #[test]
    fn the_table_finds_what_trying_every_route_finds(
        entries in entries(),
        host in select(vec!["api.example.com", "www.example.com", "a.example.com", "example.com",
            "a.b.example.com", "other.org"]),
        path in select(vec!["/", "/v1", "/v1/", "/v1/users", "/v1/users/", "/v1/users/7", "/v10",
            "/v1/a", "/v1/a/b/c", "/x/y", "/V1", "/none"]),
    ) {
        let host = Host::parse(host).unwrap();
        let path = canonical(path).unwrap();
        let table = table(&entries);
        let found = table.find(&host, &path).map(|route| route.name.path.to_string());
        let expected = model(&entries, &host, &path).map(|number| number.to_string());
        prop_assert_eq!(found, expected);
    }
}

#[test]
fn a_default_backend_serves_nothing_of_a_host_that_another_namespace_owns() {
    let route = || Arc::new(open_route("default"));
    let hosts = vec![HostRoutes {
        host: HostPattern::parse("api.example.com").unwrap(),
        owner: "shop".into(),
        paths: vec![],
    }];
    let table = RoutingTable::new(hosts, Some(("other".into(), route())));
    assert!(table.find(&Host::parse("api.example.com").unwrap(), "/").is_none());
    assert!(table.find(&Host::parse("www.example.com").unwrap(), "/").is_some());
}

#[test]
fn a_host_that_is_given_twice_keeps_the_paths_of_both() {
    let entry = |path: &str| HostRoutes {
        host: HostPattern::Any,
        owner: "shop".into(),
        paths: vec![(PathMatch::Exact, path.into(), Arc::new(open_route(path)))],
    };
    let table = RoutingTable::new(vec![entry("/a"), entry("/b")], None);
    let host = Host::parse("example.com").unwrap();
    assert!(table.find(&host, "/a").is_some() && table.find(&host, "/b").is_some());
}
