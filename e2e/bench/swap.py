"""Changes of Whygate's configuration, one after the other: each is a snapshot that data threads swap."""

import threading
import time
from types import TracebackType
from urllib.request import urlopen

import peers
from load import WrongAnswer, number
from peers import Running

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


class Swaps:
    """A change every second, as long as it is entered."""

    def __init__(self, running: Running) -> None:
        self.running, self.count, self.swaps = running, 0, 0
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
