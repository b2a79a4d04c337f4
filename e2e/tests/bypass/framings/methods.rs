//! Methods, and versions that know no chunks.

use super::Group;

/// Methods with and without bodies.
pub(crate) const METHODS: Group = Group {
    bases: &[
        ("with a length", "{} /f HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {LEN}\r\n\r\n{ADMIN}"),
        (
            "chunked",
            "{} /f HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{ADMIN}",
        ),
        (
            "in one chunk",
            "{} /f HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\n\r\n{HEX}\r\n{ADMIN}\r\n0\r\n\r\n{ADMIN}",
        ),
        ("without a body", "{} /f HTTP/1.1\r\nHost: {HOST}\r\n\r\n{ADMIN}"),
    ],
    fragments: &[
        ("GET", &["200", "200 403", "200 403", "200 403"]),
        ("HEAD", &["200", "200 403", "200 403", "200 403"]),
        ("DELETE", &["200", "200 403", "200 403", "200 403"]),
        ("OPTIONS", &["200", "200 403", "200 403", "200 403"]),
        ("PUT", &["200", "200 403", "200 403", "200 403"]),
        ("PATCH", &["200", "200 403", "200 403", "200 403"]),
        ("QUERY", &["200", "200 403", "200 403", "200 403"]),
        ("PROPFIND", &["200", "200 403", "200 403", "200 403"]),
        ("LOCK", &["200", "200 403", "200 403", "200 403"]),
        ("X-OWN", &["200", "200 403", "200 403", "200 403"]),
    ],
};

/// Heads of HTTP/1.0.
pub(crate) const OLD: Group = Group {
    bases: &[("old", "{}\r\n\r\n0\r\n\r\n{ADMIN}")],
    fragments: &[
        ("POST /f HTTP/1.0\r\nHost: {HOST}\r\nX: y", &["200"]),
        ("POST /f HTTP/1.0\r\nHost: {HOST}\r\nTransfer-Encoding: chunked", &["400"]),
        (
            "POST /f HTTP/1.0\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive",
            &["400"],
        ),
        (
            "POST /f HTTP/1.0\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\nContent-Length: {ALL}",
            &["400"],
        ),
        (
            "POST /f HTTP/1.0\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\nConnection: keep-alive",
            &["400"],
        ),
        ("POST /f HTTP/1.0\r\nHost: {HOST}\r\nContent-Length: {ALL}", &["200"]),
        (
            "POST /f HTTP/1.0\r\nHost: {HOST}\r\nContent-Length: 5\r\nConnection: keep-alive",
            &["200 403"],
        ),
        ("POST /f HTTP/1.0\r\nHost: {HOST}\r\nConnection: keep-alive", &["200 400"]),
        ("POST /f HTTP/1.0\r\nHost: {HOST}\r\nTransfer-Encoding: gzip", &["400"]),
        ("POST /f HTTP/1.0\r\nHost: {HOST}\r\nUpgrade: h2c\r\nConnection: Upgrade", &["200"]),
        (
            "POST /f HTTP/1.0\r\nHost: {HOST}\r\nExpect: 100-continue\r\nContent-Length: 5\r\nConnection: keep-alive",
            &["200 403"],
        ),
        ("POST /f HTTP/1.0\r\nConnection: keep-alive", &["400"]),
        ("GET /f", &["400"]),
        ("GET /f HTTP/1.0", &["400"]),
        ("GET /f HTTP/1.1", &["400"]),
    ],
};
