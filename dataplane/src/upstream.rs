//! The other side: which endpoint, over which connection, and whose fault it is when it fails.

mod affinity;
mod avoid;
mod choose;
mod health;
mod pool;
mod sender;
mod transport;

use std::{error::Error, io, pin::pin, rc::Rc, sync::Arc, time::Duration};

use decision::{
    code::Code,
    endpoint::EndpointAddress,
    transport::{HttpVersion, Transport},
};
use http::{Request, Response, StatusCode};
use http_body::Body as _;
use hyper::{body::Incoming, client::conn::TrySendError};
use tokio::time::{Instant, timeout_at};

pub(crate) use self::{
    affinity::Affinity,
    pool::{Lease, Upstream},
};
use self::{avoid::Avoid, sender::Sent};
use crate::{
    frames::{cause, is_exhausted},
    metrics::ThreadCounts,
    quota::Used,
    refused::Refused,
    upload::{RequestBody, Upload},
    waits::Waits,
};

/// What became of a request that was permitted and not answered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UpstreamError {
    /// No connection could be opened.
    #[error("endpoint {address} cannot be connected to: {source}")]
    Connect { address: EndpointAddress, source: io::Error },
    /// It did not accept in time.
    #[error("endpoint {address} did not accept a connection within {limit:?}")]
    ConnectTimeout { address: EndpointAddress, limit: Duration },
    /// As many requests as it may have are there, and as many wait.
    #[error(
        "endpoint {address} has {limit} requests of a data thread already and had no room in time for another"
    )]
    Full { address: EndpointAddress, limit: usize },
    /// TLS could not be agreed on, or whom it speaks for cannot be trusted.
    #[error("endpoint {address} is not trusted as `{name}` over TLS: {source}")]
    Tls { address: EndpointAddress, name: Arc<str>, source: io::Error },
    /// It closed the connection before its answer's head was complete.
    #[error("endpoint {address} broke the connection before it answered: {}", told(source))]
    Reset { address: EndpointAddress, source: hyper::Error },
    /// It gave up this request, on a connection that goes on.
    #[error("endpoint {address} reset the request before it answered: {}", told(source))]
    ResetStream { address: EndpointAddress, source: hyper::Error },
    /// We ended a connection that many share: what came on it was beyond what is kept for clients who
    /// do not take it.
    #[error("a limit of ours ended a connection to endpoint {address}: {}", told(source))]
    Exhausted { address: EndpointAddress, source: hyper::Error },
    /// It sent something else than HTTP.
    #[error("endpoint {address} sent what is no {} response: {}", spoken(*http), told(source))]
    Malformed { address: EndpointAddress, http: HttpVersion, source: hyper::Error },
    /// It switched to a protocol that nobody asked for.
    #[error("endpoint {address} switched to a protocol that was not asked for")]
    Switched { address: EndpointAddress },
    /// It accepted a request for a WebSocket on a stream of HTTP/2, but without switching to it.
    #[error("endpoint {address} answered {status} to a WebSocket, without switching to it")]
    NotSwitched { address: EndpointAddress, status: StatusCode },
    /// It said nothing.
    #[error("endpoint {address} sent no answer within {limit:?}")]
    Timeout { address: EndpointAddress, limit: Duration },
    /// It had not answered yet when policies came to refuse the request.
    #[error("the request to endpoint {address} would be refused now")]
    Revoked { address: EndpointAddress, refused: Box<Refused> },
}

impl UpstreamError {
    pub(crate) fn code(&self) -> Code {
        match self {
            Self::Connect { .. } | Self::ConnectTimeout { .. } | Self::Tls { .. } => {
                Code::UpstreamConnectFailed
            }
            Self::Full { .. } => Code::UpstreamOverloaded,
            Self::Reset { .. } | Self::ResetStream { .. } | Self::Exhausted { .. } => {
                Code::UpstreamReset
            }
            Self::Malformed { .. } | Self::Switched { .. } | Self::NotSwitched { .. } => {
                Code::UpstreamMalformed
            }
            Self::Timeout { .. } => Code::UpstreamTimeout,
            Self::Revoked { refused, .. } => refused.code(),
        }
    }

