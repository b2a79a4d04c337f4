"""Rounds: every proxy in turn, again and again, with the CPU time that each used for a request."""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import change
import generators
import load
import peers
import start
import swap
import websockets
from load import Counters, Probe, WrongAnswer
from machine import Cores, Watch, cpu_seconds, memory_kib, resident_kib
from material import Material
from peers import Backend, Running, Shape
from workloads import Medians, Variant, Workload

WARM_UP = 1.0
"""Seconds before each measurement."""


@dataclass(frozen=True)
class Sample:
    """One proxy in one round."""

    figure: float
    """In the unit of the workload."""
    others: float
    """Cores that everything else used meanwhile."""
    names: tuple[str, ...]
    """The programs that used most of it."""
    per_second: float | None = None
    p50: float | None = None
    p99: float | None = None
    p999: float | None = None
    slowest: float | None = None
    typical: float | None = None
    """The slowest of each second, in the median."""
    late: float | None = None
    """Latencies in microseconds; the last is p99 of how late the generator itself was."""
    reused: float | None = None
    """Share of requests for which the proxy opened no upstream connection."""
    cpu: float | None = None
    """CPU time: milliseconds of a change or a start, microseconds of a request at a constant rate."""
    generations: int | None = None
    """Snapshots that came meanwhile."""
    lost: int | None = None
    """Requests without a right answer during a change."""


@dataclass
class Result:
    """All rounds of a workload."""

    workload: Workload
    samples: dict[tuple[str, str], list[Sample]] = field(default_factory=dict)
    wrong: dict[tuple[str, str], str] = field(default_factory=dict)
    """What was wrong with a proxy's answers: it has no figures then."""
    tls: dict[str, str] = field(default_factory=dict)
    """Version and cipher that each proxy chose."""

    def medians(self) -> Medians:
        """Of all that answered rightly."""
        return {
            key: statistics.median(sample.figure for sample in samples)
            for key, samples in self.samples.items()
            if samples and key not in self.wrong
        }


@dataclass(frozen=True)
class Bench:
    """What a run has besides the workloads."""

    folder: Path
    material: Material
    cores: Cores
    backend: Backend
    configure: dict[str, peers.Configure]
    """The proxies that are installed."""
    rounds: int
    seconds: float

    @property
    def requests(self) -> Path:
        """The folder of requests."""
        return self.folder / "requests"

    @contextmanager
    def running(self, peer: str, shape: Shape, name: str) -> Iterator[Running]:
        """A proxy in a folder of its own, ended afterwards."""
        running = peers.start(
            peer, self.configure[peer], self.folder / name, shape, self.material, self.cores, self.backend
        )
        try:
            yield running
        finally:
            running.stop()


def measure(workload: Workload, bench: Bench) -> Result:
    """All rounds: A B C D A B C D, for each variant."""
    result = Result(workload)
    fleet = Fleet(bench, workload)
    try:
        for number in range(min(bench.rounds, workload.rounds)):
            for variant in workload.variants:
                for peer in fleet.peers():
                    add(result, peer, variant, partial(fleet.sample, peer, variant, number, result))
    finally:
        fleet.stop()
    return result


def add(result: Result, peer: str, variant: Variant, sample: Callable[[], Sample]) -> None:
    """Adds one sample, unless this proxy has already answered wrongly."""
    key = (peer, variant.label)
    if key in result.wrong:
        return
    try:
        taken = sample()
    except (WrongAnswer, peers.NotStarted) as error:
        result.wrong[key] = str(error)
        print(f"  {peer}, {variant.label}: LEFT OUT: {error}", flush=True)
        return
    result.samples.setdefault(key, []).append(taken)
    beside = f"  (others {taken.others:.2f} cores)" if taken.others > 0.05 else ""
    print(f"  {peer:12} {variant.label:24} {taken.figure:10.2f} {result.workload.unit}{beside}", flush=True)


class Fleet:
    """The proxies of a workload; those that share a shape run through all rounds."""

    def __init__(self, bench: Bench, workload: Workload) -> None:
        self.bench, self.workload = bench, workload
        self.running: dict[tuple[str, Shape], Running] = {}
        self.probes: dict[tuple[str, str], Probe] = {}

    def peers(self) -> list[str]:
        """Those of the workload that are installed."""
        return [peer for peer in self.workload.peers if peer in self.bench.configure]

    def proxy(self, peer: str, shape: Shape) -> Running:
        """Started when first asked for."""
        shape = replace(shape, tuned=peer == "nginx-tuned")
        if (peer, shape) not in self.running:
            name = f"{self.workload.name}-{peer}-{shape.hosts}"
            folder = self.bench.folder / name
            started = peers.start(
                peer,
                self.bench.configure[peer],
                folder,
                shape,
                self.bench.material,
                self.bench.cores,
                self.bench.backend,
            )
            self.running[peer, shape] = started
        return self.running[peer, shape]

    def sample(self, peer: str, variant: Variant, number: int, result: Result) -> Sample:
        """As the kind of workload wants it."""
        if variant.load.once:
            name = f"{variant.load.requests}-{peer}-{number}"
            with self.bench.running(peer, variant.shape, name) as proxy:
                return cpu(self.bench, proxy, variant, load.probe(variant.load, proxy.ports, self.bench.requests))
        if self.workload.kind in ("cpu", "rate", "swap"):
            proxy = self.proxy(peer, variant.shape)
            if (peer, variant.label) not in self.probes:
                self.probes[peer, variant.label] = load.probe(variant.load, proxy.ports, self.bench.requests)
            result.tls[peer] = self.probes[peer, variant.label].tls
            with swap.Swaps(proxy) if variant.swaps else nullcontext() as swaps:
                sample = cpu(self.bench, proxy, variant, self.probes[peer, variant.label])
            if self.workload.kind == "cpu":
                return sample
            figure = in_ms(sample.typical if self.workload.kind == "swap" else sample.p99)
            return replace(sample, figure=figure, cpu=sample.figure, generations=swaps.swaps if swaps else None)
        if self.workload.kind == "start":
            return started(self.bench, peer, variant, f"{self.workload.name}-{peer}-{variant.shape.hosts}-{number}")
        if self.workload.kind == "change":
            return changed(self.proxy(peer, variant.shape), number)
        name = f"{self.workload.name}-{peer}-{self.workload.variants.index(variant)}-{number}"
        with self.bench.running(peer, variant.shape, name) as proxy:
            if self.workload.kind == "websockets":
                return sockets(proxy, variant)
            return idle(self.bench, proxy, variant) if self.workload.kind == "idle" else resident(proxy)

    def stop(self) -> None:
        """Ends them all."""
        for running in self.running.values():
            running.stop()


