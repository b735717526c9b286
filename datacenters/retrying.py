"""May this request be sent again? The table of repeats, and the budget that they share; pure.

Invariants: what may have reached a datacenter is sent again only when it is safe by its method, or has a key and the
record was read again; what the budget is asked for never exceeds `BUDGET_SHARE` of the requests of a window, or
`BUDGET_FLOOR` where these are few. A struggling datacenter is not struck down by those who try once more.
"""

from __future__ import annotations

from collections import deque
from enum import StrEnum

import msgspec

READ_REPEATS_MAX = 2
WRITE_REPEATS_MAX = 1
BUDGET_SHARE = 0.10
BUDGET_FLOOR = 3
BUDGET_WINDOW_S = 10
_SAFE = frozenset({"GET", "HEAD"})


class Repeat(StrEnum):
    """What one more try of a request needs."""

    NEVER = "never"
    FREE = "free"
    BUDGETED = "budgeted"
    # The same key, once the record was read again; budgeted as well.
    AFTER_RECORD = "after-record"


def may_repeat(method: str, *, keyed: bool, nothing_done: bool, repeats: int) -> Repeat:
    """What another try needs, after `repeats` of them; `nothing_done` when the last one surely changed nothing."""
    safe = method in _SAFE
    if repeats >= (READ_REPEATS_MAX if safe else WRITE_REPEATS_MAX):
        return Repeat.NEVER
    if nothing_done:
        return Repeat.FREE
    if safe:
        return Repeat.BUDGETED
    return Repeat.AFTER_RECORD if keyed else Repeat.NEVER


class _Second(msgspec.Struct):
    at: int
    requests: int = 0
    repeats: int = 0


class RetryBudget:
    """Counts requests and repeats of the last `window_s` whole seconds; `now` is any monotonic clock's seconds."""

    def __init__(
        self, *, share: float = BUDGET_SHARE, floor: int = BUDGET_FLOOR, window_s: int = BUDGET_WINDOW_S
    ) -> None:
        self._share = share
        self._floor = floor
        self._window_s = window_s
        self._seconds: deque[_Second] = deque()
        self._requests = 0
        self._repeats = 0

    def note_request(self, now: float) -> None:
        """Count a request that somebody made of us, however often it will be sent."""
        self._current(now).requests += 1
        self._requests += 1

    def take(self, now: float) -> bool:
        """Count one repeat, if there is one left."""
        current = self._current(now)
        if self._repeats + 1 > max(self._floor, int(self._share * self._requests)):
            return False
        current.repeats += 1
        self._repeats += 1
        return True

    def spend(self, now: float) -> None:
        """Count a repeat that must not be refused, so that others are."""
        self._current(now).repeats += 1
        self._repeats += 1

    def _current(self, now: float) -> _Second:
        second = int(now)
        while self._seconds and self._seconds[0].at <= second - self._window_s:
            gone = self._seconds.popleft()
            self._requests -= gone.requests
            self._repeats -= gone.repeats
        if not self._seconds or self._seconds[-1].at < second:
            self._seconds.append(_Second(second))
        return self._seconds[-1]
