//! `whygate echo`: a backend to try routes with, from the image that is there anyway.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use clap::Args;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};

use crate::{backend, output};

const EXAMPLES: &str = "\
Examples:
  whygate echo
  whygate echo --listen 127.0.0.1:8000";

/// Answer requests with what was sent: a backend for demos and tests
///
/// Credentials are not shown. SIGTERM and SIGINT end it once every request is answered.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES, after_long_help = EXAMPLES)]
pub(super) struct Echo {
    /// Where to answer plain HTTP
    #[arg(long, value_name = "ADDR:PORT", env = "WHYGATE_LISTEN", default_value = "[::]:8080")]
    listen: SocketAddr,
}

impl Echo {
    pub(super) async fn execute(self) -> Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let listener = TcpListener::bind(self.listen).await.with_context(|| {
            format!("--listen {}: cannot listen; choose another address", self.listen)
        })?;
        output::line(&format!("Listening on {}", listener.local_addr()?));
        let end = async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        Ok(backend::serve_until(listener, end).await?)
    }
}
