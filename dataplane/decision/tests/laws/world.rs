//! The small world that the laws are tried in: few addresses, keys, tokens and policies, so that
//! chance lets them meet.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use decision::{
    address::parse_network,
    canonical::{CanonicalRequest, Connection, RequestLimits, Scheme},
    certificate::Shown,
    check::{
        Check, Demand,
        address::AddressCheck,
        method::MethodCheck,
        subscription::{AcceptedPlan, SubscriptionCheck},
        token::TokenCheck,
    },
    client::{AddressSource, Remote},
    decide::{Decision, decide},
    denial::{Denial, DenialReason},
    disclosure::{Disclosure, OnDeny},
    host::HostPattern,
    lack::Lack,
    policy::{Alternative, Attachment, Enforcement, Narrowing, Policy, Refusal, Rule},
    protection::{Posture, Protection},
    refs::{FieldRef, Kind, ResourceRef, RouteName, Site},
    route::{Backend, HostRoutes, PathMatch, Route, RoutingTable, ServicePort},
    snapshot::Snapshot,
    subscription::{KeyDigest, State, Subscription, Subscriptions},
    time::Timestamp,
    token::{Algorithm, Audiences, KeySet, NoTokens, Provider},
    transport::Transport,
    uncovered::{ClosedBy, OpenBy, Uncovered},
};
use http::{HeaderValue, Method, Request};

use crate::signer::ED;

pub(crate) const NOW: Timestamp = Timestamp(1_700_000_000);
pub(crate) const ISSUER: &str = "https://id.example.com";

pub(crate) const NETWORKS: [&str; 5] =
    ["198.51.100.0/24", "203.0.113.0/24", "10.0.0.0/8", "2001:db8::/32", "0.0.0.0/0"];
pub(crate) const PEERS: [&str; 4] = ["198.51.100.7", "203.0.113.9", "10.1.2.3", "2001:db8::7"];
pub(crate) const PLANS: [&str; 3] = ["gold", "silver", "lost"];

/// What a check asks for, as plain data.
#[derive(Clone, Debug)]
pub(crate) enum Asked {
    Networks(Vec<usize>, bool),
    Methods(Vec<Method>),
    Plans(Vec<usize>),
    /// The scope `read` or none, of a provider whose keys are known or not.
    Token(bool, bool),
}

/// A rule as plain data.
#[derive(Clone, Debug)]
pub(crate) struct RuleText {
    pub(crate) name: String,
    pub(crate) shadow: bool,
    pub(crate) alternatives: Vec<Vec<Asked>>,
}

/// A policy as plain data.
#[derive(Clone, Debug)]
pub(crate) struct PolicyText {
    pub(crate) name: String,
    pub(crate) deny: Vec<RuleText>,
    pub(crate) require: Vec<RuleText>,
    pub(crate) path: Option<&'static str>,
    pub(crate) invalid: bool,
    pub(crate) disclosure: Disclosure,
}

/// A request as plain data; credentials are positions in [`tokens`] and [`keys`].
#[derive(Clone, Debug)]
pub(crate) struct Asking {
    pub(crate) peer: usize,
    pub(crate) method: Method,
    pub(crate) path: &'static str,
    pub(crate) token: usize,
    pub(crate) key: usize,
}

/// No token, a good one with and without the scope `read`, an expired one, one of another key,
/// and no token at all.
pub(crate) const TOKENS: usize = 6;

