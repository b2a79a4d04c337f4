//! The body of a response, ours or the upstream's, and the connection that the latter comes on.

use std::{
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use decision::{code::Code, standing::Standing};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Instant;

use crate::{
    body::{BodyError, Patience},
    compress::{Compressed, Place},
    ending::Ending,
    forward::headers::of_trailers,
    ongoing::{Enrolled, Kind},
    record::Case,
    refused::{Refused, Unserved},
    upload::Upload,
    upstream::Lease,
    waits::Waits,
    worker::Worker,
};

/// What a client gets: text of ours, or what the upstream sends.
pub(crate) struct ResponseBody {
    content: Content,
    ending: Option<Ending>,
}

enum Content {
    Full(Bytes),
    Upstream(Box<Download>),
    Compressed(Box<Compressed<Download>>),
}

impl ResponseBody {
    pub(crate) fn empty() -> Self {
        Self::full(Bytes::new())
    }

    pub(crate) fn full(text: Bytes) -> Self {
        Self { content: Content::Full(text), ending: None }
    }

    pub(crate) fn from_upstream(download: Download) -> Self {
        Self { content: Content::Upstream(Box::new(download)), ending: None }
    }

    pub(crate) fn compressed(download: Download, place: Place) -> Self {
        let compressed = Compressed::new(download, place);
        Self { content: Content::Compressed(Box::new(compressed)), ending: None }
    }

    /// The answer to HEAD has no body of ours (RFC 9110 section 9.3.2).
    pub(crate) fn cut(&mut self) {
        if let Content::Full(text) = &mut self.content {
            text.clear();
        }
    }

    /// The exchange goes on until its response's body is gone.
    pub(crate) fn attach(&mut self, mut ending: Ending) {
        if self.is_end_stream() {
            ending.completed();
        }
        self.ending = Some(ending);
    }

    fn progressed(&mut self, polled: Option<&Result<Frame<Bytes>, BodyError>>) {
        let over = polled.is_none() || self.is_end_stream();
        let Some(ending) = &mut self.ending else { return };
        let data = polled.and_then(|frame| frame.as_ref().ok()).and_then(Frame::data_ref);
        ending.progressed(data.map_or(0, Bytes::len));
        if over {
            ending.completed();
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        let polled = match &mut this.content {
            Content::Full(text) if text.is_empty() => Poll::Ready(None),
            Content::Full(text) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(text))))),
            Content::Upstream(download) => {
                let polled = download.poll(context);
                follow(&mut this.ending, download);
                polled
            }
            Content::Compressed(body) => {
                let polled = Pin::new(&mut **body).poll_frame(context);
                follow(&mut this.ending, body.source());
                polled
            }
        };
        if let Poll::Ready(polled) = &polled {
            this.progressed(polled.as_ref());
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Full(text) => text.is_empty(),
            Content::Upstream(download) => download.is_end_stream(),
            Content::Compressed(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Full(text) => SizeHint::with_exact(u64::try_from(text.len()).unwrap_or(0)),
            Content::Upstream(download) => download.size_hint(),
            Content::Compressed(body) => body.size_hint(),
        }
    }
}

/// The exchange is told by the record that its body has now.
fn follow(ending: &mut Option<Ending>, download: &Download) {
    if let Some(ending) = ending {
        ending.follow(&download.case);
    }
}

/// What the body of an upstream's answer comes with.
pub(crate) struct Source {
    pub(crate) incoming: Incoming,
    pub(crate) lease: Lease,
    pub(crate) upload: Option<Rc<Upload>>,
    pub(crate) standing: Standing,
    /// Whether trailers are passed on: both sides speak HTTP/2.
    pub(crate) trailers: bool,
}

/// A body on its way from an upstream to a client.
pub(crate) struct Download {
    incoming: Incoming,
    /// Given back as soon as the body has ended; closed if it never does.
    lease: Option<Lease>,
    upload: Option<Rc<Upload>>,
    patience: Patience,
    worker: Rc<Worker>,
    case: Rc<Case>,
    idle: Duration,
    trailers: bool,
    /// Its request, until it has taken so long that it is judged again.
    standing: Option<Standing>,
    first_wait: Option<Instant>,
    enrolled: Option<Enrolled>,
}

impl Download {
    pub(crate) fn new(source: Source, worker: Rc<Worker>, case: Rc<Case>, waits: Waits) -> Self {
        let Source { incoming, lease, upload, standing, trailers } = source;
        let mut download = Self {
            incoming,
            lease: Some(lease),
            upload,
            patience: Patience::default(),
            worker,
            case,
            idle: waits.idle,
            trailers,
            standing: Some(standing),
            first_wait: None,
            enrolled: None,
        };
        download.release_at_end();
        download
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(enrolled) = &self.enrolled
            && enrolled.poll_ended(context).is_ready()
        {
            self.lease = None;
            return Poll::Ready(Some(Err(BodyError::Revoked)));
        }
        match Pin::new(&mut self.incoming).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) if frame.is_data() => {
                self.patience.rest();
                self.release_at_end();
                Poll::Ready(Some(Ok(frame)))
            }
            // Trailers end a body.
            Poll::Ready(Some(Ok(frame))) => {
                self.release();
                let trailers = frame.into_trailers().ok().filter(|_| self.trailers);
                Poll::Ready(trailers.map(|mut trailers| {
                    of_trailers(&mut trailers);
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
                let (limit, long) = (self.idle, self.worker.settings.limits.long_exchange);
                if self.standing.is_some() {
                    if !self.is_long(long) {
                        std::task::ready!(self.patience.poll(context, long.min(limit)));
                    }
                    self.enroll();
                    return self.poll(context);
                }
                std::task::ready!(self.patience.poll(context, limit));
                self.broke(Code::UpstreamTimeout, "paused for too long in its answer");
                Poll::Ready(Some(Err(BodyError::Stalled(limit))))
            }
        }
    }

    /// Whether its client has waited for so long that policies may have changed meanwhile.
    fn is_long(&mut self, long: Duration) -> bool {
        let since = self.patience.waiting_since();
        since.duration_since(*self.first_wait.get_or_insert(since)) >= long
    }

    /// From now on its request is judged again when policies change, and nothing keeps the snapshot
    /// that admitted it.
    fn enroll(&mut self) {
        let Some(standing) = self.standing.take() else { return };
        self.case = Rc::new(self.case.detached());
        self.enrolled = Some(self.worker.enroll(Kind::Stream, Rc::clone(&self.case), standing));
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
        // A client that breaks its own body off breaks the upstream's connection with it.
        if let Some(failure) = self.upload.as_ref().and_then(|upload| upload.failure()) {
            if let Some(denial) = failure.denial(&self.case) {
                let refused = Refused::Denied(denial);
                self.worker.record.refused(&self.case, &refused);
                self.case.refused(refused);
            }
            return;
        }
        let observed = format!("endpoint {} {what}", lease.address).into();
        let route = self.case.route().cloned();
        let unserved = Unserved { code, route, field: None, observed, remedy: None };
        self.worker.record.unserved(&self.case, &unserved);
        self.case.refused(Refused::Unserved(unserved));
    }
}

impl Body for Download {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.get_mut().poll(context)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
