"""How many may be under way: the limit follows latency, and the least urgent give way first."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from datacenters.in_flight import (
    BASELINE_S,
    CEILING,
    FLOOR,
    GROWTH,
    NEVER_TOO_SLOW_S,
    SAMPLES_MIN,
    SHARES,
    SLOW_WINDOWS,
    WINDOW_S,
    InFlightLimit,
    Priority,
)

QUICK_S, SLOW_S = 0.01, 1.0


def filled(limit: InFlightLimit, priority: Priority = Priority.WRITE) -> int:
    """Let in as many as it takes; how many these are."""
    entered = 0
    while limit.admits(priority):
        limit.enter()
        entered += 1
    return entered


def window(limit: InFlightLimit, at: float, seconds: float, *, busy: int, refused: int = 0) -> float:
    """One whole window in which `busy` were under way and each took `seconds`; when it ended."""
    for _ in range(busy):
        limit.enter()
    for number in range(SAMPLES_MIN):
        last = number == SAMPLES_MIN - 1
        limit.note(seconds, at + WINDOW_S if last else at, refused=number < refused)
    for _ in range(busy):
        limit.leave()
    return at + WINDOW_S


def slow(limit: InFlightLimit, at: float, seconds: float = SLOW_S, *, busy: int = 100) -> float:
    """As many slow windows as it takes to count; when the last one ended."""
    for _ in range(SLOW_WINDOWS):
        at = window(limit, at, seconds, busy=busy)
    return at


def begun(ceiling: int = CEILING) -> InFlightLimit:
    limit = InFlightLimit(ceiling=ceiling)
    window(limit, 1.0 - WINDOW_S, QUICK_S, busy=1)
    assert limit.limit == ceiling
    return limit


def test_it_begins_at_the_ceiling_and_lets_in_exactly_so_many() -> None:
    limit = InFlightLimit()
    assert filled(limit) == limit.in_flight == CEILING
    limit.leave()
    assert limit.admits(Priority.WRITE)


def test_whoever_is_less_urgent_gives_way_first() -> None:
    limit = InFlightLimit(ceiling=100)
    counts = [
        filled(limit, kind) for kind in (Priority.HEDGE, Priority.READ, Priority.RELATION, Priority.WRITE)
    ]
    assert counts == [50, 25, 15, 10]


@given(ceiling=st.integers(1, 300), busy=st.integers(0, 300))
def test_a_higher_priority_is_let_in_wherever_a_lower_one_is(ceiling: int, busy: int) -> None:
    limit = InFlightLimit(ceiling=ceiling)
    for _ in range(busy):
        limit.enter()
    admitted = [limit.admits(kind) for kind in sorted(Priority, key=lambda kind: SHARES[kind])]
    assert admitted == sorted(admitted)


def test_too_slow_means_fewer_and_quick_again_means_more() -> None:
    limit = begun()
    at = slow(limit, 1.0)
    assert limit.limit == 50  # of what was under way, not of what would have been allowed
    at = window(limit, at, SLOW_S, busy=50)
    assert limit.limit == FLOOR
    at = window(limit, at, QUICK_S, busy=FLOOR)
    assert limit.limit == FLOOR + GROWTH


def test_one_slow_window_proves_nothing() -> None:
    limit, at = begun(), 1.0
    for _ in range(10):
        at = window(limit, at, SLOW_S, busy=100)
        at = window(limit, at, QUICK_S, busy=100)
    assert limit.limit == CEILING


def test_a_slow_datacenter_that_hardly_anybody_asks_is_not_slow_because_of_us() -> None:
    limit = begun()
    slow(limit, 1.0, busy=FLOOR - 1)
    assert limit.limit == CEILING


def test_what_is_quick_enough_is_never_too_slow() -> None:
    limit = begun()
    slow(limit, 1.0, NEVER_TOO_SLOW_S, busy=200)
    assert limit.limit == CEILING


def test_a_limit_that_nobody_comes_near_is_not_raised() -> None:
    limit = begun()
    at = slow(limit, 1.0)
    at = window(limit, at, QUICK_S, busy=10)  # the hundred were under way when it began
    held = limit.limit
    window(limit, at, QUICK_S, busy=10)
    assert limit.limit == held == 50 + GROWTH


def test_what_the_datacenter_calls_too_much_is_too_much() -> None:
    limit = begun()
    window(limit, 1.0, QUICK_S, busy=100, refused=1)
    assert limit.limit == 70


def test_a_datacenter_that_has_become_slower_for_good_gets_its_limit_back() -> None:
    limit = begun()
    at = slow(limit, 1.0, 0.5)
    assert limit.limit == 50
    for _ in range(int(3 * BASELINE_S / WINDOW_S)):
        at = window(limit, at, 0.5, busy=limit.limit)
    assert limit.limit == CEILING


@given(
    ceiling=st.integers(1, 300),
    windows=st.lists(st.tuples(st.floats(0, 5), st.integers(0, 300), st.integers(0, 8)), max_size=60),
)
def test_it_keeps_its_bounds(ceiling: int, windows: list[tuple[float, int, int]]) -> None:
    limit, at = InFlightLimit(ceiling=ceiling), 0.0
    for seconds, busy, refused in windows:
        at = window(limit, at, seconds, busy=busy, refused=refused)
        assert min(FLOOR, ceiling) <= limit.limit <= ceiling


def test_it_settles_near_what_a_datacenter_can_do_at_once() -> None:
    """A datacenter that works on 60 at once in 0.2 s each and lets the others wait, asked by more than enough."""
    limit = InFlightLimit()
    at = window(limit, 1.0 - WINDOW_S, 0.2, busy=1)
    seen = []
    for _ in range(100):
        busy = limit.limit
        at = window(limit, at, 0.2 * max(1.0, busy / 60), busy=busy)
        seen.append(limit.limit)
    # Twice the best is too slow: beyond 120 at once.
    assert all(60 <= each <= 120 + 2 * GROWTH for each in seen[10:])
