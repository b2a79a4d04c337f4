"""What an attack is, what it has at hand, and what it found."""

import json
import select
import socket
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from finding import Finding
from whygate import Program

KIB, MIB = 1024, 1024 * 1024

SHORT = ("--upstream-first-byte-seconds=1", "--upstream-connect-seconds=1", "--body-idle-seconds=1")
"""Together they bound how long a connection may stand still, to 8 seconds, as well as `--transfer-idle-seconds`."""

SLACK = 2
"""Seconds: the proxy looks once a second at what stands still, and this program has to notice."""


@dataclass
class Scene:
    """One attack's proxy and its surroundings."""

    program: Program
    backend: dict[str, int]
    quick: bool
    output: int | None
    """The reading end of the proxy's output, if that is a pipe."""
    before: int = 0
    """Memory when the attack begins."""
    spares_newcomers: bool = True
    """Whether new connections of honest clients have to be served all the time."""

    def of(self, full: int, quick: int) -> int:
        """A number of the full or the quick run."""
        return quick if self.quick else full

    @property
    def seconds(self) -> float:
        """How long floods last."""
        return 0.6 if self.quick else 6.0

    def counts(self, role: str) -> tuple[int, int]:
        """Connections and requests that a role of the backend has had."""
        with socket.create_connection(("127.0.0.1", self.backend["counts"]), timeout=10) as stream:
            stream.sendall(b"?")
            data = b""
            while part := stream.recv(1 << 16):
                data += part
        found = json.loads(data)[role]
        return found[0], found[1]


@dataclass(frozen=True)
class Attack:
    """One way to trouble a proxy."""

    name: str
    title: str
    run: Callable[[Scene], Iterable[Finding]]
    flags: tuple[str, ...] = ()
    quick_flags: tuple[str, ...] = ()
    """In the place of `flags` in a quick run, with times of one second."""
    piped: bool = False
    """Whether the proxy's output is a pipe that nobody reads."""


def kib(size: float) -> str:
    """For people."""
    return f"{size / KIB:.0f} KiB" if size < 10 * MIB else f"{size / MIB:.0f} MiB"


def growth(scene: Scene, connections: int, most: int) -> Finding:
    """Memory for each connection at the peak."""
    each = max(0, scene.program.peak() - scene.before) / connections
    return Finding(f"≤ {kib(most)} a connection", f"{kib(each)} ({connections} connections)", each <= most)


def eventually(done: Callable[[], bool], wait: float) -> float | None:
    """Seconds until it holds, or nothing."""
    begun = time.monotonic()
    while not done():
        if time.monotonic() - begun > wait:
            return None
        time.sleep(0.02)
    return time.monotonic() - begun


def source(number: int) -> str:
    """An address of loopback; each serves some thousand connections."""
    return f"127.0.1.{number // 5000 + 1}"


@dataclass
class Crowd:
    """Many connections that send little, and notice when they are closed."""

    port: int
    begun: dict[int, float] = field(default_factory=dict)
    closed: list[float] = field(default_factory=list)
    """Seconds that each lasted."""
    data: dict[int, bytes] = field(default_factory=dict)
    """The first bytes that came on each."""
    sockets: dict[int, socket.socket] = field(default_factory=dict)
    poll: "select.epoll" = field(default_factory=select.epoll)
    failed: int = 0

    def join(self, count: int, hello: Callable[[int], bytes], receive: int = 0, pause: float = 0.0) -> None:
        """So many more; each sends something at once."""
        for number in range(count):
            time.sleep(pause)
            stream = socket.socket()
            if receive:
                stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
            stream.settimeout(10)
            try:
                stream.bind((source(number), 0))
                stream.connect(("127.0.0.1", self.port))
                if words := hello(number):
                    stream.sendall(words)
            except OSError:
                self.failed += 1
                stream.close()
                continue
            stream.setblocking(False)
            self.sockets[stream.fileno()] = stream
            self.begun[stream.fileno()] = time.monotonic()
            self.poll.register(stream.fileno(), select.EPOLLIN | select.EPOLLRDHUP)
            if number % 200 == 199:
                self.look(0)

    def look(self, wait: float) -> None:
        """Notices what happened."""
        for number, _ in self.poll.poll(wait):
            stream = self.sockets[number]
            try:
                data = stream.recv(1 << 14)
                self.data[number] = (self.data.get(number, b"") + data)[:4096]
            except BlockingIOError:
                continue
            except OSError:
                data = b""
            if not data:
                self.leave(number)

    def leave(self, number: int) -> None:
        """One that was closed."""
        self.closed.append(time.monotonic() - self.begun[number])
        self.poll.unregister(number)
        self.sockets.pop(number).close()

    def drip(self, words: bytes, part: int, parts: int) -> None:
        """Sends a little on each of one part of them: all at once would be a burst, and no slow client."""
        for number, stream in list(self.sockets.items()):
            if number % parts != part:
                continue
            try:
                stream.send(words)
            except BlockingIOError:
                continue
            except OSError:
                self.leave(number)

    def wait(self, wait: float, every: float = 1.0, words: bytes = b"") -> None:
        """Until all are closed, or so many seconds have gone by; drips meanwhile."""
        begun, parts, drips = time.monotonic(), 20, 0
        while self.sockets and (elapsed := time.monotonic() - begun) < wait:
            self.look(0.02)
            if words and elapsed >= drips * every / parts:
                self.drip(words, drips % parts, parts)
                drips += 1

    def end(self) -> None:
        """Closes what is left."""
        for stream in self.sockets.values():
            stream.close()
        self.sockets.clear()
        self.poll.close()

    def all_closed(self, limit: float) -> Finding:
        """Whether none lasted longer; a second is for accepting them, and for this program to notice."""
        left, longest = len(self.sockets), max(self.closed, default=0.0)
        said = f"{len(self.closed)} closed, the last after {longest:.1f} s" + (f"; {left} still open" if left else "")
        return Finding(f"closed ≤ {limit:g} s", said, not left and longest <= limit + 1 and not self.failed)

    def __enter__(self) -> "Crowd":
        return self

    def __exit__(self, *_: object) -> None:
        self.end()
