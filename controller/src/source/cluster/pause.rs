//! How long a watch waits after an error.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use kube::runtime::utils::Backoff;
use tokio::time::Instant;

/// First pause after an error; it doubles up to [`LONGEST`].
const SHORTEST: Duration = Duration::from_millis(500);
/// Longest pause, so that an API server that is back is found soon.
const LONGEST: Duration = Duration::from_secs(10);

/// So long without an error, and the next pause is the first again.
const PEACE: Duration = Duration::from_secs(30);

/// The pause after an error. A list that is begun is no sign of peace: it may fail again.
#[derive(Debug, Default)]
pub(super) struct Pause {
    last: Option<(Instant, Duration)>,
    /// Whether the last error was an answer of the API server.
    pub(super) answered: Arc<AtomicBool>,
    /// The same of the error before.
    was_answered: bool,
}

impl Iterator for Pause {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let now = Instant::now();
        let answered = self.answered.load(Ordering::Relaxed);
        // Whoever answers again after an outage, if only that its memory begins anew, is back:
        // pauses that grew while nobody answered would keep old policies in force.
        let is_back = !std::mem::replace(&mut self.was_answered, answered) && answered;
        let recent = self.last.filter(|(at, _)| now.saturating_duration_since(*at) < PEACE);
        let recent = recent.filter(|_| !is_back);
        let pause = recent.map_or(SHORTEST, |(_, pause)| pause.saturating_mul(2).min(LONGEST));
        self.last = Some((now, pause));
        Some(pause)
    }
}

impl Backoff for Pause {
    fn reset(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_while_errors_follow_each_other() {
        let mut pause = Pause::default();
        let mut pauses = Vec::new();
        for _ in 0..7 {
            let next = pause.next().unwrap();
            pauses.push(next.as_millis());
            tokio::time::sleep(next).await;
            pause.reset();
        }
        assert_eq!(pauses, [500, 1_000, 2_000, 4_000, 8_000, 10_000, 10_000]);
        tokio::time::sleep(PEACE).await;
        assert_eq!(pause.next(), Some(SHORTEST));
    }

    #[test]
    fn pauses_begin_anew_when_the_api_server_answers_again() {
        let mut pause = Pause::default();
        let mut pauses = Vec::new();
        for answered in [false, false, false, true, true, false] {
            pause.answered.store(answered, Ordering::Relaxed);
            pauses.push(pause.next().unwrap().as_millis());
        }
        assert_eq!(pauses, [500, 1_000, 2_000, 500, 1_000, 2_000]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_api_server_that_answers_again_is_asked_soon() {
        let mut pause = Pause::default();
        for _ in 0..6 {
            pause.next();
        }
        pause.answered.store(true, Ordering::Relaxed);
        assert_eq!(pause.next(), Some(SHORTEST));
        assert_eq!(pause.next(), Some(SHORTEST * 2));
    }
}
