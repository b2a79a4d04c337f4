//! The body of an upstream's answer on its way to a client, and the connection that it comes on.

use std::{
    cell::RefCell,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use decision::{code::Code, standing::Standing, trailers::TrailerEdits};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Instant;

use crate::{
    body::{BodyError, Patience},
    headers::of_trailers,
    metrics::Rejected,
    ongoing::{Enrolled, Kind},
    record::Case,
    refused::{Refused, Unserved},
    transfers::Look,
    upload::Upload,
    upstream::Lease,
    waits::Waits,
    worker::Worker,
};

/// What the body of an upstream's answer comes with.
pub(crate) struct Source {
    pub(crate) incoming: Incoming,
    pub(crate) lease: Lease,
    pub(crate) upload: Option<Rc<Upload>>,
    pub(crate) standing: Standing,
    /// What its trailers lose, if they are passed on: both sides speak HTTP/2.
    pub(crate) trailers: Option<TrailerEdits>,
}

/// A body on its way from an upstream to a client.
pub(crate) struct Transfer {
    /// None once it was given up.
    incoming: Option<Incoming>,
    /// Given back as soon as the body has ended; closed if it never does.
    lease: Option<Lease>,
    upload: Option<Rc<Upload>>,
    patience: Patience,
    worker: Rc<Worker>,
    case: Rc<Case>,
    idle: Duration,
    trailers: Option<TrailerEdits>,
    /// Its request, until it has taken so long that it is judged again.
    standing: Option<Standing>,
    enrolled: Option<Enrolled>,
    /// Who asked last, if the upstream had nothing.
    waiting: Option<Waker>,
    /// How many frames were handed on.
    handed: u32,
    /// How many had been and whether it waited when somebody looked, and since when that is so.
    seen: Option<((u32, bool), Instant)>,
}

impl Transfer {
    pub(crate) fn new(source: Source, worker: Rc<Worker>, case: Rc<Case>, waits: Waits) -> Self {
        let Source { incoming, lease, upload, standing, trailers } = source;
        let mut transfer = Self {
            incoming: Some(incoming),
            lease: Some(lease),
            upload,
            patience: Patience::default(),
            worker,
            case,
            idle: waits.idle,
            trailers,
            standing: Some(standing),
            enrolled: None,
            waiting: None,
            handed: 0,
            seen: None,
        };
        transfer.release_at_end();
        transfer
    }

    pub(crate) fn worker(&self) -> &Rc<Worker> {
        &self.worker
    }

    /// Its record, which is another one once it takes long.
    pub(crate) fn case(&self) -> &Rc<Case> {
        &self.case
    }

    pub(crate) fn poll(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(enrolled) = &self.enrolled
            && enrolled.poll_ended(context).is_ready()
        {
            self.give_up();
            return Poll::Ready(Some(Err(BodyError::Revoked)));
        }
        let Some(incoming) = &mut self.incoming else {
            return Poll::Ready(Some(Err(BodyError::Stalled(self.idle))));
        };
        match Pin::new(incoming).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) if frame.is_data() => {
                self.patience.rest();
                self.waiting = None;
                self.handed = self.handed.wrapping_add(1);
                self.release_at_end();
                Poll::Ready(Some(Ok(frame)))
            }
            // Trailers end a body.
            Poll::Ready(Some(Ok(frame))) => {
                self.release();
                let trailers = frame.into_trailers().ok().zip(self.trailers.as_ref());
                Poll::Ready(trailers.map(|(mut trailers, edits)| {
                    of_trailers(&mut trailers, edits, &self.worker.settings.address_source);
                    Ok(Frame::trailers(trailers))
                }))
            }
            Poll::Ready(None) => {
                self.release();
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(error))) => {
                self.broke(Code::UpstreamReset, "broke off in the middle of its answer");
                Poll::Ready(Some(Err(error.into())))
            }
            Poll::Pending => {
                if self.waiting.as_ref().is_none_or(|waker| !waker.will_wake(context.waker())) {
                    self.waiting = Some(context.waker().clone());
                }
                std::task::ready!(self.patience.poll(context, self.idle));
                self.broke(Code::UpstreamTimeout, "paused for too long in its answer");
                Poll::Ready(Some(Err(BodyError::Stalled(self.idle))))
            }
        }
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        self.incoming.as_ref().is_some_and(Body::is_end_stream)
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        self.incoming.as_ref().map(Body::size_hint).unwrap_or_default()
    }

    /// From now on its request is judged again when policies change, and nothing keeps the snapshot
    /// that admitted it.
    fn enroll(&mut self) {
        let Some(standing) = self.standing.take() else { return };
        self.case = Rc::new(self.case.detached());
        self.enrolled = Some(self.worker.enroll(Kind::Stream, Rc::clone(&self.case), standing));
        if let Some(waiting) = self.waiting.take() {
            waiting.wake();
        }
    }

    /// Whether its client has taken nothing for too long. Where others wait for room, that is as soon
    /// as it is `long`. Where the upstream had nothing, that one's time is up first; but the clock is
    /// not looked at while the client takes nothing.
    fn is_left_alone(&mut self, now: Instant, long: Duration) -> bool {
        let Some(lease) = &self.lease else { return false };
        let limit = match &self.waiting {
            Some(_) => self.idle + long,
            None if lease.is_wanted() => self.idle.min(long),
            None => self.idle,
        };
        let turn = (self.handed, self.waiting.is_some());
        let (seen, since) = *self.seen.get_or_insert((turn, now));
        if seen != turn {
            self.seen = Some((turn, now));
            return false;
        }
        now.duration_since(since) >= limit
    }

    /// The upstream is rid of it, and gets no more of its request.
    fn give_up(&mut self) {
        self.incoming = None;
        let Some(lease) = self.lease.take() else { return };
        if let Some(upload) = self.upload.take().filter(|upload| !upload.is_done()) {
            upload.outlasts(Duration::ZERO, || lease.release());
        }
    }

    fn release_at_end(&mut self) {
        if self.is_end_stream() {
            self.release();
        }
    }

    /// Keeps the connection; if the client is still sending, once it has.
    fn release(&mut self) {
        let time = self.worker.settings.limits.body_rate_grace;
        let Some(lease) = self.lease.take() else { return };
        match self.upload.take().filter(|upload| !upload.is_done()) {
            None => lease.release(),
            Some(upload) => upload.outlasts(time, || lease.release()),
        }
    }

    /// The client has the head already, so all that is left is to count it and to break off too.
    fn broke(&mut self, code: Code, what: &str) {
        let Some(lease) = self.lease.take() else { return };
        // A client that breaks its own body off breaks the upstream's connection with it.
        if let Some(failure) = self.upload.as_ref().and_then(|upload| upload.failure()) {
            if let Some(denial) = failure.denial(&self.case) {
                let refused = Refused::Denied(denial);
                self.worker.record.refused(&self.case, &refused);
                self.case.refused(refused);
            }
            return;
        }
        let observed = format!("endpoint {} {what}", lease.address);
        let unserved = Unserved::new(code, self.case.route().cloned(), observed);
        self.worker.record.unserved(&self.case, &unserved);
        self.case.refused(Refused::Unserved(unserved));
    }

    fn look(&mut self, now: Instant) {
        let long = self.worker.settings.limits.long_exchange;
        if self.standing.is_some() && now >= self.case.began + long {
            self.enroll();
        }
        if self.enrolled.as_ref().is_some_and(Enrolled::has_ended) {
            self.give_up();
        } else if self.is_left_alone(now, long) {
            self.worker.record.counts.rejected(Rejected::Stalled);
            self.give_up();
        }
    }
}

impl Look for RefCell<Transfer> {
    fn look(&self, now: Instant) {
        // As with requests: a panic in there is a bug of ours, and ends this one exchange.
        if catch_unwind(AssertUnwindSafe(|| self.borrow_mut().look(now))).is_err() {
            self.borrow_mut().give_up();
        }
    }
}
