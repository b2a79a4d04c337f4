//! Manifests of users, held against the schema without an API server.

#![expect(clippy::expect_used, reason = "a test ends where its arrangement fails")]

mod check;
mod example;
mod fields;
mod relations;
mod values;

use crds::{
    AccessPlan, AccessPolicy, AccessSubscription, ClaimTest, ClaimValue, Demand, Disclosure,
    Enforcement, Jwks, TargetKind, decode,
};
use serde_json::{Value, json};

use example::{plan, policy, subscription};

#[test]
fn full_policy_decodes_with_every_field() {
    let policy: AccessPolicy = decode(&policy()).expect("the example is valid");
    let spec = policy.spec;
    assert_eq!(spec.target_refs[0].kind, TargetKind::Ingress);
    assert_eq!((spec.target_refs[0].hosts.len(), spec.target_refs[0].paths.len()), (2, 1));
    assert_eq!(
        (spec.enforcement, spec.require[0].enforcement),
        (Enforcement::Shadow, Some(Enforcement::Enforce))
    );
    let Demand::AnyOf([token, key, certificate]) = spec.require[1].demand() else {
        panic!("three alternatives")
    };
    let claims = &token.jwt.as_ref().expect("a jwt check").claims;
    let tests: Vec<_> = claims.iter().map(|claim| claim.test.clone()).collect();
    assert_eq!(
        tests,
        [
            ClaimTest::Contains("partner".to_owned()),
            ClaimTest::Equals(ClaimValue::Boolean(true)),
            ClaimTest::OneOf(vec!["acme".to_owned(), "globex".to_owned()]),
        ]
    );
    assert_eq!((key.methods.len(), key.jwt.is_none()), (2, true));
    let certificate = certificate.client_certificate.as_ref().expect("a check of certificates");
    let names = certificate.subject_alt_names.as_ref().expect("names");
    assert_eq!(certificate.ca_secret_ref.name, "partner-ca");
    assert_eq!((names.uris.len(), names.dns_names.len(), names.emails.len()), (1, 1, 1));
    assert_eq!(spec.jwt_providers[0].algorithms.len(), 9);
    assert_eq!(
        spec.jwt_providers.iter().map(|one| one.clock_skew.as_secs()).collect::<Vec<_>>(),
        [60, 90]
    );
    let Jwks::SecretRef(secret) = &spec.jwt_providers[0].jwks else { panic!("a Secret") };
    assert_eq!((secret.name.as_str(), secret.key.as_str()), ("keys", "jwks.json"));
    assert_eq!(spec.on_deny.disclosure, Disclosure::Reason);
}

#[test]
fn decoded_objects_are_written_as_they_were_read() {
    fn again<K>(manifest: &Value) -> (Value, Value)
    where
        K: kube::Resource<DynamicType = ()> + serde::Serialize + serde::de::DeserializeOwned,
    {
        let object: K = decode(manifest).expect("the example is valid");
        let written = json!(object);
        let object: K = decode(&written).expect("what was written is valid");
        (written, json!(object))
    }
    for (written, again) in [
        again::<AccessPolicy>(&policy()),
        again::<AccessPlan>(&plan()),
        again::<AccessSubscription>(&subscription()),
    ] {
        assert_eq!(written, again);
    }
    assert_eq!(again::<AccessPlan>(&plan()).0, plan());
    assert_eq!(again::<AccessSubscription>(&subscription()).0, subscription());
}
