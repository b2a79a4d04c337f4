//! Requests that ask to switch protocols, and answers that do.

use std::rc::Rc;

use base64::{Engine, prelude::BASE64_STANDARD};
use decision::standing::Standing;
use http::{
    HeaderName, HeaderValue, Method, Response, StatusCode, Version, header, request::Parts,
};
use hyper::{ext::Protocol, upgrade::OnUpgrade};
use hyper_util::rt::TokioIo;

use crate::{
    download::ResponseBody,
    ending::TunnelEnding,
    headers,
    id::Ids,
    ongoing::Kind,
    origin::Origin,
    record::Case,
    tunnel::Tunnel,
    upstream::{Answer, UpstreamError},
    worker::Worker,
};

const WEBSOCKET: &[u8] = b"websocket";
const WEBSOCKET_KEY: HeaderName = HeaderName::from_static("sec-websocket-key");

/// Reads the wish of an HTTP/2 stream to become a WebSocket (RFC 8441): from here on it is the
/// request of HTTP/1.1 that means the same (RFC 6455 section 4.1). Gives where the stream goes on.
pub(crate) fn wish(parts: &mut Parts, ids: &Ids) -> Option<OnUpgrade> {
    if parts.method != Method::CONNECT || parts.version != Version::HTTP_2 {
        return None;
    }
    let protocol = parts.extensions.remove::<Protocol>()?;
    if !protocol.as_str().eq_ignore_ascii_case("websocket") {
        return None;
    }
    let wish = parts.extensions.remove::<OnUpgrade>()?;
    parts.method = Method::GET;
    headers::switch(&mut parts.headers, &HeaderValue::from_static("websocket"));
    // It is to be different each time, not secret (RFC 6455 section 10.3).
    let key = [ids.number().to_ne_bytes(), ids.number().to_ne_bytes()].concat();
    if let Ok(key) = HeaderValue::try_from(BASE64_STANDARD.encode(key)) {
        parts.headers.insert(WEBSOCKET_KEY, key);
    }
    Some(wish)
}

/// What an answer of 101 is judged by.
pub(super) struct Switch<'a> {
    /// The protocol that the client asked for.
    pub(super) asked: Option<HeaderValue>,
    /// Where an HTTP/2 stream goes on.
    pub(super) wish: Option<OnUpgrade>,
    pub(super) standing: Standing,
    pub(super) origin: &'a Rc<Origin>,
    pub(super) case: &'a Case,
}

/// The client's answer if the upstream switched to the protocol that was asked for.
pub(super) fn switch(
    worker: &Rc<Worker>,
    mut answer: Answer,
    switch: Switch<'_>,
) -> Result<Response<ResponseBody>, UpstreamError> {
    let Switch { asked, wish, standing, origin, case } = switch;
    let upstream = hyper::upgrade::on(&mut answer.response);
    let (mut parts, _, lease) = answer.into_parts();
    let mut named = parts.headers.get_all(header::UPGRADE).iter();
    let (named, further) = (named.next(), named.next());
    let same = |asked: &HeaderValue| {
        let named = named.filter(|_| further.is_none());
        named.is_some_and(|named| named.as_bytes().eq_ignore_ascii_case(asked.as_bytes()))
    };
    let Some(protocol) = asked.filter(same) else {
        return Err(UpstreamError::Switched { address: lease.address });
    };
    headers::of_response(&mut parts.headers, false, parts.status);
    case.asked(lease.address.socket());
    case.first_byte(origin.progress.progressed());
    let is_websocket = protocol.as_bytes().eq_ignore_ascii_case(WEBSOCKET);
    case.becomes_tunnel();
    let told = Rc::new(case.detached());
    told.answered(if wish.is_some() { StatusCode::OK } else { StatusCode::SWITCHING_PROTOCOLS });
    let enrolled = worker.enroll(Kind::Tunnel, Rc::clone(&told), standing);
    let ending = TunnelEnding::new(worker, told);
    let tunnel = Box::new(Tunnel::new((upstream, lease), ending, enrolled, is_websocket));
    let mut response = Response::new(ResponseBody::empty());
    if let Some(wish) = wish {
        parts.headers.remove(header::SEC_WEBSOCKET_ACCEPT);
        let (worker, progress) = (Rc::clone(worker), Rc::clone(&origin.progress));
        let tasks = worker.tasks.clone();
        drop(tasks.spawn_local(async move {
            // Without a stream there is nobody to speak to.
            if let Ok(client) = wish.await {
                tunnel.run(TokioIo::new(client), worker, progress).await;
            }
        }));
    } else {
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        headers::switch(&mut parts.headers, &protocol);
        origin.tunnel.set(Some(tunnel));
    }
    *response.headers_mut() = parts.headers;
    Ok(response)
}
