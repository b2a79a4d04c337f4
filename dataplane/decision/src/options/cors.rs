//! Which pages of other origins may call a route from a browser (WHATWG Fetch, section 3.2).
//!
//! That is a promise to browsers and no protection of the route: whoever is no browser may say what
//! origin it likes. So nothing but a preflight is ever refused for its origin.

use http::{HeaderMap, HeaderValue, Method, header};

use crate::{host::HostPattern, refs::FieldRef};

/// What browsers are told of a route.
#[derive(Debug)]
pub struct Cors {
    /// The annotation that lists the origins.
    pub field: FieldRef,
    /// Whose pages may call.
    pub origins: Origins,
    /// The value of `Access-Control-Allow-Methods`.
    pub methods: HeaderValue,
    /// The value of `Access-Control-Allow-Headers`. `None`: only those that need no leave.
    pub headers: Option<HeaderValue>,
    /// The value of `Access-Control-Expose-Headers`.
    pub expose: HeaderValue,
    /// Whether cookies and the like may be sent along; never beside [`Origins::Any`].
    pub credentials: bool,
    /// The value of `Access-Control-Max-Age`, in seconds. `None` leaves it to the browser (5 s).
    pub max_age: Option<HeaderValue>,
}

/// Whose pages may call a route.
#[derive(Debug)]
pub enum Origins {
    /// Everybody's: `*`.
    Any,
    /// Those of the list.
    Listed(Box<[Origin]>),
}

/// An origin, or all origins one label below a host: `https://*.example.com`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    https: bool,
    host: HostPattern,
    port: Option<u16>,
}

impl Origin {
    /// Reads an origin as browsers write it (RFC 6454 section 6.2): lower case, without the default
    /// port, a path or a trailing dot. `None` for everything else, `null` among it.
    pub fn parse(text: &str) -> Option<Self> {
        let (https, authority) = match text.strip_prefix("https://") {
            Some(authority) => (true, authority),
            None => (false, text.strip_prefix("http://")?),
        };
        let (host, port) = split_port(authority)?;
        let default = if https { 443 } else { 80 };
        if port == Some(default) {
            return None;
        }
        let host = HostPattern::parse(host).ok().filter(|pattern| pattern.to_string() == host)?;
        (host != HostPattern::Any).then_some(Self { https, host, port })
    }

    /// Whether it stands for `other`, which is no pattern.
    fn holds(&self, other: &Self) -> bool {
        let host = match &other.host {
            HostPattern::Exact(host) => self.host.matches(host),
            HostPattern::Wildcard(_) | HostPattern::Any => false,
        };
        (self.https, self.port) == (other.https, other.port) && host
    }
}

/// A host and, written without a leading zero, a port.
fn split_port(authority: &str) -> Option<(&str, Option<u16>)> {
    let bracket = authority.rfind(']');
    match authority.rfind(':').filter(|colon| bracket.is_none_or(|bracket| bracket < *colon)) {
        None => Some((authority, None)),
        Some(colon) => {
            let (host, port) = authority.split_at_checked(colon)?;
            let port = port.strip_prefix(':')?;
            let number: u16 =
                port.parse().ok().filter(|number: &u16| number.to_string() == port)?;
            Some((host, Some(number)))
        }
    }
}

