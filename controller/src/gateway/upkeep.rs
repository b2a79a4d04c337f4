//! What goes on beside the traffic: gauges, series that are let go, outcomes that are passed on.

use std::{sync::Arc, time::Duration};

use dataplane::Metrics;
use tokio::{
    sync::watch::{self, error::RecvError},
    task::{JoinError, spawn_blocking},
    time::{sleep, timeout},
};

use crate::{admin::Admin, pipeline::Outcome};

/// Keeps the gauges of the newest snapshot.
pub(super) async fn measure(
    mut outcome: watch::Receiver<Option<Arc<Outcome>>>,
    admin: Admin,
) -> Result<(), RecvError> {
    outcome.mark_changed();
    loop {
        outcome.changed().await?;
        if let Some(outcome) = outcome.borrow_and_update().as_ref() {
            admin.findings.set(i64::try_from(outcome.findings.len()).unwrap_or(i64::MAX));
            admin.compile_seconds.set(outcome.took.as_secs_f64());
            admin.expiries.set(&outcome.expiries);
        }
    }
}

/// How often it is looked at which series are counted for nothing that there is. What was gone the
/// last time, too, is forgotten: until then its last refusals can be told and scraped.
const SWEEP: Duration = Duration::from_secs(30);

/// Forgets what was counted for routes and rules that are gone, for ever: they take the room of
/// others otherwise.
pub(super) async fn forget(
    outcome: watch::Receiver<Option<Arc<Outcome>>>,
    metrics: Metrics,
) -> Result<(), JoinError> {
    loop {
        sleep(SWEEP).await;
        let newest = outcome.borrow().clone();
        let Some(newest) = newest else { continue };
        let metrics = metrics.clone();
        spawn_blocking(move || metrics.forget(&newest.snapshot)).await?;
    }
}

/// A data thread takes a snapshot in the moment that it is there, unless it is stuck.
const SLOW: Duration = Duration::from_secs(5);

/// Passes each outcome on once the data threads have it.
pub(super) async fn pass_on(
    mut outcome: watch::Receiver<Option<Arc<Outcome>>>,
    metrics: Metrics,
    enforced: watch::Sender<Option<Arc<Outcome>>>,
) -> Result<(), RecvError> {
    outcome.mark_changed();
    loop {
        outcome.changed().await?;
        let newest = outcome.borrow_and_update().clone();
        if let Some(newest) = newest {
            let generation = newest.snapshot.generation;
            let mut reached = std::pin::pin!(metrics.reached(generation));
            while timeout(SLOW, reached.as_mut()).await.is_err() {
                tracing::warn!(
                    snapshot.generation = generation,
                    "A data thread does not take the newest snapshot; statuses wait for it"
                );
            }
            enforced.send_replace(Some(newest));
        }
    }
}
