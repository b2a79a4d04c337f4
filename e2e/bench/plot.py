"""The results as a picture (SVG): bars of the ratio to nginx, and a line for each target."""

from dataclasses import dataclass

from drawing import label
from measure import Result
from workloads import PEERS

COLOURS = {"whygate": "#1b6ca8", "nginx": "#7a9e7e", "haproxy": "#c9a227", "envoy": "#b0578d"}
LEFT, WIDTH, BAR, GAP, LARGEST = 330, 560, 12, 16, 3.0


@dataclass(frozen=True)
class Group:
    """One workload: ratios by proxy, and the target of ours against nginx."""

    title: str
    ratios: dict[str, float]
    target: float | None


def groups(results: list[Result]) -> list[Group]:
    """Of each workload and variant that nginx took part in."""
    made = []
    for result in results:
        medians = result.medians()
        for variant in result.workload.variants:
            nginx = medians.get(("nginx", variant.label))
            if not nginx or nginx <= 0:
                continue
            several = len(result.workload.variants) > 1
            title = f"{result.workload.title}: {variant.label}" if several else result.workload.title
            ratios = {peer: medians[peer, variant.label] / nginx for peer in PEERS if (peer, variant.label) in medians}
            bound = next((target.limit for target in result.workload.targets if target.words.endswith("× nginx")), None)
            made.append(Group(title, ratios, bound))
    return made


def svg(results: list[Result], title: str) -> str:
    """The whole picture; a bar that is longer than the space ends with its figure."""
    parts, y = [], 70
    for group in groups(results):
        drawn, y = draw(group, y)
        parts += drawn
    height = y + 20
    lines = "".join(axis(value, height) for value in (0, 0.5, 1, 1.5, 2, 2.5, 3))
    size = f'width="{LEFT + WIDTH + 70}" height="{height}"'
    begin = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">'
    ground = '<rect width="100%" height="100%" fill="white"/>'
    return "".join([begin, ground, label(12, 22, title, size=15), legend(), lines, *parts, "</svg>\n"])


def draw(group: Group, y: int) -> tuple[list[str], int]:
    """The bars of one workload, and where the next begins."""
    parts, top = [], y
    words = wrapped(group.title)
    parts += [label(LEFT - 8, y + 10 + 14 * number, line, anchor="end") for number, line in enumerate(words)]
    for peer, ratio in group.ratios.items():
        parts.append(f'<rect x="{LEFT}" y="{y}" width="{place(ratio):.1f}" height="{BAR - 2}" fill="{COLOURS[peer]}"/>')
        parts.append(label(LEFT + place(ratio) + 4, y + 9, f"{ratio:.2f}", size=10))
        y += BAR
    if group.target is not None:
        x = LEFT + place(group.target)
        parts.append(f'<path d="M{x:.1f} {top - 3}V{y + 1}" stroke="#c0392b" stroke-width="2"/>')
    return parts, max(y, top + 14 * len(words)) + GAP


def wrapped(text: str, most: int = 46) -> list[str]:
    """Lines that fit beside the bars."""
    lines = [""]
    for word in text.split():
        if len(lines[-1]) + len(word) > most:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines


def place(ratio: float) -> float:
    """How long a bar is."""
    return min(ratio, LARGEST) / LARGEST * WIDTH


def axis(value: float, height: int) -> str:
    """A line of the scale."""
    x = LEFT + place(value)
    return f'<path d="M{x:.1f} 56V{height - 12}" stroke="{"#555" if value == 1 else "#ddd"}"/>' + label(
        x, 52, f"{value:g}", "middle", 10
    )


def legend() -> str:
    """Which colour is whose."""
    parts = []
    for number, (peer, colour) in enumerate(COLOURS.items()):
        x = LEFT + 110 * number
        parts.append(f'<rect x="{x}" y="28" width="10" height="10" fill="{colour}"/>{label(x + 14, 37, peer)}')
    return (
        "".join(parts)
        + f'<path d="M{LEFT + 440} 27V39" stroke="#c0392b" stroke-width="2"/>'
        + label(LEFT + 448, 37, "target")
    )
