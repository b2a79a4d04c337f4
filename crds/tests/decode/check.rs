//! What a test demands of a manifest.

use crds::{AccessPlan, AccessPolicy, AccessSubscription, DecodeError, decode};
use serde_json::Value;

use crate::example::{policy, with};

/// Errors by kind of the manifest, as `path: message` lines.
pub(crate) fn errors(manifest: &Value) -> Vec<String> {
    fn of<K>(decoded: Result<K, Vec<DecodeError>>) -> Vec<String> {
        decoded.err().unwrap_or_default().iter().map(ToString::to_string).collect()
    }
    match manifest["kind"].as_str() {
        Some("AccessPlan") => of(decode::<AccessPlan>(manifest)),
        Some("AccessSubscription") => of(decode::<AccessSubscription>(manifest)),
        _ => of(decode::<AccessPolicy>(manifest)),
    }
}

/// Demands that a change of a manifest is refused with one error only.
#[track_caller]
pub(crate) fn check_refused(manifest: &Value, expected: &str) {
    assert_eq!(errors(manifest), [expected]);
}

/// Demands that every change of the full policy is refused with the error beside it.
#[track_caller]
pub(crate) fn check_policy(changes: &[(&str, Value, &str)]) {
    for (pointer, value, expected) in changes {
        check_refused(&with(policy(), pointer, value.clone()), expected);
    }
}
