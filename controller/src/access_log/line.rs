//! One line of the access log. The names of the fields are promised: programs read them.

use std::{
    fmt::{self, Display, Write as _},
    io::Write as _,
    time::{Duration, SystemTime},
};

use dataplane::{Access, Outcome, Refusal};
use decision::escape::quoted;
use http::Version;
use jiff::Timestamp;
use serde::{Serialize, Serializer};

/// Longest host and target in a line for people, in bytes.
const TARGET: usize = 2_048;

/// Parameters of queries that hold credentials by their very name (`access_token`: RFC 6750 section
/// 2.3). Their values are never told.
const CREDENTIALS: [&str; 6] =
    ["access_token", "api_key", "apikey", "id_token", "password", "token"];

/// What a line looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Form {
    pub(super) is_json: bool,
    pub(super) queries: bool,
}

/// Appends a line with its end.
pub(super) fn append(lines: &mut Vec<u8>, access: Access<'_>, form: Form) {
    let query = access.query.filter(|_| form.queries).map(without_credentials);
    let entry = Entry { access, query };
    if form.is_json {
        // Neither a text nor a number can fail to be written to memory.
        let _ = serde_json::to_writer(&mut *lines, &Fields::of(&entry));
    } else {
        let _ = write!(lines, "{entry}");
    }
    lines.push(b'\n');
}

struct Entry<'a> {
    access: Access<'a>,
    query: Option<String>,
}

#[derive(Serialize)]
struct Fields<'a> {
    #[serde(serialize_with = "shown")]
    timestamp: Timestamp,
    target: &'static str,
    #[serde(rename = "request.id", serialize_with = "shown")]
    id: dataplane::RequestId,
    #[serde(rename = "trace.id", skip_serializing_if = "Option::is_none")]
    trace: Option<String>,
    #[serde(rename = "span.id", skip_serializing_if = "Option::is_none")]
    span: Option<String>,
    #[serde(rename = "request.method")]
    method: &'a str,
    #[serde(rename = "request.host")]
    host: &'a str,
    #[serde(rename = "request.path")]
    path: &'a str,
    #[serde(rename = "request.query", skip_serializing_if = "Option::is_none")]
    query: Option<&'a str>,
    #[serde(rename = "request.bytes")]
    received: u64,
    #[serde(rename = "response.status", skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(rename = "response.bytes")]
    sent: u64,
    end: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    route: Option<String>,
    #[serde(rename = "denial.code", skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<&'a str>,
    #[serde(rename = "client.ip", serialize_with = "shown")]
    client: std::net::IpAddr,
    #[serde(rename = "upstream.addr", skip_serializing_if = "Option::is_none")]
    upstream: Option<std::net::SocketAddr>,
    #[serde(rename = "upstream.first_byte_ms", skip_serializing_if = "Option::is_none")]
    first_byte: Option<f64>,
    protocol: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls: Option<&'static str>,
    duration_ms: f64,
}

impl<'a> Fields<'a> {
    fn of(Entry { access, query }: &'a Entry<'a>) -> Self {
        let Access { outcome, host, path, .. } = *access;
        let refusal = outcome.refusal.as_ref();
        Self {
            timestamp: timestamp(outcome.at),
            target: "access",
            id: outcome.id,
            trace: outcome.trace.map(|trace| trace.id.to_string()),
            span: outcome.trace.and_then(|trace| trace.span).map(|span| span.to_string()),
            method: outcome.method.as_str(),
            host,
            path,
            query: query.as_deref(),
            received: outcome.received,
            status: outcome.status.map(|status| status.as_u16()),
            sent: outcome.sent,
            end: outcome.end.as_str(),
            route: outcome.route.as_ref().map(ToString::to_string),
            code: refusal.map(|refusal| refusal.code.as_str()),
            policy: refusal.and_then(policy),
            rule: refusal.and_then(|refusal| refusal.rule.as_deref()),
            client: outcome.client,
            upstream: outcome.upstream,
            first_byte: outcome.first_byte.map(milliseconds),
            protocol: protocol(outcome.version),
            tls: outcome.tls,
            duration_ms: milliseconds(outcome.duration),
        }
    }
}

impl Display for Entry<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Access { outcome, host, path, .. } = self.access;
        let mut target = format!("{host}{path}");
        if let Some(query) = &self.query {
            target.push('?');
            target.push_str(query);
        }
        let Outcome { at, client, status, method, duration, sent, received, .. } = outcome;
        write!(f, "{} {client} {method} {} ", timestamp(*at), quoted(&target, TARGET))?;
        match status {
            Some(status) => write!(f, "{}", status.as_u16())?,
            None => f.write_char('-')?,
        }
        write!(f, " {}", outcome.end.as_str())?;
        if let Some(refusal) = &outcome.refusal {
            write!(f, " {}", refusal.code)?;
            if let Some(policy) = policy(refusal) {
                write!(f, " policy={policy}")?;
            }
            if let Some(rule) = &refusal.rule {
                write!(f, " rule={}", quoted(rule, TARGET))?;
            }
        }
        write!(f, " {}ms in={received} out={sent}", milliseconds(*duration))?;
        if let Some(upstream) = outcome.upstream {
            write!(f, " upstream={upstream}")?;
        }
        if let Some(first_byte) = outcome.first_byte {
            write!(f, " first_byte={}ms", milliseconds(first_byte))?;
        }
        if let Some(route) = &outcome.route {
            write!(f, " route=`{route}`")?;
        }
        write!(f, " {}", protocol(outcome.version))?;
        if let Some(tls) = outcome.tls {
            write!(f, " {tls}")?;
        }
        write!(f, " id={}", outcome.id)?;
        match outcome.trace {
            Some(trace) => write!(f, " trace={}", trace.id),
            None => Ok(()),
        }
    }
}

