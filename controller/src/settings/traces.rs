//! Flags of traces.

#[cfg(feature = "otlp")]
use std::num::NonZeroU32;

use clap::{Args, ValueEnum};
use dataplane::{TraceSettings, TraceSource};
#[cfg(feature = "otlp")]
use http::{HeaderValue, Uri, uri::PathAndQuery, uri::Scheme};

#[cfg(feature = "otlp")]
use super::parse::from_one;

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

    /// The collector that gets spans by OTLP, as `http://HOST:PORT` or with a path. Default: none,
    /// and no trace begins here
    #[cfg(feature = "otlp")]
    #[arg(long, value_name = "URL", env = "WHYGATE_OTLP_ENDPOINT", value_parser = collector)]
    pub otlp_endpoint: Option<Collector>,

    /// Sample one of so many traces that begin here; of others those that their sender samples
    #[cfg(feature = "otlp")]
    #[arg(long, value_name = "N", env = "WHYGATE_TRACE_ONE_IN", value_parser = from_one::<NonZeroU32>, default_value = "1")]
    pub trace_one_in: NonZeroU32,
}

/// The value of `--trace-context`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TraceContextFlag {
    /// Whoever sends a trace is believed.
    Trust,
    /// What others than trusted proxies say of traces is removed.
    Restart,
}

/// The value of `--otlp-endpoint`.
#[cfg(feature = "otlp")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collector {
    /// Its host and port.
    pub authority: String,
    /// The same for the header `host`.
    pub host: HeaderValue,
    /// Where spans go; `/v1/traces` unless the URL has a path.
    pub target: PathAndQuery,
}

impl TraceFlags {
    /// What becomes of traces.
    pub fn settings(&self) -> TraceSettings {
        let source = match self.trace_context {
            TraceContextFlag::Trust => TraceSource::Everybody,
            TraceContextFlag::Restart => TraceSource::TrustedProxies,
        };
        #[cfg(feature = "otlp")]
        let one_in = self.otlp_endpoint.as_ref().map(|_| self.trace_one_in);
        #[cfg(not(feature = "otlp"))]
        let one_in = None;
        TraceSettings { source, one_in }
    }

    /// Who gets spans.
    #[cfg(feature = "otlp")]
    pub fn collector(&self) -> Option<Collector> {
        self.otlp_endpoint.clone()
    }
}

/// `http://HOST[:PORT][/PATH]`.
#[cfg(feature = "otlp")]
fn collector(text: &str) -> Result<Collector, String> {
    /// The port of OTLP over HTTP.
    const PORT: u16 = 4318;
    let problem = || {
        "write it like `http://collector:4318`; TLS is not spoken to a collector, which belongs into the pod or the cluster"
            .to_owned()
    };
    let url: Uri = text.parse().map_err(|_| problem())?;
    let host = url.host().filter(|_| url.scheme() == Some(&Scheme::HTTP)).ok_or_else(problem)?;
    let authority = format!("{host}:{}", url.port_u16().unwrap_or(PORT));
    let host = HeaderValue::try_from(&authority).map_err(|_| problem())?;
    let target = match url.path_and_query() {
        Some(target) if target.as_str() != "/" => target.clone(),
        Some(_) | None => PathAndQuery::from_static("/v1/traces"),
    };
    Ok(Collector { authority, host, target })
}

#[cfg(all(test, feature = "otlp"))]
mod tests {
    use super::*;

    #[test]
    fn a_collector_is_a_host_with_a_port_and_a_path() {
        for (text, authority, target) in [
            ("http://collector", "collector:4318", "/v1/traces"),
            ("http://collector:9/", "collector:9", "/v1/traces"),
            ("http://[::1]:4318/otlp?a=b", "[::1]:4318", "/otlp?a=b"),
        ] {
            let read = collector(text).unwrap();
            assert_eq!((read.authority.as_str(), read.target.as_str()), (authority, target));
        }
        for text in ["collector:4318", "https://collector:4318", "http://", "/v1/traces", "a b"] {
            assert!(collector(text).unwrap_err().contains("`http://collector:4318`"), "{text}");
        }
    }
}
