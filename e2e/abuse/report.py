"""The results: a line for each bound, and a page of Markdown."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from finding import Finding

RATIO = 2.0
"""How much slower the honest client's slowest hundredth may become."""
TIMED = 0.5
"""The smallest share of the honest requests whose time has to count."""


@dataclass(frozen=True)
class Latency:
    """What the honest client says; milliseconds."""

    count: int
    timed: int
    """Of how many the time counts: the others were asked while a hypervisor had the machine."""
    p50: float
    p99: float
    max: float
    lost_kept: int
    lost_new: int
    words: tuple[str, ...]

    @staticmethod
    def of(said: dict[str, object]) -> "Latency":
        """From its line."""
        return Latency(**{**said, "words": tuple(said["words"])})  # type: ignore[arg-type]


@dataclass(frozen=True)
class Outcome:
    """What became of one attack."""

    name: str
    title: str
    findings: list[Finding]
    quiet: Latency
    beside: Latency
    seconds: float
    is_timed: bool
    """Whether the honest client's latency has a bound."""

    @property
    def ratio(self) -> float:
        """How much slower the honest client became; without end if the machine was taken away for too long to say."""
        timed = min(one.timed / max(one.count, 1) for one in (self.quiet, self.beside))
        return self.beside.p99 / self.quiet.p99 if timed >= TIMED else math.inf

    def judged(self) -> "Outcome":
        """With the bound on how much slower the honest client became."""
        shown = f"× {self.ratio:.2f} ({self.quiet.p99:.2f} → {self.beside.p99:.2f} ms, at most {self.beside.max:.0f})"
        finding = Finding(f"honest p99 ≤ {RATIO:g} × quiet", shown, self.ratio <= RATIO)
        return replace(self, findings=[*self.findings, finding])


def lines(outcome: Outcome) -> Iterator[str]:
    """For the terminal."""
    for finding in outcome.findings:
        yield f"{outcome.name:15} {finding.bound:45} {finding.measured:60} {'ok' if finding.met else 'FAILED'}"


def markdown(facts: list[tuple[str, str]], outcomes: list[Outcome]) -> str:
    """The page."""
    parts = ["# Whygate under attack\n", *[f"- {name}: {text}" for name, text in facts]]
    parts += ["", "| attack | bound | measured | |", "|---|---|---|---|"]
    for outcome in outcomes:
        for number, finding in enumerate(outcome.findings):
            cells = [f"{outcome.title} (`{outcome.name}`)" if number == 0 else "", finding.bound, finding.measured]
            parts.append(f"| {' | '.join(cells)} | {'ok' if finding.met else '**failed**'} |")
    parts += ["", "| attack | seconds | honest client quiet: p50, p99, max ms | beside it: p50, p99, max ms |", "|---|---:|---:|---:|"]
    for outcome in outcomes:
        quiet, beside = (f"{one.p50:.2f}, {one.p99:.2f}, {one.max:.1f}" for one in (outcome.quiet, outcome.beside))
        parts.append(f"| {outcome.name} | {outcome.seconds:.1f} | {quiet} | {beside} |")
    return "\n".join(parts) + "\n"
