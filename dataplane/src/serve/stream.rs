//! A client's connection, plain or encrypted, as one type.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use bytes::{Buf, Bytes};
use rustls::ProtocolVersion;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::server::TlsStream;

use crate::{frames::Frames, progress::Progress, wire::Wire};

/// What an HTTP/2 client sends first (RFC 9113 section 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The bytes of a connection; tells its progress when some arrive.
pub(crate) struct Stream {
    socket: Socket,
    /// What was read before it was known which protocol it is.
    ahead: Bytes,
    progress: Rc<Progress>,
    /// Of HTTP/2.
    frames: Frames,
}

enum Socket {
    Plain(Wire),
    Tls(Box<TlsStream<Wire>>),
}

impl Stream {
    pub(crate) fn plain(socket: TcpStream, ahead: Bytes, progress: Rc<Progress>) -> Self {
        Self { socket: Socket::Plain(Wire(socket)), ahead, progress, frames: Frames::new() }
    }

    pub(crate) fn tls(socket: TlsStream<Wire>, progress: Rc<Progress>) -> Self {
        let socket = Socket::Tls(Box::new(socket));
        Self { socket, ahead: Bytes::new(), progress, frames: Frames::new() }
    }
}

impl Stream {
    /// The version of TLS as it is called, unless the connection is plain.
    pub(crate) fn tls_version(&self) -> Option<&'static str> {
        let Socket::Tls(socket) = &self.socket else { return None };
        match socket.get_ref().1.protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => Some("TLSv1.3"),
            Some(ProtocolVersion::TLSv1_2) => Some("TLSv1.2"),
            _ => Some("TLS"),
        }
    }

    fn poll_bytes(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.ahead.is_empty() {
            let length = self.ahead.len().min(buffer.remaining());
            buffer.put_slice(self.ahead.get(..length).unwrap_or_default());
            self.ahead.advance(length);
            self.progress.bytes_arrived();
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        let polled = match &mut self.socket {
            Socket::Plain(socket) => Pin::new(socket).poll_read(context, buffer),
            Socket::Tls(socket) => Pin::new(socket).poll_read(context, buffer),
        };
        if buffer.filled().len() > before {
            self.progress.bytes_arrived();
        }
        polled
    }

    /// Waits for bytes, or for the end.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        if !self.ahead.is_empty() {
            return Ok(());
        }
        match &self.socket {
            Socket::Plain(socket) => socket.0.readable().await,
            Socket::Tls(socket) => socket.get_ref().0.0.readable().await,
        }
    }

    fn tell<T>(&self, written: Poll<T>) -> Poll<T> {
        self.progress.blocks(written.is_pending());
        written
    }

    /// The same connection, of which these bytes were read already.
    pub(crate) fn after(mut self, read: Bytes) -> Self {
        if !read.is_empty() {
            let ahead = [read, std::mem::take(&mut self.ahead)];
            self.ahead = ahead.concat().into();
        }
        self
    }

    /// Says that nothing more will be sent, and throws away what still comes.
    ///
    /// To close a socket with unread bytes resets it, and a reset may take our answer from the
    /// client before it has read it (RFC 9112 section 9.6).
    pub(crate) async fn linger(self) -> io::Result<()> {
        let mut socket = match self.socket {
            Socket::Plain(socket) => socket,
            Socket::Tls(socket) => socket.into_inner().0,
        };
        // After an orderly end this was done already.
        let _ = socket.shutdown().await;
        let mut thrown_away = vec![0; 16 * 1024];
        while socket.read(&mut thrown_away).await? > 0 {}
        Ok(())
    }
}

/// Reads as far as it takes to tell HTTP/2 from the rest. Nothing read means that nothing came.
pub(crate) async fn tell_protocol(socket: &TcpStream) -> io::Result<(Bytes, bool)> {
    let mut ahead = [0; PREFACE.len()];
    let mut length = 0;
    loop {
        socket.readable().await?;
        let room = ahead.get_mut(length..).unwrap_or_default();
        match socket.try_read(room) {
            Ok(0) => return Ok((Bytes::new(), false)),
            Ok(read) => length += read,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        }
        let read = ahead.get(..length).unwrap_or_default();
        if !PREFACE.starts_with(read) {
            return Ok((Bytes::copy_from_slice(read), false));
        }
        if read.len() == PREFACE.len() {
            return Ok((Bytes::copy_from_slice(read), true));
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // Its task looks next, and closes it.
        if this.progress.cut_for().is_some() {
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        let polled = this.poll_bytes(context, buffer);
        if this.progress.is_multiplexed()
            && let Some(arrived) = buffer.filled().get(before..)
        {
            this.progress.frames_arrived(this.frames.pass(arrived));
        }
        polled
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = match &mut this.socket {
            Socket::Plain(socket) => Pin::new(socket).poll_write(context, bytes),
            Socket::Tls(socket) => Pin::new(socket).poll_write(context, bytes),
        };
        this.tell(written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = match &mut this.socket {
            Socket::Plain(socket) => Pin::new(socket).poll_write_vectored(context, slices),
            Socket::Tls(socket) => Pin::new(socket).poll_write_vectored(context, slices),
        };
        this.tell(written)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.socket {
            Socket::Plain(socket) => socket.is_write_vectored(),
            Socket::Tls(socket) => socket.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = match &mut this.socket {
            Socket::Plain(socket) => Pin::new(socket).poll_flush(context),
            Socket::Tls(socket) => Pin::new(socket).poll_flush(context),
        };
        this.tell(flushed)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().socket {
            Socket::Plain(socket) => Pin::new(socket).poll_shutdown(context),
            Socket::Tls(socket) => Pin::new(socket).poll_shutdown(context),
        }
    }
}
