"""Whether something took long to come, or only this process took long to see it."""

from __future__ import annotations

import asyncio

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
