//! Who the client is: one constructor for client addresses, canonical from birth.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderName};

use crate::address::{NetworkSet, canonical};

/// How a listener tells client addresses. A property of the installation, never of a policy.
#[derive(Clone, Debug, Default)]
pub struct AddressSource {
    /// The header in which trusted proxies pass the client's address on, if one is used.
    /// Several lines and comma-separated lists are one list; it is read from the right.
    pub header: Option<HeaderName>,
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
    /// Tells the client's address from the connection's peer and the request's headers.
    pub fn derive(peer: SocketAddr, headers: &HeaderMap, source: &AddressSource) -> Self {
        let peer = canonical(peer.ip());
        match &source.header {
            Some(header) if source.trusted_proxies.contains(peer) => {
                from_header(peer, headers, header, source)
            }
            _ if source.infrastructure.contains(peer) => Self::Infrastructure(peer),
            _ => Self::Known(peer, Derivation::Peer),
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
        }
    }

    fn derive(peer: &str, lines: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append("x-forwarded-for", line.parse().unwrap());
        }
        ClientAddress::derive(SocketAddr::new(peer.parse().unwrap(), 1), &headers, &source())
            .to_string()
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
