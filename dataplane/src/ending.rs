//! The end of an exchange, wherever it comes: it is measured and recorded exactly once.

use std::{rc::Rc, sync::Arc, thread};

use http::StatusCode;

use crate::{
    access::End,
    metrics::RouteCounts,
    progress::InFlight,
    record::{Case, Ended},
    worker::Worker,
};

/// An exchange that goes on. Dropped with the last of its response, or when its client leaves
/// before there is one.
pub(crate) struct Ending {
    pub(crate) worker: Rc<Worker>,
    pub(crate) case: Rc<Case>,
    flight: InFlight,
    /// Where it is counted, once it was answered.
    counts: Option<Arc<RouteCounts>>,
    end: End,
    sent: u64,
}

impl Ending {
    pub(crate) fn new(worker: &Rc<Worker>, case: &Rc<Case>, flight: InFlight) -> Self {
        let (worker, case) = (Rc::clone(worker), Rc::clone(case));
        Self { worker, case, flight, counts: None, end: End::Unanswered, sent: 0 }
    }

    /// The client gets an answer, the body of which is still to come.
    pub(crate) fn answered(&mut self, status: StatusCode) {
        // Whoever makes requests only to break them off earns nothing by it.
        if status != StatusCode::BAD_REQUEST {
            self.flight.answered();
        }
        self.counts = Some(self.worker.record.answered(&self.case, status));
        self.end = End::CutOff;
    }

    /// Something of the body was handed on.
    pub(crate) fn progressed(&mut self, bytes: usize) {
        self.sent = self.sent.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
        self.flight.progressed();
    }

    /// All of the body was handed on.
    pub(crate) fn completed(&mut self) {
        self.end = End::Complete;
    }

    /// From now on it is told by this record, which keeps nothing of a snapshot.
    pub(crate) fn follow(&mut self, case: &Rc<Case>) {
        if !Rc::ptr_eq(&self.case, case) {
            self.case = Rc::clone(case);
        }
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        let duration = self.flight.took();
        if let Some(counts) = &self.counts {
            counts.took(duration);
        }
        // A tunnel ends later, and tells of itself; so does what is answered after a panic.
        let unwinds = matches!(self.end, End::Unanswered) && thread::panicking();
        if !unwinds && !self.case.is_ending_told() {
            let (end, sent, received) = (self.end, self.sent, self.case.received());
            self.worker.record.ended(&self.case, Ended { end, duration, sent, received });
        }
    }
}

/// A tunnel that is open, or about to be.
pub(crate) struct TunnelEnding {
    worker: Rc<Worker>,
    case: Rc<Case>,
    end: End,
    pub(crate) sent: u64,
    pub(crate) received: u64,
}

impl TunnelEnding {
    pub(crate) fn new(worker: &Rc<Worker>, case: Rc<Case>) -> Self {
        let worker = Rc::clone(worker);
        Self { worker, case, end: End::CutOff, sent: 0, received: 0 }
    }

    /// Both sides are done with it.
    pub(crate) fn completed(&mut self) {
        self.end = End::Complete;
    }
}

impl Drop for TunnelEnding {
    fn drop(&mut self) {
        let Self { end, sent, received, .. } = *self;
        let duration = self.case.began.elapsed();
        self.worker.record.ended(&self.case, Ended { end, duration, sent, received });
    }
}
