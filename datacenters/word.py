"""The last word from etcd's majority that a director acts on, and how old it is.

Invariant: its age counts from when it was asked for, by the monotonic clock, and a record below the highest epoch
known is no word at all, whether that epoch was heard from etcd or is only known where the data lives: an etcd that was
put back to an older state is disbelieved also by a director that began after it.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable

import structlog

from datacenters.control import Held
from datacenters.record import Record

_log = structlog.get_logger()


class Word:
    """Holds the record as last heard."""

    def __init__(self, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._held: Held | None = None
        self._asked_at: float | None = None
        self._known = 0
        self._known_at = -math.inf
        self._refused = 0
        self._waiting: list[asyncio.Future[None]] = []
        self.bell = asyncio.Event()
        """Set with every record that is news; whoever waits by it clears it."""

    @property
    def held(self) -> Held | None:
        """The record and its bytes, however old the word is; None when none was ever heard."""
        return self._held

    @property
    def record(self) -> Record | None:
        """The record, however old the word is."""
        return self._held.record if self._held else None

    @property
    def highest(self) -> int:
        """The highest epoch known; 0 when none is."""
        return max(self._known, self._held.record.epoch if self._held else 0)

    def age_s(self) -> float:
        """Seconds since the last word was asked for; infinite when none was ever heard."""
        return math.inf if self._asked_at is None else self._monotonic() - self._asked_at

    def know(self, epoch: int) -> None:
        """Note an epoch that a datacenter's fence or another director names: it was declared once."""
        if epoch > self.highest:
            self._known, self._known_at = epoch, self._monotonic()

    def hear(self, held: Held | None, *, asked_at: float) -> bool:
        """Take in what etcd answered to a question of `asked_at` (monotonic); False when it is no word."""
        if held is None:
            return False
        if held.record.epoch < self.highest:
            # Who asked before the epoch was known may have been told what held then.
            if asked_at > self._known_at and self._refused != held.record.epoch:
                self._refused = held.record.epoch
                _log.error("record of a lower epoch refused", epoch=held.record.epoch, highest=self.highest)
            return False
        self._asked_at = asked_at
        if self._held is None or held.raw != self._held.raw:
            self._held = held
            self.bell.set()
            waiting, self._waiting = self._waiting, []
            for one in waiting:
                if not one.done():
                    one.set_result(None)
        return True

    async def changed(self) -> None:
        """Wait until another record is heard than the one at hand."""
        heard = asyncio.get_running_loop().create_future()
        self._waiting.append(heard)
        await heard
