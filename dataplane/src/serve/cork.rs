//! HTTP/2: the frames of many streams in one write.

use std::{
    cell::RefCell,
    io::{self, IoSlice},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How much is gathered before it is written whatever follows. A frame of this size is not worth
/// being copied and goes out as it is.
const GATHERED: usize = 16 * 1024;

/// The bytes of a connection, of which those that go out are held back until somebody calls
/// [`Cork::poll_out`].
///
/// h2 writes and flushes after each frame of data: each would be a system call, and a record of TLS.
pub(crate) struct Cork<S>(Rc<RefCell<Held<S>>>);

struct Held<S> {
    stream: S,
    /// What is to be written.
    out: BytesMut,
}

impl<S> Clone for Cork<S> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

impl<S: AsyncWrite + Unpin> Cork<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self(Rc::new(RefCell::new(Held { stream, out: BytesMut::new() })))
    }

    /// Writes what was held back.
    pub(crate) fn poll_out(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let held = &mut *self.0.borrow_mut();
        ready!(held.poll_empty(context))?;
        Pin::new(&mut held.stream).poll_flush(context)
    }
}

impl<S: AsyncWrite + Unpin> Held<S> {
    fn poll_empty(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.out.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(context, &self.out))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.out.advance(written);
        }
        // A silent connection keeps no buffer.
        self.out = BytesMut::new();
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Cork<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.borrow_mut().stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Cork<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let held = &mut *self.0.borrow_mut();
        let length = slices.iter().map(|slice| slice.len()).sum();
        if held.out.len() + length > GATHERED {
            ready!(held.poll_empty(context))?;
        }
        if length > GATHERED {
            return Pin::new(&mut held.stream).poll_write_vectored(context, slices);
        }
        held.out.reserve(if held.out.is_empty() { GATHERED } else { 0 });
        for slice in slices {
            held.out.extend_from_slice(slice);
        }
        Poll::Ready(Ok(length))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Nothing: [`Cork::poll_out`] does it, once for all that was flushed.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let held = &mut *self.0.borrow_mut();
        ready!(held.poll_empty(context))?;
        Pin::new(&mut held.stream).poll_shutdown(context)
    }
}

/// A connection together with its cork: what it wrote in one turn goes out at the end of the turn.
pub(crate) struct Corked<F: Future, S> {
    connection: Pin<Box<F>>,
    cork: Cork<S>,
    ended: Option<F::Output>,
}

impl<F: Future, S> Corked<F, S> {
    pub(crate) fn new(connection: F, cork: Cork<S>) -> Self {
        Self { connection: Box::pin(connection), cork, ended: None }
    }

    pub(crate) fn connection(&mut self) -> Pin<&mut F> {
        self.connection.as_mut()
    }
}

impl<F: Future<Output: Unpin>, S: AsyncWrite + Unpin> Future for Corked<F, S> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        if this.ended.is_none()
            && let Poll::Ready(ended) = this.connection.as_mut().poll(context)
        {
            this.ended = Some(ended);
        }
        // That a socket is broken the connection finds out by itself, when it reads.
        let _ = ready!(this.cork.poll_out(context));
        this.ended.take().map_or(Poll::Pending, Poll::Ready)
    }
}
