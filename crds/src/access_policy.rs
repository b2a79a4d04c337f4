//! `AccessPolicy`: who may use the routes of a namespace, and why not.

#![expect(
    clippy::duplicated_attributes,
    reason = "the lint takes the parts of two printer columns for one attribute"
)]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    cel, denials::Denials, enforcement::Enforcement, jwt::JwtProvider, pattern,
    presence::at_least_one, rule::Rule,
};

/// What the policy demands of requests to the Ingresses that it names.
///
/// A request passes if no rule of `deny` matches it and every rule of `require`
/// is met. All policies that apply to a request are demanded together, so adding
/// one can only close, never open: the order of rules, files and creation does
/// not matter. Write at least one rule in `deny` or `require`.
#[derive(CustomResource, Serialize, Deserialize, Debug, PartialEq, Clone, JsonSchema)]
#[kube(
    group = "whygate.dev",
    version = "v1alpha1",
    kind = "AccessPolicy",
    plural = "accesspolicies",
    shortname = "ap",
    category = "whygate",
    namespaced,
    status = "AccessPolicyStatus",
    derive = "PartialEq",
    doc = "Who may use the routes of this namespace. The policy names Ingresses of its own namespace and demands something of every request to them; each refusal names the policy, the rule, what was observed and the remedy.",
    printcolumn(name = "Mode", type_ = "string", json_path = ".spec.enforcement"),
    printcolumn(
        name = "Targets",
        type_ = "integer",
        json_path = ".status.targets.matched",
        description = "Ingresses that exist and are named by this policy."
    ),
    printcolumn(
        name = "Accepted",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Accepted\")].status"
    ),
    printcolumn(
        name = "Programmed",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Programmed\")].status"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Accepted\")].reason"
    ),
    printcolumn(
        name = "Denied-1h",
        type_ = "integer",
        json_path = ".status.denials.lastHour",
        description = "Requests that this policy refused in the last hour."
    ),
    printcolumn(
        name = "Last-Reason",
        type_ = "string",
        json_path = ".status.denials.lastReason",
        description = "The code of the last refusal in that hour."
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel::policy()))]
#[schemars(extend("x-whygate-presence" = at_least_one(&["deny", "require"], "a policy without a rule demands nothing: write at least one rule in `deny` or `require`")))]
pub struct AccessPolicySpec {
    /// The Ingresses that the policy protects, in the policy's own namespace.
    /// From 1 to 16 entries. An entry whose Ingress does not exist is reported in
    /// the status; the others are enforced.
    /// Example: `[{group: networking.k8s.io, kind: Ingress, name: api}]`.
    #[schemars(length(min = 1, max = 16))]
    pub target_refs: Vec<TargetRef>,

    /// Whether the policy refuses requests or only counts what it would refuse.
    /// `Enforce` (the default) refuses. `Shadow` never blocks a request, not even
    /// when the policy is invalid: use it to try a policy on live traffic. A rule
    /// may say otherwise for itself.
    #[serde(default)]
    pub enforcement: Enforcement,

    /// Rules that refuse a request when one of them matches. They are judged
    /// before `require`. At most 64, each with a name of its own. A check that
    /// cannot be judged (for example because a key set is missing) counts as
    /// matched here. A rule on the content of a credential does not match a
    /// request without that credential.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub deny: Vec<Rule>,

    /// Rules that a request must meet, all of them. At most 64, each with a name
    /// of its own. A check that cannot be judged counts as unmet here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub require: Vec<Rule>,

    /// Issuers of JSON Web Tokens that the `jwt` checks of this policy refer to by
    /// name. At most 16, each with a name of its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub jwt_providers: Vec<JwtProvider>,

    /// What a refused caller is told. Default: the code of the refusal and
    /// nothing else (`{disclosure: Code}`).
    #[serde(default)]
    pub on_deny: OnDeny,
}

