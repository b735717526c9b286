"""The weather that must move nothing is the same for the same seed, long enough, and explains no move."""

from __future__ import annotations

from tests.failover.schedule import Means
from tests.failover.steady import PAUSE_S, PAUSED, WEATHER, draw_steady

ALL = Means(network=True, filters=True)


def test_twenty_minutes_hold_every_kind_many_times_and_none_explains_a_move() -> None:
    strikes = draw_steady("1/0", ALL, for_s=1200)
    assert strikes == draw_steady("1/0", ALL, for_s=1200)
    assert strikes[-1].at_s > 1180
    names = [strike.name for strike in strikes]
    assert all(names.count(name) >= 5 for name in (*PAUSED, *WEATHER))
    assert not any(strike.explains or strike.for_good for strike in strikes)
    assert {strike.lasts_s for strike in strikes if strike.name in PAUSED} == {PAUSE_S}


def test_strikes_do_not_overlap() -> None:
    strikes = draw_steady("2/0", ALL, for_s=300)
    ends = [strike.at_s + strike.lasts_s for strike in strikes]
    assert all(end < after.at_s for end, after in zip(ends, strikes[1:], strict=False))


def test_without_filters_pauses_remain() -> None:
    strikes = draw_steady("1/0", Means(network=False, filters=False), for_s=120)
    assert {strike.name for strike in strikes} <= set(PAUSED)
