//! Whether we may list and watch a kind: a list that can never be followed must not be relied on.

use std::time::Duration;

use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use kube::{Api, Client, Resource, api::PostParams};
use tokio::time::timeout;

/// What a watch needs.
const VERBS: [&str; 2] = ["list", "watch"];
/// Longest time for one answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// The verb that is missing for a kind in a namespace, or in all. Nothing if none is, or the API
/// server does not say: then the watch itself finds out.
pub(super) async fn missing<K: Resource>(
    client: Client,
    kind: &K::DynamicType,
    namespace: Option<&str>,
) -> Option<&'static str> {
    let reviews: Api<SelfSubjectAccessReview> = Api::all(client);
    for verb in VERBS {
        let spec = SelfSubjectAccessReviewSpec {
            resource_attributes: Some(ResourceAttributes {
                group: Some(K::group(kind).into_owned()),
                resource: Some(K::plural(kind).into_owned()),
                namespace: namespace.map(str::to_owned),
                verb: Some(verb.to_owned()),
                ..ResourceAttributes::default()
            }),
            ..SelfSubjectAccessReviewSpec::default()
        };
        let review = SelfSubjectAccessReview { spec, ..SelfSubjectAccessReview::default() };
        let params = PostParams::default();
        let answer = timeout(PATIENCE, reviews.create(&params, &review)).await.ok()?.ok()?;
        if answer.status.is_some_and(|status| !status.allowed) {
            return Some(verb);
        }
    }
    None
}
