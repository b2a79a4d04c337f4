"""Draws where Whygate's time goes under a workload of the benchmark: a flame graph for each, and its largest parts."""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import generators
import load
import machine
import material
import peers
from workloads import WORKLOADS, Variant

TOOLS = peers.TOOLS / "bin"
NEEDED = {"perf": "Debian's package linux-perf", "inferno-flamegraph": "`cargo install --locked inferno`"}
WARM = 1.0
"""Seconds of load before samples are taken."""


def main() -> None:
    """Profiles what was asked for."""
    os.environ["PATH"] = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin:{TOOLS}"
    names = [workload.name for workload in WORKLOADS if workload.kind == "cpu" and not workload.variants[-1].load.once]
    parser = argparse.ArgumentParser(prog="e2e/bench/profile", description=__doc__)
    parser.add_argument("workloads", nargs="+", choices=names, metavar="WORKLOAD", help=", ".join(names))
    parser.add_argument("--binary", type=Path, help="a binary of Whygate with its symbols; default: built now")
    parser.add_argument("--seconds", type=float, default=10, help="of sampling (%(default)s)")
    parser.add_argument("--output", type=Path, default=peers.HERE / "results", help="a folder for the pictures")
    options = parser.parse_args()
    if missing := [f"`{name}` ({whence})" for name, whence in NEEDED.items() if shutil.which(name) is None]:
        sys.exit(f"{' and '.join(missing)} is needed")
    peers.require("nginx", "wrk", "openssl")
    os.environ["CARGO_PROFILE_DIST_STRIP"] = "none"
    binary = options.binary.resolve() if options.binary else peers.build()
    options.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="whygate-profile-") as folder:
        Path(folder).chmod(0o755)
        things, cores = material.make(Path(folder)), machine.Cores.split()
        load.write_requests(Path(folder) / "requests", material.tokens(things.signer) if "token" in options.workloads else [])
        upstream, backend = peers.start_backend(Path(folder) / "backend", things, cores)
        try:
            for workload in (workload for workload in WORKLOADS if workload.name in options.workloads):
                variant, place = workload.variants[-1], Path(folder) / workload.name
                configure = peers.Whygate(binary)
                running = peers.start("whygate", configure, place, variant.shape, things, cores, backend)
                try:
                    stacks = sampled(variant, running, Path(folder), options.seconds, cores)
                finally:
                    running.stop()
                picture = options.output / f"flame-{workload.name}.svg"
                draw(stacks, f"Whygate: {workload.title}", picture)
                print(f"{workload.name}: {picture}\n{parts(stacks)}", flush=True)
        finally:
            upstream.stop()


def sampled(variant: Variant, running: peers.Running, folder: Path, seconds: float, cores: machine.Cores) -> str:
    """One line for each stack that was met, with how often. Frames are found by the tables for unwinding."""
    requests, data = folder / "requests", folder / f"{running.process.pid}.data"
    expected = load.probe(variant.load, running.ports, requests)
    command = ["perf", "record", "--quiet", "--event", "cpu-clock", "--freq", "499", "--call-graph", "dwarf,16384"]
    command += ["--output", str(data), "--pid", str(running.process.pid), "--", "sleep", str(seconds)]
    late = ["sh", "-c", f'sleep {WARM}; exec "$@"', "sh", *command]
    with subprocess.Popen(late, stderr=subprocess.DEVNULL) as recorder:
        generators.run(variant.load, running.ports, requests, seconds + WARM + 1, cores.rest, expected)
        recorder.wait()
    script = ["perf", "script", "--no-inline", "--input", str(data)]
    with subprocess.Popen(script, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as told:
        folded = subprocess.run(
            ["inferno-collapse-perf"], stdin=told.stdout, stdout=subprocess.PIPE, check=True, text=True
        )
    data.unlink()
    return folded.stdout


def draw(stacks: str, title: str, picture: Path) -> None:
    """A picture that opens in any browser."""
    command = ["inferno-flamegraph", "--title", title, "--countname", "samples", "--minwidth", "0.3"]
    with picture.open("w") as file:
        subprocess.run(command, input=stacks, stdout=file, check=True, text=True)


def parts(stacks: str) -> str:
    """The share of each part that a reader can act on; the innermost that a stack goes through counts."""
    meant = {
        "system calls, TCP and loopback": ("entry_SYSCALL_64", "asm_", "[kernel"),
        "copying memory": ("__memmove", "__memcpy", "__memset"),
        "allocator": ("malloc", "_int_free", "cfree", "realloc", "unlink_chunk", "__rdl_", "__rust_", "_rjem_"),
        "TLS (rustls, aws-lc)": ("aws_lc", "rustls::", "aes", "_gcm"),
        "hyper and h2": ("hyper::", "h2::", "httparse::"),
        "headers (http)": ("http::",),
        "decision": ("decision::",),
        "dataplane": ("dataplane::",),
        "tokio": ("tokio::", "mio::", "epoll"),
    }
    found: Counter[str] = Counter()
    for line in stacks.splitlines():
        frames, _, count = line.rpartition(" ")
        found[part_of(frames.split(";"), meant)] += int(count)
    total = sum(found.values()) or 1
    return "\n".join(f"  {count / total:6.1%}  {part}" for part, count in found.most_common())


def part_of(frames: list[str], meant: dict[str, tuple[str, ...]]) -> str:
    """Kernel time is one part whatever runs there; else the innermost frame that is known."""
    first, *others = meant.items()
    if any(frame.startswith(first[1]) for frame in frames):
        return first[0]
    for frame in reversed(frames):
        for part, marks in others:
            if any(mark in frame for mark in marks):
                return part
    return "other"


if __name__ == "__main__":
    main()
