//! Which answers of a route are compressed on their way: what a client takes, and what is worth it.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

/// A content coding that we can write (RFC 9110 section 8.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// `gzip`, also known as `x-gzip` (RFC 9110 section 8.4.1.3).
    Gzip,
}

/// In thousandths, as there are at most three digits (RFC 9110 section 12.4.2). Zero is a no.
type Weight = u16;

impl Coding {
    /// Reads the name of a coding as annotations write it. `None` for those that we cannot write.
    pub fn parse(text: &str) -> Option<Self> {
        (text == "gzip").then_some(Self::Gzip)
    }

    /// The value of `Content-Encoding`.
    pub fn value(self) -> HeaderValue {
        match self {
            Self::Gzip => HeaderValue::from_static("gzip"),
        }
    }

    fn is(self, name: &str) -> bool {
        let names = match self {
            Self::Gzip => ["gzip", "x-gzip"],
        };
        names.iter().any(|known| name.eq_ignore_ascii_case(known))
    }

    /// Whether a request takes the coding, and does not like a plain answer better
    /// (RFC 9110 section 12.5.3).
    ///
    /// A request that says nothing gets a plain answer. Of a coding that is named twice the lower
    /// weight counts, and a weight that cannot be read is a no.
    pub fn is_accepted(self, headers: &HeaderMap) -> bool {
        let lower =
            |known: Option<Weight>, weight: Weight| Some(known.map_or(weight, |it| weight.min(it)));
        let (mut own, mut any, mut plain) = (None, None, None);
        for (name, weight) in members(headers) {
            if self.is(name) {
                own = lower(own, weight);
            } else if name == "*" {
                any = lower(any, weight);
            } else if name.eq_ignore_ascii_case("identity") {
                plain = lower(plain, weight);
            }
        }
        let weight = own.or(any).unwrap_or(0);
        weight > 0 && weight >= plain.unwrap_or(0)
    }
}

/// The codings that a request names, each with its weight.
fn members(headers: &HeaderMap) -> impl Iterator<Item = (&str, Weight)> {
    let lines = headers.get_all(header::ACCEPT_ENCODING).iter();
    // A line that is no text names nothing.
    let members = lines.flat_map(|line| line.to_str().unwrap_or_default().split(','));
    members.map(|member| match member.split_once(';') {
        None => (member.trim(), 1000),
        Some((name, parameter)) => (name.trim(), weight(parameter).unwrap_or(0)),
    })
}

/// Reads `q=0.25` (RFC 9110 section 12.4.2).
fn weight(parameter: &str) -> Option<Weight> {
    let (name, value) = parameter.trim().split_once('=')?;
    if !name.eq_ignore_ascii_case("q") {
        return None;
    }
    let (whole, digits) = value.split_once('.').unwrap_or((value, ""));
    if digits.len() > 3 || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let thousandths: Weight = format!("{digits:0<3}").parse().ok()?;
    match (whole, thousandths) {
        ("0", thousandths) => Some(thousandths),
        ("1", 0) => Some(1000),
        _ => None,
    }
}

/// Media types that compression makes smaller, beside `text/…`, `…+json` and `…+xml`.
const WORTH: [&str; 14] = [
    "application/javascript",
    "application/json",
    "application/vnd.ms-fontobject",
    "application/wasm",
    "application/x-javascript",
    "application/x-ndjson",
    "application/x-yaml",
    "application/xml",
    "application/yaml",
    "font/otf",
    "font/ttf",
    "image/bmp",
    "image/vnd.microsoft.icon",
    "image/x-icon",
];

/// Whether an answer may be compressed and gains by it, however long it is.
///
/// Not if it has no content or is a part of one, if it is compressed already, or if its server wants
/// it unchanged (RFC 9111 section 5.2.2.6).
pub fn is_worth(status: StatusCode, headers: &HeaderMap) -> bool {
    let whole = !status.is_informational()
        && ![
            StatusCode::NO_CONTENT,
            StatusCode::RESET_CONTENT,
            StatusCode::PARTIAL_CONTENT,
            StatusCode::IM_USED,
            StatusCode::NOT_MODIFIED,
        ]
        .contains(&status);
    whole
        && !headers.contains_key(header::CONTENT_ENCODING)
        && !headers.contains_key(header::CONTENT_RANGE)
        && !forbids_transformation(headers)
        && is_worth_by_type(headers)
}

/// Whether a message says that nobody on its way may change its content.
pub fn forbids_transformation(headers: &HeaderMap) -> bool {
    lists(headers, &header::CACHE_CONTROL, "no-transform")
}

