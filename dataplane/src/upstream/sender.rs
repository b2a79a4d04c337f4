//! A connection to an endpoint, as far as requests use it: one at a time, or many.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    task::Waker,
};

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
        place: Place,
    },
}

impl Sender {
    /// The requests on its connection, if it is shared.
    pub(super) fn streams(&self) -> Option<&Rc<Streams>> {
        match self {
            Self::One(_) => None,
            Self::Many { place, .. } => Some(&place.0),
        }
    }

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

/// Most requests at once on an HTTP/2 connection to an endpoint; for more there is another one.
pub(super) const STREAMS: u32 = 100;

/// The requests on a shared connection.
pub(crate) struct Streams {
    taken: Cell<u32>,
    /// How many there may be: what the endpoint says, up to [`STREAMS`].
    limit: Cell<u32>,
    task: RefCell<Task>,
}

/// The task of a connection, which is woken by the first answer.
enum Task {
    NotBegun,
    ToWake(Waker),
    Woken,
}

impl Streams {
    pub(super) fn new() -> Rc<Self> {
        let task = RefCell::new(Task::NotBegun);
        Rc::new(Self { taken: Cell::new(0), limit: Cell::new(STREAMS), task })
    }

    /// The endpoint allows so many, as far as this task of the connection knows. None at all would make
    /// a connection of each request, which then waits on it; so does the first.
    pub(super) fn allow(&self, limit: usize, task: &Waker) {
        self.limit.set(u32::try_from(limit).unwrap_or(STREAMS).clamp(1, STREAMS));
        let mut known = self.task.borrow_mut();
        if matches!(*known, Task::NotBegun) {
            *known = Task::ToWake(task.clone());
        }
    }

    /// The endpoint has answered, so what it allows is known: the task looks by itself only when the
    /// next request is there.
    pub(super) fn answered(&self) {
        if let Task::ToWake(task) = self.task.replace(Task::Woken) {
            task.wake();
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.taken.get() == 0
    }

    pub(super) fn has_room(&self) -> bool {
        self.taken.get() < self.limit.get()
    }

    /// Whether requests wait for others to end: the endpoint allowed fewer than was thought.
    pub(super) fn is_wanted(&self) -> bool {
        self.taken.get() > self.limit.get()
    }
}

/// A request on a shared connection; counts as long as it lives.
pub(crate) struct Place(Rc<Streams>);

impl Place {
    pub(super) fn new(streams: &Rc<Streams>) -> Self {
        streams.taken.set(streams.taken.get() + 1);
        Self(Rc::clone(streams))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.taken.set(self.0.taken.get().saturating_sub(1));
    }
}
