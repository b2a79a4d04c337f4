//! Whether an endpoint is worth being asked: who fails again and again is left alone for a while,
//! and comes back slowly.

use std::{cell::Cell, time::Duration};

use tokio::time::Instant;

/// So many failures in a row eject an endpoint.
const FAILURES: u32 = 5;

/// How long it is left alone for the first time; twice as long each further time.
const FIRST: Duration = Duration::from_secs(5);
const LONGEST: Duration = Duration::from_mins(5);

/// How long it takes to get its full share again.
const RETURN: Duration = Duration::from_secs(10);

/// After so long without being ejected again it counts as never ejected.
const FORGOTTEN: Duration = Duration::from_mins(2);

/// What one thread has seen of an endpoint.
#[derive(Debug, Default)]
pub(super) struct Health {
    /// Failures since the last success.
    failures: Cell<u32>,
    /// How often it was ejected, lately.
    ejections: Cell<u32>,
    /// Until when it is, or was, ejected.
    until: Cell<Option<Instant>>,
}

impl Health {
    /// An answer came.
    pub(super) fn succeeded(&self) {
        self.failures.set(0);
    }

    /// No connection, or it broke before the answer. Tells whether, and for how long, it is
    /// ejected because of that.
    pub(super) fn failed(&self, now: Instant) -> Option<Duration> {
        let failures = self.failures.get().saturating_add(1);
        self.failures.set(failures);
        if failures < FAILURES || self.is_ejected(now) {
            return None;
        }
        if self.until.get().is_some_and(|until| until + FORGOTTEN < now) {
            self.ejections.set(0);
        }
        let times = self.ejections.get();
        self.ejections.set(times.saturating_add(1));
        self.failures.set(0);
        let time = FIRST.saturating_mul(1 << times.min(16)).min(LONGEST);
        self.until.set(Some(now + time));
        Some(time)
    }

    /// Until when it is ejected, if it is.
    pub(super) fn ejected_until(&self, now: Instant) -> Option<Instant> {
        self.until.get().filter(|until| now < *until)
    }

    fn is_ejected(&self, now: Instant) -> bool {
        self.ejected_until(now).is_some()
    }

    /// Whether it is back with a part of its share: one request of so many is for it.
    pub(super) fn share(&self, now: Instant) -> u64 {
        let back = self.until.get().map(|until| now.saturating_duration_since(until));
        let Some(back) = back.filter(|back| *back < RETURN) else { return 1 };
        let second = back.as_secs();
        // A tenth in the first second, a fifth in the second, and so on.
        RETURN.as_secs().div_ceil(second + 1)
    }

    /// Whether there is nothing to remember.
    pub(super) fn is_unremarkable(&self, now: Instant) -> bool {
        self.until.get().is_none_or(|until| until + FORGOTTEN < now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fails(health: &Health, times: u32, now: Instant) -> Vec<Duration> {
        (0..times).filter_map(|_| health.failed(now)).collect()
    }

    #[test]
    fn only_failures_in_a_row_eject() {
        let (health, now) = (Health::default(), Instant::now());
        for _ in 0..10 {
            assert_eq!(fails(&health, FAILURES - 1, now), [] as [Duration; 0]);
            health.succeeded();
        }
        assert_eq!(fails(&health, FAILURES, now), [FIRST]);
        assert!(health.ejected_until(now).is_some());
        assert!(health.ejected_until(now + FIRST).is_none());
    }

    #[test]
    fn each_time_is_longer_up_to_a_limit_and_forgotten_after_good_conduct() {
        let (health, mut now) = (Health::default(), Instant::now());
        let mut times = Vec::new();
        for _ in 0..9 {
            let ejected = fails(&health, FAILURES, now);
            now += ejected[0];
            times.push(ejected[0].as_secs());
        }
        assert_eq!(times, [5, 10, 20, 40, 80, 160, 300, 300, 300]);
        now += FORGOTTEN + Duration::from_secs(1);
        assert!(health.is_unremarkable(now));
        assert_eq!(fails(&health, FAILURES, now), [FIRST]);
    }

    #[test]
    fn who_comes_back_gets_more_from_second_to_second() {
        let (health, now) = (Health::default(), Instant::now());
        assert_eq!(health.share(now), 1);
        fails(&health, FAILURES, now);
        let shares =
            [0, 1, 4, 9, 10].map(|second| health.share(now + FIRST + Duration::from_secs(second)));
        assert_eq!(shares, [10, 5, 2, 1, 1]);
    }
}
