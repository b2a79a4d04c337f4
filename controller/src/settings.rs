//! What the process is told at its start: flags and their environment variables, as values.

mod access_log;
mod defaults;
mod ingresses;
mod limits;
mod names;
mod parse;
mod traces;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    num::NonZeroUsize,
    path::PathBuf,
    time::Duration,
};

use clap::{Args, ValueEnum};
use decision::{
    address::{NetworkSet, parse_network},
    client::AddressSource,
    endpoint::ExternalReach,
    host::HostPattern,
};
use ipnet::IpNet;

pub use access_log::{AccessLogFlags, AccessLogForm};
pub(crate) use defaults::say_default;
pub use ingresses::{IngressFlags, PostureFlag};
pub use limits::LimitFlags;
pub use names::NameFlags;
pub(crate) use parse::name;
use parse::{client_address, from_one, listener, networks};
#[cfg(feature = "otlp")]
pub use traces::Collector;
pub use traces::{TraceContextFlag, TraceFlags};

/// Flags of everything that serves traffic.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Listeners")]
pub struct ServeFlags {
    /// Where to serve plain HTTP: `ADDRESS:PORT`, or `off`. Repeatable; port 0 picks a free one
    #[arg(long, value_name = "ADDRESS", env = "WHYGATE_HTTP_LISTEN", value_delimiter = ',', value_parser = listener)]
    pub http_listen: Vec<Listener>,

    /// Where to serve HTTPS: `ADDRESS:PORT`, or `off`. Repeatable; port 0 picks a free one
    #[arg(long, value_name = "ADDRESS", env = "WHYGATE_HTTPS_LISTEN", value_delimiter = ',', value_parser = listener)]
    pub https_listen: Vec<Listener>,

    /// Where to answer `/livez`, `/readyz` and `/metrics`, or `off`
    #[arg(long, value_name = "ADDRESS", env = "WHYGATE_ADMIN_LISTEN", value_parser = listener)]
    pub admin_listen: Option<Listener>,

    /// Where to answer `/snapshot`, or `off`
    #[arg(long, value_name = "ADDRESS", env = "WHYGATE_INSPECT_LISTEN", value_parser = listener, default_value = "127.0.0.1:9091")]
    pub inspect_listen: Listener,

    /// A file to write when ready, with the addresses that are really bound, as JSON
    #[arg(long, value_name = "FILE", env = "WHYGATE_READY_FILE")]
    pub ready_file: Option<PathBuf>,

    /// Data threads. Default: the CPU limit of the control group, at least 2 without one
    #[arg(long, value_name = "N", env = "WHYGATE_THREADS", value_parser = from_one::<NonZeroUsize>)]
    pub threads: Option<NonZeroUsize>,

    /// How the client's address is told: `peer`, or by `--trusted-proxies`: `proxy-protocol`,
    /// `header:NAME`, or both as in `proxy-protocol,header:x-forwarded-for`
    #[arg(long, value_name = "SOURCE", env = "WHYGATE_CLIENT_ADDRESS", value_parser = client_address, default_value = "peer")]
    pub client_address: ClientAddressFlag,

    /// Networks whose address headers are believed, separated by commas. Default: nobody's
    #[arg(long, value_name = "CIDR,…", env = "WHYGATE_TRUSTED_PROXIES", value_parser = networks)]
    pub trusted_proxies: Option<Networks>,

    /// Networks of nodes, pods and balancers, whose peers cannot be clients, separated by commas;
    /// `none` says that every peer is a client
    #[arg(long, value_name = "CIDR,…", env = "WHYGATE_INFRASTRUCTURE_CIDRS", value_parser = networks)]
    pub infrastructure_cidrs: Option<Networks>,

    /// Which Ingresses are ours, and how they are served
    #[command(flatten)]
    pub ingresses: IngressFlags,

    /// Where names of the DNS may lead
    #[command(flatten)]
    pub names: NameFlags,

    /// How long repeats of a refusal are counted before they are told
    #[arg(long, value_name = "SECONDS", env = "WHYGATE_DENIAL_WINDOW_SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600), help_heading = "Refusals")]
    pub denial_window_seconds: Option<u64>,

