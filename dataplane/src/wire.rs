//! A TCP connection on which small messages are sent by the shortest way.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// How much of a request or a response is read at once.
pub(crate) const READ_BYTES: usize = 64 * 1024;

/// Up to how much is copied into one piece: less than that costs less to copy than to gather.
const SMALL: usize = 2 * 1024;

/// A socket. `writev(2)` takes about a quarter of a microsecond longer than `send(2)`, which is a
/// hundredth of a request, so it is left for what is large and in pieces.
#[derive(Debug)]
pub(crate) struct Wire(pub(crate) TcpStream);

impl Wire {
    fn socket(self: Pin<&mut Self>) -> Pin<&mut TcpStream> {
        Pin::new(&mut self.get_mut().0)
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.socket().poll_read(context, buffer)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.socket().poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let [one] = slices {
            return self.socket().poll_write(context, one);
        }
        let mut whole = [0; SMALL];
        let mut length = 0;
        for slice in slices {
            let Some(place) = whole.get_mut(length..length + slice.len()) else {
                return self.socket().poll_write_vectored(context, slices);
            };
            place.copy_from_slice(slice);
            length += slice.len();
        }
        self.socket().poll_write(context, whole.get(..length).unwrap_or_default())
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket().poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket().poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::{io::AsyncReadExt, net::TcpListener};

    use super::*;

    #[tokio::test]
    async fn pieces_arrive_in_their_order_however_large_they_are() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut wire, mut other) = (Wire(client), listener.accept().await.unwrap().0);
        for lengths in [vec![0], vec![5], vec![5, 0, 7], vec![SMALL - 1, 1], vec![SMALL, 1]] {
            let pieces: Vec<Vec<u8>> = (b'a'..).zip(&lengths).map(|(c, n)| vec![c; *n]).collect();
            let slices: Vec<_> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
            let write = |context: &mut Context<'_>| {
                Pin::new(&mut wire).poll_write_vectored(context, &slices)
            };
            let written = poll_fn(write).await.unwrap();
            assert_eq!(written, pieces.concat().len(), "{lengths:?}");
            let mut arrived = vec![0; written];
            other.read_exact(&mut arrived).await.unwrap();
            assert_eq!(arrived, pieces.concat(), "{lengths:?}");
        }
    }
}
