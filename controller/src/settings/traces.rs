//! Flags of traces.

use clap::{Args, ValueEnum};
use dataplane::{TraceSettings, TraceSource};

/// Which traces requests belong to.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Traces")]
pub struct TraceFlags {
    /// Whose `traceparent` is continued: `trust` everybody's, or `restart` all but those of
    /// `--trusted-proxies`
    #[arg(
        long,
        value_enum,
        value_name = "WHOSE",
        env = "WHYGATE_TRACE_CONTEXT",
        default_value = "trust"
    )]
    pub trace_context: TraceContextFlag,
}

/// The value of `--trace-context`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TraceContextFlag {
    /// Whoever sends a trace is believed.
    Trust,
    /// What others than trusted proxies say of traces is removed.
    Restart,
}

impl TraceFlags {
    /// What becomes of traces.
    pub fn settings(&self) -> TraceSettings {
        let source = match self.trace_context {
            TraceContextFlag::Trust => TraceSource::Everybody,
            TraceContextFlag::Restart => TraceSource::TrustedProxies,
        };
        TraceSettings { source, one_in: None }
    }
}
