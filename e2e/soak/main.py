"""Mixed traffic on a proxy whose manifests and endpoints change all the time: nothing may be lost, nothing may grow."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import changes
import machine
import material
import summary
import traffic
import whygate

HERE = Path(__file__).resolve().parent
EVERY = 2.0
"""Seconds between two looks at the proxy."""


@dataclass
class Soak:
    """Everything that runs."""

    proxy: whygate.Program
    clients: dict[str, "subprocess.Popen[str]"]
    changers: list[changes.Changer]
    samples: list[summary.Sample] = field(default_factory=list)

    def watch(self, minutes: float) -> None:
        """Looks again and again, and says once in a while what it sees."""
        begun = time.monotonic()
        while (elapsed := time.monotonic() - begun) < minutes * 60 and self.proxy.is_alive():
            self.samples.append(self.sample(elapsed))
            if len(self.samples) % 15 == 0:
                print(self.samples[-1].line(sum(self.counts(kind)["lost"] for kind in self.clients)), flush=True)
            time.sleep(max(0.0, begun + len(self.samples) * EVERY - time.monotonic()))

    def sample(self, elapsed: float) -> summary.Sample:
        """The proxy now."""
        generation = self.proxy.metric("whygate_snapshot_generation")
        return summary.Sample(elapsed, self.proxy.resident() // 1024, self.proxy.descriptors(), generation)

    def counts(self, kind: str) -> dict[str, object]:
        """What the clients of a kind have seen."""
        client = self.clients[kind]
        client.stdin.write("?\n")  # type: ignore[union-attr]
        return dict(json.loads(client.stdout.readline()))  # type: ignore[union-attr]


def main() -> int:
    """Runs it, and says what came of it."""
    options = arguments()
    with tempfile.TemporaryDirectory(prefix="whygate-soak-") as text:
        folder, binary = Path(text), whygate.binary(options.binary)
        watch, processes = machine.Watch(), []
        try:
            outcome = soaked(options, folder, binary, processes)
        finally:
            for process in processes:
                process.terminate()
            for process in processes:
                process.wait()
        others = watch.others().share
    source = "an API server" if "TEST_KUBECONFIG" in os.environ else "a directory"
    facts = [*machine.describe(), ("read from", source), ("minutes", f"{options.minutes:g}"), ("beside it", f"{others:.2f} cores")]
    print(summary.lines(outcome))
    if options.output:
        options.output.mkdir(parents=True, exist_ok=True)
        (options.output / "results.md").write_text(summary.markdown(facts, outcome))
        (options.output / "results.svg").write_text(summary.svg(outcome))
    return 0 if all(finding.met for finding in outcome.findings()) else 1


def arguments() -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(prog="e2e/soak/run", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30, help="how long (%(default)s)")
    parser.add_argument("--binary", type=Path, help="a binary of Whygate, best one of the release profile; default: a debug one, built now")
    parser.add_argument("--output", type=Path, help="a folder for results.md and results.svg; default: none is written")
    return parser.parse_args()


def soaked(options: argparse.Namespace, folder: Path, binary: Path, processes: "list[subprocess.Popen[bytes]]") -> summary.Outcome:
    """Starts everything, lets it run, and counts."""
    made = material.make(folder)
    (folder / "tokens").write_text("\n".join(material.tokens(made.signer, 500)))
    backend = subprocess.Popen([sys.executable, str(HERE / "backend.py")], stdout=subprocess.PIPE)
    processes.append(backend)
    port = int(backend.stdout.readline())  # type: ignore[union-attr]
    (folder / "manifests").mkdir()
    source: changes.Source = changes.ApiServer() if "TEST_KUBECONFIG" in os.environ else changes.Directory(folder / "manifests")
    for thing in changes.beginning(port, made.certificate.read_bytes(), made.key.read_bytes(), made.signer.key_set()):
        source.put(thing)
    proxy = started(binary, folder)
    processes.append(proxy.process)
    soak = Soak(proxy, {}, [])
    for kind in traffic.KINDS:
        command = [sys.executable, str(HERE / "traffic.py"), kind, str(proxy.http), str(proxy.https), str(folder / "tokens")]
        soak.clients[kind] = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        processes.append(soak.clients[kind])  # type: ignore[arg-type]
    soak.changers = [changes.of_manifests(source), *changes.of_endpoints(source, port)]
    soak.watch(options.minutes)
    for changer in soak.changers:
        changer.stop()
    traffic_seen = {kind: soak.counts(kind) for kind in soak.clients}
    counts = [soak.changers[0].count, sum(changer.count for changer in soak.changers[1:])]
    words = [changer.words for changer in soak.changers if changer.words]
    return summary.Outcome(soak.samples, traffic_seen, counts[0], counts[1], words, proxy.is_alive(), options.minutes)


def started(binary: Path, folder: Path) -> whygate.Program:
    """The proxy, once it is ready."""
    command, environment = [str(binary), "serve", "--manifests", str(folder / "manifests")], None
    if "TEST_KUBECONFIG" in os.environ:
        command, environment = [str(binary), "run"], {**os.environ, "KUBECONFIG": os.environ["TEST_KUBECONFIG"]}
    # Connections grow old in a minute, so that their ends are a part of it.
    command += ["--infrastructure-cidrs=none", "--connection-age-seconds=60"]
    return whygate.Program.start(command, folder, environment=environment)


if __name__ == "__main__":
    sys.exit(main())
