//! Whether a data thread still gets to do what is due.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::time::Instant;

/// How often a thread shows that it lives.
pub(crate) const BEAT: Duration = Duration::from_secs(1);

/// After so long without a beat it does nothing but one thing, for ever: no task of ours takes a
/// hundredth of that.
const STILL: Duration = Duration::from_secs(10);

/// One thread's pulse, for others to feel.
#[derive(Debug)]
pub(crate) struct Pulse {
    began: Instant,
    /// Milliseconds from then to the last beat.
    last: AtomicU64,
}

impl Default for Pulse {
    fn default() -> Self {
        Self { began: Instant::now(), last: AtomicU64::new(0) }
    }
}

impl Pulse {
    pub(crate) fn beat(&self) {
        self.last.store(self.since(Instant::now()), Ordering::Relaxed);
    }

    pub(crate) fn is_felt(&self) -> bool {
        self.is_felt_at(Instant::now())
    }

    fn is_felt_at(&self, now: Instant) -> bool {
        let last = Duration::from_millis(self.last.load(Ordering::Relaxed));
        now.duration_since(self.began).saturating_sub(last) < STILL
    }

    fn since(&self, now: Instant) -> u64 {
        u64::try_from(now.duration_since(self.began).as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_stands_still_is_noticed_after_ten_seconds() {
        let pulse = Pulse::default();
        let begun = pulse.began;
        assert!(pulse.is_felt_at(begun + Duration::from_secs(9)));
        assert!(!pulse.is_felt_at(begun + Duration::from_secs(10)));
        pulse.last.store(8_000, Ordering::Relaxed);
        assert!(pulse.is_felt_at(begun + Duration::from_secs(17)));
        assert!(!pulse.is_felt_at(begun + Duration::from_secs(18)));
    }
}
