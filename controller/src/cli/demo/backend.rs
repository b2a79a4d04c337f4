//! The service behind the demo's routes: it answers with what it was sent.

use std::{fmt::Write, net::Ipv4Addr, sync::Arc};

use anyhow::{Context, Result};
use axum::{Router, extract::Request, http::header};
use tokio::net::TcpListener;

use crate::{port, supervise::Supervisor};

/// A free port of loopback.
pub(super) async fn bind() -> Result<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("the demo's backend cannot listen")
}

/// Answers there as long as the program runs.
pub(super) fn keep(supervisor: &mut Supervisor, listener: TcpListener) {
    let listener = Arc::new(listener);
    supervisor
        .keep("backend", move || port::serve(Arc::clone(&listener), Router::new().fallback(echo)));
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