fn token(which: usize) -> Option<String> {
    let payload = |expiry: i64, scope: &str| {
        format!(r#"{{"iss":"{ISSUER}","aud":"shop","exp":{expiry},"scope":"{scope}"}}"#)
    };
    let stolen = ED.token(&payload(NOW.0 + 60, "read"));
    match which {
        1 => Some(stolen),
        2 => Some(ED.token(&payload(NOW.0 + 60, "write"))),
        3 => Some(ED.token(&payload(NOW.0 - 600, "read"))),
        4 => {
            let (message, _) = stolen.rsplit_once('.').unwrap();
            let (_, signature) = token(2).unwrap().rsplit_once('.').map(owned).unwrap();
            Some(format!("{message}.{signature}"))
        }
        5 => Some("not.a.token".into()),
        _ => None,
    }
}

fn owned((one, two): (&str, &str)) -> (String, String) {
    (one.into(), two.into())
}

/// No key, an active one of gold, an expired one of silver, a suspended one of gold, one that
/// nobody has, and no key at all.
pub(crate) const KEYS: usize = 6;

pub(crate) fn key(which: usize) -> Option<String> {
    let letter = ["", "a", "b", "c", "d"].get(which)?;
    (which > 0).then(|| format!("wg_{}_{}", letter.repeat(8), letter.repeat(43)))
}

pub(crate) fn resource(kind: Kind, name: &str) -> ResourceRef {
    ResourceRef::new(kind, "shop", name)
}

pub(crate) fn subscriptions() -> Subscriptions {
    let subscription = |which, plan, state| {
        let resource = resource(Kind::AccessSubscription, &format!("s{which}"));
        let plan = self::resource(Kind::AccessPlan, plan);
        let digest = KeyDigest::of(key(which).unwrap().as_bytes());
        (digest, Arc::new(Subscription { resource, plan, state }))
    };
    Subscriptions::new([
        subscription(1, "gold", State::Active { expires: None }),
        subscription(2, "silver", State::Active { expires: Some(Timestamp(NOW.0 - 1)) }),
        subscription(3, "gold", State::Suspended),
    ])
}

pub(crate) fn provider(keys: Result<KeySet, (ResourceRef, Lack)>) -> Provider {
    Provider {
        name: "id".into(),
        issuer: ISSUER.into(),
        audiences: Audiences::OneOf(["shop".into()].into()),
        algorithms: [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA].into(),
        skew: Duration::from_secs(30),
        keys,
    }
}

pub(crate) fn token_check(provider: Provider, scopes: &[&str]) -> TokenCheck {
    TokenCheck {
        provider: Arc::new(provider),
        scopes_all: scopes.iter().map(|scope| Arc::from(*scope)).collect(),
        scopes_any: [].into(),
        claims: [].into(),
    }
}

pub(crate) fn lost() -> Lack {
    Lack { problem: "it does not exist".into(), remedy: "Create it.".into() }
}

fn demand(asked: &Asked) -> Demand {
    match asked {
        Asked::Networks(networks, infrastructure) => Demand::Address(AddressCheck {
            networks: networks.iter().map(|at| parse_network(NETWORKS[*at]).unwrap()).collect(),
            infrastructure: *infrastructure,
        }),
        Asked::Methods(methods) => Demand::Method(MethodCheck { methods: methods.clone().into() }),
        Asked::Plans(plans) => {
            let accepted = |at: &usize| AcceptedPlan {
                plan: resource(Kind::AccessPlan, PLANS[*at]),
                lack: (PLANS[*at] == "lost").then(lost),
            };
            Demand::Subscription(SubscriptionCheck { plans: plans.iter().map(accepted).collect() })
        }
        Asked::Token(scope, known) => {
            let text = format!(r#"{{"keys":[{}]}}"#, ED.jwk(""));
            let keys = KeySet::from_jwks(&text, &[Algorithm::EdDSA]).unwrap();
            let lost = (resource(Kind::Secret, "jwks"), lost());
            let provider = provider(if *known { Ok(keys) } else { Err(lost) });
            Demand::Token(token_check(provider, if *scope { &["read"] } else { &[] }))
        }
    }
}

/// One rule; the field holds the rule's name instead of its position, so that moving it is no change.
fn rule(policy: &ResourceRef, list: &str, text: &RuleText) -> Rule {
    let site = |field: String| {
        let (policy, rule) = (policy.clone(), text.name.as_str().into());
        Arc::new(Site { policy, rule, field: field.into() })
    };
    let alternative = |(index, asked): (usize, &Vec<Asked>)| {
        let field = format!("spec.{list}.{}.anyOf[{index}]", text.name);
        let check = |(at, asked): (usize, &Asked)| Check {
            site: site(format!("{field}.{at}")),
            demand: demand(asked),
        };
        Alternative::new(site(field.clone()), asked.iter().enumerate().map(check).collect())
    };
    Rule {
        name: text.name.as_str().into(),
        enforcement: if text.shadow { Enforcement::Shadow } else { Enforcement::Enforce },
        alternatives: text.alternatives.iter().enumerate().map(alternative).collect(),
        hint: None,
    }
}

pub(crate) fn attachment(text: &PolicyText) -> Attachment {
    let resource = resource(Kind::AccessPolicy, &text.name);
    let on_deny = OnDeny { disclosure: text.disclosure, hint: None };
    let narrowing = |path| Narrowing { hosts: [].into(), paths: [Arc::from(path)].into() };
    let rules = |list, rules: &[RuleText]| {
        rules.iter().map(|text| rule(&resource, list, text)).collect::<Box<[_]>>()
    };
    let policy = if text.invalid {
        let field = FieldRef::new(resource.clone(), "spec");
        let reason =
            DenialReason::PolicyInvalid { field, problem: "it is wrong".into(), remedy: None };
        Err(Arc::new(Refusal { reason, on_deny }))
    } else {
        let (deny, require) = (rules("deny", &text.deny), rules("require", &text.require));
        Ok(Arc::new(Policy { resource: resource.clone(), deny, require, on_deny }))
    };
    Attachment { narrowings: text.path.map(narrowing).into_iter().collect(), policy }
}

pub(crate) fn snapshot(policies: &[PolicyText], closed: bool) -> Snapshot {
    let uncovered =
        if closed { Uncovered::Closed(ClosedBy::Flag) } else { Uncovered::Open(OpenBy::Flag) };
    let attachments = policies.iter().map(attachment).collect();
    let posture = Posture::Enforce(Protection::new(attachments, Vec::new(), uncovered).into());
    let route = Arc::new(Route { posture, ..open_route("/") });
    Snapshot {
        generation: 1,
        routes: RoutingTable::new(
            vec![HostRoutes {
                host: HostPattern::Any,
                owner: "shop".into(),
                paths: vec![(PathMatch::Prefix, "/".into(), route)],
            }],
            None,
        ),
        subscriptions: subscriptions(),
    }
}

/// A route that is open; its path is its name.
pub(crate) fn open_route(path: &str) -> Route {
    let service = resource(Kind::Service, "api");
    Route {
        name: Arc::new(RouteName {
            field: FieldRef::new(resource(Kind::Ingress, "web"), "spec.rules[0].http.paths[0]"),
            host: "*".into(),
            path: path.into(),
        }),
        posture: Posture::Open(OpenBy::Flag),
        backend: Arc::new(Backend::Service(
            ServicePort { service, port: 80 },
            Transport::default(),
        )),
        redirect_to_https: false,
        is_challenge: false,
        options: None,
    }
}

pub(crate) fn request(asking: &Asking) -> CanonicalRequest {
    let authorization = token(asking.token).map(|token| format!("Bearer {token}"));
    let headers = [("authorization", authorization), ("x-api-key", key(asking.key))];
    let headers = headers.iter().filter_map(|(name, value)| {
        Some((*name, HeaderValue::from_str(value.as_deref()?).unwrap()))
    });
    read(PEERS[asking.peer], &asking.method, asking.path, headers)
}

/// A request with the given headers, for `example.com`.
pub(crate) fn read(
    peer: &str,
    method: &Method,
    path: &str,
    headers: impl IntoIterator<Item = (&'static str, HeaderValue)>,
) -> CanonicalRequest {
    let mut request = Request::builder().method(method).uri(path).header("host", "example.com");
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let peer = SocketAddr::new(peer.parse().unwrap(), 4711);
    let connection = Connection {
        remote: Remote::Socket(peer),
        scheme: Scheme::Http,
        sni: None,
        certificate: Shown::NotAsked,
    };
    let source = AddressSource {
        infrastructure: [parse_network("10.0.0.0/8").unwrap()].into_iter().collect(),
        ..AddressSource::default()
    };
    let parts = request.body(()).unwrap().into_parts().0;
    CanonicalRequest::read(parts, connection, &source, RequestLimits::default()).unwrap()
}

/// Decides at [`NOW`] and remembers no token.
pub(crate) fn decided(policies: &[PolicyText], closed: bool, asking: &Asking) -> Decision {
    decide(&snapshot(policies, closed), request(asking), &NoTokens, NOW)
}

/// Everything that a decision says, so that two of them can be compared.
pub(crate) fn told(decision: &Decision) -> String {
    match decision {
        Decision::Forward(cleared) => format!("{:?} {:?}", cleared.route(), cleared.would_deny()),
        Decision::Deny(_, denial, _) => format!("{denial:?}"),
        Decision::Moved(_)
        | Decision::Preflight(..)
        | Decision::Redirect(..)
        | Decision::NotFound(_) => {
            format!("{decision:?}")
        }
    }
}

/// The refusal, if it is one.
pub(crate) fn denial(decision: &Decision) -> Option<&Denial> {
    if let Decision::Deny(_, denial, _) = decision { Some(denial) } else { None }
}
