"""One fill per key: readers who want what is already being fetched wait for that fetch.

Invariant: a fill belongs to no reader. Whoever leaves, the fill ends and fills; whatever it raises, everybody who
waited gets the same exception once; nobody waits longer than `wait_max_s` or behind more than `waiters_max`.
"""

from __future__ import annotations

import asyncio
import contextvars
import math
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, ClassVar, Generic, TypeVar

from cache.request import awaiting

Filled = TypeVar("Filled")


class Overloaded(Exception):
    """Too many fills, too many waiters behind one, or too long a wait."""

    slug: ClassVar[str] = "overloaded"
    retry_after_s: float | None = 1.0


class SingleFlight(Generic[Filled]):
    """Runs one coroutine per key at a time and shares its outcome."""

    def __init__(self, *, flights_max: int, waiters_max: int, wait_max_s: float) -> None:
        self._flights_max = flights_max
        self._waiters_max = waiters_max
        self._wait_max_s = wait_max_s
        self._flights: dict[Hashable, _Flight[Filled]] = {}

    def __len__(self) -> int:
        return len(self._flights)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._flights

    async def run(
        self, key: Hashable, fill: Callable[[], Coroutine[Any, Any, Filled]], *, within_s: float = math.inf
    ) -> tuple[Filled, bool]:
        """The outcome of the fill of `key`, and whether somebody else had begun it; waits `within_s` at most as well.

        Raises `Overloaded`, or what the fill raised.
        """
        flight = self._flights.get(key)
        joined = flight is not None
        if flight is None:
            flight = self._take_off(key, fill)
        elif flight.waiters >= self._waiters_max:
            raise Overloaded("too many readers wait for one fill")
        flight.waiters += 1
        deadline = asyncio.timeout(min(self._wait_max_s, within_s))
        try:
            async with deadline:
                with awaiting(joined=joined):
                    return await asyncio.shield(flight.task), joined
        except TimeoutError:
            if deadline.expired():
                raise Overloaded("the fill took too long") from None
            raise
        except asyncio.CancelledError:
            if flight.task.cancelled() and not _being_cancelled():
                raise Overloaded("the fill was given up") from None
            raise
        finally:
            flight.waiters -= 1

    def begin(self, key: Hashable, fill: Callable[[], Coroutine[Any, Any, Filled]]) -> bool:
        """Have the fill of `key` run for nobody; whether it does now.

        Those somebody waits for have half of the room. It runs in a context of its own: nothing it notes is the reader's.
        """
        if key not in self._flights:
            if len(self._flights) >= self._flights_max // 2:
                return False
            self._take_off(key, fill, contextvars.Context())
        return True

    async def aclose(self) -> None:
        """Give up every fill that still runs; who waits gets `Overloaded`."""
        tasks = [flight.task for flight in self._flights.values()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _take_off(
        self,
        key: Hashable,
        fill: Callable[[], Coroutine[Any, Any, Filled]],
        context: contextvars.Context | None = None,
    ) -> _Flight[Filled]:
        if len(self._flights) >= self._flights_max:
            raise Overloaded("too many fills at once")
        flight = _Flight(asyncio.create_task(fill(), context=context))
        self._flights[key] = flight

        def landed(task: asyncio.Task[Filled]) -> None:
            del self._flights[key]
            if not task.cancelled():
                task.exception()  # marks it as seen when every reader has left

        flight.task.add_done_callback(landed)
        return flight


class _Flight(Generic[Filled]):
    """A running fill and how many readers wait for it."""

    __slots__ = ("task", "waiters")

    def __init__(self, task: asyncio.Task[Filled]) -> None:
        self.task = task
        self.waiters = 0


def _being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