    /// The endpoint.
    pub(crate) fn address(&self) -> EndpointAddress {
        match self {
            Self::Connect { address, .. }
            | Self::ConnectTimeout { address, .. }
            | Self::Full { address, .. }
            | Self::Tls { address, .. }
            | Self::Reset { address, .. }
            | Self::ResetStream { address, .. }
            | Self::Exhausted { address, .. }
            | Self::Malformed { address, .. }
            | Self::Switched { address }
            | Self::NotSwitched { address, .. }
            | Self::Timeout { address, .. }
            | Self::Revoked { address, .. } => *address,
        }
    }

    /// What to do, if more is known than the code says.
    pub(crate) fn remedy(&self) -> Option<&'static str> {
        match self {
            Self::Tls { .. } => Some(
                "Give the endpoints a certificate of that name, or say which name and authority they have with `whygate.dev/upstream-server-name` and `whygate.dev/upstream-ca`.",
            ),
            Self::Malformed { http: HttpVersion::Two, .. } => Some(
                "Check that the endpoints speak HTTP/2, or correct `appProtocol` of the Service's port or `whygate.dev/upstream-protocol`.",
            ),
            Self::Exhausted { .. } => Some(
                "Repeat the request; let the endpoints send larger pieces to clients who read slowly.",
            ),
            Self::Full { .. }
            | Self::Connect { .. }
            | Self::ConnectTimeout { .. }
            | Self::Reset { .. }
            | Self::ResetStream { .. }
            | Self::Malformed { .. }
            | Self::Switched { .. }
            | Self::NotSwitched { .. }
            | Self::Timeout { .. }
            | Self::Revoked { .. } => None,
        }
    }

    /// Whether another request would probably fare as badly there, and better elsewhere.
    fn speaks_against_endpoint(&self) -> bool {
        match self {
            Self::Connect { .. }
            | Self::ConnectTimeout { .. }
            | Self::Tls { .. }
            | Self::Reset { .. }
            | Self::ResetStream { .. } => true,
            Self::Full { .. }
            | Self::Exhausted { .. }
            | Self::Malformed { .. }
            | Self::Switched { .. }
            | Self::NotSwitched { .. }
            | Self::Timeout { .. }
            | Self::Revoked { .. } => false,
        }
    }
}

/// An error with its cause, which says what happened.
fn told(error: &hyper::Error) -> String {
    error.source().map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
}

fn spoken(http: HttpVersion) -> &'static str {
    match http {
        HttpVersion::One => "HTTP/1.1",
        HttpVersion::Two => "HTTP/2",
    }
}

/// Where a request goes first, and where it may go if nothing could be sent there.
#[derive(Clone, Debug)]
pub(crate) struct Choice {
    pub(crate) first: EndpointAddress,
    pub(crate) second: Option<EndpointAddress>,
    /// How either is spoken to.
    pub(crate) transport: Transport,
    /// What was asked for.
    pub(crate) affinity: Option<Affinity>,
}

/// An answer's head, and the connection on which its body comes.
pub(crate) struct Answer {
    pub(crate) response: Response<Incoming>,
    pub(crate) lease: Lease,
}

impl Answer {
    pub(crate) fn into_parts(self) -> (http::response::Parts, Incoming, Lease) {
        let (parts, incoming) = self.response.into_parts();
        (parts, incoming, self.lease)
    }
}

