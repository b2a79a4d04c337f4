"""Section 6: each type of frame."""

import struct

from hyperframe.frame import DataFrame, HeadersFrame, PingFrame, SettingsFrame, WindowUpdateFrame

from case import ALIVE, CLOSED, OTHER_SIZE, Case, connection_error, status, stream_error, wider
from http2 import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PADDED,
    PING,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    WITH_PRIORITY,
    frame,
    setting,
)
from streams import CANCEL, depends
from wire import Connection, block, fields

PROTOCOL, FLOW = connection_error("PROTOCOL_ERROR"), connection_error("FLOW_CONTROL_ERROR")
WHOLE = END_HEADERS | END_STREAM
MOST = 0x7FFF_FFFF

STUCK = 1.0
"""Seconds without more room after which a backend counts as stuck."""


def increment(by: int) -> bytes:
    """What WINDOW_UPDATE says."""
    return struct.pack(">I", by)


def upload(it: Connection, *frames: bytes) -> None:
    """A request that may pass, with these frames behind its head."""
    it.post()
    it.send(*frames)


def padded_head(it: Connection, length: int, padding: int, asked: int = 0) -> None:
    """HEADERS that announce `length` octets of padding and have `padding`."""
    it.asked += asked
    it.send(frame(HEADERS, WHOLE | PADDED, 1, bytes([length]) + block(fields()) + b"\0" * padding))


def settings(it: Connection, *entries: bytes) -> None:
    """SETTINGS with these entries."""
    it.send(frame(SETTINGS, 0, 0, b"".join(entries)))


def is_acknowledged(it: Connection) -> None:
    """Each SETTINGS frame gets one acknowledgement."""
    settings(it, setting(3, 100))
    settings(it)
    for _ in range(3):
        # The first one is for the settings at the beginning.
        while "ACK" not in it.expect(SettingsFrame).flags:
            pass


def smallest_table(it: Connection) -> None:
    """Nothing may be remembered; the decoder here would notice."""
    settings(it, setting(1, 0))
    it.decoder.max_allowed_table_size = 0
    it.get()


def last_counts(it: Connection) -> None:
    """Of two values for one setting the second one holds."""
    settings(it, setting(4, 0), setting(4, 100))
    it.get(path="/bytes/100")
    it.answered()


def echo(it: Connection) -> None:
    """The answer holds the same octets."""
    it.send(frame(PING, 0, 0, b"\0\1\2echo\xff"))
    answer = it.expect(PingFrame)
    assert answer.opaque_data == b"\0\1\2echo\xff" and "ACK" in answer.flags, answer


def answered_though_leaving(it: Connection) -> None:
    """What was asked before is still answered; then the connection ends."""
    it.get()
    it.send(frame(GOAWAY, 0, 0, increment(0) + increment(0)))
    answered = it.answered()
    assert answered == 200, answered


def octets_within(it: Connection, limit: int) -> int:
    """How much DATA of the response has come when nothing more does."""
    total = 0
    while total < limit:
        total += len(it.expect(DataFrame).data)
    return total


def keeps_to_the_window(it: Connection) -> None:
    """One octet, then three, then the rest; never more than there is room for."""
    settings(it, setting(4, 1))
    it.get(path="/bytes/10")
    it.expect(HeadersFrame)
    for room in (1, 3, 6):
        if room > 1:
            it.send(frame(WINDOW_UPDATE, 0, 1, increment(room)))
        came = octets_within(it, room)
        assert came == room, f"{came} octets in a window of {room}"


def waits_below_zero(it: Connection) -> None:
    """A window that became negative must become positive before anything is sent."""
    settings(it, setting(4, 5))
    it.get(path="/bytes/10")
    octets_within(it, 5)
    settings(it, setting(4, 0))
    it.send(frame(WINDOW_UPDATE, 0, 1, increment(5)), frame(PING, 0, 0, b"no data!"))
    while not isinstance(came := it.frame(), PingFrame):
        assert not isinstance(came, DataFrame), "DATA in a window of 0"
    it.send(frame(WINDOW_UPDATE, 0, 1, increment(5)))
    octets_within(it, 5)


def beyond_the_window(it: Connection) -> None:
    """Sends to a backend that does not read until no more room is granted, and then one frame more."""
    it.asked += 1
    it.headers(fields("/stuck", "POST"), 1, END_HEADERS)
    piece = 16_384
    room = {0: 65_535, 1: it.settings[SettingsFrame.INITIAL_WINDOW_SIZE]}
    try:
        while True:
            while min(room.values()) >= piece:
                it.send(frame(DATA, 0, 1, b"x" * piece))
                room = {stream: left - piece for stream, left in room.items()}
            if isinstance(came := it.frame(STUCK), WindowUpdateFrame):
                room[came.stream_id] += came.window_increment
    except TimeoutError:
        it.send(frame(DATA, 0, 1, b"x" * piece))


