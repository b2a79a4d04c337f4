"""HTTP/2 frames made by hand (RFC 9113, RFC 7541), so that they can be wrong in every way."""

import select
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
"""Types of frames (RFC 9113, section 6)."""
END_STREAM, ACK, END_HEADERS, PADDED, WITH_PRIORITY = 0x1, 0x1, 0x4, 0x8, 0x20
"""Flags of frames."""
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
CANCEL = struct.pack(">I", 8)

STATIC_STATUSES = {8: 200, 9: 204, 10: 206, 11: 304, 12: 400, 13: 404, 14: 500}
DIGITS = {"00000": "0", "00001": "1", "00010": "2"} | {f"{25 + digit:06b}": str(digit + 3) for digit in range(7)}
"""The digits in Huffman's code (RFC 7541 appendix B)."""


def frame(kind: int, flags: int, stream: int, payload: bytes = b"", length: int | None = None) -> bytes:
    """One frame, with a length of its own if one is given."""
    said = len(payload) if length is None else length
    return struct.pack(">I", said)[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def integer(value: int, prefix: int, first: int = 0) -> bytes:
    """A number of HPACK, behind the bits of `first`."""
    most = (1 << prefix) - 1
    if value < most:
        return bytes((first | value,))
    out, value = [first | most], value - most
    while value >= 128:
        out.append(value % 128 + 128)
        value //= 128
    return bytes([*out, value])


def text(value: str | bytes) -> bytes:
    """A string without Huffman's code (RFC 7541, section 5.2), each octet as it is."""
    octets = value.encode("latin-1") if isinstance(value, str) else value
    return integer(len(octets), 7) + octets


def field_line(name: str | bytes, value: str | bytes, indexed: bool = False) -> bytes:
    """A field with its name spelled out (RFC 7541, section 6.2); `indexed` puts it into the table."""
    return (b"\x40" if indexed else b"\x00") + text(name) + text(value)


def request(host: str, path: str = "/", method: str = "GET", fields: bytes = b"") -> bytes:
    """The block of a request's head."""
    head = [(":method", method), (":scheme", "http"), (":path", path), (":authority", host)]
    return b"".join(field_line(*one) for one in head) + fields


def headers(stream: int, block: bytes, end: bool = True) -> bytes:
    """HEADERS, with as many CONTINUATION as it takes."""
    parts = [block[at : at + 16384] for at in range(0, len(block), 16384)] or [b""]
    out = []
    for number, part in enumerate(parts):
        flags = END_HEADERS if number == len(parts) - 1 else 0
        kind = CONTINUATION
        if number == 0:
            kind, flags = HEADERS, flags | (END_STREAM if end else 0)
        out.append(frame(kind, flags, stream, part))
    return b"".join(out)


def settings(**values: int) -> bytes:
    """SETTINGS with these numbers and values (`s4=0`)."""
    return frame(SETTINGS, 0, 0, b"".join(setting(int(name[1:]), value) for name, value in values.items()))


def setting(number: int, value: int) -> bytes:
    """One entry of SETTINGS."""
    return struct.pack(">HI", number, value)


def frames(data: bytes) -> int:
    """How many there are."""
    count = at = 0
    while at < len(data):
        at, count = at + 9 + int.from_bytes(data[at : at + 3], "big"), count + 1
    return count


def window(stream: int, more: int) -> bytes:
    """WINDOW_UPDATE."""
    return frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", more))


def status(block: bytes) -> int:
    """The status at the head of a response's block, made without a dynamic table; 0 if it cannot be told."""
    at = 0
    while at < len(block) and block[at] & 0xE0 == 0x20:
        at += 1
    first = block[at] if at < len(block) else 0
    if first & 0x80:
        return STATIC_STATUSES.get(first & 0x7F, 0)
    length = block[at + 1] if at + 1 < len(block) else 0
    value = block[at + 2 : at + 2 + (length & 0x7F)]
    if not length & 0x80:
        return int(value) if value.isdigit() else 0
    bits, digits = "".join(f"{byte:08b}" for byte in value), ""
    while bits and (found := next((code for code in DIGITS if bits.startswith(code)), None)):
        digits, bits = digits + DIGITS[found], bits[len(found) :]
    return int(digits or 0)


@dataclass
class Connection:
    """A connection that sends what it is told to and notes what comes."""

    socket: socket.socket
    begun: float = field(default_factory=time.monotonic)
    buffer: bytes = b""
    goaway: int | None = None
    """The code of the last GOAWAY."""
    closed: float | None = None
    """When its end came."""
    resets: dict[int, int] = field(default_factory=dict)
    statuses: dict[int, int] = field(default_factory=dict)
    ended: set[int] = field(default_factory=set)
    received: int = 0

    @staticmethod
    def open(port: int, hello: bytes = b"", source: str = "127.0.0.1") -> "Connection":
        """With the preface and an own SETTINGS, which switches the dynamic table of responses off."""
        made = socket.create_connection(("127.0.0.1", port), timeout=10, source_address=(source, 0))
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made.sendall(PREFACE + (hello or settings(s1=0)))
        made.setblocking(False)
        return Connection(made)

    def send(self, data: bytes, wait: float = 5.0) -> bool:
        """All of it, while what comes is read; false if the connection ended meanwhile, or nothing moves."""
        deadline = time.monotonic() + wait
        while data and self.closed is None and time.monotonic() < deadline:
            try:
                data = data[self.socket.send(data) :]
            except BlockingIOError:
                self.pump(0.01, writing=True)
            except OSError:
                self.drain()
                self.end()
        return not data and self.closed is None

    def pump(self, wait: float = 0.0, writing: bool = False) -> None:
        """Reads what has come, or comes within `wait` seconds."""
        if self.closed is None and any(select.select([self.socket], [self.socket] if writing else [], [], wait)):
            self.drain()

    def drain(self) -> None:
        """Reads until nothing is left."""
        while self.closed is None:
            try:
                data = self.socket.recv(1 << 16)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            self.received += len(data)
            if not data:
                return self.end()
            self.take(data)

    def until(self, done: Callable[[], bool], wait: float) -> bool:
        """Reads until `done()` holds or the connection ended."""
        deadline = time.monotonic() + wait
        while not done() and self.closed is None and time.monotonic() < deadline:
            self.pump(0.05)
        return done()

    def take(self, data: bytes) -> None:
        """Notes the frames."""
        self.buffer += data
        while len(self.buffer) >= 9:
            length = int.from_bytes(self.buffer[:3], "big")
            if len(self.buffer) < 9 + length:
                return
            kind, flags = self.buffer[3], self.buffer[4]
            stream, payload = int.from_bytes(self.buffer[5:9], "big") & 0x7FFFFFFF, self.buffer[9 : 9 + length]
            self.buffer = self.buffer[9 + length :]
            if kind == GOAWAY:
                self.goaway = int.from_bytes(payload[4:8], "big")
            elif kind == RST_STREAM:
                self.resets[stream] = int.from_bytes(payload, "big")
            elif kind == HEADERS:
                self.statuses.setdefault(stream, status(payload))
            if kind in (DATA, HEADERS) and flags & END_STREAM:
                self.ended.add(stream)

    def end(self) -> None:
        """Once."""
        if self.closed is None:
            self.closed = time.monotonic()
            self.socket.close()

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *_: object) -> None:
        self.end()
