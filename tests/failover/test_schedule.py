"""Schedules are drawn from their seed alone, reach every kind of fault, and leave a country that can go on."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from tests.failover.schedule import ALL_KINDS, STRIKES_MAX, Means, draw

EVERYTHING = Means(network=True, filters=True, snapshots=True)
LOOPBACK = Means(network=False, filters=False)
seeds = st.integers(0, 10_000).map(str)


@given(seeds)
def test_the_same_seed_draws_the_same_strikes(seed: str) -> None:
    assert draw(seed, EVERYTHING) == draw(seed, EVERYTHING)


def test_seeds_reach_every_kind() -> None:
    drawn = {strike.name for seed in range(2_000) for strike in draw(str(seed), EVERYTHING)}
    assert drawn == {kind.name for kind in ALL_KINDS}
    assert draw("7", EVERYTHING) == draw("7", EVERYTHING)


@given(seeds, st.sampled_from([EVERYTHING, LOOPBACK]))
def test_a_country_can_go_on_after_them(seed: str, means: Means) -> None:
    strikes = draw(seed, means)
    assert 1 <= len(strikes) <= STRIKES_MAX
    for earlier, later in itertools.pairwise(strikes):
        assert earlier.at_s + earlier.lasts_s < later.at_s
    assert sum(strike.for_good for strike in strikes) <= 1
    assert sum(bool(strike.explains) for strike in strikes) <= 1


@given(seeds)
def test_on_loopback_nothing_is_drawn_that_needs_a_network(seed: str) -> None:
    needs = {kind.name for kind in ALL_KINDS if kind.network}
    assert not {strike.name for strike in draw(seed, LOOPBACK)} & needs


def test_one_kind_may_be_asked_for() -> None:
    assert {strike.name for strike in draw("3", EVERYTHING, only=("bridge",))} == {"bridge"}
