"""Requests that are too large or too various, and resources of the system that run out."""

import array
import fcntl
import os
import resource
import socket
import termios
import time
from collections.abc import Iterator

import http2
from attack import MIB, Attack, Crowd, Scene, eventually, growth, kib
from finding import Finding
from http2 import Connection

GET = b"GET / HTTP/1.1\r\nHost: ok.test\r\n\r\n"


def huge_headers(scene: Scene) -> Iterator[Finding]:
    """One field of a mebibyte, and a thousand fields, in both versions."""
    heads = [b"X-Large: " + b"x" * MIB, b"\r\n".join(b"X-%d: y" % number for number in range(1_000))]
    count, found = scene.of(500, 20), []
    for _ in range(count):
        for head in heads:
            found.append(once(scene.program.http, b"GET / HTTP/1.1\r\nHost: ok.test\r\n" + head + b"\r\n\r\n"))
    right = sum(answer.startswith(b"HTTP/1.1 431") for answer in found)
    yield Finding("HTTP/1.1: 431", f"{right} of {len(found)}", right == len(found))
    fields = [http2.field_line(b"x-large", b"x" * 40_000), b"".join(http2.field_line(b"x-%d" % n, b"y") for n in range(1_000))]
    statuses = []
    for block in fields * count:
        with Connection.open(scene.program.http) as connection:
            connection.send(http2.headers(1, http2.request("ok.test", fields=block)))
            connection.until(lambda: 1 in connection.statuses, 3)
            statuses.append(connection.statuses.get(1))
    right = statuses.count(431)
    yield Finding("HTTP/2: 431", f"{right} of {len(statuses)}", right == len(statuses))
    yield Finding("≤ 16 MiB more", kib(scene.program.peak() - scene.before), scene.program.peak() - scene.before <= 16 * MIB)


def once(port: int, words: bytes) -> bytes:
    """The beginning of what is answered on a new connection, nothing if it breaks."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as stream:
            try:
                stream.sendall(words)
            except OSError:
                pass
            return stream.recv(64)
    except OSError:
        return b""


def exhausted_connections(scene: Scene) -> Iterator[Finding]:
    """More connections than the limit, each of which has had an answer and rests."""
    limit, count = scene.of(2_000, 100), scene.of(3_000, 150)
    with Crowd(scene.program.http) as crowd:
        crowd.join(limit * 9 // 10, lambda _: GET)
        crowd.wait(0.3)
        crowd.join(count - limit * 9 // 10, lambda _: GET)
        crowd.wait(0.5)
        open_now = scene.program.metric("whygate_connections")
        yield Finding(f"≤ {limit} open", str(open_now), open_now <= limit)
        answer = once(scene.program.http, GET)
        yield Finding("a newcomer is served", answer[:12].decode() or "nothing", answer.startswith(b"HTTP/1.1 200"))
        time.sleep(scene.seconds / 2)
    yield growth(scene, limit, MIB // 8)


def exhausted_descriptors(scene: Scene) -> Iterator[Finding]:
    """More connections than the process may have descriptors."""
    scene.spares_newcomers = False
    limit = scene.program.descriptors() + 60
    resource.prlimit(scene.program.process.pid, resource.RLIMIT_NOFILE, (limit, limit))
    most = 0
    with Crowd(scene.program.http) as crowd:
        # Each takes two, and does not rest, so that it cannot be closed to make room.
        crowd.join(200, lambda _: b"GET / HTTP/1.1\r\nHost: hold.test\r\n\r\n")
        deadline = time.monotonic() + scene.seconds
        while time.monotonic() < deadline:
            crowd.look(0.02)
            most = max(most, scene.program.descriptors())
        yield Finding("none is left", f"{most} of {limit}", most >= limit - 1)
    begun = time.monotonic()
    took = eventually(lambda: once(scene.program.http, GET).startswith(b"HTTP/1.1 200"), 5)
    shown = "never" if took is None else f"after {time.monotonic() - begun:.2f} s"
    yield Finding("serves ≤ 1 s after they are free", shown, took is not None and took <= 1)


def various(scene: Scene) -> Iterator[Finding]:
    """Hosts, paths, user agents and methods of which no two are alike, to routes that are open, closed or not there."""
    count, batch = scene.of(1_000_000, 4_000), 500
    for host in (b"ok.test", b"denied.test", b"nobody.test"):
        for method in (b"GET", b"BREW"):
            once(scene.program.http, method + b" / HTTP/1.1\r\nHost: " + host + b"\r\n\r\n")
    before, size = scene.program.series(), scene.program.resident()
    for begin in range(0, count, batch):
        lines = []
        for number in range(begin, begin + batch):
            # One in sixteen may pass: the others cost no upstream anything.
            host = b"ok.test" if number % 16 == 0 else (b"denied.test", b"h%d.test" % number)[number % 2]
            method = b"GET" if number % 3 else b"M%d" % number
            lines.append(b"%s /p%d HTTP/1.1\r\nHost: %s\r\nUser-Agent: a/%d\r\n\r\n" % (method, number, host, number))
        if answered(scene.program.http, b"".join(lines)) != batch:
            yield Finding("all are answered", f"a connection broke after {begin}", False)
            return
    more = scene.program.series() - before
    yield Finding("0 new series", f"{len(more)} after {count} requests {sorted(more)[:2] or ''}", not more)
    grown = scene.program.resident() - size
    yield Finding("memory flat", f"{kib(grown)} more", grown <= 8 * MIB)


def answered(port: int, words: bytes) -> int:
    """How many answers come for a batch of requests."""
    found, tail = 0, b""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as stream:
        stream.sendall(words[:-2] + b"Connection: close\r\n\r\n")
        while data := stream.recv(1 << 18):
            seen = tail + data
            found += seen.count(b"HTTP/1.1 ")
            tail = seen[-8:]
    return found


def full_log(scene: Scene) -> Iterator[Finding]:
    """Nobody reads the log any more, and much is logged."""
    assert scene.output is not None
    os.set_blocking(scene.output, False)
    served = 0
    for number in range(scene.of(3_000, 300)):
        host = b"denied.test" if number % 2 else b"dies.test"
        answer = once(scene.program.http, b"GET /%d HTTP/1.1\r\nHost: %s\r\n\r\n" % (number, host))
        served += answer[:12] in (b"HTTP/1.1 403", b"HTTP/1.1 200")
    yield Finding("traffic goes on", f"{served} answers", served == scene.of(3_000, 300))
    waiting = array.array("i", [0])
    fcntl.ioctl(scene.output, termios.FIONREAD, waiting)
    yield Finding("the pipe is full", f"{waiting[0]} bytes wait", waiting[0] > 3_000)
    yield Finding("memory flat", kib(scene.program.peak() - scene.before), scene.program.peak() - scene.before <= 16 * MIB)


ATTACKS = [
    Attack("huge-headers", "heads beyond every limit", huge_headers),
    Attack(
        "connections",
        "more connections than the limit",
        exhausted_connections,
        flags=("--connection-limit-count=2000",),
        quick_flags=("--connection-limit-count=100",),
    ),
    Attack("descriptors", "no descriptor left", exhausted_descriptors),
    Attack("various", "hosts, paths, agents and methods, each new", various),
    Attack("full-log", "a log that nobody reads", full_log, flags=("--log=debug",), piped=True),
]
