//! Whether rules refuse or only count.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Whether a policy or a rule refuses requests or only counts.
#[derive(Serialize, Deserialize, Debug, Default, PartialEq, Eq, Clone, Copy, JsonSchema)]
pub enum Enforcement {
    /// Requests that fail are refused.
    #[default]
    Enforce,
    /// Requests that fail are let through and counted.
    Shadow,
}
