//! The one reading of a request. What is routed is what is judged, forwarded and logged.

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Version, header, request::Parts, uri::PathAndQuery,
};

use crate::{
    certificate::Shown,
    client::{AddressSource, ClientAddress, Remote},
    denial::DenialReason,
    escape::quoted,
    host::Host,
    path,
    spelling::{ends_here, is_forwarding, remove_where, same_name, starts_as},
};

/// The header in which an API key arrives.
pub const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// How often a request may have passed through this program already (RFC 9110 section 7.6.3): 8. One
/// that has goes round in circles, because the endpoints of its Service are our own address.
pub const LOOP_LIMIT: usize = 8;

/// Plain or encrypted: how the request reached the listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// Plain text.
    Http,
    /// TLS.
    Https,
}

impl Scheme {
    /// `http` or `https`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// What is known of the connection that a request came in on.
#[derive(Clone, Debug)]
pub struct Connection {
    /// The other end.
    pub remote: Remote,
    /// Plain or encrypted.
    pub scheme: Scheme,
    /// The host of the TLS handshake, if the client named one.
    pub sni: Option<Host>,
    /// The certificate of the client, if the handshake asked for one.
    pub certificate: Shown,
}

/// Limits that the reading of a request keeps.
#[derive(Clone, Copy, Debug)]
pub struct RequestLimits {
    /// Longest request target in bytes. Default 8,192.
    pub uri_bytes: usize,
    /// Most header fields. Default 100.
    pub header_count: usize,
}

impl Default for RequestLimits {
    fn default() -> Self {
        Self { uri_bytes: 8 * 1024, header_count: 100 }
    }
}

/// A request's first line and where it came from, in canonical form.
#[derive(Clone, Debug)]
pub struct Line {
    /// The method, as sent.
    pub method: Method,
    /// The protocol version on our side.
    pub version: Version,
    /// The host that the request is for.
    pub host: Host,
    /// Canonical path, and the query as sent.
    pub target: PathAndQuery,
    /// Whom rules take for the client.
    pub client: ClientAddress,
    /// The connection.
    pub connection: Connection,
    /// Whether the peer's forwarding headers are believed.
    pub peer_is_trusted: bool,
    /// The one protocol that the client asks to switch to, if it does (RFC 9110 section 7.8).
    pub upgrade: Option<HeaderValue>,
}

/// The only reading of a request: private, so that nothing else can be routed or judged.
#[derive(Debug)]
pub struct CanonicalRequest {
    /// Boxed: the request is moved from hand to hand.
    line: Box<Line>,
    headers: HeaderMap,
    /// An API key that was taken out of the headers, for [`crate::standing::Standing`] alone.
    withheld_key: Option<HeaderValue>,
}

/// A request that cannot be read in one way only, given back for the log.
#[derive(Debug)]
pub struct Malformed {
    /// Which rule it breaks.
    pub reason: DenialReason,
    /// The request as it came.
    pub parts: Box<Parts>,
}

impl CanonicalRequest {
    /// Reads a request and takes away every header that the upstream must not take from a client.
    ///
    /// # Errors
    /// [`Malformed`] if the request could be read in two ways, or breaks a limit.
    pub fn read(
        mut parts: Parts,
        connection: Connection,
        source: &AddressSource,
        limits: RequestLimits,
    ) -> Result<Self, Malformed> {
        hide_credentials(&mut parts.headers);
        match read_line(&parts, connection, source, limits) {
            Ok(line) => {
                strip(&mut parts.headers, &line, source);
                Ok(Self { line: Box::new(line), headers: parts.headers, withheld_key: None })
            }
            Err(reason) => Err(Malformed { reason, parts: Box::new(parts) }),
        }
    }

    /// Method, host, target, client.
    pub fn line(&self) -> &Line {
        &self.line
    }

    /// The headers that are left once hop-by-hop and reserved names are gone.
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The canonical path.
    pub fn path(&self) -> &str {
        self.line.target.path()
    }

    /// The same request without any header, to be judged again.
    pub(crate) fn bare(line: Box<Line>) -> Self {
        Self { line, headers: HeaderMap::new(), withheld_key: None }
    }

    /// Adds a credential to a bare request.
    pub(crate) fn present(&mut self, name: HeaderName, credential: HeaderValue) {
        self.headers.insert(name, credential);
    }

    /// The API key that the request came with, passed on to the upstream or not.
    pub(crate) fn api_key(&mut self) -> Option<HeaderValue> {
        self.withheld_key.take().or_else(|| self.headers.get(&API_KEY).cloned())
    }

    /// Takes a header away, in every spelling: a consumed credential must not reach the upstream.
    pub(crate) fn remove_header(&mut self, name: &HeaderName) {
        if *name == API_KEY {
            self.withheld_key = self.headers.remove(name);
        }
        remove_where(&mut self.headers, |spelled| same_name(spelled, name.as_str()));
    }

    /// Lets go of every header, and of the buffer that the target was read from.
    pub(crate) fn forget_headers(&mut self) {
        self.headers = HeaderMap::new();
        // It was one before.
        if let Ok(target) = PathAndQuery::try_from(self.line.target.as_str()) {
            self.line.target = target;
        }
    }

