"""Attacks the proxy in every way that README.md lists, and says which bounds hold."""

import argparse
import os
import resource
import socket
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import backend
import faults
import floods
import limits
import machine
import report
import slow
import whygate
from attack import Attack, Scene, eventually
from finding import Finding
from program import LIMIT, Helper, Limits, Memory, manifests, start

ATTACKS = [*slow.ATTACKS, *floods.ATTACKS, *limits.ATTACKS, *faults.ATTACKS]
ROUNDS = 3
"""How often an attack is tried before its effect on the honest client is found too large."""


def main() -> int:
    """Runs what was asked for."""
    options = arguments()
    chosen = [attack for attack in ATTACKS if not options.attacks or attack.name in options.attacks]
    binary = whygate.binary(options.binary)
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    watch, described, cores = machine.Watch(), machine.describe(), machine.Cores.split()
    # What is started from here on is beside the proxy, which goes to its own.
    os.sched_setaffinity(0, cores.rest)
    memory, outcomes = Memory(), []
    allowed = Limits(memory, cores.proxy)
    try:
        with tempfile.TemporaryDirectory(prefix="whygate-abuse-") as folder:
            for attack in chosen:
                outcomes.append(tried(attack, Path(folder), binary, allowed, options.quick))
                for line in report.lines(outcomes[-1]):
                    print(line, flush=True)
    finally:
        memory.remove()
    failed = sum(not finding.met for outcome in outcomes for finding in outcome.findings)
    if options.output:
        facts = [*described, ("memory of the proxy", memory.describe()), ("beside it", f"{watch.others().share:.2f} cores")]
        options.output.mkdir(parents=True, exist_ok=True)
        (options.output / "results.md").write_text(report.markdown(facts, outcomes))
    print(f"{len(outcomes)} attacks, {failed} bounds failed")
    return 1 if failed else 0


def arguments() -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(prog="e2e/abuse/run", description=__doc__)
    names = [attack.name for attack in ATTACKS]
    parser.add_argument("attacks", nargs="*", metavar="NAME", help=f"which; default: all of them: {', '.join(names)}")
    parser.add_argument("--binary", type=Path, help="a binary of Whygate, best one of the release profile; default: a debug one, built now")
    parser.add_argument("--quick", action="store_true", help="few connections, short times, and no bound on latency")
    parser.add_argument("--output", type=Path, help="a folder for results.md; default: none is written")
    options = parser.parse_args()
    if unknown := [name for name in options.attacks if name not in names]:
        parser.error(f"no attack is called {', '.join(unknown)}; there are {', '.join(names)}")
    return options


def tried(attack: Attack, folder: Path, binary: Path, allowed: Limits, quick: bool) -> report.Outcome:
    """One attack. What only the machine's other work may have disturbed is tried again, and the median counts."""
    outcomes = []
    for number in range(1 if quick else ROUNDS):
        place = folder / f"{attack.name}-{number}"
        place.mkdir()
        outcomes.append(suffered(attack, place, binary, allowed, quick))
        fails = any(not finding.met for finding in outcomes[-1].findings)
        passes = number == 0 and outcomes[-1].ratio <= report.RATIO
        if fails or passes or not outcomes[-1].is_timed:
            break
    if not outcomes[-1].is_timed:
        return outcomes[-1]
    middle = sorted(outcomes, key=lambda outcome: outcome.ratio)[ROUNDS // 2] if len(outcomes) == ROUNDS else outcomes[-1]
    return middle.judged()


def suffered(attack: Attack, folder: Path, binary: Path, allowed: Limits, quick: bool) -> report.Outcome:
    """Starts everything, lets the honest client go on alone for a while, and then beside the attack."""
    roles = [name for name in backend.ROLES if name != "ok"]
    with ExitStack() as started:
        own = started.enter_context(Helper.start("backend.py", "ok", *roles, first=False))
        calm = started.enter_context(Helper.start("backend.py", "ok", first=True))
        ports = {name: int(str(port)) for name, port in own.line().items()}
        (folder / "manifests").mkdir()
        routes = {name: port for name, port in ports.items() if name != "counts"}
        honest_port = int(str(calm.line()["ok"]))
        (folder / "manifests" / "all.yaml").write_text(manifests({**routes, "refuse": closed_port(), "honest": honest_port}))
        flags = attack.quick_flags or attack.flags if quick else attack.flags
        program, output = start(binary, folder, flags, allowed, attack.piped)
        if output is not None:
            started.callback(os.close, output)
        started.callback(program.stop)
        honest = started.enter_context(Helper.start("honest.py", program.http, 50 if quick else 400, "honest.test", first=True))
        scene = Scene(program, ports, quick, output)
        time.sleep(0.1)
        honest.ask()
        time.sleep(0.3 if quick else 6.0)
        quiet = report.Latency.of(honest.ask())
        program.forget_peak()
        scene.before = program.resident()
        begun = time.monotonic()
        findings = list(attack.run(scene))
        elapsed = time.monotonic() - begun
        beside = report.Latency.of(honest.ask())
        findings += afterwards(scene, beside)
    # Who waits for a new connection asks late for everything that comes after it.
    is_timed = not quick and scene.spares_newcomers
    return report.Outcome(attack.name, attack.title, findings, quiet, beside, elapsed, is_timed)


def afterwards(scene: Scene, beside: report.Latency) -> list[Finding]:
    """What holds after every attack."""
    program = scene.program
    if not program.is_alive():
        return [Finding("alive", "it has ended", False)]
    lost = beside.lost_kept + (beside.lost_new if scene.spares_newcomers else 0)
    peak = program.peak()
    served = eventually(lambda: limits.once(program.http, limits.GET).startswith(b"HTTP/1.1 200"), 1)
    return [
        Finding("no honest request is lost", f"{lost} of {beside.count + lost} {beside.words or ''}".strip(), lost == 0 and beside.count > 0),
        Finding("≤ 256 MiB in all", f"{peak / 2**20:.0f} MiB", peak < LIMIT),
        Finding("alive and serving", "yes" if served is not None else "no", served is not None),
    ]


def closed_port() -> int:
    """A port at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


if __name__ == "__main__":
    sys.exit(main())
