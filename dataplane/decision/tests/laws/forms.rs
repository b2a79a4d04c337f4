//! Canonical forms: paths, hosts and networks have one spelling each.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use decision::{
    address::{NetworkSet, parse_network},
    host::{Host, HostPattern},
    path::{canonical, is_within, segments},
};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use proptest::{collection::vec, prelude::*};

/// Paths made of the pieces that attacks are made of.
fn path() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "/", "//", "a", "B", ".", "..", "%2e", "%2E", "%2f", "%5c", "\\", ";", "..;", ";x=1",
        "%25", "%252e", "%32%65", "%41", "%c3%a9", "%00", "%ff", "%", "%zz", "~", "+1", "%20", "é",
        " ",
    ]);
    vec(piece, 0..12).prop_map(|pieces| format!("/{}", pieces.concat()))
}

/// Networks that are likely to hold each other.
fn network() -> impl Strategy<Value = IpNet> {
    let bits = |bits: u32| bits & 0x0303_0303;
    prop_oneof![
        (any::<u32>(), 0..=32u8).prop_map(move |(address, length)| {
            let net = Ipv4Net::new(Ipv4Addr::from(bits(address)), length).unwrap();
            IpNet::V4(net.trunc())
        }),
        (any::<u32>(), 0..=128u8).prop_map(move |(address, length)| {
            let address = Ipv6Addr::from((0x2001_0db8 << 96) | u128::from(bits(address)));
            IpNet::V6(Ipv6Net::new(address, length).unwrap().trunc())
        }),
    ]
}

fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<u32>().prop_map(|bits| IpAddr::V4(Ipv4Addr::from(bits & 0x0303_0303))),
        any::<u32>().prop_map(|bits| {
            IpAddr::V6(Ipv6Addr::from((0x2001_0db8 << 96) | u128::from(bits & 0x0303_0303)))
        }),
    ]
}

fn by_scanning(networks: &[IpNet], address: IpAddr) -> Option<usize> {
    let holding = networks.iter().enumerate().filter(|(_, network)| network.contains(&address));
    holding.min_by_key(|(at, net)| (u8::MAX - net.prefix_len(), *at)).map(|(at, _)| at)
}

proptest! {
    #[test]
    fn the_canonical_form_of_a_canonical_path_is_itself(text in path()) {
        if let Ok(path) = canonical(&text) {
            let again = canonical(&path).map(String::from);
            prop_assert_eq!(again.as_deref(), Ok(&*path), "{}", text);
        }
    }

    #[test]
    fn a_canonical_path_has_no_dot_segments_and_no_empty_ones(text in path()) {
        if let Ok(path) = canonical(&text) {
            prop_assert!(path.starts_with('/') && !path.contains("//"), "{}", path);
            prop_assert!(path.bytes().all(|byte| matches!(byte, 0x21..=0x7e) && byte != b'\\'));
            let dots = |segment| matches!(segment, "." | ".." | "");
            prop_assert!(!segments(&path).any(dots), "{} of {}", path, text);
        }
    }

    #[test]
    fn nothing_that_decodes_to_structure_is_left_in_a_canonical_path(text in path()) {
        if let Ok(path) = canonical(&text) {
            let path = path.to_ascii_lowercase();
            for escape in ["%2f", "%5c", "%2e", "%00", "%252e", "%252f", "%255c"] {
                prop_assert!(!path.contains(escape), "{} of {}", path, text);
            }
        }
    }

    #[test]
    fn a_path_lies_within_each_of_its_parents(text in path()) {
        if let Ok(path) = canonical(&text) {
            for (at, _) in path.match_indices('/') {
                let parent = path.split_at(at + 1).0;
                prop_assert!(is_within(&path, parent), "{} in {}", path, parent);
            }
        }
    }

    #[test]
    fn any_text_is_read_as_a_path_or_refused(text in any::<String>()) {
        if let Ok(path) = canonical(&text) {
            prop_assert!(path.is_ascii());
        }
    }

    #[test]
    fn a_printed_host_is_read_as_itself(text in "[A-Za-z0-9_.:\\[\\]-]{0,40}") {
        if let Ok(host) = Host::parse(&text) {
            prop_assert_eq!(Host::parse(host.as_str()), Ok(host.clone()));
            prop_assert_eq!(Host::parse_authority(&host.to_string()), Ok(host.clone()));
            prop_assert!(!host.as_str().ends_with('.'));
            prop_assert_eq!(host.as_str().to_ascii_lowercase(), host.as_str());
        }
    }

    #[test]
    fn a_printed_pattern_is_read_as_itself(text in "(\\*\\.)?[a-z0-9.-]{1,20}") {
        if let Ok(pattern) = HostPattern::parse(&text) {
            prop_assert_eq!(HostPattern::parse(&pattern.to_string()), Ok(pattern));
        }
    }

    #[test]
    fn a_printed_network_is_read_as_itself(network in network()) {
        prop_assert_eq!(parse_network(&network.to_string()), Ok(network));
    }

    #[test]
    fn a_set_of_networks_finds_what_a_scan_finds(
        networks in vec(network(), 0..40), addresses in vec(address(), 20),
    ) {
        let set = NetworkSet::new(networks.clone());
        for address in addresses {
            prop_assert_eq!(set.find(address), by_scanning(&networks, address), "{}", address);
        }
    }

    #[test]
    fn the_ends_of_every_network_are_found_as_a_scan_finds_them(
        networks in vec(network(), 1..20),
    ) {
        let set = NetworkSet::new(networks.clone());
        for network in &networks {
            for address in [network.network(), network.broadcast()] {
                prop_assert_eq!(set.find(address), by_scanning(&networks, address), "{}", address);
            }
        }
    }
}
