"""Whether something took long to come, or only this process took long to see it."""

from __future__ import annotations

import asyncio
import math

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
