//! What the owner of a route asks for beyond routing: time-outs, limits, header fields and paths.
//!
//! No option changes how a request is judged: that is always by what the client sent.

pub mod compression;
pub mod cors;
pub mod headers;
pub mod rewrite;

use std::time::Duration;

use http::{HeaderName, HeaderValue, StatusCode};

use crate::{
    host::Host,
    options::{
        compression::Coding,
        cors::Cors,
        headers::{HeaderEdits, Message},
        rewrite::Rewrite,
    },
    refs::FieldRef,
};

/// The options of a route, read from the annotations of its Ingress and shared by all its paths.
#[derive(Debug, Default)]
pub struct Options {
    /// How long the route waits for its upstream and for the rest of a transfer.
    pub timeouts: Timeouts,
    /// The longest body of a request. `None`, the default, is without limit.
    pub body_limit: Option<BodyLimit>,
    /// What is done to the header fields of requests, before those that we write ourselves.
    pub request_headers: HeaderEdits,
    /// What is done to the header fields of the upstream's answers; answers of our own stay.
    pub response_headers: HeaderEdits,
    /// The value of `Strict-Transport-Security` on every answer over TLS, refusals among them.
    pub hsts: Option<HeaderValue>,
    /// The path that upstreams get in the place of the one that was judged.
    pub rewrite: Option<Rewrite>,
    /// Where clients are sent whose requests pass; then no upstream sees them. Those for the host
    /// that others are sent to are forwarded.
    pub redirect: Option<Redirect>,
    /// What browsers are told when pages of other origins call.
    pub cors: Option<Cors>,
    /// How the upstream's answers are compressed for clients that take it. `None`, the default: not
    /// at all.
    pub compress: Option<Coding>,
    /// By what a client gets the same endpoint again. `None`, the default: by nothing.
    pub affinity: Option<Affinity>,
    /// The host that upstreams are told in the place of the one that was judged.
    pub upstream_host: Option<Host>,
}

impl Options {
    /// What is done to the header fields of messages in one direction.
    pub fn headers(&self, message: Message) -> &HeaderEdits {
        match message {
            Message::Request => &self.request_headers,
            Message::Response => &self.response_headers,
        }
    }
}

/// By what requests belong together that should get the same endpoint, as long as it is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Affinity {
    /// A cookie that the data plane gives to each client.
    Cookie,
    /// The client's address; of IPv6 its /64.
    Address,
    /// The value of this header, of several lines the first.
    Header(HeaderName),
}

/// The answer to requests of a route that pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// Where to.
    pub to: Destination,
    /// 301, 302, 307 or 308 (RFC 9110 section 15.4).
    pub status: StatusCode,
}

/// Where a redirect leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// A whole URL of the manifest: no client has a say in it.
    Url(HeaderValue),
    /// The same path and query on this host, by the scheme of the request; what a trusted proxy says
    /// of that is believed. Requests for the host itself are not redirected.
    Host(Host),
}

impl Redirect {
    /// Whether requests for a host are redirected.
    pub fn is_for(&self, host: &Host) -> bool {
        match &self.to {
            Destination::Url(_) => true,
            Destination::Host(to) => to != host,
        }
    }
}

/// Time-outs of a route. `None` stands for the limit of the whole program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timeouts {
    /// From the first packet to an endpoint until it accepts; beyond it `UpstreamConnectFailed`.
    pub connect: Option<Duration>,
    /// From the last byte of the request to the answer's head; beyond it `UpstreamTimeout`.
    pub first_byte: Option<Duration>,
    /// Longest pause of either body once the answer has begun; beyond it the exchange is broken off.
    pub idle: Option<Duration>,
}

/// The longest body that requests of a route may have; beyond it `BodyTooLarge`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BodyLimit {
    /// In bytes, chunks and other framing not counted.
    pub bytes: u64,
    /// The annotation that says so.
    pub field: FieldRef,
}
