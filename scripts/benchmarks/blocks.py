"""Interleaved blocks and what is read from them. Pure, but for the measurements handed in."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

Measurement = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Blocks:
    """One more block of the reference than of each subject."""

    reference: list[float]
    subjects: dict[str, list[float]]

    def ratios(self, name: str) -> list[float]:
        """Each block of the subject over the mean of the reference's blocks before and after it."""
        pairs = zip(self.reference, self.reference[1:], strict=False)
        return [
            value * 2 / (before + after)
            for value, (before, after) in zip(self.subjects[name], pairs, strict=True)
        ]

    def ratios_between(self, name: str, other: str) -> list[float]:
        """Each block of one subject over the other's of the same round."""
        return [a / b for a, b in zip(self.subjects[name], self.subjects[other], strict=True)]


def interleave(reference: Measurement, subjects: Mapping[str, Measurement], count: int) -> Blocks:
    """A B A B … A, with every subject in each B: what slows the machine for a while slows both sides."""
    blocks = Blocks([reference()], {name: [] for name in subjects})
    for _ in range(count):
        for name, measure in subjects.items():
            blocks.subjects[name].append(measure())
        blocks.reference.append(reference())
    return blocks


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def p99(values: Sequence[float]) -> float:
    """The 99th percentile, by the nearest rank.

    >>> p99(range(1, 201))
    198
    """
    ordered = sorted(values)
    return ordered[max(0, -(-99 * len(ordered) // 100) - 1)]
