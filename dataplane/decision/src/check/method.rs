//! `methods`: the request's method is in a list.

use http::Method;

use super::{Evidence, Facts, Outcome};
use crate::denial::DenialReason;

/// `methods` of a rule.
#[derive(Debug)]
pub struct MethodCheck {
    /// The methods, compared character by character (RFC 9110 section 9.1: they are case-sensitive).
    pub methods: Box<[Method]>,
}

impl MethodCheck {
    pub(super) fn judge(&self, facts: Facts<'_>) -> Outcome {
        let method = &facts.request.line().method;
        if self.methods.contains(method) {
            return Outcome::Met(Evidence::Method);
        }
        let allowed = self.methods.iter().map(Method::as_str).collect::<Vec<_>>().join(", ").into();
        Outcome::Unmet(Box::new(DenialReason::MethodRefused { method: method.clone(), allowed }))
    }
}
