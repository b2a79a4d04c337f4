//! HTTP/1.1: one request after the other, and little memory between them.

use std::{
    cell::Cell,
    future::poll_fn,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll},
};

use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::time::timeout;

use super::{LINGER, Requests, attend, rejected, stream::Stream};
use crate::{origin::Origin, progress::Close, wire::READ_BYTES, worker::Worker};

type Connection = http1::Connection<TokioIo<Stream>, Requests>;

/// Serves a connection until it ends. While nobody asks, nothing is left of it but the socket:
/// hyper would keep its buffers, which are most of what a silent connection costs.
pub(super) async fn serve(
    worker: &Rc<Worker>,
    mut stream: Stream,
    origin: &Rc<Origin>,
) -> Result<(), Close> {
    let progress = &origin.progress;
    loop {
        let requests = Requests { worker: Rc::clone(worker), origin: Rc::clone(origin) };
        let connection = builder(worker).serve_connection(TokioIo::new(stream), requests);
        let mut awake = Awake { connection: Box::new(connection), origin };
        let ended = attend(Pin::new(&mut awake), Awake::end, progress, worker).await?;
        let connection = *awake.connection;
        let Some(ended) = ended else {
            let parts = connection.into_parts();
            stream = parts.io.into_inner().after(parts.read_buf);
            if is_asked_again(&stream, origin, worker).await? {
                continue;
            }
            return Ok(());
        };
        if let Some(tunnel) = origin.tunnel.take() {
            let parts = connection.into_parts();
            let stream = parts.io.into_inner().after(parts.read_buf);
            let tunnel = tunnel.run(stream, Rc::clone(worker), Rc::clone(progress));
            return attend(Box::pin(tunnel).as_mut(), |_| (), progress, worker).await;
        }
        if progress.left_unread() || ended.as_ref().is_err_and(hyper::Error::is_parse) {
            let stream = connection.into_parts().io.into_inner();
            // Only what the client reads counts now, and whether it does is its own affair.
            let _ = timeout(LINGER, Box::pin(stream.linger())).await;
        }
        return ended.map_err(|error| rejected(&error));
    }
}

/// Waits for the client to send something; false if its time is over before.
async fn is_asked_again(stream: &Stream, origin: &Origin, worker: &Worker) -> Result<bool, Close> {
    let (progress, over) = (&origin.progress, Cell::new(false));
    let mut readable = pin!(stream.readable());
    let asked = pin!(poll_fn(|context| match readable.as_mut().poll(context) {
        Poll::Ready(_) => Poll::Ready(true),
        Poll::Pending if over.get() => Poll::Ready(false),
        Poll::Pending => Poll::Pending,
    }));
    progress.sleeps(true);
    let asked = attend(asked, |_| over.set(true), progress, worker).await;
    progress.sleeps(false);
    asked
}

/// A connection that somebody uses, or did lately. Ends with nothing as soon as nobody does.
struct Awake<'a> {
    connection: Box<Connection>,
    origin: &'a Origin,
}

impl Awake<'_> {
    fn end(mut self: Pin<&mut Self>) {
        Pin::new(&mut *self.connection).graceful_shutdown();
    }
}

impl Future for Awake<'_> {
    type Output = Option<hyper::Result<()>>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match Pin::new(&mut *self.connection).poll(context) {
            Poll::Ready(ended) => Poll::Ready(Some(ended)),
            Poll::Pending if self.origin.progress.falls_asleep() => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    }
}

fn builder(worker: &Worker) -> http1::Builder {
    let limits = &worker.settings.limits;
    let mut builder = http1::Builder::new();
    // Times are ours to watch: hyper's timer would also run on idle connections.
    let header_bytes = usize::try_from(limits.header_bytes).unwrap_or(READ_BYTES);
    builder.header_read_timeout(None).max_header_size(header_bytes);
    builder.max_buf_size(READ_BYTES.max(header_bytes));
    if limits.header_count != 100 {
        builder.max_headers(limits.header_count);
    }
    builder
}
