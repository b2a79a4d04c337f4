//! Which Leases live, told by our own clock: those of other machines may be wrong.

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;

/// Leases, and when each was last seen to change.
#[derive(Debug, Default)]
pub(super) struct Observed(HashMap<String, Seen>);

#[derive(Debug)]
struct Seen {
    version: String,
    since: Instant,
}

impl Observed {
    /// Takes note of every Lease, by name and resource version, and forgets those that are gone.
    pub(super) fn note<'a>(
        &mut self,
        leases: impl Iterator<Item = (&'a str, &'a str)>,
        now: Instant,
    ) {
        let before = std::mem::take(&mut self.0);
        self.0.extend(leases.map(|(name, version)| {
            let known = before.get(name).filter(|seen| seen.version == version);
            let since = known.map_or(now, |seen| seen.since);
            (name.to_owned(), Seen { version: version.to_owned(), since })
        }));
    }

    /// Whether a Lease changed within this time. One that was never seen does not live.
    pub(super) fn lives(&self, name: &str, within: Duration, now: Instant) -> bool {
        self.0.get(name).is_some_and(|seen| now.duration_since(seen.since) < within)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_lease_lives_as_long_as_it_changes() {
        let (mut observed, within) = (Observed::default(), Duration::from_secs(10));
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(!observed.lives("one", within, at(0)), "never seen");
        observed.note([("one", "1")].into_iter(), at(0));
        observed.note([("one", "1")].into_iter(), at(9));
        assert!(observed.lives("one", within, at(9)));
        assert!(!observed.lives("one", within, at(10)));
        observed.note([("one", "2")].into_iter(), at(10));
        assert!(observed.lives("one", within, at(19)));
        observed.note([].into_iter(), at(19));
        assert!(!observed.lives("one", within, at(19)), "gone");
    }
}
