//! One flag for each limit of the data plane, with its unit in the name.

use std::{
    num::{NonZeroU32, NonZeroUsize},
    time::Duration,
};

use clap::Args;
use dataplane::Limits;

use super::parse::from_one;

/// Limits of connections and requests. Without a flag the data plane's own default holds.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
#[command(next_help_heading = "Limits")]
pub struct LimitFlags {
    /// Longest request target [default: 8192]
    #[arg(long, value_name = "BYTES", env = "WHYGATE_URI_LIMIT_BYTES")]
    pub uri_limit_bytes: Option<usize>,
    /// Largest request head [default: 16384]
    #[arg(long, value_name = "BYTES", env = "WHYGATE_HEADER_LIMIT_BYTES", value_parser = clap::value_parser!(u32).range(8192..))]
    pub header_limit_bytes: Option<u32>,
    /// Most header fields of a request [default: 100]
    #[arg(long, value_name = "COUNT", env = "WHYGATE_HEADER_LIMIT_COUNT")]
    pub header_limit_count: Option<usize>,
    /// Most requests at once on an HTTP/2 connection [default: 32]
    #[arg(long, value_name = "COUNT", env = "WHYGATE_STREAM_LIMIT_COUNT", value_parser = from_one::<NonZeroU32>)]
    pub stream_limit_count: Option<NonZeroU32>,
    /// Most connections of clients on one data thread; for more, those that rest longest are closed
    /// [default: 20000]
    #[arg(long, value_name = "COUNT", env = "WHYGATE_CONNECTION_LIMIT_COUNT")]
    pub connection_limit_count: Option<usize>,
    /// From accepting a connection to the end of its TLS handshake [default: 5]
    #[arg(long, value_name = "SECONDS", env = "WHYGATE_HANDSHAKE_SECONDS")]
    pub handshake_seconds: Option<u64>,
    /// From the beginning of a connection to its first byte [default: 5]
    #[arg(long, value_name = "SECONDS", env = "WHYGATE_FIRST_BYTE_SECONDS")]
    pub first_byte_seconds: Option<u64>,
    /// From the first byte of a request's head to its last [default: 10]
    #[arg(long, value_name = "SECONDS", env = "WHYGATE_HEADER_READ_SECONDS")]
    pub header_read_seconds: Option<u64>,
    /// How long a connection may rest between requests [default: 75]
    #[arg(long, value_name = "SECONDS", env = "WHYGATE_KEEP_ALIVE_IDLE_SECONDS")]
    pub keep_alive_idle_seconds: Option<u64>,
    /// How old a connection may become, give or take a tenth [default: 1800]
    #[arg(long, value_name = "SECONDS", env = "WHYGATE_CONNECTION_AGE_SECONDS")]
    pub connection_age_seconds: Option<u64>,
    /// Longest pause of a request's body before the response has begun [default: 30]
    #[arg(long, value_name = "SECONDS", env = "WHYGATE_BODY_IDLE_SECONDS")]
    pub body_idle_seconds: Option<u64>,
    /// Lowest rate of a request's body before the response has begun; 0 for any [default: 1024]
    #[arg(long, value_name = "BYTES", env = "WHYGATE_BODY_RATE_BYTES_PER_SECOND")]
    pub body_rate_bytes_per_second: Option<u64>,
    /// How long a body may take before its rate is judged, and the rest of it once the response is over [default: 10]
    #[arg(long, value_name = "SECONDS", env = "WHYGATE_BODY_RATE_GRACE_SECONDS")]
    pub body_rate_grace_seconds: Option<u64>,
    /// Longest pause in both directions once the response has begun [default: 300]
    #[arg(long, value_name = "SECONDS", env = "WHYGATE_TRANSFER_IDLE_SECONDS")]
    pub transfer_idle_seconds: Option<u64>,
    /// Longest silence of a WebSocket or another switched connection [default: 3600]
    #[arg(long, value_name = "SECONDS", env = "WHYGATE_TUNNEL_IDLE_SECONDS")]
    pub tunnel_idle_seconds: Option<u64>,
    /// How long an upstream may take to accept a connection [default: 5]
    #[arg(long, value_name = "SECONDS", env = "WHYGATE_UPSTREAM_CONNECT_SECONDS")]
    pub upstream_connect_seconds: Option<u64>,
    /// How long an upstream may take until its response begins [default: 60]
    #[arg(long, value_name = "SECONDS", env = "WHYGATE_UPSTREAM_FIRST_BYTE_SECONDS")]
    pub upstream_first_byte_seconds: Option<u64>,
    /// Most requests of one data thread at once for one endpoint [default: 1024]
    #[arg(long, value_name = "COUNT", env = "WHYGATE_UPSTREAM_CONNECTION_LIMIT_COUNT", value_parser = from_one::<NonZeroUsize>)]
    pub upstream_connection_limit_count: Option<NonZeroUsize>,
    /// How long an upstream connection is kept for the next request [default: 60]
    #[arg(long, value_name = "SECONDS", env = "WHYGATE_UPSTREAM_IDLE_SECONDS")]
    pub upstream_idle_seconds: Option<u64>,
    /// Most connections kept for one endpoint by one data thread [default: 256]
    #[arg(long, value_name = "COUNT", env = "WHYGATE_UPSTREAM_IDLE_LIMIT_COUNT")]
    pub upstream_idle_limit_count: Option<usize>,
    /// Most verified tokens that one data thread remembers [default: 10000]
    #[arg(long, value_name = "COUNT", env = "WHYGATE_TOKEN_CACHE_LIMIT_COUNT")]
    pub token_cache_limit_count: Option<usize>,
    /// Most memory for the verified tokens of one data thread [default: 16777216]
    #[arg(long, value_name = "BYTES", env = "WHYGATE_TOKEN_CACHE_LIMIT_BYTES")]
    pub token_cache_limit_bytes: Option<u64>,
}

