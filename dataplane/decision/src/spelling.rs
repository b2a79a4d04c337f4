//! Header names in every spelling: those that are ours, and how two spellings are one name.

use http::HeaderMap;

/// Names that end at each hop (RFC 9110 section 7.6.1).
pub const HOP_BY_HOP: [&str; 7] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Names whose meaning we give anew, and those by which a client speaks to its proxy.
const OURS: [&str; 6] = [
    "host",
    "content-length",
    "proxy-authenticate",
    "proxy-authorization",
    "expect",
    "http2-settings",
];

/// Whether a name frames a message, ends at each hop, or is one whose meaning we give anew.
pub(crate) fn ends_here(name: &str) -> bool {
    HOP_BY_HOP.iter().chain(&OURS).any(|ours| same_name(name, ours))
}

/// Whether a name says whom a request was passed on for, and how it came.
pub(crate) fn is_forwarding(name: &str) -> bool {
    starts_as(name, "x-forwarded-") || same_name(name, "forwarded") || same_name(name, "x-real-ip")
}

/// Removes the headers whose name, in lower case, satisfies `is_meant`. Costs one look at the names
/// if there are none, which is less than to ask for a few.
pub fn remove_where(headers: &mut HeaderMap, is_meant: impl Fn(&str) -> bool) {
    while let Some(name) = headers.keys().find(|name| is_meant(name.as_str())).cloned() {
        headers.remove(name);
    }
}

/// Servers that speak CGI turn `-` into `_`, so the two spell one name (RFC 3875 section 4.1.18).
pub(crate) fn same_name(name: &str, reserved: &str) -> bool {
    name.len() == reserved.len() && starts_as(name, reserved)
}

pub(crate) fn starts_as(name: &str, reserved: &str) -> bool {
    let dashed = |byte: u8| if byte == b'_' { b'-' } else { byte };
    name.len() >= reserved.len()
        && name.bytes().map(dashed).zip(reserved.bytes()).all(|(one, two)| one == two)
}
