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
    if workload.kind == "cpu":
        head += ["requests/s", "p50 µs", "p99 µs", "reused"]
    if workload.kind == "change":
        head += ["CPU ms", "requests lost"]
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
    if workload.kind == "change":
        used = [sample.cpu for sample in samples if sample.cpu is not None]
        lost = [sample.lost for sample in samples if sample.lost is not None]
        return [*cells, f"{statistics.median(used):.0f}", f"{min(lost)}–{max(lost)}"]
    if workload.kind != "cpu":
        return cells
    if len(workload.variants) > 1:
        base = medians.get((peer, workload.variants[0].label))
        cells.append("" if base in (None, median) else f"{median - base:+.2f} µs, × {median / base:.3f}")
    for values in (
        [sample.per_second for sample in samples],
        [sample.p50 for sample in samples],
        [sample.p99 for sample in samples],
    ):
        cells.append(f"{statistics.median(value for value in values if value is not None):,.0f}")
    reused = [sample.reused for sample in samples if sample.reused is not None]
    return [*cells, f"{statistics.median(reused):.2%}" if reused else "–"]


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
