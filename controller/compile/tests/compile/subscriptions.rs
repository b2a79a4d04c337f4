//! Subscriptions: plans, consumers, keys.

use compile::{Settings, finding::Effect};
use decision::subscription::KeyDigest;

use crate::world::{SECRET, World, api, check, check_findings, check_with, policy};

fn key(id: &str) -> String {
    format!("wg_{id}_{SECRET}")
}

fn digest(id: &str) -> String {
    use std::fmt::Write;
    KeyDigest::of(key(id).as_bytes()).0.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn protected() -> String {
    api() + &policy("plans", "  require: [{ name: a, subscription: { plans: [gold] } }]")
}

fn plan(spec: &str) -> String {
    format!(
        "apiVersion: whygate.dev/v1alpha1\nkind: AccessPlan\nmetadata: {{ name: gold, namespace: shop }}\nspec: {{ approval: Automatic, {spec} }}\n---\n"
    )
}

fn subscription(name: &str, id: &str, spec: &str) -> String {
    let (namespace, name) = name.split_once('/').expect("a namespace");
    let digest = digest(id);
    format!(
        "apiVersion: whygate.dev/v1alpha1\nkind: AccessSubscription\nmetadata: {{ name: {name}, namespace: {namespace} }}\nspec: {{ planRef: {{ namespace: shop, name: gold }}, credentials: [{{ apiKey: {{ id: {id}, sha256: {digest} }} }}], {spec} }}\n---\n"
    )
}

fn namespace(name: &str, labels: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Namespace\nmetadata: {{ name: {name}, labels: {{ {labels} }} }}\n---\n"
    )
}

#[track_caller]
fn check_key(text: &str, id: &str, expected: &str) {
    check(text, &[(&format!("GET api.example.com/ x-api-key={}", key(id)), expected)]);
}

#[test]
fn a_subscription_of_the_plans_own_namespace_is_active() {
    let text = protected() + &plan("") + &subscription("shop/mobile", "aaaaaaaa", "");
    check_key(&text, "aaaaaaaa", "shop/api:80");
    check_key(&text, "bbbbbbbb", "KeyUnknown");
    check(&text, &[("GET api.example.com/", "KeyMissing")]);
    check_findings(&text, &[]);
}

#[test]
fn without_consumers_other_namespaces_are_invalid() {
    let text = protected() + &plan("") + &subscription("acme/mobile", "aaaaaaaa", "");
    check_key(&text, "aaaaaaaa", "SubscriptionInvalid");
    check_findings(
        &text,
        &[
            "AccessSubscription acme/mobile at spec.planRef: AccessPlan shop/gold admits only subscriptions of its own namespace",
        ],
    );
}

#[test]
fn consumers_are_selected_by_the_labels_of_their_namespace() {
    let ask = format!("GET api.example.com/ x-api-key={}", key("aaaaaaaa"));
    for (selector, labels, expected) in [
        ("matchLabels: { partner: 'true' }", "partner: 'true'", "shop/api:80"),
        ("matchLabels: { partner: 'true' }", "", "SubscriptionInvalid"),
        ("matchLabels: { kubernetes.io/metadata.name: acme }", "", "shop/api:80"),
        (
            "matchLabels: { kubernetes.io/metadata.name: shop }",
            "kubernetes.io/metadata.name: shop",
            "SubscriptionInvalid",
        ),
        ("matchExpressions: [{ key: a, operator: In, values: [x] }]", "a: x", "shop/api:80"),
        (
            "matchExpressions: [{ key: a, operator: NotIn, values: [x] }]",
            "a: x",
            "SubscriptionInvalid",
        ),
        ("matchExpressions: [{ key: a, operator: Exists }]", "", "SubscriptionInvalid"),
        ("matchExpressions: [{ key: a, operator: DoesNotExist }]", "", "shop/api:80"),
        ("", "", "shop/api:80"),
    ] {
        let text = protected()
            + &plan(&format!("consumers: {{ namespaceSelector: {{ {selector} }} }}"))
            + &subscription("acme/mobile", "aaaaaaaa", "")
            + &namespace("acme", labels)
            + &namespace("shop", "");
        check_with(&text, &Settings::default(), &[(&ask, expected)]);
    }
}