/// Whether a list among the header fields has a member, in any case.
pub fn lists(headers: &HeaderMap, name: &HeaderName, member: &str) -> bool {
    let lines = headers.get_all(name).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).any(|one| one.trim().eq_ignore_ascii_case(member))
}

fn is_worth_by_type(headers: &HeaderMap) -> bool {
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(kind), None) = (types.next(), types.next()) else { return false };
    let kind = kind.to_str().unwrap_or_default().split(';').next().unwrap_or_default();
    let kind = kind.trim().to_ascii_lowercase();
    // Streams of messages, some of them compressed one by one by those who speak so.
    if kind == "text/event-stream"
        || kind.starts_with("application/grpc")
        || kind.starts_with("application/connect+")
    {
        return false;
    }
    kind.starts_with("text/")
        || kind.ends_with("+json")
        || kind.ends_with("+xml")
        || WORTH.contains(&&*kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_accepted(lines: &[&str], expected: bool) {
        let lines = lines.iter().map(|line| (header::ACCEPT_ENCODING, line.parse().unwrap()));
        let mut headers = HeaderMap::new();
        lines.for_each(|(name, value)| _ = headers.append(name, value));
        assert_eq!(Coding::Gzip.is_accepted(&headers), expected, "{headers:?}");
    }

    #[test]
    fn a_client_that_takes_gzip_is_known_by_its_weights() {
        for accepted in [
            "gzip",
            "GZip",
            "x-gzip",
            "gzip, deflate, br, zstd",
            "br;q=1.0,gzip;q=0.001",
            "gzip ; Q=0.5",
            "gzip\t;\tq=1.000, *;q=0",
            "*",
            "*;q=0.1",
            "identity;q=0.5, gzip;q=0.5",
            "identity;q=0, *",
            ", ,gzip,",
        ] {
            check_accepted(&[accepted], true);
        }
        for refused in [
            "",
            "identity",
            "br, zstd",
            "gzip;q=0",
            "gzip;q=0.000",
            "*;q=1, gzip;q=0",
            "gzip;q=0, x-gzip",
            "*;q=0",
            "identity;q=0",
            "identity, gzip;q=0.9",
            "gzip;q=0.1234",
            "gzip;q=1.001",
            "gzip;q=2",
            "gzip;q=-1",
            "gzip;q=",
            "gzip;q=.5",
            "gzip;q= 1",
            "gzip;level=9",
            "gzip;q=1;q=1",
            "gzip;",
            "gzipped",
            "g zip",
        ] {
            check_accepted(&[refused], false);
        }
        check_accepted(&[], false);
        check_accepted(&["br", "gzip"], true);
        check_accepted(&["gzip", "gzip;q=0"], false);
    }

    fn check_worth(status: u16, fields: &[(&str, &str)], expected: bool) {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            headers.append(name, value.parse().unwrap());
        }
        let status = StatusCode::from_u16(status).unwrap();
        assert_eq!(is_worth(status, &headers), expected, "{status} {headers:?}");
    }

    #[test]
    fn only_whole_plain_answers_of_some_types_are_worth_it() {
        for worth in [
            "text/html",
            "Text/HTML; charset=utf-8",
            "application/json ;charset=utf-8",
            "application/problem+json",
            "image/svg+xml",
            "application/wasm",
            "text/javascript",
        ] {
            check_worth(200, &[("content-type", worth)], true);
        }
        for not in [
            "",
            "image/png",
            "video/mp4",
            "application/octet-stream",
            "application/gzip",
            "text/event-stream",
            "Text/Event-Stream;charset=utf-8",
            "application/grpc",
            "application/grpc+json",
            "application/grpc-web+json",
            "application/connect+json",
            "application/jsonp",
        ] {
            check_worth(200, &[("content-type", not)], false);
        }
        let html = ("content-type", "text/html");
        for status in [200, 201, 203, 301, 404, 500] {
            check_worth(status, &[html], true);
        }
        for status in [101, 204, 205, 206, 226, 304] {
            check_worth(status, &[html], false);
        }
        check_worth(200, &[], false);
        check_worth(200, &[html, html], false);
        check_worth(200, &[html, ("content-encoding", "br")], false);
        check_worth(416, &[html, ("content-range", "bytes */10")], false);
        check_worth(200, &[html, ("cache-control", "public,No-Transform")], false);
        check_worth(200, &[html, ("cache-control", "no-transformers")], true);
    }
}
