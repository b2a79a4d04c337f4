//! Values that are of the right type and still not allowed.

use serde_json::{Value, json};

use crate::{
    check::{check_policy, check_refused, errors},
    example::{plan, policy, subscription, with},
};

#[test]
fn values_outside_of_a_list_of_choices_are_refused() {
    check_policy(&[
        (
            "/spec/enforcement",
            json!("enforce"),
            "spec.enforcement: `enforce` is not one of `Enforce`, `Shadow`: did you mean `Enforce`?",
        ),
        (
            "/spec/targetRefs/0/kind",
            json!("Service"),
            "spec.targetRefs[0].kind: `Service` is not one of `Ingress`",
        ),
        (
            "/spec/targetRefs/0/group",
            json!("extensions"),
            "spec.targetRefs[0].group: `extensions` is not one of `networking.k8s.io`",
        ),
        (
            "/spec/onDeny/disclosure",
            json!("All"),
            "spec.onDeny.disclosure: `All` is not one of `None`, `Code`, `Reason`",
        ),
    ]);
    let manifest = with(policy(), "/spec/jwtProviders/1/algorithms", json!(["HS256"]));
    assert!(
        errors(&manifest)[0]
            .starts_with("spec.jwtProviders[1].algorithms[0]: `HS256` is not one of")
    );
    check_refused(
        &with(plan(), "/spec/approval", json!("Manual")),
        "spec.approval: `Manual` is not one of `Automatic`",
    );
}

#[test]
fn texts_of_the_wrong_form_are_refused() {
    let label = "must be lower-case letters, digits and `-`, with a letter or digit at both ends";
    check_policy(&[
        (
            "/spec/require/0/name",
            json!("Office"),
            &format!("spec.require[0].name: `Office` {label}"),
        ),
        (
            "/spec/targetRefs/0/hosts/0",
            json!("*.*.example.com"),
            "spec.targetRefs[0].hosts[0]: `*.*.example.com` must be a lower-case host such as `api.example.com`, or `*.example.com` for one label",
        ),
        (
            "/spec/targetRefs/0/paths/0",
            json!("v1"),
            "spec.targetRefs[0].paths[0]: `v1` must be a path that begins with `/`",
        ),
        (
            "/spec/require/1/anyOf/1/methods/0",
            json!("get"),
            "spec.require[1].anyOf[1].methods[0]: `get` must be a method in upper-case letters, such as `GET`",
        ),
        (
            "/spec/jwtProviders/1/clockSkew",
            json!("1 minute"),
            "spec.jwtProviders[1].clockSkew: `1 minute` must be a duration such as `30s` or `1m30s`",
        ),
        (
            "/spec/require/1/anyOf/0/jwt/claims/0/path",
            json!("a..b"),
            "spec.require[1].anyOf[0].jwt.claims[0].path: `a..b` must be names separated by single dots, such as `realm_access.roles`",
        ),
    ]);
    check_refused(
        &with(subscription(), "/spec/credentials/0/apiKey/sha256", json!("AB".repeat(32))),
        &format!(
            "spec.credentials[0].apiKey.sha256: `{}` must be 64 lower-case hexadecimal digits, as `whygate key new` prints them",
            "AB".repeat(32)
        ),
    );
    check_refused(
        &with(subscription(), "/spec/credentials/0/apiKey/id", json!("7F3K9Q2M")),
        "spec.credentials[0].apiKey.id: `7F3K9Q2M` must be 8 lower-case letters or digits, as `whygate key new` prints them",
    );
    check_refused(
        &with(subscription(), "/spec/expiresAt", json!("tomorrow")),
        "spec.expiresAt: `tomorrow` is not a time: write it as in `2027-06-30T00:00:00Z`",
    );
}

#[test]
fn texts_that_are_no_network_are_refused_with_a_remedy() {
    let at = |cidr: &str| with(policy(), "/spec/require/0/ip/cidrs/1", json!(cidr));
    for (cidr, expected) in [
        (
            "10.0.0.0/33",
            "`10.0.0.0/33` is not a network: the prefix length is a number from 0 to 32",
        ),
        (
            "10.0.0.0/08",
            "`10.0.0.0/08` is not a network: the prefix length is a number from 0 to 32",
        ),
        (
            "10.0.0.0/+8",
            "`10.0.0.0/+8` is not a network: the prefix length is a number from 0 to 32",
        ),
        ("::/129", "`::/129` is not a network: the prefix length is a number from 0 to 128"),
        ("10.0.0.7", "`10.0.0.7` is not a network: write `10.0.0.7/32` for a single address"),
        (
            "office",
            "`office` is not a network: write it as in `198.51.100.0/24` or `2001:db8::/32`",
        ),
        ("10.0.0/8", "`10.0.0/8` is not a network: `10.0.0` is not an address"),
    ] {
        check_refused(&at(cidr), &format!("spec.require[0].ip.cidrs[1]: {expected}"));
    }
    assert_eq!(errors(&at("0.0.0.0/0")), Vec::<String>::new());
}

