//! Manifests that decode, to be changed by a test in one place.

use serde_json::{Value, json};

/// A policy that uses every field.
pub(crate) fn policy() -> Value {
    serde_saphyr::from_str(
        r#"
apiVersion: whygate.dev/v1alpha1
kind: AccessPolicy
metadata: { name: partners-api, namespace: shop }
spec:
  targetRefs:
  - { group: networking.k8s.io, kind: Ingress, name: api, hosts: [api.example.com, "*.example.org"], paths: [/v1] }
  enforcement: Shadow
  deny:
  - name: blocked-nets
    ip: { cidrs: [203.0.113.128/25] }
    respond: { hint: "Abuse block" }
  require:
  - name: office
    enforcement: Enforce
    ip: { cidrs: [198.51.100.0/24, "2001:db8::/32"], infrastructure: true }
  - name: partner
    anyOf:
    - jwt:
        provider: keycloak
        scopes: { all: [orders.read], any: [a, b] }
        claims:
        - { path: realm_access.roles, contains: partner }
        - { path: verified, equals: true }
        - { path: tenant, oneOf: [acme, globex] }
    - subscription: { plans: [gold, silver] }
      methods: [GET, HEAD]
    - clientCertificate:
        caSecretRef: { name: partner-ca }
        subjectAltNames: { uris: ["spiffe://acme/*"], dnsNames: ["*.acme.example"], emails: ["*@acme.example"] }
  jwtProviders:
  - name: keycloak
    issuer: https://id.example.com/realms/shop
    audiences: [shop-api]
    jwks: { secretRef: { name: keys } }
  - name: other
    issuer: other
    anyAudience: true
    jwks: { inline: '{"keys":[]}' }
    algorithms: [ES256]
    clockSkew: 1m30s
  onDeny: { disclosure: Reason, hint: "Ask in #shop" }
"#,
    )
    .expect("the example is YAML")
}

/// A plan that uses every field.
pub(crate) fn plan() -> Value {
    json!({
        "apiVersion": "whygate.dev/v1alpha1", "kind": "AccessPlan",
        "metadata": { "name": "gold", "namespace": "shop" },
        "spec": {
            "displayName": "Gold", "approval": "Automatic",
            "consumers": { "namespaceSelector": { "matchLabels": { "partner": "true" } } },
        },
    })
}

/// A subscription.
pub(crate) fn subscription() -> Value {
    json!({
        "apiVersion": "whygate.dev/v1alpha1", "kind": "AccessSubscription",
        "metadata": { "name": "mobile", "namespace": "acme" },
        "spec": {
            "planRef": { "namespace": "shop", "name": "gold" },
            "credentials": [{ "apiKey": { "id": "7f3k9q2m", "sha256": "ab".repeat(32) } }],
            "expiresAt": "2027-06-30T00:00:00Z",
        },
    })
}

/// The manifest with the value at a JSON pointer replaced.
pub(crate) fn with(mut manifest: Value, pointer: &str, value: Value) -> Value {
    let (parent, name) = pointer.rsplit_once('/').expect("a pointer begins with a slash");
    let parent = manifest.pointer_mut(parent).expect("the parent is there");
    if let Some(fields) = parent.as_object_mut() {
        fields.insert(name.to_owned(), value);
    } else {
        let index: usize = name.parse().expect("an index");
        *parent.get_mut(index).expect("the entry is there") = value;
    }
    manifest
}

/// The manifest without the field at a JSON pointer.
pub(crate) fn without(mut manifest: Value, pointer: &str) -> Value {
    let (parent, name) = pointer.rsplit_once('/').expect("a pointer begins with a slash");
    let parent = manifest.pointer_mut(parent).and_then(Value::as_object_mut);
    parent.expect("the parent is there").remove(name).expect("the field is there");
    manifest
}
