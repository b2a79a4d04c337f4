//! The API that users write: the kinds of `whygate.dev/v1alpha1` as Rust types.
//!
//! The doc comments of the types are what `kubectl explain` prints, so they are
//! written for the person who writes a manifest, not for the reader of this code.

mod access_plan;
mod access_policy;
mod access_subscription;
mod cel;
mod client_certificate;
mod decode;
mod denials;
mod duration;
mod enforcement;
mod jwt;
mod manifest;
mod nearest;
mod pattern;
mod place;
mod presence;
mod rule;
mod schema;
mod shape;
mod text;

pub use access_plan::{AccessPlan, AccessPlanSpec, AccessPlanStatus, Approval, Consumers};
pub use access_policy::{
    AccessPolicy, AccessPolicySpec, AccessPolicyStatus, Disclosure, OnDeny, TargetCounts,
    TargetGroup, TargetKind, TargetRef,
};
pub use access_subscription::{
    AccessSubscription, AccessSubscriptionSpec, AccessSubscriptionStatus, ApiKey, Credential,
    PlanRef, SubscriptionState,
};
pub use client_certificate::{CaSecretRef, ClientCertificateCheck, SubjectAltNames};
pub use decode::{DecodeError, decode};
pub use denials::{Denials, ShadowDenials, TopDenial};
pub use duration::parse as parse_duration;
pub use enforcement::Enforcement;
pub use jwt::{
    Algorithm, ClaimCheck, ClaimTest, ClaimValue, Jwks, JwtCheck, JwtProvider, ScopeCheck,
    SecretKeyRef,
};
pub use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector, Time};
pub use manifest::{SCHEMA, SCHEMA_ANNOTATION, manifests};
pub use nearest::nearest;
pub use rule::{Checks, Demand, IpCheck, Respond, Rule, SubscriptionCheck};
