"""The arithmetic of a comparison: medians, their spread, ratios of pairs.

Invariant: pure; a ratio is taken inside a pair of neighbouring blocks, so that a machine that slows down slows both.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import msgspec


class Figure(msgspec.Struct, frozen=True):
    """A median between its quartiles: half of the samples lie within `low` and `high`."""

    median: float
    low: float
    high: float


def figure(samples: Sequence[float]) -> Figure:
    """The median and quartiles of at least two samples."""
    low, median, high = statistics.quantiles(samples, n=4, method="inclusive")
    return Figure(median=median, low=low, high=high)


def ratio(above: Sequence[float], below: Sequence[float]) -> Figure:
    """The figure of `above[i] / below[i]`, pair by pair."""
    return figure([one / other for one, other in zip(above, below, strict=True)])


def row(name: str, *cells: str) -> str:
    """One line of a table."""
    return f"  {name:<44}" + "".join(f"{cell:>30}" for cell in cells)


def shown(of: Figure, decimals: int) -> str:
    """`median (low - high)`."""
    return f"{of.median:,.{decimals}f} ({of.low:,.{decimals}f} - {of.high:,.{decimals}f})"
