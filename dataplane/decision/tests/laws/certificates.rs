//! Client certificates: who vouches for them, until when, and on which connections they count.

use std::{net::SocketAddr, rc::Rc, sync::Arc};

use decision::{
    canonical::{CanonicalRequest, Connection, RequestLimits, Scheme},
    certificate::{ClientCertificate, LONGEST_CHAIN, Shown},
    check::{
        Check, Demand,
        certificate::{CertificateCheck, NamePattern},
    },
    client::{AddressSource, Remote},
    code::Code,
    decide::{Decision, Revoked, decide, decide_again},
    denial::Denial,
    disclosure::OnDeny,
    host::{Host, HostPattern},
    lack::Lack,
    policy::{Alternative, Attachment, Enforcement, Narrowing, Policy, Rule, Section},
    protection::{Posture, Protection},
    refs::{Kind, Site},
    route::{HostRoutes, PathMatch, Route, RoutingTable},
    snapshot::Snapshot,
    standing::Standing,
    time::Timestamp,
    token::NoTokens,
    transport::Authorities,
    uncovered::{OpenBy, Uncovered},
};
use http::Request;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType, date_time_ymd,
};
use rustls_pki_types::CertificateDer;

use crate::world::{denial, lost, open_route, resource};

/// 2030-01-01T00:00:00Z.
const END: Timestamp = Timestamp(1_893_456_000);
const YEAR: i64 = 365 * 86_400;

/// Years, from the first of January to the first of January.
type Years = (i32, i32);

/// An authority that others may have a certificate from.
struct Signer {
    der: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

fn parameters(name: &str, (from, to): Years) -> CertificateParams {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name.push(DnType::CommonName, name);
    parameters.not_before = date_time_ymd(from, 1, 1);
    parameters.not_after = date_time_ymd(to, 1, 1);
    parameters
}

fn signer(name: &str, years: Years, above: Option<&Signer>) -> Signer {
    let mut parameters = parameters(name, years);
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let made = match above {
        Some(above) => parameters.signed_by(&key, &above.issuer),
        None => parameters.self_signed(&key),
    };
    Signer { der: made.unwrap().der().clone(), issuer: Issuer::new(parameters, key) }
}

fn root() -> Signer {
    signer("root", (2020, 2040), None)
}

/// The certificate of a client.
fn leaf(years: Years, signer: &Signer) -> CertificateDer<'static> {
    let mut parameters = parameters("client", years);
    let name = "spiffe://acme/web".try_into().unwrap();
    parameters.subject_alt_names = vec![SanType::URI(name)];
    let key = KeyPair::generate().unwrap();
    parameters.signed_by(&key, &signer.issuer).unwrap().der().clone()
}

