"""How long a read waits before it is worth a second one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from datacenters.hedging import (
    HEDGE_AFTER_MAX_S,
    HEDGE_AFTER_MIN_S,
    SAMPLES_MAX,
    SAMPLES_MIN,
    SAMPLES_PER_LOOK,
    ReadLatencies,
)


def after(*seconds: float) -> ReadLatencies:
    latencies = ReadLatencies()
    for each in seconds:
        latencies.note(each)
    return latencies


@given(st.lists(st.floats(0, 60), max_size=600))
def test_the_wait_keeps_its_bounds(seconds: list[float]) -> None:
    assert HEDGE_AFTER_MIN_S <= after(*seconds).hedge_after_s <= HEDGE_AFTER_MAX_S


def test_until_enough_is_known_it_is_the_longest() -> None:
    assert after(*[0.001] * (SAMPLES_MIN - 1)).hedge_after_s == HEDGE_AFTER_MAX_S
    assert after(*[0.001] * SAMPLES_MIN).hedge_after_s == HEDGE_AFTER_MIN_S


def test_one_read_in_twenty_is_slower() -> None:
    hundred = [number / 1000 for number in range(100, 200)]
    assert after(*hundred).hedge_after_s == 0.195


def test_what_was_long_ago_is_forgotten() -> None:
    assert after(*[0.4] * SAMPLES_MAX, *[0.1] * SAMPLES_MAX).hedge_after_s == 0.1


def test_the_quantile_is_looked_up_now_and_then() -> None:
    latencies = after(*[0.1] * SAMPLES_MIN)
    for _ in range(SAMPLES_PER_LOOK - 1):
        latencies.note(0.3)
    assert latencies.hedge_after_s == 0.1
    latencies.note(0.3)
    assert latencies.hedge_after_s == 0.3


def test_who_left_early_saw_nothing_and_who_left_late_saw_that_it_was_slow() -> None:
    latencies = after(*[0.1] * SAMPLES_MIN)
    for _ in range(SAMPLES_PER_LOOK):
        latencies.note_unanswered(0.001)
    assert latencies.hedge_after_s == 0.1
    for _ in range(SAMPLES_PER_LOOK):
        latencies.note_unanswered(0.4)
    assert latencies.hedge_after_s == 0.4
