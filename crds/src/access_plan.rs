//! `AccessPlan`: what the owner of an API offers for subscription.

#![expect(
    clippy::duplicated_attributes,
    reason = "the lint takes the parts of two printer columns for one attribute"
)]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector};
use kube::CustomResource;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// What can be subscribed to, and from where.
#[derive(CustomResource, Serialize, Deserialize, Debug, PartialEq, Clone, JsonSchema)]
#[kube(
    group = "whygate.dev",
    version = "v1alpha1",
    kind = "AccessPlan",
    plural = "accessplans",
    shortname = "aplan",
    category = "whygate",
    namespaced,
    status = "AccessPlanStatus",
    derive = "PartialEq",
    doc = "What the owner of an API offers for subscription. Policies of the same namespace admit callers by plan (`subscription: {plans: [gold]}`); callers get in by an AccessSubscription that names the plan.",
    printcolumn(name = "Display", type_ = "string", json_path = ".spec.displayName"),
    printcolumn(name = "Approval", type_ = "string", json_path = ".spec.approval"),
    printcolumn(
        name = "Active",
        type_ = "integer",
        json_path = ".status.subscriptions",
        description = "Subscriptions that are active now."
    ),
    printcolumn(
        name = "Accepted",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Accepted\")].status"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct AccessPlanSpec {
    /// Name for people, at most 64 characters. Default: the name of the object.
    /// Example: `Gold`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub display_name: Option<String>,

    /// How a subscription becomes active. `Automatic`: at once, for every
    /// subscription from a namespace that `consumers` admits. Required, so that
    /// nobody opens an API by leaving a line out.
    pub approval: Approval,

    /// Which namespaces may subscribe. Left out: only the namespace of the plan.
    /// A subscription from anywhere else is Invalid and opens nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consumers: Option<Consumers>,
}

/// How a subscription becomes active.
#[derive(Serialize, Deserialize, Debug, PartialEq, Eq, Clone, Copy, JsonSchema)]
pub enum Approval {
    /// At once.
    Automatic,
}

/// Which namespaces may subscribe to a plan.
#[derive(Serialize, Deserialize, Debug, PartialEq, Clone, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Consumers {
    /// Selects namespaces by their labels; the namespace of the plan must match
    /// like any other. An empty selector (`{}`) admits every namespace. Who can
    /// label a namespace can admit it: prefer the label
    /// `kubernetes.io/metadata.name`, which nobody can forge.
    /// Example: `{matchLabels: {partner: "true"}}`.
    #[schemars(schema_with = "selector")]
    pub namespace_selector: LabelSelector,
}

/// The schema of a label selector, with the limits that Kubernetes leaves out.
fn selector(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = LabelSelector::json_schema(generator);
    for (pointer, limits) in [
        ("/properties/matchLabels", json!({ "maxProperties": 16 })),
        ("/properties/matchLabels/additionalProperties", json!({ "maxLength": 63 })),
        ("/properties/matchExpressions", json!({ "maxItems": 16 })),
        ("/properties/matchExpressions/items/properties/key", json!({ "maxLength": 317 })),
        (
            "/properties/matchExpressions/items/properties/operator",
            json!({ "enum": ["In", "NotIn", "Exists", "DoesNotExist"] }),
        ),
        ("/properties/matchExpressions/items/properties/values", json!({ "maxItems": 64 })),
        ("/properties/matchExpressions/items/properties/values/items", json!({ "maxLength": 63 })),
    ] {
        let place = schema.pointer_mut(pointer).and_then(Value::as_object_mut);
        if let (Some(place), Value::Object(limits)) = (place, limits) {
            place.extend(limits);
        }
    }
    schema
}

/// What became of the plan. Written by the controller, never by users.
#[derive(Serialize, Deserialize, Debug, Default, PartialEq, Clone, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AccessPlanStatus {
    /// The `metadata.generation` that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// The name of the controller that wrote this status, as `--controller-name` or
    /// its default says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub controller_name: Option<String>,

    /// `Accepted`: the plan can be understood and can be subscribed to. Reason and
    /// message say what to repair.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,

    /// Subscriptions to this plan that are active now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subscriptions: Option<u32>,
}
