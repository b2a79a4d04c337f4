"""The proxy under attack: how it is started, limited and looked at from outside."""

import fcntl
import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from urllib.request import urlopen

sys.path.append(str(Path(__file__).resolve().parent.parent / "bench"))
import machine  # noqa: E402

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


@dataclass
class Program:
    """A running proxy with one data thread."""

    process: subprocess.Popen[bytes]
    http: int
    https: int
    admin: int
    log: Path = field(repr=False)
    output: int | None = field(default=None, repr=False)
    """The reading end of its output, if that is a pipe."""

    @staticmethod
    def start(binary: Path, folder: Path, flags: tuple[str, ...], memory: Memory, descriptors: int = 0, piped: bool = False) -> "Program":
        """Serves the manifests in `folder`, with at most so many descriptors, and its output in a file or a pipe."""
        ready, log = folder / "ready", folder / "log"
        ready.unlink(missing_ok=True)
        output = os.pipe() if piped else None
        if output:
            # The least there is: it is full after some lines.
            fcntl.fcntl(output[1], fcntl.F_SETPIPE_SZ, 4096)

        def prepare() -> None:
            os.sched_setaffinity(0, machine.Cores.split().proxy)
            go_first()
            memory.join()
            most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
            resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors or most, descriptors or most))

        listeners = [f"--{name}-listen=127.0.0.1:0" for name in ("http", "https", "admin")]
        command = [str(binary), "serve", "--manifests", str(folder / "manifests"), "--threads=1", "--inspect-listen=off"]
        with log.open("wb") as file:
            process = subprocess.Popen(
                [*command, *listeners, "--ready-file", str(ready), *flags],
                stdin=subprocess.DEVNULL,
                stdout=output[1] if output else file,
                stderr=subprocess.STDOUT,
                preexec_fn=prepare,
            )
        if output:
            os.close(output[1])
        program = Program(process, 0, 0, 0, log, output[0] if output else None)
        deadline = time.monotonic() + 30
        while not ready.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the program did not start: {read(log)}")
            time.sleep(0.01)
        said = json.loads(ready.read_text())
        ports = [said["http"][0], said["https"][0], said["admin"]]
        program.http, program.https, program.admin = (int(port.rsplit(":", 1)[1]) for port in ports)
        return program

    def stop(self) -> None:
        """By its id."""
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.output is not None:
            os.close(self.output)

    def is_alive(self) -> bool:
        """Whether it has not ended."""
        return self.process.poll() is None

    def resident(self) -> int:
        """Bytes of memory now."""
        return machine.field_kib(f"/proc/{self.process.pid}/status", "VmRSS:") * 1024

    def peak(self) -> int:
        """The most bytes of memory since `forget_peak`."""
        return machine.field_kib(f"/proc/{self.process.pid}/status", "VmHWM:") * 1024

    def forget_peak(self) -> None:
        """Lets the peak begin anew."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    def descriptors(self) -> int:
        """How many it has open."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def metrics(self) -> str:
        """All of them."""
        with urlopen(f"http://127.0.0.1:{self.admin}/metrics", timeout=10) as page:
            return str(page.read().decode())

    def series(self) -> set[str]:
        """The names and labels of all metrics."""
        lines = self.metrics().splitlines()
        return {line.rsplit(" ", 1)[0] for line in lines if not line.startswith("#")}

    def metric(self, name: str, *labels: str) -> int:
        """The sum of a metric over all series that have these labels."""
        found = re.findall(rf"^{name}(?:\{{(.*)\}})? (\d+)", self.metrics(), re.MULTILINE)
        return sum(int(value) for have, value in found if all(label in have for label in labels))


@dataclass
class Helper:
    """A Python program of this folder, asked by lines."""

    process: subprocess.Popen[str]

    @staticmethod
    def start(name: str, *arguments: object, first: bool) -> "Helper":
        """On the cores that the proxy does not have; `first` goes before everything else there if that is allowed."""

        def prepare() -> None:
            os.sched_setaffinity(0, machine.Cores.split().rest)
            if first:
                go_first()

        command = [sys.executable, str(HERE / name), *map(str, arguments)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        return Helper(subprocess.Popen(command, text=True, bufsize=1, preexec_fn=prepare, **pipes))  # type: ignore[call-overload]

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