def in_ms(microseconds: float | None) -> float:
    """What every generator of a constant rate tells."""
    if microseconds is None:
        raise WrongAnswer("the generator told no such time")
    return microseconds / 1e3


def cpu(bench: Bench, proxy: Running, variant: Variant, probe: Probe) -> Sample:
    """CPU time for each request, while the generator runs."""
    rest = bench.cores.rest
    warm_up = replace(variant.load, requests=variant.load.warm_up or variant.load.requests, once=False)
    generators.run(warm_up, proxy.ports, bench.requests, WARM_UP, rest, probe)
    watch, counted, used = Watch(), Counters.read(bench.backend.counters), cpu_seconds(proxy.process.pid)
    outcome = generators.run(variant.load, proxy.ports, bench.requests, bench.seconds, rest, probe)
    used, after, others = cpu_seconds(proxy.process.pid) - used, Counters.read(bench.backend.counters), watch.others()
    # Reading the counters is a request, too, on a connection of its own.
    arrived, opened = after.requests - counted.requests - 1, after.connections - counted.connections - 1
    check_arrivals(variant, outcome.requests, arrived)
    reused = 1 - min(1.0, opened / arrived) if variant.load.arrivals == 1 else None
    return Sample(
        used / outcome.requests * 1e6,
        others.share,
        others.names,
        None if variant.load.once else outcome.requests / outcome.seconds,
        outcome.p50,
        outcome.p99,
        outcome.p999,
        outcome.slowest,
        outcome.typical,
        outcome.late,
        reused,
    )


def check_arrivals(variant: Variant, requests: float, arrived: int) -> None:
    """Each response came from the backend, or none of them."""
    expected = requests * variant.load.arrivals
    # Those in flight at the end arrive without being counted by the generator; h2load keeps 128.
    most = expected + 2 * max(variant.load.at_once, 128) if variant.load.arrivals else 0
    if not expected <= arrived <= most:
        raise WrongAnswer(f"{arrived} requests reached the backend for {requests} responses")


def idle(bench: Bench, proxy: Running, variant: Variant) -> Sample:
    """Memory that grows with connections: first a few, so that pools are there, then many."""
    hold(bench, proxy, variant, 16, lambda: 0)
    before, watch = memory_kib(proxy.process.pid), Watch()
    count = variant.load.at_once
    after = hold(bench, proxy, variant, count, lambda: memory_kib(proxy.process.pid))
    others = watch.others()
    return Sample((after - before) / count, others.share, others.names)


def hold(bench: Bench, proxy: Running, variant: Variant, count: int, look: Callable[[], int]) -> int:
    """Opens connections, and looks while they rest."""
    wanted, kind = variant.load, "tls" if variant.load.tls else "plain"
    command = [
        sys.executable,
        str(load.HERE / "connections.py"),
        "idle",
        str(wanted.port(proxy.ports)),
        wanted.host,
        str(bench.requests / wanted.requests),
        str(count),
        kind,
        str(wanted.status),
        str(wanted.body),
    ]
    client = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: os.sched_setaffinity(0, bench.cores.rest),
    )
    assert client.stdin and client.stdout
    line = client.stdout.readline()
    time.sleep(2)
    seen = look()
    client.stdin.close()
    client.wait()
    told = json.loads(line) if line else {"wrong": count}
    if told["wrong"]:
        raise WrongAnswer(f"{told['wrong']} of {count} connections had a wrong answer")
    return seen


def changed(proxy: Running, number: int) -> Sample:
    """What a host more takes."""
    watch = Watch()
    taken = change.change(proxy, proxy.log.parent, number)
    others = watch.others()
    return Sample(taken.milliseconds, others.share, others.names, cpu=taken.cpu, lost=taken.lost)


def started(bench: Bench, peer: str, variant: Variant, name: str) -> Sample:
    """From nothing to the first right answer."""
    begin = peers.prepared(
        peer, bench.configure[peer], bench.folder / name, variant.shape, bench.material, bench.cores, bench.backend
    )
    watch, begun = Watch(), time.monotonic()
    running = begin()
    try:
        taken, used = start.until_ready(running, begun)
    finally:
        running.stop()
    others = watch.others()
    return Sample(taken, others.share, others.names, cpu=used)


def sockets(proxy: Running, variant: Variant) -> Sample:
    """All that it holds with WebSockets open."""
    watch = Watch()
    held = websockets.hold(proxy, variant.swaps)
    others = watch.others()
    return Sample(held.mebibytes, others.share, others.names, generations=held.generations)


def resident(proxy: Running) -> Sample:
    """All that a proxy holds after its start."""
    watch = Watch()
    time.sleep(2)
    used, others = resident_kib(proxy.process.pid) / 1024, watch.others()
    return Sample(used, others.share, others.names)
