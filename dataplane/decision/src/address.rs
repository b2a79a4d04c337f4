//! Addresses and sets of networks. A look-up among 10,000 networks costs a binary search.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv6Net};

/// The canonical form of an address: an IPv4 address mapped into IPv6 is that IPv4 address.
pub fn canonical(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

/// Why a text is not a network that a policy may name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetworkProblem {
    /// No CIDR at all.
    NotANetwork,
    /// The prefix length is above the address family's.
    PrefixTooLong {
        /// 32 or 128.
        limit: u8,
    },
    /// Bits are set behind the prefix; the network that was probably meant.
    HostBits {
        /// The same network with these bits cleared.
        meant: IpNet,
    },
    /// An IPv4 network spelled as IPv6 (`::ffff:10.0.0.0/104`).
    MappedIpv4,
}

impl std::fmt::Display for NetworkProblem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotANetwork => {
                f.write_str("it is not written as ADDRESS/LENGTH, for example 192.0.2.0/24")
            }
            Self::PrefixTooLong { limit } => write!(f, "its prefix length is above {limit}"),
            Self::HostBits { meant } => {
                write!(f, "it has bits set behind its prefix; write {meant}")
            }
            Self::MappedIpv4 => {
                f.write_str("it is an IPv4 network written as IPv6; write it as IPv4")
            }
        }
    }
}

/// Reads one network, strictly: `10.0.0.1/8` is an error, because it is unclear what was meant.
///
/// # Errors
/// What is wrong with the text.
pub fn parse_network(text: &str) -> Result<IpNet, NetworkProblem> {
    let network: IpNet = text.parse().map_err(|_| not_a_network(text))?;
    let mapped = |net: &Ipv6Net| net.addr().to_ipv4_mapped().is_some() && net.prefix_len() >= 96;
    if matches!(&network, IpNet::V6(net) if mapped(net)) {
        return Err(NetworkProblem::MappedIpv4);
    }
    if network.trunc() != network {
        return Err(NetworkProblem::HostBits { meant: network.trunc() });
    }
    Ok(network)
}

fn not_a_network(text: &str) -> NetworkProblem {
    let Some((address, length)) = text.split_once('/') else { return NetworkProblem::NotANetwork };
    let digits = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
    match address.parse::<IpAddr>() {
        Ok(IpAddr::V4(_)) if digits => NetworkProblem::PrefixTooLong { limit: 32 },
        Ok(IpAddr::V6(_)) if digits => NetworkProblem::PrefixTooLong { limit: 128 },
        Ok(_) | Err(_) => NetworkProblem::NotANetwork,
    }
}

/// A set of networks, held as sorted intervals that do not overlap.
///
/// Empty by default, which holds no address. Among 10,000 networks a look-up takes 14 steps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkSet {
    networks: Box<[IpNet]>,
    v4: Box<[Interval]>,
    v6: Box<[Interval]>,
}

/// Addresses `first..=last`, and the position of the most specific network that holds them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Interval {
    first: u128,
    last: u128,
    network: usize,
}

impl NetworkSet {
    /// Builds the set; the order of `networks` is kept for [`NetworkSet::networks`].
    pub fn new(networks: Vec<IpNet>) -> Self {
        let (v4, v6) = networks
            .iter()
            .enumerate()
            .map(|(index, network)| interval(*network, index))
            .partition(|interval| {
                networks.get(interval.network).is_some_and(|net| net.addr().is_ipv4())
            });
        Self { v4: flatten(v4), v6: flatten(v6), networks: networks.into() }
    }

    /// The position, in the order given, of the most specific network that holds `address`.
    pub fn find(&self, address: IpAddr) -> Option<usize> {
        let (intervals, number) = self.family(address);
        let (before, _) = neighbours(intervals, number);
        before.filter(|interval| number <= interval.last).map(|interval| interval.network)
    }

    /// Whether some network holds `address`.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.find(address).is_some()
    }

    /// The networks in the order given.
    pub fn networks(&self) -> &[IpNet] {
        &self.networks
    }

    /// The network of the same family that lies closest to `address`: what a reader who mistyped
    /// one octet is looking for. None in an empty family.
    pub fn nearest(&self, address: IpAddr) -> Option<IpNet> {
        let (intervals, number) = self.family(address);
        let (before, after) = neighbours(intervals, number);
        let below = before.map(|interval| (number.saturating_sub(interval.last), interval.network));
        let above = after.map(|interval| (interval.first.saturating_sub(number), interval.network));
        let (_, network) = below.into_iter().chain(above).min()?;
        self.networks.get(network).copied()
    }

    fn family(&self, address: IpAddr) -> (&[Interval], u128) {
        match canonical(address) {
            IpAddr::V4(address) => (&self.v4, u128::from(u32::from(address))),
            IpAddr::V6(address) => (&self.v6, u128::from(address)),
        }
    }
}

