//! The log: lines on standard error, written by a thread of its own so that no request waits.

use std::io::{self, IsTerminal};

use tracing_appender::non_blocking::{NonBlocking, WorkerGuard};
use tracing_subscriber::EnvFilter;

use crate::settings::LogFormat;

/// Begins to log. The log ends with the guard.
///
/// The filter was read before, when the flags were; one that cannot be read logs everything from
/// `info` on.
pub fn start(format: Option<LogFormat>, filter: &str) -> WorkerGuard {
    let terminal = io::stderr().is_terminal();
    let (writer, guard) = NonBlocking::new(io::stderr());
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    let text = match format {
        Some(LogFormat::Text) => true,
        Some(LogFormat::Json) => false,
        None => terminal,
    };
    // Only a second start in one process fails, and then the first one goes on.
    let _ = if text {
        builder.with_ansi(terminal).try_init().err()
    } else {
        builder.json().flatten_event(true).try_init().err()
    };
    guard
}
