//! The headers that we write, and those that end here.

use std::net::{IpAddr, SocketAddr};

use decision::{
    canonical::{Line, Scheme, strip_named_by_connection},
    client::AddressSource,
    host::Host,
    spelling::{HOP_BY_HOP, remove_where},
    trailers::TrailerEdits,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header};
use http_body::Body;

use crate::{id::RequestId, trace::Onward};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// How many names [`of_request`] writes, and [`switch`] or [`frame`] after it.
const WRITTEN: usize = 10;

/// The other end of a connection, with its address written out once for all requests.
pub(crate) struct Peer {
    address: IpAddr,
    text: HeaderValue,
}

impl Peer {
    pub(crate) fn new(peer: SocketAddr) -> Self {
        let address = peer.ip().to_canonical();
        Self { address, text: text(&address.to_string()) }
    }

    /// The text of an address, which is the peer's mostly.
    fn text_of(&self, address: IpAddr) -> HeaderValue {
        if address == self.address { self.text.clone() } else { text(&address.to_string()) }
    }
}

/// Makes one `cookie` of several: HTTP/2 splits it, HTTP/1.1 knows only one (RFC 9113 section 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    if headers.get_all(header::COOKIE).iter().nth(1).is_none() {
        return;
    }
    let crumbs: Vec<_> =
        headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    // Joined from header values, so it is one; without the joined value no cookie is passed on.
    let joined = HeaderValue::from_bytes(&crumbs.join(&b"; "[..]));
    headers.remove(header::COOKIE);
    if let Ok(joined) = joined {
        headers.insert(header::COOKIE, joined);
    }
}

/// Tells the upstream another host than the client's, which stays in `X-Forwarded-Host`.
pub(crate) fn tell_host(headers: &mut HeaderMap, host: &Host) {
    headers.insert(header::HOST, text(host.as_str()));
}

/// Adds what the upstream learns from us. Whatever a client wrote under these names is gone already,
/// unless its peer is a trusted proxy: then its list of addresses is continued, and what it says of
/// scheme, host and port stays.
pub(crate) fn of_request(
    headers: &mut HeaderMap,
    line: &Line,
    peer: &Peer,
    id: RequestId,
    https_port: Option<u16>,
) {
    headers.reserve(WRITTEN);
    let host = text(line.host.as_str());
    headers.insert(header::HOST, host.clone());
    join_cookies(headers);
    let mut addresses = peer.text.clone();
    if line.peer_is_trusted {
        headers.remove(header::FORWARDED);
        addresses = continued(headers, &FORWARDED_FOR, peer);
    }
    headers.insert(FORWARDED_FOR, addresses);
    headers.insert(REAL_IP, peer.text_of(line.client.for_logs()));
    let scheme = line.connection.scheme;
    let port = match (scheme, https_port) {
        (Scheme::Http, _) => HeaderValue::from_static("80"),
        (Scheme::Https, None | Some(443)) => HeaderValue::from_static("443"),
        (Scheme::Https, Some(port)) => HeaderValue::from(port),
    };
    let ours = [
        (FORWARDED_PROTO, HeaderValue::from_static(scheme.as_str())),
        (FORWARDED_HOST, host),
        (FORWARDED_PORT, port),
        (REQUEST_ID, id.header()),
    ];
    for (name, value) in ours {
        if !(line.peer_is_trusted && headers.contains_key(&name)) {
            headers.insert(name, value);
        }
    }
    headers.append(header::VIA, HeaderValue::from_static(via(line.version)));
}

/// Whether a trusted proxy says that the client speaks TLS with it.
pub(crate) fn is_encrypted_before(headers: &HeaderMap, line: &Line) -> bool {
    let scheme = headers.get(&FORWARDED_PROTO).filter(|_| line.peer_is_trusted);
    scheme.is_some_and(|scheme| scheme.as_bytes().eq_ignore_ascii_case(b"https"))
}

/// The list of addresses that a trusted proxy sent, continued by its own.
fn continued(headers: &HeaderMap, name: &HeaderName, peer: &Peer) -> HeaderValue {
    if !headers.contains_key(name) {
        return peer.text.clone();
    }
    let mut list = Vec::new();
    for value in headers.get_all(name) {
        list.extend_from_slice(value.as_bytes());
        list.extend_from_slice(b", ");
    }
    list.extend_from_slice(peer.text.as_bytes());
    // Joined from header values, so it is one.
    HeaderValue::from_bytes(&list).unwrap_or_else(|_| peer.text.clone())
}

/// RFC 9110 section 7.6.3: how the request reached us, and who we are. Requests that were here too
/// often are told by it, see [`decision::canonical::LOOP_LIMIT`].
fn via(version: Version) -> &'static str {
    match version {
        Version::HTTP_2 => "2.0 whygate",
        Version::HTTP_10 => "1.0 whygate",
        _ => "1.1 whygate",
    }
}

/// Host names, addresses and numbers are printable ASCII, so the fallback is never taken.
fn text(value: &str) -> HeaderValue {
    HeaderValue::from_str(value).unwrap_or(HeaderValue::from_static(""))
}

/// Writes the framing anew, from what the body says of itself (RFC 9112 section 6).
pub(crate) fn frame(headers: &mut HeaderMap, method: &Method, body: &impl Body) {
    let usual = matches!(*method, Method::POST | Method::PUT | Method::PATCH);
    match body.size_hint().exact() {
        Some(0) if !usual => {}
        Some(length) => drop(headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length))),
        None => {
            let chunked = HeaderValue::from_static("chunked");
            headers.insert(header::TRANSFER_ENCODING, chunked);
        }
    }
}

/// Says that the connection goes on with another protocol (RFC 9110 section 7.8).
pub(crate) fn switch(headers: &mut HeaderMap, protocol: &HeaderValue) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, protocol.clone());
}

/// Leaves out what HTTP/2 says in other words (RFC 9113 section 8.2.2), and says that trailers are
/// passed on, without which gRPC is not spoken.
pub(crate) fn multiplex(headers: &mut HeaderMap) {
    headers.remove(header::HOST);
    headers.remove(header::TRANSFER_ENCODING);
    headers.insert(header::TE, HeaderValue::from_static("trailers"));
}

/// Takes away what no trailer may say (RFC 9110 section 6.5.1): whatever a head loses, who is asking,
/// and of which trace it is.
pub(crate) fn of_trailers(trailers: &mut HeaderMap, edits: &TrailerEdits, source: &AddressSource) {
    edits.apply(trailers, source);
    Onward::Nothing.write(trailers);
}

/// Takes away what concerns only the connection to the upstream, and what only we may say.
///
/// The length goes too, and comes back from the body itself; only where there is no body to
/// measure, it is the upstream's word that counts (RFC 9110 section 8.6).
pub(crate) fn of_response(headers: &mut HeaderMap, is_head: bool, status: StatusCode) {
    strip_named_by_connection(headers);
    let told = is_head || status == StatusCode::NOT_MODIFIED;
    let measured = !(told && has_one_length(headers));
    let length = |name: &str| measured && name == "content-length";
    remove_where(headers, |name| HOP_BY_HOP.contains(&name) || is_ours(name) || length(name));
}

/// Whether the length is told once, as a number: nothing has read it where there is no body.
fn has_one_length(headers: &HeaderMap) -> bool {
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    let is_number = |length: &HeaderValue| {
        !length.is_empty() && length.as_bytes().iter().all(u8::is_ascii_digit)
    };
    lengths.next().is_some_and(is_number) && lengths.next().is_none()
}

fn is_ours(name: &str) -> bool {
    name.starts_with("whygate-") || name.starts_with("whygate_")
}
