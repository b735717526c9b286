"""Whether something took long to come, or only this process took long to see it; and what a request still waits for.

Invariant: one request waits for a slow tier 2 once, however many reads it is made of.
"""

from __future__ import annotations

import asyncio
from contextvars import ContextVar

# A timer that comes later than this was held up by other work in the loop, as everything else was meanwhile.
PUNCTUAL_S = 0.01


class Waited:
    """Begun when something is asked for, ended when it is there."""

    __slots__ = ("_due", "_long", "_loop", "_timer")

    def __init__(self, long_s: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._due = self._loop.time() + long_s
        self._long = False
        self._timer = self._loop.call_at(self._due, self._passed)

    def long(self) -> bool:
        """End; True when more than `long_s` passed and this process was free to see it come."""
        self._timer.cancel()
        return self._long

    def _passed(self) -> None:
        self._long = self._loop.time() - self._due <= PUNCTUAL_S


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
