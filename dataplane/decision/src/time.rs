//! Wall-clock time as an argument: this crate never asks for it.

use std::time::Duration;

/// Seconds since 1970-01-01T00:00:00Z, leap seconds not counted (RFC 7519 `NumericDate`).
///
/// Negative before 1970. Fractions are cut off: tokens and certificates are judged by whole seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// How long before `later` this instant lies; zero if it does not.
    pub fn until(self, later: Self) -> Duration {
        Duration::from_secs(u64::try_from(later.0.saturating_sub(self.0)).unwrap_or(0))
    }

    /// This instant moved into the future; the last representable one at the limit.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)))
    }
}
