//! Addresses that may be connected to: nothing else gets as far as a socket.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use crate::address::{NetworkSet, canonical};

/// An address and port that may be connected to.
///
/// There are two ways to one: an `EndpointSlice`, in which the API server admits neither loopback nor
/// link-local addresses, or [`ExternalReach::admit`]. Prints as `192.0.2.7:80`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EndpointAddress(SocketAddr);

impl EndpointAddress {
    /// The address of an `EndpointSlice`.
    pub fn of_slice(address: SocketAddr) -> Self {
        Self(address)
    }

    /// What a socket connects to.
    pub fn socket(self) -> SocketAddr {
        self.0
    }
}

impl fmt::Display for EndpointAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for EndpointAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// Where names of the DNS may lead. Whoever may write a Service, or a record that it names, chooses
/// the address, and the gateway stands where neither could connect to it by themselves.
///
/// By default to public addresses alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExternalReach {
    /// Private networks that are opened, and those of [`ExternalReach::own`] that are.
    pub opened: NetworkSet,
    /// Networks of nodes, pods and Services, whatever addresses they have.
    pub own: NetworkSet,
    /// Single addresses that stay closed, as that of the API server.
    pub closed: Vec<IpAddr>,
    /// Whether loopback is open, as on the machine of somebody who tries manifests. Default false.
    pub loopback: bool,
}

/// An address that a name must not lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forbidden {
    /// The address.
    pub address: IpAddr,
    /// What is there: a noun with its article.
    pub what: &'static str,
    /// Whether [`ExternalReach::opened`] could open it.
    pub can_be_opened: bool,
}

impl ExternalReach {
    /// The way to an address of a name.
    ///
    /// # Errors
    /// If no name may lead there.
    pub fn admit(&self, address: IpAddr, port: u16) -> Result<EndpointAddress, Forbidden> {
        let address = canonical(address);
        let opened = || self.opened.contains(address);
        let forbidden = match class(address) {
            Class::Closed(what) => Some((what, false)),
            Class::Loopback if !self.loopback => Some(("a loopback address", false)),
            Class::Loopback | Class::Private | Class::Public if self.closed.contains(&address) => {
                Some(("the address of the API server", false))
            }
            Class::Private if !opened() => Some(("a private address", true)),
            Class::Public if self.own.contains(address) && !opened() => {
                Some(("an address of the cluster itself", true))
            }
            Class::Loopback | Class::Private | Class::Public => None,
        };
        match forbidden {
            Some((what, can_be_opened)) => Err(Forbidden { address, what, can_be_opened }),
            None => Ok(EndpointAddress(SocketAddr::new(address, port))),
        }
    }
}

/// What an address is to others than its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Public,
    Private,
    Loopback,
    Closed(&'static str),
}

const METADATA: Class = Class::Closed("the address of a cloud's metadata");
const LINK_LOCAL: Class = Class::Closed("a link-local address");
const MULTICAST: Class = Class::Closed("a multicast address");
const UNSPECIFIED: Class = Class::Closed("an unspecified address");
const RESERVED: Class = Class::Closed("a reserved address");

fn class(address: IpAddr) -> Class {
    match address {
        IpAddr::V4(address) => class_of_v4(address),
        IpAddr::V6(address) => class_of_v6(address),
    }
}

/// The registry of special addresses (RFC 6890), and what clouds put elsewhere.
fn class_of_v4(address: Ipv4Addr) -> Class {
    match address.octets() {
        // Azure and Alibaba Cloud; the others have it link-local.
        [168, 63, 129, 16] | [100, 100, 100, 200] => METADATA,
        // "This network" (RFC 791): the same as loopback to Linux.
        [0, ..] => UNSPECIFIED,
        [127, ..] => Class::Loopback,
        [169, 254, ..] => LINK_LOCAL,
        [224..=239, ..] => MULTICAST,
        [240..=255, ..] | [192, 0, 0, _] => RESERVED,
        // RFC 1918, 6598 and 2544.
        [10, ..]
        | [172, 16..=31, ..]
        | [192, 168, ..]
        | [100, 64..=127, ..]
        | [198, 18..=19, ..] => Class::Private,
        _ => Class::Public,
    }
}

fn class_of_v6(address: Ipv6Addr) -> Class {
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => UNSPECIFIED,
        [0, 0, 0, 0, 0, 0, 0, 1] => Class::Loopback,
        // AWS and Google Cloud.
        [0xfd00, 0x0ec2, ..] | [0xfd20, 0x00ce, ..] => METADATA,
        [0xfe80..=0xfebf, ..] => LINK_LOCAL,
        [0xff00..=0xffff, ..] => MULTICAST,
        // RFC 4193.
        [0xfc00..=0xfdff, ..] => Class::Private,
        // A translator reaches the IPv4 address in it (RFC 6052 section 2.1, RFC 3056 section 2).
        [0x0064, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => {
            let hidden = class_of_v4(joined(high, low));
            if hidden == Class::Loopback { RESERVED } else { hidden }
        }
        // Teredo, and what else is for protocols (RFC 2928).
        [0x2001, 0x0000..=0x01ff, ..] => RESERVED,
        [0x2000..=0x3fff, ..] => Class::Public,
        _ => RESERVED,
    }
}

