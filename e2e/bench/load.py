"""Requests: what is sent, by which generator, and whether all that came back was right."""

import json
import os
import re
import socket
import ssl
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.request import urlopen

import connections
from peers import HOST, Ports

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Load:
    """One kind of request, sent over and over."""

    label: str
    """What it is called in tables."""
    tool: Literal["wrk", "h2load", "fresh"] = "wrk"
    tls: bool = False
    host: str = HOST
    path: str = "/p3/x"
    requests: str = "plain"
    """Which file of requests."""
    status: int = 200
    body: int | None = 1024
    """Bytes of a response's body; none: any, as each proxy words its refusals itself."""
    at_once: int = 32
    """Connections at once."""
    arrivals: int = 1
    """Requests that the backend counts for one request."""

    def port(self, ports: Ports) -> int:
        """Where to."""
        return ports.https if self.tls else ports.http


@dataclass(frozen=True)
class Outcome:
    """What a generator counted; latencies in microseconds."""

    requests: float
    seconds: float
    p50: float
    p99: float


class WrongAnswer(Exception):
    """A proxy answered what it should not have: no figure of it counts."""


@dataclass(frozen=True)
class Counters:
    """Of the backend."""

    connections: int
    requests: int

    @staticmethod
    def read(port: int) -> "Counters":
        """By its page of status."""
        with urlopen(f"http://127.0.0.1:{port}/status", timeout=10) as page:
            _, connections, _, requests = re.findall(r"\d+", page.read().decode())[:4]
        return Counters(int(connections), int(requests))


@dataclass(frozen=True)
class Probe:
    """One response, byte by byte."""

    size: int
    """Head and body."""
    body: int
    tls: str
    """Version, cipher and group of keys, as far as the client knows; empty without TLS."""


def probe(load: Load, ports: Ports, requests: Path) -> Probe:
    """Sends one request and checks status and body."""
    try:
        return probed(load, ports, requests)
    except (OSError, KeyError, ValueError) as error:
        raise WrongAnswer(f"no response that could be read: {error!r}") from error


def probed(load: Load, ports: Ports, requests: Path) -> Probe:
    """One connection, one request."""
    request = (requests / load.requests).read_bytes().split(b"\0")[0]
    with socket.create_connection(("127.0.0.1", load.port(ports)), timeout=30) as plain:
        stream = connections.context().wrap_socket(plain, server_hostname=load.host) if load.tls else plain
        counting = Counting(stream)
        stream.sendall(request)
        status, body = connections.answer(counting)  # type: ignore[arg-type]
        if status != load.status or load.body not in (None, body):
            raise WrongAnswer(f"status {status} with {body} bytes instead of {load.status} with {load.body or 'any'}")
        if load.path.endswith("/up"):
            told = int(counting.seen.split(b"\r\n\r\n", 1)[1])
            if told < len(request) - 1024:
                raise WrongAnswer(f"the backend received {told} bytes of an upload")
        tls = (
            " ".join(map(str, (stream.version(), (stream.cipher() or [""])[0])))
            if isinstance(stream, ssl.SSLSocket)
            else ""
        )
        stream.close()
    return Probe(counting.size, body, tls)


class Counting:
    """A socket that counts what it receives."""

    def __init__(self, stream: socket.socket) -> None:
        self.stream, self.size, self.seen = stream, 0, b""

    def recv(self, length: int) -> bytes:
        """As of a socket."""
        data = self.stream.recv(length)
        self.size += len(data)
        self.seen = (self.seen + data)[:4096]
        return data


def run(load: Load, ports: Ports, requests: Path, seconds: float, cores: set[int], expected: Probe) -> Outcome:
    """Runs the generator and checks what it counted."""
    generator = {"wrk": wrk, "h2load": h2load, "fresh": fresh}[load.tool]
    return generator(load, ports, requests, seconds, cores, expected)


def wrk(load: Load, ports: Ports, requests: Path, seconds: float, cores: set[int], expected: Probe) -> Outcome:
    """HTTP/1.1 on connections that stay."""
    url = f"{'https' if load.tls else 'http'}://{load.host}:{load.port(ports)}/"
    command = [
        "wrk",
        "-t1",
        f"-c{load.at_once}",
        f"-d{max(1, round(seconds))}s",
        "--timeout",
        "20s",
        "-s",
        str(HERE / "requests.lua"),
        url,
        "--",
        str(requests / load.requests),
    ]
    told = json.loads(re.search(r"^JSON (.*)$", said(command, cores), re.MULTILINE)[1])  # type: ignore[index]
    count = told["requests"]
    refused = count if load.status >= 400 else 0
    if told["broken"] or told["refused"] != refused:
        raise WrongAnswer(
            f"of {count} responses {told['refused']} had a status of 400 or more, {told['broken']} connections broke"
        )
    # Responses are of one size but for a figure in a head; the last of each connection may be cut off.
    least, most = count * expected.size * 0.99, (count + load.at_once) * expected.size * 1.01
    if not least <= told["bytes"] <= most:
        raise WrongAnswer(f"{told['bytes']} bytes came for {count} responses of {expected.size}")
    return Outcome(count, told["seconds"], told["p50"], told["p99"])


