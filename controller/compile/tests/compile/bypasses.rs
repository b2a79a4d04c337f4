//! Warnings of ways around a policy.

use crate::world::{OFFICE, World, api, check_findings, policy, targeted};

fn second() -> String {
    let (_, ingress) = api()
        .rsplit_once("apiVersion: networking")
        .map(|(a, b)| (a.len(), b.to_owned()))
        .expect("an Ingress");
    format!("apiVersion: networking{ingress}")
        .replace("name: api, namespace", "name: second, namespace")
        .replace("api.example.com", "second.example.com")
}

#[test]
fn another_ingress_without_policy_for_the_same_backend_is_told() {
    let text = api() + &second() + &policy("office", OFFICE);
    check_findings(
        &text,
        &[
            "Ingress shop/second at spec.rules[0].http.paths[0]: shop/api:80 has a policy behind another path, and none behind this one",
        ],
    );
    let both = text + &policy("second", OFFICE).replace("name: api }", "name: second }");
    check_findings(&both, &[]);
}

#[test]
fn of_very_many_ingresses_around_a_policy_the_oldest_are_told_one_by_one_and_the_namespace_has_the_rest()
 {
    let backend = "pathType: Prefix, backend: { service: { name: api, port: { number: 80 } } } }";
    let two = format!("paths: [{{ path: /v1, {backend}, {{ path: /,");
    let second = second().replace("paths: [{ path: /,", &two);
    let others = |count: usize| {
        let named = |number: usize| second.replace("second", &format!("other{number:02}"));
        (0..count).map(named).collect::<String>()
    };
    let told = |count| World::of(&(api() + &others(count) + &policy("office", OFFICE))).findings();
    assert!(told(20).iter().all(|told| told.starts_with("Ingress shop/other")), "{:#?}", told(20));
    assert_eq!((told(20).len(), told(21).len(), told(40).len()), (20, 21, 21));
    let rest = "Namespace shop at metadata.name: shop/api:80 has a policy behind some paths, and none behind those of more than 20 Ingresses";
    assert!(told(40).iter().any(|told| told == rest), "{:#?}", told(40));
}

#[test]
fn requests_outside_of_a_narrowing_are_told() {
    let target = |narrowing: &str| {
        let target =
            format!("{{ group: networking.k8s.io, kind: Ingress, name: api, {narrowing} }}");
        api() + &targeted("office", &target, OFFICE)
    };
    check_findings(
        &target("paths: [/admin]"),
        &[
            "AccessPolicy shop/office at spec.targetRefs[0]: requests to `shop/api` outside of these hosts and paths reach shop/api:80 without any policy",
        ],
    );
    check_findings(&target("hosts: ['*.example.com'], paths: [/]"), &[]);
}

#[test]
fn a_way_that_an_invalid_policy_closes_is_no_way_around_another() {
    let target = "{ group: networking.k8s.io, kind: Ingress, name: api, paths: [/orders] }";
    let orders = api() + &targeted("orders", target, OFFICE);
    let invalid = OFFICE.replace("/24", "/33");
    for office in
        [policy("office", &invalid), policy("office", &invalid).replace("targetRefs", "targets")]
    {
        let told = World::of(&(orders.clone() + &office)).findings();
        assert!(!told.iter().any(|told| told.contains("without any policy")), "{told:#?}");
    }
}

#[test]
fn a_deny_rule_that_is_evaded_by_sending_no_token_is_told() {
    let providers = "  jwtProviders: [{ name: k, issuer: i, anyAudience: true, jwks: { inline: '{\"keys\":[{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\"}]}' } }]\n";
    let deny = "  deny: [{ name: guests, jwt: { provider: k, claims: [{ path: role, equals: guest }] } }]\n";
    check_findings(
        &(api() + &policy("a", &format!("{providers}{deny}"))),
        &[
            "AccessPolicy shop/a at spec.deny[0]: `guests` never refuses a caller who leaves the credential out",
        ],
    );
    let require = "  require: [{ name: token, jwt: { provider: k } }]\n";
    check_findings(&(api() + &policy("a", &format!("{providers}{deny}{require}"))), &[]);
}
