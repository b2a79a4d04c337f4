//! One refusal of each kind, so that none lacks its code, its sentence and its remedy.

use std::{collections::BTreeSet, time::Duration};

use super::*;
use crate::{client::Derivation, refs::Kind};

/// Makes `samples`, and a `match` that a variant without a sample breaks.
macro_rules! samples {
    ($($variant:ident $({ $($field:ident: $value:expr),* $(,)? })?,)*) => {
        fn samples() -> Vec<DenialReason> {
            vec![$(DenialReason::$variant $({ $($field: $value),* })?),*]
        }

        fn name(reason: &DenialReason) -> &'static str {
            match reason { $(DenialReason::$variant { .. } => stringify!($variant)),* }
        }
    };
}

fn client() -> ClientAddress {
    ClientAddress::Known("203.0.113.9".parse().unwrap(), Derivation::Peer)
}

fn resource(kind: Kind) -> ResourceRef {
    ResourceRef::new(kind, "shop", "office")
}

fn field() -> FieldRef {
    FieldRef::new(resource(Kind::AccessPolicy), "spec.require[0]")
}

fn lack() -> Arc<Lack> {
    let (problem, remedy) = ("it only counts".into(), "Set its `enforcement: Enforce`.".into());
    Arc::new(Lack { problem, remedy })
}

fn host(text: &str) -> Host {
    Host::parse(text).unwrap()
}

const MINUTE: Duration = Duration::from_mins(1);

samples! {
    AddressDenied { client: client(), network: "203.0.113.0/24".parse().unwrap(), entry: 3 },
    AddressNotAllowed { client: client(), networks: 2, nearest: "203.0.112.0/24".parse().ok() },
    ClientAddressUnknown { client: ClientAddress::Infrastructure("10.0.0.1".parse().unwrap()) },
    TokenMissing { provider: "id".into(), or_key: true },
    TokenMalformed { problem: "no exp claim" },
    TokenAlgorithmNotAllowed { algorithm: "none".into(), allowed: "RS256".into() },
    TokenKeyUnknown { key_id: Some("k1".into()), keys: 2 },
    TokenSignatureInvalid { key_id: None, issuer: "https://id.example.com".into() },
    TokenExpired { ago: MINUTE, skew: MINUTE },
    TokenNotYetValid { ahead: MINUTE, skew: MINUTE },
    TokenIssuerMismatch { expected: "https://id.example.com".into(), got: Some("x".into()) },
    TokenAudienceMismatch { expected: "shop".into(), got: "".into() },
    TokenScopeMissing { asked: "read".into(), had: "write".into() },
    TokenClaimMismatch { path: "azp".into(), asked: "one of a".into(), found: "absent", entry: 1 },
    KeyMissing { header: HeaderName::from_static("x-api-key"), or_token: false },
    KeyUnknown { id: Some("7f3k".into()) },
    SubscriptionExpired { subscription: resource(Kind::AccessSubscription), ago: MINUTE },
    SubscriptionSuspended { subscription: resource(Kind::AccessSubscription) },
    SubscriptionInvalid {
        subscription: resource(Kind::AccessSubscription), problem: "no such plan".into(),
        remedy: "Create the plan.".into(),
    },
    PlanNotAccepted {
        subscription: resource(Kind::AccessSubscription),
        plan: resource(Kind::AccessPlan),
        accepted: Box::new([ResourceRef::new(Kind::AccessPlan, "shop", "gold")]),
    },
    CertificateMissing { secret: resource(Kind::Secret), encrypted: true },
    CertificateUntrusted {
        subject: "CN=a".into(), issuer: "CN=b".into(), secret: resource(Kind::Secret),
        problem: "it cannot be read",
    },
    CertificateExpired { subject: "CN=a".into(), untimely: Untimely::Expired(MINUTE) },
    CertificateNameMismatch {
        subject: "CN=a".into(), names: "".into(), wanted: "spiffe://acme/*".into(),
    },
    MethodRefused { method: Method::PUT, allowed: "GET, HEAD".into() },
    OriginNotAllowed { origin: "null".into(), field: field() },
    RuleMatched { matched: "methods holds PUT".into() },
    PolicyRequired { by: ClosedBy::Flag },
    PolicyInvalid { field: field(), problem: "unknown field".into(), remedy: None },
    PolicyMissing {
        policy: resource(Kind::AccessPolicy), field: field(), lack: lack(),
    },
    PolicyUnenforceable {
        field: field(), problem: "of another controller".into(), remedy: "Remove it.".into(),
    },
    RouteInvalid { field: field(), problem: "no path".into(), remedy: None },
    CredentialStoreUnavailable {
        resource: resource(Kind::Secret), problem: "it has no label".into(),
        remedy: "Add the label.".into(),
    },
    JudgementFailed,
    MisdirectedRequest {
        sni: Some(host("a.example.com")), host: host("b.example.com"),
        cause: Misdirection::Certificate,
    },
    RequestMalformed { rule: "encoded-slash" },
    BodyTooLarge { length: Some(9), limit: 8, field: field() },
    UriTooLong { length: 9_000, limit: 8_192 },
    HeadersTooLarge { count: 101, limit: 100 },
    RequestTimeout { slow: Slow::Paused(MINUTE) },
    EncodingNotSupported { encoding: "`gzip`".into() },
}

