#!/usr/bin/env python3
"""The upstream of a soak, a program of its own, on every address of loopback; prints its port.

`/up` answers with the number of bytes that came, `/down` with a mebibyte, `/stream` with a line twice a second and no
end; who asks for another protocol gets back what it sends; all else is answered with a kibibyte.
"""

import signal
import socket
import threading
import time

KIB, MIB = b"x" * 1024, b"x" * (1 << 20)


class Gone(Exception):
    """The other side closed the connection."""


class Stream:
    """A connection from which lines and bytes are read."""

    def __init__(self, plain: socket.socket) -> None:
        self.plain, self.ahead = plain, b""

    def more(self) -> None:
        """Reads on."""
        data = self.plain.recv(1 << 16)
        if not data:
            raise Gone
        self.ahead += data

    def until(self, end: bytes) -> bytes:
        """All up to these bytes, which are left out."""
        while end not in self.ahead:
            self.more()
        found, self.ahead = self.ahead.split(end, 1)
        return found

    def exactly(self, size: int) -> bytes:
        """So many bytes."""
        while len(self.ahead) < size:
            self.more()
        found, self.ahead = self.ahead[:size], self.ahead[size:]
        return found


def body(stream: Stream, fields: dict[bytes, bytes]) -> int:
    """How many bytes a request's body has."""
    if fields.get(b"transfer-encoding") != b"chunked":
        return len(stream.exactly(int(fields.get(b"content-length", 0))))
    total = 0
    while size := int(stream.until(b"\r\n"), 16):
        stream.exactly(size + 2)
        total += size
    stream.until(b"\r\n")
    return total


def answer(stream: Stream) -> None:
    """One request."""
    first, *lines = stream.until(b"\r\n\r\n").split(b"\r\n")
    fields = {name.lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines)}
    path, size = first.split(b" ")[1], body(stream, fields)
    if b"upgrade" in fields:
        stream.plain.sendall(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: %s\r\n\r\n" % fields[b"upgrade"])
        while True:
            stream.plain.sendall(stream.exactly(len(stream.ahead)))
            stream.more()
    if path == b"/stream":
        stream.plain.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            stream.plain.sendall(b"6\r\nalive\n\r\n")
            time.sleep(0.5)
    text = {b"/up": b"%d" % size, b"/down": MIB}.get(path, KIB)
    stream.plain.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(text) + text)


def serve(plain: socket.socket) -> None:
    """One connection."""
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    stream = Stream(plain)
    try:
        while True:
            answer(stream)
    except (Gone, OSError):
        plain.close()


def accept(listener: socket.socket) -> None:
    """A thread for each connection."""
    while True:
        threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()


if __name__ == "__main__":
    threading.stack_size(256 * 1024)
    listener = socket.create_server(("0.0.0.0", 0), backlog=1024)
    print(listener.getsockname()[1], flush=True)
    threading.Thread(target=accept, args=(listener,), daemon=True).start()
    signal.sigwait([signal.SIGTERM])
