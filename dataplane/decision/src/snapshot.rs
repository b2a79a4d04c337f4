//! The whole compiled configuration, replaced as one.

use crate::{route::RoutingTable, subscription::Subscriptions};

/// Everything that deciding needs. Immutable; read once per request; replaced whole.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// Counts compilations, from 1. 0 is the empty snapshot before the first.
    pub generation: u64,
    /// The routes.
    pub routes: RoutingTable,
    /// The API keys.
    pub subscriptions: Subscriptions,
}
