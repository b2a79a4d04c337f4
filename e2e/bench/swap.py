"""Changes of Whygate's configuration, one after the other: each is a snapshot that data threads swap."""

import contextlib
import os
import threading
import time
from pathlib import Path
from types import TracebackType
from urllib.request import urlopen

import peers
from load import WrongAnswer, number
from peers import Running

DATA = "data-"
"""How the names of Whygate's data threads begin."""

EVERY = 1.0
"""Seconds between two changes."""


def turn(running: Running, turns: int) -> None:
    """Another host for one Ingress."""
    text = peers.ingress(f"turn-{turns}.example.com", name="turning")
    peers.replace(running.log.parent / "manifests" / "turning.yaml", text)


def generation(running: Running) -> int:
    """Of the snapshot that every data thread has."""
    with urlopen(f"http://127.0.0.1:{running.ports.admin}/metrics", timeout=10) as page:
        return int(number(page.read().decode(), r"\nwhygate_snapshot_generation (\d+)"))


def schedule(running: Running, policy: int) -> None:
    """How the kernel shares time among the threads that are not data threads; those that they begin inherit it."""
    for task in Path(f"/proc/{running.process.pid}/task").iterdir():
        # A thread may end meanwhile.
        with contextlib.suppress(OSError):
            if not (task / "comm").read_text().startswith(DATA):
                os.sched_setscheduler(int(task.name), policy, os.sched_param(0))


class Swaps:
    """A change every second, as long as it is entered; `yields`: only data threads compete for time."""

    def __init__(self, running: Running, yields: bool = False) -> None:
        self.running, self.count, self.swaps = running, 0, 0
        schedule(running, os.SCHED_IDLE if yields else os.SCHED_OTHER)
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.run)

    def __enter__(self) -> "Swaps":
        self.before = generation(self.running)
        self.thread.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.ended.set()
        self.thread.join()
        # The last change has its hold-off yet to wait for.
        deadline = time.monotonic() + 5
        while (swaps := generation(self.running) - self.before) < self.count and time.monotonic() < deadline:
            time.sleep(0.1)
        self.swaps = swaps
        # On a machine that is busy several changes may become one; the results say how many snapshots there were.
        if error is None and swaps == 0:
            raise WrongAnswer(f"{self.count} changes made no snapshot")

    def run(self) -> None:
        """Until the end."""
        while not self.ended.wait(EVERY):
            # Hosts that were not there in the rounds before.
            turn(self.running, self.before * 1000 + self.count)
            self.count += 1
