"""Judgement by age, class and epoch."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache import policy
from cache.entries import Position
from cache.freshness import (
    CLOCK_SKEW_MAX_S,
    EPOCHS_REMEMBERED_MAX,
    Epochs,
    Verdict,
    fresh_until,
    judge,
    may_survive,
    newer,
)
from cache.policy import CLASSES, RELATIONS, Policy
from cache.softened import Softened
from tests.cache.building import NOW, TAG, entry

POLICIES = st.sampled_from([*CLASSES.values(), RELATIONS])
AGES_S = st.floats(-100, 8 * policy.DAY_S)
POSITIONS = st.tuples(st.integers(1, 3), st.integers(0, 50))
CALM = Epochs(current=1)
NOTHING = Softened(max_tags=2)


@pytest.mark.parametrize(
    ("age_s", "verdict"),
    [
        (0, Verdict.FRESH),
        (59.9, Verdict.FRESH),
        (60, Verdict.STALE),
        (659.9, Verdict.STALE),
        (660, Verdict.EXPIRED),
    ],
)
def test_class_s_ages_from_fresh_to_stale_to_expired(age_s: float, verdict: Verdict) -> None:
    assert judge(entry(), policy.S, NOW + age_s, epochs=CALM, softened=NOTHING) is verdict


@pytest.mark.parametrize("age_s", [60, 61, 3600])
def test_relations_are_never_stale(age_s: float) -> None:
    assert judge(entry(), RELATIONS, NOW + age_s, epochs=CALM, softened=NOTHING) is Verdict.EXPIRED


@given(POLICIES, AGES_S, st.none() | st.floats(0, 1e6))
def test_an_origin_shortens_freshness_and_never_lengthens_it(
    each: Policy, age_s: float, max_age_s: float | None
) -> None:
    bounded = entry(max_age_s=max_age_s)
    assert fresh_until(bounded, each, NOTHING) <= NOW + each.fresh_s
    if judge(bounded, each, NOW + age_s, epochs=CALM, softened=NOTHING) is Verdict.FRESH:
        assert judge(entry(), each, NOW + age_s, epochs=CALM, softened=NOTHING) is Verdict.FRESH


def test_an_entry_from_the_future_has_no_age() -> None:
    assert judge(entry(), policy.D, NOW - CLOCK_SKEW_MAX_S, epochs=CALM, softened=NOTHING) is Verdict.FRESH
    assert (
        judge(entry(), policy.D, NOW - CLOCK_SKEW_MAX_S - 0.1, epochs=CALM, softened=NOTHING)
        is Verdict.EXPIRED
    )
    assert not may_survive(entry(), policy.D, NOW - CLOCK_SKEW_MAX_S - 0.1, epochs=CALM)


@pytest.mark.parametrize("ahead_s", [0.5, 2.0, 3600.0])
def test_a_soft_purge_ahead_of_this_clock_makes_stale_and_nothing_else(ahead_s: float) -> None:
    ahead = Softened(max_tags=2)
    ahead.soften(TAG, NOW + ahead_s)
    assert judge(entry(), policy.S, NOW, epochs=CALM, softened=ahead) is Verdict.STALE
    assert judge(entry(), RELATIONS, NOW, epochs=CALM, softened=ahead) is Verdict.EXPIRED


@given(POLICIES, AGES_S)
def test_survival_never_exceeds_the_class_window(each: Policy, age_s: float) -> None:
    if may_survive(entry(), each, NOW + age_s, epochs=CALM):
        assert age_s < each.survival_s


def test_relations_survive_four_hours_and_not_longer() -> None:
    assert may_survive(entry(), RELATIONS, NOW + 4 * 3600 - 1, epochs=CALM)
    assert not may_survive(entry(), RELATIONS, NOW + 4 * 3600, epochs=CALM)


@given(POLICIES, AGES_S, POSITIONS, POSITIONS)
def test_beyond_the_switch_position_nothing_is_ever_shown(
    each: Policy, age_s: float, position: Position, switch: Position
) -> None:
    epochs = Epochs(current=1).moved(2, switch)
    one = entry(epoch=1, position=position)
    distrusted = judge(one, each, NOW + age_s, epochs=epochs, softened=NOTHING) is Verdict.DISTRUSTED
    assert distrusted == (position > switch)
    if distrusted:
        assert not may_survive(one, each, NOW + age_s, epochs=epochs)


def test_one_epoch_back_counts_until_the_switch_is_known() -> None:
    epochs = Epochs(current=1).moved(2, None)
    one = entry(epoch=1, position=(1, 900))
    assert epochs.trust(one)
    assert not epochs.moved(2, (1, 850)).trust(one)


def test_further_back_without_a_known_switch_is_distrusted() -> None:
    epochs = Epochs(current=1).moved(3, (1, 10_000))
    assert epochs.trust(entry(epoch=2))
    assert not epochs.trust(entry(epoch=1))


def test_two_epochs_back_below_its_own_switch_is_trusted() -> None:
    epochs = Epochs(current=1).moved(2, (1, 500)).moved(3, (2, 700))
    assert epochs.trust(entry(epoch=1, position=(1, 500)))
    assert not epochs.trust(entry(epoch=1, position=(1, 501)))


def test_beyond_the_switch_nothing_of_the_ended_timeline_is_trusted_whatever_epoch_it_names() -> None:
    epochs = Epochs(current=1).moved(2, (1, 500))
    assert epochs.trust(entry(epoch=2, position=(1, 500)))
    assert not epochs.trust(entry(epoch=2, position=(1, 501)))
    assert epochs.trust(entry(epoch=2, position=(2, 501)))
    assert not epochs.moved(3, (2, 700)).trust(entry(epoch=3, position=(1, 501)))


def test_an_epoch_not_heard_of_yet_is_trusted() -> None:
    assert Epochs(current=1).trust(entry(epoch=2))


@given(st.lists(st.tuples(st.integers(0, 40), st.none() | POSITIONS), max_size=60))
def test_epochs_never_fall_switches_never_loosen_and_memory_is_bounded(
    heard: list[tuple[int, Position | None]],
) -> None:
    epochs = Epochs()
    for epoch, switch in heard:
        moved = epochs.moved(epoch, switch)
        assert moved.current == max(epochs.current, epoch)
        assert len(moved.switches) <= EPOCHS_REMEMBERED_MAX
        for known, position in moved.switches.items():
            assert known not in epochs.switches or position <= epochs.switches[known]
        epochs = moved


@given(st.integers(1, 3), POSITIONS, st.integers(1, 3), POSITIONS)
def test_newer_is_a_strict_order_by_epoch_then_position(
    epoch: int, position: Position, other_epoch: int, other_position: Position
) -> None:
    one, other = entry(epoch=epoch, position=position), entry(epoch=other_epoch, position=other_position)
    assert not (newer(one, other) and newer(other, one))
    assert newer(one, other) or newer(other, one) or (epoch, position) == (other_epoch, other_position)
    if epoch > other_epoch:
        assert newer(one, other)


@given(POLICIES, AGES_S, st.lists(st.floats(-100, 1e6), max_size=4), st.none() | st.floats(0, 1e6))
def test_a_soft_purge_ends_freshness_and_never_lengthens_a_window(
    each: Policy, age_s: float, ordered_s: list[float], max_age_s: float | None
) -> None:
    softened = Softened(max_tags=2)
    for after_s in ordered_s:
        softened.soften(TAG, NOW + after_s)
    one, now = entry(max_age_s=max_age_s), NOW + age_s
    verdict = judge(one, each, now, epochs=CALM, softened=softened)
    assert fresh_until(one, each, softened) <= fresh_until(one, each, NOTHING)
    order = [Verdict.FRESH, Verdict.STALE, Verdict.EXPIRED]
    assert order.index(verdict) >= order.index(judge(one, each, now, epochs=CALM, softened=NOTHING))
    if any(after_s >= 0 for after_s in ordered_s):
        assert verdict is not Verdict.FRESH
