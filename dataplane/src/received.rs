//! What is known of a request before anybody reads it: enough to answer it if its handling panics.

use std::{net::IpAddr, rc::Rc, time::SystemTime};

use decision::code::Code;
use http::{HeaderValue, Method, Request, Response, Version, header};
use tokio::time::Instant;

use crate::{
    download::ResponseBody,
    facts::{Form, Witness},
    id::RequestId,
    origin::Origin,
    record::{Arrived, Case},
    refused::{Refused, Unserved},
    respond,
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
}

impl Received {
    pub(crate) fn new<B>(
        worker: &Rc<Worker>,
        origin: &Rc<Origin>,
        began: Instant,
        wire: &Request<B>,
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
        }
    }

    fn peer(&self) -> IpAddr {
        self.origin.connection.remote.address().ip().to_canonical()
    }

    /// The refusal after a panic, counted and told as a fault of ours. Whatever else was known of the
    /// request is gone, and what is left of it on HTTP/1.1 is not read.
    pub(crate) fn broke(&self) -> Response<ResponseBody> {
        let Self { worker, origin, id, at, began, method, version } = self;
        let witness = Witness::unread(method.clone(), *version, self.peer());
        let arrived = Arrived { at: *at, began: *began, tls: origin.tls, trace: None };
        let case = Case::new(*id, witness, arrived);
        let refused = Refused::Unserved(Unserved {
            code: Code::JudgementFailed,
            route: None,
            field: None,
            observed: "the work on the request ended in a panic".into(),
            remedy: None,
        });
        worker.record.refused(&case, &refused);
        let mut response = respond::refused(&refused, Form::Problem, *id);
        worker.record.answered(&case, response.status());
        if *method == Method::HEAD {
            response.body_mut().cut();
        }
        let headers = response.headers_mut();
        headers.insert(respond::REQUEST_ID, id.header());
        if !origin.progress.is_multiplexed() {
            origin.progress.leave_unread();
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}
