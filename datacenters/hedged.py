"""Two reads, one answer: the second is asked for when the first is slow, and whoever loses is cancelled.

The first one runs in the caller's own task, so that a read that is answered in time costs a timer and no task.
Invariant: when this returns or raises, nothing that it started is still under way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

Answered = TypeVar("Answered")
Begin = Callable[[], Coroutine[Any, Any, Answered]]


async def first_answer(
    begin_first: Begin[Answered],
    begin_second: Begin[Answered],
    *,
    after_s: float,
    may_hedge: Callable[[], bool],
    on_won: Callable[[], None],
    final: type[Exception],
) -> Answered:
    """What the first one answers, or the second, which is begun after `after_s` if `may_hedge` then says so.

    A failure waits for the other one, but for one of the kind `final`; when both fail, the first one's is raised.
    """
    second = _Second(begin_second, may_hedge=may_hedge, final=final)
    timer = asyncio.get_running_loop().call_later(after_s, second.begin)
    try:
        try:
            async with second.race:
                return await begin_first()
        except final:
            raise
        except Exception as failure:
            decided = isinstance(failure, TimeoutError) and second.race.expired()
            if not decided and not await second.answers():
                raise
        on_won()
        return second.result()
    finally:
        timer.cancel()
        await second.end()


class _Second(Generic[Answered]):
    """The second read: not begun, under way, or done; `race` ends when it decides before the first one does."""

    def __init__(
        self, begin: Begin[Answered], *, may_hedge: Callable[[], bool], final: type[Exception]
    ) -> None:
        self.race = asyncio.timeout(None)
        self._begin = begin
        self._may_hedge = may_hedge
        self._final = final
        self._racing = True
        self._task: asyncio.Task[Answered] | None = None

    def begin(self) -> None:
        """Begin, if it may."""
        if self._may_hedge():
            self._task = asyncio.create_task(self._begin())
            self._task.add_done_callback(self._ended)

    async def answers(self) -> bool:
        """Wait for it; whether it was begun and answers. Raises: what is final."""
        self._racing = False
        if self._task is None:
            return False
        await asyncio.wait([self._task])
        failure = self._task.exception()
        if isinstance(failure, self._final):
            raise failure
        return failure is None

    def result(self) -> Answered:
        """Its answer. Raises: what is final."""
        assert self._task is not None  # noqa: S101 - for the type checker: it decided the race
        return self._task.result()

    async def end(self) -> None:
        """Have it no longer under way."""
        self._racing = False
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task])

    def _ended(self, task: asyncio.Task[Answered]) -> None:
        failure = None if task.cancelled() else task.exception()
        decided = not task.cancelled() and (failure is None or isinstance(failure, self._final))
        if decided and self._racing:
            self.race.reschedule(asyncio.get_running_loop().time())