impl FromIterator<IpNet> for NetworkSet {
    fn from_iter<T: IntoIterator<Item = IpNet>>(networks: T) -> Self {
        Self::new(networks.into_iter().collect())
    }
}

fn interval(network: IpNet, index: usize) -> Interval {
    let number = |address: IpAddr| match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    };
    Interval { first: number(network.network()), last: number(network.broadcast()), network: index }
}

/// Turns nested networks into intervals side by side, the most specific network winning.
///
/// Networks are either disjoint or nested, so one pass with a stack of the open ones is enough.
fn flatten(mut networks: Vec<Interval>) -> Box<[Interval]> {
    networks.sort_by_key(|net| (net.first, std::cmp::Reverse(net.last), net.network));
    networks.dedup_by_key(|net| (net.first, net.last));
    let mut flat = Vec::with_capacity(networks.len());
    let mut open: Vec<Interval> = Vec::new();
    for network in networks {
        while let Some(closed) = open.pop_if(|outer| outer.last < network.first) {
            flat.push(closed);
        }
        if let Some(mut outer) = open.pop() {
            if outer.first < network.first {
                flat.push(Interval { last: network.first.wrapping_sub(1), ..outer });
            }
            if network.last < outer.last {
                outer.first = network.last.wrapping_add(1);
                open.push(outer);
            }
        }
        open.push(network);
    }
    flat.extend(open.into_iter().rev());
    flat.into()
}

/// The interval that begins at or before `number`, and the one after it.
fn neighbours(intervals: &[Interval], number: u128) -> (Option<&Interval>, Option<&Interval>) {
    let after = intervals.partition_point(|interval| interval.first <= number);
    (after.checked_sub(1).and_then(|before| intervals.get(before)), intervals.get(after))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(networks: &[&str]) -> NetworkSet {
        networks.iter().map(|text| parse_network(text).unwrap()).collect()
    }

    #[test]
    fn the_most_specific_network_is_found() {
        let set = set(&[
            "10.0.0.0/8",
            "10.1.0.0/16",
            "10.1.2.0/24",
            "10.255.255.255/32",
            "2001:db8::/32",
        ]);
        let find = |address: &str| set.find(address.parse().unwrap());
        assert_eq!(find("10.0.0.1"), Some(0));
        assert_eq!(find("10.1.0.1"), Some(1));
        assert_eq!(find("10.1.2.255"), Some(2));
        assert_eq!(find("10.1.3.0"), Some(1));
        assert_eq!(find("10.2.0.0"), Some(0));
        assert_eq!(find("10.255.255.255"), Some(3));
        assert_eq!(find("11.0.0.0"), None);
        assert_eq!(find("::ffff:10.1.2.3"), Some(2));
        assert_eq!(find("2001:db8:1::"), Some(4));
    }

    #[test]
    fn ten_thousand_networks_cost_fifteen_steps() {
        let network = |number: u32| {
            let length = [16, 20, 24, 28][usize::try_from(number % 4).unwrap()];
            let address = std::net::Ipv4Addr::from(number.wrapping_mul(0x9e37_79b9));
            IpNet::new(address.into(), length).unwrap().trunc()
        };
        let set = NetworkSet::new((0..10_000).map(network).collect());
        assert_eq!(set.networks().len(), 10_000);
        // A look-up is one binary search in one list, whose length is bounded: two intervals at most
        // for each network, so at most 15 steps; and no interval reaches into the next one.
        assert!(set.v4.len() < 1 << 15, "{} intervals", set.v4.len());
        assert!(set.v4.is_sorted_by(|one, two| one.last < two.first));
        assert!(set.v4.iter().all(|interval| interval.first <= interval.last));
    }

    #[test]
    fn all_of_one_family_is_not_all_of_the_other() {
        let set = set(&["::/0"]);
        assert!(!set.contains("192.0.2.1".parse().unwrap()));
        assert!(set.contains("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff".parse().unwrap()));
    }

    #[test]
    fn the_network_one_octet_away_is_the_nearest() {
        let set = set(&["192.0.2.0/24", "198.51.100.0/24"]);
        assert_eq!(
            set.nearest("198.51.101.7".parse().unwrap()),
            parse_network("198.51.100.0/24").ok()
        );
        assert_eq!(set.nearest("::1".parse().unwrap()), None);
    }

    #[test]
    fn a_network_that_leaves_doubt_is_refused_with_what_was_meant() {
        let problem = |text| parse_network(text).unwrap_err().to_string();
        assert_eq!(problem("10.0.0.1/8"), "it has bits set behind its prefix; write 10.0.0.0/8");
        assert_eq!(problem("10.0.0.0/33"), "its prefix length is above 32");
        assert_eq!(
            problem("::ffff:10.0.0.0/104"),
            "it is an IPv4 network written as IPv6; write it as IPv4"
        );
        assert_eq!(
            problem("office"),
            "it is not written as ADDRESS/LENGTH, for example 192.0.2.0/24"
        );
    }
}
