//! Fields that are unknown, missing or of the wrong type.

use crds::{AccessSubscription, decode};
use serde_json::{Value, json};

use crate::{
    check::{check_policy, check_refused, errors},
    example::{plan, policy, subscription, with, without},
};

#[test]
fn unknown_field_names_the_nearest_known_field() {
    check_policy(&[
        (
            "/spec/requires",
            json!([]),
            "spec.requires: unknown field `requires`: did you mean `require`?",
        ),
        (
            "/spec/require/1/anyOf/0/jwt/claimz",
            json!([]),
            "spec.require[1].anyOf[0].jwt.claimz: unknown field `claimz`: did you mean `claims`?",
        ),
        (
            "/spec/require/0/ip/Cidrs",
            json!([]),
            "spec.require[0].ip.Cidrs: unknown field `Cidrs`: did you mean `cidrs`?",
        ),
        (
            "/spec/onDeny/colour",
            json!("red"),
            "spec.onDeny.colour: unknown field `colour`: the fields here are `disclosure`, `hint`",
        ),
        ("/specs", json!({}), "specs: unknown field `specs`: did you mean `spec`?"),
    ]);
}

#[test]
fn all_unknown_fields_are_found_not_only_the_first() {
    let manifest = with(policy(), "/spec/requires", json!([]));
    let manifest = with(manifest, "/spec/deny/0/ip/cidr", json!([]));
    let manifest = with(manifest, "/spec/jwtProviders/1/jwks/inlined", json!(""));
    let paths: Vec<_> = errors(&manifest)
        .iter()
        .filter_map(|error| error.split_once(": unknown").map(|(path, _)| path.to_owned()))
        .collect();
    assert_eq!(
        paths,
        ["spec.deny[0].ip.cidr", "spec.jwtProviders[1].jwks.inlined", "spec.requires"]
    );
}

#[test]
fn values_of_the_wrong_type_are_refused() {
    check_policy(&[
        ("/spec/deny", json!("all"), "spec.deny: must be a list, not a text"),
        ("/spec/require/0/ip", json!([]), "spec.require[0].ip: must be an object, not a list"),
        (
            "/spec/require/0/ip/infrastructure",
            json!("yes"),
            "spec.require[0].ip.infrastructure: must be `true` or `false`, not a text",
        ),
        (
            "/spec/require/0/name",
            json!(7),
            "spec.require[0].name: must be a text, not the number `7`",
        ),
        ("/spec/deny", Value::Null, "spec.deny: has no value: give a list, or leave the field out"),
        (
            "/spec/require/1/anyOf/0/jwt/claims/1/equals",
            json!({}),
            "spec.require[1].anyOf[0].jwt.claims[1].equals: must be a text, a number, `true` or `false`, not an object",
        ),
        ("/spec", json!([]), "spec: must be an object, not a list"),
    ]);
}

#[test]
fn missing_fields_are_named() {
    check_refused(&without(policy(), "/spec/targetRefs"), "spec.targetRefs: required, but missing");
    check_refused(
        &without(policy(), "/spec/require/0/ip/cidrs"),
        "spec.require[0].ip.cidrs: required, but missing",
    );
    check_refused(&without(policy(), "/spec"), "spec: required, but missing");
    check_refused(&without(policy(), "/metadata"), "metadata: required, but missing");
    check_refused(&without(plan(), "/spec/approval"), "spec.approval: required, but missing");
    check_refused(
        &without(subscription(), "/spec/planRef/name"),
        "spec.planRef.name: required, but missing",
    );
}

#[test]
fn another_kind_or_version_is_refused() {
    check_policy(&[
        ("/kind", json!("Policy"), "kind: must be `AccessPolicy`"),
        ("/apiVersion", json!("whygate.dev/v1"), "apiVersion: must be `whygate.dev/v1alpha1`"),
    ]);
    check_refused(&json!([]), "manifest: must be an object, not a list");
}

#[test]
fn a_status_that_cannot_be_read_never_refuses_the_object() {
    let manifest = with(subscription(), "/status", json!({ "state": "Unheard-of" }));
    let subscription: AccessSubscription = decode(&manifest).expect("the spec is valid");
    assert_eq!(subscription.status, None);
}

#[test]
fn messages_stay_short_and_printable_whatever_the_manifest_holds() {
    let name = format!("a\n\u{1b}[31m{}", "b".repeat(10_000));
    let fields = json!({ (name.as_str()): 1 });
    for manifest in [
        with(policy(), "/spec/onDeny", fields),
        with(policy(), "/spec/require/0/ip/cidrs/0", json!(name)),
        with(policy(), "/spec/enforcement", json!(name)),
    ] {
        let errors = errors(&manifest);
        let is_fit = |error: &String| error.len() < 400 && !error.contains(char::is_control);
        assert!(!errors.is_empty() && errors.iter().all(is_fit), "{errors:?}");
    }
}

#[test]
fn errors_of_one_manifest_are_bounded() {
    let manifest = with(policy(), "/spec/require/0/ip/cidrs", json!(vec!["no"; 5000]));
    assert_eq!(errors(&manifest).len(), 1000);
}
