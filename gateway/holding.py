"""Writes that wait out a planned switchover at the gateway instead of being sent away.

Invariant: of one user's writes no two are under way while any of them waits, and they go on in the order in which they
came; no more than `HELD_MAX` wait, none longer than `HELD_WITHIN_S`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec

from datacenters.directory import Directory
from datacenters.unanswered import Switching

HELD_MAX = 1024
# A switchover that takes longer than three seconds is given up, and then the old site serves again.
HELD_WITHIN_S = 4.0
RETRY_AFTER_S = 2.0


class _Turns(msgspec.Struct, eq=False):
    lock: asyncio.Lock
    waiting: int = 0


class Holding:
    """Who waits in this worker, by user."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._turns: dict[str, _Turns] = {}
        self._held = 0

    @asynccontextmanager
    async def turn(self, subject: str) -> AsyncIterator[None]:
        """Let one write of `subject` go on when its turn has come.

        Raises: Switching: too many wait, or for too long; nothing was sent.
        """
        turns = self._turns.get(subject)
        if turns is None and not self._directory.switching_over:
            yield
            return
        if self._held >= HELD_MAX:
            raise self._refusal("too many writes wait")
        turns = self._turns.setdefault(subject, _Turns(asyncio.Lock()))
        self._held += 1
        turns.waiting += 1
        try:
            await self._wait(turns.lock)
            try:
                yield
            finally:
                turns.lock.release()
        finally:
            self._held -= 1
            turns.waiting -= 1
            if not turns.waiting:
                del self._turns[subject]

    async def _wait(self, lock: asyncio.Lock) -> None:
        """Hold the lock once writes go on."""
        try:
            async with asyncio.timeout(HELD_WITHIN_S):
                await lock.acquire()
                try:
                    while self._directory.switching_over:
                        await self.over()
                except BaseException:
                    lock.release()
                    raise
        except TimeoutError as error:
            raise self._refusal("the switchover takes too long") from error

    async def over(self) -> bool:
        """Wait until a planned switchover that is under way has ended; False when none is, or it does not end."""
        if not self._directory.switching_over:
            return False
        return await self._directory.serving(within_s=HELD_WITHIN_S)

    def _refusal(self, reason: str) -> Switching:
        return Switching(reason, retry_after_s=RETRY_AFTER_S)
