//! Header names in every spelling: those that are ours, and how two spellings are one name.

use http::{HeaderMap, HeaderName, header};

/// Names that end at each hop (RFC 9110 section 7.6.1), and those whose meaning we give anew.
pub(crate) const OURS: [HeaderName; 13] = [
    header::HOST,
    header::CONTENT_LENGTH,
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::EXPECT,
    HeaderName::from_static("http2-settings"),
];

/// Whether a name says whom a request was passed on for, and how it came.
pub(crate) fn is_forwarding(name: &str) -> bool {
    starts_as(name, "x-forwarded-") || same_name(name, "forwarded") || same_name(name, "x-real-ip")
}

/// Removes the headers whose name satisfies `reserved`; costs nothing if there are none.
pub(crate) fn remove_spellings(headers: &mut HeaderMap, reserved: impl Fn(&str) -> bool) {
    while let Some(name) = headers.keys().find(|name| reserved(name.as_str())).cloned() {
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
