//! Rules that relate several fields, in CEL, for the API server alone.
//!
//! [`crate::decode`] cannot evaluate them; the compiler judges the same things by
//! hand, for objects that never saw an API server.

use serde_json::{Value, json};

use crate::pattern;

/// Rules on the whole spec of an `AccessPolicy`.
pub(crate) fn policy() -> Value {
    json!([
        {
            "rule": "!has(self.deny) || !has(self.require) || self.require.all(rule, !self.deny.exists(other, other.name == rule.name))",
            "message": "the name of a rule explains a refusal, so it is unique in the policy: give the rules of `deny` and of `require` different names",
            "fieldPath": ".require",
        },
        provider("deny"),
        provider("require"),
    ])
}

/// Every `jwt` check of the list names a provider that exists.
fn provider(list: &str) -> Value {
    let known = |checks: &str| {
        format!(
            "(!has({checks}.jwt) || (has(self.jwtProviders) && self.jwtProviders.exists(provider, provider.name == {checks}.jwt.provider)))"
        )
    };
    let alternatives =
        format!("(!has(rule.anyOf) || rule.anyOf.all(alternative, {}))", known("alternative"));
    json!({
        "rule": format!("!has(self.{list}) || self.{list}.all(rule, {} && {alternatives})", known("rule")),
        "message": "a `jwt` check names a provider that this policy does not have: add it to `spec.jwtProviders`, or correct the name in `jwt.provider`",
        "fieldPath": format!(".{list}"),
    })
}

/// The range of a clock skew. Its pattern has no sign, so it is never negative.
pub(crate) fn clock_skew() -> Value {
    json!([{
        // What is no duration at all is refused by the pattern, in one sentence.
        "rule": format!("!self.matches('{}') || duration(self) <= duration('5m')", pattern::DURATION),
        "message": "a clock that is off by more than five minutes should be repaired: write at most `5m`",
    }])
}
