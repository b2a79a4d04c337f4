"""A client that asks at a constant rate whatever happens beside it, a program of its own: honest.py PORT RATE HOST.

Latencies count from the moment at which a request was due, so a late answer makes those after it late, too, and
nothing is left out but quarters of a second of which a hypervisor took a part for itself. Nine of ten requests go over one connection that stays, one over a new one. Each line on its
input gets a line of JSON about the time since the last; the end of its input ends it.
"""

import json
import os
import select
import socket
import sys
import time

from machine import stolen_ticks
from percentile import percentile

PATIENCE = 5.0
"""Seconds after which an answer no longer counts."""

WINDOW, STOLEN = 0.25, 1
"""Seconds of a window, and the most ticks of all cores that may have been taken for its latencies to count."""


class Lost(Exception):
    """A request that was not answered as it should."""


class Client:
    """One that wants 200 with a kibibyte."""

    def __init__(self, port: int, host: str) -> None:
        self.port, self.request = port, f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
        self.kept: socket.socket | None = None
        self.clear()

    def clear(self) -> None:
        """Begins a new account."""
        self.times: list[float] = []
        self.count = 0
        self.open_window()
        self.lost = {"kept": 0, "new": 0}
        self.words: list[str] = []

    def open_window(self) -> None:
        """Begins a new one."""
        self.window: list[float] = []
        self.began, self.stolen = time.monotonic(), stolen_ticks()

    def close_window(self) -> None:
        """Its latencies count, unless the machine was taken away."""
        self.count += len(self.window)
        if stolen_ticks() - self.stolen <= STOLEN:
            self.times += self.window
        self.open_window()

    def ask(self, number: int) -> None:
        """One request; raises if it is lost."""
        if number % 10 == 0:
            with self.connect() as stream:
                return self.exchange(stream)
        if self.kept is not None and select.select([self.kept], [], [], 0)[0]:
            # It was closed while it rested, which every server may do.
            self.kept.close()
            self.kept = None
        if self.kept is None:
            self.kept = self.connect()
        try:
            self.exchange(self.kept)
        except (Lost, OSError):
            self.kept.close()
            self.kept = None
            raise

    def connect(self) -> socket.socket:
        """To the proxy."""
        stream = socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return stream

    def exchange(self, stream: socket.socket) -> None:
        """One request, one answer."""
        stream.sendall(self.request)
        data = b""
        while b"\r\n\r\n" not in data:
            data += receive(stream)
        head, body = data.split(b"\r\n\r\n", 1)
        if not head.startswith(b"HTTP/1.1 200 "):
            raise Lost(head.decode("latin-1").splitlines()[0])
        while len(body) < 1024:
            body += receive(stream)

    def take(self, number: int, due: float) -> None:
        """One request, counted."""
        try:
            self.ask(number)
            self.window.append(time.monotonic() - due)
        except (Lost, OSError) as error:
            self.lost["kept" if number % 10 else "new"] += 1
            self.words = [*self.words, str(error)][:3]
        if time.monotonic() - self.began >= WINDOW:
            self.close_window()

    def report(self) -> str:
        """The account, in milliseconds."""
        self.close_window()
        times = sorted(self.times) or [PATIENCE]
        p50, p99, most = (percentile(times, percent) * 1e3 for percent in (50, 99, 100))
        said = {"count": self.count, "timed": len(self.times), "p50": p50, "p99": p99, "max": most}
        return json.dumps({**said, "lost_kept": self.lost["kept"], "lost_new": self.lost["new"], "words": self.words})


def receive(stream: socket.socket) -> bytes:
    """What has come; the end of the stream is an error."""
    data = stream.recv(1 << 14)
    if not data:
        raise Lost("the connection ended")
    return data


def main() -> None:
    """Until the input ends."""
    client, pause = Client(int(sys.argv[1]), sys.argv[3]), 1 / float(sys.argv[2])
    due, number = time.monotonic(), 0
    while True:
        wait = max(0.0, due - time.monotonic())
        if select.select([0], [], [], wait)[0]:
            if not os.read(0, 100):
                return
            print(client.report(), flush=True)
            client.clear()
            due = max(due, time.monotonic())
            continue
        client.take(number, due)
        number, due = number + 1, due + pause


if __name__ == "__main__":
    main()
