"""Section 8: what of a request can be read in one way, so that HTTP/1.1 can be made of it."""

from case import Case, status, stream_error, wider
from http2 import DATA, END_HEADERS, END_STREAM, HEADERS, frame
from wire import HOST, Connection, Field, block, fields

MALFORMED = stream_error("PROTOCOL_ERROR")
"""What section 8.1.1 demands for whatever is malformed."""
WIDER = wider("PROTOCOL_ERROR")
"""The header field cannot be decoded, and the whole connection ends."""
DROPPED = status(200).instead_of(MALFORMED, "trailers")
BAD = status(400)


def ask(*more: Field):
    """A request with more fields that must not pass."""
    return lambda it: it.headers(fields(more=more))


def pass_with(*more: Field):
    """A request with more fields that may pass."""

    def act(it: Connection) -> None:
        it.asked += 1
        it.headers(fields(more=more))

    return act


def replaced(name: str, value: str | bytes | None, of: str = "/open"):
    """A request with another value of a pseudo-header field, or without it, that must not pass."""

    def act(it: Connection) -> None:
        kept = [(key, value if key == name else old) for key, old in fields(of)]
        it.headers([field for field in kept if field[1] is not None])

    return act


def only(*of: Field, asked: int = 0):
    """A request of nothing but these fields."""

    def act(it: Connection) -> None:
        it.asked += asked
        it.headers(list(of))

    return act


def long(length: str | bytes, *pieces: bytes, again: str | None = None):
    """A body in pieces, and how long it is said to be."""

    def act(it: Connection) -> None:
        more = tuple(("content-length", said) for said in (length, again) if said is not None)
        it.post(more=more)
        it.send(*(frame(DATA, 0, 1, piece) for piece in pieces), frame(DATA, END_STREAM, 1, b""))

    return act


def with_trailers(*of: Field, flags: int = END_HEADERS | END_STREAM, then: bytes = b""):
    """A request with a body and trailers."""

    def act(it: Connection) -> None:
        it.post()
        it.send(frame(DATA, 0, 1, b"body"), frame(HEADERS, flags, 1, block(list(of))), then)

    return act


def extended(protocol: str, asked: int = 0):
    """A wish for a tunnel, and a whole request where its bytes would be."""

    def act(it: Connection) -> None:
        it.asked += asked
        it.headers([CONNECT, SCHEME, AUTHORITY, PATH, (":protocol", protocol)], flags=END_HEADERS)
        it.send(frame(DATA, 0, 1, SMUGGLED.encode()))

    return act


def length_without_body(it: Connection) -> None:
    """Says that there is a body, and ends the stream."""
    it.headers(fields(method="POST", more=(("content-length", "5"),)))


def method(name: str | bytes):
    """A request with another method."""
    return replaced(":method", name)


METHOD, SCHEME, AUTHORITY, PATH = fields()
CONNECT = (":method", "CONNECT")
SMUGGLED = "GET /admin HTTP/1.1\r\nHost: api.example.com\r\n\r\n"

