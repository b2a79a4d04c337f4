//! Waiting for a thing to become true instead of sleeping and hoping.

use std::time::Duration;

use anyhow::Context as _;
use tokio::time::{Instant, sleep};

/// Time between two tries: 20 ms.
const PAUSE: Duration = Duration::from_millis(20);

/// Tries `attempt` until it succeeds and gives back its value.
///
/// # Errors
/// After `limit` the last attempt's error, under the sentence that didn't come true.
pub async fn eventually<T>(
    limit: Duration,
    sentence: &str,
    mut attempt: impl AsyncFnMut() -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let start = Instant::now();
    loop {
        match attempt().await {
            Ok(value) => return Ok(value),
            Err(error) if start.elapsed() > limit => {
                return Err(error)
                    .with_context(|| format!("not true within {limit:?}: {sentence}"));
            }
            Err(_) => sleep(PAUSE).await,
        }
    }
}
