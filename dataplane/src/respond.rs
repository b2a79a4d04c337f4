//! Answers of our own: refusals in the form that the client reads, and redirects.

use std::fmt::Write;

use bytes::Bytes;
use decision::{
    canonical::{Line, Scheme},
    code::Code,
    decide::Cleared,
    disclosure::Disclosure,
    host::Host,
    options::{Destination, Redirect},
    route::Route,
};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};

use crate::{
    download::ResponseBody,
    facts::Form,
    headers::is_encrypted_before,
    id::RequestId,
    refused::{Refused, Unserved},
};

/// Names the request; on every response.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("whygate-request-id");
/// Names the code of a refusal, where policies let the client know it.
const DENIAL_CODE: HeaderName = HeaderName::from_static("whygate-denial-code");

/// When an endpoint may have room again (RFC 9110 section 10.2.3): as soon as a client can say it.
const SOON: HeaderValue = HeaderValue::from_static("1");

impl Refused {
    /// What the client may know of it.
    fn told(&self) -> Told<'_> {
        match self {
            Self::Denied(denial) => {
                let code = (denial.disclosure >= Disclosure::Code).then(|| denial.code());
                let reason = denial.disclosure >= Disclosure::Reason;
                Told {
                    status: denial.code().status(),
                    code,
                    sentence: reason.then(|| denial.client_sentence()),
                    hint: denial.hint.as_deref().filter(|_| reason),
                }
            }
            Self::Unserved(Unserved { code, .. }) => Told {
                status: code.status(),
                code: Some(*code),
                sentence: Some(code.client_sentence()),
                hint: None,
            },
        }
    }
}

struct Told<'a> {
    status: StatusCode,
    code: Option<Code>,
    sentence: Option<&'static str>,
    hint: Option<&'a str>,
}

/// The answer to a refused request. Nothing of the request's own text is in it.
pub(crate) fn refused(refused: &Refused, form: Form, id: RequestId) -> Response<ResponseBody> {
    let told = refused.told();
    let mut response = match form {
        Form::Grpc => grpc(&told),
        Form::Problem => with_body("application/problem+json", problem(&told, id)),
        Form::Html => with_body("text/html; charset=utf-8", html(&told, id)),
        Form::Text => with_body("text/plain; charset=utf-8", text(&told, id)),
    };
    if form != Form::Grpc {
        *response.status_mut() = told.status;
    }
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(code) = told.code {
        headers.insert(DENIAL_CODE, HeaderValue::from_static(code.as_str()));
    }
    if told.code == Some(Code::UpstreamOverloaded) {
        headers.insert(header::RETRY_AFTER, SOON);
    }
    if let Refused::Denied(denial) = refused
        && let Some(challenge) = denial.challenge()
    {
        headers.insert(header::WWW_AUTHENTICATE, challenge);
    }
    response
}

/// The answer to a client that is gone: nobody reads it.
pub(crate) fn to_nobody() -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::empty());
    *response.status_mut() = StatusCode::BAD_REQUEST;
    response
}

/// The answer to a request in plain HTTP for a host with a certificate (RFC 9110 section 15.4.9).
pub(crate) fn redirect(line: &Line, port: Option<u16>) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::empty());
    *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
    if let Some(location) = location(Scheme::Https, &line.host, line, port) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

/// The answer of a route that sends its clients elsewhere.
pub(crate) fn moved(cleared: &Cleared, port: Option<u16>) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::empty());
    let Some(Redirect { to, status }) = cleared.redirect() else { return response };
    *response.status_mut() = *status;
    let (line, headers) = (cleared.request().line(), cleared.request().headers());
    let location = match to {
        Destination::Url(url) => Some(url.clone()),
        Destination::Host(host) if is_encrypted_before(headers, line) => {
            location(Scheme::Https, host, line, None)
        }
        Destination::Host(host) => location(line.connection.scheme, host, line, port),
    };
    if let Some(location) = location {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

/// The target of a request on a host. `port` is that of https.
fn location(scheme: Scheme, host: &Host, line: &Line, port: Option<u16>) -> Option<HeaderValue> {
    let target = &line.target;
    let location = match (scheme, port) {
        (Scheme::Http, _) => format!("http://{host}{target}"),
        (Scheme::Https, None | Some(443)) => format!("https://{host}{target}"),
        (Scheme::Https, Some(port)) => format!("https://{host}:{port}{target}"),
    };
    // A canonical host and target are printable ASCII, which every header may hold.
    HeaderValue::try_from(location).ok()
}

/// The answer to a browser that asks whether pages of another origin may call.
pub(crate) fn preflight(route: &Route) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    if let Some(cors) = route.options.as_deref().and_then(|options| options.cors.as_ref()) {
        cors.permit(response.headers_mut());
    }
    response
}

