//! Wall-clock time as decisions want it.

use std::time::{SystemTime, UNIX_EPOCH};

use decision::time::Timestamp;

/// Whole seconds since 1970.
pub(crate) fn timestamp(now: SystemTime) -> Timestamp {
    let seconds = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    Timestamp(i64::try_from(seconds).unwrap_or(i64::MAX))
}