CASES = [
    Case("6.1", "DATA on stream 0 is an error", PROTOCOL, lambda it: it.send(frame(DATA, 0, 0, b"x"))),
    Case(
        "6.1",
        "padding as long as the payload is an error",
        PROTOCOL,
        lambda it: upload(it, frame(DATA, END_STREAM | PADDED, 1, b"\5body")),
    ),
    Case(
        "6.1",
        "padding longer than the payload is an error",
        PROTOCOL,
        lambda it: upload(it, frame(DATA, END_STREAM | PADDED, 1, b"\xffbody")),
    ),
    Case(
        "6.1",
        "a padded frame without a length is an error",
        OTHER_SIZE,
        lambda it: upload(it, frame(DATA, END_STREAM | PADDED, 1, b"")),
    ),
    Case(
        "6.1",
        "padding is taken away",
        status(200),
        lambda it: upload(it, frame(DATA, END_STREAM | PADDED, 1, b"\3body\0\0\0")),
    ),
    Case(
        "6.1",
        "a frame of nothing but padding is taken",
        status(200),
        lambda it: upload(it, frame(DATA, END_STREAM | PADDED, 1, b"\3\0\0\0")),
    ),
    Case(
        "6.1",
        "an empty frame ends a body",
        status(200),
        lambda it: upload(it, frame(DATA, 0, 1, b"body"), frame(DATA, END_STREAM, 1, b"")),
    ),
    Case("6.2", "HEADERS on stream 0 are an error", PROTOCOL, lambda it: it.headers(fields(), 0)),
    Case("6.2", "padding longer than the field block is an error", PROTOCOL, lambda it: padded_head(it, 255, 2)),
    Case("6.2", "padding of a field block is taken away", status(200), lambda it: padded_head(it, 4, 4, asked=1)),
    Case(
        "6.2",
        "padded HEADERS without a length are an error",
        OTHER_SIZE,
        lambda it: it.send(frame(HEADERS, WHOLE | PADDED, 1, b"")),
    ),
    Case(
        "6.2",
        "HEADERS too short for their priority are an error",
        OTHER_SIZE,
        lambda it: it.send(frame(HEADERS, WHOLE | WITH_PRIORITY, 1, b"\0\0\0")),
    ),
    Case("6.3", "PRIORITY on stream 0 is an error", PROTOCOL, lambda it: it.send(frame(PRIORITY, 0, 0, depends(1)))),
    Case(
        "6.3",
        "PRIORITY of 4 octets is an error of the stream",
        wider("FRAME_SIZE_ERROR"),
        lambda it: it.send(frame(PRIORITY, 0, 1, b"\0" * 4)),
    ),
    Case(
        "6.3",
        "PRIORITY of 6 octets is an error of the stream",
        wider("FRAME_SIZE_ERROR"),
        lambda it: it.send(frame(PRIORITY, 0, 1, b"\0" * 6)),
    ),
    Case("6.4", "RST_STREAM on stream 0 is an error", PROTOCOL, lambda it: it.send(frame(RST_STREAM, 0, 0, CANCEL))),
    Case(
        "6.4",
        "RST_STREAM of 3 octets is an error",
        OTHER_SIZE,
        lambda it: upload(it, frame(RST_STREAM, 0, 1, b"\0" * 3)),
    ),
    Case(
        "6.4",
        "RST_STREAM of 5 octets is an error",
        OTHER_SIZE,
        lambda it: upload(it, frame(RST_STREAM, 0, 1, b"\0" * 5)),
    ),
    Case("7", "a stream is reset whatever the code", ALIVE, lambda it: upload(it, frame(RST_STREAM, 0, 1, b"\xff" * 4))),
    Case("6.5", "SETTINGS on a stream are an error", PROTOCOL, lambda it: it.send(frame(SETTINGS, 0, 1, b""))),
    Case(
        "6.5",
        "an acknowledgement of SETTINGS with a payload is an error",
        OTHER_SIZE,
        lambda it: it.send(frame(SETTINGS, ACK, 0, setting(3, 1))),
    ),
    Case("6.5", "SETTINGS of 5 octets are an error", OTHER_SIZE, lambda it: it.send(frame(SETTINGS, 0, 0, b"\0" * 5))),
    Case("6.5", "SETTINGS of 7 octets are an error", OTHER_SIZE, lambda it: it.send(frame(SETTINGS, 0, 0, b"\0" * 7))),
    Case("6.5.2", "ENABLE_PUSH of 2 is an error", PROTOCOL, lambda it: settings(it, setting(2, 2))),
    Case(
        "6.5.2",
        "INITIAL_WINDOW_SIZE above 2^31-1 is an error",
        PROTOCOL.instead_of(FLOW, "codes"),
        lambda it: settings(it, setting(4, MOST + 1)),
    ),
    Case("6.5.2", "MAX_FRAME_SIZE below 16,384 is an error", PROTOCOL, lambda it: settings(it, setting(5, 16_383))),
    Case("6.5.2", "MAX_FRAME_SIZE above 2^24-1 is an error", PROTOCOL, lambda it: settings(it, setting(5, 1 << 24))),
    Case("3 of RFC 8441", "ENABLE_CONNECT_PROTOCOL of 2 is an error", PROTOCOL, lambda it: settings(it, setting(8, 2))),
    Case("6.5.2", "an unknown setting is ignored", ALIVE, lambda it: settings(it, setting(0x5555, 9))),
    Case("6.5.2", "a table of no size is kept to", status(200), smallest_table),
    Case("6.5.3", "settings are applied in their order", ALIVE, last_counts),
    Case("6.5.3", "SETTINGS are acknowledged, each of them", ALIVE, is_acknowledged),
    Case(
        "6.6",
        "PUSH_PROMISE of a client is an error",
        PROTOCOL,
        lambda it: upload(it, frame(PUSH_PROMISE, END_HEADERS, 1, increment(2) + block(fields()))),
    ),
    Case(
        "6.6",
        "PUSH_PROMISE on stream 0 is an error",
        PROTOCOL,
        lambda it: it.send(frame(PUSH_PROMISE, END_HEADERS, 0, increment(2) + block(fields()))),
    ),
    Case("6.7", "PING is answered with the same octets", ALIVE, echo),
    Case("6.7", "an answer to no PING is not answered", ALIVE, lambda it: it.send(frame(PING, ACK, 0, b"unasked!"))),
    Case("6.7", "PING on a stream is an error", PROTOCOL, lambda it: it.send(frame(PING, 0, 1, b"x" * 8))),
    Case("6.7", "PING of 7 octets is an error", OTHER_SIZE, lambda it: it.send(frame(PING, 0, 0, b"x" * 7))),
    Case("6.7", "PING of 9 octets is an error", OTHER_SIZE, lambda it: it.send(frame(PING, 0, 0, b"x" * 9))),
    Case("6.8", "GOAWAY on a stream is an error", PROTOCOL, lambda it: it.send(frame(GOAWAY, 0, 1, b"\0" * 8))),
    Case("6.8", "GOAWAY of 7 octets is an error", OTHER_SIZE, lambda it: it.send(frame(GOAWAY, 0, 0, b"\0" * 7))),
    Case("6.8", "who says GOAWAY still gets the answers to its requests", CLOSED, answered_though_leaving),
    Case(
        "6.9",
        "WINDOW_UPDATE of 0 for the connection is an error",
        PROTOCOL,
        lambda it: it.send(frame(WINDOW_UPDATE, 0, 0, increment(0))),
    ),
    Case(
        "6.9",
        "WINDOW_UPDATE of 0 for a stream is an error of the stream",
        wider("PROTOCOL_ERROR"),
        lambda it: upload(it, frame(WINDOW_UPDATE, 0, 1, increment(0))),
    ),
    Case(
        "6.9",
        "WINDOW_UPDATE of 3 octets is an error",
        OTHER_SIZE,
        lambda it: it.send(frame(WINDOW_UPDATE, 0, 0, b"\0" * 3)),
    ),
    Case(
        "6.9",
        "WINDOW_UPDATE of 5 octets is an error",
        OTHER_SIZE,
        lambda it: it.send(frame(WINDOW_UPDATE, 0, 0, b"\0" * 5)),
    ),
    Case("6.9.1", "a response keeps to the window", ALIVE, keeps_to_the_window),
    Case(
        "6.9.1",
        "a window of the connection above 2^31-1 is an error",
        FLOW,
        lambda it: it.send(frame(WINDOW_UPDATE, 0, 0, increment(MOST))),
    ),
    Case(
        "6.9.1",
        "a window of a stream above 2^31-1 is an error of the stream",
        stream_error("FLOW_CONTROL_ERROR"),
        lambda it: upload(it, frame(WINDOW_UPDATE, 0, 1, increment(MOST))),
    ),
    Case("6.9.1", "DATA beyond the window is an error", stream_error("FLOW_CONTROL_ERROR"), beyond_the_window),
    Case("6.9.2", "a window below 0 must grow above it first", ALIVE, waits_below_zero),
    Case(
        "6.9.2",
        "SETTINGS that make a window overflow are an error",
        FLOW,
        lambda it: (upload(it, frame(WINDOW_UPDATE, 0, 1, increment(MOST - 65_535))), settings(it, setting(4, 65_536))),
    ),
    Case(
        "6.10",
        "CONTINUATION on stream 0 is an error",
        PROTOCOL,
        lambda it: it.send(frame(CONTINUATION, END_HEADERS, 0, b"")),
    ),
    Case(
        "6.10",
        "CONTINUATION behind END_HEADERS is an error",
        PROTOCOL,
        lambda it: upload(it, frame(CONTINUATION, END_HEADERS, 1, b"")),
    ),
    Case(
        "6.10",
        "CONTINUATION behind DATA is an error",
        PROTOCOL,
        lambda it: upload(it, frame(DATA, 0, 1, b"x"), frame(CONTINUATION, END_HEADERS, 1, b"")),
    ),
    Case(
        "6.10",
        "CONTINUATION without end is an error",
        connection_error("ENHANCE_YOUR_CALM"),
        lambda it: it.send(frame(HEADERS, END_STREAM, 1, b""), frame(CONTINUATION, 0, 1, b"") * 100),
    ),
]
