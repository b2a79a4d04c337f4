"""Runs the cases against the program, and says which do not hold."""

import argparse
import re
import ssl
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import frames
import kinds
import messages
import streams
from backend import Backend, Seen
from case import ALIVE, Case, status
from gateway import Gateway
from wire import Closed, Connection

CASES: list[Case] = [*frames.CASES, *streams.CASES, *kinds.CASES, *messages.CASES]


@dataclass
class Line:
    """Client, program and backend."""

    gateway: Gateway
    backend: Backend
    transport: str
    tls: ssl.SSLContext | None

    def run(self, case: Case) -> list[str]:
        """What is wrong with a case: nothing, or sentences."""
        before = self.gateway.settled()["permits"]
        it = Connection(self.gateway.program.https if self.tls else self.gateway.program.http, self.tls, case.greets)
        try:
            case.act(it)
            outcome = it.outcome(case.expected.text == ALIVE.text)
        except AssertionError as error:
            outcome = str(error)
        except TimeoutError:
            outcome = "silence"
        except Closed:
            outcome = "closed before its time"
        finally:
            it.close()
        wrong = [] if outcome == case.expected.text else [f"{outcome}, expected: {case.expected.text}"]
        permits = self.gateway.settled()["permits"] - before
        if permits > it.asked:
            wrong.append(f"{permits} permits for {it.asked} requests that may pass")
        if outcome == status(200).text and not permits:
            wrong.append("answered without a permit")
        return wrong + unaccounted(self.gateway.counts(), self.backend.snapshot())


def unaccounted(counts: dict[str, int], seen: Seen) -> list[str]:
    """What of all that happened so far breaks a law. The backend may still have to read something."""
    laws = {
        f"the books do not add up: {counts}": counts["permits"] == counts["sent"] + counts["abandoned"],
        f"the backend saw {len(seen.heads)} requests: {counts}": len(seen.heads) <= counts["sent"],
        f"the backend refused {seen.violations}": not seen.violations,
        f"the backend saw {seen.heads[-3:]}": not any("admin" in head for head in seen.heads),
    }
    return [law for law, holds in laws.items() if not holds]


def main() -> None:
    """Runs everything, prints a line for each case, and ends with 1 if one does not hold."""
    parser = argparse.ArgumentParser(prog="e2e/http2/run", description=__doc__)
    parser.add_argument("words", nargs="*", metavar="WORD", help="run only cases whose name holds one of these")
    chosen = [case for case in CASES if holds(case, parser.parse_args().words)]
    backend = Backend()
    with tempfile.TemporaryDirectory(prefix="whygate-http2-") as folder:
        gateway = Gateway(Path(folder), backend.port)
        try:
            lines = [Line(gateway, backend, "plain", None), Line(gateway, backend, "TLS", gateway.tls())]
            wrong = sum(bool(told) for told in run(lines, chosen))
            counts = gateway.settled()
        finally:
            backend.ended.set()
            gateway.program.stop()
        backend.join()
    broken = unaccounted(counts, backend.snapshot())
    unsaid = unexplained()
    deviations = sum(bool(case.expected.why) for case in chosen)
    print(f"{len(chosen)} cases, {wrong} runs wrong; {deviations} cases deviate from the RFC, see README.md")
    if unsaid:
        print("README.md explains other deviations than these cases have:", *unsaid)
    if broken:
        print("In the end", *broken, sep="\n  ")
    if wrong or unsaid or broken or not chosen:
        sys.exit(1)


def holds(case: Case, words: list[str]) -> bool:
    """Whether a case is asked for."""
    return not words or any(word in case.name for word in words)


def run(lines: list[Line], chosen: list[Case]) -> Iterator[list[str]]:
    """Each case over each transport."""
    for case in chosen:
        for line in lines:
            if case.only_tls and not line.tls:
                continue
            wrong = line.run(case)
            deviates = f" (the RFC: {case.expected.demanded})" if case.expected.why else ""
            verdict = "WRONG" if wrong else "ok"
            print(f"{verdict:5} {line.transport:5} {case.name}: {case.expected.text}{deviates}", flush=True)
            for sentence in wrong:
                print(f"      {sentence}")
            yield wrong


def unexplained() -> list[str]:
    """Words of deviations that README.md does not explain, and those that it explains for nothing."""
    text = (Path(__file__).resolve().parent / "README.md").read_text()
    told = set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE))
    return sorted(told ^ {case.expected.why for case in CASES if case.expected.why})


main()