    /// Takes away everything that the client says beside the line.
    pub(crate) fn remove_all_headers(&mut self) {
        self.headers.clear();
    }

    /// Gives up the request for forwarding or recording.
    pub fn into_parts(self) -> (Box<Line>, HeaderMap) {
        (self.line, self.headers)
    }
}

/// Keeps credentials out of everything that is printed for debugging, in every spelling.
fn hide_credentials(headers: &mut HeaderMap) {
    const CREDENTIALS: [&str; 4] = ["authorization", "proxy-authorization", "cookie", "x-api-key"];
    for (name, value) in headers.iter_mut() {
        if CREDENTIALS.iter().any(|credential| same_name(name.as_str(), credential)) {
            value.set_sensitive(true);
        }
    }
}

fn malformed(rule: &'static str) -> DenialReason {
    DenialReason::RequestMalformed { rule }
}

fn read_line(
    parts: &Parts,
    connection: Connection,
    source: &AddressSource,
    limits: RequestLimits,
) -> Result<Line, DenialReason> {
    check_limits(parts, limits)?;
    check_framing(parts)?;
    check_values(parts)?;
    let host = read_host(parts)?;
    let target = read_target(parts)?;
    check_single(&parts.headers, &header::AUTHORIZATION, "duplicate-authorization")?;
    check_single(&parts.headers, &API_KEY, "duplicate-x-api-key")?;
    let client = ClientAddress::derive(&connection.remote, &parts.headers, source);
    let peer_is_trusted = match connection.remote {
        Remote::Hidden { .. } => false,
        Remote::Socket(peer) | Remote::Announced { client: peer, .. } => {
            source.trusted_proxies.contains(peer.ip())
        }
    };
    check_loop(&parts.headers)?;
    let (method, version) = (parts.method.clone(), parts.version);
    let upgrade = read_upgrade(parts);
    Ok(Line { method, version, host, target, client, connection, peer_is_trusted, upgrade })
}

/// The protocol that the client wants to switch to.
///
/// That is a wish which a server may ignore (RFC 9110 section 7.8), so what is not clear is ignored:
/// several protocols, one that `Connection` does not announce, and those in which requests would
/// follow that nobody judges: HTTP itself and TLS.
fn read_upgrade(parts: &Parts) -> Option<HeaderValue> {
    let mut wished = parts.headers.get_all(header::UPGRADE).iter();
    let (protocol, None) = (wished.next()?, wished.next()) else { return None };
    let name = protocol.as_bytes();
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.+!#$&^`|~%*'/".contains(&byte);
    let begins =
        |with: &[u8]| name.get(..with.len()).is_some_and(|start| start.eq_ignore_ascii_case(with));
    let hides_requests = begins(b"h2") || begins(b"http") || begins(b"tls");
    let named = (1..=64).contains(&name.len()) && name.iter().copied().all(token);
    let announcing = parts.headers.get_all(header::CONNECTION).iter();
    let mut announced = announcing.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    let is_announced = announced.any(|name| name.trim_ascii().eq_ignore_ascii_case(b"upgrade"));
    // On HTTP/2 no client can write these headers: they are ours (RFC 8441).
    let version = matches!(parts.version, Version::HTTP_11 | Version::HTTP_2);
    let fine = version && named && !hides_requests && is_announced;
    fine.then(|| protocol.clone())
}

fn check_limits(parts: &Parts, limits: RequestLimits) -> Result<(), DenialReason> {
    let length = parts.uri.path_and_query().map_or(0, |target| target.as_str().len());
    if length > limits.uri_bytes {
        return Err(DenialReason::UriTooLong { length, limit: limits.uri_bytes });
    }
    if parts.headers.len() > limits.header_count {
        return Err(DenialReason::HeadersTooLarge {
            count: parts.headers.len(),
            limit: limits.header_count,
        });
    }
    Ok(())
}

fn check_framing(parts: &Parts) -> Result<(), DenialReason> {
    if matches!(parts.method, Method::CONNECT | Method::TRACE) {
        return Err(malformed("method"));
    }
    // Methods are case-sensitive (RFC 9110 section 9.1), but not to every server: to some of them
    // `delete` is `DELETE`, which a rule on methods would not have seen.
    if parts.method.as_str().bytes().any(|byte| byte.is_ascii_lowercase()) {
        return Err(malformed("method"));
    }
    let mut encodings = parts.headers.get_all(header::TRANSFER_ENCODING).iter();
    if let Some(encoding) = encodings.next() {
        let chunked = encoding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked");
        if !chunked || encodings.next().is_some() {
            let encoding =
                quoted(&String::from_utf8_lossy(encoding.as_bytes()), 40).to_string().into();
            return Err(DenialReason::EncodingNotSupported { encoding });
        }
    }
    Ok(())
}

/// A value of HTTP/2 neither begins nor ends with white space (RFC 9113 section 8.2.1). Whoever reads
/// it behind us as HTTP/1.1 takes it away, and would see another value than was judged.
fn check_values(parts: &Parts) -> Result<(), DenialReason> {
    let is_blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    let mut values = parts.headers.values().map(HeaderValue::as_bytes);
    let padded = parts.version == Version::HTTP_2
        && values.any(|value| is_blank(value.first()) || is_blank(value.last()));
    if padded { Err(malformed("padded-value")) } else { Ok(()) }
}

fn read_host(parts: &Parts) -> Result<Host, DenialReason> {
    // We speak for no other scheme (RFC 9110 section 7.4). Which of the two it is, the connection says.
    let scheme = parts.uri.scheme_str();
    if scheme.is_some_and(|scheme| !["http", "https"].contains(&scheme)) {
        return Err(malformed("target-scheme"));
    }
    check_single(&parts.headers, &header::HOST, "duplicate-host")?;
    let header = parts.headers.get(header::HOST).map(|value| {
        let text = value.to_str().map_err(|_| malformed("host"))?;
        Host::parse_authority(text).map_err(|_| malformed("host"))
    });
    let authority = parts.uri.authority().map(|authority| {
        Host::parse_authority(authority.as_str()).map_err(|_| malformed("target-authority"))
    });
    match (header.transpose()?, authority.transpose()?) {
        (Some(host), Some(authority)) if host != authority => {
            Err(malformed("host-disagrees-with-target"))
        }
        (Some(host), _) | (None, Some(host)) => Ok(host),
        (None, None) => Err(malformed("missing-host")),
    }
}

/// The target. A fragment, which no target may have (RFC 9112 section 3.2), cannot be refused: the
/// `http` crate drops it while it parses, so that it is neither judged nor forwarded.
fn read_target(parts: &Parts) -> Result<PathAndQuery, DenialReason> {
    let target = parts.uri.path_and_query().ok_or_else(|| malformed("target"))?;
    let printable = |byte: u8| matches!(byte, 0x21..=0x7e) && byte != b'\\';
    if !target.query().unwrap_or("").bytes().all(printable) {
        return Err(malformed("query-character"));
    }
    let path = path::canonical(target.path()).map_err(|problem| malformed(problem.as_str()))?;
    // The path of `http://example.com?x` reads as `/`, but does not stand in the text.
    if path == target.path() && target.as_str().starts_with('/') {
        return Ok(target.clone());
    }
    let rebuilt = match target.query() {
        Some(query) => format!("{path}?{query}"),
        None => path.into_owned(),
    };
    PathAndQuery::try_from(rebuilt).map_err(|_| malformed("target"))
}

/// Counts the entries of `Via` that are ours.
fn check_loop(headers: &HeaderMap) -> Result<(), DenialReason> {
    let values = headers.get_all(header::VIA).iter().map(HeaderValue::as_bytes);
    let entries = values.flat_map(|value| value.split(|byte| *byte == b','));
    let ours = entries.filter(|entry| entry.trim_ascii().ends_with(b" whygate")).count();
    if ours < LOOP_LIMIT { Ok(()) } else { Err(malformed("loop")) }
}

fn check_single(
    headers: &HeaderMap,
    name: &HeaderName,
    rule: &'static str,
) -> Result<(), DenialReason> {
    match headers.get_all(name).iter().nth(1) {
        Some(_) => Err(malformed(rule)),
        None => Ok(()),
    }
}

/// Some frameworks route by the first three instead of the target, past what was judged, and CGI makes
/// of the last one the proxy that programs go through. Proxies pass them on as they come, so nobody
/// is believed.
const DANGEROUS: [&str; 4] = ["x-original-url", "x-original-uri", "x-rewrite-url", "proxy"];

fn strip(headers: &mut HeaderMap, line: &Line, source: &AddressSource) {
    strip_named_by_connection(headers);
    remove_where(headers, |name| is_taken_away(name, source, line.peer_is_trusted));
}

/// Whether no upstream gets a field of this name from a client, or only from a trusted proxy.
pub(crate) fn is_taken_away(name: &str, source: &AddressSource, peer_is_trusted: bool) -> bool {
    let never = || DANGEROUS.iter().any(|never| same_name(name, never));
    let source = || source.header.as_ref().is_some_and(|it| same_name(name, it.as_str()));
    let believed = || peer_is_trusted && !name.contains('_');
    ends_here(name)
        || never()
        || starts_as(name, "whygate-")
        || ((is_forwarding(name) || source()) && !believed())
}

/// Removes what the message's own `Connection` names, request or response, before anything of ours
/// is added (RFC 9110 section 7.6.1); all but `Keep-Alive`, which no message keeps anyway.
pub fn strip_named_by_connection(headers: &mut HeaderMap) {
    let values = headers.get_all(header::CONNECTION).iter();
    let names = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    // That is what nearly all of them say.
    let said = names.map(<[u8]>::trim_ascii);
    let names = said.filter(|name| !name.eq_ignore_ascii_case(b"keep-alive"));
    let names: Vec<_> = names.filter_map(|name| HeaderName::from_bytes(name).ok()).collect();
    for name in names {
        headers.remove(name);
    }
}
