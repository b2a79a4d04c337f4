//! One exchange as a span, named by the semantic conventions for HTTP servers
//! (<https://opentelemetry.io/docs/specs/semconv/http/http-spans/>).

use std::{
    fmt::Display,
    time::{SystemTime, UNIX_EPOCH},
};

use dataplane::{Access, End};
use decision::refs::ResourceRef;
use http::{Method, Version};
use serde_json::{Value, json};

/// `SPAN_KIND_SERVER`.
const SERVER: u8 = 2;
/// `STATUS_CODE_ERROR`.
const ERROR: u8 = 2;

/// What is told of an exchange; nothing if it belongs to no trace that is told of.
pub(super) fn span(access: Access<'_>) -> Option<Value> {
    let outcome = access.outcome;
    let trace = outcome.trace?;
    let method = method(&outcome.method);
    let name = match &outcome.route {
        Some(route) => format!("{method} {}", route.path),
        None => method.to_owned(),
    };
    let error = error(&access);
    let mut span = json!({
        "traceId": trace.id.to_string(),
        "spanId": trace.span?.to_string(),
        "name": name,
        "kind": SERVER,
        "startTimeUnixNano": nanoseconds(outcome.at),
        "endTimeUnixNano": nanoseconds(outcome.at + outcome.duration),
        "attributes": attributes(&access, method, error.as_deref()),
    });
    if let (Some(parent), Some(span)) = (trace.parent, span.as_object_mut()) {
        span.insert("parentSpanId".to_owned(), parent.to_string().into());
    }
    if let (Some(_), Some(span)) = (error, span.as_object_mut()) {
        span.insert("status".to_owned(), json!({"code": ERROR}));
    }
    Some(span)
}

fn attributes(access: &Access<'_>, method: &str, error: Option<&str>) -> Vec<Value> {
    let Access { outcome, host, path, .. } = access;
    let refusal = outcome.refusal.as_ref();
    let scheme = if outcome.tls.is_some() { "https" } else { "http" };
    let unknown = (method != outcome.method.as_str()).then_some(&outcome.method);
    let texts = [
        text("http.request.method", Some(method)),
        text("http.request.method_original", unknown),
        text("url.scheme", Some(scheme)),
        text("url.path", Some(path)),
        text("server.address", (!host.is_empty()).then_some(host)),
        text("client.address", Some(outcome.client)),
        text("network.protocol.version", Some(version(outcome.version))),
        text("http.route", outcome.route.as_ref().map(|route| &route.path)),
        text("error.type", error),
        text("whygate.request.id", Some(outcome.id)),
        text("whygate.end", Some(outcome.end.as_str())),
        text("whygate.route", outcome.route.as_ref()),
        text("whygate.upstream.address", outcome.upstream),
        text("whygate.denial.code", refusal.map(|refusal| refusal.code)),
        text("whygate.policy", refusal.and_then(|it| it.policy.as_ref()).map(ResourceRef::path)),
        text("whygate.rule", refusal.and_then(|refusal| refusal.rule.as_deref())),
    ];
    let numbers = [
        number("http.response.status_code", outcome.status.map(|status| status.as_u16().into())),
        number("http.request.body.size", Some(outcome.received)),
        number("http.response.body.size", Some(outcome.sent)),
    ];
    texts.into_iter().chain(numbers).flatten().collect()
}

fn text(name: &str, value: Option<impl Display>) -> Option<Value> {
    value.map(|value| json!({"key": name, "value": {"stringValue": value.to_string()}}))
}

/// Numbers of 64 bits are texts in JSON, because not every reader has so many bits.
fn number(name: &str, value: Option<u64>) -> Option<Value> {
    value.map(|value| json!({"key": name, "value": {"intValue": value.to_string()}}))
}

/// What went wrong on our side or behind us. That a client is refused is no error of the server.
fn error(access: &Access<'_>) -> Option<String> {
    let outcome = access.outcome;
    let failed = outcome.status.is_some_and(|status| status.is_server_error());
    if !failed && outcome.end == End::Complete {
        return None;
    }
    let code = outcome.refusal.as_ref().map(|refusal| refusal.code.to_string());
    let status = outcome.status.filter(|_| failed).map(|status| status.as_u16().to_string());
    Some(code.or(status).unwrap_or_else(|| outcome.end.as_str().to_owned()))
}

/// A method of RFC 9110 or RFC 5789; any other is `_OTHER`, so that nobody can make up names.
fn method(method: &Method) -> &str {
    match *method {
        Method::GET
        | Method::HEAD
        | Method::POST
        | Method::PUT
        | Method::DELETE
        | Method::CONNECT
        | Method::OPTIONS
        | Method::TRACE
        | Method::PATCH => method.as_str(),
        _ => "_OTHER",
    }
}

fn version(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "1.0",
        Version::HTTP_2 => "2",
        _ => "1.1",
    }
}

fn nanoseconds(at: SystemTime) -> String {
    at.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos().to_string()
}
