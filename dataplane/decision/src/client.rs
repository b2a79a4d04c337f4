//! Who the client is: one constructor for client addresses, canonical from birth.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderName};

use crate::address::{NetworkSet, canonical};

/// The other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remote {
    /// That of the socket.
    Socket(SocketAddr),
    /// The client that the trusted proxy at the socket announced by the PROXY protocol.
    Announced {
        /// Whose connection it passes on.
        client: SocketAddr,
        /// The other end of the socket.
        proxy: SocketAddr,
    },
    /// The trusted proxy at the socket announced that it does not know whose connection it is.
    Hidden {
        /// The other end of the socket.
        proxy: SocketAddr,
    },
}

impl Remote {
    /// The end that is nearest to the client, as far as it is known.
    pub fn address(&self) -> SocketAddr {
        match self {
            Self::Socket(address) | Self::Announced { client: address, .. } => *address,
            Self::Hidden { proxy } => *proxy,
        }
    }
}

/// How a listener tells client addresses. A property of the installation, never of a policy.
#[derive(Clone, Debug, Default)]
pub struct AddressSource {
    /// The header in which trusted proxies pass the client's address on, if one is used.
    /// Several lines and comma-separated lists are one list; it is read from the right.
    pub header: Option<HeaderName>,
    /// Whether trusted proxies announce each connection by the PROXY protocol. Then they must, and
    /// nobody else may. Default false.
    pub proxy_protocol: bool,
    /// Whose headers are believed. Empty by default: nobody's.
    pub trusted_proxies: NetworkSet,
    /// Peers that are nodes, pods or balancers and so cannot be clients.
    pub infrastructure: NetworkSet,
}

/// How an address was learned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Derivation {
    /// It is the other end of the connection.
    Peer,
    /// A trusted proxy announced it by the PROXY protocol.
    ProxyProtocol,
    /// It is the first untrusted entry of this header, from the right.
    Header(HeaderName),
}

/// Why the client's address cannot be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Undeterminable {
    /// A trusted proxy sent no address header.
    HeaderMissing(HeaderName),
    /// This entry of the header, counted from the right and from 1, is no address.
    HopUnreadable(HeaderName, usize),
    /// Every entry, and the peer, is a trusted proxy.
    OnlyProxies(HeaderName),
    /// The trusted proxy announced a connection of somebody that it does not know.
    NotAnnounced,
}

/// The address that rules judge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientAddress {
    /// A client's.
    Known(IpAddr, Derivation),
    /// A peer inside the infrastructure: a node, pod or balancer that hides the client.
    Infrastructure(IpAddr),
    /// Not to be told.
    Unknown(Undeterminable, IpAddr),
}

impl ClientAddress {
    /// Tells the client's address from the connection's other end and the request's headers.
    pub fn derive(remote: &Remote, headers: &HeaderMap, source: &AddressSource) -> Self {
        let address = canonical(remote.address().ip());
        if let Remote::Hidden { .. } = remote {
            return Self::Unknown(Undeterminable::NotAnnounced, address);
        }
        match (&source.header, remote) {
            (Some(header), _) if source.trusted_proxies.contains(address) => {
                from_header(address, headers, header, source)
            }
            (_, Remote::Announced { .. }) => Self::Known(address, Derivation::ProxyProtocol),
            _ if source.infrastructure.contains(address) => Self::Infrastructure(address),
            _ => Self::Known(address, Derivation::Peer),
        }
    }

    /// The best known address, for logs only: rules must match on the variant.
    pub fn for_logs(&self) -> IpAddr {
        match self {
            Self::Known(address, _) | Self::Infrastructure(address) | Self::Unknown(_, address) => {
                *address
            }
        }
    }
}

impl std::fmt::Display for ClientAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Known(address, Derivation::Peer) => {
                write!(f, "{address} (the connection's peer)")
            }
            Self::Known(address, Derivation::ProxyProtocol) => {
                write!(f, "{address} (announced by the PROXY protocol)")
            }
            Self::Known(address, Derivation::Header(header)) => {
                write!(f, "{address} (from {header})")
            }
            Self::Infrastructure(address) => {
                write!(f, "{address} (a peer inside the infrastructure, which hides the client)")
            }
            Self::Unknown(Undeterminable::HeaderMissing(header), peer) => {
                write!(f, "unknown: the trusted proxy {peer} sent no {header}")
            }
            Self::Unknown(Undeterminable::HopUnreadable(header, hop), _) => {
                write!(f, "unknown: entry {hop} from the right of {header} is no address")
            }
            Self::Unknown(Undeterminable::OnlyProxies(header), _) => {
                write!(f, "unknown: every entry of {header} is a trusted proxy")
            }
            Self::Unknown(Undeterminable::NotAnnounced, proxy) => {
                write!(f, "unknown: the trusted proxy {proxy} announced no address")
            }
        }
    }
}

