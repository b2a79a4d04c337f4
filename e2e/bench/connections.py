"""A small client for what wrk cannot do, a program of its own so that it can be put on other cores.

connections.py fresh PORT HOST REQUEST_FILE SECONDS STATUS BODY_BYTES
    TLS connections, each new and with a full handshake, each for one request; prints sums as JSON.
connections.py idle  PORT HOST REQUEST_FILE COUNT plain|tls STATUS BODY_BYTES
    opens so many connections, one request on each, prints a line, and holds them until its input ends.
"""

import json
import socket
import ssl
import sys
import threading
import time
from pathlib import Path

from percentile import percentile

AT_ONCE = 8


def context() -> ssl.SSLContext:
    """Takes any certificate: what is measured is the proxy, not trust."""
    made = ssl._create_unverified_context()
    made.minimum_version = ssl.TLSVersion.TLSv1_3
    made.set_alpn_protocols(["http/1.1"])
    return made


def answer(stream: socket.socket) -> tuple[int, int]:
    """Reads one response with a Content-Length; returns its status and the length of its body."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += receive(stream)
    head, body = data.split(b"\r\n\r\n", 1)
    lines = head.split(b"\r\n")
    fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines[1:])}
    length, size = int(fields[b"content-length"]), len(body)
    while size < length:
        size += len(receive(stream))
    return int(lines[0].split()[1]), size


def receive(stream: socket.socket) -> bytes:
    """What has come; the end of the stream is an error."""
    data = stream.recv(1 << 16)
    if not data:
        raise ConnectionError("ended inside a response")
    return data


class Fresh:
    """Counts of all threads."""

    def __init__(self, port: int, host: str, request: bytes, expected: tuple[int, int]) -> None:
        self.port, self.host, self.request, self.expected = port, host, request, expected
        self.context = context()
        self.times: list[float] = []
        self.broken = self.wrong = 0
        self.lock = threading.Lock()

    def run(self, deadline: float) -> None:
        """One connection after the other."""
        while (begun := time.monotonic()) < deadline:
            try:
                right = self.once()
            except (OSError, KeyError, ValueError):
                right = None
            elapsed = time.monotonic() - begun
            with self.lock:
                self.times.append(elapsed)
                self.broken += right is None
                self.wrong += right is False

    def once(self) -> bool:
        """Handshake, request, response; true if everything was as it should be."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as plain:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self.context.wrap_socket(plain, server_hostname=self.host) as stream:
                stream.sendall(self.request)
                return answer(stream) == self.expected and not stream.session_reused


def fresh(port: str, host: str, file: str, seconds: str, status: str, size: str) -> None:
    """See above."""
    load = Fresh(int(port), host, Path(file).read_bytes().split(b"\0")[0], (int(status), int(size)))
    begun = time.monotonic()
    threads = [threading.Thread(target=load.run, args=(begun + float(seconds),)) for _ in range(AT_ONCE)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    times = sorted(load.times)
    print(
        json.dumps(
            {
                "requests": len(times),
                "seconds": time.monotonic() - begun,
                "wrong": load.wrong,
                "broken": load.broken,
                "p50": percentile(times, 50) * 1e6,
                "p99": percentile(times, 99) * 1e6,
            }
        )
    )


def idle(port: str, host: str, file: str, count: str, kind: str, status: str, size: str) -> None:
    """See above."""
    request, held, wrong = Path(file).read_bytes().split(b"\0")[0], [], 0
    tls = context()
    for _ in range(int(count)):
        stream = socket.create_connection(("127.0.0.1", int(port)), timeout=10)
        if kind == "tls":
            stream = tls.wrap_socket(stream, server_hostname=host)
        stream.sendall(request)
        wrong += answer(stream) != (int(status), int(size))
        held.append(stream)
    print(json.dumps({"requests": len(held), "wrong": wrong, "broken": 0}), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    if sys.argv[1] == "fresh":
        fresh(*sys.argv[2:])
    else:
        idle(*sys.argv[2:])
