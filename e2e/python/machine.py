"""The machine: CPU time and memory of processes, which core runs what, and what else is running."""

import os
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

TICK = 1.0 / os.sysconf("SC_CLK_TCK")
"""Seconds of one tick of /proc, the resolution of CPU times."""

QUIET = 0.05
"""The largest share of one core that others may use."""


@dataclass(frozen=True)
class Cores:
    """Which cores the proxy has, and which the rest."""

    proxy: set[int]
    rest: set[int]

    @staticmethod
    def split() -> "Cores":
        """The first core for the proxy; on a machine with one core both share it."""
        allowed = sorted(os.sched_getaffinity(0))
        return Cores({allowed[0]}, set(allowed[1:]) or {allowed[0]})


@dataclass(frozen=True)
class Process:
    """One line of /proc: times are of all threads."""

    name: str
    parent: int
    own: int
    reaped: int

    @staticmethod
    def read(pid: int) -> "Process | None":
        """Nothing if it has ended."""
        try:
            text = Path(f"/proc/{pid}/stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return None
        name = text[text.index("(") + 1 : text.rindex(")")]
        fields = text[text.rindex(")") + 2 :].split()
        return Process(name, int(fields[1]), int(fields[11]) + int(fields[12]), int(fields[13]) + int(fields[14]))


def processes() -> dict[int, Process]:
    """All that run now."""
    found = ((int(name), Process.read(int(name))) for name in os.listdir("/proc") if name.isdigit())
    return {pid: process for pid, process in found if process is not None}


def tree(root: int, among: dict[int, Process] | None = None) -> set[int]:
    """A process and all below it."""
    among = processes() if among is None else among
    found, size = {root}, 0
    while len(found) > size:
        size = len(found)
        found |= {pid for pid, process in among.items() if process.parent in found}
    return found


def cpu_seconds(root: int) -> float:
    """User and system time of a process with all threads, and of all processes below it, ended ones too."""
    running = processes()
    return sum(running[pid].own + running[pid].reaped for pid in tree(root, running) if pid in running) * TICK


def memory_kib(root: int) -> int:
    """Memory of its own of a process and all below it. What a worker shares with its master counts once."""
    return sum(field_kib(f"/proc/{pid}/smaps_rollup", "Pss_Anon:") for pid in tree(root))


def resident_kib(root: int) -> int:
    """The same with program text and mapped files."""
    return sum(field_kib(f"/proc/{pid}/smaps_rollup", "Pss:") for pid in tree(root))


def field_kib(path: str, name: str) -> int:
    """A field of a file of /proc, 0 if the process has ended."""
    try:
        lines = Path(path).read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(name)), 0)


@dataclass(frozen=True)
class Others:
    """What ran beside the benchmark."""

    share: float
    """In cores: 1.0 is one core for the whole time. Time that a hypervisor took counts."""
    names: tuple[str, ...]
    """The programs that used most."""


class Watch:
    """Measures what others use from its making until `others` is called."""

    def __init__(self) -> None:
        self.begun = time.monotonic()
        self.busy = busy_ticks()
        self.ours = our_ticks()
        self.before = processes()

    def others(self) -> Others:
        """What everything but this process and those below it used since then, the kernel's work on packets left out: they are ours."""
        after, elapsed = processes(), (time.monotonic() - self.begun) / TICK
        ours = our_ticks() - self.ours
        mine = tree(os.getpid(), after)
        used: Counter[str] = Counter()
        for pid, process in after.items():
            earlier = self.before.get(pid)
            ticks = process.own - (earlier.own if earlier else 0)
            if process.name.startswith("ksoftirqd/"):
                ours += ticks
            elif pid not in mine:
                used[process.name] += ticks
        share = max(0.0, busy_ticks() - self.busy - ours) / elapsed
        return Others(share, tuple(name for name, ticks in used.most_common(3) if ticks > elapsed * 0.01))


def busy_ticks() -> int:
    """Of all cores since the machine began: user, nice, system, interrupts, and what a hypervisor took."""
    with open("/proc/stat", encoding="ascii") as file:
        user, nice, system, _idle, _waiting, *rest = (int(field) for field in file.readline().split()[1:9])
    return user + nice + system + sum(rest)


def stolen_ticks() -> int:
    """What a hypervisor took of all cores since the machine began."""
    with open("/proc/stat", encoding="ascii") as file:
        return int(file.readline().split()[8])


def our_ticks() -> int:
    """Of this process and all below it, ended ones too."""
    return round(cpu_seconds(os.getpid()) / TICK)


def wait_for_quiet(patience: float, window: float = 5.0) -> Others:
    """Returns when others used little for a while, or after `patience` seconds anyway."""
    deadline = time.monotonic() + patience
    while True:
        watch = Watch()
        time.sleep(window)
        others = watch.others()
        if others.share <= QUIET or time.monotonic() >= deadline:
            return others
        print(
            f"waiting for quiet: others use {others.share:.2f} cores: {', '.join(others.names)}",
            flush=True,
        )


def describe() -> list[tuple[str, str]]:
    """What a reader needs to know of this machine."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith(("model name", "CPU part"))), "unknown"
    )
    memory = int(Path("/proc/meminfo").read_text().split()[1]) / 1024 / 1024
    system = os.uname()
    return [
        ("processor", f"{model}, {len(os.sched_getaffinity(0))} cores"),
        ("memory", f"{memory:.1f} GiB"),
        ("kernel", f"{system.sysname} {system.release} {system.machine}"),
    ]