fn joined(high: u16, low: u16) -> Ipv4Addr {
    Ipv4Addr::from((u32::from(high) << 16) | u32::from(low))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::parse_network;

    fn networks(texts: &[&str]) -> NetworkSet {
        NetworkSet::new(texts.iter().map(|text| parse_network(text).unwrap()).collect())
    }

    fn judged(reach: &ExternalReach, address: &str) -> Result<String, &'static str> {
        let admitted = reach.admit(address.parse().unwrap(), 80);
        admitted.map(|way| way.to_string()).map_err(|forbidden| forbidden.what)
    }

    #[test]
    fn a_name_leads_to_public_addresses_and_no_others() {
        let reach = ExternalReach::default();
        for (address, expected) in [
            ("93.184.215.14", Ok("93.184.215.14:80")),
            ("::ffff:93.184.215.14", Ok("93.184.215.14:80")),
            ("2606:2800:21f::1", Ok("[2606:2800:21f::1]:80")),
            ("64:ff9b::5db8:d70e", Ok("[64:ff9b::5db8:d70e]:80")),
            ("127.0.0.1", Err("a loopback address")),
            ("127.255.0.1", Err("a loopback address")),
            ("::1", Err("a loopback address")),
            ("::ffff:127.0.0.1", Err("a loopback address")),
            ("0.0.0.0", Err("an unspecified address")),
            ("0.1.2.3", Err("an unspecified address")),
            ("::", Err("an unspecified address")),
            ("169.254.169.254", Err("a link-local address")),
            ("::ffff:169.254.169.254", Err("a link-local address")),
            ("64:ff9b::a9fe:a9fe", Err("a link-local address")),
            ("2002:a9fe:a9fe::1", Err("a link-local address")),
            ("64:ff9b::7f00:1", Err("a reserved address")),
            ("fe80::1", Err("a link-local address")),
            ("febf::1", Err("a link-local address")),
            ("fec0::1", Err("a reserved address")),
            ("fd00:ec2::254", Err("the address of a cloud's metadata")),
            ("168.63.129.16", Err("the address of a cloud's metadata")),
            ("100.100.100.200", Err("the address of a cloud's metadata")),
            ("224.0.0.1", Err("a multicast address")),
            ("ff02::1", Err("a multicast address")),
            ("255.255.255.255", Err("a reserved address")),
            ("240.0.0.1", Err("a reserved address")),
            ("::10.0.0.1", Err("a reserved address")),
            ("2001::1", Err("a reserved address")),
            ("10.96.0.1", Err("a private address")),
            ("172.31.255.255", Err("a private address")),
            ("192.168.1.1", Err("a private address")),
            ("100.64.0.1", Err("a private address")),
            ("fd12::1", Err("a private address")),
        ] {
            let expected = expected.map(str::to_owned);
            assert_eq!(judged(&reach, address), expected, "{address}");
        }
    }

    #[test]
    fn only_private_networks_can_be_opened_and_the_clusters_own_closed() {
        let reach = ExternalReach {
            opened: networks(&["10.20.0.0/16", "169.254.0.0/16", "127.0.0.0/8", "34.1.1.0/24"]),
            own: networks(&["34.1.0.0/16"]),
            closed: vec!["10.20.0.1".parse().unwrap()],
            loopback: false,
        };
        for (address, expected) in [
            ("10.20.3.4", Ok("10.20.3.4:80")),
            ("::ffff:10.20.3.4", Ok("10.20.3.4:80")),
            ("34.1.1.1", Ok("34.1.1.1:80")),
            ("34.1.2.1", Err("an address of the cluster itself")),
            ("10.21.0.1", Err("a private address")),
            ("10.20.0.1", Err("the address of the API server")),
            ("169.254.169.254", Err("a link-local address")),
            ("127.0.0.1", Err("a loopback address")),
        ] {
            let expected = expected.map(str::to_owned);
            assert_eq!(judged(&reach, address), expected, "{address}");
        }
        let tried = ExternalReach { loopback: true, ..ExternalReach::default() };
        assert_eq!(judged(&tried, "127.0.0.1"), Ok("127.0.0.1:80".to_owned()));
        assert_eq!(judged(&tried, "169.254.169.254"), Err("a link-local address"));
    }
}
