"""Requests: what is sent, by which generator, and what one right answer is."""

import re
import socket
import ssl
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal
from urllib.request import urlopen

import connections
from material import TOKENS, api_keys
from peers import HOST, Ports

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Load:
    """One kind of request, sent over and over."""

    label: str
    """What it is called in tables."""
    tool: Literal["wrk", "h2load", "fresh", "steady"] = "wrk"
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
    rate: int = 0
    """Requests per second, for `steady`."""
    arrivals: int = 1
    """Requests that the backend counts for one request."""
    once: bool = False
    """Each request is sent once, to a proxy that has just been started; wrk alone can."""
    warm_up: str = ""
    """Which requests warm up, if not the same."""
    message: bool = False
    """A call of gRPC: the file is what is posted, and a status comes in trailers. For h2load."""
    forged: str = ""
    """A file with a request that must be refused with 401."""

    def port(self, ports: Ports) -> int:
        """Where to."""
        return ports.https if self.tls else ports.http


class WrongAnswer(Exception):
    """A proxy answered what it should not have: no figure of it counts."""


def number(text: str, pattern: str) -> float:
    """The number that a pattern finds."""
    found = re.search(pattern, text)
    if found is None:
        raise WrongAnswer(f"no `{pattern}` in: {text[-500:]}")
    return float(found[1]) if "." in found[1] else int(found[1])


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


CALL = ("content-type: application/grpc", "te: trailers")
"""Fields of a call of gRPC."""


def probe(load: Load, ports: Ports, requests: Path) -> Probe:
    """Sends one request and checks status and body."""
    try:
        if load.message:
            return called(load, ports, requests)
        if load.forged:
            probed(replace(load, requests=load.forged, status=401, body=None), ports, requests)
        return probed(replace(load, requests=load.warm_up or load.requests), ports, requests)
    except (OSError, KeyError, ValueError, subprocess.SubprocessError) as error:
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


def called(load: Load, ports: Ports, requests: Path) -> Probe:
    """One call of gRPC, as nghttp tells its frames: status, message, and a status in trailers after it."""
    fields = [word for field in (f":authority: {load.host}", *CALL) for word in ("-H", field)]
    url = f"https://127.0.0.1:{load.port(ports)}{load.path}"
    command = ["nghttp", "-nv", "--no-verify-peer", "-d", str(requests / load.requests), *fields, url]
    told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout
    heads, _, rest = told.partition("recv DATA frame")
    sizes = [int(size) for size in re.findall(r"recv DATA frame <length=(\d+)", told)]
    if f":status: {load.status}" not in heads or sum(sizes) != load.body or "grpc-status: 0" not in rest:
        raise WrongAnswer(f"no call of gRPC that ended well: {told[-1500:]}")
    return Probe(len(told), sum(sizes), "")


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


def write_requests(folder: Path, every: list[str]) -> None:
    """The files of requests that loads name; each request ends with a zero byte."""
    folder.mkdir()
    tokens, new = every[:TOKENS], every[TOKENS:]
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
        "token-new": [request("tokens.example.com", "/p3/x", fields=bearer(token)) for token in new],
        "token-new-open": [request(HOST, "/p3/x", fields=bearer(token)) for token in new],
        "keys": [request("keys.example.com", "/p3/x", fields=f"X-Api-Key: {key}\r\n") for key in api_keys()],
        "keys-open": [request(HOST, "/p3/x", fields=f"X-Api-Key: {key}\r\n") for key in api_keys()],
        "keys-forged": [request("keys.example.com", "/p3/x", fields=f"X-Api-Key: {altered(api_keys()[0], 20)}\r\n")],
        "token-forged": [request("tokens.example.com", "/p3/x", fields=bearer(forged(token))) for token in new[:1]],
    }
    for name, texts in files.items():
        (folder / name).write_text("".join(text + "\0" for text in texts), encoding="ascii")
    # Not compressed, its length, and as many bytes.
    (folder / "message").write_bytes(b"\0" + (128).to_bytes(4, "big") + b"x" * 128)


def bearer(token: str) -> str:
    """The field that carries a token."""
    return f"Authorization: Bearer {token}\r\n"


def forged(token: str) -> str:
    """The same with another signature."""
    head, signature = token.rsplit(".", 1)
    return f"{head}.{altered(signature, 0)}"


def altered(text: str, place: int) -> str:
    """The same with another letter there."""
    return f"{text[:place]}{'B' if text[place] == 'A' else 'A'}{text[place + 1:]}"


def request(host: str, path: str, method: str = "GET", fields: str = "", body: str = "") -> str:
    """As it goes over the wire."""
    length = f"Content-Length: {len(body)}\r\n" if body else ""
    return f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n{fields}{length}\r\n{body}"