fn from_header(
    peer: IpAddr,
    headers: &HeaderMap,
    header: &HeaderName,
    source: &AddressSource,
) -> ClientAddress {
    let lines: Vec<_> = headers.get_all(header).iter().collect();
    let entries = lines.iter().rev().flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b','));
    let mut seen = 0;
    for (hop, entry) in (1..).zip(entries) {
        seen = hop;
        match parse_hop(entry) {
            Some(address) if source.trusted_proxies.contains(address) => {}
            Some(address) => {
                return ClientAddress::Known(address, Derivation::Header(header.clone()));
            }
            None => {
                return ClientAddress::Unknown(
                    Undeterminable::HopUnreadable(header.clone(), hop),
                    peer,
                );
            }
        }
    }
    let why = if seen == 0 { Undeterminable::HeaderMissing } else { Undeterminable::OnlyProxies };
    ClientAddress::Unknown(why(header.clone()), peer)
}

/// An address, in brackets or not, with or without a port: what proxies write.
fn parse_hop(entry: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(entry).ok()?.trim();
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let address =
        bare.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|socket| socket.ip()));
    address.map(canonical)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source() -> AddressSource {
        let set = |text: &str| [text.parse().unwrap()].into_iter().collect();
        AddressSource {
            header: Some(HeaderName::from_static("x-forwarded-for")),
            trusted_proxies: set("192.0.2.0/24"),
            infrastructure: set("10.0.0.0/8"),
            proxy_protocol: true,
        }
    }

    #[test]
    fn an_announced_client_is_known_and_may_be_a_proxy_itself() {
        let at = |ip: &str| SocketAddr::new(ip.parse().unwrap(), 1);
        let proxy = at("192.0.2.1");
        let mut headers = HeaderMap::new();
        headers.append("x-forwarded-for", "198.51.100.7".parse().unwrap());
        for (remote, expected) in [
            (
                Remote::Announced { client: at("203.0.113.9"), proxy },
                "203.0.113.9 (announced by the PROXY protocol)",
            ),
            (
                Remote::Announced { client: at("10.1.2.3"), proxy },
                "10.1.2.3 (announced by the PROXY protocol)",
            ),
            (
                Remote::Announced { client: at("192.0.2.8"), proxy },
                "198.51.100.7 (from x-forwarded-for)",
            ),
            (Remote::Hidden { proxy }, "unknown: the trusted proxy 192.0.2.1 announced no address"),
        ] {
            assert_eq!(ClientAddress::derive(&remote, &headers, &source()).to_string(), expected);
        }
    }

    fn derive(peer: &str, lines: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append("x-forwarded-for", line.parse().unwrap());
        }
        let remote = Remote::Socket(SocketAddr::new(peer.parse().unwrap(), 1));
        ClientAddress::derive(&remote, &headers, &source()).to_string()
    }

    #[test]
    fn the_first_untrusted_entry_from_the_right_is_the_client() {
        assert_eq!(
            derive("192.0.2.1", &["1.1.1.1, 203.0.113.9, 192.0.2.7"]),
            "203.0.113.9 (from x-forwarded-for)"
        );
        assert_eq!(
            derive("192.0.2.1", &["1.1.1.1", "[2001:db8::1]:443"]),
            "2001:db8::1 (from x-forwarded-for)"
        );
        assert_eq!(
            derive("::ffff:192.0.2.1", &["203.0.113.9:80"]),
            "203.0.113.9 (from x-forwarded-for)"
        );
    }

    #[test]
    fn an_untrusted_peer_is_the_client_whatever_it_writes() {
        assert_eq!(derive("203.0.113.9", &["198.51.100.1"]), "203.0.113.9 (the connection's peer)");
    }

    #[test]
    fn what_cannot_be_told_is_said_and_not_guessed() {
        assert_eq!(
            derive("192.0.2.1", &[]),
            "unknown: the trusted proxy 192.0.2.1 sent no x-forwarded-for"
        );
        let unreadable = "unknown: entry 1 from the right of x-forwarded-for is no address";
        assert_eq!(derive("192.0.2.1", &["203.0.113.9, unknown"]), unreadable);
        assert_eq!(
            derive("192.0.2.1", &["192.0.2.3"]),
            "unknown: every entry of x-forwarded-for is a trusted proxy"
        );
        assert!(derive("10.1.2.3", &[]).contains("infrastructure"));
    }
}
