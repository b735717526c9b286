"""Two reads, one answer: the second is asked for when the first is slow, and whoever loses is cancelled.

Invariant: when this returns or raises, nothing that it started is still under way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

Answered = TypeVar("Answered")


async def first_answer(
    begin_first: Callable[[], Coroutine[Any, Any, Answered]],
    begin_second: Callable[[], Coroutine[Any, Any, Answered]],
    *,
    after_s: float,
    may_hedge: Callable[[], bool],
    on_won: Callable[[], None],
    final: type[BaseException],
) -> Answered:
    """What the first one answers, or the second, which is begun after `after_s` if `may_hedge` then says so.

    A failure waits for the other one, but for one of the kind `final`; when both fail, the first one's is raised.
    """
    first = asyncio.create_task(begin_first())
    tasks = [first]
    try:
        await asyncio.wait(tasks, timeout=after_s)
        if first.done() or not may_hedge():
            return await first
        tasks.append(asyncio.create_task(begin_second()))
        pending = set(tasks)
        while pending:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for task in (one for one in tasks if one in done):
                failure = task.exception()
                if failure is None:
                    if task is not first:
                        on_won()
                    return task.result()
                if isinstance(failure, final):
                    raise failure
        return await first
    finally:
        await _ended(tasks)


async def _ended(tasks: list[asyncio.Task[Answered]]) -> None:
    for task in tasks:
        task.cancel()
    waiting: Awaitable[Any] = asyncio.gather(*tasks, return_exceptions=True)
    await waiting
