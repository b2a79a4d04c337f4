//! The body of a response, ours or the upstream's.

use std::{
    cell::RefCell,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::{
    body::BodyError,
    compress::{Compressed, Place},
    ending::Ending,
    transfer::Transfer,
};

/// What a client gets: text of ours, or what the upstream sends.
pub(crate) struct ResponseBody {
    content: Content,
    ending: Option<Ending>,
}

enum Content {
    Full(Bytes),
    Upstream(Download),
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
        Self { content: Content::Upstream(download), ending: None }
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
                let polled = Pin::new(&mut *download).poll_frame(context);
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
        ending.follow(download.transfer.borrow().case());
    }
}

/// An upstream's body in the hands of whoever writes to the client.
pub(crate) struct Download {
    transfer: Rc<RefCell<Transfer>>,
    /// Whether somebody looks at it now and then: not those that are over at once.
    is_watched: bool,
}

impl Download {
    pub(crate) fn new(transfer: Transfer) -> Self {
        Self { transfer: Rc::new(RefCell::new(transfer)), is_watched: false }
    }

    fn watch(&mut self) {
        if !self.is_watched && !self.is_end_stream() {
            self.is_watched = true;
            let (worker, transfer) = (Rc::clone(self.transfer.borrow().worker()), &self.transfer);
            worker.transfers.watch(Rc::clone(transfer));
        }
    }
}

impl Body for Download {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = self.transfer.borrow_mut().poll(context);
        if !matches!(polled, Poll::Ready(None)) {
            self.watch();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.transfer.borrow().is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.transfer.borrow().size_hint()
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        if self.is_watched {
            self.transfer.borrow().worker().transfers.forget(&self.transfer);
        }
    }
}
