"""The proxy under attack: how it is started and limited, and the programs beside it."""

import fcntl
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from whygate import Program

HERE = Path(__file__).resolve().parent
LIMIT = 256 * 1024 * 1024
"""Bytes of memory that the proxy has."""

BACKEND = """---
apiVersion: v1
kind: Service
metadata: {{ name: {name}, namespace: abuse }}
spec: {{ ports: [{{ port: 80 }}] }}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{ name: {name}, namespace: abuse, labels: {{ kubernetes.io/service-name: {name} }} }}
addressType: IPv4
endpoints: [{{ addresses: [127.0.0.1] }}]
ports: [{{ name: "", port: {port} }}]
"""

INGRESS = """---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{ name: {name}, namespace: abuse }}
spec:
  ingressClassName: whygate
  rules:
  - host: {name}.test
    http:
      paths:
      - {{ path: /, pathType: Prefix, backend: {{ service: {{ name: {service}, port: {{ number: 80 }} }} }} }}
"""

POLICY = """---
apiVersion: whygate.dev/v1alpha1
kind: AccessPolicy
metadata: { name: denied, namespace: abuse }
spec:
  targetRefs: [{ group: networking.k8s.io, kind: Ingress, name: denied }]
  require:
  - { name: office, ip: { cidrs: [192.0.2.0/24] } }
"""


def manifests(ports: dict[str, int]) -> str:
    """A route `ROLE.test` for each role of a backend, and `denied.test`, which nobody may use."""
    text = "".join(BACKEND.format(name=name, port=port) + INGRESS.format(name=name, service=name) for name, port in ports.items())
    return text + INGRESS.format(name="denied", service="ok") + POLICY


class Memory:
    """A group of the kernel that limits memory, if one can be made."""

    def __init__(self) -> None:
        self.folder = next((made for made in map(self.make, ("", "memory")) if made), None)

    @staticmethod
    def make(hierarchy: str) -> Path | None:
        """A group of either version of the kernel's interface."""
        root = Path("/sys/fs/cgroup") / hierarchy
        limit = {"": "memory.max", "memory": "memory.limit_in_bytes"}[hierarchy]
        if not hierarchy and "memory" not in read(root / "cgroup.subtree_control").split():
            return None
        folder = root / f"whygate-abuse-{os.getpid()}"
        try:
            folder.mkdir()
            (folder / limit).write_text(str(LIMIT))
        except OSError:
            if folder.is_dir():
                folder.rmdir()
            return None
        return folder

    def join(self) -> None:
        """The calling process and what it starts."""
        if self.folder:
            (self.folder / "cgroup.procs").write_text(str(os.getpid()))

    def remove(self) -> None:
        """Once nobody is in it."""
        if self.folder:
            self.folder.rmdir()

    def describe(self) -> str:
        """For the results."""
        return "256 MiB, held by a cgroup" if self.folder else "256 MiB, compared with the peak that /proc tells (no cgroup can be made here)"


@dataclass(frozen=True)
class Limits:
    """What the proxy may use."""

    memory: Memory
    cores: set[int]


def read(path: Path) -> str:
    """A file, or nothing if it cannot be read."""
    try:
        return path.read_text()
    except OSError:
        return ""


def go_first() -> None:
    """Lets the calling process go before others, so that they do not disturb what is measured; if that is allowed."""
    try:
        os.setpriority(os.PRIO_PROCESS, 0, -15)
    except OSError:
        pass


def interrupt() -> None:
    """Lets the calling process run as soon as it has something to do, whatever else its core is doing; if that is allowed.

    For the honest client and its backend, which share a core with the attack: how long they wait for it is no latency of the proxy.
    """
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    except OSError:
        go_first()


def start(binary: Path, folder: Path, flags: tuple[str, ...], allowed: Limits, piped: bool) -> tuple[Program, int | None]:
    """Serves the manifests in `folder` with one data thread; its output is in a file, or in a pipe whose end comes second."""
    reading, writing = os.pipe() if piped else (None, None)
    if writing is not None:
        # The least there is: it is full after some lines.
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)

    def prepare() -> None:
        os.sched_setaffinity(0, allowed.cores)
        go_first()
        allowed.memory.join()

    command = [str(binary), "serve", "--manifests", str(folder / "manifests"), "--threads=1", *flags]
    program = Program.start(command, folder, prepare, writing)
    if writing is not None:
        os.close(writing)
    return program, reading


@dataclass
class Helper:
    """A Python program of this folder, asked by lines."""

    process: subprocess.Popen[str]

    @staticmethod
    def start(name: str, *arguments: object, first: bool) -> "Helper":
        """On the cores of this process; `first` does not wait for anything else there if that is allowed."""
        command = [sys.executable, str(HERE / name), *map(str, arguments)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        return Helper(subprocess.Popen(command, text=True, bufsize=1, preexec_fn=interrupt if first else None, **pipes))  # type: ignore[call-overload]

    def ask(self) -> dict[str, object]:
        """One line for another."""
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write("?\n")
        return self.line()

    def line(self) -> dict[str, object]:
        """What it says next."""
        assert self.process.stdout
        return dict(json.loads(self.process.stdout.readline()))

    def stop(self) -> None:
        """By its id."""
        self.process.terminate()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe:
                pipe.close()

    def __enter__(self) -> "Helper":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
