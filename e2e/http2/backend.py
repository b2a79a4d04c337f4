"""A backend that forgives nothing: it accepts only HTTP/1.1 that can be read in one way, and counts."""

import re
import socket
import threading
from dataclasses import dataclass, field

TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
FRAMING = ("host", "content-length", "transfer-encoding")


class Violation(Exception):
    """Bytes that are no strict request."""


class BrokenOff(Exception):
    """The connection ended before the request did."""


@dataclass
class Seen:
    """What arrived so far."""

    targets: list[str] = field(default_factory=list)
    """Of each whole request: its method and target."""
    heads: list[str] = field(default_factory=list)
    """The same of each request of which the head came."""
    violations: list[str] = field(default_factory=list)


class Backend:
    """Listens on a free port of loopback; every request is answered with 200."""

    def __init__(self) -> None:
        self.seen, self.lock = Seen(), threading.Lock()
        self.ended, self.threads = threading.Event(), []
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        # Little is stored here for who does not read.
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.port = int(self.listener.getsockname()[1])
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        """A thread for each connection."""
        while True:
            connection, _ = self.listener.accept()
            thread = threading.Thread(target=self.serve, args=(connection,), daemon=True)
            self.threads.append(thread)
            thread.start()

    def serve(self, connection: socket.socket) -> None:
        """Answers requests until the connection ends or breaks a rule."""
        reader = connection.makefile("rb")
        try:
            while (head := read_head(reader)) is not None:
                line, fields = head
                with self.lock:
                    self.seen.heads.append(line)
                if line.endswith(" /stuck"):
                    self.ended.wait()
                read_body(reader, fields)
                with self.lock:
                    self.seen.targets.append(line)
                body = b"x" * size(line)
                connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body))
                if not line.startswith("HEAD "):
                    connection.sendall(body)
        except Violation as violation:
            with self.lock:
                self.seen.violations.append(str(violation))
        except (BrokenOff, OSError):
            pass
        finally:
            connection.close()

    def join(self) -> None:
        """Waits until everything that was sent is read."""
        for thread in self.threads:
            thread.join(10)

    def snapshot(self) -> Seen:
        """What arrived so far."""
        with self.lock:
            return Seen(list(self.seen.targets), list(self.seen.heads), list(self.seen.violations))


def size(line: str) -> int:
    """How long an answer is asked for: `/bytes/N`."""
    found = re.search(r" /bytes/(\d+)$", line)
    return int(found[1]) if found else 2


def read_line(reader) -> str:
    """A line that ends with CR LF, and holds neither of them before."""
    line = reader.readline(65536)
    if not line.endswith(b"\n"):
        raise BrokenOff
    if not line.endswith(b"\r\n") or not re.fullmatch(rb"[\t -~]*", line[:-2]):
        raise Violation(f"a line with other bytes: {line!r}")
    return line[:-2].decode()


def read_head(reader) -> tuple[str, dict[str, str]] | None:
    """Method and target, and the fields that frame; nothing if no request follows."""
    if not reader.peek(1):
        return None
    line = read_line(reader)
    found = re.fullmatch(r"(\S+) ([/*][^\s#\\]*) HTTP/1\.1", line)
    if not found or not TOKEN.fullmatch(found[1]):
        raise Violation(f"a first line: {line!r}")
    fields: dict[str, str] = {}
    while text := read_line(reader):
        name, colon, value = text.partition(":")
        if not colon or not TOKEN.fullmatch(name):
            raise Violation(f"a header: {text!r}")
        plain = name.lower().replace("_", "-")
        if plain not in FRAMING:
            continue
        if "_" in name or plain in fields:
            raise Violation(f"a header that frames, misspelt or twice: {text!r}")
        fields[plain] = value.strip(" \t")
    if not re.fullmatch(r"[^\s,/@]+", fields.get("host", "")):
        raise Violation(f"not one host: {fields}")
    return f"{found[1]} {found[2]}", fields


def read_body(reader, fields: dict[str, str]) -> None:
    """Reads a body to its end."""
    length, encoding = fields.get("content-length"), fields.get("transfer-encoding")
    if length is not None and (encoding is not None or not re.fullmatch(r"\d+", length)):
        raise Violation(f"framed in two ways: {fields}")
    if encoding not in (None, "chunked"):
        raise Violation(f"an encoding: {encoding!r}")
    take(reader, int(length or 0))
    while encoding:
        size = read_line(reader)
        if not re.fullmatch(r"[0-9A-Fa-f]{1,8}", size):
            raise Violation(f"the size of a chunk: {size!r}")
        if not int(size, 16):
            break
        take(reader, int(size, 16))
        if read_line(reader):
            raise Violation("a chunk that is longer than its size")
    while encoding and (text := read_line(reader)):
        if not TOKEN.fullmatch(text.partition(":")[0]):
            raise Violation(f"a trailer: {text!r}")


def take(reader, length: int) -> None:
    """Reads so many bytes."""
    if len(reader.read(length)) < length:
        raise BrokenOff