#[test]
fn a_consumer_whose_namespace_is_unknown_is_not_admitted() {
    let text = protected()
        + &plan("consumers: { namespaceSelector: {} }")
        + &subscription("acme/mobile", "aaaaaaaa", "")
        + &namespace("shop", "");
    check_key(&text, "aaaaaaaa", "SubscriptionInvalid");
}

#[test]
fn a_plan_that_does_not_exist_is_told_with_the_one_that_was_meant() {
    let ask = format!("GET api.example.com/ x-api-key={}", key("aaaaaaaa"));
    let open = plan("consumers: { namespaceSelector: {} }");
    let mistyped = |place: &str| {
        subscription("acme/mobile", "aaaaaaaa", "")
            .replace("planRef: { namespace: shop, name: gold }", place)
    };
    for (offer, place, remedy) in [
        (&open, "planRef: { namespace: shop, name: glod }", "Write `gold`, or create the plan."),
        (&plan(""), "planRef: { namespace: shop, name: glod }", "Create the plan."),
        (
            &open,
            "planRef: { name: gold }",
            "Set `spec.planRef.namespace: shop`, or create the plan.",
        ),
    ] {
        let world = World::of(&(protected() + offer + &mistyped(place)));
        assert_eq!(world.ask(&ask), "SubscriptionInvalid", "{place}");
        assert_eq!(world.remedy(&ask), remedy, "{place}");
        let finding = world.compiled.findings.first().expect("a finding");
        assert_eq!((finding.remedy.as_str(), finding.effect), (remedy, Effect::Rejects));
    }
}

#[test]
fn a_plan_of_another_namespace_is_not_proposed_to_be_accepted() {
    let gold = plan("");
    let text = protected()
        + &gold
        + &gold.replace("namespace: shop", "namespace: acme")
        + &subscription("acme/mobile", "aaaaaaaa", "")
            .replace("namespace: shop, name: gold", "name: gold");
    check_key(&text, "aaaaaaaa", "PlanNotAccepted");
    let ask = format!("GET api.example.com/ x-api-key={}", key("aaaaaaaa"));
    assert_eq!(
        World::of(&text).remedy(&ask),
        "Set spec.planRef.namespace to shop on AccessSubscription acme/mobile."
    );
}

#[test]
fn suspension_and_expiry_close() {
    for (spec, expected) in [
        ("suspend: true", "SubscriptionSuspended"),
        ("expiresAt: '2025-12-31T23:59:59Z'", "SubscriptionExpired"),
        ("expiresAt: '2026-01-01T00:00:01Z'", "shop/api:80"),
    ] {
        let text = protected() + &plan("") + &subscription("shop/mobile", "aaaaaaaa", spec);
        check_key(&text, "aaaaaaaa", expected);
    }
}

#[test]
fn an_undecodable_subscription_opens_nothing() {
    let text =
        protected() + &plan("") + &subscription("shop/mobile", "aaaaaaaa", "suspended: true");
    check_key(&text, "aaaaaaaa", "SubscriptionInvalid");
    assert_eq!(World::of(&text).findings().len(), 1);
}

#[test]
fn an_invalid_plan_makes_its_checks_unknown() {
    let text = protected() + &plan("limit: 1") + &subscription("shop/mobile", "aaaaaaaa", "");
    check_key(&text, "aaaaaaaa", "CredentialStoreUnavailable");
}

#[test]
fn of_equal_digests_the_valid_then_the_older_subscription_counts() {
    let young = subscription("shop/a", "aaaaaaaa", "suspend: true")
        .replace("name: a,", "name: a, creationTimestamp: '2025-01-02T00:00:00Z',");
    let old = subscription("shop/b", "aaaaaaaa", "")
        .replace("name: b,", "name: b, creationTimestamp: '2025-01-01T00:00:00Z',");
    let text = protected() + &plan("") + &young + &old;
    check_key(&text, "aaaaaaaa", "shop/api:80");
    check_findings(
        &text,
        &[
            "AccessSubscription shop/a at spec.credentials[0].apiKey.sha256: this digest belongs to another subscription",
        ],
    );
    let stranger = subscription("acme/c", "aaaaaaaa", "")
        .replace("name: c,", "name: c, creationTimestamp: '2024-01-01T00:00:00Z',");
    check_key(&(text + &stranger), "aaaaaaaa", "shop/api:80");
}
