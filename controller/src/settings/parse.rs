//! Values of flags, each with a sentence for what is wrong and what would be right.

use std::{
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

use decision::{address::parse_network, host::HostPattern};

use super::{ClientAddressFlag, Listener, Name, Networks, Owner};

/// `ADDRESS:PORT`, `:PORT` or `off`.
pub(super) fn listener(text: &str) -> Result<Listener, String> {
    if text == "off" {
        return Ok(Listener::Off);
    }
    if let Some(port) = text.strip_prefix(':').and_then(|port| port.parse().ok()) {
        return Ok(Listener::At(SocketAddr::new(IpAddr::from([0_u16; 8]), port)));
    }
    text.parse().map(Listener::At).map_err(|_| {
        "not an address with a port; write it like `127.0.0.1:8080` or `[::]:8080`, or `off`"
            .to_owned()
    })
}

/// A number from 1, of a type that has no other.
pub(super) fn from_one<N: FromStr>(text: &str) -> Result<N, String> {
    text.parse().map_err(|_| "write a whole number from 1".to_owned())
}

/// `CIDR,CIDR` or `none`.
pub(super) fn networks(text: &str) -> Result<Networks, String> {
    if text == "none" {
        return Ok(Networks(Vec::new()));
    }
    let networks = text.split(',').map(str::trim).map(|network| {
        parse_network(network).map_err(|problem| format!("`{network}` is not a network: {problem}"))
    });
    networks.collect::<Result<_, _>>().map(Networks)
}

/// `peer`, or `proxy-protocol` and `header:NAME` in this order, or one of them.
pub(super) fn client_address(text: &str) -> Result<ClientAddressFlag, String> {
    if text == "peer" {
        return Ok(ClientAddressFlag { proxy_protocol: false, header: None });
    }
    let (proxy_protocol, rest) = match text.strip_prefix("proxy-protocol") {
        Some("") => return Ok(ClientAddressFlag { proxy_protocol: true, header: None }),
        Some(rest) => (true, rest.strip_prefix(',').unwrap_or_default()),
        None => (false, text),
    };
    let name = rest.strip_prefix("header:").and_then(|name| name.parse().ok());
    let flag = name.map(|name| ClientAddressFlag { proxy_protocol, header: Some(name) });
    flag.ok_or_else(|| {
        "write `peer`, `proxy-protocol`, `header:NAME` as in `header:x-forwarded-for`, or `proxy-protocol,header:NAME`"
            .to_owned()
    })
}

/// `PATTERN=NAMESPACE`.
pub(super) fn owner(text: &str) -> Result<Owner, String> {
    let problem = || "write it like `*.example.com=shop`".to_owned();
    let (pattern, namespace) = text.split_once('=').ok_or_else(problem)?;
    let pattern = HostPattern::parse(pattern.trim()).map_err(|_| problem())?;
    Some(namespace.trim())
        .filter(|namespace| !namespace.is_empty())
        .map(|namespace| Owner { pattern, namespace: namespace.to_owned() })
        .ok_or_else(problem)
}

/// `NAMESPACE/NAME`.
pub(crate) fn name(text: &str) -> Result<Name, String> {
    let parts = text.split_once('/').filter(|(namespace, name)| {
        !namespace.is_empty() && !name.is_empty() && !name.contains('/')
    });
    let (namespace, name) = parts.ok_or("write it as NAMESPACE/NAME, like `shop/certificate`")?;
    Ok(Name { namespace: namespace.to_owned(), name: name.to_owned() })
}

/// A filter of the log.
pub(super) fn filter(text: &str) -> Result<String, String> {
    tracing_subscriber::EnvFilter::try_new(text)
        .map(|_| text.to_owned())
        .map_err(|error| format!("{error}; write it like `info` or `access=off,info`"))
}