fn shown(chain: &[&CertificateDer<'static>]) -> Shown {
    Shown::Certificate(Rc::new(ClientCertificate::new(chain.iter().map(|one| (*one).clone()))))
}

fn authorities(name: &str, signers: &[&Signer]) -> CertificateCheck {
    let secret = resource(Kind::Secret, name);
    let certificates = signers.iter().map(|signer| signer.der.as_ref().into());
    let authorities = Ok(Arc::new(Authorities::new(secret.clone(), certificates)));
    CertificateCheck { secret, authorities, names: Box::default() }
}

fn policy(check: CertificateCheck, section: Section, enforcement: Enforcement) -> Policy {
    let resource = resource(Kind::AccessPolicy, "partners");
    let field = "spec.require[0].clientCertificate".into();
    let site = Arc::new(Site { policy: resource.clone(), rule: "partner".into(), field });
    let check = Check { site: Arc::clone(&site), demand: Demand::Certificate(check) };
    let alternatives = Box::new([Alternative::new(site, vec![check])]);
    let rule = Rule { name: "partner".into(), enforcement, alternatives, hint: None };
    let rules: Box<[Rule]> = Box::new([rule]);
    let (deny, require) = match section {
        Section::Deny => (rules, Box::default()),
        Section::Require => (Box::default(), rules),
    };
    Policy { resource, deny, require, on_deny: OnDeny::default() }
}

fn protected(policy: Policy, hosts: &[&str]) -> Posture {
    let hosts: Box<[_]> = hosts.iter().map(|host| HostPattern::parse(host).unwrap()).collect();
    let narrowing = Narrowing { hosts, paths: Box::default() };
    let attachment = Attachment { narrowings: [narrowing].into(), policy: Ok(policy.into()) };
    let uncovered = Uncovered::Open(OpenBy::Flag);
    Posture::Enforce(Protection::new(vec![attachment], Vec::new(), uncovered).into())
}

fn route(posture: Posture) -> Arc<Route> {
    Arc::new(Route { posture, ..open_route("/") })
}

fn hosts(all: Vec<(&str, Posture)>) -> Vec<HostRoutes> {
    let routes = all.into_iter().map(|(host, posture)| HostRoutes {
        host: HostPattern::parse(host).unwrap(),
        owner: "shop".into(),
        paths: vec![(PathMatch::Prefix, "/".into(), route(posture))],
    });
    routes.collect()
}

fn snapshot(all: Vec<(&str, Posture)>) -> Snapshot {
    Snapshot { routes: RoutingTable::new(hosts(all), None), ..Snapshot::default() }
}

/// One route that demands what `check` does.
fn demanding(check: CertificateCheck) -> Snapshot {
    let policy = policy(check, Section::Require, Enforcement::Enforce);
    snapshot(vec![("a.test", protected(policy, &[]))])
}

fn request(host: &str, sni: Option<&str>, scheme: Scheme, certificate: Shown) -> CanonicalRequest {
    let parts = Request::get("/").header("host", host).body(()).unwrap().into_parts().0;
    let remote = Remote::Socket(SocketAddr::from(([203, 0, 113, 9], 4711)));
    let sni = sni.map(|sni| Host::parse(sni).unwrap());
    let connection = Connection { remote, scheme, sni, certificate };
    let (source, limits) = (AddressSource::default(), RequestLimits::default());
    CanonicalRequest::read(parts, connection, &source, limits).unwrap()
}

fn decided(snapshot: &Snapshot, certificate: &Shown, now: Timestamp) -> Decision {
    let request = request("a.test", Some("a.test"), Scheme::Https, certificate.clone());
    decide(snapshot, request, &NoTokens, now)
}

/// How a request for `a.test` on a connection of its own is refused, if it is.
fn code(snapshot: &Snapshot, certificate: &Shown, now: Timestamp) -> Option<Code> {
    denial(&decided(snapshot, certificate, now)).map(Denial::code)
}

#[test]
fn a_certificate_counts_while_it_and_all_that_vouch_for_it_do() {
    let (long, short) = ((2020, 2040), (2029, 2030));
    for (of_root, of_between, of_leaf) in
        [(long, long, short), (long, short, long), (short, long, long)]
    {
        let root = signer("root", of_root, None);
        let between = signer("between", of_between, Some(&root));
        let leaf = leaf(of_leaf, &between);
        let snapshot = demanding(authorities("ca", &[&root]));
        let certificate = shown(&[&leaf, &between.der]);
        let at = |seconds: i64| code(&snapshot, &certificate, Timestamp(END.0 + seconds));
        assert_eq!(at(0), None);
        assert_eq!(at(60), None);
        assert_eq!(at(61), Some(Code::CertificateExpired));
        assert_eq!(at(-YEAR - 60), None);
        assert_eq!(at(-YEAR - 61), Some(Code::CertificateExpired));
        // Who sees it for the first time when it is over says the same.
        let late = shown(&[&leaf, &between.der]);
        let later = code(&snapshot, &late, Timestamp(END.0 + 86_400));
        assert!(
            matches!(later, Some(Code::CertificateExpired | Code::CertificateUntrusted)),
            "{later:?}"
        );
    }
}

#[test]
fn an_authority_that_was_renewed_with_its_key_counts_as_long_as_the_newer_one() {
    let old = signer("root", (2020, 2025), None);
    let leaf = leaf((2024, 2040), &old);
    let mut renewed = parameters("root", (2025, 2040));
    renewed.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let renewed = renewed.self_signed(old.issuer.key()).unwrap().der().clone();
    let secret = resource(Kind::Secret, "ca");
    for (certificates, expected) in [
        (vec![old.der.as_ref().into()], Some(Code::CertificateExpired)),
        (vec![old.der.as_ref().into(), renewed.as_ref().into()], None),
        (vec![renewed.as_ref().into(), old.der.as_ref().into()], None),
    ] {
        let authorities = Ok(Arc::new(Authorities::new(secret.clone(), certificates)));
        let secret = secret.clone();
        let snapshot = demanding(CertificateCheck { secret, authorities, names: Box::default() });
        assert_eq!(code(&snapshot, &shown(&[&leaf]), END), expected);
    }
}

#[test]
fn what_one_authority_says_of_a_connection_is_no_word_of_another() {
    let (root, other) = (root(), root());
    let leaf = leaf((2029, 2031), &root);
    let certificate = shown(&[&leaf]);
    let [ours, theirs] = [&root, &other].map(|signer| demanding(authorities("ca", &[signer])));
    for _ in 0..2 {
        assert_eq!(code(&ours, &certificate, END), None);
        // The Secret has the same name and another content: a rotation counts at once.
        assert_eq!(code(&theirs, &certificate, END), Some(Code::CertificateUntrusted));
    }
    let both = demanding(authorities("ca", &[&other, &root]));
    assert_eq!(code(&both, &certificate, END), None);
    // More sets than are remembered change nothing.
    for _ in 0..20 {
        let set = demanding(authorities("ca", &[&signer("root", (2020, 2040), None)]));
        assert_eq!(code(&set, &certificate, END), Some(Code::CertificateUntrusted));
    }
    assert_eq!(code(&ours, &certificate, END), None);
    assert_eq!(code(&theirs, &certificate, END), Some(Code::CertificateUntrusted));
}

#[test]
fn what_no_authority_vouches_for_is_untrusted() {
    let root = root();
    let snapshot = demanding(authorities("ca", &[&root]));
    let between = signer("between", (2020, 2040), Some(&root));
    let indirect = leaf((2029, 2031), &between);
    let plain = signer("client", (2029, 2031), None);
    let chain = |others: usize| {
        let mut all = vec![&indirect];
        all.extend(vec![&between.der; others]);
        shown(&all)
    };
    assert_eq!(code(&snapshot, &chain(1), END), None);
    assert_eq!(code(&snapshot, &chain(LONGEST_CHAIN), END), None);
    for untrusted in [
        chain(0),
        chain(LONGEST_CHAIN + 1),
        shown(&[&plain.der]),
        shown(&[&root.der]),
        shown(&[&between.der]),
        shown(&[]),
        shown(&[&CertificateDer::from(b"no certificate".to_vec())]),
    ] {
        let code = code(&snapshot, &untrusted, END);
        assert_eq!(code, Some(Code::CertificateUntrusted), "{untrusted:?}");
    }
    assert_eq!(code(&snapshot, &Shown::Nothing, END), Some(Code::CertificateMissing));
}

#[test]
fn a_name_that_is_not_asked_for_does_not_count() {
    let root = root();
    let leaf = leaf((2029, 2031), &root);
    for (pattern, expected) in
        [("spiffe://acme/*", None), ("spiffe://acme/api", Some(Code::CertificateNameMismatch))]
    {
        let names = [NamePattern::uri(pattern).unwrap()].into();
        let check = CertificateCheck { names, ..authorities("ca", &[&root]) };
        assert_eq!(code(&demanding(check), &shown(&[&leaf]), END), expected);
    }
}

#[test]
fn a_deny_rule_is_about_certificates_that_an_authority_vouches_for() {
    let (root, other) = (root(), root());
    let [of_root, of_other] = [&root, &other].map(|signer| leaf((2029, 2031), signer));
    let deny = |check| {
        let policy = policy(check, Section::Deny, Enforcement::Enforce);
        snapshot(vec![("a.test", protected(policy, &[]))])
    };
    let known = deny(authorities("ca", &[&root]));
    assert_eq!(code(&known, &shown(&[&of_root]), END), Some(Code::RuleMatched));
    assert_eq!(code(&known, &shown(&[&of_other]), END), None);
    assert_eq!(code(&known, &Shown::Nothing, END), None);
    let lack: Lack = lost();
    let unknown = deny(CertificateCheck { authorities: Err(lack), ..authorities("ca", &[]) });
    let refused = code(&unknown, &shown(&[&of_other]), END);
    assert_eq!(refused, Some(Code::CredentialStoreUnavailable));
}

#[test]
fn a_rule_in_shadow_asks_and_only_counts() {
    let root = root();
    let policy = policy(authorities("ca", &[&root]), Section::Require, Enforcement::Shadow);
    let snapshot = snapshot(vec![("a.test", protected(policy, &[]))]);
    let host = Host::parse("a.test").unwrap();
    assert_eq!(snapshot.routes.certificate_authorities(Some(&host)).len(), 1);
    let Decision::Forward(cleared) = decided(&snapshot, &Shown::Nothing, END) else {
        panic!("a rule in shadow never blocks");
    };
    let codes: Vec<_> = cleared.would_deny().iter().map(|failure| failure.reason.code()).collect();
    assert_eq!(codes, [Code::CertificateMissing]);
}

#[test]
fn an_exchange_ends_with_its_certificate_and_with_its_authority() {
    let (root, other) = (root(), root());
    let leaf = leaf((2029, 2030), &root);
    let snapshot = demanding(authorities("ca", &[&root]));
    let again = |snapshot: &Snapshot, seconds: i64| {
        let start = Timestamp(END.0 - 100);
        let Decision::Forward(cleared) =
            decided(&demanding(authorities("ca", &[&root])), &shown(&[&leaf]), start)
        else {
            panic!("it is admitted");
        };
        let (mut standing, _) = Standing::split(cleared.into_parts().0, start);
        let first = decide_again(snapshot, &mut standing, &NoTokens, start);
        let now = Timestamp(END.0 + seconds);
        match first.and_then(|()| decide_again(snapshot, &mut standing, &NoTokens, now)) {
            Ok(()) => None,
            Err(Revoked::Denied(denial)) => Some(denial.code()),
            Err(Revoked::NotFound) => Some(Code::RouteNotFound),
        }
    };
    assert_eq!(again(&snapshot, 60), None);
    assert_eq!(again(&snapshot, 61), Some(Code::CertificateExpired));
    let rotated = demanding(authorities("ca", &[&other]));
    assert_eq!(again(&rotated, 0), Some(Code::CertificateUntrusted));
}

#[test]
fn a_connection_serves_only_hosts_that_ask_for_the_same_certificates() {
    let root = root();
    let asking = |name, hosts: &[&str]| {
        let check = authorities(name, &[&root]);
        protected(policy(check, Section::Require, Enforcement::Enforce), hosts)
    };
    let open = || Posture::Open(OpenBy::Flag);
    let snapshot = snapshot(vec![
        ("a.test", asking("one", &[])),
        ("same.test", asking("one", &[])),
        ("other.test", asking("two", &[])),
        ("open.test", open()),
        ("*.wild.test", asking("one", &["api.wild.test"])),
    ]);
    let leaf = leaf((2029, 2031), &root);
    let code = |host, sni, scheme, certificate| {
        let request = request(host, sni, scheme, certificate);
        denial(&decide(&snapshot, request, &NoTokens, END)).map(Denial::code)
    };
    let certificate = || shown(&[&leaf]);
    for (host, sni, expected) in [
        ("a.test", Some("a.test"), None),
        ("same.test", Some("a.test"), None),
        ("api.wild.test", Some("a.test"), None),
        ("other.test", Some("a.test"), Some(Code::MisdirectedRequest)),
        ("open.test", Some("a.test"), Some(Code::MisdirectedRequest)),
        ("a.test", Some("open.test"), Some(Code::MisdirectedRequest)),
        ("a.test", Some("www.wild.test"), Some(Code::MisdirectedRequest)),
        ("a.test", Some("strange.test"), Some(Code::MisdirectedRequest)),
        ("a.test", None, Some(Code::MisdirectedRequest)),
    ] {
        assert_eq!(code(host, sni, Scheme::Https, certificate()), expected, "{host} on {sni:?}");
    }
    // The host asks now, and did not when the connection was opened.
    let old = code("a.test", Some("a.test"), Scheme::Https, Shown::NotAsked);
    assert_eq!(old, Some(Code::MisdirectedRequest));
    let open = code("open.test", Some("open.test"), Scheme::Https, Shown::NotAsked);
    assert_eq!(open, None);
    let wild = code("www.wild.test", Some("www.wild.test"), Scheme::Https, Shown::NotAsked);
    assert_eq!(wild, None);
    let plain = code("a.test", None, Scheme::Http, Shown::NotAsked);
    assert_eq!(plain, Some(Code::CertificateMissing));
}

#[test]
fn the_default_backend_asks_for_whatever_host_it_serves() {
    let root = root();
    let policy = policy(authorities("ca", &[&root]), Section::Require, Enforcement::Enforce);
    let default = Some(("shop".into(), route(protected(policy, &[]))));
    let mut others = hosts(vec![("a.test", Posture::Open(OpenBy::Flag))]);
    others.push(HostRoutes {
        host: HostPattern::parse("theirs.test").unwrap(),
        owner: "blog".into(),
        paths: Vec::new(),
    });
    let routes = RoutingTable::new(others, default);
    let asked = |host: Option<&str>| {
        let host = host.map(|host| Host::parse(host).unwrap());
        routes.certificate_authorities(host.as_ref()).len()
    };
    assert_eq!([asked(None), asked(Some("a.test")), asked(Some("strange.test"))], [1, 1, 1]);
    assert_eq!(asked(Some("theirs.test")), 0);
}
