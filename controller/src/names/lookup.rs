//! Questions to DNS servers.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    time::Duration,
};

use hickory_resolver::{
    TokioResolver,
    config::{LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig},
    net::{DnsError, NetError, runtime::TokioRuntimeProvider},
};
use tokio::time::{Instant, timeout};

/// Longest time for an answer, whatever `/etc/resolv.conf` says about time-outs and attempts.
const PATIENCE: Duration = Duration::from_secs(15);

/// What is said of it.
const LATE: &str = "no DNS server answered in time";

/// A way to a machine is one to each of its ports.
const ANY_PORT: u16 = 443;

/// Most addresses of a name that are used, the lowest.
const ADDRESSES: usize = 64;

/// Why nobody can be asked.
#[derive(Debug, thiserror::Error)]
#[error(
    "the DNS servers cannot be read from `/etc/resolv.conf`: {0}; correct it, or name a server with --dns-server"
)]
pub struct LookupError(#[from] NetError);

/// Somebody to ask.
#[derive(Clone, Debug)]
pub struct Lookup(TokioResolver);

/// What the DNS says of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// All addresses, each once.
    pub(super) addresses: Vec<IpAddr>,
    /// Those of them that this machine has a way to, or all if it has one to none.
    pub(super) usable: Vec<IpAddr>,
    /// How long that holds.
    pub(super) lives: Duration,
}

/// Why there is no address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// There is no such name.
    Nonexistent,
    /// The name has other records only.
    Addressless,
    /// Nobody said anything, or nothing that could be used.
    Unanswered(String),
}

impl Lookup {
    /// Asks these servers, or those of `/etc/resolv.conf` if none is given.
    ///
    /// # Errors
    /// If that file cannot be read, or names no server.
    pub fn new(servers: &[SocketAddr]) -> Result<Self, LookupError> {
        let mut builder = if servers.is_empty() {
            TokioResolver::builder_tokio()?
        } else {
            let servers = servers.iter().copied().map(server).collect();
            let config = ResolverConfig::from_parts(None, Vec::new(), servers);
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        };
        let options = builder.options_mut();
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        // The hosts file is about this machine, and what is remembered is remembered elsewhere.
        options.use_hosts_file = ResolveHosts::Never;
        options.cache_size = 0;
        Ok(Self(builder.build()?))
    }

    /// The addresses of a full name.
    pub(super) async fn ask(&self, name: &str) -> Result<Answer, Failure> {
        // With a final dot no search domain is tried: they are the cluster's.
        let asked = timeout(PATIENCE, self.0.lookup_ip(format!("{name}.")));
        let late = |_| Failure::Unanswered(LATE.to_owned());
        let found = asked.await.map_err(late)?.map_err(|error| {
            tracing::debug!(error = %error, resource = name, "Name cannot be looked up");
            failure(&error)
        })?;
        let lives = found.valid_until().saturating_duration_since(Instant::now().into_std());
        let mut addresses: Vec<_> = found.iter().map(|address| address.to_canonical()).collect();
        addresses.sort_unstable();
        addresses.dedup();
        addresses.truncate(ADDRESSES);
        let mut usable = addresses.clone();
        usable.retain(|address| has_route(*address));
        if usable.is_empty() {
            usable.clone_from(&addresses);
        }
        if addresses.is_empty() {
            Err(Failure::Addressless)
        } else {
            Ok(Answer { addresses, usable, lives })
        }
    }
}

fn server(address: SocketAddr) -> NameServerConfig {
    let mut server = NameServerConfig::udp_and_tcp(address.ip());
    for connection in &mut server.connections {
        connection.port = address.port();
    }
    server
}

fn failure(error: &NetError) -> Failure {
    if error.is_nx_domain() {
        return Failure::Nonexistent;
    }
    if error.is_no_records_found() {
        return Failure::Addressless;
    }
    Failure::Unanswered(if let NetError::Timeout = error {
        LATE.to_owned()
    } else if let NetError::Dns(DnsError::ResponseCode(code)) = error {
        format!("the DNS server said `{code}`")
    } else {
        "no DNS server can be reached".to_owned()
    })
}

/// Whether this machine has a way to an address, as RFC 6724 section 6 rule 1 asks: most names have
/// addresses of both families, and many clusters have one. Nothing is sent.
fn has_route(address: IpAddr) -> bool {
    let from = match address {
        IpAddr::V4(_) => IpAddr::from(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::from(Ipv6Addr::UNSPECIFIED),
    };
    UdpSocket::bind((from, 0)).is_ok_and(|socket| socket.connect((address, ANY_PORT)).is_ok())
}
