//! The rows of the fail-closed table that manifests decide.

use compile::{Before, Settings, finding::Effect, resources::Unreadable, settings::Posture};
use decision::{disclosure::Disclosure, refs::Kind};

use crate::world::{
    OFFICE, World, aged, api, check, check_findings, check_with, ingress, policy, rule, settings,
};

fn annotated(annotations: &str) -> String {
    let rules = format!("rules: [{}]", rule("api.example.com", "/"));
    ingress(&format!("annotations: {{ {annotations} }}"), &rules)
}

#[test]
fn a_required_policy_must_exist_be_accepted_and_name_the_ingress() {
    let text = annotated("whygate.dev/require-policy: office");
    let closed = [("GET api.example.com/ 192.0.2.7", "PolicyMissing")];
    check(&text, &closed);
    check_findings(
        &text,
        &[
            "Ingress shop/api at metadata.annotations['whygate.dev/require-policy']: AccessPolicy shop/office: it does not exist",
        ],
    );
    let elsewhere = policy("office", OFFICE).replace("name: api }", "name: web }");
    check(&(text.clone() + &elsewhere), &closed);
    let shadow = policy("office", &format!("  enforcement: Shadow\n{OFFICE}"));
    check(&(text.clone() + &shadow), &closed);
    let remedy = |policy: &str| World::of(&(text.clone() + policy)).remedy(closed[0].0);
    assert_eq!(remedy(&shadow), "Set its `enforcement: Enforce`.");
    assert_eq!(remedy(&elsewhere), "Add the Ingress to its `targetRefs`.");
    assert_eq!(remedy(""), "Apply it, or correct the name.");
    let invalid = policy("office", "  requires: []");
    check(&(text.clone() + &invalid), &[("GET api.example.com/", "PolicyInvalid")]);
    let there = text + &policy("office", OFFICE);
    check(&there, &[("GET api.example.com/ 192.0.2.7", "shop/web:80")]);
}

#[test]
fn a_closed_ingress_tells_no_more_than_the_strictest_of_its_policies() {
    let strict = |extra: &str| {
        policy("office", &format!("  onDeny: {{ disclosure: None }}\n{OFFICE}"))
            .replace("name: api }", &format!("name: api{extra} }}"))
    };
    let told = |text: &str| World::of(text).disclosure("GET api.example.com/ 192.0.2.7");
    let foreign = annotated("nginx.ingress.kubernetes.io/whitelist-source-range: 10.0.0.0/8");
    assert_eq!(told(&foreign), Some(Disclosure::Code));
    assert_eq!(told(&(foreign + &strict(""))), Some(Disclosure::None));
    let impossible = annotated("") + &strict(", hosts: [other.example.com]");
    assert_eq!(told(&impossible), Some(Disclosure::None));
}

#[test]
fn a_required_policy_must_cover_the_request() {
    let narrowed = policy("office", OFFICE).replace("name: api }", "name: api, paths: [/admin] }");
    let text = annotated("whygate.dev/require-policy: office") + &narrowed;
    check(
        &text,
        &[
            ("GET api.example.com/ 192.0.2.7", "PolicyMissing"),
            ("GET api.example.com/admin 192.0.2.7", "shop/web:80"),
        ],
    );
}

#[test]
fn an_annotation_of_ingress_nginx_that_protects_nothing_is_told_and_closes_nothing() {
    let key = "nginx.ingress.kubernetes.io/proxy-body-size";
    let text = annotated(&format!("{key}: 8m"));
    check(&text, &[("GET api.example.com/", "shop/web:80")]);
    let message =
        format!("Ingress shop/api at metadata.annotations['{key}']: `{key}` has no effect here");
    check_findings(&text, &[&message]);
    let world = World::of(&text);
    let finding = world.compiled.findings.first().expect("a finding");
    assert_eq!(finding.effect, Effect::Warns);
    assert_eq!(
        finding.remedy,
        "Write `whygate.dev/body-limit`; without it there is no limit. Then remove the annotation, or list it in `whygate.dev/ignore-annotations`."
    );
    check_findings(&annotated(&format!("{key}: 8m, whygate.dev/ignore-annotations: {key}")), &[]);
    let many: Vec<_> =
        (0..30).map(|number| format!("nginx.ingress.kubernetes.io/x-{number}: a")).collect();
    assert_eq!(World::of(&annotated(&many.join(", "))).findings().len(), 21);
}

#[test]
fn a_security_annotation_of_another_controller_closes_unless_it_is_given_up() {
    let key = "nginx.ingress.kubernetes.io/whitelist-source-range";
    let text = annotated(&format!("{key}: 10.0.0.0/8"));
    check(&text, &[("GET api.example.com/", "PolicyUnenforceable")]);
    let world = World::of(&text);
    assert!(
        world.compiled.findings[0].remedy.contains("require[].ip.cidrs"),
        "{:?}",
        world.compiled.findings
    );
    let ignored = annotated(&format!("{key}: 10.0.0.0/8, whygate.dev/ignore-annotations: {key}"));
    check(&ignored, &[("GET api.example.com/", "shop/web:80")]);
}

#[test]
fn an_unknown_annotation_of_ours_closes_and_cannot_be_given_up() {
    let key = "whygate.dev/requir-policy";
    for annotations in
        [format!("{key}: office"), format!("{key}: a, whygate.dev/ignore-annotations: {key}")]
    {
        let text = annotated(&annotations);
        check(&text, &[("GET api.example.com/", "PolicyUnenforceable")]);
        let world = World::of(&text);
        assert!(
            world
                .compiled
                .findings
                .iter()
                .any(|finding| finding.remedy.contains("`whygate.dev/require-policy`")),
            "{:?}",
            world.compiled.findings
        );
    }
}

