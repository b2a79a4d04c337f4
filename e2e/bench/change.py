"""A host more under traffic: when its routes are in force, what that costs, and who loses requests by it."""

import http.client
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import peers
from load import WrongAnswer
from machine import cpu_seconds
from peers import HOST, Running

PAUSE = 0.002
"""Seconds between two requests."""

SETTLED = 2.0
"""Seconds for which CPU time is counted and requests go on after the change is in force."""

DEADLINE = 60.0


@dataclass(frozen=True)
class Changed:
    """What a change took."""

    milliseconds: float
    """From the last write, or the signal after it, to the first answer of the backend for the new host."""
    cpu: float
    """CPU time in milliseconds that the proxy used, requests included."""
    lost: int
    """Requests for a host that was there before and got no right answer."""


class Stream:
    """Requests for a host that is there, each on the connection of the one before if the proxy leaves it open."""

    def __init__(self, port: int) -> None:
        self.connection, self.lost = http.client.HTTPConnection("127.0.0.1", port, timeout=5), 0

    def step(self) -> None:
        """One request; none is sent again, as no client may that does not know what the request does."""
        if self.status() != 200:
            self.lost += 1
        time.sleep(PAUSE)

    def status(self) -> int:
        """0 if there was no response."""
        return ask(self.connection, HOST)


def ask(connection: http.client.HTTPConnection, host: str, path: str = "/p3/x") -> int:
    """The status of a response, 0 without one. What said that it closes is opened again."""
    try:
        connection.request("GET", path, headers={"Host": host})
        response = connection.getresponse()
        response.read()
        return response.status
    except (OSError, http.client.HTTPException):
        connection.close()
        return 0


def change(running: Running, folder: Path, number: int) -> Changed:
    """Adds a host with five paths, and tells the proxy as its manual says."""
    host, port, pid = f"new{number}.example.com", running.ports.http, running.process.pid
    stream = Stream(port)
    for _ in range(100):
        stream.step()
    if stream.lost or fresh(port, host) == 200:
        raise WrongAnswer(f"before the change {stream.lost} of 100 requests were lost, or the new host was there")
    used = cpu_seconds(pid)
    peers.add_host(running.name, folder, host)
    if running.name in ("nginx", "haproxy"):
        running.process.send_signal(signal.SIGHUP if running.name == "nginx" else signal.SIGUSR2)
    begun = time.monotonic()
    while fresh(port, host) != 200:
        stream.step()
        if time.monotonic() > begun + DEADLINE:
            raise WrongAnswer(f"the change was not in force after {DEADLINE:g} s")
    taken = time.monotonic() - begun
    while time.monotonic() < begun + taken + SETTLED:
        stream.step()
    return Changed(taken * 1e3, (cpu_seconds(pid) - used) * 1e3, stream.lost)


def fresh(port: int, host: str) -> int:
    """The status for a host on a connection of its own: an old worker goes on with its old connections."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    status = ask(connection, host)
    connection.close()
    return status
