"""Writes that wait out a planned switchover at the gateway instead of being sent away.

Invariant: of one user's writes no two are under way while any of them waits, and they go on in the order in which they
came; no more than `held_max` wait, so that reads have room beside them, and none longer than `HELD_WITHIN_S`.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import msgspec

from datacenters.directory import Directory
from datacenters.forwarding import RETRY_AFTER_MAX_S, RETRY_AFTER_MIN_S
from datacenters.unanswered import Switching

HELD_MAX = 256
# A switchover that takes longer than three seconds is given up, and then the old site serves again.
HELD_WITHIN_S = 4.0


class _Turns(msgspec.Struct, eq=False):
    """One user's writes: how many wait or go on in turn, and how many went before anything had to wait."""

    lock: asyncio.Lock
    ahead_gone: asyncio.Event
    in_turn: int = 0
    ahead: int = 0


class Holding:
    """Who waits in this worker, by user."""

    def __init__(self, directory: Directory, *, held_max: int = HELD_MAX) -> None:
        self._directory = directory
        self._held_max = held_max
        self._turns: dict[str, _Turns] = {}
        self._held = 0

    @asynccontextmanager
    async def turn(self, subject: str) -> AsyncIterator[None]:
        """Let one write of `subject` go on when its turn has come.

        Raises: Switching: too many wait, or for too long; nothing was sent.
        """
        turns = self._turns.setdefault(subject, _Turns(asyncio.Lock(), asyncio.Event()))
        try:
            if not turns.in_turn and not self._directory.switching_over:
                with _ahead(turns):
                    yield
                return
            with self._place():
                turns.in_turn += 1
                try:
                    await self._wait(turns)
                    try:
                        yield
                    finally:
                        turns.lock.release()
                finally:
                    turns.in_turn -= 1
        finally:
            if not turns.in_turn and not turns.ahead:
                self._turns.pop(subject, None)

    async def passed(self) -> None:
        """Wait, in no order, until a planned switchover that is under way has ended.

        Raises: Switching: too many wait, or for too long.
        """
        if not self._directory.switching_over:
            return
        with self._place():
            if not await self.over():
                raise self._refusal("the switchover takes too long")

    async def over(self) -> bool:
        """Wait until a planned switchover that is under way has ended; False when none is, or it does not end."""
        if not self._directory.switching_over:
            return False
        return await self._directory.serving(within_s=HELD_WITHIN_S)

    @contextmanager
    def _place(self) -> Iterator[None]:
        if self._held >= self._held_max:
            raise self._refusal("too many writes wait")
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1

    async def _wait(self, turns: _Turns) -> None:
        """Hold the lock once writes go on and those that went ahead have ended."""
        try:
            async with asyncio.timeout(HELD_WITHIN_S):
                await turns.lock.acquire()
                try:
                    while self._directory.switching_over:
                        await self.over()
                    while turns.ahead:
                        turns.ahead_gone.clear()
                        await turns.ahead_gone.wait()
                except BaseException:
                    turns.lock.release()
                    raise
        except TimeoutError as error:
            raise self._refusal("the switchover takes too long") from error

    def _refusal(self, reason: str) -> Switching:
        return Switching(reason, retry_after_s=come_back_in_s())


def come_back_in_s() -> float:
    """When to come back, in whole seconds: spread, so that phones do not come back as one."""
    return float(random.randint(RETRY_AFTER_MIN_S, RETRY_AFTER_MAX_S))  # noqa: S311 - no secret depends on it


@contextmanager
def _ahead(turns: _Turns) -> Iterator[None]:
    turns.ahead += 1
    try:
        yield
    finally:
        turns.ahead -= 1
        if not turns.ahead:
            turns.ahead_gone.set()