    /// How long connections are still accepted after SIGTERM, so that balancers learn of it;
    /// SIGINT skips it
    #[arg(
        long,
        value_name = "SECONDS",
        env = "WHYGATE_SHUTDOWN_DELAY_SECONDS",
        help_heading = "Process"
    )]
    pub shutdown_delay_seconds: Option<u64>,

    /// How long requests in flight may still take after that
    #[arg(
        long,
        value_name = "SECONDS",
        env = "WHYGATE_SHUTDOWN_GRACE_SECONDS",
        default_value_t = 30,
        help_heading = "Process"
    )]
    pub shutdown_grace_seconds: u64,

    /// What the log looks like. Default: text on a terminal, otherwise json
    #[arg(long, value_enum, env = "WHYGATE_LOG_FORMAT", help_heading = "Process")]
    pub log_format: Option<LogFormat>,

    /// What is logged, as tracing filters are written: `info`, `access=off,info`
    #[arg(long, value_name = "FILTER", env = "WHYGATE_LOG", value_parser = parse::filter, help_heading = "Process")]
    pub log: Option<String>,

    /// The access log
    #[command(flatten)]
    pub access_log: AccessLogFlags,

    /// Traces
    #[command(flatten)]
    pub traces: TraceFlags,

    /// Limits of connections and requests
    #[command(flatten)]
    pub limits: LimitFlags,
}

/// An address to listen on, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listener {
    /// Closed.
    Off,
    /// Open there.
    At(SocketAddr),
}

impl Listener {
    /// The address, if it is open.
    pub fn address(self) -> Option<SocketAddr> {
        match self {
            Self::Off => None,
            Self::At(address) => Some(address),
        }
    }
}

/// A list of networks; `none` is the empty one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Networks(pub Vec<IpNet>);

/// The value of `--client-address`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientAddressFlag {
    /// Trusted proxies announce connections by the PROXY protocol.
    pub proxy_protocol: bool,
    /// A header of trusted proxies.
    pub header: Option<http::HeaderName>,
}

/// `NAMESPACE/NAME`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// The namespace.
    pub namespace: String,
    /// The name in it.
    pub name: String,
}

/// `PATTERN=NAMESPACE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The hosts.
    pub pattern: HostPattern,
    /// Who owns them.
    pub namespace: String,
}

/// The value of `--log-format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For programs: one object a line.
    Json,
}

/// Where the program runs, which decides about some defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Surroundings {
    /// A cluster.
    Cluster,
    /// A directory of manifests.
    Directory,
    /// The built-in manifests.
    Demo,
}

/// Why flags that are readable one by one don't go together.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// A header that nobody may set.
    #[error(
        "--client-address {0}: no proxy is trusted to send this header; name their networks with --trusted-proxies"
    )]
    NoTrustedProxies(String),
    /// Proxies that nobody asks.
    #[error(
        "--trusted-proxies has no effect without a header to read; say which with --client-address header:NAME"
    )]
    NoHeader,
}

impl ServeFlags {
    /// The data plane's settings.
    ///
    /// # Errors
    /// If flags contradict each other.
    pub fn dataplane(&self, place: Surroundings) -> Result<dataplane::Settings, SettingsError> {
        let any = |port| Listener::At(SocketAddr::new(IpAddr::from([0_u16; 8]), port));
        let (http, https) = match place {
            Surroundings::Cluster | Surroundings::Directory => (any(8080), any(8443)),
            Surroundings::Demo => (Listener::At(loopback(8080)), Listener::Off),
        };
        let https = addresses(&self.https_listen, https);
        Ok(dataplane::Settings {
            http: addresses(&self.http_listen, http),
            redirect_port: redirect_port(place, &https),
            https,
            threads: self.threads.unwrap_or_else(default_threads),
            address_source: self.address_source(place)?,
            limits: self.limits.limits(),
            replica: replica(),
            access_log: self.access_log.one_in(),
            traces: self.traces.settings(),
        })
    }

    /// How the client's address is told.
    fn address_source(&self, place: Surroundings) -> Result<AddressSource, SettingsError> {
        let trusted = self.trusted_proxies.clone().map(|list| list.0).unwrap_or_default();
        let ClientAddressFlag { proxy_protocol, header } = self.client_address.clone();
        match (proxy_protocol, &header) {
            (false, None) if !trusted.is_empty() => return Err(SettingsError::NoHeader),
            (true, _) if trusted.is_empty() => {
                return Err(SettingsError::NoTrustedProxies("proxy-protocol".to_owned()));
            }
            (_, Some(name)) if trusted.is_empty() => {
                return Err(SettingsError::NoTrustedProxies(format!("header:{name}")));
            }
            (true | false, _) => {}
        }
        let infrastructure = match (&self.infrastructure_cidrs, place) {
            (Some(given), _) => given.0.clone(),
            (None, Surroundings::Cluster) => private_networks(),
            (None, Surroundings::Directory | Surroundings::Demo) => Vec::new(),
        };
        Ok(AddressSource {
            header,
            proxy_protocol,
            trusted_proxies: NetworkSet::new(trusted),
            infrastructure: NetworkSet::new(infrastructure),
        })
    }

