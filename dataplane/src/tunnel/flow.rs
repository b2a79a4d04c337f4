//! One direction of a tunnel.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes on their way from one side to the other. While nothing moves it holds no buffer.
#[derive(Debug, Default)]
pub(super) struct Flow {
    /// What was read and could not be written yet.
    left: Bytes,
    unflushed: bool,
    ended: bool,
    closed: bool,
}

impl Flow {
    /// Whether the reader's end has reached the writer.
    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Says something of our own behind what was read.
    pub(super) fn say(&mut self, bytes: &[u8]) {
        self.left = [&self.left, bytes].concat().into();
    }

    /// What was read and not written.
    pub(super) fn take_left(&mut self) -> Bytes {
        std::mem::take(&mut self.left)
    }

    /// Moves what can be moved. Pending until one side is ready again; ready once it is closed.
    /// `see` looks at what was read and says whether it is passed on.
    pub(super) fn poll(
        &mut self,
        context: &mut Context<'_>,
        mut from: Pin<&mut impl AsyncRead>,
        mut to: Pin<&mut impl AsyncWrite>,
        room: &mut [u8],
        mut see: impl FnMut(&[u8]) -> bool,
    ) -> Poll<io::Result<()>> {
        loop {
            if !self.left.is_empty() {
                let written = ready!(to.as_mut().poll_write(context, &self.left))?;
                self.wrote(written)?;
                continue;
            }
            if self.ended {
                if !self.closed {
                    ready!(to.poll_shutdown(context))?;
                    self.closed = true;
                }
                return Poll::Ready(Ok(()));
            }
            let mut read = ReadBuf::new(room);
            if from.as_mut().poll_read(context, &mut read)?.is_pending() {
                if self.unflushed {
                    ready!(to.poll_flush(context))?;
                    self.unflushed = false;
                }
                return Poll::Pending;
            }
            let bytes = read.filled();
            self.ended = bytes.is_empty();
            if see(bytes) && !self.ended {
                let written = match to.as_mut().poll_write(context, bytes)? {
                    Poll::Ready(written) => written,
                    Poll::Pending => 0,
                };
                self.unflushed = true;
                self.left = Bytes::copy_from_slice(bytes.get(written..).unwrap_or_default());
            }
        }
    }

    fn wrote(&mut self, written: usize) -> io::Result<()> {
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.left.advance(written);
        self.unflushed = true;
        Ok(())
    }
}
