//! Key sets from Secrets.

use crate::world::{World, api, check_findings, policy};

/// The public key of RFC 8037 appendix A.2.
const KEY_SET: &str =
    r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;

fn text(metadata: &str, key: &str, content: &str) -> String {
    let spec = "  require: [{ name: a, jwt: { provider: k } }]\n  jwtProviders: [{ name: k, issuer: i, audiences: [a], jwks: { secretRef: { name: keys } } }]";
    api()
        + &policy("jwt", spec)
        + &format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{ name: keys, namespace: shop, {metadata} }}\nstringData: {{ {key}: '{content}' }}\n"
        )
}

const LABEL: &str = "labels: { whygate.dev/use: jwks }";

#[test]
fn a_labelled_secret_with_a_key_set_resolves() {
    let text = text(LABEL, "jwks.json", KEY_SET);
    check_findings(&text, &[]);
    assert_eq!(World::of(&text).ask("GET api.example.com/"), "TokenMissing");
}

#[test]
fn a_secret_that_cannot_be_used_is_told() {
    for (text, message) in [
        (text("", "jwks.json", KEY_SET), "it has no label `whygate.dev/use`"),
        (text(LABEL, "keys", KEY_SET), "it has no key `jwks.json`"),
        (text(LABEL, "jwks.json", "no"), "`jwks.json`: the key set is not JSON"),
    ] {
        let place = "AccessPolicy shop/jwt at spec.jwtProviders[0].jwks.secretRef";
        check_findings(&text, &[&format!("{place}: Secret shop/keys: {message}")]);
        assert_ne!(World::of(&text).ask("GET api.example.com/"), "shop/api:80");
    }
}
