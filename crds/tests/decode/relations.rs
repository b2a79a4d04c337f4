//! Demands on several fields or entries together.

use serde_json::json;

use crate::{
    check::{check_policy, check_refused},
    example::{policy, with},
};

#[test]
fn names_and_algorithms_are_unique_in_their_list() {
    check_policy(&[
        (
            "/spec/require/1/name",
            json!("office"),
            "spec.require[1].name: `office` stands at [0] already: it must be unique",
        ),
        (
            "/spec/jwtProviders/1/name",
            json!("keycloak"),
            "spec.jwtProviders[1].name: `keycloak` stands at [0] already: it must be unique",
        ),
        (
            "/spec/jwtProviders/1/algorithms",
            json!(["ES256", "RS256", "ES256"]),
            "spec.jwtProviders[1].algorithms[2]: `ES256` stands at [0] already: it must be unique",
        ),
    ]);
}

#[test]
fn demands_on_which_fields_are_given_are_judged() {
    let rule = "a rule has either checks (`ip`, `jwt`, `subscription`, `clientCertificate`, `methods`) or `anyOf`: give one of the two; to combine them, repeat the checks in each alternative of `anyOf` or write two rules";
    let source = "a key set has one source: give exactly one of `inline` and `secretRef`";
    let audience = "list the accepted `audiences`, or write `anyAudience: true` to accept tokens for any service; not both";
    let names = "give names in `uris`, `dnsNames` or `emails`, or leave `subjectAltNames` out";
    let claim = "a claim is compared in one way: give exactly one of `equals`, `contains`, `oneOf`";
    check_policy(&[
        ("/spec/deny/0", json!({ "name": "empty" }), &format!("spec.deny[0]: {rule}")),
        ("/spec/require/1/methods", json!(["GET"]), &format!("spec.require[1]: {rule}")),
        (
            "/spec/require/1/anyOf/1",
            json!({}),
            "spec.require[1].anyOf[1]: an alternative without a check would admit everybody: give at least one of `ip`, `jwt`, `subscription`, `clientCertificate`, `methods`",
        ),
        (
            "/spec/require/1/anyOf/2/clientCertificate/subjectAltNames",
            json!({}),
            &format!("spec.require[1].anyOf[2].clientCertificate.subjectAltNames: {names}"),
        ),
        (
            "/spec/jwtProviders/0/jwks/inline",
            json!("{}"),
            &format!("spec.jwtProviders[0].jwks: {source}"),
        ),
        ("/spec/jwtProviders/0/jwks", json!({}), &format!("spec.jwtProviders[0].jwks: {source}")),
        ("/spec/jwtProviders/0/audiences", json!([]), &format!("spec.jwtProviders[0]: {audience}")),
        (
            "/spec/jwtProviders/0/anyAudience",
            json!(true),
            &format!("spec.jwtProviders[0]: {audience}"),
        ),
        (
            "/spec/require/1/anyOf/0/jwt/claims/0/equals",
            json!("partner"),
            &format!("spec.require[1].anyOf[0].jwt.claims[0]: {claim}"),
        ),
        (
            "/spec/require/1/anyOf/0/jwt/claims/0",
            json!({ "path": "sub" }),
            &format!("spec.require[1].anyOf[0].jwt.claims[0]: {claim}"),
        ),
        (
            "/spec/require/1/anyOf/0/jwt/scopes",
            json!({}),
            "spec.require[1].anyOf[0].jwt.scopes: give scopes in `all` or `any`, or leave `scopes` out",
        ),
    ]);
    let manifest = with(with(policy(), "/spec/deny", json!([])), "/spec/require", json!([]));
    check_refused(
        &manifest,
        "spec: a policy without a rule demands nothing: write at least one rule in `deny` or `require`",
    );
}
