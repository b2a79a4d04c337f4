//! Which endpoint a client gets again and again.

use std::{
    fmt::Write,
    hash::{DefaultHasher, Hash, Hasher},
    net::IpAddr,
};

use decision::{
    canonical::{CanonicalRequest, Scheme},
    client::ClientAddress,
    endpoint::EndpointAddress,
    options::Affinity as Wish,
    route::ServicePort,
};
use http::{HeaderMap, HeaderValue, header};

/// What the name of our cookie begins with. The rest is different for each port of a Service, so
/// that two of one host do not take each other's.
const COOKIE: &str = "whygate-affinity-";

/// The wish of a request to get an endpoint that it, or its like, had before.
#[derive(Clone, Debug)]
pub(crate) struct Affinity {
    service: u64,
    key: Key,
    encrypted: bool,
}

#[derive(Clone, Debug)]
enum Key {
    /// What the client's cookie says, if it sent ours.
    Cookie(Option<u64>),
    /// What requests that belong together have in common.
    Common(u64),
}

impl Affinity {
    /// None if there is nothing to tell the client by: then any endpoint will do.
    pub(crate) fn of(
        wish: &Wish,
        service: &ServicePort,
        request: &CanonicalRequest,
    ) -> Option<Self> {
        let line = request.line();
        let service = hash(service);
        let key = match wish {
            Wish::Cookie => Key::Cookie(cookie_of(request.headers(), &name(service))),
            Wish::Address => match &line.client {
                ClientAddress::Known(address, _) => Key::Common(hash(&network(*address))),
                ClientAddress::Infrastructure(_) | ClientAddress::Unknown(..) => return None,
            },
            Wish::Header(name) => Key::Common(hash(request.headers().get(name)?.as_bytes())),
        };
        let encrypted = line.connection.scheme == Scheme::Https;
        Some(Self { service, key, encrypted })
    }

    /// The endpoint of several. Whoever of the others comes or goes does not change it.
    pub(super) fn pick(&self, addresses: &[EndpointAddress]) -> Option<EndpointAddress> {
        let mut addresses = addresses.iter().copied();
        match self.key {
            Key::Cookie(told) => {
                let told = told?;
                addresses.find(|address| self.mark(*address) == told)
            }
            // The highest of random numbers that the key and each endpoint make together.
            Key::Common(key) => addresses.max_by_key(|address| hash(&(self.service, key, address))),
        }
    }

    /// What the client has to be told so that it gets this endpoint again, if it does not know.
    pub(crate) fn cookie(&self, address: EndpointAddress) -> Option<HeaderValue> {
        let Key::Cookie(told) = self.key else { return None };
        let mark = self.mark(address);
        if told == Some(mark) {
            return None;
        }
        let name = name(self.service);
        let mut cookie = format!("{name}={mark:016x}; Path=/; HttpOnly; SameSite=Lax");
        if self.encrypted {
            cookie.push_str("; Secure");
        }
        HeaderValue::try_from(cookie).ok()
    }

    /// What stands for an endpoint in a cookie: not its address, though who knows the Service's name can
    /// try addresses until one fits. All replicas have to understand it, and they share no secret.
    fn mark(&self, address: EndpointAddress) -> u64 {
        hash(&("endpoint", self.service, address))
    }
}

/// The addresses that one client mostly has: one of IPv4, a /64 of IPv6.
fn network(address: IpAddr) -> u64 {
    match address {
        IpAddr::V4(address) => u64::from(address.to_bits()),
        IpAddr::V6(address) => u64::try_from(address.to_bits() >> 64).unwrap_or(0),
    }
}

fn name(service: u64) -> String {
    let mut name = COOKIE.to_owned();
    // Writing to a String cannot fail.
    let _ = write!(name, "{:08x}", service >> 32);
    name
}

fn cookie_of(headers: &HeaderMap, name: &str) -> Option<u64> {
    let values = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes);
    let mut crumbs = values.flat_map(|value| value.split(|byte| *byte == b';'));
    crumbs.find_map(|crumb| {
        let value = crumb.trim_ascii().strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
        let value = std::str::from_utf8(value).ok().filter(|value| value.len() == 16)?;
        u64::from_str_radix(value, 16).ok()
    })
}

/// The same in every thread and replica.
fn hash(value: &(impl Hash + ?Sized)) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    fn addresses(count: u8) -> Vec<EndpointAddress> {
        (0..count)
            .map(|last| EndpointAddress::of_slice(SocketAddr::from(([10, 0, 0, last], 80))))
            .collect()
    }

    fn common(key: u64) -> Affinity {
        Affinity { service: 1, key: Key::Common(key), encrypted: false }
    }

    #[test]
    fn who_comes_or_goes_moves_only_what_is_theirs() {
        let (ten, nine) = (addresses(10), addresses(9));
        let mut counts = [0_u32; 10];
        for key in 0..10_000 {
            let (before, after) =
                (common(key).pick(&ten).unwrap(), common(key).pick(&nine).unwrap());
            assert!(before == after || before == ten[9], "{before} became {after}");
            let place = ten.iter().position(|address| *address == before).unwrap();
            counts[place] += 1;
        }
        assert!(counts.iter().all(|count| (800..1_200).contains(count)), "{counts:?}");
    }

    #[test]
    fn a_cookie_leads_back_to_its_endpoint_and_a_foreign_one_nowhere() {
        let endpoints = addresses(3);
        let told = |told| Affinity { service: 1, key: Key::Cookie(told), encrypted: true };
        let cookie = told(None).cookie(endpoints[1]).unwrap();
        let cookie = cookie.to_str().unwrap().to_owned();
        assert!(cookie.ends_with("; Path=/; HttpOnly; SameSite=Lax; Secure"), "{cookie}");
        let pair = cookie.split("; ").next().unwrap();
        let headers = HeaderMap::from_iter([(
            header::COOKIE,
            HeaderValue::try_from(format!("a=1;{pair}; b=2")).unwrap(),
        )]);
        let read = cookie_of(&headers, &name(1));
        assert_eq!(told(read).pick(&endpoints), Some(endpoints[1]));
        assert!(told(read).cookie(endpoints[1]).is_none(), "it knows already");
        assert_eq!(told(read).pick(&endpoints[..1]), None);
        assert_eq!(cookie_of(&headers, &name(u64::MAX)), None);
        assert!(!cookie.contains("10.0.0"), "{cookie}");
    }
}
