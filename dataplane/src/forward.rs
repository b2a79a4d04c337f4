//! A permitted request on its way to an upstream, and the answer on its way back.

pub(crate) mod switch;

use std::rc::Rc;

use decision::{
    canonical::Line,
    host::Host,
    options::{cors::Cors, headers::Message},
    standing::Standing,
    time::Timestamp,
    transport::HttpVersion,
};
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header,
    uri::{PathAndQuery, Scheme},
};
use http_body::Body;
use hyper::{body::Incoming, upgrade::OnUpgrade};

use self::switch::{Switch, switch};
use crate::{
    compress::Place,
    download::{Download, ResponseBody},
    headers,
    offer::Offer,
    origin::Origin,
    quota::Permit,
    record::Case,
    refused::{Refused, Unserved},
    respond,
    trace::Onward,
    transfer::{Source, Transfer},
    upload::{Bounds, RequestBody, Upload},
    upstream::{Again, Choice, UpstreamError},
    waits::Waits,
    worker::Worker,
};

/// Sends a request to an upstream. Without a permit nothing gets there.
pub(crate) async fn forward(
    worker: Rc<Worker>,
    permit: Permit,
    choice: Choice,
    exchange: Exchange,
) -> Result<Response<ResponseBody>, Refused> {
    let Exchange { body, target, wish, onward, origin, case, at } = exchange;
    let limits = &worker.settings.limits;
    let waits = Waits::of(limits, case.options());
    if case.options().is_some() {
        origin.progress.allow(waits.stall(limits.body_idle));
    }
    let limit = case.options().and_then(|options| options.body_limit.as_ref());
    let (http, affinity) = (choice.transport.http, choice.affinity.clone());
    let is_multiplexed = http == HttpVersion::Two;
    let has_trailers = is_multiplexed && origin.progress.is_multiplexed();
    let trailers = has_trailers.then(|| case.trailers(Message::Request));
    let bounds = Bounds { bytes: limit.map(|limit| limit.bytes), idle: waits.idle, trailers };
    let may_switch = body.as_ref().is_some_and(Incoming::is_end_stream) && !is_multiplexed;
    let (body, upload) = match body {
        Some(body) => RequestBody::new(body, (&worker.settings, &origin.progress), bounds, &case),
        None => (RequestBody::none(), None),
    };
    let is_head = case.witness.method == Method::HEAD;
    let (used, request) = permit.spend();
    let (mut standing, mut headers) = Standing::split(request, at);
    onward.write(&mut headers);
    let offer = Offer::of(case.options(), standing.line(), &headers);
    let asked = standing.line().upgrade.clone().filter(|_| may_switch);
    let mut request =
        head(standing.line(), headers, body, asked.as_ref(), (&worker, &origin, &case));
    if let Some(target) = target {
        *request.uri_mut() = Uri::from(target);
    }
    if is_multiplexed {
        let host = host_of(&case).unwrap_or(&standing.line().host);
        multiplex(&mut request, host, choice.transport.tls.is_some());
    }
    let mut again = || worker.bench().again(&mut standing, &case);
    let waiting = (waits, &mut again as Again<'_>);
    match worker.upstream.send(used, choice, request, upload.as_deref(), waiting).await {
        Ok(answer) if answer.response.status() == StatusCode::SWITCHING_PROTOCOLS => {
            let asking = Switch { asked, wish, standing, origin: &origin, case: &case };
            let switched = switch(&worker, answer, asking);
            switched.or_else(|error| failed(error, None, &case))
        }
        // To the client it would mean that the stream is a WebSocket now (RFC 8441 section 5).
        Ok(answer) if wish.is_some() && answer.response.status().is_success() => {
            let (parts, _, lease) = answer.into_parts();
            let (address, status) = (lease.address, parts.status);
            failed(UpstreamError::NotSwitched { address, status }, None, &case)
        }
        Ok(answer) => {
            if let Some(upload) = &upload {
                upload.response_began();
            }
            case.first_byte(origin.progress.progressed());
            let (mut parts, incoming, lease) = answer.into_parts();
            headers::of_response(&mut parts.headers, is_head, parts.status);
            if let Some(options) = case.options() {
                if options.cors.is_some() {
                    Cors::silence(&mut parts.headers);
                }
                options.response_headers.apply(&mut parts.headers);
            }
            if let Some(cookie) = affinity.and_then(|affinity| affinity.cookie(lease.address)) {
                parts.headers.append(header::SET_COOKIE, cookie);
            }
            let trailers = has_trailers.then(|| case.trailers(Message::Response));
            case.asked(lease.address.socket());
            let source = Source { incoming, lease, upload, standing, trailers };
            let transfer = Transfer::new(source, Rc::clone(&worker), case, waits);
            let download = Download::new(transfer);
            let offer = offer.map(|offer| (offer, worker.compressed.take()));
            Ok(downstream(parts.status, parts.headers, download, offer))
        }
        Err(error) => failed(error, upload.as_deref(), &case),
    }
}

/// What a permit is used for.
pub(crate) struct Exchange {
    /// Nothing if it stays here.
    pub(crate) body: Option<Incoming>,
    /// What the upstream gets in the place of the request's target.
    pub(crate) target: Option<PathAndQuery>,
    /// Where an HTTP/2 stream goes on if it becomes a tunnel.
    pub(crate) wish: Option<OnUpgrade>,
    /// What the upstream gets to know of the trace.
    pub(crate) onward: Onward,
    pub(crate) origin: Rc<Origin>,
    pub(crate) case: Rc<Case>,
    /// When it is judged.
    pub(crate) at: Timestamp,
}

/// The request as the upstream gets it: the canonical one, with headers of ours.
fn head(
    line: &Line,
    mut headers: HeaderMap,
    body: RequestBody,
    upgrade: Option<&HeaderValue>,
    (worker, origin, case): (&Worker, &Origin, &Case),
) -> Request<RequestBody> {
    if let Some(options) = case.options() {
        options.request_headers.apply(&mut headers);
    }
    let port = worker.settings.redirect_port;
    headers::of_request(&mut headers, line, &origin.peer, case.id, port);
    if let Some(host) = host_of(case) {
        headers::tell_host(&mut headers, host);
    }
    headers::frame(&mut headers, &line.method, &body);
    if let Some(protocol) = upgrade {
        headers::switch(&mut headers, protocol);
    }
    let mut request = Request::new(body);
    *request.method_mut() = line.method.clone();
    *request.uri_mut() = Uri::from(line.target.clone());
    *request.version_mut() = Version::HTTP_11;
    *request.headers_mut() = headers;
    request
}

/// The host that the upstream is told, if its route asks for another than the client's.
fn host_of(case: &Case) -> Option<&Host> {
    case.options()?.upstream_host.as_ref()
}

/// Makes a request one of HTTP/2 (RFC 9113 section 8.3.1).
fn multiplex(request: &mut Request<RequestBody>, host: &Host, encrypted: bool) {
    let scheme = if encrypted { Scheme::HTTPS } else { Scheme::HTTP };
    let target = Uri::builder().scheme(scheme).authority(host.as_str());
    let path = request.uri().path_and_query().cloned();
    let path = path.unwrap_or(PathAndQuery::from_static("/"));
    // A canonical host is an authority, and a target goes with any.
    if let Ok(target) = target.path_and_query(path).build() {
        *request.uri_mut() = target;
    }
    *request.version_mut() = Version::HTTP_2;
    headers::multiplex(request.headers_mut());
}

fn downstream(
    status: StatusCode,
    mut headers: HeaderMap,
    download: Download,
    offer: Option<(Offer, Option<Place>)>,
) -> Response<ResponseBody> {
    let length = download.size_hint().exact();
    let place = offer.and_then(|(offer, place)| {
        let is_compressed = offer.write(status, &mut headers, length, place.is_some());
        place.filter(|_| is_compressed)
    });
    let body = match place {
        Some(place) => ResponseBody::compressed(download, place),
        None => ResponseBody::from_upstream(download),
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// Whose fault it was: a client that stops sending makes the upstream's connection fail, too.
fn failed(
    error: UpstreamError,
    upload: Option<&Upload>,
    case: &Case,
) -> Result<Response<ResponseBody>, Refused> {
    if let Some(failure) = upload.and_then(Upload::failure) {
        return match failure.denial(case) {
            Some(denial) => Err(Refused::Denied(denial)),
            None => Ok(respond::to_nobody()),
        };
    }
    case.asked(error.address().socket());
    if let UpstreamError::Revoked { refused, .. } = error {
        return Err(*refused);
    }
    let unserved = Unserved::new(error.code(), case.route().cloned(), error.to_string());
    let remedy = error.remedy().map(Into::into);
    Err(Refused::Unserved(Unserved { remedy, ..unserved }))
}
