//! The body of a request, streamed frame by frame; who is slow is told from who is waiting.

use std::{
    cell::Cell,
    error::Error,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::{Buf, Bytes};
use decision::{
    denial::{Denial, DenialReason, Slow},
    options::BodyLimit,
    trailers::TrailerEdits,
};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Instant;

use crate::{
    body::{BodyError, Patience},
    headers::of_trailers,
    progress::{Progress, Uploading},
    record::Case,
    settings::Settings,
};

/// What an upstream gets: the client's body as it comes; trailers only if both speak HTTP/2.
pub(crate) struct RequestBody {
    incoming: Option<Incoming>,
    upload: Option<Rc<Upload>>,
    /// Until all of it is there.
    uploading: Option<Uploading>,
    patience: Patience,
}

impl RequestBody {
    /// A body with the account of its progress, or none of both if it is empty.
    pub(crate) fn new(
        incoming: Incoming,
        (settings, progress): (&Rc<Settings>, &Rc<Progress>),
        bounds: Bounds,
        case: &Case,
    ) -> (Self, Option<Rc<Upload>>) {
        let upload = (!incoming.is_end_stream()).then(|| {
            let (settings, progress) = (Rc::clone(settings), Rc::clone(progress));
            Rc::new(Upload::new(settings, progress, bounds, case.count_received()))
        });
        let uploading = upload.as_ref().map(|upload| Uploading::new(&upload.progress));
        let (incoming, patience) = (Some(incoming), Patience::default());
        (Self { incoming, upload: upload.clone(), uploading, patience }, upload)
    }

    /// No body, whatever the client sends: what it sends stays unread.
    pub(crate) fn none() -> Self {
        Self { incoming: None, upload: None, uploading: None, patience: Patience::default() }
    }

    fn poll_next(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some(incoming) = &mut self.incoming else { return Poll::Ready(None) };
        let polled = Pin::new(&mut *incoming).poll_frame(context);
        let Some(upload) = &self.upload else { return polled.map_err(BodyError::from) };
        if upload.is_overdue() {
            return Poll::Ready(Some(Err(BodyError::TooSlow)));
        }
        match polled {
            Poll::Ready(Some(Ok(frame))) => {
                self.patience.rest();
                let Some(data) = frame.data_ref() else {
                    upload.done.set(true);
                    let trailers = frame.into_trailers().ok().zip(upload.bounds.trailers.as_ref());
                    return Poll::Ready(trailers.map(|(mut trailers, edits)| {
                        of_trailers(&mut trailers, edits, &upload.settings.address_source);
                        Ok(Frame::trailers(trailers))
                    }));
                };
                upload.arrived(data.remaining());
                // What is too much is not passed on, not even the part that would still fit.
                if upload.is_too_large() {
                    upload.failure.set(Some(UploadFailure::TooLarge));
                    return Poll::Ready(Some(Err(BodyError::TooLarge)));
                }
                upload.done.set(incoming.is_end_stream());
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                upload.failure.set(Some(UploadFailure::of(&error)));
                Poll::Ready(Some(Err(error.into())))
            }
            Poll::Ready(None) => {
                upload.done.set(true);
                Poll::Ready(None)
            }
            Poll::Pending => {
                upload.waker.set(Some(context.waker().clone()));
                let (limit, slow) = upload.patience();
                if upload.ends.get().is_some() {
                    // What is left is counted from now.
                    self.patience.rest();
                }
                std::task::ready!(self.patience.poll(context, limit));
                upload.failure.set(Some(UploadFailure::TooSlow(slow)));
                Poll::Ready(Some(Err(BodyError::TooSlow)))
            }
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = self.poll_next(context);
        if self.upload.as_ref().is_some_and(|upload| upload.is_done()) {
            self.uploading = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.as_ref().map_or_else(|| SizeHint::with_exact(0), Incoming::size_hint)
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        let Some(upload) = &self.upload else { return };
        let then = upload.then.take();
        if upload.is_done() {
            if let Some(then) = then {
                then();
            }
        } else {
            upload.progress.leave_unread();
        }
    }
}

/// Why the client's side of an exchange failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UploadFailure {
    /// The client went away.
    Left,
    /// Its framing is wrong.
    Malformed,
    /// It was slower than the limits allow.
    TooSlow(Slow),
    /// It was longer than the route allows.
    TooLarge,
}

impl UploadFailure {
    fn of(error: &hyper::Error) -> Self {
        let mut source = error.source();
        while let Some(cause) = source {
            // What cannot be decoded is an error of input; what ends too early is another.
            if let Some(error) = cause.downcast_ref::<io::Error>() {
                let kinds = [io::ErrorKind::InvalidInput, io::ErrorKind::InvalidData];
                return if kinds.contains(&error.kind()) { Self::Malformed } else { Self::Left };
            }
            source = cause.source();
        }
        Self::Left
    }

    /// The refusal of the request, unless nobody is left to be refused.
    pub(crate) fn denial(self, case: &Case) -> Option<Box<Denial>> {
        let route = || case.route().cloned();
        let (reason, route) = match self {
            Self::Left => return None,
            // What anybody can provoke with garbage is not told of the route.
            Self::Malformed => (DenialReason::RequestMalformed { rule: "body" }, None),
            Self::TooSlow(slow) => (DenialReason::RequestTimeout { slow }, route()),
            Self::TooLarge => {
                let limit = case.options().and_then(|options| options.body_limit.as_ref())?;
                (too_large(None, limit), route())
            }
        };
        Some(Box::new(Denial { route, ..Denial::of_request(reason) }))
    }
}

/// Why a body of this length, if it is known, is refused.
pub(crate) fn too_large(length: Option<u64>, limit: &BodyLimit) -> DenialReason {
    let BodyLimit { bytes: limit, field } = limit.clone();
    DenialReason::BodyTooLarge { length, limit, field }
}

/// What a request's body keeps to, besides the limits of all.
#[derive(Clone, Debug)]
pub(crate) struct Bounds {
    /// The most bytes that it may have.
    pub(crate) bytes: Option<u64>,
    /// Its longest pause once the response has begun.
    pub(crate) idle: Duration,
    /// What its trailers lose, if they are passed on: both sides speak HTTP/2. Of HTTP/1.1 they would
    /// have to lose what the head's `Connection` names, too.
    pub(crate) trailers: Option<TrailerEdits>,
}

/// The account of a request's body, shared by the body and whoever waits for the response.
pub(crate) struct Upload {
    settings: Rc<Settings>,
    progress: Rc<Progress>,
    bounds: Bounds,
    done: Cell<bool>,
    failure: Cell<Option<UploadFailure>>,
    response_began: Cell<bool>,
    /// Until when the rest of it has to be there, once its exchange is over.
    ends: Cell<Option<Instant>>,
    /// What to do when it is there, once its exchange is over.
    then: Cell<Option<Box<dyn FnOnce()>>>,
    bytes: Rc<Cell<u64>>,
    waited: Cell<Duration>,
    waiting_since: Cell<Option<Instant>>,
    moved: Cell<Instant>,
    /// Of the task that waits for the client's bytes.
    waker: Cell<Option<Waker>>,
}

impl Upload {
    fn new(
        settings: Rc<Settings>,
        progress: Rc<Progress>,
        bounds: Bounds,
        bytes: Rc<Cell<u64>>,
    ) -> Self {
        Self {
            settings,
            progress,
            bounds,
            done: Cell::new(false),
            failure: Cell::new(None),
            response_began: Cell::new(false),
            ends: Cell::new(None),
            then: Cell::new(None),
            bytes,
            waited: Cell::new(Duration::ZERO),
            waiting_since: Cell::new(None),
            moved: Cell::new(Instant::now()),
            waker: Cell::new(None),
        }
    }

    /// Whether the upstream has all of it.
    pub(crate) fn is_done(&self) -> bool {
        self.done.get()
    }

    pub(crate) fn failure(&self) -> Option<UploadFailure> {
        self.failure.get()
    }

    /// Until its exchange is over only the long limit of transfers holds.
    pub(crate) fn response_began(&self) {
        self.response_began.set(true);
    }

    /// Its exchange is over. The rest of it may come for so long, and is not sent any more then. `then`
    /// is called if it was sent whole; what it holds is held until the body is gone, sent or not.
    pub(crate) fn outlasts(&self, time: Duration, then: impl FnOnce() + 'static) {
        self.ends.set(Some(Instant::now() + time));
        self.then.set(Some(Box::new(then)));
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Whether nobody waits for it any more.
    fn is_overdue(&self) -> bool {
        self.ends.get().is_some_and(|ends| ends <= Instant::now())
    }

    /// Until when an upstream may take for its answer: time in which it waits for the client's
    /// bytes is not its own.
    pub(crate) fn answer_due(&self, limit: Duration) -> Instant {
        let waits_for_client = !self.done.get() && self.waiting_since.get().is_some();
        let since = if waits_for_client { Instant::now() } else { self.moved.get() };
        since + limit
    }

    fn arrived(&self, bytes: usize) {
        let now = Instant::now();
        if let Some(since) = self.waiting_since.take() {
            self.waited.set(self.waited.get() + now.saturating_duration_since(since));
        }
        self.bytes.set(self.bytes.get().saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX)));
        self.moved.set(now);
        self.progress.progressed();
    }

    fn is_too_large(&self) -> bool {
        self.bounds.bytes.is_some_and(|most| self.bytes.get() > most)
    }

    /// How long the next bytes may take, and what the body is if they take longer.
    fn patience(&self) -> (Duration, Slow) {
        if self.waiting_since.get().is_none() {
            self.waiting_since.set(Some(Instant::now()));
        }
        let limits = &self.settings.limits;
        if let Some(ends) = self.ends.get() {
            let left = ends.saturating_duration_since(Instant::now());
            return (left, Slow::Paused(left));
        }
        if self.response_began.get() {
            return (self.bounds.idle, Slow::Paused(self.bounds.idle));
        }
        let paused = (limits.body_idle, Slow::Paused(limits.body_idle));
        let rate = limits.body_rate_bytes;
        let Some(earned) = self.bytes.get().checked_div(rate) else { return paused };
        let allowed = Duration::from_secs(earned).max(limits.body_rate_grace);
        let left = allowed.saturating_sub(self.waited.get());
        if left < limits.body_idle { (left, Slow::Trickled(rate)) } else { paused }
    }
}