/// What is said of a list with too many entries.
fn beyond(count: usize, most: usize) -> String {
    format!("has {count} entries: at most {most} are allowed")
}

fn repeated(count: usize, entry: Value) -> Value {
    Value::Array(vec![entry; count])
}

/// Demands that a change of the policy is refused where it was made, by this sentence.
#[track_caller]
fn check_limit(pointer: &str, path: &str, value: Value, expected: &str) {
    check_refused(&with(policy(), pointer, value), &format!("{path}: {expected}"));
}

#[test]
fn lists_beyond_their_limit_are_refused() {
    let target = policy()["spec"]["targetRefs"][0].clone();
    let rule = |index| json!({ "name": format!("r{index}"), "methods": ["GET"] });
    let get = json!({ "methods": ["GET"] });
    for (pointer, path, entry, most) in [
        ("/spec/targetRefs", "spec.targetRefs", target, 16),
        ("/spec/targetRefs/0/hosts", "spec.targetRefs[0].hosts", json!("a.example"), 64),
        ("/spec/targetRefs/0/paths", "spec.targetRefs[0].paths", json!("/"), 64),
        ("/spec/require/0/ip/cidrs", "spec.require[0].ip.cidrs", json!("10.0.0.0/8"), 4096),
        ("/spec/require/1/anyOf", "spec.require[1].anyOf", get, 8),
        ("/spec/require/1/anyOf/1/methods", "spec.require[1].anyOf[1].methods", json!("GET"), 16),
        (
            "/spec/require/1/anyOf/1/subscription/plans",
            "spec.require[1].anyOf[1].subscription.plans",
            json!("gold"),
            16,
        ),
        (
            "/spec/require/1/anyOf/2/clientCertificate/subjectAltNames/uris",
            "spec.require[1].anyOf[2].clientCertificate.subjectAltNames.uris",
            json!("spiffe://acme/a"),
            64,
        ),
        ("/spec/jwtProviders/0/audiences", "spec.jwtProviders[0].audiences", json!("a"), 16),
    ] {
        check_limit(pointer, path, repeated(most + 1, entry), &beyond(most + 1, most));
    }
    check_limit("/spec/deny", "spec.deny", (0..65).map(rule).collect(), &beyond(65, 64));
    check_limit("/spec/targetRefs", "spec.targetRefs", json!([]), "has 0 entries: give at least 1");
    let credential = subscription()["spec"]["credentials"][0].clone();
    check_refused(
        &with(subscription(), "/spec/credentials", repeated(9, credential)),
        &format!("spec.credentials: {}", beyond(9, 8)),
    );
}

#[test]
fn texts_beyond_their_limit_are_refused() {
    for (pointer, path, length) in [
        ("/spec/onDeny/hint", "spec.onDeny.hint", 256),
        ("/spec/deny/0/respond/hint", "spec.deny[0].respond.hint", 256),
        ("/spec/require/0/name", "spec.require[0].name", 63),
        ("/spec/jwtProviders/0/issuer", "spec.jwtProviders[0].issuer", 512),
        ("/spec/jwtProviders/1/jwks/inline", "spec.jwtProviders[1].jwks.inline", 65_536),
    ] {
        let expected = format!("has {} characters: at most {length} are allowed", length + 1);
        check_limit(pointer, path, json!("a".repeat(length + 1)), &expected);
        assert_eq!(
            errors(&with(policy(), pointer, json!("a".repeat(length)))),
            Vec::<String>::new()
        );
    }
    check_limit(
        "/spec/jwtProviders/0/issuer",
        "spec.jwtProviders[0].issuer",
        json!(""),
        "is empty: give it a value, or leave the field out",
    );
}

#[test]
fn length_is_counted_in_characters_as_the_api_server_counts() {
    let manifest = with(policy(), "/spec/onDeny/hint", json!("ä".repeat(256)));
    assert_eq!(errors(&manifest), Vec::<String>::new());
}
