"""The table of repeats, line by line, and a budget that no sequence of requests can overdraw."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datacenters.retrying import (
    BUDGET_FLOOR,
    BUDGET_SHARE,
    BUDGET_WINDOW_S,
    READ_REPEATS_MAX,
    Repeat,
    RetryBudget,
    may_repeat,
)


@pytest.mark.parametrize(
    ("method", "keyed", "nothing_done", "repeats", "expected"),
    [
        ("GET", False, False, 0, Repeat.BUDGETED),
        ("HEAD", False, False, 1, Repeat.BUDGETED),
        ("GET", False, True, 1, Repeat.FREE),
        ("GET", False, True, READ_REPEATS_MAX, Repeat.NEVER),
        ("PUT", True, True, 0, Repeat.FREE),
        ("POST", False, True, 0, Repeat.FREE),
        ("PUT", True, False, 0, Repeat.AFTER_RECORD),
        ("POST", False, False, 0, Repeat.NEVER),
        ("PUT", True, True, 1, Repeat.NEVER),
        ("PUT", True, False, 1, Repeat.NEVER),
    ],
)
def test_the_table(method: str, keyed: bool, nothing_done: bool, repeats: int, expected: Repeat) -> None:
    assert may_repeat(method, keyed=keyed, nothing_done=nothing_done, repeats=repeats) is expected


EVENTS = st.lists(st.tuples(st.sampled_from(["request", "take", "spend"]), st.floats(0, 3)), max_size=300)


@given(events=EVENTS)
def test_what_is_granted_never_exceeds_the_share_of_any_window(events: list[tuple[str, float]]) -> None:
    budget = RetryBudget()
    now = 0.0
    requests: list[int] = []
    repeats: list[int] = []
    for kind, later_s in events:
        now += later_s
        oldest = int(now) - BUDGET_WINDOW_S
        requests, repeats = [s for s in requests if s > oldest], [s for s in repeats if s > oldest]
        if kind == "request":
            budget.note_request(now)
            requests.append(int(now))
        elif kind == "spend":
            budget.spend(now)
            repeats.append(int(now))
        else:
            allowed = max(BUDGET_FLOOR, int(BUDGET_SHARE * len(requests)))
            granted = budget.take(now)
            assert granted == (len(repeats) + 1 <= allowed)
            if granted:
                repeats.append(int(now))


def test_what_must_not_be_refused_is_taken_from_the_others() -> None:
    budget = RetryBudget()
    for _ in range(BUDGET_FLOOR):
        budget.spend(0.0)
    assert not budget.take(0.0)
    assert not budget.take(BUDGET_WINDOW_S - 1.0)
    assert budget.take(BUDGET_WINDOW_S + 1.0)
