//! Where names of the DNS may lead, and who is asked for them.

use std::net::{IpAddr, SocketAddr};

use clap::Args;

use super::{Networks, parse::networks};

/// Flags of Services of type `ExternalName`.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "External names")]
pub struct NameFlags {
    /// Private networks, or parts of --infrastructure-cidrs, in which external names may be,
    /// separated by commas. Default: none
    #[arg(long, value_name = "CIDR,…", env = "WHYGATE_EXTERNAL_NAME_CIDRS", value_parser = networks)]
    pub external_name_cidrs: Option<Networks>,

    /// A DNS server to ask for external names: `ADDRESS:PORT`. Repeatable. Default: those of
    /// `/etc/resolv.conf`
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "WHYGATE_DNS_SERVER",
        value_delimiter = ',',
        value_parser = server
    )]
    pub dns_server: Vec<SocketAddr>,
}

fn server(text: &str) -> Result<SocketAddr, String> {
    /// RFC 1035 section 4.2.
    const DNS: u16 = 53;
    let address = text.parse::<IpAddr>().map(|address| SocketAddr::new(address, DNS));
    address.or_else(|_| text.parse()).map_err(|_| {
        "not an address; write it like `192.0.2.53`, `192.0.2.53:53` or `[2001:db8::53]:53`"
            .to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_needs_no_port() {
        let read = |text| server(text).map(|address| address.to_string());
        assert_eq!(read("192.0.2.53"), Ok("192.0.2.53:53".to_owned()));
        assert_eq!(read("2001:db8::53"), Ok("[2001:db8::53]:53".to_owned()));
        assert_eq!(read("127.0.0.1:5353"), Ok("127.0.0.1:5353".to_owned()));
        assert!(read("dns.example").is_err());
    }
}
