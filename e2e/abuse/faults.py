"""Upstreams that do wrong: each fault has its code, and no connection is used again after it."""

import re
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass

from attack import Attack, Scene, eventually
from finding import Finding


@dataclass(frozen=True)
class Fault:
    """What a role of the backend does, and what is to come of it."""

    role: str
    status: int
    code: str | None
    """None: nothing is wrong with the answer itself."""


FAULTS = [
    Fault("refuse", 502, "UpstreamConnectFailed"),
    Fault("closes", 502, "UpstreamReset"),
    Fault("dies", 200, "UpstreamReset"),
    Fault("hold", 504, "UpstreamTimeout"),
    Fault("late", 504, "UpstreamTimeout"),
    Fault("garbage", 502, "UpstreamMalformed"),
    Fault("both", 502, "UpstreamMalformed"),
    Fault("huge", 502, "UpstreamMalformed"),
    Fault("endless", 502, "UpstreamMalformed"),
    Fault("surplus", 200, None),
    Fault("stale", 200, None),
]


def faults(scene: Scene) -> Iterator[Finding]:
    """Each of them, some times in a row."""
    for fault in FAULTS:
        yield from judged(scene, fault, scene.of(20, 3) if fault.role not in ("hold", "late") else 2)


def judged(scene: Scene, fault: Fault, times: int) -> Iterator[Finding]:
    """One fault."""
    label = f'code="{fault.code}"'
    before = scene.program.metric("whygate_refusals_total", label) if fault.code else 0
    connections, requests = scene.counts(fault.role) if fault.role != "refuse" else (0, 0)
    answers = []
    for _ in range(times):
        answers.append(answer(scene, fault))
        # What an upstream closes behind its answer is known to be closed then.
        time.sleep(0.03)
    right = sum(status == fault.status and whole == (fault.role != "dies") for status, whole in answers)
    name = f"{fault.role}: {fault.status}{f' {fault.code}' if fault.code else ''}"
    yield Finding(name, f"{right} of {times}", right == times)
    if fault.code:
        eventually(lambda: scene.program.metric("whygate_refusals_total", label) - before >= times, 1)
        counted = scene.program.metric("whygate_refusals_total", label) - before
        yield Finding(f"{fault.role}: counted as {fault.code}", f"{counted} of {times}", counted == times)
    if fault.role != "refuse":
        had, got = (now - then for now, then in zip(scene.counts(fault.role), (connections, requests), strict=True))
        yield Finding(f"{fault.role}: no connection used again", f"{got} requests on {had} connections", had >= got >= times)


def answer(scene: Scene, fault: Fault) -> tuple[int, bool]:
    """The status of one request, and whether all of the body came."""
    with socket.create_connection(("127.0.0.1", scene.program.http), timeout=15) as stream:
        stream.sendall(f"GET / HTTP/1.1\r\nHost: {fault.role}.test\r\nConnection: close\r\n\r\n".encode())
        data = b""
        try:
            while part := stream.recv(1 << 16):
                data += part
        except OSError:
            pass
    head, _, body = data.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)content-length: (\d+)", head)
    status = int(head.split(b" ")[1]) if head.startswith(b"HTTP/1.1 ") else 0
    return status, length is not None and len(body) == int(length[1])


FLAGS = ("--upstream-first-byte-seconds=1",)
ATTACKS = [Attack("faults", "upstreams that do wrong", faults, flags=FLAGS, quick_flags=FLAGS)]
