//! How many Events may be written: a bucket for bursts within a hard limit for every minute.

use std::{collections::VecDeque, time::Duration};

/// A write counts for a little longer than a minute: it reaches the API server some time after it
/// was granted, and no minute there may hold more than the limit.
const WINDOW: Duration = Duration::from_secs(62);

/// Grants writes, and remembers which namespaces got them.
#[derive(Debug)]
pub struct Budget {
    /// Of all replicas.
    of_all: (u32, u32),
    per_minute: usize,
    burst: u32,
    /// When the bucket would be full again.
    full_at: Duration,
    granted: VecDeque<(Duration, Box<str>)>,
}

impl Budget {
    /// At most `per_minute` writes in any minute and `burst` at once. 0 grants nothing.
    pub fn new(per_minute: u32, burst: u32) -> Self {
        let of_all = (per_minute, burst);
        let (full_at, granted) = (Duration::ZERO, VecDeque::new());
        let mut budget = Self { of_all, per_minute: 0, burst: 1, full_at, granted };
        budget.divide(1);
        budget
    }

    /// Leaves the others of so many replicas their parts. One write a minute is left in any case.
    pub fn divide(&mut self, replicas: usize) {
        let replicas = u32::try_from(replicas).unwrap_or(u32::MAX).max(1);
        let (per_minute, burst) = self.of_all;
        let part = (per_minute / replicas).max(per_minute.min(1));
        self.per_minute = usize::try_from(part).unwrap_or(usize::MAX);
        self.burst = (burst / replicas).clamp(1, part.max(1));
    }

    /// Whether a write would be granted.
    pub fn has_room(&mut self, now: Duration) -> bool {
        while self.granted.front().is_some_and(|(at, _)| now.saturating_sub(*at) >= WINDOW) {
            self.granted.pop_front();
        }
        let owed = self.full_at.saturating_sub(now);
        self.granted.len() < self.per_minute && owed <= self.interval() * (self.burst - 1)
    }

    /// Whether half of the minute's writes and half of the bucket are left: enough for what is not
    /// urgent.
    pub fn is_at_ease(&self, now: Duration) -> bool {
        let owed = self.full_at.saturating_sub(now);
        self.granted.len().saturating_mul(2) < self.per_minute
            && owed <= self.interval() * (self.burst / 2)
    }

    /// Takes what [`Budget::has_room`] promised.
    pub fn take(&mut self, namespace: &str, now: Duration) {
        self.full_at = self.full_at.max(now) + self.interval();
        self.granted.push_back((now, namespace.into()));
    }

    /// How many of the last minute's writes were a namespace's.
    pub fn share(&self, namespace: &str) -> usize {
        self.granted.iter().filter(|(_, by)| **by == *namespace).count()
    }

    /// Whether a namespace has had half of a minute's writes.
    pub fn is_greedy(&self, share: usize) -> bool {
        share.saturating_mul(2) >= self.per_minute
    }

    /// From one regular write to the next.
    fn interval(&self) -> Duration {
        let per_minute = u32::try_from(self.per_minute).unwrap_or(u32::MAX).max(1);
        Duration::from_mins(1) / per_minute
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn granted(budget: &mut Budget, from: u64, to: u64) -> usize {
        let moments = (from..to).map(Duration::from_millis).filter(|now| {
            let room = budget.has_room(*now);
            if room {
                budget.take("shop", *now);
            }
            room
        });
        moments.count()
    }

    #[test]
    fn replicas_share_what_there_is() {
        for (replicas, per_minute) in [(1, 60), (2, 30), (3, 20), (100, 1)] {
            let mut budget = Budget::new(60, 25);
            budget.divide(replicas);
            assert_eq!(granted(&mut budget, 0, 62_000), per_minute, "{replicas} replicas");
        }
        let mut nothing = Budget::new(0, 25);
        nothing.divide(2);
        assert_eq!(granted(&mut nothing, 0, 62_000), 0);
    }

    #[test]
    fn a_burst_is_followed_by_the_regular_rate_within_the_minute() {
        let mut budget = Budget::new(60, 25);
        assert_eq!(granted(&mut budget, 0, 100), 25);
        assert_eq!(granted(&mut budget, 100, 60_000), 35);
        assert_eq!(granted(&mut budget, 60_000, 62_000), 0);
    }

    #[test]
    fn a_budget_of_one_grants_one_a_minute() {
        let mut budget = Budget::new(1, 25);
        assert_eq!(granted(&mut budget, 0, 60_000), 1);
        assert_eq!(granted(&mut budget, 60_000, 63_000), 1);
    }

    #[test]
    fn no_budget_grants_nothing() {
        assert_eq!(granted(&mut Budget::new(0, 25), 0, 60_000), 0);
    }
}
