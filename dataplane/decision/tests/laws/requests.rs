//! The one reading of a request: what is refused, what is taken away, and what is left.

use std::{net::SocketAddr, sync::Arc};

use decision::{
    address::parse_network,
    canonical::{CanonicalRequest, Connection, RequestLimits, Scheme},
    certificate::Shown,
    client::{AddressSource, Remote},
    code::Code,
    decide::{Decision, decide},
    denial::{Denial, DenialReason},
    disclosure::Disclosure,
    host::{Host, HostPattern},
    lack::Lack,
    protection::{Posture, Protection, Required},
    refs::{FieldRef, Kind},
    route::{HostRoutes, PathMatch, Route, RoutingTable},
    snapshot::Snapshot,
    token::NoTokens,
    uncovered::{OpenBy, Uncovered},
};
use http::{HeaderValue, Request, Version, request::Builder};

use crate::world::{
    Asked, NOW, PolicyText, RuleText, attachment, denial, open_route, resource, told,
};

const TRUSTED: &str = "192.0.2.1";
const CLIENT: &str = "203.0.113.9";

fn source() -> AddressSource {
    AddressSource {
        header: Some(http::HeaderName::from_static("x-forwarded-for")),
        trusted_proxies: [parse_network("192.0.2.0/24").unwrap()].into_iter().collect(),
        ..AddressSource::default()
    }
}

fn connection(peer: &str, sni: Option<&str>) -> Connection {
    let peer = SocketAddr::new(peer.parse().unwrap(), 4711);
    let scheme = if sni.is_some() { Scheme::Https } else { Scheme::Http };
    Connection {
        remote: Remote::Socket(peer),
        scheme,
        sni: sni.map(|sni| Host::parse(sni).unwrap()),
        certificate: Shown::NotAsked,
    }
}

fn read_from(peer: &str, request: Builder) -> Result<CanonicalRequest, DenialReason> {
    let parts = request.body(()).unwrap().into_parts().0;
    let limits = RequestLimits { uri_bytes: 64, header_count: 8 };
    let read = CanonicalRequest::read(parts, connection(peer, None), &source(), limits);
    read.map_err(|malformed| malformed.reason)
}

fn get(target: &str) -> Builder {
    Request::builder().uri(target).header("host", "example.com")
}

/// The name of the broken rule, or else the code.
fn broken(request: Builder) -> String {
    match read_from(CLIENT, request) {
        Ok(_) => "none".into(),
        Err(DenialReason::RequestMalformed { rule }) => rule.into(),
        Err(reason) => reason.code().to_string(),
    }
}

