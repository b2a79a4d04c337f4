//! What a refused client is told.

use std::sync::Arc;

/// How much a refused client learns, strictest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Disclosure {
    /// The id of the refusal.
    None,
    /// The id and the code. The default.
    #[default]
    Code,
    /// The id, the code, the sentence for clients, and the hint.
    Reason,
}

/// `onDeny` of a policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OnDeny {
    /// How much is told.
    pub disclosure: Disclosure,
    /// A sentence of the policy's owner, shown under disclosure `Reason`.
    pub hint: Option<Arc<str>>,
}