/// An entry names one Ingress, and optionally a part of its requests.
#[derive(Serialize, Deserialize, Debug, PartialEq, Eq, Clone, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TargetRef {
    /// API group of the target: always `networking.k8s.io`.
    pub group: TargetGroup,

    /// Kind of the target: always `Ingress`.
    pub kind: TargetKind,

    /// Name of the Ingress, in the namespace of the policy. At most 253 characters.
    #[schemars(length(min = 1, max = 253), regex(pattern = pattern::OBJECT_NAME))]
    pub name: String,

    /// Narrows the policy to requests for these hosts. Left out or empty: every
    /// host of the Ingress. An entry is an exact lower-case name
    /// (`api.example.com`) or a wildcard for exactly one label (`*.example.com`).
    /// At most 64. It is compared with the host of the request, never with the
    /// rules of the Ingress. If no request of the Ingress can match, the Ingress
    /// is closed and the status says so.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 64),
        inner(
            length(min = 1, max = 253),
            regex(
                pattern = pattern::HOST
            )
        )
    )]
    pub hosts: Vec<String>,

    /// Narrows the policy to requests below these paths. Left out or empty: every
    /// path of the Ingress. An entry begins with `/` and is compared element by
    /// element: `/v1` covers `/v1` and `/v1/orders`, not `/v10`. At most 64
    /// entries of at most 1024 characters. If no request of the Ingress can
    /// match, the Ingress is closed and the status says so.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 1024), regex(pattern = pattern::PATH)))]
    pub paths: Vec<String>,
}

/// API groups that a policy can target.
#[derive(Serialize, Deserialize, Debug, PartialEq, Eq, Clone, Copy, JsonSchema)]
pub enum TargetGroup {
    /// The group of Ingress.
    #[serde(rename = "networking.k8s.io")]
    Networking,
}

/// Kinds that a policy can target.
#[derive(Serialize, Deserialize, Debug, PartialEq, Eq, Clone, Copy, JsonSchema)]
pub enum TargetKind {
    /// A `networking.k8s.io` Ingress.
    Ingress,
}

/// What a refused caller is told.
#[derive(Serialize, Deserialize, Debug, Default, PartialEq, Eq, Clone, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OnDeny {
    /// How much of the cause the response shows. `None`: the status and the
    /// request's id (a 401 still says which kind of credential it wants).
    /// `Code` (the default): also the code of the refusal, such as
    /// `AddressNotAllowed`. `Reason`: also one sentence for the caller and the
    /// hints. Events, logs and metrics always carry the whole cause. If several
    /// policies apply, the strictest holds.
    #[serde(default)]
    pub disclosure: Disclosure,

    /// One sentence for refused callers, shown with `disclosure: Reason` when the
    /// rule that refused has no hint of its own. At most 256 characters.
    /// Example: `"Ask in #shop-oncall for access."`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub hint: Option<String>,
}

/// How much of the cause a response shows, strictest first.
#[derive(
    Serialize, Deserialize, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Clone, Copy, JsonSchema,
)]
pub enum Disclosure {
    /// Status and request id.
    None,
    /// Status and code.
    #[default]
    Code,
    /// Status, code, one sentence and the hint.
    Reason,
}

/// What became of the policy. Written by the controller, never by users.
#[derive(Serialize, Deserialize, Debug, Default, PartialEq, Clone, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AccessPolicyStatus {
    /// The `metadata.generation` that this status describes. If it is lower than
    /// the policy's generation, the latest change has not been judged yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// The name of the controller that wrote this status, as `--controller-name` or
    /// its default says. Where several releases of Whygate see the policy, it is one
    /// that has Ingresses which the policy names, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub controller_name: Option<String>,

    /// `Accepted`: the policy can be understood and names at least one existing
    /// Ingress. `Programmed`: the proxy enforces this generation. Reason and message
    /// of a condition say what to repair.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,

    /// How much the policy reaches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub targets: Option<TargetCounts>,

    /// What the policy refused in the last hour, by all replicas together of the
    /// release that writes this status. Written at most every 30 seconds, and later
    /// if many policies refuse at once: at most 60 policies a minute. It outlives
    /// Events; it outlives the end of a replica where the replicas know of each other
    /// by Leases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub denials: Option<Denials>,
}

/// How much a policy reaches.
#[derive(Serialize, Deserialize, Debug, Default, PartialEq, Eq, Clone, Copy, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TargetCounts {
    /// Ingresses that exist and are named by `spec.targetRefs`.
    pub matched: u32,

    /// Different hosts among the routes that the policy applies to.
    pub hosts: u32,

    /// Paths among the routes that the policy applies to.
    pub paths: u32,
}
