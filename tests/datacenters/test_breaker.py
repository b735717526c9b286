"""When a datacenter is not worth asking: what opens the breaker, what closes it, whom it keeps back."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from datacenters.breaker import (
    ERRORS_MIN,
    ERRORS_WINDOW_S,
    HUNG_STREAK,
    OPEN_AFTER_HUNG_S,
    OPEN_AFTER_UNREACHABLE_S,
    OPEN_MAX_S,
    TRIAL_MAX_S,
    Breaker,
    State,
)


def state_of(breaker: Breaker) -> State:
    """Its state, asked anew (a type checker believes that what was compared once stays so)."""
    return breaker.state


def test_one_connection_that_cannot_be_made_opens_it_for_a_moment() -> None:
    breaker = Breaker()
    breaker.unreachable(10.0)
    assert state_of(breaker) is State.OPEN
    assert not breaker.admits(10.0 + OPEN_AFTER_UNREACHABLE_S - 0.01)
    assert breaker.admits(10.0 + OPEN_AFTER_UNREACHABLE_S)


def test_silence_opens_it_as_a_streak() -> None:
    breaker = Breaker()
    for _ in range(HUNG_STREAK - 1):
        breaker.hung(0.0)
    breaker.answered(0.0)
    for _ in range(HUNG_STREAK):
        assert state_of(breaker) is State.CLOSED
        breaker.hung(0.0)
    assert state_of(breaker) is State.OPEN
    assert not breaker.admits(OPEN_AFTER_HUNG_S - 0.01)


def test_errors_open_it_as_a_share_of_a_short_window() -> None:
    breaker = Breaker()
    for turn in range(4 * ERRORS_MIN):
        now = turn * 0.01
        breaker.broken(now) if turn % 3 == 0 else breaker.answered(now)
    assert state_of(breaker) is State.CLOSED  # a third fails
    for turn in range(4 * ERRORS_MIN):
        breaker.broken(0.5 + turn * 0.01)
    assert state_of(breaker) is State.OPEN


def test_errors_of_long_ago_do_not_count() -> None:
    breaker = Breaker()
    for turn in range(3 * ERRORS_MIN):
        breaker.broken(turn * ERRORS_WINDOW_S / (ERRORS_MIN - 2))
    assert state_of(breaker) is State.CLOSED


def test_one_read_at_a_time_tries_it_and_an_answer_closes_it() -> None:
    breaker = Breaker()
    breaker.unreachable(0.0)
    assert breaker.begin(1.0)
    assert state_of(breaker) is State.HALF_OPEN
    assert not breaker.begin(1.0)
    assert not breaker.admits(1.0)
    breaker.answered(1.1)
    assert state_of(breaker) is State.CLOSED


def test_a_trial_that_nobody_ended_blocks_no_longer_than_its_bound() -> None:
    breaker = Breaker()
    breaker.unreachable(0.0)
    assert breaker.begin(1.0)
    assert breaker.begin(1.0 + TRIAL_MAX_S)


def test_each_failed_trial_waits_twice_as_long_up_to_a_bound() -> None:
    breaker = Breaker()
    now, waits = 0.0, []
    breaker.unreachable(now)
    for _ in range(5):
        began = now
        while not breaker.begin(now):
            now += 0.25
        waits.append(now - began)
        breaker.unreachable(now)
    assert waits == [0.25, 0.5, 1.0, 1.0, 1.0]
    assert breaker.begin(now + 1.0)
    breaker.answered(now + 1.0)
    breaker.unreachable(now + 2.0)
    assert breaker.admits(now + 2.0 + OPEN_AFTER_UNREACHABLE_S)


def test_what_was_under_way_when_it_opened_doubles_nothing() -> None:
    breaker = Breaker()
    for _ in range(10):
        breaker.unreachable(0.0)
    assert breaker.admits(OPEN_AFTER_UNREACHABLE_S)


def test_a_late_answer_does_not_close_it_early() -> None:
    breaker = Breaker()
    breaker.unreachable(0.0)
    breaker.answered(0.1)
    assert not breaker.admits(0.1)


def test_a_write_is_kept_back_while_the_failure_is_fresh_and_no_longer() -> None:
    breaker = Breaker()
    assert not breaker.keeps_back_writes(0.0)
    for now in (0.0, 1.0, 2.0):
        assert breaker.begin(now)
        breaker.unreachable(now)
    assert breaker.keeps_back_writes(2.0 + OPEN_AFTER_UNREACHABLE_S - 0.01)
    assert not breaker.keeps_back_writes(2.0 + OPEN_AFTER_UNREACHABLE_S)
    assert not breaker.admits(2.0 + OPEN_AFTER_UNREACHABLE_S)  # reads have another datacenter to go to


class Life(RuleBasedStateMachine):
    """Whatever happens in whatever order: it is never shut for good."""

    def __init__(self) -> None:
        super().__init__()
        self.breaker = Breaker()
        self.now = 0.0

    @rule(later_s=st.floats(0, 2))
    def wait(self, later_s: float) -> None:
        self.now += later_s

    @rule(what=st.sampled_from(["answered", "unreachable", "hung", "broken", "begin"]))
    def happens(self, what: str) -> None:
        getattr(self.breaker, what)(self.now)

    @rule()
    def leaves(self) -> None:
        self.breaker.gave_up()

    @invariant()
    def it_lets_somebody_through_again(self) -> None:
        if self.breaker.state is not State.HALF_OPEN:
            assert self.breaker.admits(self.now + OPEN_MAX_S)
        assert self.breaker.admits(self.now + TRIAL_MAX_S)

    @invariant()
    def writes_wait_only_where_reads_do(self) -> None:
        if self.breaker.keeps_back_writes(self.now) and self.breaker.state is State.OPEN:
            assert not self.breaker.admits(self.now)

    @invariant()
    def closed_admits_everybody(self) -> None:
        if self.breaker.state is State.CLOSED:
            assert self.breaker.admits(self.now)
            assert not self.breaker.keeps_back_writes(self.now)


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=100, stateful_step_count=30)


@given(st.lists(st.sampled_from(["answered", "hung", "broken"]), max_size=60))
def test_as_long_as_more_than_half_is_answered_it_stays_closed(kinds: list[str]) -> None:
    breaker = Breaker()
    for kind in kinds:
        for _ in range(2):
            breaker.answered(0.0)
        getattr(breaker, kind)(0.0)
        assert state_of(breaker) is State.CLOSED