CASES = [
    # A head, a body, trailers.
    Case("8.1", "trailers end a request", status(200), with_trailers(("x-sum", "1"))),
    Case(
        "8.1",
        "trailers that do not end the stream are malformed",
        MALFORMED,
        with_trailers(("x-sum", "1"), flags=END_HEADERS),
    ),
    Case("8.1", "pseudo-header fields in trailers are malformed", DROPPED, with_trailers((":path", "/admin"))),
    Case(
        "8.1",
        "DATA behind trailers is an error",
        wider("STREAM_CLOSED"),
        with_trailers(("x-sum", "1"), then=frame(DATA, END_STREAM, 1, b"x")),
    ),
    Case(
        "8.1",
        "fields that frame are left out of trailers",
        status(200),
        with_trailers(("content-length", "60"), ("host", "other.example.com")),
    ),
    Case(
        "8.2.2",
        "transfer-encoding in trailers is malformed",
        MALFORMED,
        with_trailers(("transfer-encoding", "chunked")),
    ),
    Case("8.1", "a whole second head is malformed", DROPPED, with_trailers(*fields("/admin"))),
    # How long a body is.
    Case("8.1.1", "a body shorter than its content-length is malformed", MALFORMED, long("5", b"abc")),
    Case("8.1.1", "a body longer than its content-length is malformed", MALFORMED, long("2", b"abc")),
    Case(
        "8.1.1",
        "a body longer than a content-length of 0 is malformed",
        MALFORMED,
        long("0", b"GET /admin HTTP/1.1\r\n\r\n"),
    ),
    Case("8.1.1", "two frames longer than their content-length are malformed", MALFORMED, long("6", b"abc", b"defg")),
    Case("8.1.1", "a content-length without a body is malformed", MALFORMED, length_without_body),
    Case("8.1.1", "a content-length that is a name is malformed", MALFORMED, long("five", b"12345")),
    Case("8.1.1", "a content-length with a sign is malformed", MALFORMED, long("+5", b"12345")),
    Case("8.1.1", "a negative content-length is malformed", MALFORMED, long("-5", b"12345")),
    Case("8.1.1", "a hexadecimal content-length is malformed", MALFORMED, long("0x5", b"12345")),
    Case("8.1.1", "a content-length with a space is malformed", MALFORMED, long("5 ", b"12345")),
    Case("8.1.1", "an empty content-length is malformed", MALFORMED, long("", b"12345")),
    Case("8.1.1", "a content-length beyond 64 bits is malformed", MALFORMED, long("18446744073709551621", b"12345")),
    Case("8.1.1", "the same length twice is none of these", status(200), long("5", b"12345", again="5")),
    Case("8.1.1", "a length with a leading zero is none of these", status(200), long("05", b"12345")),
    Case("8.1.1", "a list of lengths is malformed", MALFORMED, long("5, 5", b"12345")),
    Case("8.1.1", "two different lengths are malformed", MALFORMED, long("5", b"12345", again="0")),
    Case("8.1.1", "two different lengths in the other order are malformed", MALFORMED, long("0", b"12345", again="5")),
    # Names and values.
    Case("8.2.1", "an upper-case name is malformed", WIDER, ask(("X-Upper", "1"))),
    Case("8.2.1", "an upper-case name that frames is malformed", WIDER, ask(("Content-Length", "60"))),
    Case("8.2.1", "an empty name is malformed", WIDER, ask(("", "1"))),
    Case("8.2.1", "a name with a space is malformed", WIDER, ask(("x y", "1"))),
    Case("8.2.1", "a name with a colon is malformed", WIDER, ask(("x:y", "1"))),
    Case("8.2.1", "a name with CR LF is malformed", WIDER, ask(("x\r\ntransfer-encoding", "chunked"))),
    Case("8.2.1", "a name with LF is malformed", WIDER, ask(("x\ny", "1"))),
    Case("8.2.1", "a name with NUL is malformed", WIDER, ask(("x\0y", "1"))),
    Case("8.2.1", "a name with an octet above 0x7f is malformed", WIDER, ask((b"x\xe9", "1"))),
    Case("8.2.1", "a name that ends with a space is malformed", WIDER, ask(("transfer-encoding ", "chunked"))),
    Case("8.2.1", "a name that begins with a tab is malformed", WIDER, ask(("\ttransfer-encoding", "chunked"))),
    Case("8.2.1", "a value with CR LF is malformed", WIDER, ask(("x-a", "1\r\ncontent-length: 60"))),
    Case("8.2.1", "a value with a whole request is malformed", WIDER, ask(("x-a", f"1\r\n\r\n{SMUGGLED}"))),
    Case("8.2.1", "a value with CR is malformed", WIDER, ask(("x-a", "1\r2"))),
    Case("8.2.1", "a value with LF is malformed", WIDER, ask(("x-a", "1\n2"))),
    Case("8.2.1", "a value with NUL is malformed", WIDER, ask(("x-a", "1\0002"))),
    Case("8.2.1", "a value that begins with a space is malformed", BAD, ask(("x-a", " 1"))),
    Case("8.2.1", "a value that begins with a tab is malformed", BAD, ask(("x-a", "\t1"))),
    Case("8.2.1", "a value that ends with a space is malformed", BAD, ask(("x-a", "1 "))),
    Case("8.2.1", "a value that ends with a tab is malformed", BAD, ask(("x-a", "1\t"))),
    Case("8.2.1", "an empty value is none of these", status(200), pass_with(("x-a", ""))),
    # Fields of a connection.
    Case("8.2.2", "connection is malformed", MALFORMED, ask(("connection", "content-length"))),
    Case("8.2.2", "keep-alive is malformed", MALFORMED, ask(("keep-alive", "timeout=5"))),
    Case("8.2.2", "proxy-connection is malformed", MALFORMED, ask(("proxy-connection", "close"))),
    Case("8.2.2", "upgrade is malformed", MALFORMED, ask(("upgrade", "websocket"))),
    Case("8.2.2", "transfer-encoding is malformed", MALFORMED, ask(("transfer-encoding", "chunked"))),
    Case("8.2.2", "transfer-encoding of identity is malformed", MALFORMED, ask(("transfer-encoding", "identity"))),
    Case("8.2.2", "te of anything but trailers is malformed", MALFORMED, ask(("te", "gzip"))),
    Case("8.2.2", "te of trailers and more is malformed", MALFORMED, ask(("te", "trailers, gzip"))),
    Case("8.2.2", "te of trailers is not", status(200), pass_with(("te", "trailers"))),
    Case("8.2.3", "a cookie may come in pieces", status(200), pass_with(("cookie", "a=1"), ("cookie", "b=2"))),
    # Pseudo-header fields.
    Case(
        "8.3",
        "a pseudo-header field behind others is malformed",
        MALFORMED,
        only(METHOD, SCHEME, AUTHORITY, ("x-a", "1"), PATH),
    ),
    Case("8.3", "an unknown pseudo-header field is malformed", WIDER, only(*fields(), (":other", "1"))),
    Case("8.3", "a pseudo-header field of responses is malformed", MALFORMED, only(*fields(), (":status", "200"))),
    Case(
        "8.3",
        "an upper-case pseudo-header field is malformed",
        WIDER,
        only(METHOD, SCHEME, AUTHORITY, (":PATH", "/open")),
    ),
    Case("8.3", "two methods are malformed", MALFORMED, only((":method", "GET"), *fields())),
    Case("8.3", "two schemes are malformed", MALFORMED, only((":scheme", "http"), *fields())),
    Case("8.3", "two authorities are malformed", MALFORMED, only((":authority", "other.example.com"), *fields())),
    Case("8.3", "two paths are malformed", MALFORMED, only((":path", "/admin"), *fields())),
    Case("8.3.1", "a request without a method is malformed", MALFORMED, replaced(":method", None)),
    Case("8.3.1", "a request without a scheme is malformed", MALFORMED, replaced(":scheme", None)),
    Case("8.3.1", "a request without a path is malformed", MALFORMED, replaced(":path", None)),
    Case("8.3.1", "a request of no fields is malformed", MALFORMED, only()),
    Case("8.3.1", "an empty path is malformed", MALFORMED, replaced(":path", "")),
    Case("8.3.1", "a path that begins without a slash is malformed", MALFORMED, replaced(":path", "open")),
    Case(
        "8.3.1", "a path that is a whole URI is malformed", MALFORMED, replaced(":path", "http://api.example.com/admin")
    ),
    Case("8.3.1", "an asterisk is malformed but for OPTIONS", BAD, replaced(":path", "*")),
    Case("8.3.1", "a path with a space is malformed", MALFORMED, replaced(":path", "/open HTTP/1.1")),
    Case(
        "8.3.1",
        "a path with a whole request is malformed",
        MALFORMED,
        replaced(":path", f"/open HTTP/1.1\r\nHost: {HOST}\r\n\r\nGET /admin"),
    ),
    Case("8.3.1", "a path with LF is malformed", MALFORMED, replaced(":path", "/open\n/admin")),
    Case("8.3.1", "a path with NUL is malformed", MALFORMED, replaced(":path", "/open\0/admin")),
    Case("8.3.1", "a path with an octet above 0x7f is malformed", WIDER, replaced(":path", b"/\xe9")),
    Case("8.3.1", "an empty method is malformed", WIDER, method("")),
    Case("8.3.1", "a method with a space is malformed", WIDER, method("GET /admin")),
    Case("8.3.1", "a method with CR LF is malformed", WIDER, method("GET /admin HTTP/1.1\r\n\r\nGET")),
    Case("8.3.1", "a method with NUL is malformed", WIDER, method("GET\0")),
    Case("8.3.1", "an empty scheme is malformed", BAD, replaced(":scheme", "")),
    Case("8.3.1", "a scheme with a path is malformed", MALFORMED, replaced(":scheme", "http://api.example.com/admin?")),
    Case("8.3.1", "a scheme with CR LF is malformed", MALFORMED, replaced(":scheme", "http\r\nx: y")),
    Case("8.3.1", "an authority with a user is malformed", BAD, replaced(":authority", f"user@{HOST}")),
    Case("8.3.1", "an authority with CR LF is malformed", MALFORMED, replaced(":authority", f"{HOST}\r\nhost: other")),
    Case("8.3.1", "an authority with a path is malformed", MALFORMED, replaced(":authority", f"{HOST}/admin")),
    Case("8.3.1", "an authority with a space is malformed", MALFORMED, replaced(":authority", f"{HOST} x")),
    Case("8.3.1", "an empty authority is malformed", MALFORMED, replaced(":authority", "")),
    Case("8.3.1", "host that disagrees with the authority is refused", BAD, ask(("host", "other.example.com"))),
    Case("8.3.1", "two hosts are refused", BAD, ask(("host", HOST), ("host", HOST))),
    Case("8.3.1", "host that agrees with the authority is not", status(200), pass_with(("host", HOST))),
    Case(
        "8.3.1",
        "host serves where there is no authority",
        status(200),
        only(METHOD, SCHEME, PATH, ("host", HOST), asked=1),
    ),
    Case("8.3.1", "a request for no host is refused", BAD, only(METHOD, SCHEME, PATH)),
    Case("8.3.1", "an empty host is refused", BAD, only(METHOD, SCHEME, PATH, ("host", ""))),
    Case(
        "8.3.1",
        "OPTIONS for everything is refused",
        BAD,
        only((":method", "OPTIONS"), SCHEME, AUTHORITY, (":path", "*")),
    ),
    Case(
        "8.3.1",
        "another scheme is refused",
        BAD,
        only(METHOD, (":scheme", "ftp"), AUTHORITY, PATH),
    ),
    Case(
        "8.3.1", "what policies protect is refused", status(403), only(METHOD, SCHEME, AUTHORITY, (":path", "/admin"))
    ),
    Case(
        "8.3.1",
        "what policies protect is refused with dots, too",
        status(403),
        only(METHOD, SCHEME, AUTHORITY, (":path", "/x/../admin")),
    ),
    # Tunnels.
    Case("8.5", "CONNECT is not served", BAD, only(CONNECT, (":authority", f"{HOST}:443"))),
    Case("8.5", "CONNECT with a scheme is malformed", MALFORMED, only(CONNECT, AUTHORITY, SCHEME)),
    Case("8.5", "CONNECT with a path is malformed", MALFORMED, only(CONNECT, AUTHORITY, PATH)),
    Case("8.5", "CONNECT without an authority is malformed", BAD, only(CONNECT)),
    Case(
        "4 of RFC 8441",
        "a protocol without CONNECT is malformed",
        MALFORMED,
        only(*fields(), (":protocol", "websocket")),
    ),
    Case(
        "4 of RFC 8441",
        "CONNECT with a protocol and without a path is malformed",
        MALFORMED,
        only(CONNECT, SCHEME, AUTHORITY, (":protocol", "websocket")),
    ),
    Case(
        "4 of RFC 8441",
        "CONNECT with a protocol and without a scheme is malformed",
        MALFORMED,
        only(CONNECT, AUTHORITY, PATH, (":protocol", "websocket")),
    ),
    Case(
        "4 of RFC 8441",
        "two protocols are malformed",
        MALFORMED,
        only(CONNECT, SCHEME, AUTHORITY, PATH, (":protocol", "websocket"), (":protocol", "h2c")),
    ),
    Case("4 of RFC 8441", "a protocol other than WebSocket opens no tunnel", BAD, extended("h2c")),
    Case("4 of RFC 8441", "HTTP/1.1 as a protocol opens no tunnel", BAD, extended("HTTP/1.1")),
    Case("4 of RFC 8441", "TLS as a protocol opens no tunnel", BAD, extended("TLS/1.0")),
    Case("4 of RFC 8441", "a protocol with a space opens no tunnel", BAD, extended("web socket")),
    Case("4 of RFC 8441", "an empty protocol opens no tunnel", BAD, extended("")),
    Case(
        "4 of RFC 8441",
        "what follows an upgrade that the upstream ignores stays here",
        status(502),
        extended("websocket", 1),
    ),
    Case("4 of RFC 8441", "a protocol with CR LF opens no tunnel", BAD, extended("websocket\r\nx: y")),
]
