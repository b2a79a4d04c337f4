//! A client that asks without a pause, for tests of what must not happen even for a moment.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::ensure;
use tokio::task::JoinHandle;

use crate::client::{Client, code};

/// How often each status and code (none: "") was answered.
pub type Answers = BTreeMap<(u16, String), usize>;

/// Asks for the same path again and again, over a connection for each, until it is told to stop.
#[derive(Debug)]
pub struct Hammer {
    stop: Arc<AtomicBool>,
    task: JoinHandle<anyhow::Result<Answers>>,
}

impl Hammer {
    /// Begins to ask.
    pub fn start(client: Client, host: &str, path: &'static str) -> Self {
        let (stop, host) = (Arc::new(AtomicBool::new(false)), host.to_owned());
        let stopped = Arc::clone(&stop);
        let task = tokio::spawn(async move {
            let mut answers = Answers::new();
            while !stopped.load(Ordering::Relaxed) {
                let answer = client.get(&host, path).await?;
                let (status, code) = code(&answer);
                *answers.entry((status, code.to_owned())).or_default() += 1;
            }
            Ok(answers)
        });
        Self { stop, task }
    }

    /// Every answer.
    ///
    /// # Errors
    /// A request was lost, or none was sent.
    pub async fn stop(self) -> anyhow::Result<Answers> {
        self.stop.store(true, Ordering::Relaxed);
        let answers = self.task.await??;
        ensure!(!answers.is_empty(), "nothing was asked");
        Ok(answers)
    }

    /// Stops, and fails unless every answer was one of `expected`.
    ///
    /// # Errors
    /// A request was lost or answered otherwise, or none was sent.
    pub async fn stop_and_expect(self, expected: &[(u16, &str)]) -> anyhow::Result<()> {
        let answers = self.stop().await?;
        let others = answers.keys().any(|(status, code)| !expected.contains(&(*status, code)));
        ensure!(!others, "answers were {answers:?}, and should be of {expected:?} only");
        Ok(())
    }
}
