//! A connection to an endpoint, as far as requests use it: one at a time, or many.

use std::{cell::Cell, rc::Rc};

use futures::future::Either;
use http::{Request, Response};
use hyper::{
    body::Incoming,
    client::conn::{TrySendError, http1, http2},
};

use crate::upload::RequestBody;

/// What became of a request on a connection.
pub(super) type Sent = Result<Response<Incoming>, TrySendError<Request<RequestBody>>>;

/// A connection as one request has it.
pub(crate) enum Sender {
    /// HTTP/1.1: alone.
    One(http1::SendRequest<RequestBody>),
    /// HTTP/2: with others.
    Many {
        /// The connection.
        sender: http2::SendRequest<RequestBody>,
        /// A place on it.
        _place: Place,
    },
}

impl Sender {
    /// Sends a request; an error says whether anything of it was sent.
    pub(super) fn try_send_request(
        &mut self,
        request: Request<RequestBody>,
    ) -> impl Future<Output = Sent> + use<> {
        match self {
            Self::One(sender) => Either::Left(sender.try_send_request(request)),
            Self::Many { sender, .. } => Either::Right(sender.try_send_request(request)),
        }
    }
}

/// A request on a shared connection; counts as long as it lives.
pub(crate) struct Place(Rc<Cell<u32>>);

impl Place {
    pub(super) fn new(streams: &Rc<Cell<u32>>) -> Self {
        streams.set(streams.get() + 1);
        Self(Rc::clone(streams))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}
