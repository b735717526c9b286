"""A response on its way from the origin: its head when it is known, its body as it comes.

Invariant: what waits here between an origin that sends and a client that reads is bounded in bytes; a body that is
being kept waits for no client; one that ends too soon, for whatever reason, never looks whole.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from enum import Enum, auto
from typing import Generic, TypeVar

# How far an origin may be ahead of a client whose answer is not kept.
AHEAD_BYTES_MAX = 256 * 1024
# How long a client may take nothing of what waits for it.
READ_WITHIN_S = 60.0
# All that waits in one process. Beyond it no reader is waited for who is far behind what is being kept, nothing more is
# gathered to be kept, and no copy of what is kept is lent.
WAITING_BYTES_MAX = 256 * 1024 * 1024
Head = TypeVar("Head")


class Broken(Exception):
    """The body ended too soon: the client's connection is to be broken off as well."""


class Failed(Enum):
    """Whom an error concerns beside the one who asked: who sent another request might have had another answer."""

    NOBODY = auto()
    ALIKE = auto()
    EVERYBODY = auto()


class Budget:
    """Counts the bytes that wait in a process."""

    def __init__(self, bytes_max: int = WAITING_BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self.used = 0

    @property
    def spent(self) -> bool:
        """Whether no more may wait than must."""
        return self.used > self._bytes_max


class Body:
    """Chunks between the one that brings them and the one that reads them."""

    def __init__(self, budget: Budget, *, on_left: Callable[[], None] = lambda: None) -> None:
        self._budget = budget
        self._on_left = on_left
        self._chunks: deque[bytes] = deque()
        self._waiting = 0
        self._moved = asyncio.Event()
        self._ended = False
        self._error: Exception | None = None
        self.left = False

    async def bring(self, chunk: bytes, *, ahead_max: int = AHEAD_BYTES_MAX) -> None:
        """Add a chunk; wait while more than `ahead_max` bytes are unread.

        Who takes none of them for `READ_WITHIN_S` is broken off.
        """
        if self.left:
            return
        self._chunks.append(chunk)
        self._count(len(chunk))
        self._move()
        if self._budget.spent and ahead_max > AHEAD_BYTES_MAX and self._waiting > AHEAD_BYTES_MAX:
            self.end(TimeoutError("the client reads too slowly, and others do"))
            self.leave()
        while self._waiting > ahead_max and not self.left:
            try:
                async with asyncio.timeout(READ_WITHIN_S):
                    await self._moved.wait()
            except TimeoutError:
                self.end(TimeoutError("the client reads too slowly"))
                self.leave()

    def end(self, error: BaseException | None = None) -> None:
        """No more comes; `error` where not all of it came."""
        if not self._ended:
            self._ended = True
            self._error = None if error is None else Broken(str(error) or type(error).__name__)
            self._move()

    def leave(self) -> None:
        """The reader is gone, or given up: what was not read is not read any more."""
        if self.left:
            return
        if not self._ended or self._chunks:
            self._ended, self._error = True, self._error or Broken("the rest was given up")
        self.left = True
        self._chunks.clear()
        self._count(-self._waiting)
        self._move()
        self._on_left()

    async def chunks(self) -> AsyncIterator[bytes]:
        """What comes, in order. Raises `Broken` when it ends too soon."""
        while True:
            while self._chunks:
                chunk = self._chunks.popleft()
                self._count(-len(chunk))
                self._move()
                yield chunk
            if self._ended:
                if self._error is not None:
                    raise self._error
                return
            await self._moved.wait()

    def _count(self, size: int) -> None:
        self._waiting += size
        self._budget.used += size

    def _move(self) -> None:
        self._moved.set()
        self._moved = asyncio.Event()


class Fill(Generic[Head]):
    """One request to the origin. While it is `kept`, its body is being stored, so that others may wait for it.

    `on_failure` hears that it came to an error, `on_left` that its reader is gone.
    """

    def __init__(
        self,
        budget: Budget,
        *,
        on_failure: Callable[[], None] = lambda: None,
        on_left: Callable[[], None] = lambda: None,
    ) -> None:
        self.head: asyncio.Future[Head] = asyncio.get_running_loop().create_future()
        self.body = Body(budget, on_left=on_left)
        self._on_failure = on_failure
        self.kept = False
        self.failed = Failed.NOBODY
        self._useless = asyncio.Event()
        self._finished = asyncio.Event()

    def decide(self, head: Head, *, kept: bool = False, failed: Failed = Failed.NOBODY) -> None:
        """The head is known; `failed`: who need not hear from the origin once more that it is an error."""
        self.kept, self.failed = kept, failed
        if not self.head.done():
            self.head.set_result(head)
        if failed is not Failed.NOBODY:
            self._finished.set()
            self._on_failure()

    def give_up_keeping(self) -> None:
        """It has become too large, or is cut short: others ask for themselves."""
        self.kept = False
        self._useless.set()

    def finish(self, error: BaseException | None = None) -> None:
        """Nothing more comes of it."""
        self.body.end(error)
        self._finished.set()

    async def useful_within(self, seconds: float) -> bool:
        """Wait until it is known whether this fill is of any use to others, and for its end if it is."""
        try:
            async with asyncio.timeout(seconds):
                await asyncio.shield(self.head)
                if not self.kept and self.failed is Failed.NOBODY:
                    return False
                await _either(self._finished, self._useless)
        except TimeoutError:
            return False
        return self.kept or self.failed is not Failed.NOBODY


async def _either(*events: asyncio.Event) -> None:
    waiting = [asyncio.create_task(event.wait()) for event in events]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()
