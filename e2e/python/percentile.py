"""Percentiles of what was measured."""


def percentile(ordered: list[float], percent: float) -> float:
    """The value that so many in a hundred are below, of values in ascending order, of which there is at least one."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]
