"""Sections 3 and 4: how a connection begins, and what a frame is."""

from case import ALIVE, CLOSED, Case, connection_error, status
from http2 import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PING,
    PREFACE,
    SETTINGS,
    WINDOW_UPDATE,
    frame,
    text,
)
from wire import Connection, block, fields

LARGEST = 16_384
UNKNOWN = 0x77


def broken(it: Connection, octets: bytes) -> None:
    """A field block that begins as a request does, and goes on with these octets."""
    it.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, block(fields()) + octets))


def interleaved(it: Connection, between: bytes) -> None:
    """Something between HEADERS and its CONTINUATION."""
    whole = block(fields())
    it.send(frame(HEADERS, END_STREAM, 1, whole[:3]), between, frame(CONTINUATION, END_HEADERS, 1, whole[3:]))


def in_pieces(it: Connection) -> None:
    """A header block in four frames, one of which is empty."""
    whole = block(fields())
    it.asked += 1
    pieces = [whole[:1], b"", whole[1:5], whole[5:]]
    it.send(frame(HEADERS, END_STREAM, 1, pieces[0]))
    it.send(*(frame(CONTINUATION, 0, 1, piece) for piece in pieces[1:3]), frame(CONTINUATION, END_HEADERS, 1, pieces[3]))


def after_a_malformed_request(it: Connection) -> None:
    """The second request names a field that only the first one has put into the table (RFC 7541, section 6.2.1)."""
    remembered = b"\x40" + text("x-long") + text("a" * 50)
    whole = END_HEADERS | END_STREAM
    it.send(frame(HEADERS, whole, 1, block(fields(more=(("connection", "close"),))) + remembered))
    it.watched = 3
    it.asked += 1
    it.send(frame(HEADERS, whole, 3, block(fields()) + b"\xbe"))


def body(it: Connection, length: int) -> None:
    """One DATA frame of this length."""
    it.post()
    it.send(frame(DATA, END_STREAM, 1, b"x" * length))


def unknown_within(it: Connection) -> None:
    """An unknown frame between the head of a request and its body."""
    it.post()
    it.send(frame(UNKNOWN, 0xFF, 1, b"what is it"), frame(DATA, END_STREAM, 1, b"body"))


def reserved_bit(it: Connection) -> None:
    """A request on stream 1 whose reserved bit is set."""
    it.asked += 1
    it.headers(fields(), 0x8000_0001)


def too_large_request(it: Connection, count: int, length: int) -> None:
    """Many long fields, in as few frames as may be."""
    whole = block(fields(more=tuple((f"x-{number}", "a" * length) for number in range(count))))
    pieces = [whole[at : at + LARGEST] for at in range(0, len(whole), LARGEST)]
    frames = [frame(CONTINUATION, 0, 1, piece) for piece in pieces[1:-1]]
    it.send(frame(HEADERS, END_STREAM | (END_HEADERS if len(pieces) == 1 else 0), 1, pieces[0]), *frames)
    if len(pieces) > 1:
        it.send(frame(CONTINUATION, END_HEADERS, 1, pieces[-1]))


PROTOCOL, SIZE, COMPRESSION = (
    connection_error(code) for code in ("PROTOCOL_ERROR", "FRAME_SIZE_ERROR", "COMPRESSION_ERROR")
)

OTHER = PROTOCOL.instead_of(COMPRESSION, "codes")