def h2load(load: Load, ports: Ports, requests: Path, seconds: float, cores: set[int], expected: Probe) -> Outcome:
    """HTTP/2 over TLS: 16 connections with 8 streams each."""
    log = requests / "h2load.log"
    log.unlink(missing_ok=True)
    port = load.port(ports)
    command = [
        "h2load",
        "-t1",
        "-c16",
        "-m8",
        f"-D{max(1, round(seconds))}",
        f"--connect-to=127.0.0.1:{port}",
        f"--log-file={log}",
        "-H",
        f":authority: {load.host}",
        f"https://{load.host}:{port}{load.path}",
    ]
    text = said(command, cores)
    done, good, failed, errored = (
        number(text, rf"requests: .*?(\d+) {word}") for word in ("done", "succeeded", "failed", "errored")
    )
    right, data = number(text, rf"status codes: .*?(\d+) {load.status // 100}xx"), number(text, r"\((\d+)\) data")
    # What is in flight when the time is over may have been counted by one and not by the other.
    if (
        failed
        or errored
        or done == 0
        or abs(right - good) > 128
        or not 0 <= data - good * expected.body <= 128 * expected.body
    ):
        raise WrongAnswer(
            f"of {done} responses {right} had the right status, {failed} failed, {errored} broke; {data} bytes came"
        )
    times = sorted(int(line.split("\t")[2]) for line in log.read_text().splitlines())
    return Outcome(done, number(text, r"finished in ([\d.]+)s"), times[len(times) // 2], times[len(times) * 99 // 100])


def fresh(load: Load, ports: Ports, requests: Path, seconds: float, cores: set[int], expected: Probe) -> Outcome:
    """A TLS connection for each request, without resumption."""
    command = [
        sys.executable,
        str(HERE / "connections.py"),
        "fresh",
        str(load.port(ports)),
        load.host,
        str(requests / load.requests),
        str(seconds),
        str(load.status),
        str(expected.body),
    ]
    told = json.loads(said(command, cores))
    if told["broken"] or told["wrong"]:
        raise WrongAnswer(
            f"of {told['requests']} connections {told['broken']} broke, {told['wrong']} were wrong or resumed"
        )
    return Outcome(told["requests"], told["seconds"], told["p50"], told["p99"])


def number(text: str, pattern: str) -> float:
    """The number that a pattern finds."""
    found = re.search(pattern, text)
    if found is None:
        raise WrongAnswer(f"the load generator said: {text[-500:]}")
    return float(found[1]) if "." in found[1] else int(found[1])


def said(command: list[str], cores: set[int]) -> str:
    """What a generator prints; it must end well."""
    ended = subprocess.run(
        command, capture_output=True, text=True, check=False, preexec_fn=lambda: os.sched_setaffinity(0, cores)
    )
    if ended.returncode != 0:
        raise WrongAnswer(f"{command[0]} ended with {ended.returncode}: {(ended.stdout + ended.stderr)[-500:]}")
    return ended.stdout


def write_requests(folder: Path, tokens: list[str]) -> None:
    """The files of requests that loads name; each request ends with a zero byte."""
    folder.mkdir()
    files = {
        "plain": [request(HOST, "/p3/x")],
        "refused": [request("refused.example.com", "/p3/x")],
        "networks": [request("networks.example.com", "/p3/x")],
        "hosts": [request(f"h{number}.example.com", f"/p{path}/x") for path in range(5) for number in range(1000)],
        "down": [request(HOST, "/p3/down")],
        "up": [request(HOST, "/p3/up", "POST", body="x" * (10 * 1024 * 1024))],
        "close": [request(HOST, "/p3/x", fields="Connection: close\r\n")],
        "refused-close": [request("refused.example.com", "/p3/x", fields="Connection: close\r\n")],
        "token-1000": [request("tokens.example.com", "/p3/x", fields=bearer(token)) for token in tokens[:1000]],
        "token-10000": [request("tokens.example.com", "/p3/x", fields=bearer(token)) for token in tokens],
        "token-open": [request(HOST, "/p3/x", fields=bearer(token)) for token in tokens],
    }
    for name, texts in files.items():
        (folder / name).write_text("".join(text + "\0" for text in texts), encoding="ascii")


def bearer(token: str) -> str:
    """The field that carries a token."""
    return f"Authorization: Bearer {token}\r\n"


def request(host: str, path: str, method: str = "GET", fields: str = "", body: str = "") -> str:
    """As it goes over the wire."""
    length = f"Content-Length: {len(body)}\r\n" if body else ""
    return f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n{fields}{length}\r\n{body}"
