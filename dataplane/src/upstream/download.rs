//! The body of an upstream's answer, and the connection it comes on.

use std::{
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use bytes::Bytes;
use decision::code::Code;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::{Answer, Lease};
use crate::{
    body::{BodyError, Patience, Upload},
    record::Case,
    respond::Unserved,
    worker::Worker,
};

/// A body on its way from an upstream to a client.
pub(crate) struct Download {
    incoming: Incoming,
    /// Given back as soon as the body has ended; closed if it never does.
    lease: Option<Lease>,
    upload: Option<Rc<Upload>>,
    patience: Patience,
    worker: Rc<Worker>,
    case: Rc<Case>,
}

impl Download {
    pub(crate) fn new(
        incoming: Incoming,
        lease: Lease,
        upload: Option<Rc<Upload>>,
        worker: Rc<Worker>,
        case: Rc<Case>,
    ) -> Self {
        let patience = Patience::default();
        let mut download = Self { incoming, lease: Some(lease), upload, patience, worker, case };
        download.release_at_end();
        download
    }

    pub(crate) fn poll_frame(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match Pin::new(&mut self.incoming).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) if frame.is_data() => {
                self.patience.rest();
                self.release_at_end();
                Poll::Ready(Some(Ok(frame)))
            }
            // Trailers end a body; they are not passed on.
            Poll::Ready(Some(Ok(_)) | None) => {
                self.release();
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(error))) => {
                self.broke(Code::UpstreamReset, "broke off in the middle of its answer");
                Poll::Ready(Some(Err(error.into())))
            }
            Poll::Pending => {
                let limit = self.worker.settings.limits.transfer_idle;
                std::task::ready!(self.patience.poll(context, limit));
                self.broke(Code::UpstreamTimeout, "paused for too long in its answer");
                Poll::Ready(Some(Err(BodyError::Stalled(limit))))
            }
        }
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }

    fn release_at_end(&mut self) {
        if self.incoming.is_end_stream() {
            self.release();
        }
    }

    /// Keeps the connection, unless the client is still sending: an answer may come early.
    fn release(&mut self) {
        let sent = self.upload.as_ref().is_none_or(|upload| upload.is_done());
        if let Some(lease) = self.lease.take().filter(|_| sent) {
            lease.release();
        }
    }

    /// The client has the head already, so all that is left is to count it and to break off too.
    fn broke(&mut self, code: Code, what: &str) {
        let Some(lease) = self.lease.take() else { return };
        let observed = format!("endpoint {} {what}", lease.address).into();
        let route = self.case.route().cloned();
        let unserved = Unserved { code, route, field: None, observed };
        self.worker.record.unserved(self.case.id, &self.case.witness, &unserved);
    }
}

impl Answer {
    pub(crate) fn into_parts(self) -> (http::response::Parts, Incoming, Lease) {
        let (parts, incoming) = self.response.into_parts();
        (parts, incoming, self.lease)
    }
}
