//! What bodies have in common in both directions: how they fail, and how long they are waited for.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until};

/// Why a body could not be passed on to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    /// The other side broke it off or sent what is no HTTP.
    #[error("the body broke off: {0}")]
    Broken(#[from] hyper::Error),
    /// No progress for too long.
    #[error("the body made no progress for {} s", .0.as_secs())]
    Stalled(Duration),
    /// Policies have changed, and its request would be refused now.
    #[error("its request would be refused now")]
    Revoked,
    /// A response's body could not be compressed.
    #[error("the body could not be compressed: {0}")]
    Uncompressed(#[from] std::io::Error),
    /// A request's body came slower than the limits allow.
    #[error("the body came too slowly")]
    TooSlow,
    /// A request's body is longer than its route allows.
    #[error("the body is too large")]
    TooLarge,
}

/// A time-out for waits that mostly do not happen: the timer is made at the first wait and moved
/// only when it fires.
#[derive(Default)]
pub(crate) struct Patience {
    sleep: Option<Pin<Box<Sleep>>>,
    since: Option<Instant>,
}

impl Patience {
    /// Ends the wait.
    pub(crate) fn rest(&mut self) {
        self.since = None;
    }

    /// Ready once the wait has lasted for `limit`.
    pub(crate) fn poll(&mut self, context: &mut Context<'_>, limit: Duration) -> Poll<()> {
        let deadline = *self.since.get_or_insert_with(Instant::now) + limit;
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if deadline < sleep.deadline() {
            sleep.as_mut().reset(deadline);
        }
        loop {
            std::task::ready!(sleep.as_mut().poll(context));
            if deadline <= Instant::now() {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
    }
}
