"""From the start of a process to its first right answer."""

import http.client
import time

from change import ask
from load import WrongAnswer
from machine import cpu_seconds
from peers import HOST, Running

PAUSE = 0.001
"""Seconds between two looks."""

DEADLINE = 60.0


def until_ready(running: Running, begun: float) -> tuple[float, float]:
    """Milliseconds until the first right answer, and ours says that it is ready; and CPU milliseconds until then."""
    ready = running.name != "whygate"
    while not (ready := ready or status(running.ports.admin, "localhost", "/readyz") == 200) or (
        status(running.ports.http, HOST, "/p3/x") != 200
    ):
        if running.process.poll() is not None or time.monotonic() > begun + DEADLINE:
            raise WrongAnswer(f"no answer: {running.log.read_text(errors='replace')[-2000:]}")
        time.sleep(PAUSE)
    return (time.monotonic() - begun) * 1e3, cpu_seconds(running.process.pid) * 1e3


def status(port: int, host: str, path: str) -> int:
    """On a connection of its own; 0 if nobody listens yet."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        return ask(connection, host, path)
    finally:
        connection.close()