/// The names of the headers that are left.
fn left(peer: &str, headers: &[(&'static str, &str)]) -> Vec<String> {
    let add =
        |request: Builder, (name, value): &(&'static str, &str)| request.header(*name, *value);
    let request = read_from(peer, headers.iter().fold(get("/"), add)).unwrap();
    request.headers().keys().map(ToString::to_string).collect()
}

#[test]
fn a_request_that_can_be_read_in_two_ways_is_refused_by_the_name_of_the_rule() {
    assert_eq!(broken(get("/a")), "none");
    assert_eq!(broken(Request::builder().uri("/")), "missing-host");
    assert_eq!(broken(get("/").header("host", "example.com")), "duplicate-host");
    assert_eq!(broken(get("http://other.com/")), "host-disagrees-with-target");
    assert_eq!(broken(get("http://EXAMPLE.com:80/")), "none");
    assert_eq!(broken(get("HTTPS://example.com/")), "none");
    assert_eq!(broken(get("ftp://example.com/")), "target-scheme");
    assert_eq!(broken(Request::builder().uri("/").header("host", "user@example.com")), "host");
    assert_eq!(broken(get("/a%2fb")), "encoded-slash");
    assert_eq!(broken(get("/a/../../b")), "dot-segment");
    assert_eq!(broken(get("/").method("TRACE")), "method");
    assert_eq!(broken(get("/").method("delete")), "method");
    assert_eq!(broken(get("/").method("Get")), "method");
    let twice = |name: &'static str| get("/").header(name, "a").header(name, "a");
    assert_eq!(broken(twice("authorization")), "duplicate-authorization");
    assert_eq!(broken(twice("x-api-key")), "duplicate-x-api-key");
}

#[test]
fn a_value_of_http_2_neither_begins_nor_ends_with_white_space() {
    let with = |version, value: &str| get("/").version(version).header("x-team", value);
    for padded in [" a", "\ta", "a ", "a\t", " "] {
        assert_eq!(broken(with(Version::HTTP_2, padded)), "padded-value", "{padded:?}");
    }
    for value in ["", "a", "a b"] {
        assert_eq!(broken(with(Version::HTTP_2, value)), "none", "{value:?}");
    }
    // There it is no part of the value, and is gone before.
    assert_eq!(broken(with(Version::HTTP_11, " a ")), "none");
}

#[test]
fn limits_and_framing_have_codes_of_their_own() {
    let long = format!("/{}", "a".repeat(64));
    assert_eq!(broken(get(&long)), "UriTooLong");
    let many = (0..8).fold(get("/"), |request, at| request.header(format!("x-{at}"), "1"));
    assert_eq!(broken(many), "HeadersTooLarge");
    let encoded = |encoding: &str| get("/").header("transfer-encoding", encoding);
    assert_eq!(broken(encoded("Chunked")), "none");
    assert_eq!(broken(encoded("gzip, chunked")), "EncodingNotSupported");
    assert_eq!(
        broken(encoded("chunked").header("transfer-encoding", "chunked")),
        "EncodingNotSupported"
    );
}

#[test]
fn what_is_judged_and_forwarded_is_the_canonical_target() {
    let request = read_from(CLIENT, get("/a/./b//%7ec/../d?x=/../%2f")).unwrap();
    assert_eq!(request.line().target.as_str(), "/a/b/d?x=/../%2f");
    assert_eq!(request.path(), "/a/b/d");
    for (sent, read) in [("http://example.com", "/"), ("http://example.com?x", "/?x")] {
        assert_eq!(read_from(CLIENT, get(sent)).unwrap().line().target.as_str(), read);
    }
}

#[test]
fn a_fragment_is_no_part_of_what_is_judged_and_forwarded() {
    for (sent, read) in [("/#/../@admin", "/"), ("/@admin#/x", "/@admin"), ("/a?b#/../c", "/a?b")] {
        assert_eq!(read_from(CLIENT, get(sent)).unwrap().line().target.as_str(), read, "{sent}");
    }
}

#[test]
fn headers_that_end_at_this_hop_are_taken_away() {
    let headers = [
        ("connection", "close, x-secret"),
        ("x-secret", "1"),
        ("keep-alive", "1"),
        ("te", "trailers"),
        ("upgrade", "h2c"),
        ("x-kept", "1"),
    ];
    assert_eq!(left(CLIENT, &headers), ["x-kept"]);
}

#[test]
fn nobody_but_a_trusted_proxy_says_who_the_client_is_in_any_spelling() {
    let headers = [
        ("x-forwarded-for", "198.51.100.7"),
        ("x-forwarded-proto", "https"),
        ("x_forwarded_host", "a"),
        ("forwarded", "for=198.51.100.7"),
        ("x-real-ip", "198.51.100.7"),
        ("whygate-user", "root"),
    ];
    assert_eq!(left(CLIENT, &headers), Vec::<String>::new());
    let mut believed = left(TRUSTED, &headers);
    believed.sort();
    assert_eq!(believed, ["forwarded", "x-forwarded-for", "x-forwarded-proto", "x-real-ip"]);
}

#[test]
fn nobody_names_another_target_than_the_one_that_is_judged_or_a_proxy() {
    let headers = [
        ("x-original-url", "/admin"),
        ("X_Original_URI", "/admin"),
        ("x-rewrite-url", "/"),
        ("Proxy", "http://evil.test"),
    ];
    assert_eq!(left(CLIENT, &headers), Vec::<String>::new());
    assert_eq!(left(TRUSTED, &headers), Vec::<String>::new());
}

fn snapshot(posture: Posture, redirect_to_https: bool) -> Snapshot {
    let route = |posture| Arc::new(Route { posture, redirect_to_https, ..open_route("/") });
    let host = |host: &str, owner: &str, posture| HostRoutes {
        host: HostPattern::parse(host).unwrap(),
        owner: owner.into(),
        paths: vec![(PathMatch::Prefix, "/".into(), route(posture))],
    };
    let hosts = vec![
        host("example.com", "shop", posture),
        host("shop.example.com", "shop", Posture::Open(OpenBy::Flag)),
        host("other.com", "other", Posture::Open(OpenBy::Flag)),
    ];
    Snapshot { routes: RoutingTable::new(hosts, None), ..Snapshot::default() }
}

fn decided(snapshot: &Snapshot, sni: Option<&str>) -> Decision {
    let parts = get("/a").body(()).unwrap().into_parts().0;
    let connection = connection(CLIENT, sni);
    let request =
        CanonicalRequest::read(parts, connection, &source(), RequestLimits::default()).unwrap();
    decide(snapshot, request, &NoTokens, NOW)
}

#[test]
fn a_connection_serves_the_hosts_of_one_namespace() {
    let snapshot = snapshot(Posture::Open(OpenBy::Flag), false);
    let code = |sni| denial(&decided(&snapshot, sni)).map(Denial::code);
    assert_eq!(code(Some("example.com")), None);
    assert_eq!(code(Some("shop.example.com")), None);
    assert_eq!(code(Some("other.com")), Some(Code::MisdirectedRequest));
}

#[test]
fn plain_text_is_redirected_before_it_is_judged_and_tls_is_not() {
    let snapshot = snapshot(Posture::Open(OpenBy::Flag), true);
    assert!(matches!(decided(&snapshot, None), Decision::Redirect(..)));
    assert!(matches!(decided(&snapshot, Some("example.com")), Decision::Forward(_)));
}

fn office(shadow: bool, path: Option<&'static str>, disclosure: Disclosure) -> PolicyText {
    let everyone = Asked::Networks(vec![4], false);
    let rule = RuleText { name: "all".into(), shadow, alternatives: vec![vec![everyone]] };
    let (name, deny, require) = ("office".into(), Vec::new(), vec![rule]);
    PolicyText { name, deny, require, path, invalid: false, disclosure }
}

fn protected(policies: &[PolicyText]) -> Decision {
    let required = Required {
        policy: resource(Kind::AccessPolicy, "office"),
        field: FieldRef::new(resource(Kind::Ingress, "web"), "metadata.annotations"),
        lack: Arc::new(Lack { problem: "it does not".into(), remedy: "Cover it.".into() }),
    };
    let attachments = policies.iter().map(attachment).collect();
    let uncovered = Uncovered::Open(OpenBy::Flag);
    let protection = Protection::new(attachments, vec![required], uncovered);
    decided(&snapshot(Posture::Enforce(protection.into()), false), None)
}

#[test]
fn a_demanded_policy_must_be_there_enforced_and_about_the_request() {
    let code = |policies: &[PolicyText]| denial(&protected(policies)).map(Denial::code);
    let missing = Some(Code::PolicyMissing);
    assert_eq!(code(&[]), missing);
    assert_eq!(code(&[office(true, None, Disclosure::Code)]), missing);
    assert_eq!(code(&[office(false, Some("/b"), Disclosure::Code)]), missing);
    let other = PolicyText { name: "other".into(), ..office(false, None, Disclosure::Code) };
    assert_eq!(code(&[other]), missing);
    assert_eq!(code(&[office(false, Some("/a"), Disclosure::Code)]), None);
}

#[test]
fn of_several_policies_the_strictest_says_how_much_is_told() {
    let invalid = PolicyText {
        name: "invalid".into(),
        invalid: true,
        ..office(false, None, Disclosure::Reason)
    };
    let disclosure = |other| {
        let decision = protected(&[invalid.clone(), office(false, None, other)]);
        denial(&decision).map(|denial| denial.disclosure)
    };
    assert_eq!(disclosure(Disclosure::None), Some(Disclosure::None));
    assert_eq!(disclosure(Disclosure::Reason), Some(Disclosure::Reason));
}

#[test]
fn a_request_for_nothing_that_is_published_is_not_found() {
    let decision = decided(&Snapshot::default(), None);
    assert!(matches!(decision, Decision::NotFound(_)), "{}", told(&decision));
}

#[test]
fn a_header_that_is_no_text_is_refused_where_it_counts() {
    let odd = HeaderValue::from_bytes(b"ex\xffample.com").unwrap();
    let request = Request::builder().uri("/").header("host", odd);
    assert_eq!(broken(request), "host");
}
