"""What came of a soak: lines, a page, a picture."""

from collections.abc import Callable
from dataclasses import dataclass

from drawing import label
from finding import Finding

GROWTH = 0.05
"""How much memory may grow, by the fitted line, over the last two thirds of the time: a share of what it is."""
DESCRIPTORS = 5
"""How many more descriptors the last third may have at its lowest than the third before. Bursts come and go above that,
and a line follows them; what leaks raises the lowest."""
SHORT = 10
"""Minutes below which both are twice as much: an allocator takes some until it has all its pools."""
LEFT, WIDTH, HEIGHT = 70, 760, 180


@dataclass(frozen=True)
class Sample:
    """The proxy at one moment; memory in KiB."""

    seconds: float
    resident: int
    descriptors: int
    generation: int

    def line(self, lost: int) -> str:
        """For the terminal."""
        size = f"{self.resident / 1024:.1f} MiB, {self.descriptors} descriptors"
        return f"{self.seconds / 60:6.1f} min: {size}, generation {self.generation}, {lost} lost"


@dataclass(frozen=True)
class Line:
    """A straight one through samples, by least squares."""

    begin: float
    slope: float
    """A second."""
    mean: float
    seconds: float

    @staticmethod
    def of(samples: list[Sample], read: Callable[[Sample], int]) -> "Line":
        """Through the last two thirds."""
        late = [one for one in samples if one.seconds >= samples[-1].seconds / 3]
        times, values = [one.seconds for one in late], [read(one) for one in late]
        middle, mean = sum(times) / len(late), sum(values) / len(late)
        spread = sum((time - middle) ** 2 for time in times) or 1.0
        slope = sum((time - middle) * (value - mean) for time, value in zip(times, values, strict=True)) / spread
        return Line(times[0], slope, mean, times[-1] - times[0])

    @property
    def growth(self) -> float:
        """From its beginning to its end."""
        return self.slope * self.seconds


@dataclass(frozen=True)
class Outcome:
    """All that was seen."""

    samples: list[Sample]
    traffic: dict[str, dict[str, object]]
    manifests: int
    endpoints: int
    words: list[str]
    """What went wrong with changes."""
    alive: bool
    minutes: float

    def total(self, name: str) -> int:
        """Of all clients."""
        return sum(int(str(counts[name])) for counts in self.traffic.values())

    def fewest(self, begin: float, end: float) -> int:
        """Descriptors, at the lowest between two shares of the time."""
        last = self.samples[-1].seconds
        return min(one.descriptors for one in self.samples if begin * last <= one.seconds <= end * last)

    def findings(self) -> list[Finding]:
        """Bounds beside what was measured."""
        memory = Line.of(self.samples, lambda sample: sample.resident)
        before, after = self.fewest(1 / 3, 2 / 3), self.fewest(2 / 3, 1)
        lost, words = self.total("lost"), [word for counts in self.traffic.values() for word in counts["words"]]  # type: ignore[union-attr]
        seconds = self.minutes * 60
        snapshots = self.samples[-1].generation - self.samples[0].generation
        share, leniency = memory.growth / memory.mean, 1 if self.minutes >= SHORT else 2
        shown = f"{memory.growth:+.0f} KiB ({share:+.1%}), {memory.slope * 60:+.1f} KiB a minute at {memory.mean / 1024:.1f} MiB"
        return [
            Finding("0 requests lost", f"{lost} of {self.total('requests')} {words[:3] or ''}".strip(), lost == 0),
            Finding("every kind of client was served", f"{len(self.traffic)} kinds", all(counts["requests"] for counts in self.traffic.values())),
            Finding("10 manifest changes a second", f"{self.manifests / seconds:.1f} {self.words[:1] or ''}".strip(), self.manifests >= 9.5 * seconds and not self.words),
            Finding("100 EndpointSlice changes a second", f"{self.endpoints / seconds:.1f}", self.endpoints >= 95 * seconds),
            Finding("they reach the data plane", f"{snapshots} snapshots", snapshots > seconds / 2),
            Finding(f"memory flat: ≤ {GROWTH * leniency:.0%} over the last two thirds", shown, share <= GROWTH * leniency),
            Finding(f"descriptors flat: ≤ {DESCRIPTORS * leniency} more", f"{after} at the fewest in the last third, {before} in the one before", after - before <= DESCRIPTORS * leniency),
            Finding("alive", "yes" if self.alive else "it has ended", self.alive),
        ]


def lines(outcome: Outcome) -> str:
    """For the terminal."""
    return "\n".join(f"{one.bound:48} {one.measured:70} {'ok' if one.met else 'FAILED'}" for one in outcome.findings())


def markdown(facts: list[tuple[str, str]], outcome: Outcome) -> str:
    """The page."""
    parts = ["# A soak of Whygate\n", *[f"- {name}: {text}" for name, text in facts], "", "![memory and descriptors](results.svg)", ""]
    parts += ["| bound | measured | |", "|---|---|---|"]
    parts += [f"| {one.bound} | {one.measured} | {'ok' if one.met else '**failed**'} |" for one in outcome.findings()]
    parts += ["", "| clients | requests | refused, as they should be | lost |", "|---|---:|---:|---:|"]
    parts += [f"| {kind} | {counts['requests']} | {counts['refused']} | {counts['lost']} |" for kind, counts in outcome.traffic.items()]
    return "\n".join(parts) + "\n"


def svg(outcome: Outcome) -> str:
    """Memory above, descriptors below, each with the line that was fitted."""
    begin = f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDTH + 30}" height="{2 * HEIGHT + 130}" font-family="sans-serif" font-size="12">'
    ground = '<rect width="100%" height="100%" fill="white"/>'
    title = label(12, 22, f"{outcome.minutes:g} minutes, {outcome.manifests} changes of manifests, {outcome.endpoints} of endpoints", size=15)
    memory = chart(outcome.samples, lambda sample: sample.resident / 1024, "resident memory, MiB", 50)  # type: ignore[arg-type, return-value]
    descriptors = chart(outcome.samples, lambda sample: sample.descriptors, "open descriptors", HEIGHT + 100)
    return "".join([begin, ground, title, memory, descriptors, "</svg>\n"])


def chart(samples: list[Sample], read: Callable[[Sample], int], title: str, top: int) -> str:
    """One quantity over time, from zero."""
    most, end = max(map(read, samples)) * 1.1 or 1, samples[-1].seconds or 1

    def place(seconds: float, value: float) -> str:
        return f"{LEFT + seconds / end * WIDTH:.1f} {top + HEIGHT * (1 - value / most):.1f}"

    line = Line.of(samples, read)
    first = line.mean - line.growth / 2
    fitted = f"M{place(line.begin, first)}L{place(line.begin + line.seconds, first + line.growth)}"
    path = "L".join(place(sample.seconds, read(sample)) for sample in samples)
    parts = [label(LEFT, top - 8, title), f'<path d="M{path}" fill="none" stroke="#1b6ca8" stroke-width="1.5"/>']
    parts += [f'<path d="{fitted}" stroke="#c0392b" stroke-width="2" stroke-dasharray="6 4"/>']
    parts += [f'<path d="M{LEFT} {top}V{top + HEIGHT}H{LEFT + WIDTH}" fill="none" stroke="#555"/>']
    parts += [label(LEFT - 6, top + HEIGHT * (1 - share / 1.1) + 4, f"{most * share / 1.1:.0f}", "end", 10) for share in (0, 0.5, 1)]
    parts += [label(LEFT + WIDTH * share, top + HEIGHT + 14, f"{end * share / 60:.1f} min", "middle", 10) for share in (0, 0.5, 1)]
    return "".join(parts)
