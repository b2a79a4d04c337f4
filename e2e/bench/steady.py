"""A client that asks at a constant rate whatever happens, a program of its own.

steady.py PORT HOST REQUEST_FILE RATE SECONDS CONNECTIONS plain|tls STATUS BODY_BYTES
    asks RATE times a second over so many connections that stay; prints sums as JSON, times in microseconds.

A request has a moment at which it is due, and its latency counts from then: what waits because an answer before it is
late has waited, and nothing is left out. How late this client itself was is told, too.
"""

import contextlib
import gc
import json
import os
import select
import socket
import ssl
import statistics
import sys
import time
from collections import deque
from pathlib import Path

import connections
from percentile import percentile

PATIENCE = 10.0
"""Seconds after the last request in which answers still count."""


class Stream:
    """A connection with at most one request on it."""

    def __init__(self, port: int, host: str, tls: ssl.SSLContext | None) -> None:
        stream = socket.create_connection(("127.0.0.1", port), timeout=10)
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = tls.wrap_socket(stream, server_hostname=host) if tls else stream
        self.socket.setblocking(False)
        self.due, self.data = 0.0, b""

    def send(self, request: bytes, due: float) -> None:
        """It is short: the buffers of a connection on which nothing else goes have room."""
        self.due, self.data = due, b""
        if self.socket.send(request) != len(request):
            raise ConnectionError("no room for a request")

    def read(self, body: int) -> bool:
        """What has come; true if the answer is whole."""
        with contextlib.suppress(BlockingIOError, ssl.SSLWantReadError):
            while data := self.socket.recv(1 << 16):
                self.data += data
                head = self.data.find(b"\r\n\r\n")
                if head >= 0 and len(self.data) >= head + 4 + body:
                    return True
            raise ConnectionError("the connection ended")
        return False


class Steady:
    """Requests at a constant rate."""

    def __init__(self, streams: list[Stream], request: bytes, rate: float, count: int, body: int) -> None:
        self.request, self.rate, self.count, self.body = request, rate, count, body
        self.by_number = {stream.socket.fileno(): stream for stream in streams}
        self.free, self.waiting, self.number = deque(streams), deque[float](), 0
        self.slowest: dict[int, float] = {}
        """By the second in which a request was due."""
        self.times: list[float] = []
        self.late: list[float] = []
        self.wrong = 0

    def run(self, status: bytes) -> None:
        """Until all are answered, or answers stay away."""
        polled = select.epoll()
        for number in self.by_number:
            polled.register(number, select.EPOLLIN)
        begun = time.monotonic() + 0.01
        deadline = begun + self.count / self.rate + PATIENCE
        while len(self.times) < self.count and time.monotonic() < deadline:
            due = self.send(begun)
            # A poll that is told when it is over to the microsecond; epoll's own knows milliseconds.
            select.select([polled.fileno()], [], [], min(1.0, max(0.0, due - time.monotonic())))
            for number, _ in polled.poll(0):
                self.receive(self.by_number[number], status)

    def send(self, begun: float) -> float:
        """All that is due and finds a free connection; returns when the next will be due."""
        while self.number < self.count and (due := begun + self.number / self.rate) <= (now := time.monotonic()):
            self.number += 1
            self.late.append(now - due)
            self.waiting.append(due)
        while self.waiting and self.free:
            self.free.popleft().send(self.request, self.waiting.popleft())
        return begun + self.number / self.rate if self.number < self.count else begun + 1e9

    def receive(self, stream: Stream, status: bytes) -> None:
        """What has come on a connection."""
        if stream.read(self.body):
            taken, second = time.monotonic() - stream.due, int(stream.due)
            self.times.append(taken)
            self.slowest[second] = max(taken, self.slowest.get(second, 0.0))
            self.wrong += not stream.data.startswith(status)
            self.free.append(stream)

    def told(self, seconds: float) -> dict[str, float]:
        """Sums and shares."""
        times, late = sorted(self.times) or [PATIENCE], sorted(self.late) or [0.0]
        return {
            "requests": len(self.times),
            "seconds": seconds,
            "wrong": self.wrong,
            "broken": self.count - len(self.times),
            **{name: percentile(times, percent) * 1e6 for name, percent in (("p50", 50), ("p99", 99), ("p999", 99.9))},
            "slowest": times[-1] * 1e6,
            "typical": statistics.median(self.slowest.values() or [PATIENCE]) * 1e6,
            "late": percentile(late, 99) * 1e6,
        }


def main(arguments: list[str]) -> None:
    """See above."""
    port, host, file, rate, seconds, count, kind, status, body = arguments
    tls = connections.context() if kind == "tls" else None
    request = Path(file).read_bytes().split(b"\0")[0]
    streams = [Stream(int(port), host, tls) for _ in range(int(count))]
    steady = Steady(streams, request, float(rate), int(float(rate) * float(seconds)), int(body))
    gc.disable()
    # A timer of this thread ends when it should, and the backend beside it does not keep it waiting.
    with contextlib.suppress(OSError):
        Path("/proc/self/timerslack_ns").write_text("1")
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    begun = time.monotonic()
    with contextlib.suppress(ConnectionError):
        steady.run(f"HTTP/1.1 {status} ".encode())
    print(json.dumps(steady.told(time.monotonic() - begun)))


if __name__ == "__main__":
    main(sys.argv[1:])