impl LimitFlags {
    /// The data plane's limits, with what was given in place of the defaults.
    pub fn limits(&self) -> Limits {
        let default = Limits::default();
        let seconds = |given: Option<u64>, default| given.map_or(default, Duration::from_secs);
        Limits {
            uri_bytes: self.uri_limit_bytes.unwrap_or(default.uri_bytes),
            header_bytes: self.header_limit_bytes.unwrap_or(default.header_bytes),
            header_count: self.header_limit_count.unwrap_or(default.header_count),
            streams: self.stream_limit_count.unwrap_or(default.streams),
            connections: self.connection_limit_count.unwrap_or(default.connections),
            handshake: seconds(self.handshake_seconds, default.handshake),
            first_byte: seconds(self.first_byte_seconds, default.first_byte),
            header_read: seconds(self.header_read_seconds, default.header_read),
            keep_alive_idle: seconds(self.keep_alive_idle_seconds, default.keep_alive_idle),
            connection_age: seconds(self.connection_age_seconds, default.connection_age),
            body_idle: seconds(self.body_idle_seconds, default.body_idle),
            body_rate_bytes: self.body_rate_bytes_per_second.unwrap_or(default.body_rate_bytes),
            body_rate_grace: seconds(self.body_rate_grace_seconds, default.body_rate_grace),
            transfer_idle: seconds(self.transfer_idle_seconds, default.transfer_idle),
            long_exchange: default.long_exchange,
            tunnel_idle: seconds(self.tunnel_idle_seconds, default.tunnel_idle),
            upstream_connect: seconds(self.upstream_connect_seconds, default.upstream_connect),
            upstream_first_byte: seconds(
                self.upstream_first_byte_seconds,
                default.upstream_first_byte,
            ),
            upstream_connections: self
                .upstream_connection_limit_count
                .map_or(default.upstream_connections, NonZeroUsize::get),
            upstream_idle: seconds(self.upstream_idle_seconds, default.upstream_idle),
            upstream_idle_connections: self
                .upstream_idle_limit_count
                .unwrap_or(default.upstream_idle_connections),
            tokens: self.token_cache_limit_count.unwrap_or(default.tokens),
            token_bytes: self.token_cache_limit_bytes.unwrap_or(default.token_bytes),
            linger: default.linger,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::{Command, FromArgMatches};

    use super::*;

    /// `[default: 8192]` of a flag's help.
    fn told(arg: &clap::Arg) -> String {
        let help = arg.get_help().unwrap().to_string();
        let (_, default) = help.rsplit_once("[default: ").unwrap_or_else(|| panic!("{help}"));
        default.trim_end_matches(']').to_owned()
    }

    #[test]
    fn the_default_that_the_help_of_each_flag_tells_is_the_one_that_holds() {
        let command = LimitFlags::augment_args(Command::new("whygate"));
        let told = command
            .get_arguments()
            .map(|arg| format!("--{}={}", arg.get_long().unwrap(), told(arg)));
        let line: Vec<_> = ["whygate".to_owned()].into_iter().chain(told).collect();
        let given = command.try_get_matches_from(&line).unwrap();
        let given = LimitFlags::from_arg_matches(&given).unwrap().limits();
        assert_eq!(format!("{given:#?}"), format!("{:#?}", Limits::default()));
    }

    #[test]
    fn the_values_of_the_chart_tell_the_same_defaults() {
        let values = include_str!("../../../charts/whygate/values.yaml");
        let table = include_str!("../../../charts/whygate/README.md");
        let command = LimitFlags::augment_args(Command::new("whygate"));
        for arg in command.get_arguments() {
            let mut words = arg.get_id().as_str().split('_');
            let mut key = words.next().unwrap_or_default().to_owned();
            for word in words {
                let (first, rest) = word.split_at(1);
                key.push_str(&(first.to_ascii_uppercase() + rest));
            }
            let default = format!("({})", told(arg));
            let (before, _) = values.split_once(&format!("\n  {key}: null\n")).expect(&key);
            let comment = before.lines().next_back().unwrap_or_default();
            assert!(comment.contains(&default), "{key} is {default}: {comment}");
            let row = table.lines().find(|line| line.starts_with(&format!("| `limits.{key}` |")));
            assert!(row.is_some_and(|row| row.contains(&default)), "{key} is {default}: {row:?}");
        }
    }
}
