"""The arithmetic of comparisons."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.figures import Figure, figure, interval, ratio, ratio_interval, row, shown

POSITIVE = st.floats(min_value=0.001, max_value=1e6)


def test_a_figure_is_the_median_between_its_quartiles() -> None:
    assert figure([5.0, 1.0, 4.0, 2.0, 3.0]) == Figure(median=3.0, low=2.0, high=4.0)


@given(st.lists(POSITIVE, min_size=2, max_size=40))
def test_a_figure_lies_within_its_samples_and_one_outlier_cannot_drag_its_median_away(
    samples: list[float],
) -> None:
    found = figure(samples)
    assert min(samples) <= found.low <= found.median <= found.high <= max(samples)


@given(st.lists(POSITIVE, min_size=2, max_size=20), st.floats(min_value=0.01, max_value=100.0))
def test_a_ratio_is_taken_pair_by_pair_so_a_machine_that_slows_down_does_not_change_it(
    samples: list[float], factor: float
) -> None:
    found = ratio([sample * factor for sample in samples], samples)
    assert found.low == pytest.approx(factor)
    assert found.high == pytest.approx(factor)


def test_pairs_that_are_not_complete_are_no_ratio() -> None:
    with pytest.raises(ValueError, match="shorter"):
        ratio([1.0, 2.0, 3.0], [1.0, 2.0])


def test_a_figure_is_shown_with_its_spread_and_a_row_keeps_its_columns() -> None:
    assert shown(Figure(median=1234.56, low=0.4, high=2.0), 1) == "1,234.6 (0.4 - 2.0)"
    assert len(row("a", "b", "c")) == len(row("another", "1,000", ""))


@pytest.mark.parametrize(("count", "low", "high"), [(6, 1, 6), (9, 2, 8), (10, 2, 9), (20, 6, 15)])
def test_an_interval_ends_at_the_samples_that_the_sign_test_names(count: int, low: int, high: int) -> None:
    # Source: tables of the sign test at 5 %, two-sided.
    found = interval([float(number) for number in range(count, 0, -1)])
    assert (found.low, found.high) == (low, high)
    assert found.median == (count + 1) / 2


def test_too_few_samples_are_no_interval() -> None:
    with pytest.raises(ValueError, match="5 samples are too few"):
        interval([1.0] * 5)


def test_a_ratio_has_its_interval_pair_by_pair() -> None:
    found = ratio_interval(
        [2.0 * number for number in range(1, 11)], [float(number) for number in range(1, 11)]
    )
    assert found == Figure(median=2.0, low=2.0, high=2.0)
