"""Section 5: what a stream may be told in each of its states."""

import struct

from hyperframe.frame import HeadersFrame

from case import ALIVE, Case, connection_error, status, stream_error, wider
from http2 import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PRIORITY,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    frame,
    setting,
)
from wire import Connection, block, fields

PROTOCOL, CLOSED = connection_error("PROTOCOL_ERROR"), stream_error("STREAM_CLOSED")
STREAMS = 32
"""How many streams a connection may have at once."""

CANCEL = struct.pack(">I", 8)
ONE = struct.pack(">I", 1)


def depends(on: int, weight: int = 15) -> bytes:
    """What PRIORITY says."""
    return struct.pack(">IB", on, weight)


def half_closed(it: Connection, *frames: bytes) -> None:
    """Our side of stream 1 has ended; the response waits for a window."""
    it.send(frame(SETTINGS, 0, 0, setting(4, 0)))
    it.get(path="/bytes/100")
    it.expect(HeadersFrame)
    it.send(*frames)


def closed(it: Connection, *frames: bytes) -> None:
    """Both sides of stream 1 have ended."""
    it.get()
    it.answered()
    it.send(*frames)


def cancelled(it: Connection, *frames: bytes) -> None:
    """We have reset stream 1."""
    it.post()
    it.send(frame(RST_STREAM, 0, 1, CANCEL), *frames)


AGAIN = frame(HEADERS, END_HEADERS | END_STREAM, 1, block(fields()))
"""A request's head on stream 1."""


def second_request(it: Connection, first: int, second: int) -> None:
    """A whole exchange, and then a request that must not pass on another stream."""
    it.get(first)
    it.answered(first)
    it.watched = second
    it.headers(fields(), second)


def skipped(it: Connection) -> None:
    """Stream 5 is used first, and then DATA comes on stream 3."""
    it.get(5)
    it.answered(5)
    it.watched = 3
    it.send(frame(DATA, END_STREAM, 3, b"x"))


def full(it: Connection) -> None:
    """As many streams as may be."""
    for number in range(STREAMS):
        it.post(1 + 2 * number)


def one_too_many(it: Connection) -> None:
    """And one more, which must not pass."""
    full(it)
    it.watched = 1 + 2 * STREAMS
    it.headers(fields(), it.watched)


def in_the_place_of_another(it: Connection) -> None:
    """And one more in the place of one that was reset."""
    full(it)
    it.watched = 1 + 2 * STREAMS
    it.send(frame(RST_STREAM, 0, 1, CANCEL))
    it.get(it.watched)


def beside_an_error(it: Connection) -> None:
    """A good request beside a malformed one."""
    it.headers(fields(more=(("connection", "close"),)))
    it.watched = 3
    it.get(3)


def largest(it: Connection) -> None:
    """A request on the last stream that there is."""
    it.watched = 0x7FFF_FFFF
    it.get(it.watched)


