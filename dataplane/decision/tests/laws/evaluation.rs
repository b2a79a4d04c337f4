//! The evaluator agrees with a model that is too simple to be wrong, and with its own explanation.

use std::cell::RefCell;

use decision::{
    check::Outcome,
    decide::{Observer, Step, decide_observed},
    denial::DenialReason,
    disclosure::Disclosure,
    policy::{Enforcement, Section},
    refs::Site,
    token::NoTokens,
};
use http::Method;
use proptest::{collection::vec, prelude::*, sample::subsequence};

use crate::world::{
    Asked, Asking, KEYS, NETWORKS, NOW, PEERS, PolicyText, RuleText, TOKENS, decided, denial,
    request, snapshot, told,
};

fn asked() -> impl Strategy<Value = Asked> {
    let methods = vec![Method::GET, Method::POST];
    prop_oneof![
        (subsequence((0..NETWORKS.len()).collect::<Vec<_>>(), 0..4), any::<bool>())
            .prop_map(|(networks, infrastructure)| Asked::Networks(networks, infrastructure)),
        subsequence(methods, 0..=2).prop_map(Asked::Methods),
        subsequence(vec![0, 1, 2], 0..=3).prop_map(Asked::Plans),
        any::<(bool, bool)>().prop_map(|(scope, known)| Asked::Token(scope, known)),
    ]
}

fn rules(list: &'static str) -> impl Strategy<Value = Vec<RuleText>> {
    let rule = (prop::bool::weighted(0.2), vec(vec(asked(), 1..3), 1..3));
    vec(rule, 0..3).prop_map(move |rules| {
        let rules = rules.into_iter().enumerate();
        let name = |index| format!("{list}-{index}");
        rules
            .map(|(at, (shadow, alternatives))| RuleText { name: name(at), shadow, alternatives })
            .collect()
    })
}

pub(crate) fn policies() -> impl Strategy<Value = Vec<PolicyText>> {
    let path = prop::option::weighted(0.3, Just("/v1"));
    let disclosure =
        prop_oneof![Just(Disclosure::None), Just(Disclosure::Code), Just(Disclosure::Reason)];
    let policy = (rules("deny"), rules("require"), path, prop::bool::weighted(0.1), disclosure);
    vec(policy, 0..4).prop_map(|policies| {
        let policies = policies.into_iter().enumerate();
        let policy = |(at, (deny, require, path, invalid, disclosure))| {
            let name = format!("policy-{at}");
            PolicyText { name, deny, require, path, invalid, disclosure }
        };
        policies.map(policy).collect()
    })
}

pub(crate) fn asking() -> impl Strategy<Value = Asking> {
    let method = prop_oneof![Just(Method::GET), Just(Method::POST), Just(Method::PUT)];
    let path = prop_oneof![Just("/v1/x"), Just("/v10"), Just("/")];
    (0..PEERS.len(), method, path, 0..TOKENS, 0..KEYS)
        .prop_map(|(peer, method, path, token, key)| Asking { peer, method, path, token, key })
}

/// Whether a check holds; none if that is unknown.
fn holds(asked: &Asked, asking: &Asking) -> Option<bool> {
    match asked {
        Asked::Networks(_, false) if asking.peer == 2 => None,
        Asked::Networks(networks, _) => {
            Some(networks.iter().any(|at| *at == asking.peer || (*at == 4 && asking.peer != 3)))
        }
        Asked::Methods(methods) => Some(methods.contains(&asking.method)),
        Asked::Plans(plans) => match asking.key {
            0 | 5 => Some(false),
            1 if plans.contains(&0) => Some(true),
            2 if plans.contains(&1) => Some(false),
            3 if plans.contains(&0) => Some(false),
            _ => (!plans.contains(&2)).then_some(false),
        },
        Asked::Token(scope, known) => match asking.token {
            0 | 3 | 5 => Some(false),
            _ if !known => None,
            1 => Some(true),
            2 => Some(!scope),
            _ => Some(false),
        },
    }
}

fn refuses(section: Section, rule: &RuleText, asking: &Asking) -> bool {
    let all = |wanted: &dyn Fn(Option<bool>) -> bool| {
        rule.alternatives
            .iter()
            .any(|checks| checks.iter().all(|asked| wanted(holds(asked, asking))))
    };
    match section {
        Section::Deny => all(&|held| held != Some(false)),
        Section::Require => !all(&|held| held == Some(true)),
    }
}

pub(crate) fn model_refuses(policies: &[PolicyText], closed: bool, asking: &Asking) -> bool {
    let matching = |policy: &&PolicyText| policy.path.is_none() || asking.path == "/v1/x";
    let mut covered = false;
    let mut refused = false;
    for policy in policies.iter().filter(matching) {
        let require = policy.require.iter().map(|rule| (Section::Require, rule));
        for (section, rule) in policy.deny.iter().map(|rule| (Section::Deny, rule)).chain(require) {
            let enforced = !policy.invalid && !rule.shadow;
            covered |= enforced && section == Section::Require;
            refused |= enforced && refuses(section, rule, asking);
        }
        refused |= policy.invalid;
    }
    refused || (closed && !covered)
}