fn with_body(media: &'static str, body: String) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::full(Bytes::from(body)));
    let headers = response.headers_mut();
    // For those that follow, too.
    headers.reserve(6);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// RFC 9457. Written by hand, because it is what clients who are refused over and over cost us; all
/// but the hint are texts of ours, in which nothing needs escaping.
fn problem(told: &Told<'_>, id: RequestId) -> String {
    let mut json = String::with_capacity(256);
    json.push_str("{\"type\":\"");
    json.push_str(told.code.map_or("about:blank", |_| "https://whygate.dev/codes/"));
    json.push_str(told.code.map_or("", Code::as_str));
    json.push_str("\",\"title\":\"");
    json.push_str(title(told.status));
    json.push_str("\",\"status\":");
    json.push_str(told.status.as_str());
    for (name, value) in [("code", told.code.map(Code::as_str)), ("detail", told.sentence)] {
        if let Some(value) = value {
            json.extend([",\"", name, "\":\"", value, "\""]);
        }
    }
    if let Some(hint) = told.hint.and_then(|hint| serde_json::to_string(hint).ok()) {
        json.extend([",\"hint\":", &hint]);
    }
    json.push_str(",\"requestId\":\"");
    json.extend(id.digits().map(char::from));
    json.push_str("\"}\n");
    json
}

fn text(told: &Told<'_>, id: RequestId) -> String {
    let mut text = format!("{} {}\n", told.status.as_u16(), title(told.status));
    for line in sentences(told) {
        text.push_str(line);
        text.push('\n');
    }
    // Writing to a String cannot fail.
    let _ = writeln!(text, "request {id}");
    text
}

fn html(told: &Told<'_>, id: RequestId) -> String {
    let (status, title) = (told.status.as_u16(), title(told.status));
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{status} {title}</title></head>\n<body><h1>{status} {title}</h1>\n"
    );
    for line in sentences(told) {
        page.push_str("<p>");
        escape_html(line, &mut page);
        page.push_str("</p>\n");
    }
    // Writing to a String cannot fail.
    let _ = writeln!(page, "<p>Request <code>{id}</code></p></body></html>");
    page
}

fn sentences<'a>(told: &Told<'a>) -> impl Iterator<Item = &'a str> {
    [told.code.map(Code::as_str), told.sentence, told.hint].into_iter().flatten()
}

fn escape_html(text: &str, page: &mut String) {
    for character in text.chars() {
        match character {
            '&' => page.push_str("&amp;"),
            '<' => page.push_str("&lt;"),
            '>' => page.push_str("&gt;"),
            '"' => page.push_str("&quot;"),
            '\'' => page.push_str("&#39;"),
            other => page.push(other),
        }
    }
}

/// A response of nothing but trailers, which gRPC lets be headers.
fn grpc(told: &Told<'_>) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::empty());
    let message = told.sentence.or(told.code.map(Code::as_str)).unwrap_or("refused");
    let headers: &mut HeaderMap = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert("grpc-status", HeaderValue::from_static(grpc_status(told.status)));
    // Our sentences are printable ASCII without a percent sign, so nothing needs escaping.
    headers.insert("grpc-message", HeaderValue::from_static(message));
    response
}

/// The status that gRPC's own mapping from HTTP gives.
fn grpc_status(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 => "16",
        403 => "7",
        404 => "12",
        429 | 502 | 503 | 504 => "14",
        400 | 408 | 414 | 421 | 431 => "13",
        _ => "2",
    }
}

fn title(status: StatusCode) -> &'static str {
    status.canonical_reason().unwrap_or("Refused")
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use decision::denial::{Denial, DenialReason};

    use super::*;
    use crate::id::Ids;

    fn told(disclosure: Disclosure, hint: &str) -> Refused {
        let reason = DenialReason::RuleMatched { matched: "ip holds 203.0.113.9".into() };
        let mut denial = Denial::of_request(reason);
        (denial.disclosure, denial.hint) = (disclosure, Some(hint.into()));
        Refused::Denied(Box::new(denial))
    }

    fn id() -> RequestId {
        Ids::new(1).next(UNIX_EPOCH)
    }

    #[test]
    fn the_client_learns_what_disclosure_allows_and_no_more() {
        let bodies = [Disclosure::None, Disclosure::Code, Disclosure::Reason]
            .map(|disclosure| problem(&told(disclosure, "Ask ana.").told(), id()));
        let knows = |text: &str| bodies.each_ref().map(|body| body.contains(text));
        assert_eq!(knows("RuleMatched"), [false, true, true]);
        assert_eq!(knows("Ask ana."), [false, false, true]);
        assert_eq!(knows("blocked here"), [false, false, true]);
        assert_eq!(knows("203.0.113.9"), [false, false, false]);
        assert_eq!(knows("\"requestId\":\"0000000000"), [true, true, true]);
    }

    #[test]
    fn a_problem_document_can_be_read_whatever_its_hint() {
        let hint = "Ask \"ana\"\n\\ \u{1} 🦀";
        let document = problem(&told(Disclosure::Reason, hint).told(), id());
        let document: serde_json::Value = serde_json::from_str(&document).unwrap();
        assert_eq!((&document["status"], &document["hint"]), (&403.into(), &hint.into()));
        assert_eq!(document["type"], "https://whygate.dev/codes/RuleMatched");
        for code in Code::ALL {
            let texts = [code.as_str(), code.client_sentence(), title(code.status())];
            let escaped = |text: &str| serde_json::to_string(text).unwrap().len() > text.len() + 2;
            assert!(!texts.into_iter().any(escaped), "{code}");
        }
    }

    #[test]
    fn a_hint_cannot_break_out_of_the_page() {
        let page = html(&told(Disclosure::Reason, "<script>'\"&").told(), id());
        assert!(page.contains("&lt;script&gt;&#39;&quot;&amp;"), "{page}");
    }

    #[test]
    fn a_refused_grpc_call_is_a_200_with_its_status_in_the_headers() {
        let response = refused(&told(Disclosure::Code, ""), Form::Grpc, id());
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["grpc-status"], "7");
    }
}
