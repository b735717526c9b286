"""How many requests may be under way to one datacenter, and who gives way first; pure.

The limit follows latency: where the median of a short window grows beyond what the best recent windows had, fewer are
let through at once, and more again when it falls (additive increase, multiplicative decrease).
Invariants: `FLOOR` <= limit <= the ceiling (a ceiling below FLOOR is the floor too); whoever is of a higher priority
is let through wherever a lower one is.
"""

from __future__ import annotations

import statistics
from enum import StrEnum

CEILING = 256
FLOOR = 32
WINDOW_S = 0.25
SAMPLES_MIN = 8
SAMPLES_MAX = 512
# The best median is looked for in the last one to two of these.
BASELINE_S = 30.0
# A window is too slow when its median is more than so many times the best one; what is faster than this never is.
# The bound is wide, and one slow window proves nothing, because a worker that is short of its own processor measures
# itself: shedding would then punish the datacenter's callers for the neighbour.
TOLERANCE = 2.0
NEVER_TOO_SLOW_S = 0.25
SLOW_WINDOWS = 2
SHRINK_MIN, SHRINK_MAX = 0.5, 0.9
# Where so large a share of a window was refused as `overloaded` by the datacenter itself, it is too much as well.
REFUSED_SHARE = 0.1
SHRINK_WHEN_REFUSED = 0.7
GROWTH = 8
# A limit that nobody comes near says nothing, and is not raised.
NEARLY_USED = 0.5


class Priority(StrEnum):
    """What a request is for, the last to give way first."""

    WRITE = "write"
    RELATION = "relation"
    READ = "read"
    HEDGE = "hedge"


# How much of the limit each may fill; the rest is kept for those above it.
SHARES = {Priority.WRITE: 1.0, Priority.RELATION: 0.9, Priority.READ: 0.75, Priority.HEDGE: 0.5}


class InFlightLimit:
    """One datacenter's; `now` is any monotonic clock's seconds."""

    def __init__(self, *, ceiling: int = CEILING) -> None:
        self._ceiling = ceiling
        self._floor = min(FLOOR, ceiling)
        self._limit = ceiling
        self._in_flight = 0
        self._peak = 0
        self._samples: list[float] = []
        self._refused = 0
        self._slow_windows = 0
        self._window_began: float | None = None
        self._baseline_began = 0.0
        self._best: float | None = None
        self._best_before: float | None = None

    @property
    def limit(self) -> int:
        """How many may be under way at once now."""
        return self._limit

    @property
    def in_flight(self) -> int:
        """How many are under way."""
        return self._in_flight

    def admits(self, priority: Priority) -> bool:
        """Whether one more of this priority may be sent."""
        return self._in_flight < max(1, int(self._limit * SHARES[priority]))

    def enter(self) -> None:
        """One more is under way."""
        self._in_flight += 1
        self._peak = max(self._peak, self._in_flight)

    def leave(self) -> None:
        """One ended, however."""
        self._in_flight -= 1

    def note(self, seconds: float, now: float, *, refused: bool = False) -> None:
        """Take in how long an answer (or silence) took, and whether it said `overloaded`."""
        if self._window_began is None:
            self._window_began = self._baseline_began = now
        if len(self._samples) < SAMPLES_MAX:
            self._samples.append(seconds)
        self._refused += refused
        if now - self._window_began >= WINDOW_S and len(self._samples) >= SAMPLES_MIN:
            self._judge(now)

    def _judge(self, now: float) -> None:
        median = statistics.median(self._samples)
        allowed_s = max(NEVER_TOO_SLOW_S, TOLERANCE * self._best_median(median, now))
        refused = self._refused >= REFUSED_SHARE * len(self._samples)
        slow = median > allowed_s and self._peak >= self._floor
        self._slow_windows = self._slow_windows + 1 if slow else 0
        if refused or self._slow_windows >= SLOW_WINDOWS:
            shrink = SHRINK_WHEN_REFUSED if refused else min(max(allowed_s / median, SHRINK_MIN), SHRINK_MAX)
            # What was too much is what was really under way, not what would have been allowed.
            self._limit = max(self._floor, int(shrink * min(self._limit, self._peak)))
        elif not slow and self._peak >= NEARLY_USED * self._limit:
            self._limit = min(self._ceiling, self._limit + GROWTH)
        self._samples.clear()
        self._refused = 0
        self._peak = self._in_flight
        self._window_began = now

    def _best_median(self, median: float, now: float) -> float:
        if now - self._baseline_began >= BASELINE_S:
            self._best_before, self._best = self._best, None
            self._baseline_began = now
        self._best = median if self._best is None else min(self._best, median)
        return self._best if self._best_before is None else min(self._best, self._best_before)