/// One heard step.
struct Heard {
    site: Site,
    section: Section,
    enforcement: Enforcement,
    outcome: Outcome,
}

#[derive(Default)]
struct Listener(RefCell<Vec<Heard>>);

impl Observer for Listener {
    fn step(&mut self, step: Step<'_>) {
        if let Step::Checked { site, section, enforcement, outcome } = step {
            let (site, outcome) = (site.clone(), outcome.clone());
            self.0.borrow_mut().push(Heard { site, section, enforcement, outcome });
        }
    }
}

/// Whether a heard step is what the headline stands on.
/// The reason of one check: that another credential would do as well is known of the rule alone.
fn of_check(reason: &DenialReason) -> DenialReason {
    let mut reason = reason.clone();
    if let DenialReason::TokenMissing { or_key: either, .. }
    | DenialReason::KeyMissing { or_token: either, .. } = &mut reason
    {
        *either = false;
    }
    reason
}

fn stands_on(heard: &Heard, reason: &DenialReason, site: &Site) -> bool {
    let reason = of_check(reason);
    let same_rule = heard.site.policy == site.policy && heard.site.rule == site.rule;
    heard.enforcement == Enforcement::Enforce
        && match &heard.outcome {
            Outcome::Unmet(found) => {
                heard.section == Section::Require && heard.site == *site && **found == reason
            }
            Outcome::Unknown(found) => heard.site == *site && **found == reason,
            Outcome::Met(_) => heard.section == Section::Deny && same_rule,
            Outcome::NotJudged => false,
        }
}

proptest! {
    #[test]
    fn the_evaluator_agrees_with_the_model(
        policies in policies(), closed: bool, asking in asking(),
    ) {
        let decision = decided(&policies, closed, &asking);
        let expected = model_refuses(&policies, closed, &asking);
        prop_assert_eq!(denial(&decision).is_some(), expected, "{}", told(&decision));
    }

    #[test]
    fn an_explanation_is_the_decision(policies in policies(), closed: bool, asking in asking()) {
        let mut listener = Listener::default();
        let snapshot = snapshot(&policies, closed);
        let observed =
            decide_observed(&snapshot, request(&asking), &NoTokens, NOW, &mut listener);
        prop_assert_eq!(told(&observed), told(&decided(&policies, closed, &asking)));
        let heard = listener.0.into_inner();
        if let Some(denial) = denial(&observed) {
            let Some(site) = &denial.site else { return Ok(()) };
            let found = heard.iter().any(|heard| stands_on(heard, &denial.reason, site));
            prop_assert!(found, "{:?} was not heard", denial);
        } else {
            let judged = heard.iter().all(|heard| heard.outcome != Outcome::NotJudged);
            prop_assert!(judged, "a request passed with a check that was left out");
        }
    }

    #[test]
    fn the_order_of_policies_and_rules_is_irrelevant(
        (policies, shuffled) in policies().prop_flat_map(|policies| {
            (Just(policies.clone()), Just(policies).prop_shuffle())
        }),
        closed: bool,
        asking in asking(),
    ) {
        let turned: Vec<_> = shuffled.into_iter().map(|mut policy| {
            policy.deny.reverse();
            policy.require.reverse();
            policy
        }).collect();
        prop_assert_eq!(
            told(&decided(&policies, closed, &asking)),
            told(&decided(&turned, closed, &asking))
        );
    }

    #[test]
    fn another_policy_never_opens_a_route(
        mut policies in policies(), more in policies(), asking in asking(),
    ) {
        let before = denial(&decided(&policies, false, &asking)).is_some();
        policies.extend(more.into_iter().map(|policy| {
            PolicyText { name: format!("more-{}", policy.name), ..policy }
        }));
        let after = denial(&decided(&policies, false, &asking)).is_some();
        prop_assert!(!before || after);
    }

    #[test]
    fn a_denied_address_stays_denied_whatever_else_is_added(
        more in policies(), asking in asking(),
    ) {
        let networks = Asked::Networks((0..NETWORKS.len()).collect(), true);
        let blocked = RuleText {
            name: "blocked".into(), shadow: false, alternatives: vec![vec![networks]],
        };
        let mut policies: Vec<_> =
            more.into_iter().filter(|policy| !policy.invalid).collect();
        policies.push(PolicyText {
            name: "zzz".into(), deny: vec![blocked], require: Vec::new(), path: None,
            invalid: false, disclosure: Disclosure::Code,
        });
        let decision = decided(&policies, false, &asking);
        let reason = denial(&decision).map(|denial| &denial.reason);
        let spoken = matches!(reason, Some(DenialReason::AddressDenied { .. }));
        prop_assert!(spoken, "{:?}", reason);
    }

    #[test]
    fn rules_in_shadow_never_block(mut policies in policies(), asking in asking()) {
        for policy in &mut policies {
            policy.invalid = false;
            for rule in policy.deny.iter_mut().chain(&mut policy.require) {
                rule.shadow = true;
            }
        }
        let decision = decided(&policies, false, &asking);
        prop_assert!(denial(&decision).is_none(), "{}", told(&decision));
    }
}
