//! A service to put behind routes that are only shown or tried: it answers with what it was sent.

use std::{fmt::Write, sync::Arc};

use axum::{Router, extract::Request, http::header};
use tokio::net::TcpListener;

use crate::port;

/// Answers on a port, for ever.
///
/// # Errors
/// If the system takes the socket away.
pub(crate) async fn serve(listener: Arc<TcpListener>) -> std::io::Result<()> {
    port::serve(listener, Router::new().fallback(echo)).await
}

/// Everything but credentials, which no terminal should show.
async fn echo(request: Request) -> String {
    let mut text = format!("Hello from the backend.\n\n{} {}\n", request.method(), request.uri());
    for (name, value) in request.headers() {
        let shown = match value.to_str() {
            Ok(value) if *name != header::AUTHORIZATION && *name != header::COOKIE => value,
            Ok(_) | Err(_) => "(not shown)",
        };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{name}: {shown}");
    }
    text
}
