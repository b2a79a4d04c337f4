//! What is known of a request before anybody reads it: enough to answer it if its handling panics.

use std::{cell::OnceCell, rc::Rc, time::SystemTime};

use http::{Method, Request, Version};
use hyper::body::Incoming;
use tokio::time::Instant;

use crate::{
    facts::Witness,
    id::RequestId,
    origin::Origin,
    record::{Arrived, Case},
    worker::Worker,
};

/// A request that has come. Kept beside it while it is handled.
pub(crate) struct Received {
    pub(crate) worker: Rc<Worker>,
    pub(crate) origin: Rc<Origin>,
    pub(crate) id: RequestId,
    /// When the last byte of its head was there, by both clocks.
    pub(crate) at: SystemTime,
    pub(crate) began: Instant,
    method: Method,
    version: Version,
    case: OnceCell<Rc<Case>>,
}

impl Received {
    pub(crate) fn new(
        worker: &Rc<Worker>,
        origin: &Rc<Origin>,
        began: Instant,
        wire: &Request<Incoming>,
    ) -> Self {
        let at = SystemTime::now();
        Self {
            worker: Rc::clone(worker),
            origin: Rc::clone(origin),
            id: worker.ids.next(at),
            at,
            began,
            method: wire.method().clone(),
            version: wire.version(),
            case: OnceCell::new(),
        }
    }

    /// The record of it, once there is one.
    pub(crate) fn read(&self, case: &Rc<Case>) {
        // It is read once, so there is nothing to replace.
        let _ = self.case.set(Rc::clone(case));
    }

    /// Nothing more is recorded of it under what was known of it.
    pub(crate) fn ending_is_told(&self) {
        if let Some(case) = self.case.get() {
            case.ending_is_told();
        }
    }

    /// A record of no more than this.
    pub(crate) fn case(&self) -> Case {
        let client = self.origin.connection.remote.address().ip().to_canonical();
        let witness = Witness::unread(self.method.clone(), self.version, client);
        let Self { id, at, began, .. } = *self;
        Case::new(id, witness, Arrived { at, began, tls: self.origin.tls, trace: None })
    }
}