fn denial(reason: DenialReason, site: Option<Site>) -> Denial {
    Denial { site: site.map(Arc::new), ..Denial::of_request(reason) }
}

fn site() -> Site {
    let (rule, field) = ("office-or-vpn".into(), "spec.require[0].ip".into());
    Site { policy: resource(Kind::AccessPolicy), rule, field }
}

#[test]
fn every_reason_has_the_code_of_its_name() {
    let samples = samples();
    let names: BTreeSet<_> = samples.iter().map(name).collect();
    assert_eq!(names.len(), samples.len());
    for reason in &samples {
        assert_eq!(reason.code().as_str(), name(reason));
    }
}

#[test]
fn every_reason_says_what_was_observed_and_what_to_do() {
    for reason in samples() {
        let bare = denial(reason.clone(), None);
        let placed = denial(reason, Some(site()));
        for denial in [bare, placed] {
            let (observed, remedy) = (denial.operator_sentence(), denial.remedy());
            assert!(observed.len() > 12 && !observed.ends_with('.'), "{observed}");
            assert!(remedy.len() > 9 && remedy.ends_with('.'), "{remedy}");
            assert!(observed.is_ascii() || observed.contains('\u{2026}'), "{observed}");
        }
    }
}

#[test]
fn nothing_that_a_manifest_holds_turns_or_breaks_a_sentence() {
    let evil = || "a\u{202e}\u{200b}\u{2066}\n\u{1b}[31mb";
    let policy = || ResourceRef::new(Kind::AccessPolicy, evil(), evil());
    let field = || FieldRef::new(policy(), evil());
    let lack = || Arc::new(Lack { problem: evil().into(), remedy: evil().into() });
    let (problem, remedy) = (|| evil().into(), || evil().into());
    for reason in [
        DenialReason::PolicyInvalid { field: field(), problem: problem(), remedy: Some(remedy()) },
        DenialReason::RouteInvalid { field: field(), problem: problem(), remedy: Some(remedy()) },
        DenialReason::PolicyMissing { policy: policy(), field: field(), lack: lack() },
        DenialReason::PolicyUnenforceable { field: field(), problem: problem(), remedy: remedy() },
        DenialReason::PolicyRequired { by: ClosedBy::Annotation(field()) },
        DenialReason::BodyTooLarge { length: None, limit: 8, field: field() },
        DenialReason::OriginNotAllowed { origin: evil().into(), field: field() },
        DenialReason::CredentialStoreUnavailable {
            resource: policy(),
            problem: problem(),
            remedy: remedy(),
        },
        DenialReason::RuleMatched { matched: evil().into() },
        DenialReason::CertificateUntrusted {
            subject: evil().into(),
            issuer: evil().into(),
            secret: policy(),
            problem: "it cannot be read",
        },
        DenialReason::CertificateNameMismatch {
            subject: evil().into(),
            names: evil().into(),
            wanted: evil().into(),
        },
        DenialReason::TokenMissing { provider: evil().into(), or_key: false },
        DenialReason::TokenAudienceMismatch { expected: evil().into(), got: "".into() },
        DenialReason::TokenScopeMissing { asked: evil().into(), had: "".into() },
        DenialReason::TokenClaimMismatch {
            path: evil().into(),
            asked: evil().into(),
            found: "absent",
            entry: 0,
        },
    ] {
        let site = Site { policy: policy(), rule: evil().into(), field: evil().into() };
        for denial in [denial(reason.clone(), None), denial(reason.clone(), Some(site))] {
            for text in [denial.operator_sentence(), denial.remedy()] {
                assert!(text.bytes().all(|byte| matches!(byte, b' '..=b'~')), "{text:?}");
            }
        }
    }
}

#[test]
fn what_the_configuration_lacks_is_remedied_as_its_compiler_said() {
    let (policy, remedy) = (resource(Kind::AccessPolicy), "Set its `enforcement: Enforce`.");
    let reasons = [
        DenialReason::PolicyMissing { policy: policy.clone(), field: field(), lack: lack() },
        DenialReason::CredentialStoreUnavailable {
            resource: policy,
            problem: "x".into(),
            remedy: remedy.into(),
        },
    ];
    assert_eq!(reasons.map(|reason| denial(reason, None).remedy()), [remedy, remedy]);
}

