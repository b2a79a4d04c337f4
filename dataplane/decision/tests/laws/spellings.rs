//! However a path is escaped, it is one path: for routes, for policies and for the upstream.

use std::sync::Arc;

use decision::{
    canonical::{CanonicalRequest, Connection, RequestLimits, Scheme},
    certificate::Shown,
    client::{AddressSource, Remote},
    host::{Host, HostPattern},
    path::{canonical, is_within, segments, written},
    policy::Narrowing,
    route::{HostRoutes, PathMatch, RoutingTable},
};
use http::Request;
use proptest::{collection::vec, prelude::*, sample::select};

use crate::world::open_route;

/// Paths of manifests, with all that a path may hold unescaped.
const PATHS: [&str; 8] =
    ["/", "/@admin", "/api:v1", "/api:v1/b.c-d_e~f", "/bob+x", "/!$&'()*,=", "/a b/", "/a%b?#/é"];

/// How a character is written: as it is, or escaped with digits in upper or in lower case.
#[derive(Clone, Copy, Debug)]
enum Spelling {
    Plain,
    Upper,
    Lower,
}

fn spellings() -> impl Strategy<Value = Vec<Spelling>> {
    vec(select(vec![Spelling::Plain, Spelling::Upper, Spelling::Lower]), 40)
}

/// A pattern of the paths that a request can have without escapes.
fn plain() -> &'static str {
    "/[a-zA-Z0-9._~!$&'()*+,;=:@/-]{0,16}"
}

/// Escapes the bytes that are told to be escaped, and those that must be.
fn spelled(path: &str, spellings: &[Spelling]) -> String {
    let spelling = |at: usize| spellings.get(at).copied().unwrap_or(Spelling::Plain);
    let byte = |(at, byte): (usize, u8)| match spelling(at) {
        _ if byte == b'/' => "/".to_owned(),
        Spelling::Plain if byte.is_ascii_graphic() && !b"%?#\"".contains(&byte) => {
            char::from(byte).to_string()
        }
        Spelling::Plain | Spelling::Upper => format!("%{byte:02X}"),
        Spelling::Lower => format!("%{byte:02x}"),
    };
    path.bytes().enumerate().map(byte).collect()
}

fn read(target: &str) -> Option<CanonicalRequest> {
    let request = Request::builder().uri(target).header("host", "example.com").body(()).unwrap();
    let peer = ([203, 0, 113, 9], 4711).into();
    let connection = Connection {
        remote: Remote::Socket(peer),
        scheme: Scheme::Https,
        sni: None,
        certificate: Shown::NotAsked,
    };
    let (source, limits) = (AddressSource::default(), RequestLimits::default());
    CanonicalRequest::read(request.into_parts().0, connection, &source, limits).ok()
}

/// Routes for all paths of manifests, each called by its path.
fn table(spellings: &[Spelling]) -> RoutingTable {
    let route = |path: &&str| {
        let place = written(&spelled(path, spellings)).unwrap().into_owned();
        (PathMatch::Prefix, place.into(), Arc::new(open_route(path)))
    };
    let paths = PATHS.iter().map(route).collect();
    let host = HostRoutes { host: HostPattern::Any, owner: "shop".into(), paths };
    RoutingTable::new(vec![host], None)
}

proptest! {
    #[test]
    fn every_spelling_of_a_path_has_its_canonical_form_or_is_refused(
        path in plain(), spellings in spellings(),
    ) {
        let one = canonical(&path);
        let other = spelled(&path, &spellings);
        match (one, canonical(&other)) {
            // Servers differ in what an escaped `;` is, so it goes on as it came.
            (Ok(one), Ok(other)) => {
                prop_assert_eq!(&one, &other.replace("%3B", ";"));
                prop_assert!(segments(&one).eq(segments(&other)), "{} {}", one, other);
            }
            (Err(_), Err(_)) => {}
            (one, other) => prop_assert!(false, "{:?} {:?}", one, other),
        }
    }

    #[test]
    fn an_escaped_slash_is_refused_wherever_it_stands(
        before in plain(), slash in select(vec!["%2F", "%2f"]), after in plain(),
    ) {
        let escaped = [&before, slash, after.trim_start_matches('/')].concat();
        prop_assert!(canonical(&escaped).is_err(), "{}", escaped);
    }

    #[test]
    fn every_spelling_of_a_request_finds_every_spelling_of_its_route_and_narrowing(
        at in 0..PATHS.len(), below in select(vec!["", "/x"]),
        request in spellings(), manifest in spellings(),
    ) {
        let path = format!("{}{below}", PATHS[at].trim_end_matches('/'));
        let path = if path.is_empty() { "/" } else { &path };
        let request = read(&spelled(path, &request)).unwrap();
        let host = Host::parse("example.com").unwrap();
        let route = table(&manifest).find(&host, request.path()).map(|route| route.name.path.clone());
        prop_assert_eq!(route.as_deref(), Some(PATHS[at]));
        let prefix = written(&spelled(PATHS[at], &manifest)).unwrap().into_owned();
        prop_assert!(is_within(request.path(), &prefix));
        let narrowing = Narrowing { hosts: Box::default(), paths: Box::new([prefix.into()]) };
        prop_assert!(narrowing.matches(&request));
        let plain = read(&spelled(path, &[])).unwrap();
        prop_assert_eq!(&plain.line().target, &request.line().target);
    }
}