CASES = [
    Case("5.1", "DATA on an idle stream is an error", PROTOCOL, lambda it: it.send(frame(DATA, END_STREAM, 1, b"x"))),
    Case(
        "5.1", "RST_STREAM on an idle stream is an error", PROTOCOL, lambda it: it.send(frame(RST_STREAM, 0, 1, CANCEL))
    ),
    Case(
        "5.1",
        "WINDOW_UPDATE on an idle stream is an error",
        PROTOCOL,
        lambda it: it.send(frame(WINDOW_UPDATE, 0, 1, ONE)),
    ),
    Case(
        "5.1",
        "CONTINUATION on an idle stream is an error",
        PROTOCOL,
        lambda it: it.send(frame(CONTINUATION, END_HEADERS, 1, block(fields()))),
    ),
    Case("5.1", "PRIORITY on an idle stream is no error", ALIVE, lambda it: it.send(frame(PRIORITY, 0, 1, depends(0)))),
    Case(
        "5.1",
        "DATA on a half-closed stream is an error of the stream",
        wider("STREAM_CLOSED"),
        lambda it: half_closed(it, frame(DATA, END_STREAM, 1, b"x")),
    ),
    Case(
        "5.1",
        "HEADERS on a half-closed stream are an error of the stream",
        wider("STREAM_CLOSED"),
        lambda it: half_closed(it, AGAIN),
    ),
    Case(
        "5.1",
        "CONTINUATION on a half-closed stream is an error",
        PROTOCOL,
        lambda it: half_closed(it, frame(CONTINUATION, END_HEADERS, 1, block(fields()))),
    ),
    Case(
        "5.1",
        "WINDOW_UPDATE on a half-closed stream is no error",
        ALIVE,
        lambda it: half_closed(it, frame(WINDOW_UPDATE, 0, 1, ONE)),
    ),
    Case(
        "5.1",
        "PRIORITY on a half-closed stream is no error",
        ALIVE,
        lambda it: half_closed(it, frame(PRIORITY, 0, 1, depends(0))),
    ),
    Case(
        "5.1",
        "RST_STREAM on a half-closed stream is no error",
        ALIVE,
        lambda it: half_closed(it, frame(RST_STREAM, 0, 1, CANCEL)),
    ),
    Case(
        "5.1",
        "DATA on a closed stream may be an error",
        CLOSED,
        lambda it: closed(it, frame(DATA, END_STREAM, 1, b"x")),
    ),
    Case("5.1", "HEADERS on a closed stream may be an error", PROTOCOL, lambda it: closed(it, AGAIN)),
    Case(
        "5.1",
        "CONTINUATION on a closed stream is an error",
        PROTOCOL,
        lambda it: closed(it, frame(CONTINUATION, END_HEADERS, 1, block(fields()))),
    ),
    Case(
        "5.1",
        "WINDOW_UPDATE on a closed stream is no error",
        ALIVE,
        lambda it: closed(it, frame(WINDOW_UPDATE, 0, 1, ONE)),
    ),
    Case(
        "5.1",
        "PRIORITY on a closed stream is no error",
        ALIVE,
        lambda it: closed(it, frame(PRIORITY, 0, 1, depends(0))),
    ),
    Case(
        "5.1", "RST_STREAM on a closed stream is no error", ALIVE, lambda it: closed(it, frame(RST_STREAM, 0, 1, CANCEL))
    ),
    Case(
        "5.1",
        "DATA on a stream that the client has reset may be an error",
        CLOSED,
        lambda it: cancelled(it, frame(DATA, END_STREAM, 1, b"x")),
    ),
    Case(
        "5.1",
        "HEADERS on a stream that the client has reset may be an error",
        PROTOCOL,
        lambda it: cancelled(it, AGAIN),
    ),
    Case(
        "5.1",
        "WINDOW_UPDATE on a stream that the client has reset is no error",
        ALIVE,
        lambda it: cancelled(it, frame(WINDOW_UPDATE, 0, 1, ONE)),
    ),
    Case(
        "5.1.1", "a client's stream with an even identifier is an error", PROTOCOL, lambda it: it.headers(fields(), 2)
    ),
    Case("5.1.1", "a stream with a smaller identifier is an error", PROTOCOL, lambda it: second_request(it, 5, 3)),
    Case("5.1.1", "a stream used again is an error", PROTOCOL, lambda it: second_request(it, 1, 1)),
    Case("5.1.1", "a new stream closes idle ones with smaller identifiers", CLOSED, skipped),
    Case("5.1.1", "the last stream that there is serves", status(200), largest),
    Case("5.1.2", "a stream beyond the limit is refused", stream_error("REFUSED_STREAM"), one_too_many),
    Case("5.1.2", "a stream that has ended makes room for another", status(200), in_the_place_of_another),
    Case(
        "5.3",
        "priorities are obsolete and change nothing",
        status(200),
        lambda it: (it.send(frame(PRIORITY, 0, 3, depends(0x8000_0007, 255))), it.get()),
    ),
    Case(
        "5.3 of RFC 7540",
        "a stream that depends on itself by PRIORITY is an error",
        stream_error("PROTOCOL_ERROR"),
        lambda it: it.send(frame(PRIORITY, 0, 1, depends(1))),
    ),
    Case(
        "5.3 of RFC 7540",
        "a stream that depends on itself by HEADERS is an error",
        stream_error("PROTOCOL_ERROR"),
        lambda it: it.send(frame(HEADERS, END_HEADERS | END_STREAM | 0x20, 1, depends(1) + block(fields()))),
    ),
    Case("5.4.2", "an error of one stream leaves the others alone", status(200), beside_an_error),
    Case(
        "5.5",
        "an extension's frame within a field block is an error",
        PROTOCOL,
        lambda it: it.send(frame(HEADERS, END_STREAM, 1, b""), frame(0xF0, 0, 1, b"extension")),
    ),
    Case(
        "5.5",
        "an extension's setting is ignored",
        status(200),
        lambda it: (it.send(frame(SETTINGS, 0, 0, setting(0xFF00, 7))), it.get()),
    ),
]
