"""The program under test: how it is built, started, looked at from outside, and ended."""

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.request import urlopen

import machine

ROOT = Path(__file__).resolve().parent.parent.parent
BEFORE_READY = 60.0
"""Seconds until it serves."""


def binary(given: Path | None) -> Path:
    """What was given, else what `WHYGATE_BINARY` names, else a debug binary, built now as the tests build it."""
    named = os.environ.get("WHYGATE_BINARY")
    found = (given or (Path(named) if named else build("--quiet", "--workspace"))).resolve()
    if not found.is_file():
        raise SystemExit(f"there is no file `{found}`; `cargo build --release --bin whygate` makes `target/release/whygate`")
    return found


def build(*options: str) -> Path:
    """The binary of this source, as cargo builds it with these options."""
    command = ["cargo", "build", "--locked", *options, "--bin", "whygate", "--message-format", "json-render-diagnostics"]
    said = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True, text=True).stdout
    return next(Path(made) for line in said.splitlines() if (made := json.loads(line).get("executable")))


def end(process: subprocess.Popen[bytes], by: int = signal.SIGINT) -> None:
    """By its id; who does not go in ten seconds is killed."""
    process.send_signal(by)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@dataclass
class Program:
    """It runs, on free ports of loopback."""

    process: subprocess.Popen[bytes]
    http: int
    https: int
    admin: int
    log: Path = field(repr=False)

    @staticmethod
    def start(
        command: list[str],
        folder: Path,
        prepare: Callable[[], None] | None = None,
        output: int | None = None,
        environment: dict[str, str] | None = None,
    ) -> "Program":
        """Runs a command that serves, and returns once it does. What it says goes to a file in `folder`, or to `output`.

        `prepare` is run in the new process before the program.
        """
        ready, log = folder / "ready", folder / "log"
        listeners = [f"--{name}-listen=127.0.0.1:0" for name in ("http", "https", "admin")]
        with log.open("wb") as file:
            process = subprocess.Popen(
                [*command, *listeners, "--inspect-listen=off", "--ready-file", str(ready)],
                stdin=subprocess.DEVNULL,
                stdout=file if output is None else output,
                stderr=subprocess.STDOUT,
                preexec_fn=prepare,
                env=environment,
            )
        deadline = time.monotonic() + BEFORE_READY
        while not ready.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                end(process)
                raise SystemExit(f"whygate does not get ready; it said:\n{log.read_text(errors='replace')}")
            time.sleep(0.01)
        said = json.loads(ready.read_text())
        http, https, admin = (port(address) for address in (said["http"][0], said["https"][0], said["admin"]))
        return Program(process, http, https, admin, log)

    def stop(self) -> None:
        """See `end`."""
        end(self.process)

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
        with urlopen(f"http://127.0.0.1:{self.admin}/metrics", timeout=30) as page:
            return str(page.read().decode())

    def series(self) -> set[str]:
        """The names and labels of all metrics."""
        lines = self.metrics().splitlines()
        return {line.rsplit(" ", 1)[0] for line in lines if not line.startswith("#")}

    def metric(self, name: str, *labels: str) -> int:
        """The sum of a metric over all series that have these labels."""
        found = re.findall(rf"^{name}(?:\{{(.*)\}})? (\d+)", self.metrics(), re.MULTILINE)
        return sum(int(value) for have, value in found if all(label in have for label in labels))


def port(address: str) -> int:
    """Of an address and a port."""
    return int(address.rpartition(":")[2])
