"""WebSockets that are opened one by one while the configuration changes, and what the proxy holds for them in the end."""

import base64
import contextlib
import hashlib
import socket
import threading
import time
from dataclasses import dataclass
from itertools import count

import peers
import swap
from change import fresh
from load import WrongAnswer
from machine import resident_kib
from peers import Running

COUNT = 1_000
"""WebSockets that are open in the end."""

LASTING = 70.0
"""Seconds over which they are opened if there are changes meanwhile."""

EARLY = 20.0
"""Seconds of changes before all are opened, if they come before."""

SETTLED = 3.0
"""Seconds of rest before memory is looked at."""

HOST = "sockets.example.com"
KEY = base64.b64encode(b"0123456789abcdef")
ACCEPT = base64.b64encode(hashlib.sha1(KEY + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
PATH = b"/p3/socket"
ASK = b"GET %b HTTP/1.1\r\nHost: %b\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" % (PATH, HOST.encode())
ASK += b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %b\r\n\r\n" % KEY
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: %b\r\n\r\n"
PLAIN = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
PING, PONG = b"\x89\x80\0\0\0\0", b"\x8a\x00"
"""Frames without content; a client's has a mask (RFC 6455, section 5.1)."""


@dataclass(frozen=True)
class Held:
    """What there was in the end."""

    mebibytes: float
    generations: int
    """Snapshots that came while WebSockets were opened."""


class Upstream:
    """Switches to WebSockets and answers pings, each connection in a thread that mostly sleeps."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.port = int(self.listener.getsockname()[1])
        threading.Thread(target=self.run, daemon=True).start()

    def run(self) -> None:
        """Until the listener is closed."""
        with contextlib.suppress(OSError):
            while True:
                stream, _ = self.listener.accept()
                threading.Thread(target=serve, args=(stream,), daemon=True).start()


def serve(stream: socket.socket) -> None:
    """One connection."""
    with contextlib.suppress(OSError), stream:
        head = until(stream, b"\r\n\r\n")
        if PATH not in head:
            stream.sendall(PLAIN)
            return
        stream.sendall(SWITCH % ACCEPT)
        while stream.recv(1024):
            stream.sendall(PONG)


def until(stream: socket.socket, end: bytes) -> bytes:
    """What comes until it ends so."""
    data = b""
    while not data.endswith(end):
        more = stream.recv(4096)
        if not more:
            raise WrongAnswer(f"a connection ended after {data[:200]!r}")
        data += more
    return data


def opened(port: int) -> socket.socket:
    """A WebSocket through the proxy."""
    stream = socket.create_connection(("127.0.0.1", port), timeout=10)
    stream.sendall(ASK)
    head = until(stream, b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 101 "):
        raise WrongAnswer(f"no WebSocket: {head[:200]!r}")
    return stream


def hold(running: Running, changes: str) -> Held:
    """Opens them, all at once or some for each generation, and looks while they rest."""
    upstream, manifests = Upstream(), running.log.parent / "manifests"
    peers.replace(manifests / "sockets.yaml", peers.fill("whygate-sockets.yaml", SOCKETS=upstream.port))
    peers.replace(manifests / "sockets-host.yaml", peers.ingress(HOST, "sockets"))
    deadline = time.monotonic() + 60
    while fresh(running.ports.http, HOST) != 200:
        if time.monotonic() > deadline:
            raise WrongAnswer("no route to WebSockets")
        time.sleep(0.1)
    before, turns = swap.generation(running), count()
    streams: list[socket.socket] = []
    begun = time.monotonic()
    while changes == "before" and time.monotonic() < begun + EARLY:
        turned(running, next(turns))
    begun = time.monotonic()
    try:
        while len(streams) < COUNT:
            if changes == "during":
                turned(running, next(turns))
            wanted = int(COUNT * min(1.0, (time.monotonic() - begun) / LASTING)) if changes == "during" else COUNT
            streams += [opened(running.ports.http) for _ in range(max(wanted - len(streams), 1))]
        generations = swap.generation(running) - before
        answered(streams)
        time.sleep(SETTLED)
        return Held(resident_kib(running.process.pid) / 1024, generations)
    finally:
        for stream in (*streams, upstream.listener):
            stream.close()


def turned(running: Running, number: int) -> None:
    """One change, until every data thread has it."""
    before, deadline = swap.generation(running), time.monotonic() + 10
    swap.turn(running, number)
    while swap.generation(running) == before:
        if time.monotonic() > deadline:
            raise WrongAnswer("a change made no snapshot")
        time.sleep(0.01)


def answered(streams: list[socket.socket]) -> None:
    """All of them are open, both ways."""
    for stream in streams:
        stream.sendall(PING)
        if until(stream, PONG) != PONG:
            raise WrongAnswer("a WebSocket carries what nobody sent")
