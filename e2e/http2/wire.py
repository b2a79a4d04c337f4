"""A client that sends whatever it is told, and reads frames."""

import contextlib
import socket
import ssl
import time

import http2
from hpack import Decoder
from hyperframe.frame import Frame, GoAwayFrame, HeadersFrame, PingFrame, RstStreamFrame, SettingsFrame

ERRORS = [
    "NO_ERROR",
    "PROTOCOL_ERROR",
    "INTERNAL_ERROR",
    "FLOW_CONTROL_ERROR",
    "SETTINGS_TIMEOUT",
    "STREAM_CLOSED",
    "FRAME_SIZE_ERROR",
    "REFUSED_STREAM",
    "CANCEL",
    "COMPRESSION_ERROR",
    "CONNECT_ERROR",
    "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY",
    "HTTP_1_1_REQUIRED",
]
"""Names of error codes (RFC 9113, section 7)."""

HOST = "api.example.com"

PATIENCE = 5.0
"""Seconds until an answer that never comes is missed."""

Field = tuple[str | bytes, str | bytes]


def fields(path: str = "/open", method: str = "GET", more: tuple[Field, ...] = ()) -> list[Field]:
    """The fields of a request, of which nothing is wrong."""
    return [(":method", method), (":scheme", "http"), (":authority", HOST), (":path", path), *more]


def block(of: list[Field]) -> bytes:
    """A field block of literals that no table remembers."""
    return b"".join(http2.field_line(name, value) for name, value in of)


class Closed(Exception):
    """The other side has closed the connection."""


class Connection:
    """One connection, of which the first frames are exchanged."""

    def __init__(self, port: int, tls: ssl.SSLContext | None, greet: bool = True) -> None:
        self.socket: socket.socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls:
            self.socket = tls.wrap_socket(self.socket, server_hostname=HOST)
        self.decoder = Decoder()
        self.received = self.unsent = b""
        self.asked = 0
        """How many requests were begun that may pass."""
        self.watched = 1
        """The stream on which an answer is awaited."""
        if greet:
            self.send(http2.PREFACE, http2.frame(http2.SETTINGS, 0, 0))
            self.settings = self.expect(SettingsFrame).settings
            self.send(http2.frame(http2.SETTINGS, http2.ACK, 0))

    def send(self, *pieces: bytes) -> None:
        """Sends bytes, together with others that nothing is read between."""
        self.unsent += b"".join(pieces)

    def flush(self) -> None:
        """Really sends them. Whoever closed the connection already has said why, and that is what is read."""
        unsent, self.unsent = self.unsent, b""
        with contextlib.suppress(OSError):
            self.socket.sendall(unsent)

    def headers(self, of: list[Field], stream: int = 1, flags: int = http2.END_HEADERS | http2.END_STREAM) -> None:
        """Sends a HEADERS frame of a request that must not pass."""
        self.send(http2.frame(http2.HEADERS, flags, stream, block(of)))

    def get(self, stream: int = 1, path: str = "/open") -> None:
        """Sends a whole request that may pass."""
        self.asked += 1
        self.headers(fields(path), stream)

    def post(self, stream: int = 1, more: tuple[Field, ...] = ()) -> None:
        """Begins a request that may pass; its body is still to come."""
        self.asked += 1
        self.headers(fields("/open", "POST", more), stream, http2.END_HEADERS)

    def frame(self, patience: float = PATIENCE) -> Frame:
        """The next frame."""
        self.flush()
        deadline = time.monotonic() + patience
        while True:
            if len(self.received) >= 9:
                frame, length = Frame.parse_frame_header(memoryview(self.received[:9]))
                if len(self.received) >= 9 + length:
                    frame.parse_body(memoryview(self.received[9 : 9 + length]))
                    self.received = self.received[9 + length :]
                    if isinstance(frame, HeadersFrame):
                        frame.fields = dict(self.decoder.decode(frame.data))
                    return frame
            self.socket.settimeout(max(0.001, deadline - time.monotonic()))
            self.fill()

    def fill(self) -> None:
        """Reads what there is."""
        try:
            read = self.socket.recv(65536)
        except (ConnectionError, ssl.SSLError) as error:
            raise Closed from error
        if not read:
            raise Closed
        self.received += read

    def expect(self, kind: type[Frame]) -> Frame:
        """The next frame of a kind; others are passed over."""
        while True:
            frame = self.frame()
            if isinstance(frame, kind):
                return frame

    def answered(self, stream: int = 1) -> int:
        """Waits for a whole response, and returns its status."""
        status = 0
        while True:
            frame = self.frame()
            if frame.stream_id != stream:
                continue
            if isinstance(frame, RstStreamFrame):
                raise Closed
            if isinstance(frame, HeadersFrame):
                status = int(frame.fields.get(":status", status))
            if "END_STREAM" in frame.flags:
                return status

    def outcome(self, alive: bool) -> str:
        """What came of it all. `alive`: that nothing does is an answer, too."""
        try:
            return self.judged(alive)
        except TimeoutError:
            return "silence"
        except Closed:
            return "closed"

    def judged(self, alive: bool) -> str:
        """The first thing that says what became of the watched stream, or of the connection."""
        pings = 0
        if alive:
            self.send(http2.frame(http2.PING, 0, 0, b"are you "))
        while True:
            frame = self.frame()
            if isinstance(frame, GoAwayFrame) and frame.error_code:
                return f"connection error {ERRORS[frame.error_code]}{self.after_farewell()}"
            if isinstance(frame, PingFrame) and "ACK" in frame.flags and alive:
                # What belongs to one stream may come after the first answer, not after the second.
                pings += 1
                if pings == 2:
                    return "alive"
                self.send(http2.frame(http2.PING, 0, 0, b"there???"))
            if frame.stream_id == self.watched:
                if isinstance(frame, RstStreamFrame):
                    return f"stream error {ERRORS[frame.error_code]}{self.after_error()}"
                if isinstance(frame, HeadersFrame) and not alive:
                    return f"status {frame.fields[':status']}{self.after_error()}"

    def after_farewell(self) -> str:
        """A connection error closes the connection."""
        try:
            while True:
                self.frame()
        except Closed:
            return ""
        except TimeoutError:
            return ", but stays open"

    def after_error(self) -> str:
        """An error of a stream leaves the connection as it was."""
        self.watched = -1
        after = self.outcome(alive=True)
        return "" if after == "alive" else f", then {after}"

    def close(self) -> None:
        """Ends it."""
        self.socket.close()
