//! Lists of single namespaces that may not be read.

use compile::{
    Before, Settings,
    finding::{Effect, Reason},
    resources::{NamespaceReach, Unreadable},
};
use decision::refs::Kind;

use crate::world::{OFFICE, SECRET, World, aged, api, policy, rule, settings};

/// Compiles manifests with a list of one namespace refused.
fn without(kind: Kind, namespace: &str, text: &str) -> World {
    let mut world = World::of(text);
    let namespace = Some(namespace.to_owned());
    world.manifests.resources.unreadable.push(Unreadable { kind, namespace });
    let settings = Settings { namespaces_are_known: true, ..settings() };
    world.compiled = compile::compile(&world.manifests.resources, &settings, &Before::default());
    world
}

#[track_caller]
fn check_without_subscriptions(spec: &str, request: &str, expected: &str) {
    let world = without(Kind::AccessSubscription, "shop", &(api() + &policy("plans", spec)));
    assert_eq!(world.ask(request), expected, "{:#?}", world.findings());
}

#[test]
fn subscriptions_that_may_not_be_read_close_what_enforces_them_and_nothing_else() {
    let request = "GET api.example.com/ 192.0.2.7";
    for closed in [
        "  require: [{ name: a, subscription: { plans: [gold] } }]",
        "  deny: [{ name: a, subscription: { plans: [gold] } }]",
        "  require: [{ name: a, anyOf: [{ ip: { cidrs: [192.0.2.0/24] } }, { subscription: { plans: [gold] } }] }]",
        "  enforcement: Shadow\n  require: [{ name: a, enforcement: Enforce, subscription: { plans: [gold] } }]",
    ] {
        check_without_subscriptions(closed, request, "PolicyUnenforceable");
    }
    check_without_subscriptions(OFFICE, request, "shop/api:80");
    let shadow = "  require: [{ name: a, enforcement: Shadow, subscription: { plans: [gold] } }]";
    check_without_subscriptions(shadow, request, "shop/api:80");
}

#[test]
fn a_policy_whose_subscriptions_may_not_be_read_closes_only_the_requests_that_it_speaks_of() {
    let plans = "  require: [{ name: a, subscription: { plans: [gold] } }]";
    let text = api()
        + &policy("plans", plans).replace("name: api }", "name: api, paths: [/v1] }")
        + &aged("other/web", 1, "", &[rule("b.example.com", "/")]);
    let world = without(Kind::AccessSubscription, "shop", &text);
    assert_eq!(world.ask("GET api.example.com/v1"), "PolicyUnenforceable");
    assert_eq!(world.ask("GET api.example.com/"), "shop/api:80");
    assert_eq!(world.ask("GET b.example.com/"), "other/web:80");
    let remedy = world.remedy("GET api.example.com/v1");
    assert!(remedy.contains("get, list and watch on `accesssubscriptions`"), "{remedy}");
    let accepted = &world.compiled.statuses[0].conditions[0];
    assert!(!accepted.status && accepted.reason == "Unenforceable", "{accepted:?}");
    assert_eq!(
        accepted.message,
        "spec.require[0].subscription: AccessSubscriptions of namespace `shop` may not be read"
    );
}

#[test]
fn subscriptions_to_plans_elsewhere_that_may_not_be_read_are_told_on_the_namespace() {
    let plans = "  require: [{ name: a, subscription: { plans: [gold] } }]";
    let plan = "apiVersion: whygate.dev/v1alpha1\nkind: AccessPlan\nmetadata: { name: gold, namespace: shop }\nspec: { approval: Automatic, consumers: { namespaceSelector: {} } }\n---\n";
    let world =
        without(Kind::AccessSubscription, "acme", &(api() + &policy("plans", plans) + plan));
    let request = format!("GET api.example.com/ x-api-key=wg_aaaaaaaa_{SECRET}");
    assert_eq!(world.ask(&request), "KeyUnknown");
    check_told(
        &world,
        "Namespace acme at metadata.name: AccessSubscriptions of namespace `acme` may not be read, so they open nothing, neither here nor for plans of other namespaces",
        "`accesssubscriptions` of API group whygate.dev in namespace `acme`.",
    );
}

#[test]
fn a_namespace_whose_ingresses_may_not_be_read_says_so() {
    let world = without(Kind::Ingress, "acme", &api());
    assert_eq!(world.ask("GET api.example.com/"), "shop/api:80");
    check_told(
        &world,
        "Namespace acme at metadata.name: Ingresses of namespace `acme` may not be read, so none of them has a route or keeps its hosts",
        "`ingresses` of API group networking.k8s.io in namespace `acme`.",
    );
}

#[test]
fn a_secret_that_nobody_looks_for_is_not_called_missing() {
    let tls = "tls: [{ hosts: [api.example.com], secretName: a }], rules: [";
    let keys = "  require: [{ name: a, jwt: { provider: k } }]\n  jwtProviders: [{ name: k, issuer: i, audiences: [a], jwks: { secretRef: { name: keys } } }]";
    let mut world = World::of(&(api().replace("rules: [", tls) + &policy("jwt", keys)));
    let named =
        |flag, name: &str| NamespaceReach::Named { flag, namespaces: vec![name.to_owned()] };
    let mut told = |reach| {
        world.manifests.resources.secret_reach = reach;
        world.compile_after(&Before::default());
        let findings = world.compiled.findings.iter();
        let about_secrets = findings.filter(|finding| finding.message.starts_with("Secret shop/"));
        about_secrets
            .map(|finding| format!("{} {}", finding.message, finding.remedy))
            .collect::<Vec<_>>()
    };
    for flag in ["--secret-namespaces", "--watch-namespace"] {
        let unread = told(named(flag, "acme"));
        assert_eq!(unread.len(), 2, "{unread:#?}");
        let words = [
            &format!("Secrets of namespace `shop` are not read, because `{flag}` does not name it"),
            &format!("Name `shop` in `{flag}`, and grant"),
        ];
        for text in unread {
            assert!(words.iter().all(|it| text.contains(*it)), "{text}");
            assert!(!text.contains("does not exist"), "{text}");
        }
    }
    for reach in [NamespaceReach::Everywhere, named("--secret-namespaces", "shop")] {
        let missing = told(reach);
        assert!(missing.iter().all(|it| it.contains("it does not exist")), "{missing:#?}");
        assert_eq!(missing.len(), 2, "{missing:#?}");
    }
}

/// Compares the only finding there is.
#[track_caller]
fn check_told(world: &World, expected: &str, remedy: &str) {
    assert_eq!(world.findings(), [expected]);
    let finding = world.compiled.findings.first().expect("a finding");
    let kind = (finding.reason, finding.effect);
    assert_eq!(kind, (Reason::PolicyUnenforceable, Effect::Closes));
    assert!(finding.remedy.ends_with(remedy), "{}", finding.remedy);
}
