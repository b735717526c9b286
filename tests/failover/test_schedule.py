"""Schedules are drawn from their seed alone, reach every kind of fault, and leave a country that can go on."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from datacenters.record import Phase
from tests.failover.schedule import (
    KILLED_AGAIN,
    KINDS,
    ORDERS,
    SHORT_DWELL_S,
    STRIKES_MAX,
    WITHIN,
    Means,
    draw,
    on_machines,
    on_volumes,
    options,
)

EVERYTHING = Means(network=True, filters=True, machines=True, volumes=True, snapshots=True)
LOOPBACK = Means(network=False, filters=False)
seeds = st.integers(0, 10_000).map(str)


@given(seeds)
def test_the_same_seed_draws_the_same_strikes(seed: str) -> None:
    assert draw(seed, EVERYTHING) == draw(seed, EVERYTHING)


def test_seeds_reach_every_kind() -> None:
    drawn = {strike.name for seed in range(2_000) for strike in draw(str(seed), EVERYTHING)}
    assert drawn == {kind.name for kind in KINDS}
    assert draw("7", EVERYTHING) == draw("7", EVERYTHING)


@given(seeds, st.sampled_from([EVERYTHING, LOOPBACK]))
def test_a_country_can_go_on_after_them(seed: str, means: Means) -> None:
    strikes = draw(seed, means)
    assert 1 <= len(strikes) <= STRIKES_MAX
    for earlier, later in itertools.pairwise(strikes):
        assert earlier.at_s + earlier.lasts_s < later.at_s
    assert sum(strike.for_good for strike in strikes) <= 1
    assert sum(bool(strike.explains) for strike in strikes) <= 1
    ordered = [strike.name in ORDERS for strike in strikes]
    assert not any(ordered[:-1]), "nobody can draw who is active after an order"
    if ordered[-1]:
        assert not any(strike.for_good or strike.explains for strike in strikes[:-1])


def test_nothing_strikes_a_site_of_which_nothing_is_left_nor_the_users_of_one_that_may_have_lost_its_role() -> (
    None
):
    followed = 0
    for seed in range(2_000):
        for earlier, later in itertools.combinations(draw(str(seed), EVERYTHING), 2):
            if earlier.name in {"kill site", "lose site"}:
                followed += 1
                assert later.where != earlier.where
            if later.name.startswith("pause ") and earlier.name == later.name.replace("pause", "kill"):
                assert later.where != earlier.where
            if earlier.explains:
                assert not later.name.startswith(("gray", "jitter", "lose packets"))
    assert followed


@given(seeds)
def test_on_loopback_nothing_is_drawn_that_needs_more(seed: str) -> None:
    needs = {kind.name for kind in KINDS if kind.network or kind.machine or kind.volume}
    assert not {strike.name for strike in draw(seed, LOOPBACK)} & needs


def test_a_site_is_made_ready_for_what_strikes_there_and_no_other_is() -> None:
    (clock,) = draw("3", EVERYTHING, only=("clock ahead",))
    (full,) = draw("3", EVERYTHING, only=("full disk",))
    (bridge,) = draw("3", EVERYTHING, only=("bridge",))
    assert on_machines([clock, full, bridge]) == {clock.where}
    assert on_volumes([clock, full, bridge]) == {full.where}


def test_no_clock_and_no_slow_disk_explains_a_move() -> None:
    blameless = {kind.name for kind in KINDS if kind.machine and not kind.moves}
    assert blameless == {"clock ahead", "clock behind", "clock drift", "slow disk"}


def test_one_kind_may_be_asked_for() -> None:
    assert {strike.name for strike in draw("3", EVERYTHING, only=("bridge",))} == {"bridge"}


def test_a_switchover_is_struck_in_every_phase() -> None:
    drawn = [strike for seed in range(600) for strike in draw(str(seed), EVERYTHING) if strike.phase]
    assert {strike.phase for strike in drawn} == {"FREEZING", "SEALING", "PROMOTING", "REPLAYING"}
    assert all(strike.name.startswith(WITHIN) and Phase(strike.phase) for strike in drawn)


def test_only_the_schedule_that_waits_for_a_second_automatic_move_shortens_the_dwell() -> None:
    for seed in range(200):
        strikes = draw(str(seed), EVERYTHING)
        short = any(strike.name == KILLED_AGAIN for strike in strikes)
        assert options(strikes) == (("--dwell-s", str(SHORT_DWELL_S)) if short else ())
    assert options(draw("1", EVERYTHING, only=(KILLED_AGAIN,)))