#[test]
fn an_invalid_annotation_of_ours_closes() {
    for annotations in ["whygate.dev/ssl-redirect: 'no'", "whygate.dev/require-policy: ' , '"] {
        check(&annotated(annotations), &[("GET api.example.com/", "RouteInvalid")]);
    }
}

#[test]
fn an_ingress_in_an_unknown_namespace_is_refused() {
    check_with(&api(), &Settings::default(), &[("GET api.example.com/", "RouteInvalid")]);
    let known = api() + "apiVersion: v1\nkind: Namespace\nmetadata: { name: shop }\n";
    check_with(&known, &Settings::default(), &[("GET api.example.com/", "shop/api:80")]);
    let other = api() + "apiVersion: v1\nkind: Namespace\nmetadata: { name: other }\n";
    check(&other, &[("GET api.example.com/", "RouteInvalid")]);
}

#[test]
fn posture_closed_demands_a_policy_with_an_enforced_requirement() {
    let closed = Settings { default_posture: Posture::Closed, ..settings() };
    check_with(&api(), &closed, &[("GET api.example.com/", "PolicyRequired")]);
    let deny = policy("deny", "  deny: [{ name: a, ip: { cidrs: [10.0.0.0/8] } }]");
    check_with(&(api() + &deny), &closed, &[("GET api.example.com/", "PolicyRequired")]);
    let required = api() + &policy("office", OFFICE);
    check_with(&required, &closed, &[("GET api.example.com/ 192.0.2.7", "shop/api:80")]);
}

#[test]
fn class_and_namespace_can_close_and_a_typing_error_there_does_not_open() {
    for annotation in [
        "whygate.dev/posture: Closed",
        "whygate.dev/posture: close",
        "whygate.dev/postur: Closed",
        "whygate.dev/posture: true",
    ] {
        let namespace = format!(
            "apiVersion: v1\nkind: Namespace\nmetadata: {{ name: shop, annotations: {{ {annotation} }} }}\n"
        );
        check(&(api() + &namespace), &[("GET api.example.com/", "PolicyRequired")]);
    }
    let class = "apiVersion: networking.k8s.io/v1\nkind: IngressClass\nmetadata: { name: whygate, annotations: { whygate.dev/posture: Closed } }\nspec: { controller: whygate.dev/ingress-controller }\n";
    check(&(api() + class), &[("GET api.example.com/", "PolicyRequired")]);
    let open = "apiVersion: v1\nkind: Namespace\nmetadata: { name: shop, annotations: { whygate.dev/posture: Open } }\n";
    let closed = Settings { default_posture: Posture::Closed, ..settings() };
    check_with(&(api() + open), &closed, &[("GET api.example.com/", "PolicyRequired")]);
}

#[track_caller]
fn check_unreadable(kind: Kind, text: &str, request: &str, expected: &str) {
    let mut world = World::of(text);
    let namespace = Some("shop".to_owned());
    world.manifests.resources.unreadable.push(Unreadable { kind, namespace });
    world.compile_after(&Before::default());
    assert_eq!(world.ask(request), expected, "{:#?}", world.findings());
    let named = world.compiled.findings.iter().any(|finding| {
        finding.remedy.contains("get, list and watch")
            || finding.message.contains("get, list and watch")
    });
    assert!(named, "{:#?}", world.compiled.findings);
}

#[test]
fn policies_that_may_not_be_read_close_the_namespace_and_no_other() {
    let other = aged("other/web", 1, "", &[rule("b.example.com", "/")]);
    let text = api() + &other;
    check_unreadable(Kind::AccessPolicy, &text, "GET api.example.com/", "PolicyUnenforceable");
    check_unreadable(Kind::AccessPolicy, &text, "GET b.example.com/", "other/web:80");
}

#[test]
fn services_that_may_not_be_read_lead_nowhere() {
    let without = api().replace("kind: Service", "kind: ConfigMap");
    check_unreadable(
        Kind::Service,
        &without,
        "GET api.example.com/",
        "BackendMissing: Services of namespace `shop` may not be read",
    );
}

#[test]
fn a_secret_of_a_key_set_that_may_not_be_read_or_is_missing_makes_the_check_unknown() {
    let text = api()
        + &policy(
            "jwt",
            "  require: [{ name: a, anyOf: [{ jwt: { provider: k } }, { ip: { cidrs: [192.0.2.0/24] } }] }]\n  jwtProviders: [{ name: k, issuer: i, audiences: [a], jwks: { secretRef: { name: keys } } }]",
        );
    check(&text, &[("GET api.example.com/ 192.0.2.7", "shop/api:80")]);
    check_findings(
        &text,
        &[
            "AccessPolicy shop/jwt at spec.jwtProviders[0].jwks.secretRef: Secret shop/keys: it does not exist",
        ],
    );
    check_unreadable(Kind::Secret, &text, "GET api.example.com/ 192.0.2.7", "shop/api:80");
}

#[test]
fn a_missing_plan_makes_the_check_unknown() {
    let text =
        api() + &policy("plans", "  require: [{ name: a, subscription: { plans: [gold] } }]");
    let key = format!("GET api.example.com/ x-api-key=wg_aaaaaaaa_{}", crate::world::SECRET);
    check(&text, &[(&key, "CredentialStoreUnavailable")]);
    assert!(World::of(&text).remedy(&key).starts_with("Create or correct the plan"));
    check_findings(
        &text,
        &[
            "AccessPolicy shop/plans at spec.require[0].subscription.plans[0]: AccessPlan shop/gold: it does not exist",
        ],
    );
}
