//! Host names in their one canonical form, and the patterns that routes and policies use.

use std::{fmt, sync::Arc};

/// A canonical host: lower case, without port and trailing dot. A DNS name, an IPv4 address or
/// an IPv6 address in brackets; at most 253 characters (RFC 1035 section 2.3.4).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Host(Arc<str>);

/// Why a text is not a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAHost;

impl Host {
    /// Reads a host, a port not allowed. Upper case is lowered and one trailing dot dropped.
    ///
    /// # Errors
    /// [`NotAHost`] for an empty text or label, a label above 63 or a name above 253 characters,
    /// and for every character but letters, digits, `-` and `_`.
    pub fn parse(text: &str) -> Result<Self, NotAHost> {
        if text.starts_with('[') {
            return ipv6(text);
        }
        let text = text.strip_suffix('.').unwrap_or(text);
        if text.len() > 253 || !is_name(text) {
            return Err(NotAHost);
        }
        if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Ok(Self(text.to_ascii_lowercase().into()));
        }
        Ok(Self(text.into()))
    }

    /// Reads a `Host` header or an authority: a host with an optional decimal port.
    ///
    /// # Errors
    /// [`NotAHost`] also for userinfo, an empty port and a port above 65535.
    pub fn parse_authority(text: &str) -> Result<Self, NotAHost> {
        let last = text.bytes().rposition(|byte| matches!(byte, b':' | b']'));
        match last.and_then(|last| text.split_at_checked(last)) {
            Some((host, rest)) if let Some(port) = rest.strip_prefix(':') => {
                let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
                if !digits || port.parse::<u16>().is_err() {
                    return Err(NotAHost);
                }
                Self::parse(host)
            }
            Some(_) | None => Self::parse(text),
        }
    }

    /// The canonical text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What follows the first label, if anything does: `example.com` of `api.example.com`.
    pub fn parent(&self) -> Option<&str> {
        self.0.split_once('.').map(|(_, parent)| parent).filter(|_| !self.0.starts_with('['))
    }
}

/// Labels between dots, none of them empty or longer than 63. One look: every request has a host.
fn is_name(text: &str) -> bool {
    let mut label = 0;
    let fine = text.bytes().all(|byte| {
        if byte == b'.' {
            return std::mem::take(&mut label) > 0;
        }
        label += 1;
        label <= 63 && (byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    });
    fine && label > 0
}

fn ipv6(text: &str) -> Result<Host, NotAHost> {
    let inner = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).ok_or(NotAHost)?;
    let address: std::net::Ipv6Addr = inner.parse().map_err(|_| NotAHost)?;
    Ok(Host(format!("[{address}]").into()))
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::borrow::Borrow<str> for Host {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// The hosts that a rule of an Ingress, or a narrowing of a policy, speaks of.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HostPattern {
    /// Exactly this host.
    Exact(Host),
    /// Exactly one label before this suffix: `*.example.com` holds `example.com`.
    Wildcard(Host),
    /// Every host: an Ingress rule without `host`.
    Any,
}

impl HostPattern {
    /// Reads `example.com`, `*.example.com` or the empty text.
    ///
    /// # Errors
    /// [`NotAHost`] if it is none of the three.
    pub fn parse(text: &str) -> Result<Self, NotAHost> {
        if text.is_empty() {
            return Ok(Self::Any);
        }
        match text.strip_prefix("*.") {
            Some(suffix) => Host::parse(suffix).map(Self::Wildcard),
            None => Host::parse(text).map(Self::Exact),
        }
    }

    /// The text that [`Display`](fmt::Display) shows; that of a single host is not copied.
    pub fn spelled(&self) -> Arc<str> {
        match self {
            Self::Exact(host) => Arc::clone(&host.0),
            Self::Wildcard(_) | Self::Any => self.to_string().into(),
        }
    }

    /// Whether this pattern speaks of `host`.
    pub fn matches(&self, host: &Host) -> bool {
        match self {
            Self::Exact(exact) => exact == host,
            Self::Wildcard(suffix) => host.parent() == Some(suffix.as_str()),
            Self::Any => true,
        }
    }

    /// Whether some host matches both patterns.
    pub fn overlaps(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Any, _) | (_, Self::Any) => true,
            (Self::Exact(host), pattern) | (pattern, Self::Exact(host)) => pattern.matches(host),
            (Self::Wildcard(one), Self::Wildcard(two)) => one == two,
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(host) => write!(f, "{host}"),
            Self::Wildcard(suffix) => write!(f, "*.{suffix}"),
            Self::Any => f.write_str("*"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_host_are_one_host() {
        for text in
            ["api.example.com", "API.Example.COM", "api.example.com.", "api.example.com:8443"]
        {
            assert_eq!(Host::parse_authority(text).unwrap().as_str(), "api.example.com", "{text}");
        }
        assert_eq!(Host::parse_authority("[2001:DB8::1]:80").unwrap().as_str(), "[2001:db8::1]");
    }

    #[test]
    fn what_is_not_one_host_is_refused() {
        let long = format!("{}.example.com", "a".repeat(64));
        for text in [
            "",
            ".",
            "a..b",
            "user@example.com",
            "a b",
            "a,b",
            "a:",
            "a:65536",
            "a:+1",
            "é.com",
            "[::1",
            "a/b",
            &long,
        ] {
            assert_eq!(Host::parse_authority(text), Err(NotAHost), "{text}");
        }
    }

    #[test]
    fn wildcard_stands_for_exactly_one_label() {
        let pattern = HostPattern::parse("*.example.com").unwrap();
        let matches = |host| pattern.matches(&Host::parse(host).unwrap());
        assert!(matches("a.example.com"));
        assert!(!matches("example.com"));
        assert!(!matches("a.b.example.com"));
    }

    #[test]
    fn printing_a_pattern_and_reading_it_again_changes_nothing() {
        for text in ["example.com", "*.example.com"] {
            assert_eq!(HostPattern::parse(text).unwrap().to_string(), text);
        }
    }
}
