//! Whose Leases go when a release is removed: those of its `ServiceAccount`.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde::Deserialize;

/// What a token of a `ServiceAccount` says about it, as the API server writes it
/// (<https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/#bound-service-account-tokens>).
#[derive(Deserialize)]
struct Claims {
    #[serde(rename = "kubernetes.io")]
    kubernetes: Kubernetes,
}

#[derive(Deserialize)]
struct Kubernetes {
    namespace: String,
    serviceaccount: Account,
}

#[derive(Deserialize)]
struct Account {
    name: String,
    uid: String,
}

/// The `ServiceAccount` of a pod's token, as the owner of objects in `namespace`; nothing if it is
/// of another namespace, because an object and its owner share one, or if the token does not say.
pub fn owner(token: &str, namespace: &str) -> Option<OwnerReference> {
    let payload = URL_SAFE_NO_PAD.decode(token.trim().split('.').nth(1)?).ok()?;
    let Claims { kubernetes } = serde_json::from_slice(&payload).ok()?;
    let Account { name, uid } = kubernetes.serviceaccount;
    (kubernetes.namespace == namespace).then(|| OwnerReference {
        api_version: "v1".to_owned(),
        kind: "ServiceAccount".to_owned(),
        name,
        uid,
        ..OwnerReference::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(payload: &str) -> String {
        format!("head.{}.signature\n", URL_SAFE_NO_PAD.encode(payload))
    }

    #[test]
    fn leases_belong_to_the_account_of_the_pod() {
        let token = token(
            r#"{"sub": "x", "kubernetes.io": {"namespace": "edge", "pod": {"name": "a", "uid": "1"}, "serviceaccount": {"name": "whygate", "uid": "0-1"}}}"#,
        );
        let account = owner(&token, "edge").unwrap();
        assert_eq!(
            (&*account.name, &*account.uid, &*account.kind),
            ("whygate", "0-1", "ServiceAccount")
        );
        assert_eq!(owner(&token, "other"), None);
    }

    #[test]
    fn a_token_that_does_not_say_owns_nothing() {
        for text in ["", "a.b", "a.e30.c", "...", &token(r#"{"kubernetes.io": {}}"#)] {
            assert_eq!(owner(text, "edge"), None, "{text}");
        }
    }
}
