#!/usr/bin/env python3
"""What the proxy forwards to, a program of its own: backend.py ROLE…; prints the port of each role as JSON.

Every role has a port, and what comes there is treated alike: `ok` answers, `big` sends a gibibyte, `hold` never
answers, the others are faults. The port of the role `counts` tells how many connections and requests each had.
"""

import json
import signal
import socket
import sys
import threading
import time
from collections import Counter

BODY = b"x" * 1024
BIG = 1 << 30
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 1024\r\n\r\n" + BODY

connections: Counter[str] = Counter()
requests: Counter[str] = Counter()


def head(stream: socket.socket, ahead: bytes) -> tuple[bytes, bytes] | None:
    """A request's head, its body left unread unless it is of known length; nothing at the end of the stream."""
    while b"\r\n\r\n" not in ahead:
        data = stream.recv(1 << 16)
        if not data:
            return None
        ahead += data
    first, rest = ahead.split(b"\r\n\r\n", 1)
    lines = first.lower().split(b"\r\n")
    length = next((int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length:")), 0)
    while len(rest) < length:
        data = stream.recv(1 << 16)
        if not data:
            return None
        rest += data
    return first, rest[length:]


def ok(stream: socket.socket, ahead: bytes) -> bool:
    """An answer of a kibibyte."""
    stream.sendall(OK)
    return True


def big(stream: socket.socket, ahead: bytes) -> bool:
    """As much as the client takes."""
    stream.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {BIG}\r\n\r\n".encode())
    for _ in range(BIG // (1 << 16)):
        stream.sendall(b"x" * (1 << 16))
    return True


def hold(stream: socket.socket, ahead: bytes) -> bool:
    """Nothing, until the other side goes."""
    while stream.recv(1 << 16):
        pass
    return False


def dies(stream: socket.socket, ahead: bytes) -> bool:
    """Half of an answer."""
    stream.sendall(OK[:-512])
    return False


def closes(stream: socket.socket, ahead: bytes) -> bool:
    """The end instead of an answer."""
    return False


def garbage(stream: socket.socket, ahead: bytes) -> bool:
    """No HTTP."""
    stream.sendall(b"\x16\x03\x01\x00\x00 this is no answer\r\n\r\n" * 8)
    time.sleep(0.2)
    return False


def huge(stream: socket.socket, ahead: bytes) -> bool:
    """One field of a mebibyte."""
    stream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-Large: " + b"x" * (1 << 20) + b"\r\n\r\n")
    return False


def endless(stream: socket.socket, ahead: bytes) -> bool:
    """Fields without an end."""
    stream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n")
    while True:
        stream.sendall(b"X-More: more\r\n" * 1000)


def both(stream: socket.socket, ahead: bytes) -> bool:
    """Two lengths that disagree."""
    stream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 5\r\n\r\nhello")
    time.sleep(0.2)
    return False


def late(stream: socket.socket, ahead: bytes) -> bool:
    """An answer, but after the patience of the proxy."""
    time.sleep(4)
    stream.sendall(OK)
    return True


def surplus(stream: socket.socket, ahead: bytes) -> bool:
    """An answer, and bytes behind it that nobody asked for."""
    stream.sendall(OK + b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nworse")
    time.sleep(0.2)
    return True


def stale(stream: socket.socket, ahead: bytes) -> bool:
    """An answer that promises a connection that stays, and its end at once."""
    stream.sendall(OK)
    return False


ROLES = {role.__name__: role for role in (ok, big, hold, dies, closes, garbage, huge, endless, both, late, surplus, stale)}


def serve(name: str, stream: socket.socket) -> None:
    """One connection."""
    connections[name] += 1
    ahead = b""
    try:
        while found := head(stream, ahead):
            requests[name] += 1
            ahead = found[1]
            if not ROLES[name](stream, ahead):
                break
    except OSError:
        pass
    stream.close()


def counts(stream: socket.socket) -> None:
    """All roles, as JSON."""
    text = json.dumps({name: [connections[name], requests[name]] for name in ROLES})
    stream.recv(1 << 16)
    stream.sendall(text.encode())
    stream.close()


def listen(name: str) -> int:
    """Serves a role in threads; returns its port."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=4096)

    def accept() -> None:
        while True:
            stream, _ = listener.accept()
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            work = (counts, (stream,)) if name == "counts" else (serve, (name, stream))
            threading.Thread(target=work[0], args=work[1], daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return int(listener.getsockname()[1])


if __name__ == "__main__":
    threading.stack_size(128 * 1024)
    print(json.dumps({name: listen(name) for name in [*sys.argv[1:], "counts"]}), flush=True)
    signal.sigwait([signal.SIGTERM])
