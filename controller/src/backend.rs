//! A service to put behind routes that are only shown or tried: it answers with what it was sent.

use std::{fmt::Write, io, net::SocketAddr, sync::Arc};

use axum::{Router, extract::Request, serve::Listener};
use tokio::net::{TcpListener, TcpStream};

use crate::port;

/// Answers on a port, for ever. Connections last as long as their clients want: one that ends while
/// it is used is a request that failed.
///
/// # Errors
/// If the system takes the socket away.
pub(crate) async fn serve(listener: Arc<TcpListener>) -> io::Result<()> {
    axum::serve(Shared(listener), Router::new().fallback(echo)).await
}

/// The same until `end`, and what was asked before that.
///
/// # Errors
/// If the system takes the socket away.
pub(crate) async fn serve_until(
    listener: TcpListener,
    end: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    axum::serve(listener, Router::new().fallback(echo)).with_graceful_shutdown(end).await
}

/// A listener that outlives whoever accepts.
struct Shared(Arc<TcpListener>);

impl Listener for Shared {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        port::accept(&self.0).await
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

const CREDENTIALS: [&str; 3] = ["authorization", "cookie", "x-api-key"];

/// Everything but credentials, which no terminal should show.
async fn echo(request: Request) -> String {
    let mut text = format!("Hello from the backend.\n\n{} {}\n", request.method(), request.uri());
    for (name, value) in request.headers() {
        let shown = match value.to_str() {
            Ok(value) if !CREDENTIALS.contains(&name.as_str()) => value,
            Ok(_) | Err(_) => "(not shown)",
        };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{name}: {shown}");
    }
    text
}
