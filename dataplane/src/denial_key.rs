//! What refusals are counted under.

use std::sync::Arc;

use decision::{
    code::Code,
    refs::{FieldRef, ResourceRef, RouteName},
};

/// What refusals have in common that are counted together. Made from configuration alone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DenialKey {
    /// The code.
    pub code: Code,
    /// The route, if there was one. `None` also for series beyond the limit.
    pub route: Option<Arc<RouteName>>,
    /// The policy that refused, if one did.
    pub policy: Option<ResourceRef>,
    /// The rule that refused, if one did.
    pub rule: Option<Arc<str>>,
    /// The one field to look at.
    pub field: Option<FieldRef>,
    /// Whether the rule only counts what it would have refused.
    pub shadow: bool,
}
