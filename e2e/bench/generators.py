"""Generators: what sends requests over and over, and whether all that came back was right."""

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from load import CALL, HERE, Load, Probe, WrongAnswer, number
from peers import Ports
from percentile import percentile


@dataclass(frozen=True)
class Outcome:
    """What a generator counted; latencies in microseconds."""

    requests: float
    seconds: float
    p50: float
    p99: float
    p999: float | None = None
    slowest: float | None = None
    typical: float | None = None
    """The slowest of each second, in the median."""
    late: float | None = None
    """Of a constant rate: p99 of how late the generator itself was."""


def run(load: Load, ports: Ports, requests: Path, seconds: float, cores: set[int], expected: Probe) -> Outcome:
    """Runs the generator and checks what it counted."""
    generator = {"wrk": wrk, "h2load": h2load, "fresh": fresh, "steady": steady}[load.tool]
    outcome = generator(load, ports, requests, seconds, cores, expected)
    if not outcome.requests:
        raise WrongAnswer("no response came")
    return outcome


def wrk(load: Load, ports: Ports, requests: Path, seconds: float, cores: set[int], expected: Probe) -> Outcome:
    """HTTP/1.1 on connections that stay."""
    url = f"{'https' if load.tls else 'http'}://{load.host}:{load.port(ports)}/"
    command = [
        "wrk",
        "-t1",
        f"-c{load.at_once}",
        f"-d{max(1, round(seconds))}s",
        "--timeout",
        "20s",
        "-s",
        str(HERE / "requests.lua"),
        url,
        "--",
        str(requests / load.requests),
        *(["once"] if load.once else []),
    ]
    told = json.loads(re.search(r"^JSON (.*)$", said(command, cores), re.MULTILINE)[1])  # type: ignore[index]
    count = told["requests"]
    refused = count if load.status >= 400 else 0
    if told["broken"] or told["refused"] != refused:
        raise WrongAnswer(
            f"of {count} responses {told['refused']} had a status of 400 or more, {told['broken']} connections broke"
        )
    # Responses are of one size but for a figure in a head; the last of each connection may be cut off.
    least, most = count * expected.size * 0.99, (count + load.at_once) * expected.size * 1.01
    if not least <= told["bytes"] <= most:
        raise WrongAnswer(f"{told['bytes']} bytes came for {count} responses of {expected.size}")
    return Outcome(count, told["seconds"], told["p50"], told["p99"])


def h2load(load: Load, ports: Ports, requests: Path, seconds: float, cores: set[int], expected: Probe) -> Outcome:
    """HTTP/2 over TLS: 16 connections with 8 streams each."""
    log = requests / "h2load.log"
    log.unlink(missing_ok=True)
    port = load.port(ports)
    command = [
        "h2load",
        "-t1",
        "-c16",
        "-m8",
        f"-D{max(1, round(seconds))}",
        f"--connect-to=127.0.0.1:{port}",
        f"--log-file={log}",
        *(["-d", str(requests / load.requests)] if load.message else []),
        *(word for field in CALL if load.message for word in ("-H", field)),
        "-H",
        f":authority: {load.host}",
        f"https://{load.host}:{port}{load.path}",
    ]
    text = said(command, cores)
    done, good, failed, errored = (
        number(text, rf"requests: .*?(\d+) {word}") for word in ("done", "succeeded", "failed", "errored")
    )
    right, data = number(text, rf"status codes: .*?(\d+) {load.status // 100}xx"), number(text, r"\((\d+)\) data")
    # What is in flight when the time is over may have been counted by one and not by the other.
    if (
        failed
        or errored
        or done == 0
        or abs(right - good) > 128
        or not 0 <= data - good * expected.body <= 128 * expected.body
    ):
        raise WrongAnswer(
            f"of {done} responses {right} had the right status, {failed} failed, {errored} broke; {data} bytes came"
        )
    times = sorted(int(line.split("\t")[2]) for line in log.read_text().splitlines())
    return Outcome(done, number(text, r"finished in ([\d.]+)s"), percentile(times, 50), percentile(times, 99))


def fresh(load: Load, ports: Ports, requests: Path, seconds: float, cores: set[int], expected: Probe) -> Outcome:
    """A TLS connection for each request, without resumption."""
    command = [
        sys.executable,
        str(HERE / "connections.py"),
        "fresh",
        str(load.port(ports)),
        load.host,
        str(requests / load.requests),
        str(seconds),
        str(load.status),
        str(expected.body),
    ]
    told = json.loads(said(command, cores))
    if told["broken"] or told["wrong"]:
        raise WrongAnswer(
            f"of {told['requests']} connections {told['broken']} broke, {told['wrong']} were wrong or resumed"
        )
    return Outcome(told["requests"], told["seconds"], told["p50"], told["p99"])


def steady(load: Load, ports: Ports, requests: Path, seconds: float, cores: set[int], expected: Probe) -> Outcome:
    """Requests at a constant rate, each with a moment at which it is due."""
    command = [
        sys.executable,
        str(HERE / "steady.py"),
        str(load.port(ports)),
        load.host,
        str(requests / load.requests),
        str(load.rate),
        str(seconds),
        str(load.at_once),
        "tls" if load.tls else "plain",
        str(load.status),
        str(expected.body),
    ]
    told = json.loads(said(command, cores))
    if told["broken"] or told["wrong"]:
        raise WrongAnswer(f"beside {told['requests']} answers {told['broken']} are missing; {told['wrong']} were wrong")
    names = ("requests", "seconds", "p50", "p99", "p999", "slowest", "typical", "late")
    return Outcome(**{name: told[name] for name in names})


def said(command: list[str], cores: set[int]) -> str:
    """What a generator prints; it must end well."""
    ended = subprocess.run(
        command, capture_output=True, text=True, check=False, preexec_fn=lambda: os.sched_setaffinity(0, cores)
    )
    if ended.returncode != 0:
        raise WrongAnswer(f"{command[0]} ended with {ended.returncode}: {(ended.stdout + ended.stderr)[-500:]}")
    return ended.stdout