CASES = [
    Case(
        "3.4",
        "a preface that is something else is an error",
        CLOSED,
        lambda it: it.send(b"GET / HTTP/1.1\r\nHost: api.example.com\r\n\r\n" + b" " * 24),
        greets=False,
        only_tls=True,
    ),
    Case(
        "3.4",
        "the preface must be followed by SETTINGS",
        ALIVE.instead_of(PROTOCOL, "preface"),
        lambda it: it.send(PREFACE, frame(PING, 0, 0, b"not yet!")),
        greets=False,
    ),
    Case(
        "3.4",
        "a client may send requests behind its SETTINGS without waiting",
        status(200),
        lambda it: (it.send(PREFACE, frame(SETTINGS, 0, 0)), it.get()),
        greets=False,
    ),
    Case("4.1", "a frame of an unknown type is ignored", ALIVE, lambda it: it.send(frame(UNKNOWN, 0, 0, b"x" * 20))),
    Case("4.1", "a frame of an unknown type on an open stream is ignored", status(200), unknown_within),
    Case("4.1", "flags without a meaning are ignored", ALIVE, lambda it: it.send(frame(PING, 0xFE, 0, b"flagged!"))),
    Case("4.1", "the reserved bit of a stream identifier is ignored", status(200), reserved_bit),
    Case(
        "4.1",
        "the reserved bit of an increment is ignored",
        ALIVE,
        lambda it: it.send(frame(WINDOW_UPDATE, 0, 0, b"\x80\0\0\1")),
    ),
    Case("4.2", "a frame of 16,384 octets is taken", status(200), lambda it: body(it, LARGEST)),
    Case("4.2", "DATA longer than the limit is an error", SIZE, lambda it: body(it, LARGEST + 1)),
    Case(
        "4.2",
        "HEADERS longer than the limit are an error",
        SIZE,
        lambda it: it.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\0" * (LARGEST + 1))),
    ),
    Case(
        "4.2",
        "SETTINGS longer than the limit are an error",
        SIZE,
        lambda it: it.send(frame(SETTINGS, 0, 0, b"\0\x77\0\0\0\0" * 2731)),
    ),
    Case(
        "4.2",
        "a frame of an unknown type longer than the limit is an error",
        SIZE,
        lambda it: it.send(frame(UNKNOWN, 0, 0, b"x" * (LARGEST + 1))),
    ),
    Case(
        "4.2",
        "a frame that announces 16 MiB is refused before it comes",
        SIZE,
        lambda it: (it.post(), it.send(frame(DATA, 0, 1, b"", length=0xFF_FFFF))),
    ),
    Case("4.3", "a field block may come in pieces, empty ones too", status(200), in_pieces),
    Case(
        "4.3",
        "index 0 is a decoding error",
        OTHER,
        lambda it: broken(it, b"\x80"),
    ),
    Case(
        "4.3",
        "an index beyond the tables is a decoding error",
        OTHER,
        lambda it: broken(it, b"\xff\x7f"),
    ),
    Case(
        "4.3",
        "a literal that is cut off is a decoding error",
        OTHER,
        lambda it: broken(it, b"\0\x05na"),
    ),
    Case(
        "4.3",
        "an integer that never ends is a decoding error",
        OTHER,
        lambda it: broken(it, b"\xff" * 12),
    ),
    Case(
        "4.3",
        "a Huffman string that holds the end-of-string symbol is a decoding error",
        OTHER,
        lambda it: broken(it, b"\0\x01x\x84\xff\xff\xff\xff"),
    ),
    Case(
        "4.3",
        "a Huffman string padded with more than seven bits is a decoding error",
        OTHER,
        lambda it: broken(it, b"\0\x01x\x83\x1f\xff\xff"),
    ),
    Case(
        "4.3",
        "a table larger than our SETTINGS allow is a decoding error",
        OTHER,
        lambda it: it.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\x3f\xff\xff\x03" + block(fields()))),
    ),
    Case(
        "4.3",
        "a change of the table's size behind a field is a decoding error",
        OTHER,
        lambda it: broken(it, b"\x3f\x01"),
    ),
    Case(
        "4.3",
        "DATA of its own stream within a field block is an error",
        PROTOCOL,
        lambda it: interleaved(it, frame(DATA, 0, 1, b"x")),
    ),
    Case(
        "4.3",
        "PING within a field block is an error",
        PROTOCOL,
        lambda it: interleaved(it, frame(PING, 0, 0, b"between!")),
    ),
    Case(
        "4.3", "SETTINGS within a field block are an error", PROTOCOL, lambda it: interleaved(it, frame(SETTINGS, 0, 0))
    ),
    Case(
        "4.3",
        "HEADERS of another stream within a field block are an error",
        PROTOCOL,
        lambda it: interleaved(it, frame(HEADERS, END_HEADERS | END_STREAM, 3, block(fields()))),
    ),
    Case(
        "4.3",
        "CONTINUATION of another stream within a field block is an error",
        PROTOCOL,
        lambda it: interleaved(it, frame(CONTINUATION, END_HEADERS, 3, b"")),
    ),
    Case(
        "4.3",
        "the field block of a malformed request still changes the table",
        status(200),
        after_a_malformed_request,
    ),
    Case("10.5.1", "a head beyond the limit is refused", status(431), lambda it: too_large_request(it, 20, 1000)),
    Case(
        "10.5.1",
        "more fields than the limit are refused",
        status(431),
        lambda it: too_large_request(it, 120, 1),
    ),
    Case(
        "10.5.1",
        "a head many times beyond the limit ends the connection",
        COMPRESSION,
        lambda it: too_large_request(it, 100, 10_000),
    ),
]
