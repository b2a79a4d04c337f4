//! What a policy refused of late, as its status shows it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a policy refused in the last hour, by all replicas together.
#[derive(Serialize, Deserialize, Debug, Default, PartialEq, Eq, Clone, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Denials {
    /// Requests that the policy refused in the last hour. The hour moves on in
    /// steps of five minutes, so this is the sum of the last 55 to 60 minutes.
    /// Refusals that no policy is the cause of (an unknown host, an upstream that
    /// fails) count nowhere here.
    pub last_hour: u64,

    /// The code of the last refusal in that hour, such as `AddressNotAllowed`.
    /// `whygate code CODE` explains it. Left out if there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_reason: Option<String>,

    /// The most frequent causes of refusals in that hour, at most 5, the most
    /// frequent first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 5), extend("x-kubernetes-list-type" = "atomic"))]
    pub top: Vec<TopDenial>,

    /// What rules in shadow would have refused in that hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shadow: Option<ShadowDenials>,
}

/// Refusals of one rule with one code.
#[derive(Serialize, Deserialize, Debug, PartialEq, Eq, Clone, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TopDenial {
    /// Name of the rule that refused. Left out if it was no rule but the policy as
    /// a whole, for example because it is invalid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,

    /// The code of the refusals, such as `AddressNotAllowed`.
    pub reason: String,

    /// How many there were in the last hour.
    pub count: u64,

    /// When the last of them was, by the clock of the replica that refused.
    pub last_seen: Time,

    /// Id of the last of them that stands in the log with all that was observed;
    /// its caller got the id in the header `whygate-request-id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_decision: Option<String>,
}

/// What rules in shadow counted.
#[derive(Serialize, Deserialize, Debug, Default, PartialEq, Eq, Clone, Copy, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ShadowDenials {
    /// How often a rule in shadow would have refused a request.
    pub would_deny: u64,
}