impl Cors {
    /// Whether a request asks, ahead of another one, for leave to send that.
    pub fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
        *method == Method::OPTIONS
            && headers.contains_key(header::ORIGIN)
            && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
    }

    /// The value of `Access-Control-Allow-Origin` for a request: none if its origin may not call,
    /// if it names none or several.
    pub fn allowed(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        let listed = match &self.origins {
            Origins::Any => return Some(HeaderValue::from_static("*")),
            Origins::Listed(listed) => listed,
        };
        let mut values = headers.get_all(header::ORIGIN).iter();
        let (value, None) = (values.next()?, values.next()) else { return None };
        let origin = value.to_str().ok().and_then(Origin::parse)?;
        listed.iter().any(|one| one.holds(&origin)).then(|| value.clone())
    }

    /// Writes what every answer to a browser carries. `allowed` is what [`Self::allowed`] said.
    pub fn tell(&self, allowed: Option<&HeaderValue>, headers: &mut HeaderMap) {
        if let Origins::Listed(_) = self.origins {
            // Whoever keeps the answer must not give it to a page of another origin.
            headers.append(header::VARY, HeaderValue::from_static("origin"));
        }
        let Some(allowed) = allowed else { return };
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed.clone());
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, self.expose.clone());
        if self.credentials {
            let yes = HeaderValue::from_static("true");
            headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, yes);
        }
    }

    /// Writes what only the answer to a preflight carries.
    pub fn permit(&self, headers: &mut HeaderMap) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, self.methods.clone());
        let others = [
            (header::ACCESS_CONTROL_ALLOW_HEADERS, &self.headers),
            (header::ACCESS_CONTROL_MAX_AGE, &self.max_age),
        ];
        for (name, value) in others {
            if let Some(value) = value {
                headers.insert(name, value.clone());
            }
        }
    }

    /// Takes away what an upstream says in our place: of two answers a browser believes neither.
    pub fn silence(headers: &mut HeaderMap) {
        for name in [
            header::ACCESS_CONTROL_ALLOW_ORIGIN,
            header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
            header::ACCESS_CONTROL_ALLOW_METHODS,
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            header::ACCESS_CONTROL_EXPOSE_HEADERS,
            header::ACCESS_CONTROL_MAX_AGE,
        ] {
            headers.remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::refs::{Kind, ResourceRef};

    fn cors(origins: &[&str]) -> Cors {
        let origins = origins.iter().map(|origin| Origin::parse(origin).unwrap()).collect();
        Cors {
            field: FieldRef::new(ResourceRef::new(Kind::Ingress, "shop", "web"), "x"),
            origins: Origins::Listed(origins),
            methods: HeaderValue::from_static("GET"),
            headers: None,
            expose: HeaderValue::from_static("x"),
            credentials: true,
            max_age: None,
        }
    }

    fn allows(cors: &Cors, sent: &[&str]) -> bool {
        let origins = sent.iter().map(|origin| (header::ORIGIN, origin.parse().unwrap()));
        let mut headers = HeaderMap::new();
        origins.for_each(|(name, value)| _ = headers.append(name, value));
        cors.allowed(&headers).is_some()
    }

    #[test]
    fn an_origin_is_allowed_to_the_letter() {
        let cors = cors(&["https://a.example.com", "https://*.shop.test", "http://[::1]:3000"]);
        for allowed in ["https://a.example.com", "https://x.shop.test", "http://[::1]:3000"] {
            assert!(allows(&cors, &[allowed]), "{allowed}");
        }
        for other in [
            "null",
            "",
            "*",
            "https://*.shop.test",
            "http://a.example.com",
            "HTTPS://a.example.com",
            "https://A.example.com",
            "https://a.example.com.",
            "https://a.example.com:443",
            "https://a.example.com:8443",
            "https://a.example.com/",
            "https://a.example.com.evil.test",
            "https://evil.test#https://a.example.com",
            "https://user@a.example.com",
            "https://shop.test",
            "https://x.y.shop.test",
            "https://xshop.test",
            "http://[::1]",
            "http://[::1]:03000",
            "https://a.example.com https://evil.test",
            "https://.shop.test",
            "https://evil.test/.shop.test",
            "https://evil.test?.shop.test",
            "file://a.example.com",
        ] {
            assert!(!allows(&cors, &[other]), "{other}");
        }
    }

    #[test]
    fn of_two_origins_neither_is_believed() {
        let cors = cors(&["https://a.example.com"]);
        assert!(!allows(&cors, &["https://a.example.com", "https://evil.test"]));
        assert!(!allows(&cors, &["https://a.example.com", "https://a.example.com"]));
        assert!(!allows(&cors, &[]));
    }

    #[test]
    fn whoever_is_not_allowed_is_told_nothing_but_that_others_may_be() {
        let mut headers = HeaderMap::new();
        cors(&["https://a.example.com"]).tell(None, &mut headers);
        let told: Vec<_> =
            headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        assert_eq!(told, [("vary", "origin")]);
    }
}
