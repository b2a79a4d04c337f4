//! From the wire to the decision: what a request is judged by, and how its client wants answers.

use std::net::IpAddr;

use decision::{
    canonical::{CanonicalRequest, Connection, Malformed},
    denial::{Denial, DenialReason},
    host::Host,
};
use http::{HeaderMap, Method, Version, header, request::Parts, uri::PathAndQuery};

use crate::settings::Settings;

/// What the record keeps of a request, while the request itself goes its way.
#[derive(Clone, Debug)]
pub(crate) struct Witness {
    pub(crate) method: Method,
    host: Option<Host>,
    target: Option<PathAndQuery>,
    pub(crate) client: IpAddr,
    pub(crate) version: Version,
}

impl Witness {
    fn of(request: &CanonicalRequest) -> Self {
        let line = request.line();
        Self {
            method: line.method.clone(),
            host: Some(line.host.clone()),
            target: Some(line.target.clone()),
            client: line.client.for_logs(),
            version: line.version,
        }
    }

    /// The same without the buffer that the target was read from.
    pub(crate) fn detached(&self) -> Self {
        let target = self.target.as_ref();
        let target = target.and_then(|target| PathAndQuery::try_from(target.as_str()).ok());
        Self { target, ..self.clone() }
    }

    fn of_malformed(parts: &Parts, peer: IpAddr) -> Self {
        let target = parts.uri.path_and_query().cloned();
        let (method, version) = (parts.method.clone(), parts.version);
        Self { method, host: None, target, client: peer, version }
    }

    /// Of a request that nobody has read.
    pub(crate) fn unread(method: Method, version: Version, client: IpAddr) -> Self {
        Self { method, host: None, target: None, client, version }
    }

    pub(crate) fn host(&self) -> &str {
        self.host.as_ref().map_or("", Host::as_str)
    }

    pub(crate) fn path(&self) -> &str {
        self.target.as_ref().map_or("", PathAndQuery::path)
    }

    pub(crate) fn query(&self) -> Option<&str> {
        self.target.as_ref().and_then(PathAndQuery::query)
    }
}

/// The form in which a client wants to read a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// RFC 9457.
    Problem,
    /// A page for people.
    Html,
    /// Plain text.
    Text,
    /// Trailers-only gRPC.
    Grpc,
}

impl Form {
    /// The first form in `Accept` that we speak; weights are not compared. A problem document for
    /// clients that do not say.
    fn of(headers: &HeaderMap) -> Self {
        let content = headers.get(header::CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
        if content.starts_with(b"application/grpc") {
            return Self::Grpc;
        }
        let accepted = headers.get_all(header::ACCEPT).iter();
        let mut accepted = accepted.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
        accepted.find_map(Self::of_media_range).unwrap_or(Self::Problem)
    }

    fn of_media_range(range: &[u8]) -> Option<Self> {
        let media = range.split(|byte| *byte == b';').next()?.trim_ascii();
        if media.eq_ignore_ascii_case(b"text/html") {
            Some(Self::Html)
        } else if media.eq_ignore_ascii_case(b"text/plain") {
            Some(Self::Text)
        } else {
            let json = media.eq_ignore_ascii_case(b"application/json") || media.ends_with(b"+json");
            json.then_some(Self::Problem)
        }
    }
}

/// A request as far as its head tells.
pub(crate) struct Facts {
    pub(crate) form: Form,
    pub(crate) witness: Witness,
    pub(crate) request: Result<CanonicalRequest, Box<Denial>>,
}

/// Reads a request's head, once and for all.
pub(crate) fn read(parts: Parts, connection: Connection, settings: &Settings) -> Facts {
    let (form, peer) = (Form::of(&parts.headers), connection.remote.address().ip());
    let (source, limits) = (&settings.address_source, settings.limits.of_requests());
    match CanonicalRequest::read(parts, connection, source, limits) {
        Ok(request) => Facts { form, witness: Witness::of(&request), request: Ok(request) },
        Err(Malformed { reason, parts }) => {
            let witness = Witness::of_malformed(&parts, peer.to_canonical());
            Facts { form, witness, request: Err(refused(reason)) }
        }
    }
}

fn refused(reason: DenialReason) -> Box<Denial> {
    Box::new(Denial::of_request(reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(name: http::HeaderName, value: &str) -> Form {
        Form::of(&HeaderMap::from_iter([(name, value.parse().unwrap())]))
    }

    #[test]
    fn the_form_of_a_refusal_is_the_first_that_the_client_names() {
        let browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
        assert_eq!(form(header::ACCEPT, browser), Form::Html);
        assert_eq!(form(header::ACCEPT, "*/*"), Form::Problem);
        assert_eq!(form(header::ACCEPT, "Text/Plain; q=1, text/html"), Form::Text);
        assert_eq!(form(header::ACCEPT, "image/png, application/hal+json"), Form::Problem);
        assert_eq!(form(header::CONTENT_TYPE, "application/grpc+proto"), Form::Grpc);
    }
}
