//! From cleared to permitted: the only maker of permits.

use std::sync::Arc;

use decision::{canonical::CanonicalRequest, decide::Cleared, route::Route};

use crate::metrics::Count;

/// The right to send one request to an upstream, bound to that request.
///
/// Not `Clone`; [`take`] is its only maker, and nothing reaches an upstream without one.
pub(crate) struct Permit {
    request: CanonicalRequest,
}

/// A permit whose request is on its way: it sends nothing but that.
pub(crate) struct Used(());

impl Permit {
    /// Uses the permit up for its request.
    pub(crate) fn spend(self) -> (Used, CanonicalRequest) {
        (Used(()), self.request)
    }
}

/// Takes what the request costs and permits it, and gives its route to whoever records it. No limit
/// exists in this release, so each one passes.
pub(crate) fn take(cleared: Cleared, permits: &Count) -> (Permit, Arc<Route>) {
    permits.add();
    let (request, route) = cleared.into_parts();
    (Permit { request }, route)
}
