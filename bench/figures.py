"""The arithmetic of a comparison: medians, their spread, ratios of pairs.

Invariant: pure; a ratio is taken inside a pair of neighbouring blocks, so that a machine that slows down slows both.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence

import msgspec

SAMPLES_MIN = 6
UNCOVERED_MAX = 0.05


class Figure(msgspec.Struct, frozen=True):
    """A median, and what lies around it: its quartiles where `figure` made it, an interval of 95 % where `interval` did."""

    median: float
    low: float
    high: float


def figure(samples: Sequence[float]) -> Figure:
    """The median and quartiles of at least two samples."""
    low, median, high = statistics.quantiles(samples, n=4, method="inclusive")
    return Figure(median=median, low=low, high=high)


def interval(samples: Sequence[float]) -> Figure:
    """The median of at least six samples within an interval that covers that of the whole with 95 %.

    Its ends are samples, so nothing is assumed of how they are spread.
    Source: the sign test turned around; the binomial distribution of how many samples lie below the median.
    """
    count, ordered = len(samples), sorted(samples)
    if count < SAMPLES_MIN:
        raise ValueError(f"{count} samples are too few for an interval of 95 %")
    outside, below = 0.0, 0
    while (outside := outside + 2 * math.comb(count, below) / 2**count) <= UNCOVERED_MAX:
        below += 1
    return Figure(median=statistics.median(ordered), low=ordered[below - 1], high=ordered[count - below])


def ratio_interval(above: Sequence[float], below: Sequence[float]) -> Figure:
    """The `interval` of `above[i] / below[i]`, pair by pair."""
    return interval([one / other for one, other in zip(above, below, strict=True)])


def ratio(above: Sequence[float], below: Sequence[float]) -> Figure:
    """The figure of `above[i] / below[i]`, pair by pair."""
    return figure([one / other for one, other in zip(above, below, strict=True)])


def p99(samples: Sequence[float]) -> float:
    """The smallest sample that 99 of 100 do not exceed."""
    ranked = sorted(samples)
    return ranked[math.ceil(0.99 * len(ranked)) - 1]


def spans_table(
    where: str, title: str, spans: Sequence[tuple[str, Sequence[float]]], counts: Mapping[str, int]
) -> str:
    """Samples as median, p99 and most, then counts; `where` is a line about the machine."""
    return "\n".join([
        title,
        f"  {where}",
        f"  {'':<46}{'median':>10}{'p99':>10}{'most':>10}",
        *(f"  {name:<46}{statistics.median(of):>10.3f}{p99(of):>10.3f}{max(of):>10.3f}" for name, of in spans),
        *(f"  {name:<46}{count:>10}" for name, count in counts.items()),
    ])  # fmt: skip


def row(name: str, *cells: str) -> str:
    """One line of a table."""
    return f"  {name:<44}" + "".join(f"  {cell:>33}" for cell in cells)


def shown(of: Figure, decimals: int) -> str:
    """`median (low - high)`."""
    return f"{of.median:,.{decimals}f} ({of.low:,.{decimals}f} - {of.high:,.{decimals}f})"