fn shown<S: Serializer>(value: &impl Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

/// `NAMESPACE/NAME`, or the bare name.
fn policy(refusal: &Refusal) -> Option<String> {
    refusal.policy.as_ref().map(|policy| policy.path().to_string())
}

/// To the millisecond; a clock that is out of all bounds tells 1970.
fn timestamp(at: SystemTime) -> Timestamp {
    let at = Timestamp::try_from(at).unwrap_or_default();
    at.round(jiff::Unit::Millisecond).unwrap_or(at)
}

/// To the microsecond.
fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2",
        _ => "HTTP/1.1",
    }
}

fn without_credentials(query: &str) -> String {
    let parameters = query.split('&').map(|parameter| match parameter.split_once('=') {
        Some((name, _)) if CREDENTIALS.iter().any(|it| name.eq_ignore_ascii_case(it)) => {
            format!("{name}=REDACTED")
        }
        Some(_) | None => parameter.to_owned(),
    });
    parameters.collect::<Vec<_>>().join("&")
}

#[cfg(test)]
mod tests {
    use dataplane::End;
    use decision::{
        code::Code,
        refs::{Kind, ResourceRef},
    };
    use http::{Method, StatusCode};

    use super::*;

    fn outcome() -> Outcome {
        Outcome {
            id: dataplane::RequestId::from(7),
            trace: None,
            at: SystemTime::UNIX_EPOCH + Duration::from_micros(1_234_500),
            duration: Duration::from_nanos(1_234_567),
            method: Method::GET,
            version: Version::HTTP_2,
            tls: Some("TLSv1.3"),
            client: [203, 0, 113, 7].into(),
            status: Some(StatusCode::FORBIDDEN),
            end: End::Complete,
            route: None,
            refusal: Some(Refusal {
                code: Code::AddressNotAllowed,
                policy: Some(ResourceRef::new(Kind::AccessPolicy, "shop", "office")),
                rule: Some("vpn".into()),
            }),
            upstream: None,
            first_byte: None,
            sent: 231,
            received: 0,
        }
    }

    fn line(outcome: &Outcome, path: &str, query: Option<&str>, form: Form) -> String {
        let mut lines = Vec::new();
        append(&mut lines, Access { outcome, host: "shop.test", path, query }, form);
        String::from_utf8(lines).unwrap()
    }

    const JSON: Form = Form { is_json: true, queries: false };
    const TEXT: Form = Form { is_json: false, queries: false };

    #[test]
    fn a_line_says_who_asked_for_what_and_what_became_of_it() {
        let id = "00000000000000000000000007";
        assert_eq!(
            line(&outcome(), "/a", Some("b=c"), JSON),
            format!(
                r#"{{"timestamp":"1970-01-01T00:00:01.235Z","target":"access","request.id":"{id}","request.method":"GET","request.host":"shop.test","request.path":"/a","request.bytes":0,"response.status":403,"response.bytes":231,"end":"complete","denial.code":"AddressNotAllowed","policy":"shop/office","rule":"vpn","client.ip":"203.0.113.7","protocol":"HTTP/2","tls":"TLSv1.3","duration_ms":1.235}}"#
            ) + "\n"
        );
        assert_eq!(
            line(&outcome(), "/a", Some("b=c"), TEXT),
            format!(
                "1970-01-01T00:00:01.235Z 203.0.113.7 GET `shop.test/a` 403 complete AddressNotAllowed policy=shop/office rule=`vpn` 1.235ms in=0 out=231 HTTP/2 TLSv1.3 id={id}\n"
            )
        );
    }

    #[test]
    fn what_is_not_known_is_left_out() {
        let outcome =
            Outcome { status: None, end: End::Unanswered, refusal: None, tls: None, ..outcome() };
        let json = line(&outcome, "/", None, JSON);
        let fields: serde_json::Map<_, _> = serde_json::from_str(&json).unwrap();
        let absent = ["response.status", "denial.code", "policy", "rule", "tls", "upstream.addr"];
        assert!(absent.iter().all(|name| !fields.contains_key(*name)), "{json}");
        assert!(line(&outcome, "/", None, TEXT).contains("`shop.test/` - unanswered 1.235ms "));
    }

    #[test]
    fn a_client_cannot_write_a_line_or_a_field_of_its_own() {
        let forged = "/\n{\"request.id\":\"1\"}\r\u{1b}[2J` 200 complete \u{2028}\u{202e}\"";
        for form in [JSON, TEXT].map(|form| Form { queries: true, ..form }) {
            let told = line(&outcome(), forged, Some(forged), form);
            assert_eq!(told.matches(['\n', '\r', '\u{1b}']).collect::<String>(), "\n", "{told}");
            assert!(told.ends_with('\n'), "{told}");
            if form.is_json {
                let fields: serde_json::Value = serde_json::from_str(&told).unwrap();
                assert_eq!(fields["request.path"], forged);
                assert_eq!(fields["request.id"], "00000000000000000000000007");
            } else {
                assert!(told.is_ascii() && told.matches('`').count() == 4, "{told}");
            }
        }
    }

    #[test]
    fn a_query_is_told_only_when_asked_for_and_credentials_in_it_never() {
        let query = Some("a=b&Access_Token=secret&token&c=d=e&API_KEY=secret");
        for form in [JSON, TEXT] {
            assert!(!line(&outcome(), "/", query, form).contains("a=b"));
            let told = line(&outcome(), "/", query, Form { queries: true, ..form });
            let expected = "a=b&Access_Token=REDACTED&token&c=d=e&API_KEY=REDACTED";
            assert!(told.contains(expected) && !told.contains("secret"), "{told}");
        }
    }
}
