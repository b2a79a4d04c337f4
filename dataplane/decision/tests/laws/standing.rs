//! An exchange that goes on is judged again without the credentials that it began with.

use decision::{
    code::Code,
    decide::{Decision, Revoked, decide, decide_again},
    disclosure::Disclosure,
    refs::Kind,
    snapshot::Snapshot,
    standing::Standing,
    subscription::{KeyDigest, State, Subscription, Subscriptions},
    time::Timestamp,
    token::NoTokens,
};
use http::Method;
use proptest::prelude::*;

use crate::{
    evaluation::{asking, policies},
    world::{Asked, Asking, NOW, PolicyText, RuleText, key, request, resource, snapshot},
};

/// An exchange that these policies admitted, judged once; none if they refuse it.
fn begun(snapshot: &Snapshot, asking: &Asking) -> Option<Standing> {
    let Decision::Forward(cleared) = decide(snapshot, request(asking), &NoTokens, NOW) else {
        return None;
    };
    let (mut standing, _) = Standing::split(cleared.into_parts().0, NOW);
    let again = decide_again(snapshot, &mut standing, &NoTokens, NOW);
    assert!(again.is_ok(), "{again:?}");
    Some(standing)
}

fn code(judged: Result<(), Revoked>) -> Option<Code> {
    match judged {
        Ok(()) => None,
        Err(Revoked::Denied(denial)) => Some(denial.code()),
        Err(Revoked::NotFound) => Some(Code::RouteNotFound),
    }
}

fn requires(alternatives: Vec<Vec<Asked>>) -> Vec<PolicyText> {
    let rule = RuleText { name: "one".into(), shadow: false, alternatives };
    vec![PolicyText {
        name: "all".into(),
        deny: Vec::new(),
        require: vec![rule],
        path: None,
        invalid: false,
        disclosure: Disclosure::Code,
    }]
}

fn with(token: usize, key: usize) -> Asking {
    Asking { peer: 0, method: Method::GET, path: "/", token, key }
}

proptest! {
    #[test]
    fn what_would_be_refused_now_never_goes_on(
        before in policies(), after in policies(), closed: bool, asking in asking(),
    ) {
        if let Some(mut standing) = begun(&snapshot(&before, false), &asking) {
            let after = snapshot(&after, closed);
            let refused = matches!(
                decide(&after, request(&asking), &NoTokens, NOW),
                Decision::Deny(..)
            );
            let again = decide_again(&after, &mut standing, &NoTokens, NOW);
            prop_assert!(again.is_err() || !refused, "it went on");
        }
    }

    #[test]
    fn equal_policies_let_it_go_on(policies in policies(), asking in asking()) {
        if let Some(mut standing) = begun(&snapshot(&policies, false), &asking) {
            let equal = snapshot(&policies, false);
            let again = decide_again(&equal, &mut standing, &NoTokens, NOW);
            prop_assert!(again.is_ok(), "{again:?}");
        }
    }
}

#[test]
fn a_token_may_expire_while_its_exchange_goes_on() {
    let policies = requires(vec![vec![Asked::Token(true, true)]]);
    let mut standing = begun(&snapshot(&policies, false), &with(1, 0)).unwrap();
    let later = Timestamp(NOW.0 + 86_400);
    let equal = snapshot(&policies, false);
    assert_eq!(code(decide_again(&equal, &mut standing, &NoTokens, later)), None);
}

#[test]
fn a_token_that_nobody_verified_under_these_keys_ends_its_exchange() {
    let open = snapshot(&[], false);
    let policies = requires(vec![vec![Asked::Token(true, true)]]);
    let mut standing = begun(&open, &with(1, 0)).unwrap();
    let again = decide_again(&snapshot(&policies, false), &mut standing, &NoTokens, NOW);
    assert_eq!(code(again), Some(Code::TokenKeyUnknown));
    let lost = requires(vec![vec![Asked::Token(true, false)]]);
    let mut standing = begun(&open, &with(1, 0)).unwrap();
    let again = decide_again(&snapshot(&lost, false), &mut standing, &NoTokens, NOW);
    assert_eq!(code(again), Some(Code::CredentialStoreUnavailable));
}

#[test]
fn a_subscription_ends_its_exchanges_when_it_expires_or_is_suspended() {
    let policies = requires(vec![vec![Asked::Plans(vec![0])]]);
    let digest = KeyDigest::of(key(1).unwrap().as_bytes());
    let with_state = |state| {
        let resource = resource(Kind::AccessSubscription, "s1");
        let plan = self::resource(Kind::AccessPlan, "gold");
        let subscription = Subscription { resource, plan, state };
        let subscriptions = Subscriptions::new([(digest, subscription.into())]);
        Snapshot { subscriptions, ..snapshot(&policies, false) }
    };
    let active = |expires| with_state(State::Active { expires: Some(Timestamp(expires)) });
    let mut standing = begun(&active(NOW.0 + 60), &with(0, 1)).unwrap();
    let mut again = |snapshot, now| code(decide_again(&snapshot, &mut standing, &NoTokens, now));
    assert_eq!(again(active(NOW.0 + 60), NOW), None);
    let later = Timestamp(NOW.0 + 60);
    assert_eq!(again(active(NOW.0 + 60), later), Some(Code::SubscriptionExpired));
    assert_eq!(again(with_state(State::Suspended), NOW), Some(Code::SubscriptionSuspended));
    let none = Snapshot { subscriptions: Subscriptions::default(), ..active(NOW.0 + 60) };
    assert_eq!(again(none, NOW), Some(Code::KeyUnknown));
}

#[test]
fn what_stays_of_a_credential_is_not_the_credential() {
    let both = vec![vec![Asked::Token(true, true)], vec![Asked::Plans(vec![0])]];
    let standing = begun(&snapshot(&requires(both), false), &with(1, 1)).unwrap();
    let (token, key) = ("eyJ", key(1).unwrap());
    for shown in [format!("{standing:?}"), format!("{:?}", standing.line())] {
        assert!(!shown.contains(token) && !shown.contains(&key), "{shown}");
    }
}
