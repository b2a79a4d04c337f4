"""Compares Whygate with nginx, HAProxy and Envoy on this machine; README.md beside this says how."""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import load
import machine
import material
import measure
import peers
import plot
import report
from workloads import WORKLOADS, Workload

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent


def main() -> None:
    """Measures what was asked for, and writes the results."""
    # What was started is ended on SIGTERM, too; and Debian keeps servers where only root looks.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    os.environ["PATH"] = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    options = parse()
    chosen = [workload for workload in WORKLOADS if not options.workloads or workload.name in options.workloads]
    peers.require("nginx", "wrk", "openssl")
    binary = options.binary.resolve() if options.binary else peers.build()
    versions = peers.versions(binary)
    chosen, missing = without_missing(chosen, versions)
    if not chosen:
        sys.exit("nothing is left to be measured")
    before = machine.wait_for_quiet(options.patience)
    facts = [("taken", time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())), *machine.describe()]
    installed = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    facts += [("versions", f"{installed}; source at {commit()}")]
    facts += [("rounds", f"{options.rounds} of {options.seconds:g} s each, interleaved; medians")]
    facts += [("before", f"others used {before.share:.2f} cores")]
    with tempfile.TemporaryDirectory(prefix="whygate-bench-") as folder:
        # nginx started by root drops its rights, and reads and writes there without them.
        Path(folder).chmod(0o755)
        for results in measured(options, chosen, binary, versions, Path(folder)):
            write(options.output, report.Run(facts, missing, results))
    print(f"\n{report.targets(results)}\nresults: {options.output}/results.md, results.svg, results.json")
    if any(result.wrong for result in results):
        sys.exit("something was left out, see above: a wrong answer, or a proxy that did not start")


def parse() -> argparse.Namespace:
    """The command line."""
    names = [workload.name for workload in WORKLOADS]
    parser = argparse.ArgumentParser(prog="e2e/bench/run", description=__doc__, epilog="Workloads: " + ", ".join(names))
    parser.add_argument("workloads", nargs="*", metavar="WORKLOAD", help="which; default: all of them")
    parser.add_argument("--binary", type=Path, help="a release binary of Whygate; default: built now")
    parser.add_argument("--rounds", type=int, default=5, help="how often each proxy has its turn (%(default)s)")
    parser.add_argument("--seconds", type=float, default=4, help="of one turn (%(default)s)")
    parser.add_argument("--patience", type=float, default=900, help="seconds to wait for a quiet machine (%(default)s)")
    parser.add_argument("--output", type=Path, default=HERE / "results", help="a folder for the results")
    options = parser.parse_args()
    if unknown := [name for name in options.workloads if name not in names]:
        parser.error(f"no workload is called {', '.join(unknown)}; there are {', '.join(names)}")
    if options.binary and not options.binary.is_file():
        parser.error(f"there is no file `{options.binary}`")
    return options


def without_missing(chosen: list[Workload], versions: dict[str, str | None]) -> tuple[list[Workload], list[str]]:
    """The workloads that can be run, and what cannot with the reason."""
    missing = [f"{name} is not installed" for name, version in versions.items() if version is None]
    if shutil.which("h2load") is None:
        missing.append("h2load is not installed, so HTTP/2 is not measured")
        chosen = [workload for workload in chosen if workload.variants[0].load.tool != "h2load"]
    for text in missing:
        print(f"{text}: left out")
    return chosen, missing


def measured(
    options: argparse.Namespace, chosen: list[Workload], binary: Path, versions: dict[str, str | None], folder: Path
) -> Iterator[list[measure.Result]]:
    """Starts the backend, goes through the workloads, and returns after each what there is so far."""
    things, cores = material.make(folder), machine.Cores.split()
    wanted = any(variant.load.requests.startswith("token") for workload in chosen for variant in workload.variants)
    load.write_requests(folder / "requests", material.tokens(things.signer) if wanted else [])
    configure: dict[str, peers.Configure] = {
        "whygate": peers.Whygate(binary),
        "nginx": peers.nginx,
        "haproxy": peers.haproxy,
        "envoy": peers.envoy,
        "nginx-tuned": peers.nginx,
    }
    configure = {name: made for name, made in configure.items() if versions[name.removesuffix("-tuned")]}
    upstream, backend = peers.start_backend(folder / "backend", things, cores)
    bench = measure.Bench(folder, things, cores, backend, configure, options.rounds, options.seconds)
    results: list[measure.Result] = []
    try:
        for workload in chosen:
            print(f"{workload.name}: {workload.title}", flush=True)
            results.append(measure.measure(workload, bench))
            yield results
    finally:
        upstream.stop()


def commit() -> str:
    """What was checked out, and whether it was changed."""
    said = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--exclude", "*"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return said.stdout.strip() or "an unknown commit"


def write(folder: Path, run: report.Run) -> None:
    """A page, a picture, and all samples for whoever counts differently."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.md").write_text(report.markdown(run))
    (folder / "results.svg").write_text(plot.svg(run.results, "CPU time or memory, × nginx (less is better)"))
    samples = {
        result.workload.name: [
            {"proxy": peer, "variant": label, "rounds": [asdict(sample) for sample in found]}
            for (peer, label), found in result.samples.items()
        ]
        for result in run.results
    }
    (folder / "results.json").write_text(json.dumps({"facts": dict(run.facts), "samples": samples}, indent=1) + "\n")


if __name__ == "__main__":
    main()
