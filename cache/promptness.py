"""Whether something took long to come, or only this process took long to see it; and what a request still waits for.

Invariant: one request waits for a slow tier 2 once, however many reads it is made of.
"""

from __future__ import annotations

import asyncio
import math
from contextvars import ContextVar

# Time is counted in steps that this process was free to take: while it does other work, and what came lies unread, it takes none.
STEP_S = 0.005


class Waited:
    """Begun when something is asked for, ended when it is there."""

    __slots__ = ("_left", "_loop", "_timer")

    def __init__(self, long_s: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._left = math.ceil(long_s / STEP_S)
        self._timer = self._loop.call_later(STEP_S, self._step)

    def long(self) -> bool:
        """End; True when it took `long_s` or more, less what this process was busy with something else."""
        self._timer.cancel()
        return self._left <= 0

    def _step(self) -> None:
        self._left -= 1
        if self._left > 0:
            self._timer = self._loop.call_later(STEP_S, self._step)


class _Patience:
    """What is left of it, for one request and whatever is done on its behalf."""

    __slots__ = ("spent",)

    def __init__(self) -> None:
        self.spent = False


_patience: ContextVar[_Patience | None] = ContextVar("patience", default=None)


def begin_request() -> None:
    """From here on this task works for one request, with patience of its own."""
    _patience.set(_Patience())


def spend_patience() -> None:
    """Tier 2 has kept this request waiting; outside a request nothing is noted."""
    patience = _patience.get()
    if patience is not None:
        patience.spent = True


def patience_is_spent() -> bool:
    """Whether this request asks tier 2 for nothing more."""
    patience = _patience.get()
    return patience is not None and patience.spent
