//! What refusals are counted under.

use std::sync::Arc;

use decision::{
    code::Code,
    refs::{FieldRef, ResourceRef, RouteName},
};

use crate::ledger::{Key, Living};

/// What refusals have in common that are counted together. Made from configuration alone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DenialKey {
    /// The code.
    pub code: Code,
    /// The route, if there was one. `None` also for series beyond the limits.
    pub route: Option<Arc<RouteName>>,
    /// The policy that refused, if one did.
    pub policy: Option<ResourceRef>,
    /// The rule that refused, if one did.
    pub rule: Option<Arc<str>>,
    /// The one field to look at.
    pub field: Option<FieldRef>,
    /// Whether the rule only counts what it would have refused.
    pub shadow: bool,
    /// The namespace, if this is what it has beyond its share of the series; then only the code and
    /// `shadow` tell more.
    pub rest_of: Option<Arc<str>>,
}

impl Key for DenialKey {
    fn namespace(&self) -> Option<&Arc<str>> {
        let field = || self.field.as_ref().map(|field| &field.resource.namespace);
        let route = self.route.as_ref().map(|route| &route.field.resource.namespace);
        self.rest_of.as_ref().or(route).or_else(field)
    }

    fn is_rest(&self) -> bool {
        self.rest_of.is_some()
    }

    fn is_living(&self, living: &Living<'_>) -> bool {
        match (&self.route, &self.policy, &self.rule) {
            (Some(route), Some(policy), Some(rule)) => living.has_rule(route, policy, rule),
            (Some(route), ..) => living.has_route(route),
            // What is nobody's can always be counted.
            (None, ..) => self.namespace().is_none_or(|namespace| living.has_namespace(namespace)),
        }
    }
}
