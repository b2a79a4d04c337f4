//! How single rules combine: which refusal speaks, and what an unknown check comes to.

use decision::{code::Code, disclosure::Disclosure};
use http::Method;

use crate::world::{Asked, Asking, PolicyText, RuleText, decided, denial};

fn rule(name: &str, alternatives: &[&[Asked]]) -> RuleText {
    let alternatives = alternatives.iter().map(|checks| checks.to_vec()).collect();
    RuleText { name: name.into(), shadow: false, alternatives }
}

fn policy(deny: Vec<RuleText>, require: Vec<RuleText>) -> PolicyText {
    let (name, disclosure) = ("office".into(), Disclosure::Code);
    PolicyText { name, deny, require, path: None, invalid: false, disclosure }
}

fn asking(peer: usize, token: usize, key: usize) -> Asking {
    Asking { peer, method: Method::GET, path: "/", token, key }
}

/// The codes of a refusal, the headline first; none if the request passes.
fn codes(policy: PolicyText, asking: &Asking) -> Vec<Code> {
    let decision = decided(&[policy], false, asking);
    let denial = denial(&decision);
    let others =
        denial.iter().flat_map(|denial| denial.others.iter().map(|other| other.reason.code()));
    denial.iter().map(|denial| denial.code()).chain(others).collect()
}

fn networks(at: usize) -> Asked {
    Asked::Networks(vec![at], false)
}

const KNOWN: Asked = Asked::Token(false, true);
const SCOPE: Asked = Asked::Token(true, true);
const LOST: Asked = Asked::Token(false, false);

#[test]
fn a_deny_rule_that_cannot_be_told_refuses_with_the_code_of_what_is_unknown() {
    let by_address = || policy(vec![rule("blocked", &[&[networks(1)]])], vec![]);
    assert_eq!(codes(by_address(), &asking(2, 0, 0)), [Code::ClientAddressUnknown]);
    let by_token = || policy(vec![rule("blocked", &[&[LOST]])], vec![]);
    assert_eq!(codes(by_token(), &asking(0, 1, 0)), [Code::CredentialStoreUnavailable]);
}

#[test]
fn a_deny_rule_with_an_unknown_check_does_not_match_if_another_check_speaks_against_it() {
    let post = Asked::Methods(vec![Method::POST]);
    let blocked = rule("blocked", &[&[networks(1), post]]);
    assert_eq!(codes(policy(vec![blocked], vec![]), &asking(2, 0, 0)), []);
}

#[test]
fn a_requirement_with_one_met_alternative_is_met_whatever_is_unknown() {
    let either = rule("either", &[&[LOST], &[Asked::Plans(vec![0])]]);
    assert_eq!(codes(policy(vec![], vec![either]), &asking(0, 1, 1)), []);
}

#[test]
fn any_of_fails_as_the_alternative_that_got_furthest() {
    let either = || policy(vec![], vec![rule("either", &[&[KNOWN], &[Asked::Plans(vec![0])]])]);
    assert_eq!(codes(either(), &asking(0, 0, 0)), [Code::TokenMissing]);
    assert_eq!(codes(either(), &asking(0, 0, 4)), [Code::KeyUnknown]);
    assert_eq!(codes(either(), &asking(0, 3, 4)), [Code::TokenExpired]);
    let address = || policy(vec![], vec![rule("either", &[&[networks(1)], &[SCOPE]])]);
    assert_eq!(codes(address(), &asking(0, 2, 0)), [Code::TokenScopeMissing]);
    assert_eq!(codes(address(), &asking(0, 0, 0)), [Code::AddressNotAllowed]);
}

#[test]
fn of_two_credentials_of_which_one_would_do_both_are_asked_for() {
    let told = |alternatives: &[&[Asked]]| {
        let rule = rule("either", alternatives);
        let decision = decided(&[policy(vec![], vec![rule])], false, &asking(0, 0, 0));
        let denial = denial(&decision).expect("a refusal");
        let challenge = denial.challenge().expect("a challenge");
        (denial.operator_sentence(), challenge.to_str().expect("ASCII").to_owned())
    };
    let plan = || Asked::Plans(vec![0]);
    let both = "Bearer, ApiKey header=\"x-api-key\"";
    let (observed, challenge) = told(&[&[KNOWN], &[plan()]]);
    assert_eq!(
        observed,
        "no bearer token for provider id, and no API key in x-api-key; one of them is enough"
    );
    assert_eq!(challenge, both);
    assert_eq!(told(&[&[plan()], &[KNOWN]]).1, both);
    let (observed, challenge) = told(&[&[plan(), KNOWN], &[KNOWN]]);
    assert_eq!(observed, "no API key in x-api-key", "a key alone opens nothing");
    assert_eq!(challenge, "ApiKey header=\"x-api-key\"");
}

#[test]
fn headlines_come_in_one_order_and_the_other_failures_behind_them() {
    let deny = || {
        let get = Asked::Methods(vec![Method::GET]);
        vec![rule("a-method", &[&[get]]), rule("z-address", &[&[networks(0)]])]
    };
    let require = || {
        vec![
            rule("a-scope", &[&[SCOPE]]),
            rule("b-plan", &[&[Asked::Plans(vec![0])]]),
            rule("c-key", &[&[Asked::Plans(vec![])]]),
            rule("d-office", &[&[networks(1)]]),
        ]
    };
    let all = [
        Code::AddressDenied,
        Code::RuleMatched,
        Code::AddressNotAllowed,
        Code::SubscriptionSuspended,
        Code::PlanNotAccepted,
    ];
    assert_eq!(codes(policy(deny(), require()), &asking(0, 2, 3)), all);
    let without_deny =
        [Code::AddressNotAllowed, Code::TokenMissing, Code::KeyMissing, Code::KeyMissing];
    assert_eq!(codes(policy(vec![], require()), &asking(0, 0, 0)), without_deny);
}

#[test]
fn a_signature_is_not_verified_for_a_request_that_is_refused_already() {
    let require = || vec![rule("office", &[&[networks(1)]]), rule("token", &[&[KNOWN]])];
    assert_eq!(codes(policy(vec![], require()), &asking(0, 4, 0)), [Code::AddressNotAllowed]);
    assert_eq!(codes(policy(vec![], require()), &asking(1, 4, 0)), [Code::TokenSignatureInvalid]);
}

#[test]
fn a_key_that_was_judged_ends_here_and_no_upstream_sees_it() {
    let plan = policy(vec![], vec![rule("plan", &[&[Asked::Plans(vec![0])]])]);
    let decision::decide::Decision::Forward(cleared) = decided(&[plan], false, &asking(0, 0, 1))
    else {
        panic!("an active subscription passes")
    };
    assert!(!cleared.request().headers().contains_key("x-api-key"));
}
