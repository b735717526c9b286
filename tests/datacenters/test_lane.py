"""One worker's way to one datacenter: what happens reaches every decider, and every change is told once."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from datacenters.breaker import State
from datacenters.forwarding_events import ForwardingEvents
from datacenters.hedging import HEDGE_AFTER_MAX_S, HEDGE_AFTER_MIN_S, SAMPLES_MIN
from datacenters.in_flight import FLOOR, Priority
from datacenters.lane import Full, Lane


class Events(ForwardingEvents):
    def __init__(self) -> None:
        self.told: list[object] = []

    def breaker(self, datacenter: str, state: State) -> None:
        self.told.append((datacenter, state))

    def limit(self, datacenter: str, limit: int) -> None:
        self.told.append((datacenter, limit))

    def shed(self, datacenter: str, priority: Priority) -> None:
        self.told.append((datacenter, priority))


class World:
    def __init__(self, ceiling: int = 40) -> None:
        self.now = 0.0
        self.events = Events()
        self.lane = Lane("rabat", ceiling=ceiling, events=self.events, monotonic=lambda: self.now)

    def read(self, seconds: float) -> None:
        began = self.lane.enter(Priority.READ)
        self.now += seconds
        self.lane.answered(began, read=True)


def test_it_begins_open_to_all_and_says_so() -> None:
    at = World()
    assert at.events.told == [("rabat", State.CLOSED), ("rabat", 40)]
    assert at.lane.admits_reads()
    assert not at.lane.keeps_back_writes()


def test_reads_teach_when_to_hedge_and_writes_do_not() -> None:
    at = World()
    for _ in range(SAMPLES_MIN):
        at.lane.answered(at.lane.enter(Priority.WRITE), read=False)
    assert at.lane.hedge_after_s == HEDGE_AFTER_MAX_S
    for _ in range(SAMPLES_MIN):
        at.read(0.001)
    assert at.lane.hedge_after_s == HEDGE_AFTER_MIN_S


def test_every_way_to_leave_gives_the_place_back() -> None:
    at = World(ceiling=1)
    ways: list[Callable[[float], None]] = [
        lambda began: at.lane.answered(began, read=True),
        lambda _began: at.lane.unreachable(),
        lambda began: at.lane.hung(began, read=True),
        lambda _began: at.lane.broken(),
        lambda began: at.lane.gave_up(began, read=True),
    ]
    for leave in ways:
        began = at.lane.enter(Priority.WRITE)
        with pytest.raises(Full):
            at.lane.enter(Priority.WRITE)
        leave(began)
    assert at.events.told.count(("rabat", Priority.WRITE)) == 5


def test_changes_are_told_once() -> None:
    at = World()
    for _ in range(3):
        at.lane.enter(Priority.READ)
        at.lane.unreachable()
    at.now = 1.0
    assert at.lane.begin_read()
    assert not at.lane.begin_read()
    at.read(0.001)
    states = [told[1] for told in at.events.told if isinstance(told, tuple) and isinstance(told[1], State)]
    assert states == [State.CLOSED, State.OPEN, State.HALF_OPEN, State.CLOSED]


def test_a_trial_that_finds_no_place_blocks_nobody() -> None:
    at = World(ceiling=1)
    at.lane.enter(Priority.WRITE)
    at.lane.unreachable()
    at.now = 1.0
    at.lane.enter(Priority.WRITE)
    assert at.lane.begin_read()
    with pytest.raises(Full):
        at.lane.enter(Priority.READ)
    assert at.lane.admits_reads()


def test_a_hedge_wants_a_closed_breaker_and_half_of_the_limit_free() -> None:
    at = World(ceiling=4)
    at.lane.enter(Priority.READ)
    assert at.lane.may_hedge()
    at.lane.enter(Priority.READ)
    assert not at.lane.may_hedge()
    at.lane.unreachable()
    assert not at.lane.may_hedge()


def test_slowness_lowers_the_limit() -> None:
    at = World(ceiling=100)
    for seconds in (0.01, 1.0):
        for _ in range(3):
            began = [at.lane.enter(Priority.WRITE) for _ in range(FLOOR)]
            at.now += seconds
            for each in began:
                at.lane.answered(each, read=False)
            at.now += 0.3
    told = [told[1] for told in at.events.told if isinstance(told, tuple) and isinstance(told[1], int)]
    assert told[0] == 100
    assert told[-1] == FLOOR
