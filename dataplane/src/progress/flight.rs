//! What runs on a connection, and keeps it from resting.

use std::{cell::Cell, rc::Rc, sync::Arc, thread, time::Duration};

use tokio::time::Instant;

use super::{Progress, Waiting};
use crate::metrics::ThreadCounts;

/// How many more frames that bring nothing forward a client of HTTP/2 may send for each request that was
/// answered (its head, its windows, its end),
pub(super) const FRAMES_AN_ANSWER: u32 = 8;
/// and for each piece of a response, of at most 64 KiB: clients open two windows every 4 KiB.
pub(super) const FRAMES_A_PIECE: u32 = 64;
/// How many a request counts for that is broken off before it is answered: work was thrown away.
const FRAMES_A_CANCELLED: u32 = 8;

/// A request being served. Dropped with the last of its response.
#[derive(Debug)]
pub(crate) struct InFlight {
    progress: Rc<Progress>,
    counts: Arc<ThreadCounts>,
    pub(crate) began: Instant,
    /// Set by whoever has looked at the clock for it.
    ended: Cell<Option<Instant>>,
    answered: Cell<bool>,
}

impl InFlight {
    pub(crate) fn new(progress: &Rc<Progress>, counts: &Arc<ThreadCounts>) -> Self {
        let began = Instant::now();
        progress.requests.set(progress.requests.get() + 1);
        progress.wait_since(Waiting::Requests, began);
        counts.requests_in_flight.add();
        let (progress, counts) = (Rc::clone(progress), Arc::clone(counts));
        let (ended, answered) = (Cell::new(None), Cell::new(false));
        Self { progress, counts, began, ended, answered }
    }

    /// Its response is on its way.
    pub(crate) fn answered(&self) {
        self.answered.set(true);
        self.progress.allow_frames(FRAMES_AN_ANSWER);
    }

    /// A piece of its response is on its way.
    pub(crate) fn progressed(&self) {
        self.progress.progressed();
        self.progress.allow_frames(FRAMES_A_PIECE);
    }

    /// How long it took, if it is over now.
    pub(crate) fn took(&self) -> Duration {
        let now = Instant::now();
        self.ended.set(Some(now));
        now.saturating_duration_since(self.began)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.counts.requests_in_flight.subtract();
        let was_cancelled = !self.answered.get() && !thread::panicking();
        if was_cancelled && self.progress.multiplexed.get() {
            self.progress.frames_arrived(FRAMES_A_CANCELLED);
        }
        self.progress.ends_one(|| self.ended.get().unwrap_or_else(Instant::now));
    }
}

/// A request's body on its way to an upstream, which may take longer than the answer: until it is
/// there, too, its connection does not rest, and what comes on it is no next request.
#[derive(Debug)]
pub(crate) struct Uploading(Rc<Progress>);

impl Uploading {
    /// Of a request that is being served.
    pub(crate) fn new(progress: &Rc<Progress>) -> Self {
        progress.requests.set(progress.requests.get() + 1);
        Self(Rc::clone(progress))
    }
}

impl Drop for Uploading {
    fn drop(&mut self) {
        if self.0.ends_one(Instant::now) {
            self.0.wake();
        }
    }
}

/// A tunnel that is open, and counts as a request being served.
#[derive(Debug)]
pub(crate) struct OpenTunnel(InFlight);

impl OpenTunnel {
    pub(crate) fn new(progress: &Rc<Progress>, counts: &Arc<ThreadCounts>) -> Self {
        progress.tunnels.set(progress.tunnels.get() + 1);
        counts.tunnels.add();
        let flight = InFlight::new(progress, counts);
        flight.answered();
        Self(flight)
    }

    pub(crate) fn progressed(&self) {
        self.0.progressed();
    }
}

impl Drop for OpenTunnel {
    fn drop(&mut self) {
        let InFlight { progress, counts, .. } = &self.0;
        progress.tunnels.set(progress.tunnels.get().saturating_sub(1));
        counts.tunnels.subtract();
    }
}
