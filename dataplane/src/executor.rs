//! What HTTP/2 starts by itself.

use hyper::rt::Executor;
use tokio_util::task::TaskTracker;

/// Runs what HTTP/2 needs, and its streams, on the thread of their connection.
#[derive(Clone)]
pub(crate) struct LocalExecutor(pub(crate) TaskTracker);

impl<F: Future<Output = ()> + 'static> Executor<F> for LocalExecutor {
    fn execute(&self, task: F) {
        drop(self.0.spawn_local(task));
    }
}
