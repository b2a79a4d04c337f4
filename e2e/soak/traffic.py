"""Honest clients of one kind, a program of its own: traffic.py KIND HTTP_PORT HTTPS_PORT TOKEN_FILE.

They ask until their input ends, and answer each line on it with a line of JSON: how many requests there were, how
many of them were lost, and the first words about that. Lost is what no configuration that there was accounts for.
"""

import itertools
import json
import random
import select
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import http2

ROUTES = 20
PAUSE = 0.02
"""Seconds between two requests of a client."""
UPLOAD = 256 * 1024


class Lost(Exception):
    """A request without the answer that it should have."""


class Account:
    """What all clients of this program have seen."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.counts = {"requests": 0, "refused": 0, "lost": 0}
        self.words: list[str] = []

    def note(self, refused: bool = False, lost: str = "") -> None:
        """One request."""
        with self.lock:
            self.counts["requests"] += 1
            self.counts["refused"] += refused
            self.counts["lost"] += bool(lost)
            if lost and len(self.words) < 5:
                self.words.append(lost)


class Connection:
    """HTTP/1.1, opened again whenever an answer says that it was the last."""

    def __init__(self, port: int, tls: str | None = None) -> None:
        self.port, self.tls, self.plain = port, tls, None
        self.ahead = b""

    def open(self) -> None:
        """To the proxy."""
        self.plain, self.ahead = socket.create_connection(("127.0.0.1", self.port), timeout=30), b""
        self.plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.tls:
            self.plain = ssl._create_unverified_context().wrap_socket(self.plain, server_hostname=self.tls)

    def close(self) -> None:
        """Opened again when needed."""
        if self.plain:
            self.plain.close()
        self.plain = None

    def more(self) -> None:
        """Reads on."""
        data = self.plain.recv(1 << 16)
        if not data:
            raise Lost("the connection ended")
        self.ahead += data

    def ask(self, host: str, path: str = "/", method: str = "GET", fields: str = "", body: bytes = b"") -> tuple[int, dict[str, str], bytes]:
        """One request: status, fields, body."""
        if self.plain is None:
            self.open()
        try:
            self.plain.sendall(f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n".encode() + body)
            status, answer = self.head()
            length = int(answer.get("content-length", 0))
            while len(self.ahead) < length:
                self.more()
            found, self.ahead = self.ahead[:length], self.ahead[length:]
        except (OSError, Lost):
            self.close()
            raise
        if answer.get("connection") == "close":
            self.close()
        return status, answer, found

    def head(self) -> tuple[int, dict[str, str]]:
        """Of an answer."""
        while b"\r\n\r\n" not in self.ahead:
            self.more()
        head, self.ahead = self.ahead.split(b"\r\n\r\n", 1)
        first, *lines = head.decode("latin-1").split("\r\n")
        return int(first.split(" ")[1]), {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}


Outcome = bool
"""Whether a request was refused."""


def either(status: int, fields: dict[str, str], body: bytes, codes: tuple[str, ...] = ("AddressNotAllowed",)) -> Outcome:
    """What a route whose policy swings may answer."""
    if status == 200 and len(body) == 1024:
        return False
    if status in (401, 403) and fields.get("whygate-denial-code") in codes:
        return True
    raise Lost(f"{status} with {len(body)} bytes, {fields.get('whygate-denial-code')}")


def expect(answer: tuple[int, dict[str, str], bytes], status: int, length: int | None) -> None:
    """Exactly this."""
    if answer[0] != status or length not in (None, len(answer[2])):
        raise Lost(f"{answer[0]} with {len(answer[2])} bytes, {answer[1].get('whygate-denial-code')}")


def swinging(connection: Connection, number: int) -> Outcome:
    """A route whose policy and path change."""
    return either(*connection.ask(f"shop-{number % ROUTES}.test"))


def steady(connection: Connection, number: int) -> Outcome:
    """A route whose endpoints change."""
    expect(connection.ask(f"steady-{number % ROUTES}.test", "/anything"), 200, 1024)
    return False


def kept(ports: tuple[int, int], _: list[str]) -> Callable[[int], Outcome]:
    """One connection."""
    connection = Connection(ports[0])
    return lambda number: (swinging if number % 2 else steady)(connection, number)


def new(ports: tuple[int, int], _: list[str]) -> Callable[[int], Outcome]:
    """A connection for each request."""

    def ask(number: int) -> Outcome:
        connection = Connection(ports[0])
        refused = steady(connection, number)
        connection.close()
        return refused

    return ask


def tls(ports: tuple[int, int], _: list[str]) -> Callable[[int], Outcome]:
    """Ten requests for each TLS connection."""
    connection = Connection(ports[1], "secure.test")

    def ask(number: int) -> Outcome:
        expect(connection.ask("secure.test"), 200, 1024)
        if number % 10 == 9:
            connection.close()
        return False

    return ask


def upload(ports: tuple[int, int], _: list[str]) -> Callable[[int], Outcome]:
    """A body of known length, and one in pieces."""
    connection = Connection(ports[0])

    def ask(number: int) -> Outcome:
        fields, body = f"Content-Length: {UPLOAD}\r\n", b"u" * UPLOAD
        if number % 2:
            fields, body = "Transfer-Encoding: chunked\r\n", b"".join(b"4000\r\n" + b"u" * 16384 + b"\r\n" for _ in range(UPLOAD // 16384)) + b"0\r\n\r\n"
        answer = connection.ask(f"steady-{number % ROUTES}.test", "/up", "POST", fields, body)
        expect(answer, 200, None)
        if answer[2] != b"%d" % UPLOAD:
            raise Lost(f"the upstream received {answer[2]!r} bytes")
        time.sleep(0.1)
        return False

    return ask


def download(ports: tuple[int, int], _: list[str]) -> Callable[[int], Outcome]:
    """A mebibyte."""
    connection = Connection(ports[0])

    def ask(number: int) -> Outcome:
        expect(connection.ask(f"steady-{number % ROUTES}.test", "/down"), 200, 1 << 20)
        time.sleep(0.1)
        return False

    return ask


def refusal(ports: tuple[int, int], _: list[str]) -> Callable[[int], Outcome]:
    """What is refused always: by a policy, and because there is no route."""
    connection = Connection(ports[0])

    def ask(number: int) -> Outcome:
        host, status = ("denied.test", 403) if number % 2 else ("nobody.test", 404)
        expect(connection.ask(host), status, None)
        return True

    return ask


def token(ports: tuple[int, int], tokens: list[str]) -> Callable[[int], Outcome]:
    """Many tokens, and now and then none."""
    connection = Connection(ports[0])

    def ask(number: int) -> Outcome:
        if number % 10 == 0:
            expect(connection.ask("token.test"), 401, None)
            return True
        expect(connection.ask("token.test", fields=f"Authorization: Bearer {tokens[number % len(tokens)]}\r\n"), 200, 1024)
        return False

    return ask


def multiplexed(ports: tuple[int, int], _: list[str]) -> Callable[[int], Outcome]:
    """HTTP/2, eight requests at once; a connection that is asked to end is replaced."""
    state: list[http2.Connection] = []

    def ask(number: int) -> Outcome:
        if not state:
            state.append(http2.Connection.open(ports[0]))
        connection = state[0]
        first = len(connection.statuses) * 2 + 1
        streams = range(first, first + 16, 2)
        connection.send(b"".join(http2.headers(one, http2.request(f"steady-{one % ROUTES}.test")) for one in streams))
        # Windows are opened again as far as these answers used them.
        connection.until(lambda: all(one in connection.ended for one in streams), 30)
        connection.send(http2.window(0, 8 * 1024))
        wrong = [connection.statuses.get(one) for one in streams if one not in connection.ended or connection.statuses.get(one) != 200]
        if wrong or connection.goaway is not None or connection.closed is not None:
            state.clear()
            connection.end()
        # What was sent after a GOAWAY is not lost: its client was told that it can ask again.
        if wrong and connection.goaway is None:
            raise Lost(f"{wrong} on HTTP/2")
        return False

    return ask


def websocket(ports: tuple[int, int], _: list[str]) -> Callable[[int], Outcome]:
    """One tunnel for as long as it lives, and an echo on it ten times a second."""
    connection = Connection(ports[0])
    fields = "Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    frame = b"\x81\x85\0\0\0\0hello"

    def ask(number: int) -> Outcome:
        if connection.plain is None and connection.ask("steady-0.test", "/ws", fields=fields)[0] != 101:
            raise Lost("no tunnel was opened")
        try:
            connection.plain.sendall(frame)
            while len(connection.ahead) < len(frame):
                connection.more()
        except (OSError, Lost):
            connection.close()
            raise
        if connection.ahead != frame:
            raise Lost(f"the echo was {connection.ahead!r}")
        connection.ahead = b""
        time.sleep(0.1)
        return False

    return ask


def stream(ports: tuple[int, int], _: list[str]) -> Callable[[int], Outcome]:
    """One answer for as long as it lives."""
    connection = Connection(ports[0])

    def ask(number: int) -> Outcome:
        try:
            if connection.plain is None:
                connection.open()
                connection.plain.sendall(b"GET /stream HTTP/1.1\r\nHost: steady-1.test\r\n\r\n")
                if connection.head()[0] != 200:
                    raise Lost("no stream")
            while b"alive\n" not in connection.ahead:
                connection.more()
        except (OSError, Lost):
            connection.close()
            raise
        connection.ahead = connection.ahead.split(b"alive\n", 1)[1]
        return False

    return ask


KINDS = {kind.__name__: kind for kind in (kept, new, tls, upload, download, refusal, token, multiplexed, websocket, stream)}
CLIENTS = {"kept": 4, "websocket": 10, "stream": 10}
"""How many of a kind there are, if more than one."""


def client(kind: Callable[..., Callable[[int], Outcome]], account: Account, ports: tuple[int, int], tokens: list[str]) -> None:
    """Asks for ever."""
    ask = kind(ports, tokens)
    for number in itertools.count():
        try:
            account.note(refused=ask(number))
        except (Lost, OSError, ValueError) as error:
            account.note(lost=f"{kind.__name__}: {error}")
        time.sleep(PAUSE * random.uniform(0.5, 1.5))


def main() -> None:
    """Until the input ends."""
    kind, ports, tokens = KINDS[sys.argv[1]], (int(sys.argv[2]), int(sys.argv[3])), Path(sys.argv[4]).read_text().split()
    account = Account()
    for _ in range(CLIENTS.get(sys.argv[1], 1)):
        threading.Thread(target=client, args=(kind, account, ports, tokens), daemon=True).start()
    while select.select([sys.stdin], [], []) and sys.stdin.readline():
        with account.lock:
            print(json.dumps({**account.counts, "words": account.words}), flush=True)


if __name__ == "__main__":
    main()
