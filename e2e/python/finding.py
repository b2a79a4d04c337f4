"""What a run has found: bounds beside what was measured."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """A bound beside what was measured."""

    bound: str
    measured: str
    met: bool