#[test]
fn a_body_that_pauses_and_one_that_trickles_are_told_apart_and_name_their_flags() {
    let told = |slow| {
        let denial = denial(DenialReason::RequestTimeout { slow }, None);
        (denial.operator_sentence(), denial.remedy())
    };
    let (paused, idle) = told(Slow::Paused(MINUTE));
    assert!(paused.contains("no progress for 1m"), "{paused}");
    assert!(idle.contains("`--body-idle-seconds`") && !idle.contains("rate"), "{idle}");
    let (trickled, rate) = told(Slow::Trickled(1024));
    assert!(trickled.contains("fewer than 1024 bytes a second"), "{trickled}");
    assert!(rate.contains("`--body-rate-bytes-per-second`") && !rate.contains("idle"), "{rate}");
}

#[test]
fn a_refusal_by_a_rule_names_one_field_of_its_policy() {
    for reason in samples() {
        let field = denial(reason.clone(), Some(site())).field();
        assert!(field.is_some_and(|field| field.path.starts_with("spec.require[0]")), "{reason:?}");
    }
}

#[test]
fn a_challenge_goes_with_every_401_and_with_a_scope_that_is_missing() {
    for reason in samples() {
        let denial = denial(reason, None);
        let status = denial.code().status();
        let expected =
            status == StatusCode::UNAUTHORIZED || denial.code() == Code::TokenScopeMissing;
        assert_eq!(denial.challenge().is_some(), expected, "{}", denial.code());
    }
}

#[test]
fn under_disclosure_none_a_challenge_is_the_scheme_alone_and_only_with_a_401() {
    for reason in samples() {
        let told = Denial { disclosure: Disclosure::None, ..denial(reason, None) };
        let challenge = told.challenge();
        let challenge = challenge.as_ref().map(|value| value.to_str().unwrap());
        match told.code().status() {
            StatusCode::UNAUTHORIZED => {
                assert!(
                    matches!(challenge, Some("Bearer" | "ApiKey" | "Bearer, ApiKey")),
                    "{}",
                    told.code()
                );
            }
            _ => assert_eq!(challenge, None, "{}", told.code()),
        }
    }
}

#[test]
fn a_plan_is_proposed_only_where_it_would_help() {
    let remedy = |namespace: &str, name: &str| {
        let plan = ResourceRef::new(Kind::AccessPlan, namespace, name);
        let accepted = Box::new([ResourceRef::new(Kind::AccessPlan, "shop", "gold")]);
        let subscription = ResourceRef::new(Kind::AccessSubscription, "acme", "mobile");
        let reason = DenialReason::PlanNotAccepted { subscription, plan, accepted };
        denial(reason, Some(site())).remedy()
    };
    assert_eq!(remedy("shop", "silver"), "Add silver to spec.require[0].ip.plans.");
    assert_eq!(
        remedy("acme", "gold"),
        "Set spec.planRef.namespace to shop on AccessSubscription acme/mobile."
    );
    assert_eq!(
        remedy("acme", "silver"),
        "Name an accepted plan in spec.planRef of AccessSubscription acme/mobile."
    );
}

#[test]
fn nobody_is_told_to_admit_the_machine_itself() {
    for address in ["127.0.0.1", "127.8.0.1", "::1"] {
        let client = ClientAddress::Known(address.parse().unwrap(), Derivation::Peer);
        let reason = DenialReason::AddressNotAllowed { client, networks: 1, nearest: None };
        let remedy = denial(reason, Some(site())).remedy();
        assert!(!remedy.contains(address), "{remedy}");
    }
}

#[test]
fn what_a_stranger_wrote_cannot_make_a_line_say_something_else() {
    let evil = || "x\n\u{1b}[31m` \u{202e}".to_owned();
    let reasons = [
        DenialReason::TokenAlgorithmNotAllowed {
            algorithm: evil().into(),
            allowed: "RS256".into(),
        },
        DenialReason::TokenKeyUnknown { key_id: Some(evil().into()), keys: 1 },
        DenialReason::TokenIssuerMismatch { expected: "id".into(), got: Some(evil().into()) },
        DenialReason::TokenAudienceMismatch { expected: "shop".into(), got: evil().into() },
        DenialReason::TokenScopeMissing { asked: "read".into(), had: evil().into() },
    ];
    for reason in reasons {
        let observed = denial(reason, None).operator_sentence();
        assert!(observed.bytes().all(|byte| matches!(byte, b' '..=b'~')), "{observed}");
    }
}
