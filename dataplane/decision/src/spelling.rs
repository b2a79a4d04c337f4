//! Header names in every spelling: those that are ours, and how two spellings are one name.

use http::HeaderMap;

/// Names that end at each hop (RFC 9110 section 7.6.1), and those whose meaning we give anew.
pub(crate) const OURS: [&str; 13] = [
    "host",
    "content-length",
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "expect",
    "http2-settings",
];

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