    /// Where names of the DNS may lead.
    pub fn external_reach(&self, place: Surroundings) -> ExternalReach {
        let set = |networks: Option<&Networks>| {
            NetworkSet::new(networks.map(|networks| networks.0.clone()).unwrap_or_default())
        };
        // Where the API server is, whatever network that is in.
        let server = std::env::var("KUBERNETES_SERVICE_HOST").ok();
        ExternalReach {
            opened: set(self.names.external_name_cidrs.as_ref()),
            own: set(self.infrastructure_cidrs.as_ref()),
            closed: server.and_then(|server| server.parse().ok()).into_iter().collect(),
            loopback: place != Surroundings::Cluster,
        }
    }

    /// What manifests mean here.
    pub fn compile(&self, place: Surroundings) -> compile::Settings {
        self.ingresses.compile(place)
    }

    /// Where the admin port listens.
    pub fn admin(&self, place: Surroundings) -> Option<SocketAddr> {
        let default = match place {
            Surroundings::Cluster => SocketAddr::new(IpAddr::from([0_u16; 8]), 9090),
            Surroundings::Directory | Surroundings::Demo => loopback(9090),
        };
        self.admin_listen.unwrap_or(Listener::At(default)).address()
    }

    /// How long repeats are counted.
    pub fn denial_window(&self, place: Surroundings) -> Duration {
        let default = match place {
            Surroundings::Cluster => Duration::from_secs(30),
            // Whoever looks at the terminal sees each refusal within a second.
            Surroundings::Directory | Surroundings::Demo => Duration::from_millis(500),
        };
        self.denial_window_seconds.map_or(default, Duration::from_secs)
    }

    /// How long connections are still accepted after SIGTERM.
    pub fn shutdown_delay(&self, place: Surroundings) -> Duration {
        let default = if place == Surroundings::Cluster { 20 } else { 0 };
        Duration::from_secs(self.shutdown_delay_seconds.unwrap_or(default))
    }

    /// What is logged.
    pub fn log_filter(&self, place: Surroundings) -> &str {
        // The Kubernetes client's own lines are left out: whoever calls it says what failed and what to
        // do. A stranger's protocol errors are counted, not logged one by one.
        let default = match place {
            Surroundings::Cluster => "info,h2=error,kube_client=off,kube_runtime=off",
            // Whoever looks for a mistake in manifests looks for it in failed handshakes, too.
            Surroundings::Directory | Surroundings::Demo => {
                "warn,h2=error,access=off,dataplane::tls=info"
            }
        };
        self.log.as_deref().unwrap_or(default)
    }
}

fn addresses(given: &[Listener], default: Listener) -> Vec<SocketAddr> {
    let given = if given.is_empty() { std::slice::from_ref(&default) } else { given };
    given.iter().filter_map(|listener| listener.address()).collect()
}

/// Where a redirect to https leads, unless it is the usual port. In a cluster clients reach the
/// port of a Service, which is the usual one whatever we listen on; elsewhere they reach ours.
fn redirect_port(place: Surroundings, https: &[SocketAddr]) -> Option<u16> {
    /// RFC 9110 section 4.2.2.
    const HTTPS: u16 = 443;
    match place {
        Surroundings::Cluster => None,
        Surroundings::Directory | Surroundings::Demo => {
            https.first().map(SocketAddr::port).filter(|port| *port != HTTPS)
        }
    }
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port)
}

/// The networks of nodes, pods and balancers, as long as nobody said what they are here: RFC 1918,
/// RFC 6598, RFC 4193; and of what runs in the pod itself, a forwarded port among it: RFC 1122
/// section 3.2.1.3, RFC 4291 section 2.5.3.
fn private_networks() -> Vec<IpNet> {
    let networks = [
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "100.64.0.0/10",
        "fc00::/7",
        "127.0.0.0/8",
        "::1/128",
    ];
    networks.iter().filter_map(|network| parse_network(network).ok()).collect()
}

/// The CPU limit of the control group; 2 without one, because the machine is not ours alone.
fn default_threads() -> NonZeroUsize {
    const TWO: NonZeroUsize = NonZeroUsize::MIN.saturating_add(1);
    let is_limited = std::fs::read_to_string("/sys/fs/cgroup/cpu.max")
        .is_ok_and(|limit| !limit.starts_with("max"));
    if is_limited { std::thread::available_parallelism().unwrap_or(TWO) } else { TWO }
}

/// This replica's number: the same for a pod of the same name.
fn replica() -> u16 {
    let name = replica_name();
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, name.as_bytes());
    let start = digest.as_ref().first_chunk::<2>().copied().unwrap_or_default();
    u16::from_be_bytes(start)
}

/// What this replica is called: in a cluster the pod's name.
pub fn replica_name() -> String {
    let given = std::env::var("HOSTNAME").ok().filter(|name| !name.is_empty());
    let file = || std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    given.or_else(file).map_or_else(|| "whygate".to_owned(), |name| name.trim().to_owned())
}

#[cfg(test)]
mod tests;