impl Upstream {
    /// Sends a permitted request and waits for the answer's head.
    ///
    /// What was not sent, or not taken, is tried once more: on the other endpoint if a connection
    /// cannot be opened or a request is refused, on another connection if there is no other endpoint,
    /// on a new one if a kept one turns out to be closed, also on the second try. If it crossed the
    /// word of that, only what may be sent twice: a safe request without a body (RFC 9110 section
    /// 9.2.1).
    ///
    /// Where the answer takes long, because the upstream does or the body that it is sent, `again`
    /// judges the request once more after each [`long_exchange`](crate::settings::Limits).
    pub(crate) async fn send(
        &self,
        _: Used,
        choice: Choice,
        mut request: Request<RequestBody>,
        upload: Option<&Upload>,
        (waits, again): (Waits, Again<'_>),
    ) -> Result<Answer, UpstreamError> {
        let every = self.settings.limits.long_exchange;
        let mut fate = Fate { counts: &self.counts, ended: Ended::Abandoned };
        let (mut address, mut other) = (choice.first, choice.second);
        let (mut retried, mut avoid, http) = (false, Avoid::Nothing, choice.transport.http);
        loop {
            let line = self.line(address, &choice.transport);
            let endpoint = Rc::clone(&line.endpoint);
            let was_new = matches!(avoid, Avoid::OpenedBefore(_));
            let mut lease = match self.lease(line, &avoid, waits.connect).await {
                Ok(lease) => lease,
                Err(error) => {
                    self.note(&endpoint, Err(&error));
                    fate.ended = Ended::NotConnected;
                    let Some(second) = other.take().filter(|_| !retried) else { return Err(error) };
                    (address, retried, avoid) = (second, true, Avoid::elsewhere(http));
                    self.counts.upstream_retries.add();
                    continue;
                }
            };
            fate.ended = Ended::Sent;
            let may_cross = lease.rested && request.method().is_safe();
            let may_fail = !retried && (http == HttpVersion::Two || may_cross);
            let spare = if may_fail { copy(&request) } else { None };
            let sent = pin!(lease.sender.try_send_request(request));
            let patience = (waits.first_byte, every);
            match first_byte((address, http), sent, upload, patience, &mut *again).await {
                Ok(response) => {
                    self.note(&endpoint, Ok(()));
                    if let Some(streams) = lease.sender.streams() {
                        streams.answered();
                    }
                    return Ok(Answer { response, lease });
                }
                Err(Unanswered { error, unsent, refusal }) => {
                    let was_unsent = unsent.is_some();
                    let crossed = may_cross && matches!(error, UpstreamError::Reset { .. });
                    let spare = spare.filter(|_| refusal.is_some() || crossed).map(|spare| *spare);
                    let unsent = unsent.or(spare);
                    avoid = match (refusal, lease.sender.streams()) {
                        (Some(Refusal::Stream), Some(streams)) => Avoid::One(Rc::clone(streams)),
                        _ => Avoid::OpenedBefore(Instant::now()),
                    };
                    if refusal.is_some()
                        && let Some(second) = other.take()
                    {
                        (address, avoid) = (second, Avoid::elsewhere(http));
                    }
                    let client_failed = upload.is_some_and(|upload| upload.failure().is_some());
                    if !client_failed && (retried || unsent.is_none()) {
                        self.note(&endpoint, Err(&error));
                    }
                    let Some(unsent) = unsent else { return Err(error) };
                    fate.ended = Ended::NotConnected;
                    // A connection that many share may be closing when the second try comes to it.
                    let closing = was_unsent && !was_new;
                    if retried && !closing {
                        return Err(error);
                    }
                    (request, retried) = (unsent, true);
                    self.counts.upstream_retries.add();
                }
            }
        }
    }
}

/// Judges a request once more that has waited for long.
pub(crate) type Again<'a> = &'a mut dyn FnMut() -> Result<(), Refused>;

async fn first_byte(
    (address, http): (EndpointAddress, HttpVersion),
    mut sent: std::pin::Pin<&mut impl Future<Output = Sent>>,
    upload: Option<&Upload>,
    (limit, every): (Duration, Duration),
    again: Again<'_>,
) -> Result<Response<Incoming>, Unanswered> {
    let began = Instant::now();
    let (mut due, mut look) = (began + limit, began + every);
    loop {
        match timeout_at(due.min(look), sent.as_mut()).await {
            Ok(Ok(response)) => return Ok(response),
            Ok(Err(error)) => return Err(Unanswered::new(address, http, error)),
            Err(_) => {
                let failed = |error| Unanswered { error, unsent: None, refusal: None };
                let now = Instant::now();
                if look <= now {
                    look = now + every;
                    again().map_err(|refused| {
                        failed(UpstreamError::Revoked { address, refused: Box::new(refused) })
                    })?;
                }
                due = upload.map_or(due, |upload| upload.answer_due(limit));
                if due <= now {
                    return Err(failed(UpstreamError::Timeout { address, limit }));
                }
            }
        }
    }
}

struct Unanswered {
    error: UpstreamError,
    /// The request, if not a byte of it was sent.
    unsent: Option<Request<RequestBody>>,
    /// That the endpoint did nothing with it, if it says so.
    refusal: Option<Refusal>,
}

/// What an endpoint of HTTP/2 refuses without a look.
#[derive(Clone, Copy)]
enum Refusal {
    /// One request; others may go on beside it.
    Stream,
    /// All that came last on this connection, which ends.
    Connection,
}

impl Unanswered {
    fn new(
        address: EndpointAddress,
        http: HttpVersion,
        mut error: TrySendError<Request<RequestBody>>,
    ) -> Self {
        let unsent = error.take_message();
        let source = error.into_error();
        let refusal = refusal(&source);
        let error = match cause(&source) {
            Some(cause) if is_exhausted(cause) => UpstreamError::Exhausted { address, source },
            // What came is no HTTP/2, as we found out.
            Some(cause) if cause.is_library() => UpstreamError::Malformed { address, http, source },
            Some(cause) if cause.is_remote() && cause.is_reset() => {
                UpstreamError::ResetStream { address, source }
            }
            None if source.is_parse() => UpstreamError::Malformed { address, http, source },
            _ => UpstreamError::Reset { address, source },
        };
        Self { error, unsent, refusal }
    }
}

/// The same request once more, if it has no body: then nothing of it can be used up. Boxed: rare, and
/// every request would be larger.
fn copy(request: &Request<RequestBody>) -> Option<Box<Request<RequestBody>>> {
    request.body().is_end_stream().then(|| {
        let mut copy = Request::new(RequestBody::none());
        *copy.method_mut() = request.method().clone();
        *copy.uri_mut() = request.uri().clone();
        *copy.version_mut() = request.version();
        *copy.headers_mut() = request.headers().clone();
        Box::new(copy)
    })
}

/// Whether the endpoint refused the stream, or ended the connection before it looked at it: then
/// any request may be sent again (RFC 9113 section 8.7).
fn refusal(error: &hyper::Error) -> Option<Refusal> {
    let cause = cause(error).filter(|cause| cause.is_remote())?;
    if cause.is_reset() && cause.reason() == Some(h2::Reason::REFUSED_STREAM) {
        return Some(Refusal::Stream);
    }
    // Those that it did look at end in other ways.
    cause.is_go_away().then_some(Refusal::Connection)
}

/// Counts each permit once, however its request ends and even if its client leaves.
struct Fate<'a> {
    counts: &'a Arc<ThreadCounts>,
    ended: Ended,
}

#[derive(Clone, Copy)]
enum Ended {
    Abandoned,
    NotConnected,
    Sent,
}

impl Drop for Fate<'_> {
    fn drop(&mut self) {
        match self.ended {
            Ended::Abandoned => self.counts.upstream_abandoned.add(),
            Ended::NotConnected => self.counts.upstream_connect_failures.add(),
            Ended::Sent => self.counts.upstream_requests.add(),
        }
    }
}
