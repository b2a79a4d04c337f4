//! Whether an answer is compressed, and what its head says then.

use decision::{
    canonical::Line,
    options::{
        Options,
        compression::{Coding, forbids_transformation, is_worth, lists},
    },
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header};

/// Shortest answer that is compressed, in bytes, if its length is known: below it nothing is gained.
const LEAST: u64 = 1024;

/// What is said of a content to the byte, and of no other coding of it (RFC 9530, RFC 9110 section
/// 14.3 for `accept-ranges`). No trailer may say it of what we have compressed either.
pub(crate) const OF_THE_BYTES: [HeaderName; 6] = [
    header::ACCEPT_RANGES,
    header::CONTENT_LENGTH,
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("content-md5"),
    HeaderName::from_static("digest"),
    HeaderName::from_static("repr-digest"),
];

/// A route's offer to compress its answers, as it stands for one request.
#[derive(Clone, Copy)]
pub(crate) struct Offer {
    coding: Coding,
    /// Whether the client takes it.
    accepted: bool,
    /// Whether the client names what it has by a weak entity tag, as those are that we write.
    knows_weak: bool,
    is_head: bool,
}

impl Offer {
    /// `headers` are those of the client. None if the route compresses nothing.
    pub(crate) fn of(options: Option<&Options>, line: &Line, headers: &HeaderMap) -> Option<Self> {
        let coding = options?.compress?;
        // HTTP/1.0 knows no chunks, so a connection would be lost with each answer.
        let accepted = line.version != Version::HTTP_10
            && !forbids_transformation(headers)
            && coding.is_accepted(headers);
        let known = headers.get_all(header::IF_NONE_MATCH).iter();
        let knows_weak =
            known.into_iter().any(|tags| tags.as_bytes().windows(2).any(|it| it == b"W/"));
        Some(Self { coding, accepted, knows_weak, is_head: line.method == Method::HEAD })
    }

    /// Writes what an answer says of its coding, and tells whether its body is to be compressed.
    /// `length` is that of its body, if it is known before its end. Without `room` the body goes out as
    /// it is, which every client takes.
    pub(crate) fn write(
        self,
        status: StatusCode,
        headers: &mut HeaderMap,
        length: Option<u64>,
        room: bool,
    ) -> bool {
        if status == StatusCode::NOT_MODIFIED {
            self.confirm(headers);
            return false;
        }
        if !is_worth(status, headers) {
            return false;
        }
        vary(headers);
        let length = if self.is_head { told_length(headers) } else { length };
        if !(self.accepted && room) || length.is_some_and(|length| length < LEAST) {
            return false;
        }
        for name in &OF_THE_BYTES {
            headers.remove(name);
        }
        weaken(headers);
        headers.insert(header::CONTENT_ENCODING, self.coding.value());
        // The answer to HEAD says the same as that to GET, and has no body.
        !self.is_head
    }

    /// A 304 says of a content what a 200 would (RFC 9110 section 15.4.5), mostly without its type.
    fn confirm(self, headers: &mut HeaderMap) {
        vary(headers);
        if self.accepted && self.knows_weak {
            weaken(headers);
        }
    }
}

/// Says that another client may get it in another coding (RFC 9110 section 12.5.5).
fn vary(headers: &mut HeaderMap) {
    let said = ["accept-encoding", "*"].iter().any(|name| lists(headers, &header::VARY, name));
    if !said {
        headers.append(header::VARY, HeaderValue::from_static("accept-encoding"));
    }
}

/// Makes an entity tag weak: it stands for the same content in two codings (RFC 9110 section 8.8.3).
fn weaken(headers: &mut HeaderMap) {
    let Some(tag) = headers.get(header::ETAG).map(HeaderValue::as_bytes) else { return };
    if tag.starts_with(b"W/") {
        return;
    }
    match HeaderValue::from_bytes(&[b"W/", tag].concat()) {
        Ok(weak) => drop(headers.insert(header::ETAG, weak)),
        // Not to be had, since the tag is a value; without one nobody is misled.
        Err(_) => drop(headers.remove(header::ETAG)),
    }
}

/// The length that the answer to HEAD tells of that to GET.
fn told_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFER: Offer =
        Offer { coding: Coding::Gzip, accepted: true, knows_weak: false, is_head: false };

    /// What is left of an answer's head, one `name: value` after the other.
    fn written(offer: Offer, status: u16, fields: &[(&'static str, &str)]) -> Vec<String> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, value.parse().unwrap());
        }
        offer.write(StatusCode::from_u16(status).unwrap(), &mut headers, None, true);
        let mut written: Vec<_> = headers
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
            .collect();
        written.sort();
        written
    }

    #[test]
    fn what_was_said_of_the_bytes_is_not_said_of_others() {
        let fields = [
            ("content-type", "text/html"),
            ("content-length", "5000"),
            ("accept-ranges", "bytes"),
            ("content-digest", "sha-256=:YQ==:"),
            ("repr-digest", "sha-256=:YQ==:"),
            ("digest", "sha-256=YQ=="),
            ("content-md5", "YQ=="),
            ("etag", "\"a\""),
            ("vary", "cookie"),
            ("x-other", "stays"),
        ];
        let expected = [
            "content-encoding: gzip",
            "content-type: text/html",
            "etag: W/\"a\"",
            "vary: accept-encoding",
            "vary: cookie",
            "x-other: stays",
        ];
        assert_eq!(written(OFFER, 200, &fields), expected);
        assert_eq!(written(Offer { is_head: true, ..OFFER }, 200, &fields), expected);
    }

    #[test]
    fn who_takes_no_coding_is_told_only_that_others_may_get_one() {
        let fields = [("content-type", "text/html"), ("etag", "\"a\"")];
        let expected = ["content-type: text/html", "etag: \"a\"", "vary: accept-encoding"];
        assert_eq!(written(Offer { accepted: false, ..OFFER }, 200, &fields), expected);
    }

    #[test]
    fn what_varies_already_does_not_say_so_twice() {
        for vary in ["Accept-Encoding", "cookie, accept-encoding", "*"] {
            let fields = [("content-type", "text/css"), ("vary", vary)];
            let count = written(OFFER, 200, &fields).join("\n").matches("vary").count();
            assert_eq!(count, 1, "{vary}");
        }
    }

    #[test]
    fn a_304_has_the_tag_by_which_the_client_asked() {
        let fields = [("etag", "\"a\"")];
        let plain = ["etag: \"a\"", "vary: accept-encoding"];
        assert_eq!(written(OFFER, 304, &fields), plain);
        let knowing = Offer { knows_weak: true, ..OFFER };
        assert_eq!(written(knowing, 304, &fields), ["etag: W/\"a\"", "vary: accept-encoding"]);
        assert_eq!(written(Offer { accepted: false, ..knowing }, 304, &fields), plain);
    }
}
