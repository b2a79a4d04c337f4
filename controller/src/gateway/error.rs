//! Why the program cannot start.

use std::{io, net::SocketAddr};

use dataplane::{BindError, StartError};
use tokio::sync::watch::error::RecvError;

use crate::{
    access_log::OpenError, admin::ListenError, names::LookupError, ready_file::WriteError,
    settings::SettingsError,
};

/// Why the program cannot start: one sentence each.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// Flags contradict each other.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// A port for people and programs.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// A port for traffic.
    #[error("{flag} {source}")]
    Bind {
        /// The flag that says where.
        flag: &'static str,
        /// Why not.
        source: BindError,
    },
    /// The access log.
    #[error(transparent)]
    AccessLog(#[from] OpenError),
    /// A thread for what the data plane tells.
    #[error("cannot start a thread: {0}")]
    Follow(io::Error),
    /// Anything else in the data plane.
    #[error(transparent)]
    Start(StartError),
    /// External names are served, and nobody can be asked for them.
    #[error(transparent)]
    Lookup(#[from] LookupError),
    /// The ready file.
    #[error(transparent)]
    Ready(#[from] WriteError),
    /// The inspect port of a developer's machine is nobody else's.
    #[error(
        "--inspect-listen {0}: without a cluster there are no tokens to ask for; choose a loopback address, or `off`"
    )]
    OpenInspect(SocketAddr),
    /// Signals cannot be received.
    #[error("cannot receive signals: {0}")]
    Signals(#[from] io::Error),
    /// The source ended before it was ready.
    #[error("the source of resources ended before everything was read")]
    Source(#[from] RecvError),
}

/// With the flag that says where, if it is a port.
pub(super) fn explain(error: StartError, settings: &dataplane::Settings) -> GatewayError {
    let StartError::Bind(source) = error else { return GatewayError::Start(error) };
    let (BindError::InUse { address }
    | BindError::Forbidden { address }
    | BindError::Other { address, .. }) = &source;
    let flag = if settings.https.contains(address) { "--https-listen:" } else { "--http-listen:" };
    GatewayError::Bind { flag, source }
}
