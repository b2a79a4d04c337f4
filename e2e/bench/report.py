"""The results as Markdown: targets first, then every figure, then what may have disturbed them."""

import statistics
from collections.abc import Iterable
from dataclasses import dataclass

from machine import QUIET
from measure import Result, Sample


@dataclass(frozen=True)
class Run:
    """What is said above the tables."""

    facts: list[tuple[str, str]]
    missing: list[str]
    results: list[Result]


@dataclass(frozen=True)
class Column:
    """What a table says of samples besides their figure: the median, or from the least to the most."""

    head: str
    field: str
    form: str = ",.0f"
    scale: float = 1.0
    span: bool = False

    def cell(self, samples: list[Sample]) -> str:
        """A dash if no sample has it."""
        values = [value * self.scale for sample in samples if (value := getattr(sample, self.field)) is not None]
        if not values:
            return "–"
        shown = (min(values), max(values)) if self.span else (statistics.median(values),)
        return "–".join(f"{value:{self.form}}" for value in shown)


COLUMNS = {
    "cpu": (
        Column("requests/s", "per_second"),
        Column("p50 µs", "p50"),
        Column("p99 µs", "p99"),
        Column("reused", "reused", ".2%"),
    ),
    "websockets": (Column("snapshots", "generations"),),
    "swap": (
        Column("snapshots", "generations"),
        Column("p50 ms", "p50", ".2f", 1e-3),
        Column("p99 ms", "p99", ".2f", 1e-3),
        Column("p99.9 ms", "p999", ".2f", 1e-3),
        Column("slowest ms", "slowest", ".2f", 1e-3),
        Column("generator late ms", "late", ".2f", 1e-3),
    ),
    "rate": (
        Column("p50 ms", "p50", ".2f", 1e-3),
        Column("p99.9 ms", "p999", ".2f", 1e-3),
        Column("slowest ms", "slowest", ".2f", 1e-3),
        Column("generator late ms", "late", ".2f", 1e-3),
        Column("CPU µs", "cpu", ".1f"),
    ),
    "start": (Column("CPU ms", "cpu"),),
    "change": (Column("CPU ms", "cpu"), Column("requests lost", "lost", span=True)),
}
"""By the kind of workload."""


def markdown(run: Run) -> str:
    """The whole page."""
    parts = ["# Whygate beside other proxies\n", facts(run), "## Targets\n", targets(run.results)]
    parts += [section(result) for result in run.results]
    parts += ["## What else ran\n", disturbances(run.results)]
    return "\n".join(parts)


def facts(run: Run) -> str:
    """Machine, versions, rounds."""
    lines = [f"- {name}: {text}" for name, text in run.facts] + [f"- left out: {text}" for text in run.missing]
    return "\n".join(lines) + "\n\n![ratios](results.svg)\n"


def table(head: list[str], rows: Iterable[list[str]]) -> str:
    """A table of Markdown; all but the first column to the right."""
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def targets(results: list[Result]) -> str:
    """Each bound beside what was measured."""
    rows = []
    for result in results:
        medians = result.medians()
        for target in result.workload.targets:
            value = target.value(medians)
            shown = "–" if value is None else f"{value:.2f}"
            met = "not measured" if value is None else "met" if value <= target.limit else "**not met**"
            rows.append([result.workload.title, target.words, shown, met])
    return table(["workload", "target", "measured", ""], rows)


def section(result: Result) -> str:
    """One workload: a line for each proxy and variant."""
    workload, medians = result.workload, result.medians()
    rows = [
        row(result, peer, label, samples)
        for (peer, label), samples in result.samples.items()
        if (peer, label) in medians
    ]
    first = workload.variants[0].label
    head = ["proxy", "variant", f"{workload.unit}, median", "lowest–highest", "× nginx"]
    head += [f"against {first}"] if len(workload.variants) > 1 and workload.kind == "cpu" else []
    head += [column.head for column in COLUMNS.get(workload.kind, ())]
    words = [f"## {workload.title}\n", table(head, rows)]
    words += [f"{workload.note}\n"] if workload.note else []
    words += [f"{peer}, {label}: left out: {why}\n" for (peer, label), why in result.wrong.items()]
    if any(result.tls.values()):
        words.append(
            "Chosen in the handshake: " + ", ".join(f"{peer} {chosen}" for peer, chosen in result.tls.items()) + ".\n"
        )
    return "\n".join(words)


def row(result: Result, peer: str, label: str, samples: list[Sample]) -> list[str]:
    """One line."""
    workload, medians = result.workload, result.medians()
    median, figures = medians[peer, label], [sample.figure for sample in samples]
    nginx = medians.get(("nginx", label))
    cells = [
        peer,
        label,
        f"{median:.2f}",
        f"{min(figures):.2f}–{max(figures):.2f}",
        f"{median / nginx:.2f}" if nginx else "–",
    ]
    if workload.kind == "cpu" and len(workload.variants) > 1:
        base = medians.get((peer, workload.variants[0].label))
        cells.append("" if base in (None, median) else f"{median - base:+.2f} µs, × {median / base:.3f}")
    return cells + [column.cell(samples) for column in COLUMNS.get(workload.kind, ())]


def disturbances(results: list[Result]) -> str:
    """How much of the machine was not the benchmark's."""
    samples = [sample for result in results for found in result.samples.values() for sample in found]
    if not samples:
        return "Nothing was measured.\n"
    shares = [sample.others for sample in samples]
    loud = sum(share > QUIET for share in shares)
    names = sorted({name for sample in samples for name in sample.names})
    text = (
        f"Others used {statistics.median(shares):.3f} cores in the median, {max(shares):.2f} in the worst measurement; "
    )
    text += (
        f"in {loud} of {len(shares)} it was more than {QUIET:g}. Seen: {', '.join(names) or 'nothing that lasted'}.\n"
    )
    if loud * 10 > len(shares):
        text += "\n**The machine was not quiet: these figures are not to be quoted.**\n"
    return text
