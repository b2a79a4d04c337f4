//! `AccessSubscription`: a consumer's claim to a plan, with its credentials.

#![expect(
    clippy::duplicated_attributes,
    reason = "the lint takes the parts of two printer columns for one attribute"
)]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::pattern;

/// The plan, and the credentials that prove the subscription.
#[derive(CustomResource, Serialize, Deserialize, Debug, PartialEq, Clone, JsonSchema)]
#[kube(
    group = "whygate.dev",
    version = "v1alpha1",
    kind = "AccessSubscription",
    plural = "accesssubscriptions",
    shortname = "asub",
    category = "whygate",
    namespaced,
    status = "AccessSubscriptionStatus",
    derive = "PartialEq",
    doc = "A consumer's subscription to an AccessPlan, with the digests of its API keys. It lives in the namespace of the consumer.",
    printcolumn(name = "Plan", type_ = "string", json_path = ".spec.planRef.name"),
    printcolumn(name = "State", type_ = "string", json_path = ".status.state"),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Active\")].reason"
    ),
    printcolumn(name = "Expires", type_ = "string", json_path = ".spec.expiresAt"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct AccessSubscriptionSpec {
    /// The plan that is subscribed to.
    pub plan_ref: PlanRef,

    /// What the access is for, for the owner of the plan to read. At most 256
    /// characters. Example: `"mobile app, about 20 requests a second"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub use_case: Option<String>,

    /// Credentials that prove the subscription; each is enough by itself. From 1 to
    /// 8, so that a key can be replaced without a gap: add the new one, move
    /// the clients, remove the old one.
    #[schemars(length(min = 1, max = 8))]
    pub credentials: Vec<Credential>,

    /// When the subscription ends, as an RFC 3339 time. It is judged at each
    /// request. Default: never. Example: `"2027-06-30T00:00:00Z"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Time>,

    /// `true` refuses the credentials of this subscription until it is `false`
    /// again. Default `false`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suspend: bool,
}

/// Names an `AccessPlan`.
#[derive(Serialize, Deserialize, Debug, PartialEq, Eq, Clone, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlanRef {
    /// Namespace of the plan. Default: the namespace of the subscription.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = pattern::LABEL))]
    pub namespace: Option<String>,

    /// Name of the plan. At most 253 characters.
    #[schemars(length(min = 1, max = 253), regex(pattern = pattern::OBJECT_NAME))]
    pub name: String,
}

/// An entry is one credential.
#[derive(Serialize, Deserialize, Debug, PartialEq, Eq, Clone, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Credential {
    /// An API key, known by its digest alone. `whygate key new` makes a key and
    /// prints this entry. Callers present the key in the header `x-api-key`.
    pub api_key: ApiKey,
}

/// The public half of an API key.
#[derive(Serialize, Deserialize, Debug, PartialEq, Eq, Clone, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApiKey {
    /// The part of the key between its two underscores: 8 lower-case letters or
    /// digits. Not secret; refusals and logs name it. Example: `7f3k9q2m`.
    #[schemars(length(min = 8, max = 8), regex(pattern = pattern::KEY_ID))]
    pub id: String,

    /// SHA-256 of the whole key, as 64 lower-case hexadecimal digits. The key holds
    /// 256 random bits, so the digest may stand in the open.
    #[schemars(length(min = 64, max = 64), regex(pattern = pattern::SHA256))]
    pub sha256: String,
}

/// What became of the subscription. Written by the controller, never by users.
#[derive(Serialize, Deserialize, Debug, Default, PartialEq, Clone, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AccessSubscriptionStatus {
    /// The `metadata.generation` that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// The name of the controller that wrote this status, as `--controller-name` or
    /// its default says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub controller_name: Option<String>,

    /// Whether the credentials open anything: `Active`; `Expired` after
    /// `spec.expiresAt`; `Suspended` by `spec.suspend`; `Invalid` if the plan does
    /// not exist, does not admit this namespace, or the subscription itself cannot
    /// be understood.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "SubscriptionState")]
    pub state: Option<SubscriptionState>,

    /// `Active`: whether the credentials open anything; reason and message say why
    /// not and what to repair.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// Whether the credentials of a subscription open anything.
#[derive(Serialize, Deserialize, Debug, PartialEq, Eq, Clone, Copy, JsonSchema)]
pub enum SubscriptionState {
    /// They do, for routes that admit the plan.
    Active,
    /// No longer: `spec.expiresAt` has passed.
    Expired,
    /// Not now: `spec.suspend` is set.
    Suspended,
    /// They never did: the plan is missing or does not admit the namespace.
    Invalid,
}
