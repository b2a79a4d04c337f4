//! Browsers that ask ahead: judged by what needs no credential, and never forwarded.

use std::sync::Arc;

use decision::{
    decide::{Decision, decide},
    host::{Host, HostPattern},
    options::{
        Options,
        cors::{Cors, Origin, Origins},
    },
    refs::{FieldRef, Kind},
    route::{HostRoutes, PathMatch, Route, RoutingTable},
    snapshot::Snapshot,
    token::NoTokens,
};
use http::{HeaderValue, Method};
use proptest::prelude::*;

use crate::{
    evaluation::{asking, model_refuses, policies},
    world::{
        Asked, Asking, NOW, PEERS, PolicyText, RuleText, key, open_route, read, resource, told,
    },
};

const PAGE: &str = "https://app.example.com";

/// The route of some policies, which pages of one origin may call.
fn shared(policies: &[PolicyText], closed: bool) -> Snapshot {
    let snapshot = crate::world::snapshot(policies, closed);
    let found = snapshot.routes.find(&Host::parse("example.com").unwrap(), "/").unwrap();
    let cors = Cors {
        field: FieldRef::new(resource(Kind::Ingress, "web"), "cors-origins"),
        origins: Origins::Listed(Box::new([Origin::parse(PAGE).unwrap()])),
        methods: HeaderValue::from_static("GET"),
        headers: None,
        expose: HeaderValue::from_static("x"),
        credentials: false,
        max_age: None,
    };
    let options = Some(Arc::new(Options { cors: Some(cors), ..Options::default() }));
    let posture = found.posture.clone();
    let route = Arc::new(Route { posture, options, ..open_route("/") });
    let paths = vec![(PathMatch::Prefix, "/".into(), route)];
    let host = HostRoutes { host: HostPattern::Any, owner: "shop".into(), paths };
    Snapshot { routes: RoutingTable::new(vec![host], None), ..snapshot }
}

fn preflight(asking: &Asking, origin: &'static str) -> decision::canonical::CanonicalRequest {
    let key = key(asking.key).map(|key| ("x-api-key", HeaderValue::from_str(&key).unwrap()));
    let headers = [("origin", origin), ("access-control-request-method", "PUT")];
    let headers = headers.map(|(name, value)| (name, HeaderValue::from_static(value)));
    read(PEERS[asking.peer], &Method::OPTIONS, asking.path, headers.into_iter().chain(key))
}

/// The rules as they stand for a preflight: none that looks at a credential, and no required method.
fn without_credentials(policy: &PolicyText) -> PolicyText {
    let keyless = |rule: &&RuleText| {
        let mut checks = rule.alternatives.iter().flatten();
        !checks.any(|asked| matches!(asked, Asked::Plans(_) | Asked::Token(..)))
    };
    let any_method = |asked: &Asked| match asked {
        Asked::Methods(_) => Asked::Methods(vec![Method::OPTIONS]),
        Asked::Networks(..) | Asked::Plans(_) | Asked::Token(..) => asked.clone(),
    };
    let require = policy.require.iter().filter(keyless).map(|rule| {
        let checks = |checks: &Vec<Asked>| checks.iter().map(any_method).collect();
        RuleText { alternatives: rule.alternatives.iter().map(checks).collect(), ..rule.clone() }
    });
    PolicyText {
        deny: policy.deny.iter().filter(keyless).cloned().collect(),
        require: require.collect(),
        ..policy.clone()
    }
}

fn covered(policies: &[PolicyText], asking: &Asking) -> bool {
    policies
        .iter()
        .filter(|policy| policy.path.is_none() || asking.path == "/v1/x")
        .any(|policy| !policy.invalid && policy.require.iter().any(|rule| !rule.shadow))
}

proptest! {
    #[test]
    fn a_preflight_passes_exactly_if_no_rule_without_credential_refuses_it_and_is_never_forwarded(
        policies in policies(),
        closed: bool,
        asking in asking(),
    ) {
        let asking = Asking { method: Method::OPTIONS, ..asking };
        let reduced: Vec<_> = policies.iter().map(without_credentials).collect();
        let refused =
            model_refuses(&reduced, false, &asking) || (closed && !covered(&policies, &asking));
        let snapshot = shared(&policies, closed);
        let decision = decide(&snapshot, preflight(&asking, PAGE), &NoTokens, NOW);
        let passes = matches!(decision, Decision::Preflight(..));
        let denied = matches!(decision, Decision::Deny(..));
        prop_assert!(passes != denied && denied == refused, "{}", told(&decision));
        for strange in ["null", "https://evil.test"] {
            let decision = decide(&snapshot, preflight(&asking, strange), &NoTokens, NOW);
            prop_assert!(matches!(decision, Decision::Deny(..)), "{}", told(&decision));
        }
    }
}
