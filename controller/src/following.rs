//! Threads that follow what the data plane tells, and may wait where no request may.

use std::{io, thread, time::Duration};

use tokio::{sync::oneshot, time::timeout};

/// How long the last may take once the data plane has ended.
const LAST: Duration = Duration::from_secs(1);

/// Something on a thread of its own that ends with the data plane.
#[derive(Debug)]
pub struct Following {
    name: &'static str,
    ended: oneshot::Receiver<()>,
}

impl Following {
    /// Begins.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn start(name: &'static str, follow: impl FnOnce() + Send + 'static) -> io::Result<Self> {
        let (done, ended) = oneshot::channel();
        let body = move || {
            follow();
            // Nobody waits for it any more if it took too long.
            let _ = done.send(());
        };
        thread::Builder::new().name(name.to_owned()).spawn(body)?;
        Ok(Self { name, ended })
    }

    /// Waits for the end, for a second at most. To be called when the data plane has ended.
    pub async fn finish(self) {
        if timeout(LAST, self.ended).await.is_err() {
            tracing::warn!(thread = self.name, "What was told last was not passed on in time");
        }
    }
}
