//! Owners for every task: one that ends or panics is started again, and one that keeps failing
//! makes the process unhealthy instead of silently missing.

use std::{
    collections::BTreeMap,
    fmt,
    future::Future,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{task::JoinSet, time::sleep};

/// First pause before a task is started again; it doubles up to [`LONGEST`].
const SHORTEST: Duration = Duration::from_millis(100);
/// Longest pause before a task is started again.
const LONGEST: Duration = Duration::from_secs(10);
/// After so long a life a task is well again: the row of its failures is over.
const SETTLED: Duration = Duration::from_mins(1);
/// So many failures in a row make the process unhealthy.
const FAILURES: u32 = 5;

/// Tasks and their health. Dropped, it ends all of them.
#[derive(Debug, Default)]
pub struct Supervisor {
    tasks: JoinSet<()>,
    kept: usize,
    health: Health,
}

/// Which tasks keep failing.
#[derive(Clone, Debug, Default)]
pub struct Health(Arc<Mutex<BTreeMap<Task, u32>>>);

/// A task by its name, which others may bear, too, and its number, which is its own.
type Task = (&'static str, usize);

impl Health {
    /// The names of tasks that failed too often in a row, each of them once.
    pub fn failing(&self) -> Vec<&'static str> {
        let tasks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let failing = tasks.iter().filter(|(_, row)| **row >= FAILURES);
        let mut names: Vec<_> = failing.map(|((name, _), _)| *name).collect();
        names.dedup();
        names
    }

    /// How often each task ended since it last was well.
    fn record(&self, task: Task, row: u32) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(task, row);
    }
}

impl Supervisor {
    /// What `/livez` asks.
    pub fn health(&self) -> Health {
        self.health.clone()
    }

    /// Starts a task that should never end, and starts it again whenever it does.
    pub fn keep<F, E>(&mut self, name: &'static str, mut start: impl FnMut() -> F + Send + 'static)
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: fmt::Display + Send + 'static,
    {
        let health = self.health.clone();
        let task = (name, self.kept);
        self.kept += 1;
        health.record(task, 0);
        self.tasks.spawn(async move {
            let mut row = 0_u32;
            loop {
                let mut life = pin!(outcome(start()));
                let why = tokio::select! {
                    why = &mut life => why,
                    () = sleep(SETTLED) => {
                        row = 0;
                        health.record(task, row);
                        life.await
                    }
                };
                row = row.saturating_add(1);
                health.record(task, row);
                tracing::error!(task = name, error = %why, "Task ended and is started again");
                let doubled = SHORTEST.saturating_mul(1 << row.min(10));
                sleep(doubled.min(LONGEST)).await;
            }
        });
    }

    /// Ends all tasks and waits until they are gone.
    pub async fn stop(&mut self) {
        self.tasks.shutdown().await;
    }
}

/// Runs a task as one of its own, so that its panic is a value; it ends with this future.
async fn outcome<F, E>(task: F) -> String
where
    F: Future<Output = Result<(), E>> + Send + 'static,
    E: fmt::Display + Send + 'static,
{
    let mut alone = JoinSet::new();
    alone.spawn(task);
    match alone.join_next().await {
        Some(Ok(Ok(()))) | None => "it has nothing more to do".to_owned(),
        Some(Ok(Err(error))) => error.to_string(),
        Some(Err(error)) => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        future::{pending, ready},
        sync::atomic::{AtomicU32, Ordering},
    };

    use futures::{FutureExt, future::BoxFuture};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_task_that_panics_is_started_again_until_it_counts_as_failing() {
        let mut supervisor = Supervisor::default();
        let runs = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&runs);
        supervisor.keep("panicking", move || {
            let counted = Arc::clone(&counted);
            async move {
                let run = counted.fetch_add(1, Ordering::Relaxed);
                assert!(run > 1_000, "run {run}");
                Ok::<(), Infallible>(())
            }
        });
        assert!(supervisor.health().failing().is_empty());
        tokio::time::sleep(Duration::from_secs(30)).await;
        assert!(runs.load(Ordering::Relaxed) >= FAILURES);
        assert_eq!(supervisor.health().failing(), ["panicking"]);
    }

    /// A task that ends so often, and then lives.
    fn ends(times: u32) -> impl FnMut() -> BoxFuture<'static, Result<(), &'static str>> {
        let mut left = times;
        move || {
            let ends = left > 0;
            left = left.saturating_sub(1);
            if ends { ready(Err("refused")).boxed() } else { pending().boxed() }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_lives_again_is_healthy_while_another_of_its_name_fails() {
        let mut supervisor = Supervisor::default();
        supervisor.keep("watch", ends(FAILURES - 1));
        sleep(Duration::from_secs(30)).await;
        assert!(supervisor.health().failing().is_empty(), "one less than a row");
        supervisor.keep("watch", ends(FAILURES));
        sleep(Duration::from_secs(30)).await;
        assert_eq!(supervisor.health().failing(), ["watch"]);
        sleep(SETTLED).await;
        assert!(supervisor.health().failing().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_fails_once_a_day_is_healthy() {
        let mut supervisor = Supervisor::default();
        supervisor.keep("daily", || async {
            tokio::time::sleep(Duration::from_hours(24)).await;
            Err::<(), _>("done for today")
        });
        tokio::time::sleep(Duration::from_hours(24 * 30)).await;
        assert!(supervisor.health().failing().is_empty());
    }
}
