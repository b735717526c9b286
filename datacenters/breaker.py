"""Is a datacenter worth asking now? A circuit breaker over what requests met there; pure.

What counts against it: connections not made, silence, connections broken off, and 502, 503 or 504 that the datacenter
did not say itself. A datacenter that refuses in its own words, or fails on one thing, answers.
Invariants: while open nothing passes, while half-open one read at a time; it opens for at most `OPEN_MAX_S` at a time;
a write is kept back only while the failure that opened it is fresh.
"""

from __future__ import annotations

import math
from collections import deque
from enum import StrEnum

import msgspec

OPEN_AFTER_UNREACHABLE_S = 0.25
OPEN_AFTER_HUNG_S = 1.0
OPEN_AFTER_ERRORS_S = 0.5
# Each failed trial doubles the time until the next one, up to here.
OPEN_MAX_S = 1.0
HUNG_STREAK = 3
ERRORS_WINDOW_S = 2.0
ERRORS_MIN = 8
ERRORS_SHARE = 0.5
# A trial that nobody ended (its asker was killed in between) blocks the next one no longer.
TRIAL_MAX_S = 3.0
_SLICES = 8


class State(StrEnum):
    """CLOSED: all pass. OPEN: nothing does. HALF_OPEN: one read at a time, until one is answered."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class _Slice(msgspec.Struct):
    at: int
    answered: int = 0
    failed: int = 0


class Breaker:
    """One datacenter's; every method takes `now`, any monotonic clock's seconds."""

    def __init__(self) -> None:
        self._state = State.CLOSED
        self._open_until = -math.inf
        self._fresh_until = -math.inf
        self._trial_until = -math.inf
        self._openings = 0
        self._hung = 0
        self._slices: deque[_Slice] = deque()

    @property
    def state(self) -> State:
        """The state since the last thing that was told or asked."""
        return self._state

    def admits(self, now: float) -> bool:
        """Whether a read would pass; nothing is begun by asking."""
        match self._state:
            case State.CLOSED:
                return True
            case State.OPEN:
                return now >= self._open_until
            case State.HALF_OPEN:
                return now >= self._trial_until

    def begin(self, now: float) -> bool:
        """Whether a read passes; if so and it is a trial, others wait for how it ends."""
        if not self.admits(now):
            return False
        if self._state is not State.CLOSED:
            self._state = State.HALF_OPEN
            self._trial_until = now + TRIAL_MAX_S
        return True

    def keeps_back_writes(self, now: float) -> bool:
        """Whether the failure that opened it is so fresh that a write would only meet it again."""
        return self._state is not State.CLOSED and now < self._fresh_until

    def answered(self, now: float) -> None:
        """The datacenter answered. A request sent before it opened does not close it."""
        self._hung = 0
        self._slice(now).answered += 1
        if self._state is State.HALF_OPEN or (self._state is State.OPEN and now >= self._open_until):
            self._state = State.CLOSED
            self._openings = 0
            self._slices.clear()

    def gave_up(self) -> None:
        """Whoever asked left before anything was known."""
        self._trial_until = -math.inf

    def unreachable(self, now: float) -> None:
        """No connection could be made."""
        self._slice(now).failed += 1
        self._open(now, OPEN_AFTER_UNREACHABLE_S)

    def hung(self, now: float) -> None:
        """No answer came in time."""
        self._hung += 1
        self._slice(now).failed += 1
        if self._hung >= HUNG_STREAK or self._state is State.HALF_OPEN:
            self._open(now, OPEN_AFTER_HUNG_S)
        else:
            self._judge(now)

    def broken(self, now: float) -> None:
        """The connection broke off, or something before the datacenter said that it does not work."""
        self._slice(now).failed += 1
        if self._state is State.HALF_OPEN:
            self._open(now, OPEN_AFTER_ERRORS_S)
        else:
            self._judge(now)

    def _judge(self, now: float) -> None:
        failed = sum(one.failed for one in self._slices)
        answered = sum(one.answered for one in self._slices)
        if failed >= ERRORS_MIN and failed >= ERRORS_SHARE * (failed + answered):
            self._open(now, OPEN_AFTER_ERRORS_S)

    def _open(self, now: float, base_s: float) -> None:
        # Others that were under way when it opened say nothing new: only a failed trial doubles the time.
        if self._state is not State.OPEN:
            self._openings += 1
        self._state = State.OPEN
        grown_s = min(base_s * 2 ** (self._openings - 1), OPEN_MAX_S)
        self._open_until = max(self._open_until, now + grown_s)
        self._fresh_until = max(self._fresh_until, now + base_s)

    def _slice(self, now: float) -> _Slice:
        width_s = ERRORS_WINDOW_S / _SLICES
        at = int(now / width_s)
        while self._slices and self._slices[0].at <= at - _SLICES:
            self._slices.popleft()
        if not self._slices or self._slices[-1].at < at:
            self._slices.append(_Slice(at))
        return self._slices[-1]
