"""Clients that take their time: heads, bodies and answers that never come to an end."""

import socket
import time
from collections.abc import Iterator

from attack import KIB, MIB, SHORT, SLACK, Attack, Crowd, Scene, eventually, growth, kib
from finding import Finding

HELLO = bytes.fromhex("16030100f8010000f40303") + b"\x5a" * 40
"""The beginning of a handshake that promises 248 bytes."""


def slow_headers(scene: Scene) -> Iterator[Finding]:
    """A byte of a head a second."""
    limit, count = scene.of(10, 2), scene.of(10_000, 500)
    with Crowd(scene.program.http) as crowd:
        crowd.join(count, lambda _: b"GET / HTTP/1.1\r\nHost: ok.test\r\nX-Slow: ")
        crowd.wait(limit + 5, words=b"a")
        yield crowd.all_closed(limit)
        yield growth(scene, count, 32 * KIB)


def waiting(hello: bytes, tls: bool = False) -> object:
    """Connections that say something, or nothing, and then wait."""

    def run(scene: Scene) -> Iterator[Finding]:
        limit = scene.of(5, 1)
        with Crowd(scene.program.https if tls else scene.program.http) as crowd:
            crowd.join(scene.of(1_000, 100), lambda _: hello)
            crowd.wait(limit + 4)
            yield crowd.all_closed(limit)

    return run


def slow_bodies(scene: Scene) -> Iterator[Finding]:
    """Half are silent after the first byte, half send 100 bytes a second."""
    limit, count = scene.of(30, 2), scene.of(400, 40)
    head = b"POST / HTTP/1.1\r\nHost: ok.test\r\nContent-Length: 1000000\r\n\r\nx"
    with Crowd(scene.program.http) as silent, Crowd(scene.program.http) as slow:
        for crowd in (silent, slow):
            crowd.join(count // 2, lambda _: head)
        deadline = time.monotonic() + limit + 6
        while (silent.sockets or slow.sockets) and time.monotonic() < deadline:
            slow.wait(1, words=b"x" * 100)
            silent.look(0.05)
        yield silent.all_closed(limit)
        yield slow.all_closed(limit)
        answers = [data[:12] for crowd in (silent, slow) for data in crowd.data.values()]
        right = sum(answer == b"HTTP/1.1 408" for answer in answers)
        yield Finding("each is told why: 408", f"{right} of {count}", right == count)


def slow_readers(scene: Scene) -> Iterator[Finding]:
    """Downloads of a gibibyte of which nothing is read after the first bytes."""
    limit, count = scene.of(10, 8), scene.of(100, 30)
    usual = scene.program.descriptors()
    with Crowd(scene.program.http) as crowd:
        crowd.join(count, lambda _: b"GET / HTTP/1.1\r\nHost: big.test\r\n\r\n", receive=4096, pause=0 if scene.quick else 0.03)
        crowd.look(0.5)
        for number in crowd.sockets:
            crowd.poll.modify(number, 0)
        time.sleep(1)
        early = scene.program.resident()
        # What is closed cannot be seen at this end, where unread bytes stand before the news.
        took = eventually(lambda: scene.program.descriptors() <= usual + 8, limit + 5)
        last = float("inf") if took is None else took + 1
        yield Finding(f"closed ≤ {limit} s after the last byte, or {SLACK} later", f"after {last:.1f} s", last <= limit + SLACK)
        yield growth(scene, count, MIB)
        more = max(0, scene.program.peak() - early)
        yield Finding("memory does not grow while they wait", f"{kib(more)} more", more <= max(2 * MIB, early // 10))


def pipelining(scene: Scene) -> Iterator[Finding]:
    """A thousand requests in one segment."""
    count = 1_000
    with socket.create_connection(("127.0.0.1", scene.program.http), timeout=20) as stream:
        one = b"GET / HTTP/1.1\r\nHost: ok.test\r\n\r\n"
        begun, answers = time.monotonic(), 0
        stream.sendall(one * count)
        tail = b""
        while answers < count and (data := stream.recv(1 << 18)):
            seen = tail + data
            # Overlaps by less than what is counted, so that nothing counts twice.
            answers += seen.count(b"HTTP/1.1 200 OK")
            tail = seen[-14:]
        yield Finding("every one is answered", f"{answers} of {count} in {time.monotonic() - begun:.2f} s", answers == count)
    deadline = time.monotonic() + scene.seconds
    while time.monotonic() < deadline:
        with socket.create_connection(("127.0.0.1", scene.program.http), timeout=5) as stream:
            stream.sendall(one * count)
            stream.recv(1 << 16)
    yield Finding("≤ 64 MiB in all", kib(scene.program.peak()), scene.program.peak() <= 64 * MIB + scene.before)


QUICK = ("--first-byte-seconds=1", "--handshake-seconds=1", "--header-read-seconds=2")
QUICK_BODY = ("--body-idle-seconds=2", "--body-rate-grace-seconds=1")

ATTACKS = [
    Attack("slow-headers", "10,000 heads at a byte a second", slow_headers, quick_flags=QUICK),
    Attack("idle", "connections that say nothing", waiting(b""), quick_flags=QUICK),  # type: ignore[arg-type]
    Attack("half-preface", "half of HTTP/2's first words", waiting(b"PRI * HTTP/2"), quick_flags=QUICK),  # type: ignore[arg-type]
    Attack("idle-tls", "TLS ports without a handshake", waiting(b"", tls=True), quick_flags=QUICK),  # type: ignore[arg-type]
    Attack("stalled-tls", "handshakes that stop", waiting(HELLO, tls=True), quick_flags=QUICK),  # type: ignore[arg-type]
    Attack("slow-bodies", "bodies that stop or crawl", slow_bodies, quick_flags=QUICK_BODY),
    Attack(
        "slow-readers",
        "downloads that nobody reads",
        slow_readers,
        flags=(*SHORT, "--transfer-idle-seconds=10"),
        quick_flags=(*SHORT, "--transfer-idle-seconds=8"),
    ),
    Attack("pipelining", "1,000 requests in a segment", pipelining),
]
